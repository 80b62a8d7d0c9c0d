"""Decisions: can any conforming run change the argmax over the last axis?

For the exact winner t and every other class j, the computed difference is
    yhat_t - yhat_j = (z_t - z_j) + <e_t - e_j, computed - z>,
so that it stays positive if z_t - z_j exceeds the bound of the *difference's* own functional, which an adjoint weighs as
one row: shared errors cancel in it, as they do not in the sum of two bounds. The same is asked of the exact values, so
that the exact winner is t itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem
from certify.engines.sweep import Sweep
from certify.number.upward import Array, add_up, down

Indices: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Margin:
    """One argmax of one case: exact margin between the winner and its most dangerous rival, and what may eat it.

    stable: `margin` > `bound`, where bound also covers what conversion takes from the margin.
    """

    row: int
    top: int
    runner_up: int
    margin: float
    bound: float
    stable: bool


def margins(stored: Sweep, exact: Problem, output: str, bounds: Array, doubts: Array, limit: float = np.inf) -> list[Margin]:
    """Every argmax over the last axis of `output` in one case.

    stored: the sweep of the model as stored; exact: the same case of the model as it stands in the file.
    bounds, doubts: |computed - z_stored| and |exact - z_exact| of the single elements, (1, *shape).
    limit:  nominal nanoseconds for the differences' functionals; where they take longer, the single elements' bounds decide.
    """
    classes = stored.problem.values[output].shape[-1]
    held = stored.problem.values[output].lo.reshape(-1, classes)
    true = exact.values[output].lo.reshape(-1, classes)
    top = np.argmax(true, axis=1)
    every = np.arange(true.shape[0])
    margin = down(true[every, top][:, None] - true)
    least = np.minimum(margin, down(held[every, top][:, None] - held))
    doubt = doubts.reshape(-1, classes)
    doubt = add_up(doubt, doubt[every, top][:, None])
    single = bounds.reshape(-1, classes)
    single = add_up(single, single[every, top][:, None], doubt)
    rival = np.where(np.arange(classes) == top[:, None], np.inf, least)
    asked = ~(least > single) | (rival == rival.min(axis=1, keepdims=True))
    asked[every, top] = False
    hopeless = np.isinf(single)  # infinite noise meets the difference as well
    pairs = np.argwhere(asked)
    joint = np.full(len(pairs), np.inf)
    worth = ~hopeless[pairs[:, 0], pairs[:, 1]]
    worth &= worth.sum() * stored.row_work(stored.ancestors(output)) <= limit
    joint[worth] = add_up(_joint(stored, output, pairs[worth], top, held.shape), doubt[pairs[worth, 0], pairs[worth, 1]])
    joint = np.minimum(joint, single[pairs[:, 0], pairs[:, 1]])
    found = []
    for row in every:
        mine = pairs[:, 0] == row
        j, bound = pairs[mine, 1], joint[mine]
        taken = np.maximum(margin[row, j] - least[row, j], 0.0)
        total = add_up(bound, np.nextafter(taken, np.inf) * (taken > 0.0))
        slack = np.where(np.isfinite(total), margin[row, j] - total, -np.inf)
        worst = int(np.argmin(slack))
        stable = bool(np.all(margin[row, j] > total))
        found.append(Margin(int(row), int(top[row]), int(j[worst]), float(margin[row, j[worst]]), float(total[worst]), stable))
    return found


def _joint(stored: Sweep, output: str, pairs: Indices, top: Indices, shape: tuple[int, ...]) -> Array:
    """Bound of the rounding error of y_t - y_j for each (row, j)."""
    if output not in stored.state.tubes:
        return np.zeros(len(pairs))
    row = pairs[:, 0]
    return stored.differences(output, row * shape[-1] + top[row], row * shape[-1] + pairs[:, 1])
