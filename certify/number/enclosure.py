"""Enclosures: arrays of closed intervals [lo, hi] in float64, rounded outward.

Names follow IEEE 1788: `mid`, `rad`, `mag` (largest magnitude), `mig` (smallest magnitude). A point enclosure
shares one array as lo and hi. Additions and multiplications step outward only where an error-free transformation
(TwoSum, Knuth; TwoProduct, Dekker-Veltkamp) shows that the rounding was not exact, so that exact cases stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from certify.number.upward import Array, down, up

_SPLIT = 134217729.0  # 2^27 + 1, Veltkamp's constant for p = 53
_SAFE_LOW, _SAFE_HIGH = 2.0**-480, 2.0**480  # Dekker's product is exact in between


@dataclass(frozen=True, slots=True)
class Enclosure:
    """[lo, hi], elementwise; both arrays have the same shape, lo <= hi, entries may be infinite, never NaN."""

    lo: Array
    hi: Array

    @staticmethod
    def point(x: Array) -> Enclosure:
        """The thin enclosure of the exactly known array `x`."""
        x = np.asarray(x, dtype=np.float64)
        return Enclosure(x, x)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lo.shape

    @property
    def is_point(self) -> bool:
        """True if every interval is a single number."""
        return self.lo is self.hi or bool(np.array_equal(self.lo, self.hi))

    @property
    def mid(self) -> Array:
        """A float64 inside the interval, at its centre up to rounding; finite unless the interval is an infinity alone."""
        if self.lo is self.hi:
            return self.lo
        with np.errstate(invalid="ignore", over="ignore"):
            middle = 0.5 * self.lo + 0.5 * self.hi
        middle = np.where(np.isnan(middle), 0.0, middle)
        inside = np.clip(middle, np.maximum(self.lo, -np.finfo(np.float64).max), np.minimum(self.hi, np.finfo(np.float64).max))
        return np.where(self.lo == self.hi, self.lo, inside)

    @property
    def middle(self) -> Enclosure:
        """The thin enclosure of `mid`."""
        return self if self.lo is self.hi else Enclosure.point(self.mid)

    @property
    def rad(self) -> Array:
        """Upper bound of |x - mid| over x in the interval."""
        if self.lo is self.hi:
            return np.zeros_like(self.lo)
        middle = self.mid
        with np.errstate(invalid="ignore", over="ignore"):
            radius = np.maximum(self.hi - middle, middle - self.lo)
        return np.where(self.lo == self.hi, 0.0, up(radius))

    @property
    def mag(self) -> Array:
        """max |x| over the interval."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    @property
    def mig(self) -> Array:
        """min |x| over the interval."""
        return np.where((self.lo <= 0.0) & (self.hi >= 0.0), 0.0, np.minimum(np.abs(self.lo), np.abs(self.hi)))

    def widen(self, radius: Array | float | None) -> Enclosure:
        """[lo - radius, hi + radius], outward, an infinite radius giving the whole line; None widens by nothing."""
        if radius is None:
            return self
        radius = np.asarray(radius, dtype=np.float64)
        zero = radius == 0.0
        everything = radius == np.inf  # also around an infinite end, where inf - inf says nothing
        with np.errstate(over="ignore", invalid="ignore"):
            lo = np.where(zero, self.lo, np.where(everything, -np.inf, down(self.lo - radius)))
            hi = np.where(zero, self.hi, np.where(everything, np.inf, up(self.hi + radius)))
        return Enclosure(lo, hi)

    def map(self, move: Callable[[Array], Array]) -> Enclosure:
        """Apply a rearrangement of elements to both ends."""
        lo = move(self.lo)
        return Enclosure(lo, lo if self.lo is self.hi else move(self.hi))

    def reshape(self, shape: tuple[int, ...]) -> Enclosure:
        return self.map(lambda x: x.reshape(shape))

    def __getitem__(self, index: object) -> Enclosure:
        return self.map(lambda x: x[index])  # type: ignore[call-overload]


