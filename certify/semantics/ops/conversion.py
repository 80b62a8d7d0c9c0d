"""Copies that are delivered in another format. Over the reals each is the identity.

Store:   in the step's own storage format: a Cast between floats, the end of a fused kernel.
PowerOfTwo: as a positive power of two: a Cast to float8e8m0.
Convert: an operand that a kernel rounds on entry (tf32). A node of its own, so that the rounding is weighed by the adjoint of the
         operand instead of by the sum of magnitudes inside the dot product (up to 8 times tighter).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import Arithmetic, register
from certify.semantics.families.delivery import Delivery, converted, stored


def power_of_two(
    arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float], *, upward: bool, saturate: bool
) -> Array:
    """Upward v in (2^(k-1), 2^k) moves by less than v, downward or to nearest by at most v / 2, a power of two not at all.

    The least number is 2^-127. Saturated, v beyond the greatest moves by less than v. What is negative is undefined; so is, unless
    it saturates, what lies outside of the format.
    """
    least, most = 2.0**-127, arithmetic.storage.max
    power = (reach.lo == reach.hi) & (np.frexp(np.abs(reach.lo))[0] == 0.5) & (reach.lo >= least) & (reach.lo <= most)
    moved = np.where(power, 0.0, np.maximum(magnitude if upward else 0.5 * magnitude, least))
    moved = np.where(magnitude > most, magnitude, moved)
    outside = (reach.lo < least) | (magnitude > most)
    return np.where((reach.lo < 0.0) | (outside & (not saturate)), np.inf, moved)


register(Delivery("Store", stored), Delivery("Convert", converted), Delivery("PowerOfTwo", power_of_two))
