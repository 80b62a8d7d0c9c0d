"""Operators that copy what other operands choose: Gather, Scatter, Where.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. The choosing operand may be a
constant or computed; as long as it is one exact integer (or truth value) over X and r, the operator is linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.semantics.contract import Operands, register
from certify.semantics.families.movement import Movement
from certify.semantics.ops.movement import array_axis

Flags: TypeAlias = npt.NDArray[np.bool_]
Undecided: TypeAlias = Callable[..., Flags]


def _index(indices: Any, extent: int) -> npt.NDArray[np.intp]:
    """Whole numbers in [0, extent), negative ones counted from the end. Raises IndexError outside."""
    index = np.asarray(indices, dtype=np.float64).astype(np.intp)
    if index.size and not (-extent <= index.min() and index.max() < extent):
        raise IndexError(f"index {index.min()}..{index.max()} is outside an axis of {extent}")
    return np.where(index < 0, index + extent, index)


def _cases(*arrays: Any) -> int:
    return max((a.shape[0] for a in arrays if a.shape[0] != 1), default=min((a.shape[0] for a in arrays), default=1))


def gather(x: Any, indices: Any, *, axis: int = 0) -> Any:
    k = array_axis(axis, x.ndim - 1)
    index = _index(indices, x.shape[k])
    if index.shape[0] == 1:
        return np.take(x, index[0], axis=k)
    parts = [np.take(x[min(c, x.shape[0] - 1)], index[c], axis=k - 1) for c in range(index.shape[0])]
    return np.stack(parts) if parts else np.take(x, np.zeros(index.shape[1:], dtype=np.intp), axis=k)


def gather_elements(x: Any, indices: Any, *, axis: int = 0) -> Any:
    k = array_axis(axis, x.ndim - 1)
    index = _index(indices, x.shape[k])
    grid: list[Any] = list(np.indices((_cases(x, index), *index.shape[1:]), sparse=True))
    grid[k] = index
    grid[0] = grid[0] if x.shape[0] > 1 else np.zeros_like(grid[0])
    return x[tuple(grid)]


def flat_positions(indices: Any, extents: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Index tuples along the last axis as flat indices into `extents`."""
    flat = np.zeros(indices.shape[:-1], dtype=np.intp)
    for i, extent in enumerate(extents):
        flat = flat * extent + _index(indices[..., i], extent)
    return flat


