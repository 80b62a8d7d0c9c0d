"""LRN: x / (bias + alpha / size * (sum of squares over neighbouring channels))^beta.

Source: https://onnx.ai/onnx/operators/onnx__LRN.html. Kernels either add up each window by itself, or move it along the channels,
adding the square that enters and subtracting the one that leaves (as Caffe did, and onnxruntime does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.pointwise import Pointwise
from certify.semantics.families.windows import Windows, windows
from certify.semantics.ops.elementary import of_power, power

Expanded = tuple[list[Primitive], dict[str, Array]]


def _channels(channels: int, size: int) -> Windows:
    before = (size - 1) // 2
    return windows((channels,), (size,), pads=(before, size - 1 - before))


def _sums(x: Any, size: int) -> Any:
    """Over `size` neighbours along array axis 2."""
    w = _channels(x.shape[2], size)
    source = w.padded(np.moveaxis(x, 2, -1))
    total: Any = 0.0
    for (where,) in w.positions():
        total = total + source[..., where]
    return np.moveaxis(total, -1, 2)


def _scale(squares: Any, bias: Any, *, alpha: float, size: int) -> Any:
    return _sums(squares, size) * alpha / size + bias.reshape(bias.shape[0], *(1,) * (squares.ndim - 1))


def _absolute(squares: Array, bias: Array, *, alpha: float, size: int) -> Array:
    return np.asarray(_scale(squares, bias, alpha=abs(alpha), size=size))


def _back(a: Array, shapes: Sequence[Shape], *, alpha: float, size: int) -> Sequence[Array]:
    w = _channels(shapes[0][2], size)
    moved = np.moveaxis(a, 2, -1) * alpha / size
    spread = w.gather_taps((moved for _ in range(size)), moved.shape[:-1], a.dtype)
    return [np.moveaxis(np.asarray(spread), -1, 2), a.reshape(a.shape[0], -1).sum(axis=1)]


def _extent(shapes: Sequence[Shape], *, alpha: float, size: int) -> tuple[Shape, int, int]:
    elements = int(np.prod(shapes[0][1:], dtype=np.int64))
    return shapes[0], size + 3, max(size, elements)


def _rounding(arithmetic: Arithmetic, sizes: Sizes, *, alpha: float, size: int) -> Array:
    """Any window's sum by itself in any order, or moved along the channels; squares are scaled before or after they are added.

    M >= every exact bias + |alpha| / size sum over a window and its neighbour: sums on the way are at most M. fl(alpha / size) and
    each product with it are factors (1 + t), |t| <= u: together (1 + u)^2 - 1 of M. Then an accumulation of at most
    k = 2 C + 2 size + 2 additions and subtractions (a moved window; a single one has fewer), where a rounding errs by at most u times
    the computed sum: e_(j+1) <= e_j + u (M' + e_j), so e_k <= M' ((1 + u)^k - 1), M' = M (1 + u)^2. Underflow: eta for each
    product or scaling, of which an accumulation has no more than k. The store is one more rounding.
    """
    squares, bias = sizes.operands
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    k = 2 * squares.shape[2] + 2 * size + 2
    window = inflate(_absolute(squares, bias, alpha=alpha, size=size), size + 4)
    entering = mul_up(abs(alpha) / size * (1.0 + 2.0**-50), squares.max(axis=2, keepdims=True, initial=0.0))
    M = add_up(window.max(axis=2, keepdims=True, initial=0.0), entering)
    with np.errstate(over="ignore", invalid="ignore"):
        grown = inflate(np.asarray(np.expm1((k + 3) * np.log1p(u))), 8)
    before = add_up(mul_up(grown, M), mul_up(eta * k, add_up(1.0, grown, abs(alpha) + squares.max(axis=2, keepdims=True, initial=0.0))))
    before = np.broadcast_to(before, sizes.magnitude.shape)
    lost = add_up(M, before) > arithmetic.accumulator.max
    return np.where(lost, np.inf, add_up(before, arithmetic.round(add_up(sizes.magnitude, before))))


def born_inverse(arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, exponent: float) -> Array:
    """v = s^-beta, to be multiplied by; or P = s^beta to be divided by, whose error counts as one of 1 / P.

    With P^ = P (1 + t) + a, |t| <= e: |1 / P^ - v| <= v (e + a v) / (1 - e - a v). The exponent is stored first: off by at most
    u beta, which moves s^beta by a factor exp(u beta |ln s|). inf where P may leave the range of the kernel's format.
    """
    e, a = arithmetic.accuracy(kernel)
    u, largest = arithmetic.unit_roundoff, arithmetic.accumulator.max
    with np.errstate(all="ignore"):
        logarithm = np.maximum(np.abs(np.log(reach.lo)), np.abs(np.log(reach.hi)))
        moved = inflate(np.asarray(np.expm1(u * abs(exponent) * logarithm)), 16)
        relative = add_up(e * (1.0 + moved), moved, mul_up(a, magnitude))
        least = np.minimum(np.power(reach.lo, exponent), np.power(reach.hi, exponent))
        usable = (reach.lo > 0.0) & (relative < 0.5) & (least * largest > 1.0001) & (magnitude < largest)
        off = mul_up(magnitude, inflate(relative / (1.0 - np.minimum(relative, 0.5)), 4))
    off = np.where(usable, off, np.inf)
    return np.where(usable, add_up(off, arithmetic.round(add_up(magnitude, off))), np.inf)


def lrn(e: Expansion, *, size: int, alpha: float = float(np.float32(1e-4)), beta: float = 0.75, bias: float = 1.0) -> Expanded:
    """Raises UnsupportedOperator for an operand without channels and for a size below 1."""
    if len(e.shapes[0]) < 2 or size < 1:
        raise UnsupportedOperator(f"size {size}, operand of rank {len(e.shapes[0])}")
    x, y = e.operands[0], e.outputs[0] or e.name("output")
    scaled = {"alpha": float(alpha), "size": int(size)}
    return [
        Primitive("Mul", (x, x), e.name("squares")),
        Primitive("LocalScale", (e.name("squares"), e.name("bias")), e.name("scale"), scaled, domain="certify"),
        Primitive("InversePower", (e.name("scale"),), e.name("factor"), {"exponent": -float(beta)}, domain="certify"),
        Primitive("Mul", (x, e.name("factor")), y, inner=False),
    ], {e.name("bias"): np.asarray(bias, dtype=np.float64)}


register(
    Linear("LocalScale", 1, ("squares", "bias"), _scale, _absolute, _back, _extent, _rounding, domain="certify"),
    Pointwise("InversePower", 1, power, of_power, kernel="pow", born=born_inverse, domain="certify"),
    *(Composite("LRN", since, ("X",), lrn) for since in (1, 13)),
)
