"""One correct rounding of float64 values into any format, and the largest error that one rounding can make.

Notation: ufp(m) = 2^floor(log2 |m|) is the unit in the first place (Rump), u = 2^-p.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from certify.number.formats import FORMATS, Format
from certify.number.upward import Array

_MODES = ("nearest", "zero")
_BINARY32 = FORMATS["fp32"]


def round_to(x: npt.ArrayLike, format: Format, mode: str = "nearest") -> Array:
    """The float64 array `x` rounded once into `format`, as float64.

    mode: "nearest" (ties to even) or "zero" (truncation). NaN, infinities and signed zeros pass as IEEE 754 says; a
    finite result beyond the largest number becomes what `format.overflow` says (toward zero: the largest number).
    Where subnormals are flushed, results below the smallest normal number (after rounding) become a signed zero.
    Raises ValueError on another mode.

    Why one rounding: x = s 2^q exactly, where 2^q is the format's spacing at x; scaling by a power of two is exact
    there, so that rint or trunc is the only rounding.
    """
    if mode not in _MODES:
        raise ValueError(f"unknown rounding mode {mode!r}; known: nearest, zero")
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if format == _BINARY32 and mode == "nearest":  # the processor's own conversion
            return np.asarray(x.astype(np.float32), dtype=np.float64)
        _, exponent = np.frexp(x)
        lowest = format.emin if format.subnormals else -1074
        spacing = np.maximum(exponent - 1, lowest) - (format.precision - 1)
        integer = np.ldexp(x, -spacing)
        integer = np.rint(integer) if mode == "nearest" else np.trunc(integer)
        rounded = np.asarray(np.ldexp(integer, spacing), dtype=np.float64)
    rounded = np.where(np.isfinite(x), rounded, x)
    if not format.subnormals:
        rounded = np.where(np.abs(rounded) < format.smallest_normal, np.copysign(0.0, x), rounded)
    return _overflow(rounded, x, format, mode)


def disturb_randomly(x: Array, format: Format, draw: np.random.Generator) -> Array:
    """The float64 array `x`, each element that is no number of `format` moved by at most half an ulp, uniformly: what rounding to nearest
    may do, on average as much (Parker 1997, Monte Carlo arithmetic). Overflow as in `round_to`.
    """
    nearest = round_to(x, format)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = x + ulp(np.minimum(np.abs(x), format.max), format) * (draw.random(x.shape) - 0.5)
    return np.where((nearest == x) | ~np.isfinite(nearest), nearest, moved)


def _overflow(rounded: Array, x: Array, format: Format, mode: str) -> Array:
    beyond = np.abs(rounded) > format.max
    if not beyond.any():
        return rounded
    edge = format.max if format.overflow == "saturate" else np.inf if format.overflow == "inf" else np.nan
    limit = np.where(np.isfinite(x), format.max, edge) if mode == "zero" else np.full_like(x, edge)
    return np.where(beyond, np.copysign(limit, x), rounded)


def ufp(m: npt.ArrayLike) -> Array:
    """2^floor(log2 |m|), exactly; 0 at 0, inf at inf."""
    m = np.abs(np.asarray(m, dtype=np.float64))
    _, exponent = np.frexp(m)
    with np.errstate(under="ignore"):
        power = np.ldexp(np.where(m > 0.0, 1.0, 0.0), np.where(np.isfinite(m), exponent - 1, 0))
    return np.where(np.isfinite(m), power, m)


def ulp(m: npt.ArrayLike, format: Format) -> Array:
    """The spacing of the format's numbers in the binade of `m` (in [ufp m, 2 ufp m)); inf where |m| exceeds the largest number.

    Exact: no spacing of a format lies below float64's own 2^-1074 once clipped to the smallest subnormal.
    """
    m = np.abs(np.asarray(m, dtype=np.float64))
    with np.errstate(invalid="ignore"):
        spacing = np.maximum(2.0 * format.unit_roundoff * ufp(m), format.smallest_subnormal)
    return np.where(m > format.max, np.inf, spacing)


def half_ulp(m: npt.ArrayLike, format: Format) -> Array:
    """The largest error of one rounding to nearest of a value v, |v| <= m: max(u f/2, min(m - f, u f), eta), f = ufp(m).

    Inf where the result may overflow: to nearest, only values of at least the largest number and half an ulp do (IEEE
    754-2019, 4.3.1); below that they round to the largest number, max, with |v| - max < u ufp(max). m >= 0, not NaN.

    Proof. If v is in the subnormal range the error is at most eta. Otherwise: for |v| < f the spacing is at most
    2u f/2, and the error at most half of it, u f/2. For f <= |v| <= m it is at most u f; and f being a number of the
    format, the nearest number is no farther from |v| than f is: at most m - f. At m = 2^k, f = m and u m/2 remains.
    Every float64 operation here is exact (m - f by Sterbenz' lemma; u f is a power of two), but for u f below
    float64's 2^-1074, which eta covers.
    """
    return _largest_error(m, format, format.unit_roundoff, format.eta, _overflow_threshold(format))


def addition_error(m: npt.ArrayLike, format: Format) -> Array:
    """`half_ulp` for a sum or difference of two numbers of the format: without eta (flushing excepted: add it apart).

    Proof. Both operands are multiples of the smallest subnormal, hence so is the sum; below twice the smallest normal
    number all such multiples are numbers of the format, and nothing is rounded.
    """
    m = np.asarray(m, dtype=np.float64)
    return np.where(
        m <= 2.0 * format.smallest_normal, 0.0, _largest_error(m, format, format.unit_roundoff, 0.0, _overflow_threshold(format))
    )


def full_ulp(m: npt.ArrayLike, format: Format) -> Array:
    """The same for truncation toward zero: max(u f, min(m - f, 2u f), smallest positive number), f = ufp(m).

    Proof. As for `half_ulp`, with the whole spacing in the place of its half; a truncated |v| >= f stays >= f. In the
    subnormal range the spacing is the smallest subnormal; flushed, everything below the smallest normal is lost.
    """
    return _largest_error(m, format, 2.0 * format.unit_roundoff, format.smallest_positive, format.max)


def rounding_error(m: npt.ArrayLike, format: Format, mode: str) -> Array:
    """`half_ulp` to nearest, `full_ulp` toward zero."""
    return half_ulp(m, format) if mode == "nearest" else full_ulp(m, format)


def _overflow_threshold(format: Format) -> float:
    """The largest float64 that surely rounds to a finite number, to nearest (ties to even: the threshold itself may not)."""
    with np.errstate(over="ignore"):
        edge = np.float64(format.max) + format.unit_roundoff * float(ufp(format.max))
    return float(np.nextafter(edge, 0.0)) if np.isfinite(edge) and edge > format.max else format.max


def _largest_error(m: npt.ArrayLike, format: Format, unit: float, underflow: float, threshold: float) -> Array:
    m = np.asarray(m, dtype=np.float64)
    if m.size and not (m >= 0.0).all():
        raise ValueError("a magnitude is a non-negative number")
    first = ufp(np.minimum(m, format.max))
    relative = np.maximum(0.5 * unit * first, np.minimum(np.minimum(m, threshold) - first, unit * first))
    bound = np.where(m == 0.0, 0.0, np.maximum(relative, underflow))
    return np.where(m > threshold, np.inf, bound)
