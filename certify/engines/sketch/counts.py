"""The count test: is the scale of a Cauchy variable at most R?

If C is standard Cauchy, P[|s C| <= x] = (2/pi) atan(x/s). Of m independent draws of s C, count those of size at most c R. If s > R, each
is so small with probability below p = (2/pi) atan c; the test accepts R if k or more are, which happens to a scale above R with
probability at most P[Binom(m, p) >= k] <= exp(-m KL(k/m || p)) (Hoeffding 1963, theorem 1).

The draws are made and pushed in float64. docs/sketch.md proves: a computed draw is off by at most theta s, but for an event of probability
`lapse`; so p = (2/pi) atan(c + theta) + lapse. Of J numbers that are drawn or pushed:

    PHI    what the rounding of a push may have of the noise that is drawn: noise is raised until it is at most that share
    T      a weighted mean of |C| is at most T, but for 2/pi (1/T + ln(1 + T J)/T)
    S J    a weighted mean of C^2 is at most that, but for 4/pi / sqrt(S)
    B J    none of |C| is larger than that, but for 2/(pi B)
    ANGLE  how far the angle whose tangent is drawn may be from a continuous one

A draw that lapses may count where it should not: a few in a hundred cost little, and the more may, the less noise pays for rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

PHI = 5e-7
T = 4e3
S = 1.6e4
B = 64.0
ANGLE = 2.0**-50
SHARES = (1.0, 0.9, 0.8, 0.72, 0.65, 0.59, 0.53, 0.48, 0.43, 0.39, 0.3, 0.2, 0.1)  # of a claim, that are tested beside it
LIMITS = tuple(0.25 * 1.125**i for i in range(24))  # values of c that are tried
FAILS = 0.02  # proposals that fail, of all elements together, on average


def theta(sources: int) -> float:
    """What the computed draws are off by, in units of their scales, with so many numbers drawn."""
    largest = B * sources
    most = (largest * PHI + 1.01 * (1.0 + largest**2) * ANGLE) / (1.0 - PHI)  # the error of any draw of all
    return (T * PHI + 1.01 * (1.0 + S * sources) * ANGLE + most * PHI) * (1.0 + 1e-12)


def lapse(sources: int) -> float:
    """The probability that a draw's own rounding exceeds theta times its scale."""
    weighted = (1.0 / T + math.log1p(T * sources) / T) * (2.0 / math.pi)
    return (weighted + 4.0 / math.pi / math.sqrt(S) + 2.0 / (math.pi * B)) * (1.0 + 1e-12)


def below(c: float, sources: int) -> float:
    """Upper bound of the probability that a draw, as computed, is at most c R, where the scale is above R."""
    return min(1.0, ((2.0 / math.pi) * math.atan(c + theta(sources)) + lapse(sources)) * (1.0 + 1e-12))


def binomial_tail(m: int, k: int, p: float) -> float:
    """Upper bound of P[Binom(m, p) >= k]."""
    share = k / m
    if share <= p:
        return 1.0
    divergence = share * math.log(share / p) + ((1.0 - share) * math.log((1.0 - share) / (1.0 - p)) if k < m else 0.0)
    return math.exp(-m * divergence * (1.0 - 1e-9)) * (1.0 + 1e-9)


@dataclass(frozen=True, slots=True)
class CountTest:
    """Accept R where `least` of `draws` computed draws or more are at most limit R in size.

    chance: a scale above R is accepted with at most this probability. power: R passes, almost always, if it is at least that many times
    the scale.
    """

    draws: int
    least: int
    limit: float
    chance: float
    power: float


@cache
def count_test(draws: int, chance: float, tests: int, sources: int) -> CountTest:
    """The most powerful one among LIMITS that errs with probability at most `chance`. tests: how many there are, all to pass.

    Raises ValueError where there are too few draws for any.
    """
    best = None
    for limit in LIMITS:
        p = below(limit, sources)
        least = _least(draws, p, chance)
        power = None if least is None else _power(draws, least, limit, FAILS / tests)
        if least is not None and power is not None and (best is None or power < best.power):
            best = CountTest(draws, least, limit, chance, power)
    if best is None:
        raise ValueError(f"{draws} draws are too few for a chance of {chance:g}")
    return best


def _least(m: int, p: float, chance: float) -> int | None:
    lo, hi = min(m, math.ceil(m * p)), m
    if binomial_tail(m, m, p) > chance:
        return None
    while lo < hi:
        middle = (lo + hi) // 2
        if binomial_tail(m, middle, p) <= chance:
            hi = middle
        else:
            lo = middle + 1
    return lo


def _power(m: int, least: int, limit: float, fails: float) -> float:
    """The least ratio R / s, among powers of 1.02, that passes but for `fails`."""
    from scipy.special import bdtr  # slow to import

    ratio = 1.0
    while bdtr(least - 1, m, (2.0 / math.pi) * math.atan(limit * ratio)) > fails:
        ratio *= 1.02
        if ratio > 1e3:
            return math.inf
    return ratio


@cache
def doubt_of_median(draws: int, tests: int) -> float:
    """The estimate `median of |draws|` is, almost always, at least the scale divided by this."""
    from scipy.special import bdtrc

    ratio, least = 1.0, draws // 2
    while bdtrc(least - 1, draws, (2.0 / math.pi) * math.atan(1.0 / ratio)) > FAILS / tests:
        ratio *= 1.02
    return ratio
