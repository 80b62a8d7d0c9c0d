"""Products of a tensor that the kernel quantizes by its own range with a matrix of quantized weights, and what they round.

The real function is the product of the tensor and the weights that the integers stand for (docs/decisions/quantization.md). Kernels
that are covered take the range [m, M] of some elements and zero, divide M - m by 255 (scale s; one, or anything finite, where the range
is zero), round -m / s to a whole number of [0, 255] (zero point z), x / s likewise, add z and saturate; they multiply integers and
add them up exactly, convert the sum, and multiply it once by the product of both scales. One element is quantized once for all
products of one step here, by a range that holds it: which others share its range is up to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up, up
from certify.semantics.contract import Arithmetic, register
from certify.semantics.families.delivery import Loose
from certify.semantics.families.sized import Sized
from certify.semantics.families.writer import Writer

LEVELS = 255.0
_BYTE_BITS = 8  # with fewer the format holds no 255
_INT32 = 2.0**31 - 1.0


def _own_axes(x: Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def _greatest(x: Array) -> Array:
    """Of each case, at least 0."""
    return np.asarray(x.max(axis=_own_axes(x), keepdims=True, initial=0.0))


def _scale_up(arithmetic: Arithmetic, span: Array) -> Array:
    """>= the scale that is computed from a range of `span`: two roundings, each of which may underflow."""
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    return add_up(mul_up(span, (1.0 + u) ** 2, up(np.asarray(1.0 / LEVELS))), 2.0 * eta)


def quantized_by_range(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    """>= |s (q - z) - x|: s / 2 + (3 u + u^2) D + 510 eta + s eta, D = M - m over all that the operand may be; 0 where D is.

    Proof. t = (M - m) / 255, and s differs from t by at most e = (2 u + u^2) t + 2 eta (the difference, then the quotient). Let s > 0,
    a = M / s and b = -m / s, so that a + b = 255 t / s. x / s is computed within h = u |x| / s + eta and rounded to a whole number, and
    z is within 1/2 + u b + eta of min(b, 255). So before it saturates q - z is within 1/2 + h of x / s, and s h <= u D + s eta.
    Saturating moves q no farther from v = x / s + z than it was, or to a distance of at most that by which v leaves [0, 255]
    (semantics/ops/integers: `quantized`). Above, v - 255 <= a + z - 255 <= a + b - 255 + 1/2 + u b + eta; below, -v <= b - z
    <= 1/2 + u b + eta, or z = 255 and -v <= b - 255. Times s: s (a + b - 255) = 255 (t - s) <= 255 e <= (2 u + u^2) D + 510 eta, and
    s u b <= u D. Together s / 2 + (3 u + u^2) D + 510 eta + s eta, which grows with D.

    s = 0 is an underflow: then D <= u D + 256 eta, and the error is |x| <= D, whatever the integers that are multiplied by 0. A range
    that is zero after it was flushed, s = 1: |x| <= D <= eta is rounded to 0. D = 0: all x are 0, and z stands for 0.

    inf where the difference may overflow, or where the format does not hold the whole numbers up to 255 and quotients of twice that.
    """
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    span = add_up(_greatest(reach.hi), _greatest(-reach.lo))
    scale = _scale_up(arithmetic, span)
    bound = add_up(0.5 * scale, mul_up(3.0 * u + u * u, span), 2.0 * LEVELS * eta, mul_up(scale, eta))
    held = arithmetic.accumulator.precision >= _BYTE_BITS and arithmetic.accumulator.max >= 4.0 * LEVELS
    bound = np.where(held & (mul_up(1.0 + u, span) <= arithmetic.accumulator.max), bound, np.inf)
    return np.broadcast_to(np.where(span == 0.0, 0.0, bound), np.broadcast_shapes(bound.shape, np.shape(magnitude)))


@dataclass(frozen=True, slots=True)
class ByRange(Loose):
    """The identity; what is delivered are multiples of a scale that depends on all elements."""

    infinities: ClassVar[str] = "none"
    pointwise: bool = False

    def deliver(self, x: Array) -> Array:
        """In bytes and back, each case by its own range, as exact as float64."""
        low, high = -_greatest(-x), _greatest(x)
        scale = (high - low) / LEVELS
        scale = np.where(scale > 0.0, scale, 1.0)
        zero = np.rint(np.clip(-low / scale, 0.0, LEVELS))
        return np.asarray((np.clip(np.rint(x / scale) + zero, 0.0, LEVELS) - zero) * scale)


def dequantized(arithmetic: Arithmetic, sizes: Sequence[Array], magnitude: Array, *, times: float) -> Array:
    """>= |computed - y| for y = s t n, s the operand's scale, t the weights', n a sum of integers, |n| <= times; sizes: y, operand, t.

    fl(s t) = s t (1 + d) + g and fl(n) = n (1 + d'), |d|, |d'| <= u, |g| <= eta (whole numbers do not underflow). Their product is within
    (2 u + u^2) |y| + eta times (1 + u) of y, and is rounded once. A kernel that adds it to something in one fused operation
    does without this rounding, which pays for what the addition then rounds more than one of two numbers of the format would: an underflow.
    Where y can only be 0, so can n, s or t, and all of it.

    inf where n may leave int32 or its conversion overflow, and where s t may: s is at most 1 or that of a range of twice the operand.
    """
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    own = np.maximum(_scale_up(arithmetic, mul_up(2.0, _greatest(sizes[1]))), 1.0)
    off = add_up(mul_up(2.0 * u + u * u, magnitude), mul_up(eta, times, 1.0 + u))
    fits = add_up(mul_up(1.0 + u, own, sizes[2]), eta) <= arithmetic.accumulator.max
    fits &= mul_up(times, 1.0 + u) <= min(_INT32, arithmetic.accumulator.max)
    rounded = add_up(off, arithmetic.round(add_up(magnitude, off)))
    return np.where(magnitude == 0.0, 0.0, np.where(fits, rounded, np.inf))


def largest_sum(matrix: Array | None, zeros: Array | float | None, count: int) -> float:
    """The largest |sum| of `count` products of a byte minus its zero point and a column's weights minus theirs; None is unknown."""
    if matrix is None or zeros is None:
        return LEVELS * LEVELS * count
    return float(LEVELS * np.abs(matrix - zeros).sum(axis=-2 if matrix.ndim > 1 else -1).max(initial=0.0))


def real_weights(w: Writer, weights: str, zeros: str | None, scale: str) -> str:
    """(weights - zeros) scale, over the reals."""
    return w.real("Mul", weights if zeros is None else w.whole("Sub", weights, zeros), scale)


def quantized_operand(w: Writer, x: str) -> str:
    return w.put("QuantizedByRange", x, domain="certify")


def product(w: Writer, x: str, quantized: str, weights: str, scale: str, times: float) -> str:
    """x times the weights as the kernel has it; `quantized` is what x became."""
    y = w.real("MatMul", quantized, weights)
    return w.put("Dequantized", y, x, scale, domain="certify", times=times)


def shaped(w: Writer, name: str, shape: Sequence[int]) -> str:
    """A scale or zero point in the shape in which it meets the weights."""
    return w.moved("Reshape", name, shape=np.asarray(shape, dtype=np.int64), allowzero=1)


_PARTS: tuple[Any, ...] = (ByRange("QuantizedByRange", quantized_by_range), Sized("Dequantized", ("Y", "A", "scale"), dequantized))
register(*_PARTS)
