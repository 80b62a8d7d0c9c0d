"""Convolutions of any number of spatial axes: Conv and ConvTranspose, as matrix products over window columns (im2col).

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.form import Extent
from certify.semantics.families.windows import Windows, windows

_BLOCK = 4_000_000  # float64 entries of window columns held at once: 32 MB


def _windows(extent: Shape, kernel: Shape, attributes: dict[str, Any]) -> Windows:
    names = ("strides", "dilations", "pads", "auto_pad")
    return windows(extent, kernel, **{name: attributes[name] for name in names if name in attributes})


def _apply(A: Any, B: Any, w: Windows, group: int) -> Any:
    """(c, N, C, *extent), (c, O, C/group, *kernel) -> (c, N, O, *out)."""
    count, channels = A.shape[:2], A.shape[2]
    inner, outer = channels // group, B.shape[1] // group
    if _is_depthwise(group, inner, outer):
        return _apply_by_tap(A, B, w, outer)
    matrix = B.reshape(B.shape[0], 1, group, outer, inner * w.taps)
    parts = []
    step = max(1, _BLOCK // max(1, count[1] * channels * w.taps * math.prod(w.out)))
    for start in range(0, count[0], step):
        columns = w.columns(A[start : start + step])
        columns = columns.reshape(*columns.shape[:2], group, inner * w.taps, math.prod(w.out))
        parts.append(np.matmul(_cases(matrix, start, step), columns))
    y = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return y.reshape(y.shape[0], y.shape[1], group * outer, *w.out)


def _cases(x: Any, start: int, step: int) -> Any:
    return x if x.shape[0] == 1 else x[start : start + step]


def _is_depthwise(group: int, inner: int, outer: int) -> bool:
    """Matrices too small for BLAS to pay."""
    return group > 1 and inner == 1 and outer <= 4


def _apply_by_tap(A: Any, B: Any, w: Windows, outer: int) -> Any:
    """One input channel a group (depthwise): no columns, one multiplication a tap."""
    rank = len(w.out)
    source = w.padded(A)[:, :, :, None]
    weights = B.reshape(B.shape[0], 1, A.shape[2], outer, w.taps, *(1,) * rank)
    y: Any = 0.0
    for t, where in enumerate(w.positions()):
        y = y + source[(..., *where)] * weights[:, :, :, :, t]
    return y.reshape(y.shape[0], y.shape[1], A.shape[2] * outer, *w.out)


def _left(a: Any, B: Any, w: Windows, group: int) -> Any:
    """The transpose of `_apply` in A: (r, N, O, *out) -> (r, N, C, *extent)."""
    inner, outer = B.shape[2], B.shape[1] // group
    if _is_depthwise(group, inner, outer):
        return _left_by_tap(a, B, w, group, outer)
    matrix = B.reshape(B.shape[0], 1, group, outer, inner * w.taps).swapaxes(-1, -2)
    rows = a.reshape(a.shape[0], a.shape[1], group, outer, math.prod(w.out))
    parts = []
    step = max(1, _BLOCK // max(1, a.shape[1] * group * inner * w.taps * math.prod(w.out)))
    for start in range(0, rows.shape[0], step):
        columns = np.matmul(_cases(matrix, start, step), rows[start : start + step])
        parts.append(w.scatter(columns.reshape(*columns.shape[:2], group * inner, w.taps, *w.out)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _left_by_tap(a: Any, B: Any, w: Windows, group: int, outer: int) -> Any:
    rank = len(w.out)
    rows = a.reshape(a.shape[0], a.shape[1], group, outer, *w.out)
    weights = B.reshape(B.shape[0], 1, group, outer, w.taps, *(1,) * rank)
    products = ((rows * weights[:, :, :, :, t]).sum(axis=3) for t in range(w.taps))
    return w.gather_taps(products, (max(a.shape[0], B.shape[0]), a.shape[1], group), rows.dtype)


def _right(a: Any, A: Any, w: Windows, group: int, shape: Shape) -> Any:
    """The transpose of `_apply` in B: sums over batch and windows; (max(r, c), O, C/group, *kernel)."""
    rows = a.reshape(a.shape[0], a.shape[1], group, -1, math.prod(w.out))
    columns = w.columns(A)
    columns = columns.reshape(*columns.shape[:2], group, -1, math.prod(w.out)).swapaxes(-1, -2)
    return np.matmul(rows, columns).sum(axis=1).reshape(max(a.shape[0], A.shape[0]), *shape[1:])


class Convolution:
    """Conv: A (N, C, *extent), B (O, C/group, *kernel), addend C (O)."""

    def apply(self, A: Any, B: Any, **attributes: Any) -> Any:
        return _apply(A, B, _windows(A.shape[3:], B.shape[3:], attributes), int(attributes.get("group", 1)))

    def left(self, a: Array, B: Array, shape: Shape, **attributes: Any) -> Array:
        return np.asarray(_left(a, B, _windows(shape[3:], B.shape[3:], attributes), int(attributes.get("group", 1))))

    def right(self, a: Array, A: Array, shape: Shape, **attributes: Any) -> Array:
        return np.asarray(_right(a, A, _windows(A.shape[3:], shape[3:], attributes), int(attributes.get("group", 1)), shape))

    def matrices(self, A: Any, B: Any, **attributes: Any) -> tuple[Any, Any, Callable[[Array], Array]]:
        """Products in the order of the kernel's own array: input channel, then tap in row-major order, padding included."""
        group, w = int(attributes.get("group", 1)), _windows(A.shape[3:], B.shape[3:], attributes)
        inner = B.shape[2] * w.taps
        left = B.reshape(B.shape[0], 1, group, B.shape[1] // group, inner)
        right = w.columns(A).reshape(A.shape[0], A.shape[1], group, inner, math.prod(w.out))
        return left, right, lambda y: y.reshape(y.shape[0], y.shape[1], B.shape[1], *w.out)

    def largest(self, A: Array, B: Array, **attributes: Any) -> Array:
        """(largest |x| in the window and the group's channels) (largest |weight| of the output channel)."""
        group = int(attributes.get("group", 1))
        w = _windows(A.shape[3:], B.shape[3:], attributes)
        channels = A.reshape(A.shape[0], A.shape[1], group, -1, *w.extent).max(axis=3, initial=0.0)
        x = w.largest(channels)[:, :, :, None]
        weights = B.reshape(B.shape[0], 1, group, B.shape[1] // group, -1).max(axis=-1, initial=0.0)
        y = x * weights.reshape(*weights.shape, *(1,) * len(w.out))
        return np.asarray(y.reshape(y.shape[0], y.shape[1], B.shape[1], *w.out))

    def extent(self, A: Shape, B: Shape, **attributes: Any) -> Extent:
        group = int(attributes.get("group", 1))
        if A[2] != B[2] * group or B[1] % group:
            raise ValueError(f"{A[2]} channels do not fit kernels {B[1:]} in {group} groups")
        w = _windows(A[3:], B[3:], attributes)
        shape = (max(A[0], B[0]), A[1], B[1], *w.out)
        return Extent(shape, B[2] * w.taps, B[1] // group * w.reach, A[1] * math.prod(w.out))

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        """A bias by channel, or an addend of the output's own shape."""
        return C if len(C) == rank else (C[0], 1, C[1], *(1,) * (rank - 3))


class TransposedConvolution:
    """ConvTranspose: A (N, C, *extent), B (C, O/group, *kernel); the transpose in its operand of the Conv with kernel B."""

    def _windows(self, extent: Shape, kernel: Shape, attributes: dict[str, Any]) -> Windows:
        """The windows of that Conv: they read the result, and there is one for each element of A.

        Raises UnsupportedOperator where padding would have to be negative.
        """
        rank = len(extent)

        def listed(name: str, default: int, length: int = rank) -> list[int]:
            given = attributes.get(name)
            return [int(v) for v in given] if given is not None and len(given) else [default] * length

        strides, dilations, extra = listed("strides", 1), listed("dilations", 1), listed("output_padding", 0)
        pads, wanted = listed("pads", 0, 2 * rank), attributes.get("output_shape")
        mode = attributes.get("auto_pad", "NOTSET")
        mode = mode.decode() if isinstance(mode, bytes) else mode
        begin, end, result = pads[:rank], pads[rank:], []
        for i, n in enumerate(extent):
            full = strides[i] * (n - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
            if (wanted is not None and len(wanted)) or mode.startswith("SAME"):
                target = int(wanted[i - rank]) if wanted is not None and len(wanted) else n * strides[i]
                total = full - target
                if total < 0:
                    raise UnsupportedOperator("an output shape beyond what the kernel reaches, on which runtimes disagree")
                begin[i] = total // 2 if mode == "SAME_UPPER" else total - total // 2
                end[i] = total - begin[i]
                result.append(target)
            else:
                begin[i], end[i] = (0, 0) if mode == "VALID" else (begin[i], end[i])
                result.append(full - begin[i] - end[i])
        return Windows(tuple(result), kernel, tuple(strides), tuple(dilations), tuple(begin), tuple(end), extent)

    def apply(self, A: Any, B: Any, **attributes: Any) -> Any:
        return _left(A, B, self._windows(A.shape[3:], B.shape[3:], attributes), int(attributes.get("group", 1)))

    def left(self, a: Array, B: Array, shape: Shape, **attributes: Any) -> Array:
        return np.asarray(_apply(a, B, self._windows(shape[3:], B.shape[3:], attributes), int(attributes.get("group", 1))))

    def right(self, a: Array, A: Array, shape: Shape, **attributes: Any) -> Array:
        return np.asarray(_right(A, a, self._windows(A.shape[3:], shape[3:], attributes), int(attributes.get("group", 1)), shape))

    def largest(self, A: Array, B: Array, **attributes: Any) -> Array:
        """(largest |x| of the group) (largest |weight| of the output channel)."""
        group = int(attributes.get("group", 1))
        w = self._windows(A.shape[3:], B.shape[3:], attributes)
        x = A.reshape(A.shape[0], A.shape[1], group, -1).max(axis=-1, initial=0.0)[..., None]
        weights = B.reshape(B.shape[0], 1, group, A.shape[2] // group, B.shape[2], -1).max(axis=(3, 5), initial=0.0)
        y = (x * weights).reshape(max(A.shape[0], B.shape[0]), A.shape[1], -1)
        return np.broadcast_to(y.reshape(*y.shape, *(1,) * len(w.extent)), (*y.shape, *w.extent))

    def extent(self, A: Shape, B: Shape, **attributes: Any) -> Extent:
        group = int(attributes.get("group", 1))
        if A[2] != B[1] or A[2] % group:
            raise ValueError(f"{A[2]} channels do not fit kernels {B[1:]} in {group} groups")
        w = self._windows(A[3:], B[3:], attributes)
        shape = (max(A[0], B[0]), A[1], B[2] * group, *w.extent)
        return Extent(shape, B[1] // group * w.reach, B[2] * w.taps, A[1] * math.prod(w.out))

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        return (C[0], 1, C[1], *(1,) * (rank - 3))


register(
    *(Bilinear("Conv", since, ("X", "W", "B"), Convolution()) for since in (1, 11, 22)),
    *(Bilinear("ConvTranspose", since, ("X", "W", "B"), TransposedConvolution()) for since in (1, 11, 22)),
)
