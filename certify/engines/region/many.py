"""A sweep over many sub-boxes at once, whose functionals are a flat list of (box, row)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem, Step
from certify.engines.functionals import ROW_ELEMENTS
from certify.engines.multipliers import unit_rows
from certify.engines.parallel import in_order
from certify.engines.running import State
from certify.engines.sweep import Sweep
from certify.number.enclosure import Enclosure, intersect
from certify.number.upward import Array, add_up, down, lift, up

Indices = npt.NDArray[np.intp]


class BoxSweep(Sweep):
    """`Sweep` on the case axis. `reach` encloses deviations whose functionals were asked: narrower than the tube where a centre moved."""

    def __init__(self, problem: Problem, state: State) -> None:
        super().__init__(problem, state)
        self.reach: dict[str, Enclosure] = {}

    def enter(self, step: Step, limit: float) -> None:
        """As for one case; what was asked of what arrives, before the rounding was added, says nothing of the result."""
        super().enter(step, limit)
        self.reach.pop(step.output, None)

    def ask(self, name: str, rows: Array) -> Enclosure:
        """Encloses <row, e> of the value `name` in every box, (boxes, R), for rows (R, *shape)."""
        boxes, count = self.problem.cases, rows.shape[0]
        cases, row = (x.reshape(-1) for x in np.meshgrid(np.arange(boxes), np.arange(count), indexing="ij"))
        return self._asked(name, cases, lambda part: rows[row[part]]).reshape((boxes, count))

    def elements(self, name: str, cases: Indices, index: Indices) -> Enclosure:
        """Encloses the deviation of flat element index[i] of the value in box cases[i], for each i."""
        rows = unit_rows(self.problem.values[name].shape[1:], [(index, 1.0)])
        return self._asked(name, cases, lambda part: rows(*part.indices(index.size)[:2]))

    def pairs(self, name: str, cases: Indices, index: Indices, rows: Array) -> Enclosure:
        """Encloses <rows[index[i]], e> of the value in box cases[i], for each i; rows (R, *shape)."""
        return self._asked(name, cases, lambda part: rows[index[part]])

    def _asked(self, name: str, cases: Indices, rows: Callable[[slice], Array]) -> Enclosure:
        """Encloses <row, e> for each (box, row); rows(slice) makes those of a part of them."""
        order = self.ancestors(name)
        lost = self.underflow(order)
        self.spent += cases.size * self.row_work(order)
        single = self.problem.cases == 1
        if not single and any(linear is not None and linear.pull_of is None for linear in map(self.maps.get, order)):
            return self._every_box(name, order, lost, cases, rows)
        widest = max((self.problem.values[step].lo[0].size for step in order), default=1)
        block = max(1, ROW_ELEMENTS // max(1, widest))

        def one(start: int) -> Enclosure:
            part = slice(start, min(start + block, cases.size))
            return self._enclosed(name, order, lost, rows(part), None if single else cases[part])

        return _joined(list(in_order(one, range(0, cases.size, block))))

    def _every_box(self, name: str, order: list[str], lost: float, cases: Indices, rows: Callable[[slice], Array]) -> Enclosure:
        """Where some map cannot be had for chosen boxes: each different row is asked in all of them."""
        boxes = self.problem.cases
        whole = rows(slice(0, cases.size))
        different, which = np.unique(whole.reshape(whole.shape[0], -1), axis=0, return_inverse=True)
        different = different.reshape(-1, *whole.shape[1:])

        def one(row: Array) -> Enclosure:
            return self._enclosed(name, order, lost, np.broadcast_to(row, (boxes, *row.shape)), None)

        found = list(in_order(one, list(different)))
        lo, hi = np.stack([E.lo for E in found]), np.stack([E.hi for E in found])
        return Enclosure(lo[which.reshape(-1), cases], hi[which.reshape(-1), cases])

    def _enclosed(self, name: str, order: list[str], lost: float, rows: Array, cases: Indices | None) -> Enclosure:
        middle, doubt = self.centre_of(name, rows, cases)
        spread = add_up(self.walk(order, lost, name, rows, {}, None, cases), doubt)
        everything = ~np.isfinite(spread)
        lo = np.where(everything, -np.inf, down(middle - spread))
        return Enclosure(lo, np.where(everything, np.inf, up(middle + spread)))

    def refine(self, name: str, wanted: npt.NDArray[np.bool_], limit: float) -> None:
        """As for one case, at every (box, element) that is wanted, the widest first while work lasts."""
        tube = np.array(self.state.tubes[name])
        known = self.refined.setdefault(name, np.zeros(tube.shape, dtype=bool))
        pairs = np.flatnonzero(wanted & ~known & np.isfinite(tube) & (tube > 0.0))
        if pairs.size == 0 or name not in self.maps:
            return
        affordable = int(min(max(0.0, limit - self.spent) / max(self.row_work(self.ancestors(name)), 1.0), pairs.size))
        if affordable < pairs.size:
            pairs = np.sort(pairs[np.argsort(-tube.reshape(-1)[pairs], kind="stable")[:affordable]])
        if pairs.size == 0:
            return
        known.reshape(-1)[pairs] = True
        cases, index = np.divmod(pairs, tube[0].size)
        found = self.elements(name, cases, index)
        before = self.reach.get(name, Enclosure(-tube, tube)).reshape((-1,))
        lo, hi = np.array(before.lo), np.array(before.hi)
        here = intersect(intersect(Enclosure(lo[pairs], hi[pairs]), Enclosure(-tube.reshape(-1)[pairs], tube.reshape(-1)[pairs])), found)
        lo[pairs], hi[pairs] = here.lo, here.hi
        self.reach[name] = Enclosure(lo, hi).reshape(tube.shape)
        tube.reshape(-1)[pairs] = here.mag
        self.state.tubes[name] = lift(tube)

    def deviation(self, name: str) -> Enclosure | None:
        """Encloses the deviations of the value; None where it has none."""
        tube = self.state.tubes.get(name)
        if tube is None:
            return None
        reach = self.reach.get(name)
        whole = Enclosure(-tube, tube)
        return whole if reach is None else intersect(whole, reach)


def _joined(parts: list[Enclosure]) -> Enclosure:
    if not parts:
        return Enclosure.point(np.zeros(0))
    return Enclosure(np.concatenate([part.lo for part in parts]), np.concatenate([part.hi for part in parts]))