def gather_nd(x: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    batch, depth = x.shape[1 : batch_dims + 1], indices.shape[-1]
    chosen, rest = x.shape[batch_dims + 1 : batch_dims + 1 + depth], x.shape[batch_dims + 1 + depth :]
    flat = flat_positions(indices, chosen)
    cases = _cases(x, flat)
    middle = flat.shape[1 + batch_dims :]
    source = np.broadcast_to(x, (cases, *x.shape[1:])).reshape((cases * math.prod(batch), math.prod(chosen), math.prod(rest)))
    index = np.broadcast_to(flat, (cases, *flat.shape[1:])).reshape((cases * math.prod(batch), math.prod(middle)))
    taken = source[np.arange(source.shape[0])[:, None], index]
    return taken.reshape((cases, *batch, *middle, *rest))


def scatter_elements(x: Any, indices: Any, updates: Any, *, axis: int = 0) -> Any:
    k = array_axis(axis, x.ndim - 1)
    index = _index(indices, x.shape[k])
    cases = _cases(x, index, updates)
    out = np.broadcast_to(x, (cases, *x.shape[1:])).copy()
    full = (cases, *index.shape[1:])
    grid: list[Any] = list(np.indices(full, sparse=True))
    grid[k] = np.broadcast_to(index, full)
    out[tuple(grid)] = np.broadcast_to(updates, full)
    return out


def scatter_nd(x: Any, indices: Any, updates: Any) -> Any:
    depth = indices.shape[-1]
    chosen, rest = x.shape[1 : depth + 1], x.shape[depth + 1 :]
    flat = flat_positions(indices, chosen)
    cases = _cases(x, flat, updates)
    out = np.broadcast_to(x, (cases, *x.shape[1:])).reshape((cases, math.prod(chosen), math.prod(rest))).copy()
    index = np.broadcast_to(flat, (cases, *flat.shape[1:])).reshape((cases, -1))
    out[np.arange(cases)[:, None], index] = np.broadcast_to(updates, (cases, *updates.shape[1:])).reshape((cases, index.shape[1], -1))
    return out.reshape((cases, *x.shape[1:]))


def aligned(*arrays: Any) -> list[Any]:
    """Arrays with axes of extent 1 put behind the case axis, so that NumPy aligns them as ONNX does: on the right."""
    rank = max(a.ndim for a in arrays)
    return [a.reshape((a.shape[0],) + (1,) * (rank - a.ndim) + a.shape[1:]) for a in arrays]


def where(condition: Any, x: Any, y: Any) -> Any:
    condition, x, y = aligned(condition, x, y)
    return np.where(np.asarray(condition, dtype=bool), x, y)


def _range_along(x: Enclosure, axes: tuple[int, ...]) -> Enclosure:
    """The hull of x over `axes`, kept with extent 1; the empty hull of an empty axis is 0 (nothing is gathered from it)."""
    if any(x.shape[k] == 0 for k in axes):
        zero = np.zeros(tuple(1 if k in axes else n for k, n in enumerate(x.shape)))
        return Enclosure(zero, zero)
    return Enclosure(x.lo.min(axis=axes, keepdims=True), x.hi.max(axis=axes, keepdims=True))


def _gather_spread(X: Operands, *, axis: int = 0) -> Enclosure:
    x, indices = X[0], X[1]
    assert x is not None
    assert indices is not None
    wide = _range_along(x, (array_axis(axis, len(x.shape) - 1),))
    zeros = np.zeros((1, *indices.shape[1:]))
    return wide.map(lambda v: gather(v, zeros, axis=axis))


def _gather_undecided(flags: list[Flags], X: Operands, *, axis: int = 0) -> Flags:
    x, flag = X[0], flags[1]
    assert x is not None
    k = array_axis(axis, len(x.shape) - 1)
    shape = (flag.shape[0],) + (1,) * (k - 1) + flag.shape[1:] + (1,) * (len(x.shape) - 1 - k)
    return np.broadcast_to(flag.reshape(shape), (flag.shape[0], *x.shape[1:k], *flag.shape[1:], *x.shape[k + 1 :]))


def _gather_elements_spread(X: Operands, *, axis: int = 0) -> Enclosure:
    x, indices = X[0], X[1]
    assert x is not None
    assert indices is not None
    wide = _range_along(x, (array_axis(axis, len(x.shape) - 1),))
    return wide.map(lambda v: gather_elements(v, np.zeros((1, *indices.shape[1:])), axis=axis))


def _everything(X: Operands, **attributes: Any) -> Enclosure:
    """The hull of every element of every operand that is copied (indices, second, are not)."""
    copied = [x for i, x in enumerate(X) if x is not None and i != 1 and x.lo.size]
    lo = [x.lo.reshape(x.shape[0], -1).min(axis=1) for x in copied]
    hi = [x.hi.reshape(x.shape[0], -1).max(axis=1) for x in copied]
    rank = len(X[0].shape) if X[0] is not None else 1
    return Enclosure(np.minimum.reduce(lo).reshape((-1,) + (1,) * (rank - 1)), np.maximum.reduce(hi).reshape((-1,) + (1,) * (rank - 1)))


def _whole_axis(X: Operands, **attributes: Any) -> Enclosure:
    """`_everything` with the rank of GatherND's output: one number per case, broadcast."""
    x, indices = X[0], X[1]
    assert x is not None
    assert indices is not None
    rank = len(indices.shape) - 1 + len(x.shape) - 1 - indices.shape[-1] - attributes.get("batch_dims", 0)
    return _everything((x,)).map(lambda v: v.reshape((v.shape[0],) + (1,) * (rank - 1)))


def _gather_nd_undecided(flags: list[Flags], X: Operands, *, batch_dims: int = 0) -> Flags:
    x, flag = X[0], flags[1].any(axis=-1)
    assert x is not None
    rest = x.shape[batch_dims + 1 + flags[1].shape[-1] :]
    return np.broadcast_to(flag.reshape(flag.shape + (1,) * len(rest)), flag.shape + rest)


def _scatter_undecided(flags: list[Flags], X: Operands, **attributes: Any) -> Flags:
    """One index that may change leaves every element of its case in doubt."""
    x = X[0]
    assert x is not None
    loose = flags[1].reshape(flags[1].shape[0], -1).any(axis=1)
    return np.broadcast_to(loose.reshape((-1,) + (1,) * (len(x.shape) - 1)), (loose.size, *x.shape[1:]))


def _where_spread(X: Operands) -> Enclosure:
    x, y = X[1], X[2]
    assert x is not None
    assert y is not None
    x_lo, y_lo = aligned(x.lo, y.lo)
    x_hi, y_hi = aligned(x.hi, y.hi)
    return Enclosure(np.minimum(x_lo, y_lo), np.maximum(x_hi, y_hi))


def where_undecided(flags: list[Flags], X: Operands) -> Flags:
    shapes = [x.shape for x in X if x is not None]
    rank = max(len(s) for s in shapes)
    flag = aligned(flags[0], np.zeros((1,) * rank))[0]
    extents = np.broadcast_shapes(*(s[1:] for s in shapes))
    return np.broadcast_to(flag, (flag.shape[0], *extents))


def _gather_elements_undecided(flags: list[Flags], X: Operands, **attributes: Any) -> Flags:
    return flags[1]


def _steered(name: str, since: int, value: Callable[..., Any], spread: Callable[..., Enclosure], undecided: Undecided) -> Movement:
    parameters = ("data", "indices", "updates") if name.startswith("Scatter") else ("data", "indices")
    return Movement(name, since, parameters, value, steering=(1,), spread=spread, undecided=undecided)


register(
    _steered("Gather", 1, gather, _gather_spread, _gather_undecided),
    _steered("GatherElements", 11, gather_elements, _gather_elements_spread, _gather_elements_undecided),
    _steered("GatherND", 11, gather_nd, _whole_axis, _gather_nd_undecided),
    _steered("Scatter", 9, scatter_elements, _everything, _scatter_undecided),
    _steered("ScatterElements", 11, scatter_elements, _everything, _scatter_undecided),
    _steered("ScatterND", 11, scatter_nd, _everything, _scatter_undecided),
    Movement("Where", 9, ("condition", "X", "Y"), where, steering=(0,), spread=_where_spread, undecided=where_undecided),
)
