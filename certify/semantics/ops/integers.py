"""What integer tensors hold, where the real function behind them need not be whole: rounding, saturation, range.

The real function of a quantizing operator is the unquantized one (docs/decisions/quantization.md); these steps deliver it.

Quantized: to the nearest whole number in [least, greatest].
Saturated: rounded into a narrow float format, the numbers of which end at least and greatest.
Ranged:    a whole number that the kernel computes exactly, as long as its type holds it.
Nonzero:   a number that the kernel replaces by another one should it be zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up, up
from certify.semantics.contract import Arithmetic, register
from certify.semantics.families.delivery import Clipped, Delivery, Whole, stored

INTEGERS = {
    2: (0.0, 255.0),
    3: (-128.0, 127.0),
    4: (0.0, 65535.0),
    5: (-32768.0, 32767.0),
    6: (-(2.0**31), 2.0**31 - 1.0),
    21: (0.0, 15.0),
    22: (-8.0, 7.0),
    25: (0.0, 3.0),
    26: (-2.0, 1.0),
}
"""Least and greatest number of the ONNX integer types (TensorProto.DataType) into which one quantizes, and of int32."""

FLOATS = {17: (-448.0, 448.0), 18: (-240.0, 240.0), 19: (-57344.0, 57344.0), 20: (-57344.0, 57344.0)}
"""Likewise of float8e4m3fn, float8e4m3fnuz, float8e5m2 and float8e5m2fnuz."""

ENDING = {23: (-6.0, 6.0), 27: (-7.5, 7.5), 28: (-28.0, 28.0)}
"""Likewise of float4e2m1, float6e2m3 and float6e3m2, which have neither infinity nor NaN: one always saturates."""

FLOATS |= ENDING

_TWICE = 0.75  # 1/2 of the division by 2^k, and half of that from the product before, which is rounded to a k-th bit


def limits(element: int) -> dict[str, float]:
    """The range of a type as attributes of the steps here."""
    least, greatest = (INTEGERS | FLOATS)[element]
    return {"least": least, "greatest": greatest}


def quantized(
    arithmetic: Arithmetic,
    reach: Enclosure,
    magnitude: Array,
    quantum: Sequence[Array | float],
    *,
    least: float,
    greatest: float,
    fixed: int = 0,
) -> Array:
    """>= |clip(n) - v|, n a whole number nearest to v (ties either way), v in `reach`: max(|n - v|, v - greatest, least - v).

    Proof. Within the range clip(n) = n. If n > greatest then clip(n) = greatest <= n - 1 < v, since v >= n - 1/2, and the error is
    v - greatest; below likewise. |n - v| is convex between the two halves around n, so its largest value is at an end of
    `reach` if both ends round to the same n, and at most 1/2 anyway. Whole v cost nothing but what saturates.
    v = t + z, z the zero point, a whole number: rounding t and adding z gives the same.

    fixed = 1 also covers kernels that multiply by a fixed-point number of 31 bits, within 2^-31 of the real multiplier, and round
    the product to nearest twice: to some bit, then to whole numbers (gemmlowp). |t| <= |v| + |z| with z in the range.
    """
    cell = np.maximum(np.abs(reach.lo - np.rint(reach.lo)), np.abs(reach.hi - np.rint(reach.hi)))
    cell = np.where(np.rint(reach.lo) == np.rint(reach.hi), cell, 0.5)
    q = np.asarray(quantum[0], dtype=np.float64)
    if q.any():
        cell = np.where(q >= 1.0, 0.0, cell)
    if fixed:
        cell = add_up(_TWICE, mul_up(2.0**-31, add_up(reach.mag, max(-least, greatest))))
    return _clipped(cell, reach, least, greatest)


def _clipped(error: Array, reach: Enclosure, least: float, greatest: float) -> Array:
    """The larger of `error` and of how far `reach` leaves the range."""
    above = np.where(reach.hi > greatest, up(reach.hi - greatest), 0.0)
    below = np.where(reach.lo < least, up(least - reach.lo), 0.0)
    return np.where(np.isfinite(reach.lo) & np.isfinite(reach.hi), np.maximum(np.maximum(error, above), below), np.inf)


def saturated(
    arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float], *, least: float, greatest: float
) -> Array:
    """One rounding into a format whose numbers span [least, greatest], or what lies beyond: those v are delivered as the end itself."""
    return _clipped(stored(arithmetic, reach, np.minimum(magnitude, greatest), quantum), reach, least, greatest)


def ranged(
    arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float], *, least: float, greatest: float
) -> Array:
    """0; inf where the result may not fit its type, or leaves the integers that float64 adds exactly."""
    fits = (reach.lo >= max(least, -(2.0**53))) & (reach.hi <= min(greatest, 2.0**53))
    return np.where(fits, 0.0, np.inf)


def nonzero(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    """0; inf where the operand may be zero, for which the standard's formula divides by zero and kernels go ways of their own."""
    return np.where((reach.lo <= 0.0) & (reach.hi >= 0.0), np.inf, 0.0)


register(Whole("Quantized", quantized), Clipped("Saturated", saturated), Whole("Ranged", ranged), Delivery("Nonzero", nonzero))
