"""Errors of running means and variances: Welford's update, element by element, and lanes of it merged as Chan, Golub & LeVeque do.

Sets A, B of n_a, n_b elements, n = n_a + n_b, n_b <= 2 n_a (B one element: Welford), w = n_a n_b / n, have means and sums of squares

    m = m_a + d n_b / n,    M = M_a + M_b + w d^2,    d = m_b - m_a,    or (x - m_a) (x - m) for w d^2.

Lanes are chains of any length, merged in at most h = ceil(log2 n) levels. Source: T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for
computing the sample variance, The American Statistician 37 (1983). Of the exact values sum w d^2 = n V, V the variance, over all merges;
W = sum w <= n (1 + h / 4), since w < 1 in a chain and w <= n_S / 4 in a level. S = sum |x|, u the roundoff, eta the underflow.

**Mean.** d n_b / n takes three roundings, t = 3 u (1 + u)^2 >= (1 + u)^3 - 1, and eta for each, and for the factor n_b / n eta |d|.
n_b (e_a + e_b) <= 2 (n_a e_a + n_b e_b), so that

    n e <= (1 + u) ((1 + 2 t) (n_a e_a + n_b e_b) + t n_b |d| + n f) + u |sum of the elements|,

and n_b |d| <= 3 w |d|, sum w |d| <= sqrt(W n V): with at most n levels e <= exp(n (u + 2 t)) (u S + 3 t sqrt(W V / n) + n f),
f = eta (5 + 6 max |x|) as long as no e exceeds 2 max |x| + 1.

**Sum of squares.** Let eps be what a merge itself adds to its mean's error, c = n_S (m_S - mean) of the set that results, E >= every e.
Computed means give sum w (d + e_b - e_a)^2 exactly. Its first order telescopes over the sets that contain one, to -2 sum eps c; its second
is at most 4 E^2 W. (x - m_a) (x - m) is less by d eps, d computed. With |eps| <= u (|m_S| + 2 E) + t (|d| + 2 E) n_b / n + f, sets of size
j, disjoint, have sum j (m_S - mean)^2 <= n V, and a prefix alone j (m_S - mean)^2 <= (n - j) V, so that by Cauchy's inequality

    sum |m_S| |c| <= 1.6 n sqrt(T S V), T >= |the sum of any of the elements|, S <= 2 T:
        a chain alone adds up to pi/2 n T sqrt V; lanes of c <= (n + 1) / 2 elements to sqrt(n T S V) (2 sqrt c - 2), since sums of
        disjoint sets have sum s^2 <= T S, and levels above them, without the last, whose c is 0, to S sqrt(n V) 2.42 / sqrt c,
    sum |d| n_b / n |c| <= n V (sqrt(2 (1 + ln n)) + 1.5 sqrt h),
    sum |d| |m_S| <= max |x| n sqrt(2 V), sum d^2 / k <= n V over chains, since w >= 1/2, and sum |c| <= n^2 sqrt V.

A term is then rounded up to six times, u relative each; n + 2 h additions follow, of sums that are at most n V + the errors.
"""

from __future__ import annotations

import numpy as np

from certify.number.upward import Array, inflate, mul_up
from certify.semantics.contract import Arithmetic

_MOST = 64.0  # exponents beyond it say nothing


def levels(n: int) -> int:
    """h."""
    return max(n - 1, 0).bit_length()


def running_mean(arithmetic: Arithmetic, n: int, size: Array, deviation: Array, largest: Array) -> Array:
    """Bound of e before the mean is stored: `size` >= S, `deviation` >= sqrt V, `largest` >= max |x|.

    Where `deviation` holds for all sets that are met, so does the bound.
    """
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    t = 3.0 * u * (1.0 + u) ** 2
    exponent = n * (u + 2.0 * t)
    if exponent > _MOST:
        return np.full(np.broadcast_shapes(size.shape, deviation.shape), np.inf)

    def off(spread: Array) -> Array:
        floor = n * eta * (5.0 + 6.0 * largest)
        return inflate(np.exp(exponent) * (u * size + 3.0 * t * np.sqrt(1.0 + levels(n) / 4.0) * spread + floor), 512)

    with np.errstate(over="ignore", invalid="ignore"):
        fits = off(largest) <= mul_up(2.0, largest) + 1.0
    return _fitting(arithmetic, np.where(fits, 8.0 * largest, np.inf), off(deviation))


