"""Parts of expansions of attention: its products, what a kernel holds, masked scores.

RescaledMatMul: alpha A B + C (families/rescaled).
Held:   a result that a kernel may store or keep in its own format: what comes after knows nothing of either.
Mask:   scores, -inf where they are not allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up
from certify.semantics.contract import Arithmetic, Operands, register
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.broadcast import Shape, aligned_shape
from certify.semantics.families.delivery import Loose
from certify.semantics.families.movement import Movement
from certify.semantics.families.rescaled import Rescaled, gamma_of
from certify.semantics.ops.contraction import MatrixProduct
from certify.semantics.ops.indexing import aligned, where_undecided


class _Added(MatrixProduct):
    """MatMul with an addend that broadcasts against the result."""

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        return aligned_shape(C, rank)


def _nothing(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    return np.zeros_like(np.asarray(magnitude, dtype=np.float64))


def _again(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    return add_up(mul_up(gamma_of(2, arithmetic.unit_roundoff), magnitude), 2.0 * arithmetic.underflow)


def _or_lowest(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    return np.where(np.isinf(magnitude), np.inf, 0.0)


def _masked(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    lost = (reach.lo == -np.inf) & (reach.hi == -np.inf) & (not arithmetic.storage.keeps_infinities)
    return np.where(lost, np.inf, 0.0)


def _mask(allowed: Any, x: Any) -> Any:
    allowed, x = aligned(allowed, x)
    return np.where(np.asarray(allowed, dtype=bool), x, -np.inf)


def _mask_spread(X: Operands) -> Enclosure:
    allowed, x = X
    assert allowed is not None
    assert x is not None
    hi = aligned(allowed.lo, x.hi)[1]
    return Enclosure(np.full(hi.shape, -np.inf), hi)


register(
    Rescaled(Bilinear("RescaledMatMul", 1, ("A", "B", "C"), _Added(), scale=lambda attributes: (attributes["alpha"], 1.0))),
    Loose("Held", _nothing),
    # Two roundings of the kernel's format, where it multiplies by a reciprocal instead of dividing.
    Loose("Again", _again),
    # Where -inf is delivered, a kernel may write the lowest number instead: nothing is claimed.
    Loose("OrLowest", _or_lowest),
    # A format without infinities cannot mask by them.
    Loose("Masked", _masked),
    Movement("Mask", 1, ("allowed", "scores"), _mask, domain="certify", steering=(0,), spread=_mask_spread, undecided=where_undecided),
)
