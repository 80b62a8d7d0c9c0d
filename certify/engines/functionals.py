"""One case as a linear system of deviations, and functionals of it walked back to where the errors are born (engines/sweep has the proof).

Beside the worst case, a walk adds up what is needed of the roundings of mean zero (engines/fluctuation): with sigma_k^2 the variance
proxies of those born at step k and bias_k what else is born there,

    |c.e_t| <= |c.d_t| + sum_k |a_k| (quiet_k + bias_k) + |sum_k a_k.eps_k|,

where the last sum is a martingale with increments of at most |a_ki| c_kij, whose squares add up to sum_k (a_k sigma_k)^2 at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem
from certify.engines.contract import Functional
from certify.engines.fluctuation import Fluctuating
from certify.engines.multipliers import dot_rows, gamma_bound, squares, times, unit_rows, weigh
from certify.engines.parallel import in_order
from certify.engines.running import State
from certify.number.enclosure import Enclosure
from certify.number.streamed import Streamed
from certify.number.upward import Array, add_up, inflate, lift
from certify.semantics.contract import Cases, Linearization, of_cases

NOMINAL_QUANTILE = 8.0  # what deviations are multiplied by, about, for the probabilities that users ask for
ROW_ELEMENTS = 1_000_000  # float64 entries of one block of rows: 8 MB, near what caches hold


@dataclass
class System:
    """The linear maps, centres and noise of one case over the tubes of `state`.

    quiet: the noise without the steps' own rounding.
    work:  nominal nanoseconds of a row at each step; spent: of all rows so far.
    """

    problem: Problem
    state: State
    maps: dict[str, Linearization] = field(default_factory=dict)
    centres: dict[str, Array] = field(default_factory=dict)
    noise: dict[str, Array] = field(default_factory=dict)
    quiet: dict[str, Array] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    spent: float = 0.0
    lost: float = 2.0**-1020

    def __post_init__(self) -> None:
        self.lost *= max(map(_largest, self.problem.values.values()), default=1.0)
        self.steps = {step.output: step for step in self.problem.steps}

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

        With `quiet`, upper bounds of |<row, exact - z>| and |<row, computed - exact>| go to quiet["exact"] and quiet["apart"]. Where the
        state tells roundings apart, |<row, e>| is at most quiet["steady"] plus the absolute value of a martingale, whose increments are
        bounded by numbers the squares of which add up to at most quiet["deviation"]^2; likewise "steady apart" for computed - exact.
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
                for kind in {"exact", "steady"} & silent.keys():
                    silent[kind] = add_up(silent[kind], np.abs(middle), doubt)
            return add_up(spread, np.abs(middle), doubt), shares, silent

        total = np.zeros(count)
        starts = range(0, count, block)
        for start, (found, shares, silent) in zip(starts, in_order(walk, starts), strict=True):
            total[start : start + found.size] = found
            _place(parts, shares, start, count)
            _place(quiet, silent, start, count)
        self.spent += count * self.row_work(order)
        return total

    def dear(self, name: str, limit: float) -> bool:
        """A functional of each element of the value is more work than that."""
        return int(self.problem.values[name].lo[0].size) * self.row_work(self.ancestors(name)) > limit

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
        tally = Tally(np.full(rows.shape[0], lost))

        def chosen(x: Array) -> Array:
            return x if cases is None else of_cases(x, cases)

        for name, a in self.multipliers(order, target, rows, cases):
            if name not in self.steps:  # an input or a constant that deviates before any operation
                (share,) = weigh(a, lift(chosen(self.given_noise(name))))
                tally.given(share)
            elif quiet is None:
                (share,) = weigh(a, chosen(self.noise[name]))
                tally.total = add_up(tally.total, share)
            else:
                share = self._tallied(tally, name, a, chosen)
            shares[name] = share
        if quiet is not None:
            quiet |= tally.kinds(isinstance(self.state, Fluctuating))
        return tally.total

    def _tallied(self, tally: Tally, name: str, a: Array, chosen: Callable[[Array], Array]) -> Array:
        """Add a step's noise of every kind, and return its share of the worst case."""
        share, silent = weigh(a, chosen(self.noise[name]), chosen(self.quiet[name]))
        tally.total, tally.silent = add_up(tally.total, share), add_up(tally.silent, silent)
        if isinstance(self.state, Fluctuating):
            sigma = self.state.sigma.get(name)
            if sigma is None:
                tally.steady = add_up(tally.steady, share)
            else:
                (biased,) = weigh(a, chosen(self.state.bias[name]))
                tally.sources.append((share, add_up(silent, biased), squares(a, chosen(sigma))))
        return share

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


@dataclass
class Tally:
    """Sums over the steps of a walk, one a row, from what underflow may lack on: total with all noise, silent without the steps' own
    rounding, steady of steps that have no roundings of mean zero. sources: of the others (all noise, noise without those roundings, their
    squares)."""

    total: Array
    sources: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.silent = self.steady = self.total

    def given(self, share: Array) -> None:
        """Noise that is there before any operation."""
        self.total, self.silent, self.steady = (add_up(x, share) for x in (self.total, self.silent, self.steady))

    def kinds(self, fluctuating: bool) -> dict[str, Array]:
        """What `System.bound` says of `quiet`."""
        found = {"exact": self.silent, "apart": add_up(self.total, self.silent)}
        if fluctuating:
            steady, deviation = self.fluctuating()
            found |= {"steady": steady, "steady apart": add_up(steady, self.silent), "deviation": deviation}
        return found

    def fluctuating(self) -> tuple[Array, Array]:
        """(steady, deviation) with the sources counted in whole whose few roundings are better bounded one by one.

        Any set of sources may be. With all in order of what they have of the squares for what it costs to count them in whole, the best
        first ones are, by steady + NOMINAL_QUANTILE deviation.
        """
        if not self.sources:
            return self.steady, np.zeros(self.total.shape)
        whole, rest, square = (np.stack(kind) for kind in zip(*self.sources, strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            order = np.argsort(-(square / np.maximum(whole - rest, 0.0)), axis=0, kind="stable")
        whole, rest, square = (np.take_along_axis(kind, order, 0) for kind in (whole, rest, square))
        none = np.zeros((1, *self.total.shape))
        counted = np.concatenate([none, np.cumsum(whole, axis=0)])
        left = np.concatenate([np.cumsum(rest[::-1], axis=0)[::-1], none])
        squared = np.concatenate([np.cumsum(square[::-1], axis=0)[::-1], none])
        with np.errstate(invalid="ignore"):
            steady = inflate(self.steady + counted + left, len(self.sources) + 3)
            deviation = inflate(np.sqrt(inflate(squared, len(self.sources) + 3)), 4)
            best = np.argmin(np.nan_to_num(steady + NOMINAL_QUANTILE * deviation, nan=np.inf), axis=0)[None]
        return np.take_along_axis(steady, best, 0)[0], np.take_along_axis(deviation, best, 0)[0]


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
