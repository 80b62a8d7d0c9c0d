"""Col2Im: blocks of an image, laid out as columns, put back in their places; where they overlap they add up.

Source: https://onnx.ai/onnx/operators/onnx__Col2Im.html.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array, inflate
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.windows import Windows, windows


def _windows(shape: Shape, attributes: dict[str, Any]) -> tuple[Windows, int]:
    """The windows that cut the image into its columns, and the number of channels."""
    image, block = (tuple(int(n) for n in np.ravel(attributes[name])) for name in ("image_shape", "block_shape"))
    names = ("strides", "dilations", "pads")
    w = windows(image, block, **{name: attributes[name] for name in names if name in attributes})
    if len(shape) != 4 or shape[2] % w.taps or shape[3] != math.prod(w.out):
        raise UnsupportedOperator(f"columns shaped {shape[1:]} are not those of blocks {block} of an image {image}")
    return w, shape[2] // w.taps


def _columns(x: Any, w: Windows, channels: int) -> Any:
    return x.reshape(*x.shape[:2], channels, w.taps, *w.out)


def _apply(x: Any, **attributes: Any) -> Any:
    w, channels = _windows(x.shape, attributes)
    return w.scatter(_columns(x, w, channels))


def _back(a: Array, shapes: Sequence[Shape], **attributes: Any) -> Sequence[Array]:
    w, _ = _windows(shapes[0], attributes)
    return [np.asarray(w.columns(a)).reshape(a.shape[0], *shapes[0][1:])]


def _extent(shapes: Sequence[Shape], **attributes: Any) -> tuple[Shape, int, int]:
    w, channels = _windows(shapes[0], attributes)
    return (*shapes[0][:2], channels, *w.extent), w.reach, 1


def _least(quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
    """What divides every column divides their sums."""
    return float(np.min(quantum[0], initial=2.0**300))


def _rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """The larger of: sums kept in the accumulator and stored once; every partial sum stored in the image and read back.

    Second case: at most n - 1 additions of partial sums up to T (1 + 4u)^n <= T e^(4nu), T the sum of magnitudes, u the storage's.
    """
    x, n = sizes.operands[0], sizes.terms
    w, channels = _windows(x.shape, attributes)
    total = inflate(np.asarray(_apply(x, **attributes)), n)
    count = np.asarray(_apply((x > 0.0).astype(np.float64), **attributes))
    largest = np.broadcast_to(_columns(x, w, channels).max(axis=tuple(range(3, 4 + len(w.out))), initial=0.0), (*x.shape[:2], channels))
    largest = largest.reshape(*largest.shape, *(1,) * len(w.extent))
    once = arithmetic.sum(n, total, sizes.magnitude, largest, count)
    if n <= 1:
        return once
    with np.errstate(over="ignore"):
        growth = np.exp(4.0 * n * arithmetic.storage.unit_roundoff)
        each = arithmetic.round(inflate(total * growth, 8), _least(sizes.quantum))
        return np.maximum(once, inflate((n - 1) * each, 2))


register(
    Linear(
        "Col2Im",
        18,
        ("input", "image_shape", "block_shape"),
        _apply,
        _apply,
        _back,
        _extent,
        _rounding,
        divisor=_least,
        static=frozenset({"image_shape", "block_shape"}),
    )
)
