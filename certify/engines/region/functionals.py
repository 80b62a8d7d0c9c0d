"""Linear functionals row.y of one output over each box: of the exact values, and of those of every conforming execution.

**Exact values.** With z the float64 trajectory at the box's middle, row.y = row.z + <row, y - z>: the sum is enclosed outward, and the
sweep of the ranges encloses what deviates (engines/sweep.py, weak duality). Every element lies in its range as well, so that row.y lies
in the sum of coefficient times range. Both hold, so their intersection does.

**Executions.** row.y^ = row.y + <row, y^ - y>, the latter enclosed by the sweep of the errors; and every y^ lies in the enclosure of what
is computed (region/computed.py), unless nothing bounds its error: it may then be NaN, and the whole line is said of it. Again both hold.
Where a sweep has no linear map of the output, or says that nothing deviates, the ranges alone speak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from certify.engines.region.batch import Batch
from certify.engines.region.many import BoxSweep, Indices
from certify.number.enclosure import Enclosure, add, intersect, multiply
from certify.number.upward import Array


@dataclass(frozen=True, slots=True)
class Values:
    """exact: of the functionals over the reals. computed: of every conforming execution. Both (pairs,)."""

    exact: Enclosure
    computed: Enclosure


def functionals(batch: Batch, output: str, cases: Indices, index: Indices, rows: Array) -> Values:
    """Of each pair (box cases[i], row rows[index[i]]); rows (R, *shape of the output)."""
    X = _every(batch.bounding.problem.values[output], batch.bounding.problem.cases)
    state = batch.bounding.ranged
    held = state.of(output)
    tube = state.tubes.get(output)
    C = intersect(_every(held, X.lo.shape[0]), X.widen(tube))
    if tube is not None:  # an execution without a bound may deliver NaN
        C = Enclosure(np.where(np.isfinite(tube), C.lo, -np.inf), np.where(np.isfinite(tube), C.hi, np.inf))
    exact, computed = _dot(rows, index, X, cases), _dot(rows, index, C, cases)
    z = _every(batch.middle.problem.values[output], X.lo.shape[0])
    moved = _asked(batch.middle, output, cases, index, rows)
    if moved is not None:
        exact = intersect(exact, add(_dot(rows, index, z, cases), moved))
    off = _asked(batch.bounding, output, cases, index, rows)
    if off is not None:
        computed = intersect(computed, add(exact, off))
    elif output not in state.tubes:
        computed = intersect(computed, exact)  # nothing deviates
    return Values(exact, computed)


def _asked(sweep: BoxSweep, output: str, cases: Indices, index: Indices, rows: Array) -> Enclosure | None:
    """<row, deviation>, None where the sweep has no linear map of the output."""
    if output not in sweep.state.tubes or output not in sweep.maps or cases.size == 0:
        return None
    return sweep.pairs(output, cases, index, rows)


def _every(X: Enclosure, boxes: int) -> Enclosure:
    return X if X.lo.shape[0] == boxes else X.map(lambda x: np.broadcast_to(x, (boxes, *x.shape[1:])))


def _dot(rows: Array, index: Indices, X: Enclosure, cases: Indices) -> Enclosure:
    """The sum of coefficient times element, outward, term by term; an element without a coefficient says nothing, even where infinite."""
    flat, elements = rows.reshape(rows.shape[0], -1), X.reshape((X.lo.shape[0], -1))
    terms = int((flat != 0.0).sum(axis=1).max(initial=0))
    places = np.argsort(flat == 0.0, axis=1, kind="stable")[:, :terms]
    coefficients = np.take_along_axis(flat, places, axis=1)
    total = Enclosure.point(np.zeros(index.size))
    for place, coefficient in zip(places.T, coefficients.T, strict=True):
        total = add(total, multiply(Enclosure.point(coefficient[index]), elements[cases, place[index]]))
    return total
