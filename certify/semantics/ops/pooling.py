"""Averages and sums over windows: AveragePool, GlobalAveragePool.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array, inflate
from certify.semantics.contract import Arithmetic, Roundings, register
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.moment_kernel import stored_mean_parts
from certify.semantics.families.windows import Windows, refuse_dilated_same, windows
from certify.semantics.ops.arithmetic import mean_rounding


def _windows(extent: Shape, attributes: dict[str, Any]) -> Windows:
    names = ("strides", "dilations", "pads", "auto_pad", "ceil_mode")
    kernel = tuple(int(k) for k in attributes["kernel_shape"])
    refuse_dilated_same(attributes.get("auto_pad", "NOTSET"), attributes.get("dilations"))
    return windows(extent, kernel, **{name: attributes[name] for name in names if name in attributes})


def window_counts(w: Windows, count_include_pad: int) -> Array:
    """By how many elements each window divides: those inside the operand, with count_include_pad inside its padding too.

    What ceil_mode adds beyond the padding never counts.
    """
    counts = np.ones(())
    for n, b, e, k, s, d, o in zip(w.extent, w.begin, w.end, w.kernel, w.strides, w.dilations, w.out, strict=True):
        at = np.arange(o)[:, None] * s + np.arange(k)[None, :] * d - b
        low, high = (-b, n + e) if count_include_pad else (0, n)
        counts = np.multiply.outer(counts, ((at >= low) & (at < high)).sum(axis=1).astype(np.float64))
    return np.asarray(counts)


def _sums(x: Any, w: Windows) -> Any:
    source = w.padded(x)
    total: Any = 0.0
    for where in w.positions():
        total = total + source[(..., *where)]
    return total


def _divisors(w: Windows, attributes: dict[str, Any]) -> Array:
    return np.maximum(window_counts(w, int(attributes.get("count_include_pad", 0))), 1.0)


def _average(x: Any, **attributes: Any) -> Any:
    w = _windows(x.shape[3:], attributes)
    return _sums(x, w) / _divisors(w, attributes)


def _average_back(a: Array, shapes: Sequence[Shape], **attributes: Any) -> Sequence[Array]:
    w = _windows(shapes[0][3:], attributes)
    shared = a / _divisors(w, attributes)
    return [np.asarray(w.gather_taps((shared for _ in range(w.taps)), a.shape[:3], a.dtype))]


def _average_extent(shapes: Sequence[Shape], **attributes: Any) -> tuple[Shape, int, int]:
    w = _windows(shapes[0][3:], attributes)
    return (*shapes[0][:3], *w.out), w.taps, w.reach


def _average_rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """A mean of as many terms as the window divides by; one bound for each such number, the largest where it is shared.

    Zeros that padding adds are added exactly, so a window with fewer terms than its divisor is covered by the divisor.
    """
    x = sizes.operands[0]
    w = _windows(x.shape[3:], attributes)
    counts = _divisors(w, attributes)
    total, largest = inflate(np.asarray(_sums(x, w)), w.taps), w.largest(x)
    nonzero = np.asarray(_sums((x > 0.0).astype(np.float64), w))
    shape = np.broadcast_shapes(total.shape, sizes.magnitude.shape)
    result = np.zeros(shape)
    for count in np.unique(counts):
        bound = mean_rounding(arithmetic, int(count), total, sizes.magnitude, largest, nonzero)
        result = np.where(counts == count, bound, result)
    return result


def _whole(x: Any, **_: Any) -> Any:
    """The mean over all spatial axes, kept with extent 1."""
    axes = tuple(range(3, x.ndim))
    return x.sum(axis=axes, keepdims=True) / max(1, math.prod(x.shape[3:]))


def _whole_back(a: Array, shapes: Sequence[Shape], **_: Any) -> Sequence[Array]:
    extent = shapes[0][3:]
    return [np.broadcast_to(a / max(1, math.prod(extent)), (*a.shape[:3], *extent))]


def _whole_extent(shapes: Sequence[Shape], **_: Any) -> tuple[Shape, int, int]:
    extent = shapes[0][3:]
    return (*shapes[0][:3], *(1,) * len(extent)), max(1, math.prod(extent)), 1


def _whole_sizes(sizes: Sizes) -> tuple[Array, Array, Array]:
    """(>= sum |x|, max |x|, how many are not zero) of each channel."""
    x = sizes.operands[0]
    axes = tuple(range(3, x.ndim))
    total = inflate(np.asarray(x.sum(axis=axes, keepdims=True)), sizes.terms)
    largest = np.asarray(x.max(axis=axes, keepdims=True, initial=0.0))
    return total, largest, np.asarray((x > 0.0).sum(axis=axes, keepdims=True), dtype=np.float64)


def _whole_rounding(arithmetic: Arithmetic, sizes: Sizes, **_: Any) -> Array:
    total, largest, nonzero = _whole_sizes(sizes)
    return mean_rounding(arithmetic, sizes.terms, total, sizes.magnitude, largest, nonzero)


def _whole_split(roundings: Roundings, sizes: Sizes, usual: bool, **_: Any) -> tuple[Array, Array]:
    total, largest, nonzero = _whole_sizes(sizes)
    return stored_mean_parts(roundings, sizes.terms, total, sizes.magnitude, largest, nonzero, usual)


def _window_sum(x: Any, **attributes: Any) -> Any:
    return _sums(x, _windows(x.shape[3:], attributes))


def _window_sum_back(a: Array, shapes: Sequence[Shape], **attributes: Any) -> Sequence[Array]:
    w = _windows(shapes[0][3:], attributes)
    return [np.asarray(w.gather_taps((a for _ in range(w.taps)), a.shape[:3], a.dtype))]


def _window_sum_rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """As many terms as a window has taps, zeros of the padding included, in any order that the profile admits."""
    x = sizes.operands[0]
    w = _windows(x.shape[3:], attributes)
    total, nonzero = inflate(np.asarray(_sums(x, w)), w.taps), np.asarray(_sums((x > 0.0).astype(np.float64), w))
    return arithmetic.sum(w.taps, total, sizes.magnitude, w.largest(x), nonzero)


register(
    *(
        Linear(
            "AveragePool", since, ("X",), _average, _average, _average_back, _average_extent, _average_rounding, adds=True, rounds="stored"
        )
        for since in (1, 7, 10, 11, 19, 22)
    ),
    *(
        Linear(
            "GlobalAveragePool", since, ("X",), _whole, _whole, _whole_back, _whole_extent, _whole_rounding, adds=True, split=_whole_split
        )
        for since in (1, 22)
    ),
    Linear(
        "WindowSum",
        1,
        ("X",),
        _window_sum,
        _window_sum,
        _window_sum_back,
        _average_extent,
        _window_sum_rounding,
        domain="certify",
        adds=True,
    ),
)
