"""Adjoint error analysis: linear functionals of the deviation, walked back to where the errors are born.

With e_k = computed - z at step k (section 5 of the mathematics),

    e_k = L_k e_parents + shift_k + (within rho_k) + (within beta_k) + (within defect_k).

Deterministic centre: d_k = fl(L_k d_parents + shift_k) is carried forward; w_k = e_k - d_k is what is left, |w_k| <= spread_k.
For a functional c of value t and **any** multipliers a_k (weak duality; sum both sides of the equations against a_k),

    c.e_t = c.d_t + sum_k a_k.(w_k - L_k w_parents) + sum_k (c [k = t] + sum_children pull(a_child) - a_k).w_k,

so  |c.e_t| <= |c.d_t| + sum_k |a_k|.(rho_k + beta_k + defect_k + drift_k) + sum_k |residual_k|.spread_k, where drift_k bounds the
float64 rounding of d_k. The engine takes a_k = fl(sum of pulls): the residual is then at most gamma_m times the same sum
in absolute values (m: longest inner product plus the number of summed pulls), and since
sum_k (|L_k|^T |a_k|).spread_parents = sum_k |a_k|.(|L_k| spread_parents), it is paid by gamma_m s_k, s_k = |L_k| spread_parents.

Multipliers may underflow: an element of a pull then lacks at most 2^-1074 for every product that enters it, times the largest
coefficient that still multiplies it (a value of the problem, or at most 1), and an element of |a|.noise another 2^-1074. With
fewer than 2^50 products, `lost` = 2^-1020 max(1, largest value) pays for both, times spread and once a step.

Tubes are refined the same way, in topological order, for every value that a nonlinear step is about to use.

**Exact values** satisfy the same equations without beta, within the same tubes: with `quiet` = noise - beta the same multipliers
bound |c.(exact - z)| by |c.d_t| + sum_k |a_k| quiet_k. And w = computed - exact, |w| <= 2 spread, satisfies
w_k = L_k w_parents + (within 2 rho_k) + (within beta_k), shifts and defects cancelling, so that
|c.(computed - exact)| <= sum_k |a_k| (beta_k + 2 rho_k + 2 gamma_m s_k) <= sum_k |a_k| (noise_k + quiet_k).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem, Step
from certify.engines.contract import Functional, Progress
from certify.engines.multipliers import cut, dot_rows, gamma_bound, times, unit_rows, weigh
from certify.engines.parallel import in_order
from certify.engines.running import State
from certify.number.enclosure import Enclosure
from certify.number.streamed import Streamed
from certify.number.upward import Array, add_up, inflate, lift
from certify.semantics.contract import Cases, Linearization, Operands, Radii, of_cases

ROW_ELEMENTS = 1_000_000  # float64 entries of one block of rows: 8 MB, near what caches hold
ELEMENT, TERM = 6.0, 0.04  # nanoseconds of an element of a pulled row, and of each product in it, on one processor of 2020
WORK_LIMIT = 4e10  # nominal nanoseconds spent on refining tubes, a case
WORTH = 0.125  # a smaller share of a value's tubes is not worth refining: the others stay wide
NEGLIGIBLE = 0.02  # a remainder below this share of the rounding beside it is not worth rows
LOOSE, SWELL = 0.02, 0.05  # a tube above this share of the values, if it swells the rounding by that share, is refined first


@dataclass
class Sweep:
    """The state of one case: what running error analysis knows, plus linear maps, centres, spreads and noise.

    curtailed: some tubes that were worth refining were not, for that was too much work.
    """

    problem: Problem
    state: State
    maps: dict[str, Linearization] = field(default_factory=dict)
    centres: dict[str, Array] = field(default_factory=dict)
    noise: dict[str, Array] = field(default_factory=dict)
    quiet: dict[str, Array] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    refined: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    spent: float = 0.0
    curtailed: bool = False
    lost: float = 2.0**-1020

    def __post_init__(self) -> None:
        self.lost *= max(map(_largest, self.problem.values.values()), default=1.0)
        self._ahead: dict[str, tuple[Linearization, Radii]] = {}
        self.steps = {step.output: step for step in self.problem.steps}
        self.fan_out: dict[str, int] = {}
        for step in self.problem.steps:
            for name in step.operands:
                if name is not None:
                    self.fan_out[name] = self.fan_out.get(name, 0) + 1

    def spread(self, name: str | None) -> Array | None:
        """|w| = |e - d| <= tube + |d|; None where exactly zero."""
        if name is None:
            return None
        tube, centre = self.state.tubes.get(name), self.centres.get(name)
        if tube is None or centre is None:
            return tube
        return add_up(tube, np.abs(centre))

    def given_noise(self, name: str) -> Array:
        """|w| of an input or a constant that deviates before any operation."""
        return self.problem.radii[name]

    def enter(self, step: Step, limit: float) -> None:
        """Linear map, rounding, noise and tube of one more step.

        Rounding grows with the computed magnitude, |z| plus the deviation that arrives. Where a loose tube would swell
        it, what arrives is bounded by rows of its own first, before the rounding is added.
        """
        contaminated = self.state.contaminated(step)
        if contaminated is not None and contaminated.all():
            self.noise[step.output] = np.full(self.problem.values[step.output].shape, np.inf)
            self.quiet[step.output] = self.noise[step.output]
            self.state.record(step, self.noise[step.output], np.zeros(self.problem.values[step.output].shape))
            return
        arriving = self._linearize(step)
        if contaminated is not None:
            arriving = np.where(contaminated, np.inf, arriving)
            self.noise[step.output] = np.where(contaminated, np.inf, self.noise[step.output])
        mag = self.problem.values[step.output].mag
        loose = self.state.rounding and mag.size > 0 and bool(np.any(arriving > LOOSE * np.mean(mag)))
        least = self.state.local_rounding(step, np.zeros_like(arriving)) if loose else None
        beta = self.state.local_rounding(step, arriving)  # last: the quantum that it notes must be that of what really arrives
        if least is not None:
            swollen = beta > (1.0 + SWELL) * least
            if swollen.any():
                self.state.record(step, arriving, np.zeros_like(arriving))
                self.refine(step.output, np.broadcast_to(swollen, arriving.shape), limit)
                arriving = np.array(np.broadcast_to(self.state.tubes.get(step.output, arriving), arriving.shape))
                beta = self.state.local_rounding(step, arriving)
        self.quiet[step.output] = self.noise[step.output]
        self.noise[step.output] = lift(add_up(self.noise[step.output], beta))
        self.state.record(step, arriving, beta)

    def _linearize(self, step: Step) -> Array:
        """Enter the step's linear map, centre and noise (its rounding apart); returns a bound of |f(x^) - z|.

        Where the whole variation is smaller than the remainder alone (a singularity, a saturated function), the step is
        cut: L = 0, and the variation is its noise.
        """
        X, r = self.state.operands(step)
        Y = self.problem.values[step.output]
        defect = np.broadcast_to(self.problem.defects.get(step.output, 0.0), Y.shape)
        if all(radius is None for radius in r):
            self.noise[step.output] = lift(defect)
            return np.array(defect)
        linear = self._linear(step, X, r)
        spreads = [self.spread(name) for name in step.operands]
        if step.rule.is_linear(X, r):
            gain = linear.magnitude(spreads)
            still = all(spread is radius for spread, radius in zip(spreads, r, strict=True))  # no centre: spread and tube are one
            modulus = np.broadcast_to(gain if still else linear.magnitude(r), Y.shape)
        else:
            least = linear.variation if linear.variation is not None else step.rule.modulus(X, r, **self.problem.told(step))
            modulus = np.broadcast_to(least, Y.shape)
            linear = cut(linear, modulus)
            gain = linear.magnitude(spreads)
        gamma = gamma_bound(self._summands(step, linear))
        noise = add_up(linear.radius, defect, times(gamma, gain), self._drift(step, linear, gamma))
        self.maps[step.output] = linear
        self.noise[step.output] = lift(np.array(np.broadcast_to(noise, Y.shape)))
        self.work[step.output] = (ELEMENT + TERM * (linear.products or linear.terms)) * Y.lo.size
        return add_up(modulus, defect)

    def _linear(self, step: Step, X: Operands, r: Radii) -> Linearization:
        """The rule's linear map, which `prepare` asked for already if no tube has changed since."""
        known = self._ahead.pop(step.output, None)
        if known is not None and all(a is b for a, b in zip(known[1], r, strict=True)):
            return known[0]
        return step.rule.linearize(X, r, **self.problem.told(step))

    def _summands(self, step: Step, linear: Linearization) -> int:
        """Roundings on any path of the step's pull and of the sums that its operands' multipliers are; copies round nothing."""
        shared = max(self.fan_out.get(name, 1) for name in step.operands if name is not None)
        return (linear.terms + 2 if linear.terms else 0) + (shared if shared > 1 else 0)

    def _drift(self, step: Step, linear: Linearization, gamma: Array) -> Array:
        """Carry the centre d forward; returns a bound of its float64 rounding."""
        centres = [None if name is None else self.centres.get(name) for name in step.operands]
        moved = any(centre is not None for centre in centres)
        if not moved and not np.any(linear.shift):
            return np.zeros_like(linear.shift)
        pushed = linear.push(centres) if moved else np.zeros_like(linear.shift)
        size = linear.magnitude([None if centre is None else np.abs(centre) for centre in centres]) if moved else np.zeros_like(pushed)
        self.centres[step.output] = np.array(np.broadcast_to(pushed + linear.shift, self.problem.values[step.output].shape))
        return times(gamma, add_up(size, np.abs(linear.shift)))

    def ancestors(self, target: str) -> list[str]:
        """Step outputs that `target` depends on through deviations, in reverse topological order, itself first."""
        needed = {target}
        order = []
        for step in reversed(self.problem.steps):
            if step.output in needed:
                order.append(step.output)
                if step.output in self.maps:
                    needed.update(name for name in step.operands if name is not None and name in self.state.tubes)
        return order

    def bound(self, functional: Functional, parts: dict[str, Array] | None = None, quiet: dict[str, Array] | None = None) -> Array:
        """Upper bound of |<row, e>| per row; with `parts`, each step's share is added to parts[step output] (rows,).

        With `quiet`, upper bounds of |<row, exact - z>| and |<row, computed - exact>| go to quiet["exact"] and quiet["apart"].
        """
        rows = functional.rows
        return self._blocks(functional.value, rows.shape[0], lambda start, stop: rows[start:stop], parts, quiet)

    def units(
        self, name: str, index: npt.NDArray[np.intp], parts: dict[str, Array] | None = None, quiet: dict[str, Array] | None = None
    ) -> Array:
        """Upper bound of |e_i| for each flat element i of `index` of the value; `parts`, `quiet` as in `bound`."""
        return self._blocks(name, index.size, unit_rows(self.problem.values[name].shape[1:], [(index, 1.0)]), parts, quiet)

    def differences(self, name: str, index: npt.NDArray[np.intp], other: npt.NDArray[np.intp]) -> Array:
        """Upper bound of |e_i - e_j| for each pair of flat elements i of `index`, j of `other`, i != j."""
        return self._blocks(name, index.size, unit_rows(self.problem.values[name].shape[1:], [(index, 1.0), (other, -1.0)]), None, None)

    def _blocks(
        self,
        target: str,
        count: int,
        rows: Callable[[int, int], Array],
        parts: dict[str, Array] | None,
        quiet: dict[str, Array] | None,
    ) -> Array:
        """`count` functionals of one value, a block of them at a time; rows(start, stop) makes a block."""
        order = self.ancestors(target)
        lost = self.underflow(order)
        widest = max((self.problem.values[name].lo[0].size for name in order), default=1)
        block = max(1, ROW_ELEMENTS // max(1, widest))

        def walk(start: int) -> tuple[Array, dict[str, Array], dict[str, Array]]:
            shares, silent = dict[str, Array](), dict[str, Array]()
            asked = rows(start, min(start + block, count))
            middle, doubt = self.centre_of(target, asked)
            spread = self.walk(order, lost, target, asked, shares, None if quiet is None else silent)
            if quiet is not None:
                silent["exact"] = add_up(silent["exact"], np.abs(middle), doubt)
            return add_up(spread, np.abs(middle), doubt), shares, silent

        total = np.zeros(count)
        starts = range(0, count, block)
        for start, (found, shares, silent) in zip(starts, in_order(walk, starts), strict=True):
            total[start : start + found.size] = found
            _place(parts, shares, start, count)
            _place(quiet, silent, start, count)
        self.spent += count * self.row_work(order)
        return total

    def row_work(self, order: list[str]) -> float:
        """Nominal nanoseconds of one functional's walk through the steps in `order`."""
        return sum(self.work.get(name, 0.0) for name in order)

    def centre_of(self, target: str, rows: Array, cases: Cases | None = None) -> tuple[Array, Array]:
        """<row, d> for each row as float64 computes it, and how far that may be off; cases as in `walk`."""
        centre = self.centres.get(target)
        if centre is None:
            return np.zeros(rows.shape[0]), np.zeros(rows.shape[0])
        centre = centre if cases is None else of_cases(centre, cases)
        flat = rows.reshape(rows.shape[0], -1)
        middle, size = dot_rows(flat, centre), dot_rows(np.abs(flat), np.abs(centre))
        return middle, times(gamma_bound(flat.shape[1]), inflate(size, flat.shape[1]))

    def walk(
        self,
        order: list[str],
        lost: float,
        target: str,
        rows: Array,
        shares: dict[str, Array],
        quiet: dict[str, Array] | None,
        cases: Cases | None = None,
    ) -> Array:
        """Upper bound of |<row, e - d>| per row; shares and quiet as in `bound`.

        Of many cases, row i speaks of case i, or of cases[i]; the latter where every map in `order` has a `pull_of`.
        """
        silent = total = np.full(rows.shape[0], lost)
        between = 2.0 * total

        def chosen(x: Array) -> Array:
            return x if cases is None else of_cases(x, cases)

        for name, a in self.multipliers(order, target, rows, cases):
            if name not in self.steps:  # an input or a constant that deviates before any operation
                (share,) = weigh(a, lift(chosen(self.given_noise(name))))
                total, silent, between = add_up(total, share), add_up(silent, share), add_up(between, share, share)
            else:
                share, *rest = weigh(a, chosen(self.noise[name]), *(() if quiet is None else (chosen(self.quiet[name]),)))
                total = add_up(total, share)
                if quiet is not None:
                    silent, between = add_up(silent, rest[0]), add_up(between, share, rest[0])
            shares[name] = share
        if quiet is not None:
            quiet |= {"exact": silent, "apart": between}
        return total

    def multipliers(self, order: list[str], target: str, rows: Array, cases: Cases | None = None) -> Iterator[tuple[str, Array]]:
        """a_k of each value that functionals of `target` reach: steps in `order` (as `ancestors`), then what no step computes."""
        reached = {target: rows}
        for name in order:
            a = reached.pop(name, None)
            if a is None:
                continue
            yield name, a
            linear = self.maps.get(name)
            if linear is None:
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                parts = linear.pull(a) if cases is None or linear.pull_of is None else linear.pull_of(a, cases)
                for operand, part in zip(self.steps[name].operands, parts, strict=False):
                    if operand is not None and part is not None and operand in self.state.tubes:
                        reached[operand] = reached[operand] + part if operand in reached else part
        yield from reached.items()

    def underflow(self, order: list[str]) -> float:
        """What multipliers of the steps in `order` may lack by underflow, against finite spreads (see above)."""
        names = dict.fromkeys(name for output in order if output in self.maps for name in self.steps[output].operands)
        spreads = (spread for name in names if (spread := self.spread(name)) is not None)
        reached = sum((float(np.sum(spread, where=np.isfinite(spread))) for spread in spreads), 0.0)
        return float(inflate(np.asarray(self.lost * (len(order) + reached)), 64)) * 2.0

    def prepare(self, step: Step, limit: float) -> None:
        """Refine the tubes of a nonlinear step's operands before it is entered, where its remainder would matter."""
        X, r = self.state.operands(step)
        if all(radius is None for radius in r) or step.rule.is_linear(X, r) or self.state.contaminated(step) is not None:
            return
        matters = self._matters(step, X, r)
        if not matters.any():
            return
        for name in dict.fromkeys(step.operands):
            if name is not None and name in self.state.tubes:
                alike = step.rule.pointwise and matters.shape == self.problem.values[name].shape
                self.refine(name, matters if alike else np.ones(self.problem.values[name].shape, dtype=bool), limit)

    def refine(self, name: str, wanted: npt.NDArray[np.bool_], limit: float) -> None:
        """Replace the tube of `name` by adjoint bounds at the `wanted` elements, the widest first while work lasts."""
        tube = self.state.tubes[name]
        known = self.refined.setdefault(name, np.zeros(tube.shape, dtype=bool))
        index = np.flatnonzero(wanted & ~known & np.isfinite(tube) & (tube > 0.0))
        if index.size == 0 or name not in self.maps:
            return
        cost = self.row_work(self.ancestors(name))
        affordable = int(max(0.0, limit - self.spent) / max(cost, 1.0))
        self.curtailed |= affordable < index.size
        if affordable < WORTH * index.size:
            return
        if affordable < index.size:
            index = np.sort(index[np.argsort(-tube.reshape(-1)[index], kind="stable")[:affordable]])
        refined = tube.reshape(-1).copy()
        refined[index] = np.minimum(refined[index], self.units(name, index))
        known.reshape(-1)[index] = True
        self.state.tubes[name] = lift(refined.reshape(tube.shape))

    def _matters(self, step: Step, X: Operands, r: Radii) -> npt.NDArray[np.bool_]:
        """Where the step's remainder is not small beside the rounding that is born there anyway."""
        linear = step.rule.linearize(X, r, **self.problem.told(step))
        self._ahead[step.output] = (linear, r)
        born = self.problem.defects.get(step.output, np.zeros(()))
        if self.state.rounding:
            magnitude = self.problem.values[step.output].mag
            born = step.rule.rounding(X, r, step.arithmetic, magnitude, [0.0] * len(X), **self.problem.told(step))
        return np.asarray((linear.radius + np.abs(linear.shift)) > NEGLIGIBLE * np.where(np.isfinite(born), born, 0.0))


def _place(whole: dict[str, Array] | None, part: dict[str, Array], start: int, count: int) -> None:
    """Write what a block of rows found into arrays of all `count` rows."""
    if whole is not None:
        for name, share in part.items():
            whole.setdefault(name, np.zeros(count))[start : start + share.size] = share


def _largest(X: Enclosure) -> float:
    """The largest finite magnitude, at least 1."""
    if isinstance(X, Streamed):
        return max(1.0, X.largest)
    largest = 1.0
    for x in (X.lo,) if X.lo is X.hi else (X.lo, X.hi):
        ends = max(-float(x.min(initial=0.0)), float(x.max(initial=0.0)))
        largest = max(largest, ends if np.isfinite(ends) else float(np.max(np.abs(x), initial=1.0, where=np.isfinite(x))))
    return largest


def sweep(
    problem: Problem,
    rounding: bool = True,
    work_limit: float = WORK_LIMIT,
    progress: Progress | None = None,
    output_limit: float = np.inf,
) -> Sweep:
    """Tubes of one case, refined at every nonlinearity's input while work lasts, and as long as the outputs' functionals are within
    their limit: refined tubes that no functional ends in gain nothing."""
    result = Sweep(problem, State(problem, rounding))
    rows, walked = largest_output(problem), 0.0
    for i, step in enumerate(problem.steps):
        limit = work_limit if rows * walked <= output_limit else 0.0
        result.prepare(step, limit)
        result.enter(step, limit)
        walked += result.work.get(step.output, 0.0)
        if progress is not None:
            progress("refining tubes", (i + 1) / len(problem.steps))
    return result


def largest_output(problem: Problem) -> int:
    """Elements of the largest output."""
    return max(int(problem.values[name].lo[0].size) for name in problem.outputs)
