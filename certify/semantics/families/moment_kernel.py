"""Errors of kernels that compute means and second moments, in whole and in two parts: worst case, and roundings of mean zero.

In two parts (bias, sigma): the error is within bias of a sum of roundings, each of mean zero given those before it, whose largest sizes
have squares that add up to at most sigma^2 (Rule.fluctuation). A mean beside a variance is one computation with it, of which a rounding
may reach both: (a + b)^2 <= 2 a^2 + 2 b^2, so that each has sqrt(2) times its own sigma.
"""

from __future__ import annotations

import math

import numpy as np

from certify.number.enclosure import Enclosure, subtract
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, down, inflate, mul_up, sum_up, up
from certify.semantics.contract import Arithmetic, Roundings
from certify.semantics.families.welford import running_mean, running_mean_parts, running_squares, running_squares_parts

SHARED = math.sqrt(2.0) * (1.0 + 2.0**-50)
Parts = tuple[Array, Array]


def mean_enclosure(X: Enclosure) -> Enclosure:
    """The mean along the last axis, which stays with extent 1: float64 sums err by at most (n - 1) u sum |x|."""
    n = X.shape[-1]
    if n == 1:
        return X

    def end(x: Array, sign: int) -> Array:
        outward = up if sign > 0 else down
        with np.errstate(over="ignore", invalid="ignore"):
            off = mul_up(float(n), UNIT_ROUNDOFF, sum_up(np.abs(x), axis=-1, keepdims=True))
            mean = outward(outward(x.sum(axis=-1, keepdims=True) + sign * off) / n)
        return np.where(off == 0.0, 0.0, np.where(np.isnan(mean), sign * np.inf, mean))

    return Enclosure(end(X.lo, -1), end(X.hi, 1))


class MomentKernel:
    """Errors of kernels that compute second moments of any x in `wide`, groups along the last axis.

    A mean is a sum divided by n or multiplied by fl(1/n): the sum's error / n, u relative for 1/n, one operation.
    """

    def __init__(self, wide: Enclosure, arithmetic: Arithmetic) -> None:
        self.wide, self.arithmetic, self.n = wide, arithmetic, max(wide.shape[-1], 1)
        mean = mean_enclosure(wide)
        self.mean = mean.mag
        size = sum_up(wide.mag, axis=-1, keepdims=True)
        total = np.minimum(size, mul_up(float(self.n), self.mean))
        self.worst_sum = arithmetic.sum(self.n, size, total, self._largest(wide.mag))
        self.mean_off = self._average(total, self.worst_sum)
        self.distance = np.minimum(subtract(wide, mean).mag, np.inf)

    def _largest(self, x: Array) -> Array:
        return np.asarray(np.max(x, axis=-1, keepdims=True, initial=0.0))

    def _average(self, total: Array, off: Array) -> Array:
        """Error of a mean whose sum is at most `total` and off by `off`."""
        inverse = float(up(np.asarray(1.0 / self.n)))
        size = mul_up(inverse, add_up(total, off))
        scaled = mul_up(self.arithmetic.unit_roundoff, size)
        return add_up(mul_up(inverse, off), scaled, self.arithmetic.round(add_up(size, scaled)))

    def mean_square(self, most: Array) -> Array:
        """mean(x^2), a dot product; `most` >= its value."""
        squares = mul_up(self.wide.mag, self.wide.mag)
        size = sum_up(squares, axis=-1, keepdims=True)
        return self._average(size, self.arithmetic.dot(self.n, size, size, self._largest(squares)))

    def centred(self, most: Array) -> Array:
        """d_i = fl(x_i - m), m off by e: d_i = (x_i - mean) - e + (at most h_i), then mean(d^2).

        sum ((x_i - mean) - e)^2 = sum (x_i - mean)^2 + n e^2, since deviations from the mean add up to 0; the h_i add
        at most sum (2 |x_i - mean - e| h_i + h_i^2).
        """
        e = self.mean_off
        reach = add_up(self.distance, e)
        h = self.arithmetic.round(reach)
        moved = sum_up(add_up(mul_up(2.0, reach, h), mul_up(h, h)), axis=-1, keepdims=True)
        moved = add_up(moved, mul_up(float(self.n), e, e))
        squares = mul_up(add_up(reach, h), add_up(reach, h))
        size = sum_up(squares, axis=-1, keepdims=True)
        total = np.minimum(size, add_up(mul_up(float(self.n), most), moved))
        off = self.arithmetic.dot(self.n, size, total, self._largest(squares))
        inverse = float(up(np.asarray(1.0 / self.n)))
        return add_up(mul_up(inverse, moved), self._average(total, off))

    def running(self, most: Array) -> Array:
        """Welford's, n V then divided as a sum is. The V of a part is at most (max x - min x)^2 / 4, and n V / 2 of the whole."""
        size, largest, total, deviation, reach, middle, _ = self._running(most)
        mean_off = running_mean(self.arithmetic, self.n, size, deviation, largest)
        return self._average(total, running_squares(self.arithmetic, self.n, middle, total, mean_off, largest, reach))

    def _running(self, most: Array) -> tuple[Array, ...]:
        """(S, max |x|, n V, sqrt V of any part, max x - min x, sqrt(T S), T), upper bounds, in the words of families/welford."""
        size, largest = sum_up(self.wide.mag, axis=-1, keepdims=True), self._largest(self.wide.mag)
        ends = np.max(self.wide.hi, axis=-1, keepdims=True, initial=-np.inf), np.min(self.wide.lo, axis=-1, keepdims=True, initial=np.inf)
        total = mul_up(float(self.n), most)
        with np.errstate(over="ignore", invalid="ignore"):
            reach = np.where(ends[0] >= ends[1], up(ends[0] - ends[1]), 0.0)
            deviation = inflate(np.minimum(0.5 * reach, np.sqrt(0.5 * total)), 4)
        upper, lower = (sum_up(np.maximum(end, 0.0), axis=-1, keepdims=True) for end in (self.wide.hi, -self.wide.lo))
        subset = np.minimum(size, np.maximum(upper, lower))
        with np.errstate(over="ignore", invalid="ignore"):
            middle = np.minimum(size, inflate(np.sqrt(subset) * np.sqrt(size), 4))
        return size, largest, total, deviation, reach, middle, subset

    def uncentred(self, most: Array) -> Array:
        """fl(E - fl(m^2)), E = mean(x^2): their errors, and one subtraction."""
        e = self.mean_off
        square_off = mul_up(e, add_up(mul_up(2.0, self.mean), e))
        whole = add_up(self.mean, e)
        square_off = add_up(square_off, self.arithmetic.round(mul_up(whole, whole)))
        before = add_up(self.mean_square(most), square_off)
        return add_up(before, self.arithmetic.round(add_up(most, before)))


