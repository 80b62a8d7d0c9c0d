"""The test of a row's 2-norm: is the standard deviation of a normal variable at most R?

If G is standard normal, so that the pushed s G is normal with deviation s, the squares of m independent draws add up to s^2 chi^2_m. Where
that sum is at most m t R^2 although s > R, chi^2_m was below m t: which has at most the test's chance, t being its quantile.

The draws are made and pushed in float64; docs/probabilistic.md proves that a computed draw is off by at most OFF s, but for an event of
probability `lapse`, where the noise that is drawn is raised until sqrt(J) times the rounding of a push is at most PHI of it, of J numbers
drawn or pushed: B is more than the size of any of the normal numbers met.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

PHI = 2e-4
B = 12.0
DRAWN = 2.0**-48  # how far a normal number of the generator may be from an ideal one, in units of B; times sqrt(J) below 2^30
OFF = (2.0 * B * PHI + 2.0**15 * DRAWN * B) / (1.0 - 2.0 * PHI) * (1.0 + 1e-12)
FAILS = 0.02  # proposals that fail, of all elements together, on average


def lapse(numbers: int) -> float:
    """The probability that some of so many standard normal numbers exceeds B in size: 2 (1 - Phi(B)) < exp(-B^2 / 2) / B each."""
    return numbers * math.exp(-0.5 * B * B) / B * (1.0 + 1e-12)


@dataclass(frozen=True, slots=True)
class NormTest:
    """factor: the root of the sum of the squares of the draws times it is an upper limit of the deviation, but for the chance.
    power: a limit is, almost always, at most that many times the deviation."""

    draws: int
    factor: float
    power: float


@cache
def norm_test(draws: int, chance: float, tests: int, numbers: int) -> NormTest:
    """Raises ValueError where there are too few draws for any limit. tests: how many there are; numbers: drawn and pushed in one draw."""
    from scipy.special import chdtri, gammaincinv

    rest = chance - lapse(numbers * draws)
    quantile = 2.0 * float(gammaincinv(0.5 * draws, rest)) * (1.0 - 1e-6) if rest > 0.0 else 0.0
    least = math.sqrt(quantile) - OFF * math.sqrt(draws)
    if not least > 0.0:
        raise ValueError(f"{draws} draws are too few for a chance of {chance:g}")
    most = math.sqrt(float(chdtri(draws, FAILS / tests))) + OFF * math.sqrt(draws)
    return NormTest(draws, (1.0 + 1e-9) / least, most / least)


@cache
def doubt_of_norm(draws: int, tests: int) -> float:
    """The estimate `root of the mean square of draws` is, almost always, at least the deviation divided by this."""
    from scipy.special import gammaincinv

    return math.sqrt(draws / (2.0 * float(gammaincinv(0.5 * draws, FAILS / tests))))
