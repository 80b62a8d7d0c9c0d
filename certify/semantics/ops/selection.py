"""Operators that deliver the largest or smallest of several numbers: Max, Min, ReduceMax, ReduceMin, maximum pooling, Clip.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Each row arranges the numbers of
the operands' elements, (1, *shape), as candidates, (1, *output shape, K); -1 stands for a place outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.discrete import Discrete
from certify.semantics.families.selection import Selection
from certify.semantics.families.windows import refuse_dilated_same
from certify.semantics.ops.indexing import aligned
from certify.semantics.ops.movement import array_axis, integers

Numbers = npt.NDArray[np.intp]


def _broadcast(*x: Numbers) -> Numbers:
    return np.stack(np.broadcast_arrays(*aligned(*x)), axis=-1)


def _reduced(x: Numbers, *, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Numbers:
    rank = x.ndim - 1
    named = () if axes is None else integers(axes)
    if not named and noop_with_empty_axes:
        return x[..., None]
    chosen = sorted({array_axis(k, rank) for k in named}) if named else list(range(1, rank + 1))
    kept = [k for k in range(1, rank + 1) if k not in chosen]
    moved = x.transpose((0, *kept, *chosen)).reshape((1, *(x.shape[k] for k in kept), math.prod(x.shape[k] for k in chosen)))
    if not keepdims:
        return moved
    shape = tuple(1 if k in chosen else x.shape[k] for k in range(1, rank + 1))
    return moved.reshape((1, *shape, moved.shape[-1]))


def _windows(n: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], ceil: bool) -> Numbers:
    """Positions read by each window along one axis of extent n, (windows, kernel); -1 outside."""
    reach = dilation * (kernel - 1) + 1
    room = n + sum(pads) - reach
    if room < 0:
        raise UnsupportedOperator(f"its window reaches over {reach} elements, its padded operand has {n + sum(pads)}")
    count = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= n + pads[0]:
        count -= 1  # a window may not start in the padding at the end
    place = np.arange(max(count, 0))[:, None] * stride + np.arange(kernel) * dilation - pads[0]
    return np.where((place >= 0) & (place < n), place, -1)


def _padding(auto_pad: str, extents: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """`pads` that auto_pad stands for: begins, then ends."""
    if auto_pad == "VALID":
        return [0] * (2 * len(extents))
    begins, ends = [], []
    for n, k, s, d in zip(extents, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if auto_pad == "SAME_UPPER" else large)
        ends.append(large if auto_pad == "SAME_UPPER" else small)
    return begins + ends


def _pooled(
    x: Numbers,
    *,
    kernel_shape: Any,
    strides: Any = None,
    pads: Any = None,
    dilations: Any = None,
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
    storage_order: int = 0,
    output: int = 0,
) -> Numbers:
    kernel, extents = integers(kernel_shape), x.shape[3:]
    dims = len(kernel)
    stride = integers(strides) if strides is not None else (1,) * dims
    dilation = integers(dilations) if dilations is not None else (1,) * dims
    refuse_dilated_same(auto_pad, dilations)
    if auto_pad not in ("NOTSET", ""):
        amounts: Sequence[int] = _padding(auto_pad, extents, kernel, stride, dilation)
    else:
        amounts = integers(pads) if pads is not None else (0,) * (2 * dims)
    inside, flat = np.ones((), dtype=bool), np.zeros((), dtype=np.intp)
    for k in range(dims):
        place = _windows(extents[k], kernel[k], stride[k], dilation[k], (amounts[k], amounts[k + dims]), bool(ceil_mode))
        shape = [1] * (2 * dims)
        shape[k], shape[k + dims] = place.shape
        place = place.reshape(shape)
        inside, flat = inside & (place >= 0), flat * extents[k] + np.maximum(place, 0)
    plane = x.reshape((*x.shape[:3], -1))
    read = np.where(inside, plane[..., np.where(inside, flat, 0)], -1)
    return read.reshape((*read.shape[: 3 + dims], math.prod(kernel)))


def _places(x: Numbers, storage_order: int) -> Numbers:
    """The index that the standard gives each element of the operand: row-major, or with the first spatial axis running fastest."""
    if not storage_order:
        return x
    plane = np.arange(math.prod(x.shape[3:]), dtype=np.intp).reshape(x.shape[3:], order="F")
    first: Any = (..., *(slice(0, 1),) * (x.ndim - 3))
    return np.asarray(x[first] + plane)


def _read(x: Any, **attributes: Any) -> tuple[Any, Numbers]:
    """What each window reads, (cases, *output shape, K), -inf outside of the operand, and the index of each."""
    numbers = np.arange(math.prod(x.shape[1:]), dtype=np.intp).reshape(1, *x.shape[1:])
    source = _pooled(numbers, **attributes)
    indices = _places(numbers, int(attributes.get("storage_order", 0))).reshape(-1)
    inside = np.maximum(source[0], 0)
    taken = x.reshape(x.shape[0], -1)[:, inside]
    return np.where(source < 0, -math.inf, taken), np.where(source[0] < 0, -1, indices[inside])[None]


def _first_of(read: Any, index: Numbers) -> Array:
    """The index of each window's largest element, the first in row-major order."""
    best = scalar.first_largest(read)[..., None]
    return np.take_along_axis(np.broadcast_to(index, read.shape), best, axis=-1)[..., 0].astype(np.float64)


