"""Operators whose data decide the shape of their result: NonZero, Unique, NonMaxSuppression (and Compress, by counting).

Loading asks with constants as they stand in the file, analysis asks again with constants as they are stored. Source of every
definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


class Undecided(Exception):
    """What is selected hangs on a rounding."""


def nonzero(x: npt.NDArray[Any]) -> Integers:
    """Positions of what is not 0, (rank, count); a scalar is as a vector of one."""
    return np.asarray(np.nonzero(np.atleast_1d(x)), dtype=np.int64)[: max(x.ndim, 0) or 1]


def unique(x: npt.NDArray[Any], axis: int | None, in_order: bool) -> tuple[Integers, Integers, Integers]:
    """(first positions, position of each among them, counts) of the different elements, or slices along `axis`."""
    rows = x.reshape(-1, 1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    _, first, inverse, counts = np.unique(rows, axis=0, return_index=True, return_inverse=True, return_counts=True)
    inverse = np.asarray(inverse).reshape(-1)
    if not in_order:
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        first, inverse, counts = first[order], rank[inverse], counts[order]
    return (np.asarray(first, dtype=np.int64), np.asarray(inverse, dtype=np.int64), np.asarray(counts, dtype=np.int64))


def selected(boxes: Array, scores: Array, limit: int, overlap: float, least: float | None, center: bool, unit: float) -> Integers:
    """NonMaxSuppression: rows (batch, class, box), greedily from the best score on.

    unit: relative error of one operation of the kernel. Raises Undecided where a comparison could turn with it, or where
    different boxes have equal scores, for their order is the kernel's own choice.
    """
    found: list[tuple[int, int, int]] = []
    for batch in range(scores.shape[0]):
        areas = _Boxes(boxes[batch], center, unit)
        for kind in range(scores.shape[1]):
            found += [(batch, kind, box) for box in _kept(areas, scores[batch, kind], limit, overlap, least)]
    return np.asarray(found, dtype=np.int64).reshape(-1, 3)


def _kept(areas: _Boxes, score: Array, limit: int, overlap: float, least: float | None) -> list[int]:
    order = [int(i) for i in np.argsort(-score, kind="stable") if least is None or score[i] > least]
    kept: list[int] = []
    for place, box in enumerate(order):
        if len(kept) >= limit:
            break
        if any(score[other] == score[box] for other in order[place + 1 : place + 2]):
            raise Undecided("boxes of equal score are taken in an order that the standard leaves open")
        hits = [areas.overlap(box, other, overlap) for other in kept]
        if True in hits:
            continue
        if None in hits:
            raise Undecided("the overlap of two boxes is as near to the threshold as roundings reach")
        kept.append(box)
    return kept


class _Boxes:
    """Corners of boxes, each coordinate known within `off`."""

    def __init__(self, boxes: Array, center: bool, unit: float) -> None:
        a, b = boxes[:, :2], boxes[:, 2:]
        self.unit = unit
        if center:
            a, b = a - b / 2.0, a + b / 2.0
        self.low, self.high = np.minimum(a, b), np.maximum(a, b)
        scale = np.abs(boxes[:, :2]) + np.abs(boxes[:, 2:])
        self.off = 4.0 * unit * scale if center else np.zeros_like(scale)

    def overlap(self, i: int, j: int, threshold: float) -> bool | None:
        """Whether intersection / union > threshold; None where roundings may turn it.

        Sides are differences of corners, off by `off` each and one rounding; areas, the union and the quotient take at most 8
        more roundings, of positive numbers but for the union's last subtraction: its terms are added up in magnitude.
        """
        sides = np.minimum(self.high[i], self.high[j]) - np.maximum(self.low[i], self.low[j])
        slack = self.off[i] + self.off[j]
        shared = _product(sides, slack, self.unit)
        first, second = (_product(self.high[k] - self.low[k], 2.0 * self.off[k], self.unit) for k in (i, j))
        margin = 8.0 * (self.unit + 2.0**-50)
        common = (shared[0] * (1.0 - margin), shared[1] * (1.0 + margin))
        total = first[1] + second[1] + shared[1]
        union = (first[0] + second[0] - shared[1] - margin * total, first[1] + second[1] - shared[0] + margin * total)
        if common[1] <= 0.0:
            return False if threshold >= 0.0 else None  # kernels answer at once, or divide
        if union[0] <= 0.0:
            return None
        if common[0] > threshold * union[1] * (1.0 + margin):
            return True
        return False if common[1] < threshold * union[0] * (1.0 - margin) else None


def _product(sides: Array, slack: Array, unit: float) -> tuple[float, float]:
    """Least and greatest area over sides within `slack` and one rounding; a negative side has none."""
    reach = slack + (unit + 2.0**-50) * (np.abs(sides) + slack)
    low, high = np.maximum(sides - reach, 0.0), np.maximum(sides + reach, 0.0)
    if bool(((sides <= 0.0) & (slack == 0.0)).any()):
        return 0.0, 0.0  # the subtraction of numbers that are not larger gives nothing larger than 0
    return float(np.prod(low)), float(np.prod(high))