class MomentParts(MomentKernel):
    """The same kernels' errors in two parts. usual: with the deviations that sums usually have in the place of sigma."""

    def __init__(self, wide: Enclosure, roundings: Roundings, usual: bool = False) -> None:
        self.roundings, self._usual = roundings, usual
        super().__init__(wide, roundings)
        sigma = self._noted()
        size = sum_up(wide.mag, axis=-1, keepdims=True)
        total = np.minimum(size, mul_up(float(self.n), self.mean))
        self.mean_parts = mean_parts(roundings, self.n, total, self.worst_sum, sigma)

    def _noted(self) -> Array:
        """Of the sum asked for last."""
        noted = self.roundings.usual if self._usual else self.roundings.deviation
        return np.full((), np.inf) if noted is None else noted

    def mean_square_parts(self) -> Parts:
        """The dot product's own roundings, then those of a mean."""
        squares = mul_up(self.wide.mag, self.wide.mag)
        size = sum_up(squares, axis=-1, keepdims=True)
        off = self.roundings.dot(self.n, size, size, self._largest(squares))
        return _shared(mean_parts(self.roundings, self.n, size, off, self._noted()))

    def centred_parts(self, most: Array) -> Parts:
        """As `centred`: n e^2 and h_i^2 are worst case, 2 (x_i - mean - e) h_i and what the dot product does are roundings."""
        e = self.mean_off
        reach = add_up(self.distance, e)
        h = self.roundings.round(reach)
        once = mul_up(2.0, reach, h)
        again = add_up(sum_up(mul_up(h, h), axis=-1, keepdims=True), mul_up(float(self.n), e, e))
        moved = add_up(sum_up(once, axis=-1, keepdims=True), again)
        squares = mul_up(add_up(reach, h), add_up(reach, h))
        size = sum_up(squares, axis=-1, keepdims=True)
        total = np.minimum(size, add_up(mul_up(float(self.n), most), moved))
        off = self.roundings.dot(self.n, size, total, self._largest(squares))
        bias, sigma = mean_parts(self.roundings, self.n, total, off, add_up(self._noted(), root_of_squares(once)))
        return _shared((add_up(bias, mul_up(1.0 / self.n, 1.0 + 2.0**-50, again)), sigma))

    def uncentred_parts(self, most: Array) -> Parts:
        """m^2, m = mean + e, is off by 2 mean e + e^2, of which e^2 is worst case; three roundings follow."""
        e, (mean_bias, mean_sigma) = self.mean_off, self.mean_parts
        twice = mul_up(2.0, self.mean)
        whole = add_up(self.mean, e)
        squared = self.roundings.round(mul_up(whole, whole))
        bias, sigma = self.mean_square_parts()
        bias = add_up(bias, mul_up(twice, mean_bias), mul_up(e, e))
        before = add_up(self.mean_square(most), mul_up(e, add_up(twice, e)), squared)
        last = self.roundings.round(add_up(most, before))
        return bias, add_up(sigma, mul_up(SHARED, add_up(mul_up(twice, mean_sigma), squared, last)))

    def running_parts(self, most: Array) -> Parts:
        """Welford's (families/welford), then a mean's."""
        size, largest, total, deviation, reach, middle, subset = self._running(most)
        mean_off = running_mean(self.roundings, self.n, size, deviation, largest)
        off = running_squares(self.roundings, self.n, middle, total, mean_off, largest, reach)
        bias, sigma = running_squares_parts(self.roundings, self.n, (middle, subset), total, mean_off, largest, reach)
        average_bias, average_sigma = mean_parts(self.roundings, self.n, total, off, sigma)
        return _shared((add_up(average_bias, mul_up(1.0 / self.n, 1.0 + 2.0**-50, bias)), average_sigma))


