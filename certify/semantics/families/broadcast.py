"""Broadcasting behind the case axis: operands of lower rank get unit axes right after the case axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.multipliers import carried
from certify.number.upward import Array

Shape = tuple[int, ...]


def align(x: Any, rank: int) -> Any:
    """`x` with unit axes inserted after its case axis until it has `rank` axes (the case axis included)."""
    return x if x.ndim >= rank else x.reshape(aligned_shape(x.shape, rank))


def aligned_shape(shape: Shape, rank: int) -> Shape:
    return shape[:1] + (1,) * (rank - len(shape)) + shape[1:]


def broadcast_shape(shapes: Iterable[Shape]) -> Shape:
    """The common shape, the case axis first. Raises ValueError where extents do not meet."""
    shapes = list(shapes)
    rank = max(map(len, shapes))
    return np.broadcast_shapes(*(aligned_shape(s, rank) for s in shapes))


def collect(a: Array, shape: Shape) -> Array:
    """The transpose of broadcasting an operand of `shape` (case axis first): sum over the axes along which it was spread.

    The case axis is never summed: `a` shaped (rows, *output) gives (rows, *shape[1:]).
    """
    target = aligned_shape(shape, a.ndim)
    axes = tuple(i for i in range(1, a.ndim) if target[i] == 1 and a.shape[i] != 1)
    total = a.sum(axis=axes, keepdims=True) if axes else a
    return np.asarray(total).reshape(a.shape[0], *shape[1:])


def spread_count(shape: Shape, output: Shape) -> int:
    """How many output elements one element of an operand of `shape` meets by broadcasting (case axis left out)."""
    target = aligned_shape(shape, len(output))
    return int(np.prod([o for s, o in zip(target[1:], output[1:], strict=True) if s == 1], dtype=np.int64))


def collected(a: Enclosure, shape: Shape) -> Enclosure:
    """`collect` of an interval."""
    terms = spread_count(shape, a.shape)
    return carried(lambda x: collect(x, shape), a, 0 if terms <= 1 else terms)
