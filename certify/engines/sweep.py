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

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem, Step
from certify.engines.contract import Progress
from certify.engines.fluctuation import Fluctuating
from certify.engines.functionals import System
from certify.engines.multipliers import cut, gamma_bound, times
from certify.number.upward import Array, add_up, lift
from certify.semantics.contract import Linearization, Operands, Radii

ELEMENT, TERM = 6.0, 0.04  # nanoseconds of an element of a pulled row, and of each product in it, on one processor of 2020
WORK_LIMIT = 4e10  # nominal nanoseconds spent on refining tubes, a case
WORTH = 0.125  # a smaller share of a value's tubes is not worth refining: the others stay wide
NEGLIGIBLE = 0.02  # a remainder below this share of the rounding beside it is not worth rows
LOOSE, SWELL = 0.02, 0.05  # a tube above this share of the values, if it swells the rounding by that share, is refined first


@dataclass
class Sweep(System):
    """A system that is set up step by step, and tubes that are refined by its functionals on the way.

    curtailed: some tubes that were worth refining were not, for that was too much work.
    """

    refined: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    curtailed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._ahead: dict[str, tuple[Linearization, Radii]] = {}
        self.fan_out: dict[str, int] = {}
        for step in self.problem.steps:
            for name in step.operands:
                if name is not None:
                    self.fan_out[name] = self.fan_out.get(name, 0) + 1

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


def sweep(
    problem: Problem,
    rounding: bool = True,
    work_limit: float = WORK_LIMIT,
    progress: Progress | None = None,
    output_limit: float = np.inf,
) -> Sweep:
    """Tubes of one case, refined at every nonlinearity's input while work lasts, and as long as the outputs' functionals are within
    their limit: refined tubes that no functional ends in gain nothing."""
    result = Sweep(problem, Fluctuating(problem, rounding))
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
