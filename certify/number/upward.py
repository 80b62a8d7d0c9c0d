"""Upper bounds computed in float64, rounded upward where the reader can see it.

Every quantity here is non-negative. The float64 result of an expression of non-negative terms in which at
most n roundings lie on any path from a leaf to the root is at least (1 - u)^n times its exact value, u = 2^-53
(Higham, *Accuracy and Stability*, Lemma 3.1), whatever the order of summation. `inflate` undoes that loss.

Underflow would break the relative bound, so non-zero quantities are kept at or above TINY = 2^-500 by `lift`:
the product of two lifted numbers is normal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TINY = 2.0**-500
UNIT_ROUNDOFF = 2.0**-53


def lift(x: Array) -> Array:
    """Upper bound of the non-negative `x` whose non-zero entries are at least TINY."""
    return np.where((x > 0.0) & (x < TINY), TINY, x)


def inflate(x: Array, n: int) -> Array:
    """Upper bound of the exact value of a non-negative expression that float64 computed as `x`.

    `n` bounds the number of roundings on any path of the expression. Proof: exact <= x / (1 - u)^n
    <= x (1 + (n + 1) 2u) for n u <= 1/4 (1/(1-u)^n <= 1 + 2nu there), and the multiplication below rounds once
    more, which the extra 2 pays for.
    """
    if (n + 3) * UNIT_ROUNDOFF > 0.25:
        raise ValueError(f"inflate: {n} roundings are too many for float64")
    return x * (1.0 + (n + 3) * 2.0 * UNIT_ROUNDOFF)


def up(x: Array) -> Array:
    """The next float64 above, for a result that one correctly rounded operation produced."""
    with np.errstate(over="ignore", under="ignore"):
        return np.nextafter(x, np.inf)


def down(x: Array) -> Array:
    """The next float64 below, for a result that one correctly rounded operation produced."""
    with np.errstate(over="ignore", under="ignore"):
        return np.nextafter(x, -np.inf)


def sum_up(terms: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Upper bound of the sum of the non-negative `terms` over `axis`."""
    total = np.asarray(np.sum(terms, axis=axis, keepdims=keepdims), dtype=np.float64)
    n = max(1, terms.size // max(1, total.size))
    return inflate(total, n)


def add_up(*terms: Array | float) -> Array:
    """Upper bound of the sum of non-negative, broadcastable `terms`."""
    total = np.asarray(terms[0], dtype=np.float64)
    for term in terms[1:]:
        total = total + term
    return inflate(total, len(terms))


def mul_up(*factors: Array | float) -> Array:
    """Upper bound of the product of non-negative, broadcastable `factors`; 0 * inf is 0 (no deviation, no error)."""
    total = lift(np.asarray(factors[0], dtype=np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        for factor in factors[1:]:
            other = lift(np.asarray(factor, dtype=np.float64))
            product = total * other
            total = np.where((total == 0.0) | (other == 0.0), 0.0, product)
            total = lift(total)
    return inflate(total, len(factors))
