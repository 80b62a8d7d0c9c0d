"""The rounding of alpha * dot + beta * c."""

from __future__ import annotations

import numpy as np

from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic


def scaled_dot(
    arithmetic: Arithmetic,
    terms: int,
    alpha: float,
    products: tuple[Array, Array, Array],
    magnitude: Array,
    addend: Array | float,
    nonzero: Array | None,
) -> Array:
    """alpha * dot + beta * c, `addend` >= |beta c|; products: sum |a_i b_i|, max |a_i b_i|, sum |a_i| + sum |b_i|, upper bounds.

    A kernel scales the sum or an operand; the bound is the larger of the two cases. u, eta: the kernel's format.

    - The sum: its error D (that of a delivered dot product, at least what the accumulator has) grows by alpha; alpha times the
      sum and beta times c round once each; then they are added and stored. These are numbers of the kernel's format, not of the
      operands', so that addition and store are two roundings unless the formats are the same.
    - An operand: each element, its product with the other (exact no longer, if it was) and beta c round once before they enter
      a dot product, whose own bound grows with these perturbations: (1 + u)^3. Underflow of a scaled operand, eta, meets the
      other operand; that of a product is the dot product's affair and counted once more.
    """
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    total, largest, ones = products
    scaled = mul_up(alpha, total)
    unscaled_total = total if alpha == 0.0 else np.minimum(total, inflate(add_up(magnitude, addend) / alpha, 1))
    summed = mul_up(alpha, arithmetic.dot(terms, total, unscaled_total, largest, 0.0, nonzero))
    before = add_up(summed, mul_up(u, add_up(scaled, summed, addend)), 2.0 * eta)
    added = 0.0 if arithmetic.accumulator == arithmetic.storage else mul_up(u, add_up(magnitude, before))
    sum_scaled = add_up(before, added, arithmetic.round(add_up(magnitude, before, added)))
    grown = inflate(np.asarray((1.0 + u) ** 3), 4)
    dot = arithmetic.dot(
        terms, mul_up(grown, scaled), mul_up(grown, add_up(magnitude, mul_up(u, scaled))), mul_up(grown, alpha, largest), addend, nonzero
    )
    under = mul_up(eta, add_up(mul_up(1.0, ones), 2.0 * terms + 2.0))
    operand_scaled = mul_up(grown, add_up(dot, mul_up(2.0 * u, scaled), mul_up(u, addend), under))
    return np.maximum(sum_scaled, operand_scaled)
