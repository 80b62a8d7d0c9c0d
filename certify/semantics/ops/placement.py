"""Operators that put elements into places that other operands or a static shape name: OneHot, EyeLike, CenterCropPad, MaxUnpool,
TensorScatter.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Axis k of the operator is array axis k + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.semantics.contract import Operands, UnsupportedOperator, register
from certify.semantics.families.movement import Movement
from certify.semantics.ops.movement import array_axis, integers
from certify.semantics.ops.whole_numbers import numbers

Flags = npt.NDArray[np.bool_]


def _depth_axis(rank: int, axis: int) -> int:
    """Where the new axis stands among the result's array axes; `rank` counts the indices' own axes."""
    return array_axis(axis, rank + 1)


def _one_hot(negative: bool) -> Callable[..., Any]:
    def value(indices: Any, values: Any, *, depth: Any, axis: int = -1) -> Any:
        n, rank = int(np.ravel(depth)[0]), indices.ndim - 1
        index = np.trunc(numbers(indices))
        if not negative and bool((index < 0.0).any()):
            raise UnsupportedOperator("a negative index before opset 11, on which runtimes disagree")
        a = _depth_axis(rank, axis)
        places = np.arange(n).reshape((1,) * a + (n,) + (1,) * (rank + 1 - a))
        index = np.expand_dims(np.where(index < 0.0, index + n, index), a)
        ends = values.reshape((values.shape[0], 2) + (1,) * (rank + 1))
        return np.where(index == places, ends[:, 1], ends[:, 0])

    return value


def _one_hot_spread(X: Operands, *, depth: Any, axis: int = -1) -> Enclosure:
    indices, values = X
    assert indices is not None
    assert values is not None
    shape = (values.shape[0],) + (1,) * len(indices.shape)
    return Enclosure(values.lo.min(axis=1).reshape(shape), values.hi.max(axis=1).reshape(shape))


def _one_hot_undecided(flags: list[Flags], X: Operands, *, depth: Any, axis: int = -1) -> Flags:
    """An index that may change leaves all its places in doubt."""
    flag = flags[0]
    a = _depth_axis(flag.ndim - 1, axis)
    n = int(np.ravel(depth)[0])
    return np.repeat(np.expand_dims(flag, a), n, axis=a)


def eye_like(x: Any, *, dtype: int | None = None, k: int = 0) -> Any:
    """1 on a diagonal, 0 elsewhere, in every case."""
    return np.broadcast_to(np.eye(x.shape[1], x.shape[2], k), x.shape)


def center_crop_pad(x: Any, *, shape: Any, axes: Any = None) -> Any:
    """Cut or filled with zeros around the middle; the odd element is cut and added at the end."""
    wanted = integers(shape)
    chosen = range(1, x.ndim) if axes is None else [array_axis(k, x.ndim - 1) for k in integers(axes)]
    cut, widths = [slice(None)] * x.ndim, [(0, 0)] * x.ndim
    for k, n in zip(chosen, wanted, strict=True):
        missing = n - x.shape[k]
        if missing >= 0:
            widths[k] = (missing // 2, missing - missing // 2)
        else:
            start = -missing // 2
            cut[k] = slice(start, start + n)
    return np.pad(x[tuple(cut)], widths, constant_values=0.0)


def _unpooled(extents: tuple[int, ...], kernel: tuple[int, ...], strides: Any, pads: Any) -> tuple[int, ...]:
    stride = integers(strides) if strides is not None else (1,) * len(kernel)
    amounts = integers(pads) if pads is not None else (0,) * (2 * len(kernel))
    dims = range(len(kernel))
    return tuple((extents[i] - 1) * stride[i] + kernel[i] - amounts[i] - amounts[i + len(kernel)] for i in dims)


def max_unpool(x: Any, index: Any, *, kernel_shape: Any, output_shape: Any = None, strides: Any = None, pads: Any = None) -> Any:
    """Each element at the flat place that its index names, zeros elsewhere.

    Where two elements meet the result is left open, and refused. So is another `output_shape` than the pooled tensor's: onnxruntime counts
    the places in it, ONNX's reference in the pooled tensor.
    """
    target = (*x.shape[1:3], *_unpooled(x.shape[3:], integers(kernel_shape), strides, pads))
    if output_shape is not None and integers(output_shape) != target:
        raise UnsupportedOperator(f"an output shape other than {list(target)}, on which runtimes disagree")
    size, cases = math.prod(target), max(x.shape[0], index.shape[0])
    place = np.broadcast_to(np.asarray(numbers(index), dtype=np.intp), (cases, *x.shape[1:])).reshape(cases, -1)
    if place.size and not 0 <= place.min() <= place.max() < size:
        raise UnsupportedOperator(f"an index outside of its result of {size} elements")
    order = np.sort(place, axis=1)
    if bool((order[:, 1:] == order[:, :-1]).any()):
        raise UnsupportedOperator("two elements go to one place, and which of them stays is not defined")
    flat = np.broadcast_to(x, (cases, *x.shape[1:])).reshape(cases, -1)
    out = np.zeros((cases, size), dtype=flat.dtype)
    np.put_along_axis(out, place, flat, axis=1)
    return out.reshape(cases, *target)


def _everything(X: Operands, **_: Any) -> Enclosure:
    """The hull of all that is copied, and of 0."""
    copied = [x for x in X[:2] if x is not None and x.lo.size]
    lo = np.minimum.reduce([x.lo.reshape(x.shape[0], -1).min(axis=1) for x in copied])
    hi = np.maximum.reduce([x.hi.reshape(x.shape[0], -1).max(axis=1) for x in copied])
    rank = max(len(x.shape) for x in copied)
    shape = (-1,) + (1,) * (rank - 1)
    return Enclosure(np.minimum(lo, 0.0).reshape(shape), np.maximum(hi, 0.0).reshape(shape))


def _unpool_spread(X: Operands, **_: Any) -> Enclosure:
    return _everything((X[0],))


def _all_undecided(position: int) -> Callable[..., Flags]:
    """One index that may change leaves every element of its case in doubt."""

    def undecided(flags: list[Flags], X: Operands, **_: Any) -> Flags:
        loose = flags[position].reshape(flags[position].shape[0], -1).any(axis=1)
        x = X[0]
        assert x is not None
        return loose.reshape((-1,) + (1,) * (len(x.shape) - 1))

    return undecided


def tensor_scatter(x: Any, update: Any, write: Any = None, *, axis: int = -2, mode: str = "linear") -> Any:
    """`update` written into a cache along one axis, from each sample's own index on."""
    a = array_axis(axis, x.ndim - 1)
    n, length = x.shape[a], update.shape[a]
    start = np.zeros((1, x.shape[1])) if write is None else numbers(write)
    place = np.asarray(start, dtype=np.intp)[..., None] + np.arange(length)  # (cases, batch, length)
    if mode == "circular":
        place = place % n
    elif place.size and not 0 <= place.min() <= place.max() < n:
        raise UnsupportedOperator(f"it writes outside of a cache of {n}")
    cases = max(x.shape[0], update.shape[0], place.shape[0])
    out = np.moveaxis(np.broadcast_to(x, (cases, *x.shape[1:])), a, 2).copy()
    new = np.moveaxis(np.broadcast_to(update, (cases, *update.shape[1:])), a, 2)
    index = np.broadcast_to(place, (cases, *place.shape[1:]))
    out[np.arange(cases)[:, None, None], np.arange(x.shape[1])[None, :, None], index] = new
    return np.moveaxis(out, 2, a)


def _hot(since: int, negative: bool) -> Movement:
    return Movement(
        "OneHot",
        since,
        ("indices", "depth", "values"),
        _one_hot(negative),
        static=frozenset({"depth"}),
        steering=(0,),
        spread=_one_hot_spread,
        undecided=_one_hot_undecided,
    )


register(
    _hot(9, False),
    _hot(11, True),
    Movement("EyeLike", 9, ("input",), eye_like, copies=False),
    Movement("CenterCropPad", 18, ("input_data", "shape"), center_crop_pad, static=frozenset({"shape"})),
    Movement(
        "MaxUnpool",
        9,
        ("X", "I", "output_shape"),
        max_unpool,
        static=frozenset({"output_shape"}),
        steering=(1,),
        spread=_unpool_spread,
        undecided=_all_undecided(1),
    ),
    Movement(
        "TensorScatter",
        24,
        ("past_cache", "update", "write_indices"),
        tensor_scatter,
        steering=(2,),
        spread=_everything,
        undecided=_all_undecided(2),
    ),
)
