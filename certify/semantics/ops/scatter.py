"""Scatter with a reduction: ScatterElements and ScatterND that add, multiply or compare, duplicates in any order.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. The indices must be known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.upward import Array, inflate
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.selection import Selection
from certify.semantics.ops.indexing import flat_positions
from certify.semantics.ops.movement import array_axis
from certify.semantics.ops.products import arrangement, multiplied

Expanded = tuple[list[Primitive], dict[str, Array]]
Positions = npt.NDArray[np.intp]


def element_positions(indices: Array, shape: Shape, axis: int) -> Positions:
    """The element of the data that each update of ScatterElements meets."""
    k = array_axis(axis, len(shape)) - 1
    grid: list[Any] = list(np.indices(indices.shape))
    grid[k] = flat_positions(indices[..., None], (shape[k],))
    return np.asarray(np.ravel_multi_index(grid, shape), dtype=np.intp).reshape(-1) if indices.size else np.zeros(0, dtype=np.intp)


def slice_positions(indices: Array, shape: Shape) -> Positions:
    """The same for ScatterND: an index tuple names a slice."""
    depth = indices.shape[-1]
    rest = math.prod(shape[depth:])
    first = flat_positions(indices, shape[:depth]).reshape(-1, 1) * rest
    return (first + np.arange(rest, dtype=np.intp)).reshape(-1)


def lists(positions: Positions, size: int) -> Positions:
    """For every element of the data its own number and those of its updates (from `size` on), -1 in what is left, (size, most)."""
    order = np.argsort(positions, kind="stable")
    counts = np.bincount(positions, minlength=size)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.intp) if size else counts
    found = np.full((size, 1 + int(counts.max(initial=0))), -1, dtype=np.intp)
    found[:, 0] = np.arange(size)
    found[positions[order], 1 + np.arange(order.size) - np.repeat(starts, counts)] = size + order
    return found


def _added(data: Any, updates: Any, *, positions: Positions) -> Any:
    cases = max((a.shape[0] for a in (data, updates) if a.shape[0] != 1), default=1)
    out = np.array(np.broadcast_to(data, (cases, *data.shape[1:]))).reshape(cases, -1)
    flat = np.broadcast_to(updates.reshape(updates.shape[0], -1), (cases, positions.size))
    where: Any = (slice(None), positions)
    np.add.at(out, where, flat)
    return out.reshape(cases, *data.shape[1:])


def _added_back(a: Array, shapes: Sequence[Shape], *, positions: Positions) -> Sequence[Array]:
    return [a, a.reshape(a.shape[0], -1)[:, positions].reshape(a.shape[0], *shapes[1][1:])]


def _added_extent(shapes: Sequence[Shape], *, positions: Positions) -> tuple[Shape, int, int]:
    most = int(np.bincount(positions).max(initial=0)) if positions.size else 0
    return (max(s[0] for s in shapes), *shapes[0][1:]), 1 + most, 1


def _added_rounding(arithmetic: Arithmetic, sizes: Sizes, *, positions: Positions) -> Array:
    """The larger of: sums kept in the accumulator and stored once, in any order; every partial sum stored and read back.

    Second case as in CumSum (ops/reduction): n - 1 additions, each rounded as arithmetic.round says of a result of at most T e^(4nu).
    An element without updates is a copy.
    """
    data, updates = sizes.operands
    total = inflate(np.asarray(_added(data, updates, positions=positions)), sizes.terms)
    largest = np.broadcast_to(max(data.max(initial=0.0), updates.max(initial=0.0)), total.shape)
    counts = np.bincount(positions, minlength=math.prod(data.shape[1:])).astype(np.float64).reshape(1, *data.shape[1:])
    once = arithmetic.sum(sizes.terms, total, sizes.magnitude, largest, counts + 1.0)
    if sizes.terms <= 1:
        return once
    with np.errstate(over="ignore"):
        growth = np.exp(4.0 * sizes.terms * arithmetic.storage.unit_roundoff)
        least = min((float(np.min(q)) for q in sizes.quantum if np.size(q)), default=0.0)
        each = arithmetic.round(inflate(total * growth, 8), least)
        return np.where(counts > 0, np.maximum(once, inflate(counts * each, 2)), once)


def _compared(data: Any, updates: Any, *, found: Positions) -> Any:
    flat = np.concatenate([data.reshape(1, -1), updates.reshape(1, -1)], axis=1)
    return np.where(found < 0, -1, flat[:, np.maximum(found, 0)]).reshape(*data.shape, found.shape[-1])


_COMPARED = {"max": "ScatterMax", "min": "ScatterMin"}


def _reduced(e: Expansion, reduction: str, positions: Positions) -> Expanded:
    shape, y = e.shapes[0], e.outputs[0] or e.name("output")
    data, updates = e.operands[0], e.operands[2]
    size = math.prod(shape)
    if reduction == "add":
        return [Primitive("ScatterSum", (data, updates), y, {"positions": positions}, inner=False, domain="certify")], {}
    found = lists(positions, size)
    if reduction in _COMPARED:
        return [Primitive(_COMPARED[reduction], (data, updates), y, {"found": found}, inner=False, domain="certify")], {}
    if reduction != "mul":
        raise UnsupportedOperator(f"reduction {reduction!r}")
    grouped = (*shape, found.shape[-1])
    factors = e.name("factors")
    return [arrangement((data, updates), factors, found.reshape(grouped)), *multiplied(e, factors, grouped, True)], {}


def _indices(e: Expansion, reduction: str) -> Array:
    if "indices" not in e.constants:
        raise UnsupportedOperator(f"reduction {reduction!r} with indices that depend on data")
    return e.constants["indices"]


def scatter_elements(e: Expansion, *, axis: int = 0, reduction: str = "none") -> Expanded:
    """Updates replace elements of the data, or meet them one after the other."""
    if reduction == "none":
        return [Primitive("ScatterElements", e.operands, e.outputs[0] or e.name("output"), {"axis": axis}, inner=False, opset=13)], {}
    return _reduced(e, reduction, element_positions(_indices(e, reduction), e.shapes[0], axis))


def scatter_nd(e: Expansion, *, reduction: str = "none") -> Expanded:
    """The same for slices."""
    if reduction == "none":
        return [Primitive("ScatterND", e.operands, e.outputs[0] or e.name("output"), {}, inner=False, opset=13)], {}
    return _reduced(e, reduction, slice_positions(_indices(e, reduction), e.shapes[0]))


_OPERANDS, _KNOWN = ("data", "indices", "updates"), frozenset({"indices"})
register(
    Linear("ScatterSum", 1, ("data", "updates"), _added, _added, _added_back, _added_extent, _added_rounding, domain="certify"),
    Selection("ScatterMax", 1, ("data", "updates"), _compared, domain="certify"),
    Selection("ScatterMin", 1, ("data", "updates"), _compared, sign=-1, domain="certify"),
    Composite("ScatterElements", 16, _OPERANDS, scatter_elements, known=_KNOWN),
    Composite("ScatterND", 16, _OPERANDS, scatter_nd, known=_KNOWN),
)