def mean_parts(roundings: Roundings, n: int, total: Array, off: Array, sigma: Array) -> Parts:
    """Of a mean whose sum is at most `total`, off by `off` at most, sigma of it roundings: divided by n in one rounding, or multiplied by
    fl(1/n), which is off by u relative in every mean alike."""
    inverse = float(up(np.asarray(1.0 / n)))
    size = mul_up(inverse, add_up(total, off))
    factor = mul_up(roundings.unit_roundoff, size)
    operation = roundings.round(add_up(size, factor))
    return factor, add_up(mul_up(inverse, 1.0 + roundings.unit_roundoff, sigma), operation)


def stored_mean_parts(
    roundings: Roundings, n: int, total: Array, magnitude: Array, largest: Array, nonzero: Array | None, usual: bool
) -> Parts:
    """Of a mean of n terms, `total` >= sum |t_i|, `magnitude` >= |mean|, whose sum is not stored and which is."""
    inner = roundings.inner()
    reached = np.minimum(total, mul_up(float(n), magnitude))
    off = inner.sum(n, total, reached, largest, nonzero)
    noted = inner.usual if usual else inner.deviation
    if noted is None:
        noted = np.full((), np.inf)
    bias, sigma = mean_parts(inner, n, reached, off, noted)
    return bias, add_up(sigma, roundings.store(add_up(mul_up(float(up(np.asarray(1.0 / n))), add_up(reached, off)), bias, sigma)))


def running_parts_of_mean(roundings: Roundings, n: int, size: Array, deviation: Array, largest: Array, magnitude: Array) -> Parts:
    """Of a mean by Welford's update, then stored."""
    bias, sigma = running_mean_parts(roundings, n, size, deviation, largest)
    off = running_mean(roundings, n, size, deviation, largest)
    return bias, add_up(sigma, roundings.round(add_up(magnitude, off)))


def root_of_squares(x: Array) -> Array:
    """Upper bound of the root of the sum of squares along the last axis, which stays."""
    with np.errstate(over="ignore"):
        return np.asarray(
            inflate(np.sqrt(sum_up(x * x, axis=-1, keepdims=True) + np.where(x.any(axis=-1, keepdims=True), 2.0**-1000, 0.0)), 4)
        )


def _shared(parts: Parts) -> Parts:
    return parts[0], mul_up(SHARED, parts[1])
