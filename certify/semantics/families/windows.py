"""Sliding windows over the last axes of an array: where convolutions and poolings read.

Source: the ONNX schemas of Conv, ConvTranspose and AveragePool, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator
from certify.semantics.families.broadcast import Shape

Slices = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Windows:
    """Window o reads tap t at position o * stride + t * dilation - begin on each axis, zero outside of the operand.

    extent: the operand's spatial extents; out: number of windows; all one entry an axis.
    """

    extent: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    begin: Shape
    end: Shape
    out: Shape

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def is_identity(self) -> bool:
        """One tap, and window o reads element o."""
        return self.taps == 1 and self.out == self.extent and not any(self.begin) and all(s == 1 for s in self.strides)

    @property
    def reach(self) -> int:
        """The most windows that one element enters: ceil(kernel / stride) an axis, or every tap if dilated."""
        each = (math.ceil(k / s) if d == 1 else k for k, s, d in zip(self.kernel, self.strides, self.dilations, strict=True))
        return math.prod(each)

    def _padded(self) -> Shape:
        """Spatial extents with everything that a window reads."""
        sizes = zip(self.extent, self.begin, self.end, self.kernel, self.strides, self.dilations, self.out, strict=True)
        return tuple(max(b + n + max(e, 0), (o - 1) * s + (k - 1) * d + 1) for n, b, e, k, s, d, o in sizes)

    def _inside(self) -> Slices:
        return tuple(slice(b, b + n) for b, n in zip(self.begin, self.extent, strict=True))

    def positions(self) -> Iterator[Slices]:
        """For each tap, in row-major order, the slices of the padded operand that all windows read with it."""
        for tap in itertools.product(*(range(k) for k in self.kernel)):
            axes = zip(tap, self.strides, self.dilations, self.out, strict=True)
            yield tuple(slice(t * d, t * d + (o - 1) * s + 1, s) if o else slice(0, 0) for t, s, d, o in axes)

    def padded(self, x: Any) -> Any:
        """`x` with zeros around its spatial axes."""
        target = self._padded()
        if target == self.extent and not any(self.begin):
            return x
        out: Any = np.zeros((*x.shape[: x.ndim - len(target)], *target), dtype=x.dtype)
        out[(..., *self._inside())] = x
        return out

    def columns(self, x: Any) -> Any:
        """(..., *extent) to (..., taps, *out)."""
        lead = x.shape[: x.ndim - len(self.extent)]
        if self.is_identity:
            return x.reshape(*lead, 1, *self.out)
        source = self.padded(x)
        result: Any = np.empty((*lead, self.taps, *self.out), dtype=x.dtype)
        spatial = (slice(None),) * len(self.out)
        for t, where in enumerate(self.positions()):
            result[(..., t, *spatial)] = source[(..., *where)]
        return result

    def scatter(self, columns: Any) -> Any:
        """The transpose of `columns`: (..., taps, *out) to (..., *extent), adding up."""
        lead = columns.shape[: columns.ndim - len(self.out) - 1]
        if self.is_identity:
            return columns.reshape(*lead, *self.extent)
        spatial = (slice(None),) * len(self.out)
        return self.gather_taps((columns[(..., t, *spatial)] for t in range(self.taps)), lead, columns.dtype)

    def gather_taps(self, parts: Iterable[Any], lead: Shape, dtype: Any) -> Any:
        """`scatter` of columns that come one tap at a time, each (*lead, *out)."""
        total: Any = np.zeros((*lead, *self._padded()), dtype=dtype)
        for where, part in zip(self.positions(), parts, strict=True):
            total[(..., *where)] += part
        return total[(..., *self._inside())]

    def largest(self, x: Array) -> Array:
        """max over each window of a non-negative array: (..., *extent) to (..., *out)."""
        source: Any = self.padded(x)
        places = self.positions()
        result = source[(..., *next(places))].copy()
        for where in places:
            np.maximum(result, source[(..., *where)], out=result)
        return np.asarray(result)


def _per_axis(given: Any, rank: int, default: int) -> Shape:
    return tuple(int(v) for v in given) if given is not None and len(given) else (default,) * rank


def windows(
    extent: Shape,
    kernel: Shape,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str | bytes = "NOTSET",
    ceil_mode: int = 0,
) -> Windows:
    """Windows as the ONNX attributes say. Raises ValueError for an unknown auto_pad and for negative pads, and
    UnsupportedOperator where not even one window fits: the standard leaves that open.

    With ceil_mode a last, partial window is dropped if it would start beyond the operand and its left padding.
    """
    rank = len(kernel)
    stride, dilation = _per_axis(strides, rank, 1), _per_axis(dilations, rank, 1)
    mode = auto_pad.decode() if isinstance(auto_pad, bytes) else auto_pad
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise ValueError(f"unknown auto_pad {mode!r}")
    given = _per_axis(pads, 2 * rank, 0) if mode in ("NOTSET", "") else (0,) * (2 * rank)
    if min(given, default=0) < 0:
        raise ValueError("negative pads")
    begin, end, out = list(given[:rank]), list(given[rank:]), []
    for i, n in enumerate(extent):
        span = (kernel[i] - 1) * dilation[i] + 1
        if mode.startswith("SAME"):
            count = -(-n // stride[i])
            total = max((count - 1) * stride[i] + span - n, 0)
            begin[i] = total // 2 if mode == "SAME_UPPER" else total - total // 2
            end[i] = total - begin[i]
        else:
            free = n + begin[i] + end[i] - span
            if free < 0:
                raise UnsupportedOperator(f"its kernel reaches over {span} elements, its padded operand has {n + begin[i] + end[i]}")
            count = (-(-free // stride[i]) if ceil_mode else free // stride[i]) + 1
            if ceil_mode and (count - 1) * stride[i] >= n + begin[i]:
                count -= 1
        out.append(max(count, 0))
    return Windows(extent, kernel, stride, dilation, tuple(begin), tuple(end), tuple(out))


def refuse_dilated_same(auto_pad: str | bytes, dilations: Sequence[int] | None) -> None:
    """Raises UnsupportedOperator for a pool padded to the SAME size under dilation: onnxruntime pads as if there were none."""
    mode = auto_pad.decode() if isinstance(auto_pad, bytes) else auto_pad
    if mode.startswith("SAME") and dilations is not None and any(int(d) != 1 for d in dilations):
        raise UnsupportedOperator(f"auto_pad {mode} with dilations, on which the standard and its runtimes disagree")
