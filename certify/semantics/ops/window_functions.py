"""HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Sizes must be known beforehand.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, down, inflate, up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.constant import Constant

COORDINATE_ROUNDOFF = 2.0**-24  # kernels compute angles, coordinates and constants of their own in fp32 or wider
PI_ROUNDOFF = 2.0**-29  # onnxruntime's pi is 3.14159265, in fp64 too
_FLOATS = (1, 10, 11, 16)  # fp32, fp16, fp64, bf16
_BITS = 128


def _whole(x: Any) -> int:
    return int(np.ravel(x)[0])


def _is_float(datatype: int) -> None:
    if datatype not in _FLOATS:
        raise UnsupportedOperator("a result of whole numbers truncates what the formula gives")


def _nearest(exact: list[Any]) -> Enclosure:
    """Numbers (Fractions, or mpf good to 100 bits) as intervals of neighbouring float64; a point where one is a float64."""
    middle = np.array([float(v) for v in exact])
    known = np.array([isinstance(v, Fraction) and Fraction(float(v)) == v for v in exact], dtype=bool)
    return Enclosure(np.where(known, middle, down(middle)), np.where(known, middle, up(middle)))


def _cosines(coefficients: tuple[Fraction, Fraction, Fraction], *, size: Any, periodic: int = 1, output_datatype: int = 1) -> Enclosure:
    """a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N), n < size, N = size or, if not periodic, size - 1."""
    from mpmath import mp, mpf

    _is_float(output_datatype)
    count = _whole(size)
    period = count if periodic else count - 1
    if count > 0 and period == 0:
        raise UnsupportedOperator("a symmetric window of one element divides by zero")
    first, second, third = coefficients
    exact: list[Any] = []
    with mp.workprec(_BITS):
        a = [mpf(c.numerator) / c.denominator for c in coefficients]
        for n in range(count):
            turn = [mp.cospi(mpf(2 * (n * k % period)) / period) for k in (1, 2)]
            exact.append(first - second + third if n % period == 0 else a[0] - a[1] * turn[0] + a[2] * turn[1])
    return _nearest(exact)


def _cosines_born(arithmetic: Arithmetic, **keywords: Any) -> float:
    """Upper bound for every element of a sum a0 - a1 cos + a2 cos with a0 + a1 + a2 <= 1, a1 + 2 a2 <= 0.66.

    An angle is at most 2 pi (4 pi), off by pi's error and at most four roundings of an fp32 kernel; the cosine itself errs by
    `accuracy`; each coefficient is within 2^-24 (fp32, formed from others by one subtraction); at most five operations of
    results up to 1.1 in the kernel's own format.
    """
    turn = 2.0 * np.pi * (4.0 * COORDINATE_ROUNDOFF + PI_ROUNDOFF)
    relative, absolute = arithmetic.accuracy("cos")
    u = arithmetic.unit_roundoff
    off = 0.66 * (turn + relative + absolute) + 3.0 * COORDINATE_ROUNDOFF * (1.0 + relative + absolute)
    return float(inflate(np.asarray(off + 5.0 * u * (1.1 + off) * (1.0 + u) ** 5 + 5.0 * arithmetic.underflow), 30))


def _window(name: str, *coefficients: Fraction) -> Constant:
    a = (coefficients[0], coefficients[1], coefficients[2])
    return Constant(name, 17, ("size",), lambda **keywords: _cosines(a, **keywords), _cosines_born)


def _mel_bins(count: int, dft_length: int, rate: int, low: float, high: float) -> list[int]:
    """The spectrogram bin floor((dft_length + 1) hz / rate) of each of the count + 2 edges, equally spaced in mel from low on.

    Raises UnsupportedOperator where an edge lies so near to the border of two bins that kernels may differ: within 2^-20 of it
    relatively, twelve times what an fp32 kernel errs by; at 0 Hz all agree.
    """
    from mpmath import mp, mpf

    with mp.workprec(_BITS):
        first, last = (2595 * mp.log10(1 + mpf(hz) / 700) for hz in (low, high))
        step = (last - first) / (count + 2)
        bins = []
        for i in range(count + 2):
            hz = mpf(low) if i == 0 else 700 * (mp.power(10, (first + step * i) / 2595) - 1)
            place = (dft_length + 1) * hz / rate
            if place != 0 and mp.floor(place * (1 - mpf(2) ** -20)) != mp.floor(place * (1 + mpf(2) ** -20)):
                raise UnsupportedOperator("an edge of a mel band lies on the border of two bins of the spectrogram")
            bins.append(int(mp.floor(place)))
    return bins


def _mel(
    *, num_mel_bins: Any, dft_length: Any, sample_rate: Any, lower_edge_hertz: Any, upper_edge_hertz: Any, output_datatype: int = 1
) -> Enclosure:
    """Triangles over the spectrogram's bins: up from 0 at the left edge to 1 at the centre, down to 0 at the right edge."""
    _is_float(output_datatype)
    count, length, rate = _whole(num_mel_bins), _whole(dft_length), _whole(sample_rate)
    bins = _mel_bins(count, length, rate, *(float(np.ravel(v)[0]) for v in (lower_edge_hertz, upper_edge_hertz)))
    rows = length // 2 + 1
    if not all(0 <= b < rows for b in bins):
        raise UnsupportedOperator("its mel bands reach beyond the spectrogram")
    lo, hi = np.zeros((rows, count)), np.zeros((rows, count))
    for i, (left, centre, right) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        rising = [(j, Fraction(j - left, centre - left)) for j in range(left, centre + 1)] if centre > left else [(centre, Fraction(1))]
        for j, weight in (*rising, *((j, Fraction(right - j, right - centre)) for j in range(centre, right))):
            Y = _nearest([weight])
            lo[j, i], hi[j, i] = Y.lo[0], Y.hi[0]
    return Enclosure(lo, hi)


def _mel_born(arithmetic: Arithmetic, **keywords: Any) -> Array | float:
    """A quotient of two whole numbers: its one rounding is the store, or one in the kernel's format before it."""
    wide = arithmetic.accumulator != arithmetic.storage
    return arithmetic.unit_roundoff * (1.0 + 2.0**-50) + arithmetic.underflow if wide else 0.0


register(
    _window("HannWindow", Fraction(1, 2), Fraction(1, 2), Fraction(0)),
    _window("HammingWindow", Fraction(25, 46), Fraction(21, 46), Fraction(0)),
    _window("BlackmanWindow", Fraction(42, 100), Fraction(1, 2), Fraction(8, 100)),
    Constant("MelWeightMatrix", 17, ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"), _mel, _mel_born),
)
