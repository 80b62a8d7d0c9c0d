"""Which input element a sub-box is cut along: the one whose width costs most.

For the functional at stake with multipliers a_k, step k adds |a_k| (beta_k + rho_k) to the bound. With p_ik the variation of value k
over the box along input element i, its rounding beta_k shrinks with the value's size by about p_ik / max |v_k|, and its
remainder rho_k in the share p_ik / sum_j p_jk. No bound depends on this choice.
"""

from __future__ import annotations

import numpy as np

from certify.engines.region.boxes import Layout
from certify.engines.region.many import BoxSweep
from certify.number.upward import Array

PUSHED = 24  # elements up to which each is pushed through the linear maps; of more, the slope at the inputs decides


def effects(middle: BoxSweep, bounding: BoxSweep, target: str, rows: Array, layout: Layout) -> Array:
    """(boxes, columns): what each column's width costs the functional of `target` in rows (boxes, *shape).

    middle: the sweep that ranges came from, linear maps from the inputs on; bounding: the one of the functional.
    """
    if len(layout.columns) > PUSHED:
        return slopes(middle, target, rows, layout)
    weights = _weights(bounding, target, rows)
    variations = _variations(middle, layout)
    found = np.zeros((rows.shape[0], len(layout.columns)))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for name, (born, left_over) in weights.items():
            moved = [np.abs(variation[name]) if name in variation else None for variation in variations]
            total = sum((p for p in moved if p is not None), np.zeros((1,) * born.ndim))
            if not np.any(total):
                continue
            largest = bounding.problem.values[name].mag
            density = born / np.where(largest > 0.0, largest, np.inf) + left_over / np.where(total > 0.0, total, np.inf)
            for column, p in enumerate(moved):
                if p is not None:
                    cost = np.nan_to_num(density * p, nan=0.0, posinf=1e300)
                    found[:, column] += cost.reshape(cost.shape[0], -1).sum(axis=1)
    return found


def _weights(sweep: BoxSweep, target: str, rows: Array) -> dict[str, tuple[Array, Array]]:
    """|a| beta and |a| rho of each step that the functional reaches."""
    found = {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name, a in sweep.multipliers(sweep.ancestors(target), target, rows):
            if name in sweep.steps:
                size, born = np.abs(a), sweep.state.local[name]
                found[name] = (size * born, size * np.maximum(sweep.noise[name] - born, 0.0))
    return found


def _variations(sweep: BoxSweep, layout: Layout) -> list[dict[str, Array]]:
    """For each column, about how far every value goes as that input element goes from the middle to its end.

    To first order. What a step's linear map misses on one side only is added, in the share that the column has in how far the step's
    operands go: a square around 0 has no slope, but goes up by r^2.
    """
    moved = [_start(sweep, layout, column) for column in range(len(layout.columns))]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for step in sweep.problem.steps:
            linear = sweep.maps.get(step.output)
            if linear is None:
                continue
            names = [name if name in sweep.state.tubes else None for name in step.operands]
            given = [[None if name is None else one.get(name) for name in names] for one in moved]
            sizes = [sum((_total(x) for x in some if x is not None), np.zeros(1)) for some in given]
            whole = np.maximum(sum(sizes, np.zeros(1)), np.finfo(np.float64).tiny)
            missed = np.where(linear.radius <= 1.001 * np.abs(linear.shift), 2.0 * np.abs(linear.shift), 0.0)
            for one, some, size in zip(moved, given, sizes, strict=True):
                if any(x is not None for x in some):
                    pushed = linear.push(some)
                    share = np.asarray(size / whole).reshape(-1, *(1,) * (missed.ndim - 1))
                    one[step.output] = pushed + np.where(pushed < 0.0, -missed, missed) * share
    return moved


def _start(sweep: BoxSweep, layout: Layout, column: int) -> dict[str, Array]:
    """The input of the column, with how far that element goes, and 0 elsewhere."""
    source, element = layout.columns[column]
    radius = sweep.problem.radii[source]
    start = np.zeros((radius.shape[0], int(np.prod(radius.shape[1:]))))
    start[:, element] = radius.reshape(radius.shape[0], -1)[:, element]
    return {source: start.reshape(radius.shape)}


def _total(x: Array) -> Array:
    """(cases or 1,): the sum of magnitudes."""
    return np.asarray(np.nan_to_num(np.abs(x), nan=0.0, posinf=1e300).reshape(x.shape[0], -1).sum(axis=1))


def slopes(sweep: BoxSweep, target: str, rows: Array, layout: Layout) -> Array:
    """|slope of the functional's own value| times the radius, for each column."""
    walked = sweep.multipliers(sweep.ancestors(target), target, rows)
    reached = {name: a for name, a in walked if name not in sweep.steps}
    found = np.zeros((rows.shape[0], len(layout.columns)))
    for column, (source, element) in enumerate(layout.columns):
        radius = sweep.problem.radii[source]
        flat = radius.reshape(radius.shape[0], -1)[:, element]
        a = reached.get(source)
        slope = np.ones(1) if a is None else np.abs(a).reshape(a.shape[0], -1)[:, element]
        found[:, column] = np.nan_to_num(slope * flat, nan=0.0, posinf=1e300)
    return found