def place_of_largest(x: Any, **attributes: Any) -> Any:
    return _first_of(*_read(x, **attributes))


def _place_outcomes(X: Enclosure, **attributes: Any) -> Enclosure:
    """The least and the greatest index of an element that may be the largest. Elements that are known decide as they are."""
    low, index = _read(X.lo, **attributes)
    if X.lo is X.hi:
        found = _first_of(low, index)
        return Enclosure(found, found)
    high, _ = _read(X.hi, **attributes)
    possible = high >= np.max(low, axis=-1, keepdims=True)
    settled = ((low == high) | ~possible).all(axis=-1)
    found = _first_of(low, index)
    first = np.min(np.where(possible, index, np.iinfo(np.intp).max), axis=-1).astype(np.float64)
    last = np.max(np.where(possible, index, -1), axis=-1).astype(np.float64)
    return Enclosure(np.where(settled, found, first), np.where(settled, found, last))


def max_pool(e: Expansion, **attributes: Any) -> tuple[list[Primitive], dict[str, Array]]:
    """The largest elements, and where they are: of equal ones the first in row-major order, as runtimes have it."""
    y, places = (*e.outputs, None)[:2]
    steps = [] if y is None else [Primitive("MaxPool", (e.operands[0],), y, attributes, inner=False, opset=1)]
    if places is not None:
        steps.append(Primitive("PlaceOfLargest", (e.operands[0],), places, attributes, inner=False, domain="certify"))
    return steps, {}


def _whole_plane(x: Numbers) -> Numbers:
    return x.reshape((*x.shape[:3], *(1,) * (x.ndim - 3), -1))


def _clip(expansion: Expansion, *, min: float | None = None, max: float | None = None) -> tuple[list[Primitive], dict[str, Array]]:
    """Min(Max(x, min), max), as onnxruntime and the schema have it; both bounds are attributes before opset 11."""
    x, low, high = (*expansion.operands, None, None)[:3]
    constants: dict[str, Array] = {}
    for part, bound in (("min", min), ("max", max)):
        if bound is not None:
            constants[expansion.name(part)] = np.asarray(bound, dtype=np.float64)
    low, high = (expansion.name("min") if min is not None else low), (expansion.name("max") if max is not None else high)
    output = expansion.outputs[0] or expansion.name("output")
    if low is None and high is None:
        return [Primitive("Identity", (x,), output, inner=False)], constants
    if low is None or high is None:
        return [Primitive("Max" if high is None else "Min", (x, low or high), output, inner=False)], constants
    between = expansion.name("raised")
    return [Primitive("Max", (x, low), between, inner=False), Primitive("Min", (between, high), output, inner=False)], constants


_AXES = frozenset({"axes"})

register(
    Selection("Max", 1, ("data_0",), _broadcast, pointwise=True),
    Selection("Min", 1, ("data_0",), _broadcast, sign=-1, pointwise=True),
    Selection("ReduceMax", 1, ("data",), _reduced),
    Selection("ReduceMin", 1, ("data",), _reduced, sign=-1),
    Selection("ReduceMax", 18, ("data", "axes"), _reduced, static=_AXES),
    Selection("ReduceMin", 18, ("data", "axes"), _reduced, sign=-1, static=_AXES),
    Selection("MaxPool", 1, ("X",), _pooled),
    Discrete("PlaceOfLargest", 1, ("X",), place_of_largest, _place_outcomes, domain="certify", pointwise=False),
    Composite("MaxPool", 8, ("X",), max_pool, outputs=2),
    Selection("GlobalMaxPool", 1, ("X",), _whole_plane),
    Composite("Clip", 6, ("input",), _clip),
    Composite("Clip", 11, ("input", "min", "max"), _clip),
)
