"""Does what a VNN-LIB file says hold everywhere in the region: of the exact values, and of every conforming execution?

A file states what is unsafe: conjunctions of c.y <= b. In a box, a conjunction is impossible if one of its constraints is, and that is
if the lower end of c.y - b (functionals) is above 0; the box is safe if every conjunction is impossible. So the box's *deficit* is
    max over conjunctions of min over constraints of -(lower end of c.y - b),
and below 0 the box is proved safe. Its negative is a margin: nowhere in the box does the least of the conjunctions' largest c.y - b
fall below it. Ends are outward, b is taken at its worse end, and strict constraints count as closed: the unsafe set only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from certify.analysis.program import Program
from certify.engines.region.batch import Batch, evaluate
from certify.engines.region.boxes import Layout
from certify.engines.region.effects import slopes
from certify.engines.region.functionals import functionals
from certify.engines.region.many import Indices
from certify.engines.region.search import Asked, Known
from certify.engines.region.sizes import Sizes
from certify.graph.vnnlib.property import Case
from certify.number.enclosure import Enclosure, add
from certify.number.upward import Array

TRIED = 8  # boxes in which inputs are run, of those just asked about

Try = Callable[[Mapping[str, Array], Indices], bool]
"""Runs inputs (cases, *shape), each in the region's box of that number; True once one is seen to break the property."""

REALS, EXECUTIONS = 0, 1  # columns of the deficits


@dataclass(frozen=True, slots=True)
class Rows:
    """A case's constraints. owner: the conjunction of each. bound: of each, negative. by_output: rows, and which constraint has which."""

    owner: Indices
    conjunctions: int
    bound: Enclosure
    by_output: dict[str, tuple[Array, Indices, Indices]]

    @staticmethod
    def of(case: Case, outputs: Sequence[str], sizes: Sizes) -> Rows:
        ends = np.cumsum([0, *sizes.outputs])
        owner: list[int] = []
        bounds: list[tuple[float, float]] = []
        found: dict[str, dict[bytes, tuple[int, Array]]] = {name: {} for name in outputs}
        placed: dict[str, list[tuple[int, int]]] = {name: [] for name in outputs}
        for n, conjunction in enumerate(case.unsafe):
            for constraint in conjunction:
                whole = np.zeros(ends[-1])
                np.add.at(whole, np.array(constraint.outputs, dtype=np.intp), constraint.coefficients)
                for k, name in enumerate(outputs):
                    row = whole[ends[k] : ends[k + 1]]
                    if row.any():
                        number = found[name].setdefault(row.tobytes(), (len(found[name]), row))[0]
                        placed[name].append((len(owner), number))
                owner.append(n)
                bounds.append((-constraint.bound_hi, -constraint.bound_lo))
        by_output = {}
        for k, name in enumerate(outputs):
            if placed[name]:
                which = np.array(placed[name], dtype=np.intp)
                rows = np.stack([row for _, row in found[name].values()]).reshape(-1, *sizes.shapes[k])
                by_output[name] = (rows, which[:, 0], which[:, 1])
        ends_of = np.array(bounds).reshape(-1, 2)
        return Rows(np.array(owner, dtype=np.intp), len(case.unsafe), Enclosure(ends_of[:, 0], ends_of[:, 1]), by_output)


