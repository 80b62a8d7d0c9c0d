"""Products and sums of intervals of multipliers and slopes, for rules that offer `slopes` (semantics/contract).

Outward by one float64 after each product, and by gamma_n times the sum of magnitudes after each sum of n. An interval of slopes that has no
finite end is the whole line; a multiplier that is exactly 0 makes 0 of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from certify.number.enclosure import Enclosure, around
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, down, inflate, lift, up


def product(a: Enclosure, b: Enclosure) -> Enclosure:
    """{x y}: the extreme products of ends, each correctly rounded (or lost below 2^-1074), and one step outward."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        if b.lo is b.hi:
            low, high = a.lo * b.lo, a.hi * b.lo
            lo, hi = np.minimum(low, high), np.maximum(low, high)
        else:
            ends = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
            lo, hi = np.minimum.reduce(ends), np.maximum.reduce(ends)
    unknown = np.isnan(lo) | np.isnan(hi)
    zero = ((a.lo == 0.0) & (a.hi == 0.0)) | ((b.lo == 0.0) & (b.hi == 0.0))
    lo = np.where(zero, 0.0, np.where(unknown, -np.inf, down(lo)))
    return Enclosure(lo, np.where(zero, 0.0, np.where(unknown, np.inf, up(hi))))


def _gamma(terms: int) -> float:
    n = (terms + 3) * UNIT_ROUNDOFF
    return n / (1.0 - n) * (1.0 + 2.0**-50)


def carried(transpose: Callable[[Array], Array], a: Enclosure, terms: int) -> Enclosure:
    """{T x} for a linear T no two of whose coefficients have different signs, `terms` products at most in each sum; 0: it only copies.

    T or -T is increasing, so its extremes are at the ends.
    """
    if a.lo is a.hi and terms == 0:
        return Enclosure.point(transpose(a.lo))
    with np.errstate(invalid="ignore", over="ignore"):
        ends = transpose(a.lo), transpose(a.hi)
        lo, hi = np.minimum(*ends), np.maximum(*ends)
        if terms:
            off = lift(inflate(_gamma(terms) * np.abs(transpose(a.mag)), terms + 3))
            lo, hi = np.where(off == 0.0, lo, down(lo - off)), np.where(off == 0.0, hi, up(hi + off))
    unknown = np.isnan(lo) | np.isnan(hi)
    return Enclosure(np.where(unknown, -np.inf, lo), np.where(unknown, np.inf, hi))


def contracted(back: Callable[[Array, Array], Array], a: Enclosure, S: Enclosure, terms: int) -> Enclosure:
    """{back(x, s)} for a bilinear `back` whose coefficients are 0 or 1, `terms` products at most in each sum: midpoint-radius.

    back(m, M) errs by gamma back(|m|, |M|) in any order, and x s - m M = m (s - M) + (x - m) s. Factors lifted to 2^-500 keep products
    from underflow; what back(m, M) itself loses so is at most 2^-1074 a product, and the radius at least 2^-500.
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        m, M = a.mid, S.mid
        middle = back(m, M)
        size, slope = lift(np.abs(m)), lift(np.abs(M))
        radius = _gamma(terms) * back(size, slope)
        if not S.is_point:
            radius = radius + back(size, lift(S.rad))
            slope = add_up(slope, S.rad)
        if not a.is_point:
            radius = radius + back(lift(a.rad), lift(slope))
    return around(middle, np.where(np.isnan(radius), np.inf, lift(inflate(radius, terms + 8))))


def summed(a: Sequence[Enclosure]) -> Enclosure:
    """The sum of intervals of one shape."""
    lo, hi = a[0].lo, a[0].hi
    with np.errstate(invalid="ignore", over="ignore"):
        for part in a[1:]:
            lo, hi = down(lo + part.lo), up(hi + part.hi)
    unknown = np.isnan(lo) | np.isnan(hi)
    return a[0] if len(a) == 1 else Enclosure(np.where(unknown, -np.inf, lo), np.where(unknown, np.inf, hi))


def dot(a: Enclosure, b: Enclosure) -> Enclosure:
    """{<x, y>} of each case, (cases,): the sum of n products, off by gamma_n times that of their magnitudes."""
    p = product(a, b)
    rows = p.map(lambda x: x.reshape(x.shape[0], -1))
    terms = rows.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):
        off = _gamma(terms) * inflate(rows.mag.sum(axis=1), terms + 3) + 2.0**-1000
        lo, hi = down(rows.lo.sum(axis=1) - off), up(rows.hi.sum(axis=1) + off)
    unknown = np.isnan(lo) | np.isnan(hi)
    return Enclosure(np.where(unknown, -np.inf, lo), np.where(unknown, np.inf, hi))