def around(middle: Array, radius: Array) -> Enclosure:
    """middle -+ radius outward; the whole line where either is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        lost = ~(np.isfinite(middle) & np.isfinite(radius))
        lo = np.where(radius == 0.0, middle, down(middle - radius))
        hi = np.where(radius == 0.0, middle, up(middle + radius))
    return Enclosure(np.where(lost, -np.inf, lo), np.where(lost, np.inf, hi))


def hull(a: Enclosure, b: Enclosure) -> Enclosure:
    """The smallest enclosure containing both."""
    return Enclosure(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi))


def hull_of(boxes: Sequence[Mapping[str, Enclosure]]) -> dict[str, Enclosure]:
    """The smallest box, by name, that holds all."""
    return {name: reduce(hull, (box[name] for box in boxes)) for name in boxes[0]}


def concatenate(parts: Sequence[Enclosure]) -> Enclosure:
    """Enclosures joined along the case axis."""
    return Enclosure(np.concatenate([part.lo for part in parts]), np.concatenate([part.hi for part in parts]))


def intersect(a: Enclosure, b: Enclosure) -> Enclosure:
    """The common part of two enclosures of the same quantity (never empty for such)."""
    lo, hi = np.maximum(a.lo, b.lo), np.minimum(a.hi, b.hi)
    return Enclosure(np.minimum(lo, hi), np.maximum(lo, hi))


def add(a: Enclosure, b: Enclosure) -> Enclosure:
    """{x + y}. inf - inf gives the whole line."""
    if a.lo is a.hi and b.lo is b.hi:
        total, residual = _two_sum(a.lo, b.lo)
        return Enclosure(_outward_sum(total, residual, -1), _outward_sum(total, residual, 1))
    return Enclosure(_outward_sum(*_two_sum(a.lo, b.lo), -1), _outward_sum(*_two_sum(a.hi, b.hi), 1))


def negative(a: Enclosure) -> Enclosure:
    """{-x}."""
    lo = -a.hi
    return Enclosure(lo, lo if a.lo is a.hi else -a.lo)


def subtract(a: Enclosure, b: Enclosure) -> Enclosure:
    """{x - y}."""
    return add(a, negative(b))


def multiply(a: Enclosure, b: Enclosure) -> Enclosure:
    """{x * y}; 0 * inf is 0, as the limit of finite products."""
    ends = [_outward_product(x, y) for x in _ends(a) for y in _ends(b)]
    return Enclosure(reduce(np.minimum, (lo for lo, _ in ends)), reduce(np.maximum, (hi for _, hi in ends)))


def _ends(a: Enclosure) -> tuple[Array, ...]:
    return (a.lo,) if a.lo is a.hi else (a.lo, a.hi)


def square(a: Enclosure) -> Enclosure:
    """{x * x}, never negative."""
    low, high = a.mig, a.mag
    return Enclosure(np.maximum(_outward_product(low, low)[0], 0.0), _outward_product(high, high)[1])


def divide(a: Enclosure, b: Enclosure) -> Enclosure:
    """{x / y}; the whole line where 0 lies in the divisor."""
    touches = (b.lo <= 0.0) & (b.hi >= 0.0)
    safe_lo, safe_hi = np.where(touches, 1.0, b.lo), np.where(touches, 1.0, b.hi)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        quotients = [(x, y, x / y) for x in (a.lo, a.hi) for y in (safe_lo, safe_hi)]
        ends = [(_exact_quotient(x, y, q), q, np.where(np.isnan(q), 0.0, q)) for x, y, q in quotients]
        lows = [np.where(exact, q, down(plain)) for exact, q, plain in ends]
        highs = [np.where(exact, q, up(plain)) for exact, q, plain in ends]
    lo = np.where(touches, -np.inf, np.minimum.reduce(lows))
    return Enclosure(lo, np.where(touches, np.inf, np.maximum.reduce(highs)))


def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """TwoSum: x + y = total + residual exactly (Knuth), where nothing overflows."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = x + y
        t = total - x
        return total, (x - (total - t)) + (y - t)


def _outward_sum(total: Array, residual: Array, sign: int) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        outward = np.nextafter(total, sign * np.inf)
    stepped = np.where(residual * sign > 0.0, outward, total)
    stepped = np.where(np.isfinite(residual), stepped, outward)
    if np.isnan(stepped).any():
        stepped = np.where(np.isnan(stepped), sign * np.inf, stepped)
    return np.asarray(stepped, dtype=np.float64)


def _two_product_residual(x: Array, y: Array, product: Array) -> Array:
    """x*y - product, exact where all magnitudes are in the safe range (Dekker 1971)."""
    x_big, y_big = _SPLIT * x, _SPLIT * y
    x_high, y_high = x_big - (x_big - x), y_big - (y_big - y)
    x_low, y_low = x - x_high, y - y_high
    return np.asarray(((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low)


def _safe(x: Array) -> npt.NDArray[np.bool_]:
    size = np.abs(x)
    return np.asarray((size == 0.0) | ((size > _SAFE_LOW) & (size < _SAFE_HIGH)))


def _outward_product(x: Array, y: Array) -> tuple[Array, Array]:
    """x y rounded down and up, itself where float64 holds it."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        product = x * y
        residual = _two_product_residual(x, y, product)
    zero = (x == 0.0) | (y == 0.0)
    product = np.where(zero, 0.0, product)
    trusted = _safe(x) & _safe(y) & _safe(product)
    lo = np.where(zero | (trusted & ~(residual < 0.0)), product, down(product))
    return lo, np.where(zero | (trusted & ~(residual > 0.0)), product, up(product))


def _exact_quotient(x: Array, y: Array, quotient: Array) -> npt.NDArray[np.bool_]:
    residual = _two_product_residual(quotient, y, x)
    return np.asarray((residual == 0.0) & _safe(x) & _safe(y) & _safe(quotient))