class Statement:
    """The deficits of boxes. values: (n, 2), of the reals and of every conforming execution.

    cases: what is unsafe in each of the region's boxes. work: as in `ErrorBounds`. violated: whether some run broke the property.
    """

    def __init__(self, program: Program, layout: Layout, cases: tuple[Case, ...], work: float = np.inf, attempt: Try | None = None) -> None:
        self.program, self.layout, self.cases, self.work = program, layout, cases, work
        self.sizes = Sizes.of(program, layout.box)
        self.chunk = self.sizes.chunk
        self.violated = False
        self._attempt = attempt
        self._rows: dict[int, Rows] = {}

    @property
    def told(self) -> Array:
        """Nothing."""
        return np.zeros(0)

    @property
    def arguments(self) -> tuple[object, ...]:
        """As `Question`."""
        return (self.layout, self.cases, self.work)

    def ask(self, boxes: Asked) -> Known:
        """Deficits, and what each column's width costs the constraint that decides."""
        count = boxes.lo.shape[0]
        batch = evaluate(self.program, self.layout.enclosures(boxes.lo, boxes.hi), self.work * count)
        values, costs = np.full((count, 2), -np.inf), np.zeros_like(boxes.lo)
        deciding: dict[str, Array] = {}
        for part in np.unique(boxes.part):
            mine = np.flatnonzero(boxes.part == part)
            rows = self._of(int(part))
            if rows.conjunctions:
                lower = self._lower(batch, rows, mine)
                values[mine] = np.stack([_deficit(rows, x)[0] for x in lower], axis=1)
                self._note(deciding, rows, mine, lower[EXECUTIONS], count)
        for name, row in deciding.items():
            if name in batch.middle.maps and name in batch.middle.state.tubes:
                costs += slopes(batch.middle, name, row, self.layout)
        return Known(boxes.lo, boxes.hi, values, costs, np.zeros((count, 0)), boxes.part)

    def _of(self, part: int) -> Rows:
        if part not in self._rows:
            self._rows[part] = Rows.of(self.cases[part], self.program.outputs, self.sizes)
        return self._rows[part]

    def _lower(self, batch: Batch, rows: Rows, mine: Indices) -> tuple[Array, Array]:
        """Lower ends of c.y - b, (boxes, constraints): of the reals and of executions."""
        count = rows.owner.size
        found = [rows.bound.map(lambda x: np.repeat(x[None], mine.size, axis=0)) for _ in range(2)]
        for name, (each, constraint, index) in rows.by_output.items():
            cases, which = np.repeat(mine, index.size), np.tile(index, mine.size)
            values = functionals(batch, name, cases, which, each)
            for k, X in enumerate((values.exact, values.computed)):
                lo, hi = np.zeros((2, mine.size, count))
                lo[:, constraint], hi[:, constraint] = X.lo.reshape(mine.size, -1), X.hi.reshape(mine.size, -1)
                found[k] = add(found[k], Enclosure(lo, hi))
        return found[REALS].lo, found[EXECUTIONS].lo

    def _note(self, deciding: dict[str, Array], rows: Rows, mine: Indices, lower: Array, count: int) -> None:
        """For each box the row of the constraint that comes closest to ruling out the likeliest conjunction."""
        chosen = _deficit(rows, lower)[1]
        for k, name in enumerate(self.program.outputs):
            each, constraint, index = rows.by_output.get(name, (None, None, None))
            if each is None or constraint is None or index is None:
                continue
            table = np.full(rows.owner.size, -1)
            table[constraint] = index
            has = (chosen >= 0) & (table[chosen] >= 0)
            whole = deciding.setdefault(name, np.zeros((count, *self.sizes.shapes[k])))
            whole[mine[has]] = each[table[chosen[has]]]

    def learn(self, fresh: Known) -> None:
        """Run the middles and two corners of the worst boxes."""
        if self._attempt is None or self.violated:
            return
        open_ = np.flatnonzero(fresh.values[:, EXECUTIONS] >= 0.0)
        worst = open_[np.argsort(-fresh.values[open_, EXECUTIONS], kind="stable")[:TRIED]]
        if worst.size:
            lo, hi = fresh.lo[worst], fresh.hi[worst]
            rows = np.concatenate([self.layout.middle(lo, hi), lo, hi])
            inputs = {name: X.lo for name, X in self.layout.enclosures(rows, rows).items()}
            self.violated = self._attempt(inputs, np.tile(fresh.part[worst], 3))

    def urgency(self, known: Known) -> Array:
        """The deficit where executions are not proved safe; 0 once a run broke the property."""
        deficit = known.values[:, EXECUTIONS]
        open_ = (deficit >= 0.0) & (not self.violated)
        return np.where(open_, np.maximum(deficit, np.finfo(np.float64).tiny), 0.0)

    def gained(self, before: Known, left: Known, right: Known) -> Array:
        """By what share the deficits of both halves are below that of the box on average."""
        x, y, z = (np.maximum(known.values[:, EXECUTIONS], 0.0) for known in (before, left, right))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1.0 - 0.5 * (y + z) / x
        return np.clip(np.nan_to_num(share, nan=0.0, posinf=0.0, neginf=0.0), 0.0, 1.0)


def _deficit(rows: Rows, lower: Array) -> tuple[Array, Indices]:
    """(boxes,): the deficit, and the constraint that decides it, -1 if none; lower (boxes, constraints)."""
    boxes = lower.shape[0]
    largest = np.full((boxes, rows.conjunctions), -np.inf)
    np.maximum.at(largest.T, rows.owner, lower.T)
    worst = largest.argmin(axis=1)
    every = np.arange(boxes)
    if not rows.owner.size:
        return -largest[every, worst], np.full(boxes, -1)
    mine = rows.owner == worst[:, None]
    nearest = np.where(mine, lower, -np.inf).argmax(axis=1)
    return -largest[every, worst], np.where(mine[every, nearest], nearest, np.where(mine.any(axis=1), mine.argmax(axis=1), -1))
