"""AffineGrid: theta applied to a grid of evenly spaced positions.

Source: https://onnx.ai/onnx/operators/onnx__AffineGrid.html. Positions on an axis of n elements: -1 + 2 i / (n - 1), or with
align_corners = 0 the centres -1 + (2 i + 1) / n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array, add_up, mul_up, sum_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.ops.window_functions import COORDINATE_ROUNDOFF

_COORDINATE = 8.0  # roundings of a number up to 2 in a position: the step, twice its multiple, the sum; each half of that at most


def _extents(theta: Shape, size: Any) -> Shape:
    """Spatial extents. Raises UnsupportedOperator where size and theta do not fit."""
    wanted = tuple(int(n) for n in np.ravel(size))
    extents = wanted[2:]
    if len(extents) not in (2, 3) or theta[1:] != (wanted[0], len(extents), len(extents) + 1):
        raise UnsupportedOperator(f"theta shaped {theta[1:]} for a grid of size {wanted}")
    return extents


def _positions(extents: Shape, align_corners: int, kind: Any) -> list[Any]:
    """For x, y (, z) the positions along its axis, as one array that broadcasts over the grid; whole numerators and denominators."""
    out = []
    for k, n in enumerate(extents):
        if align_corners and n == 1:
            raise UnsupportedOperator("one element has no two corners to align")
        top = 2 * np.arange(n) - (n - 1)
        bottom = n - 1 if align_corners else n
        column = top.reshape([n if i == k else 1 for i in range(len(extents))])
        out.append((np.asarray(column.astype(int), dtype=object), bottom) if scalar.is_object(kind) else (column / bottom, 1))
    return out[::-1]


def _apply(theta: Any, *, size: Any, align_corners: int = 0) -> Any:
    """(cases, N, d, d + 1) to (cases, N, *extents, d)."""
    extents = _extents(theta.shape, size)
    rank = len(extents)
    rows = theta.reshape(*theta.shape[:2], *(1,) * rank, rank, rank + 1)
    total = rows[..., rank]
    for j, (top, bottom) in enumerate(_positions(extents, align_corners, theta)):
        total = total + rows[..., j] * top[..., None] / bottom
    return total


def _absolute(theta: Array, *, size: Any, align_corners: int = 0) -> Array:
    extents = _extents(theta.shape, size)
    rank = len(extents)
    rows = theta.reshape(*theta.shape[:2], *(1,) * rank, rank, rank + 1)
    total = rows[..., rank]
    for j, (top, _) in enumerate(_positions(extents, align_corners, theta)):
        with np.errstate(invalid="ignore"):
            total = total + np.where(top[..., None] == 0.0, 0.0, rows[..., j] * np.abs(top[..., None]))
    return np.asarray(total)


def _back(a: Array, shapes: Sequence[Shape], *, size: Any, align_corners: int = 0) -> Sequence[Array]:
    extents = _extents(shapes[0], size)
    rank = len(extents)
    axes = tuple(range(2, 2 + rank))
    columns = [(a * top[..., None]).sum(axis=axes) for top, _ in _positions(extents, align_corners, a)]
    return [np.stack([*columns, a.sum(axis=axes)], axis=-1)]


def _extent(shapes: Sequence[Shape], *, size: Any, align_corners: int = 0) -> tuple[Shape, int, int]:
    extents = _extents(shapes[0], size)
    return (*shapes[0][:2], *extents, len(extents)), len(extents) + 3, int(np.prod(extents)) + 2


def _rounding(arithmetic: Arithmetic, sizes: Sizes, *, size: Any, align_corners: int = 0) -> Array:
    """Positions are computed in fp32 or the kernel's format, whichever rounds more, off by at most 8 u; then a dot product."""
    theta = sizes.operands[0]
    rank = theta.shape[2]
    off = _COORDINATE * max(COORDINATE_ROUNDOFF, arithmetic.unit_roundoff) + 4.0 * arithmetic.underflow
    rows = theta.reshape(*theta.shape[:2], *(1,) * rank, rank, rank + 1)
    moved = mul_up(off, sum_up(rows[..., :rank], axis=-1))
    total = add_up(_absolute(theta, size=size, align_corners=align_corners), moved)
    largest = mul_up(1.0 + off, rows.max(axis=-1))
    return add_up(moved, arithmetic.dot(rank + 1, add_up(total, moved), add_up(sizes.magnitude, moved), largest))


register(
    Linear("AffineGrid", 20, ("theta", "size"), _apply, _absolute, _back, _extent, _rounding, static=frozenset({"size"})),
)