def running_squares(arithmetic: Arithmetic, n: int, size: Array, total: Array, mean_off: Array, largest: Array, reach: Array) -> Array:
    """Bound of the error of M: `size` >= sqrt(T S), `total` >= n V, `mean_off` >= E, `largest` >= max |x|, `reach` >= max x - min x."""
    u, eta, h = arithmetic.unit_roundoff, arithmetic.underflow, levels(n)
    t, adding, E = 3.0 * u * (1.0 + u) ** 2, (n + 2 * h) * u, mean_off
    if adding > _MOST:
        return np.full(np.broadcast_shapes(total.shape, mean_off.shape), np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        deviation, most = np.sqrt(total / n), reach + 2.0 * E
        second = 2.0 * (u + t) * E + n * eta * (5.0 + 6.0 * largest)
        off = 3.2 * n * u * size * deviation + 2.0 * t * total * (np.sqrt(2.0 + 2.0 * np.log(n)) + 1.5 * np.sqrt(h))
        off = off + 2.0 * n * n * deviation * second + 4.0 * n * (1.0 + h / 4.0) * E * E
        off = off + 1.5 * n * deviation * (u * largest + second) + t * total + n * E * (u * largest + t * reach + second)
        off = off + 6.0 * u * (1.0 + u) ** 5 * (total + off) + 8.0 * n * (1.0 + n) * eta * (1.0 + most) ** 2
        off = inflate(off + np.expm1(adding) * (total + off), 512)
        return _fitting(arithmetic, 2.0 * (most * most + total + off), off)


def running_mean_parts(arithmetic: Arithmetic, n: int, size: Array, deviation: Array, largest: Array) -> tuple[Array, Array]:
    """(bias, sigma) of e (families/moment_kernel). In absolute roundings n e = n_a e_a + n_b e_b + n g + n (what d's product errs by),
    exactly, n and e those of the set that results, g its addition's.

    There are at most n merges, with n_S |g| <= u (|the sum of S| + n_S E): squares of at most n (u (S + n E))^2. Of d's product, three
    roundings, that of the factor n_b / n is the same for all sums, a third of what is worst case above. The other two are at most n_b u |d|
    each, but for errors before, and sum (n_b d)^2 <= 2 n V + 2 n (n V), since d^2 <= 2 w d^2 in chains and n_b^2 <= 2 n w in levels. With
    those errors all grows by at most 2 t n E.
    """
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    t = 3.0 * u * (1.0 + u) ** 2
    worst = running_mean(arithmetic, n, size, deviation, largest)
    with np.errstate(over="ignore", invalid="ignore"):
        growth = np.exp(min(n * (u + 2.0 * t), _MOST))
        factor = growth * t * np.sqrt(1.0 + levels(n) / 4.0) * deviation
        bias = inflate(factor + growth * n * eta * (5.0 + 6.0 * largest) + 2.0 * t * n * worst, 512)
        differences = 2.0 * u * (1.0 + u) * np.sqrt(1.0 + 1.0 / n) * deviation
        sigma = inflate(np.hypot(u * np.sqrt(n) * (size / n + worst), differences), 512)
    return np.where(np.isfinite(worst), bias, np.inf), np.where(np.isfinite(worst), sigma, np.inf)


def running_squares_parts(
    arithmetic: Arithmetic, n: int, sizes: tuple[Array, Array], total: Array, mean_off: Array, largest: Array, reach: Array
) -> tuple[Array, Array]:
    """(bias, sigma) of the error of M; sizes: >= sqrt(T S) and >= T; the rest as in `running_squares`.

    Of the first order, 2 sum eps c and sum d eps, the part of g, |g| <= u |m_S| but for what is of second order, are roundings, and so
    are the additions, each of a sum of at most n V + (all errors). For squares, |m_S| |c| <= T |m_S - mean|, and sets of size j, disjoint,
    have sum (m_S - mean)^2 <= n V / j: over the prefixes of chains and h levels at most n V (1 + ln n + h / 2). sum d^2 <= 2 n V, and
    |m_S| <= max |x|. A third of t, and half of a term's six roundings, are those of factors, the same for all sums; the others' sizes
    are added up, which is more than their squares give.
    """
    u, eta, h = arithmetic.unit_roundoff, arithmetic.underflow, levels(n)
    t, E = 3.0 * u * (1.0 + u) ** 2, mean_off
    worst = running_squares(arithmetic, n, sizes[0], total, E, largest, reach)
    with np.errstate(over="ignore", invalid="ignore"):
        deviation, most = np.sqrt(total / n), reach + 2.0 * E
        second = 2.0 * (u + t) * E + n * eta * (5.0 + 6.0 * largest)
        products = t * total * (2.0 * np.sqrt(2.0 + 2.0 * np.log(n)) + 3.0 * np.sqrt(h) + 1.0)
        terms = 6.0 * u * (1.0 + u) ** 5 * (total + worst)
        bias = 2.0 * n * n * deviation * second + 4.0 * n * (1.0 + h / 4.0) * E * E + 1.5 * n * deviation * second
        bias = bias + n * E * (u * largest + t * reach + second) + 8.0 * n * (1.0 + n) * eta * (1.0 + most) ** 2
        bias = inflate(bias + products / 3.0 + terms / 2.0, 512)
        means = 2.0 * u * sizes[1] * np.sqrt(total * (1.0 + np.log(n) + h / 2.0)) + u * largest * np.sqrt(2.0 * total)
        additions = np.sqrt(n + 2.0 * h) * u * (total + worst)
        sigma = inflate(np.hypot(np.hypot(means, additions), products * (2.0 / 3.0) + terms / 2.0), 512)
    return np.where(np.isfinite(worst), bias, np.inf), np.where(np.isfinite(worst), sigma, np.inf)


def _fitting(arithmetic: Arithmetic, reached: Array, bound: Array) -> Array:
    """The bound; inf where what is reached on the way may overflow."""
    with np.errstate(invalid="ignore"):
        return np.where((reached <= arithmetic.accumulator.max) & (bound < np.inf), bound, np.inf)
