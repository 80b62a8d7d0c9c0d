"""Sized: the identity on the first operand; the others only say how large the parts are of which a kernel made it.

Parts of expansions: an expression has been expanded operation by operation, which gives first order and remainder; this step adds
what another way of computing the same expression rounds, from the sizes of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents
from certify.semantics.families.broadcast import align

_ROUNDINGS = 6


@dataclass(frozen=True, slots=True)
class Sized:
    """born: (arithmetic, sizes, magnitude, **attributes) -> rounding; `sizes` are upper bounds of all computed operands, at one rank."""

    name: str
    parameters: tuple[str, ...]
    born: Callable[..., Array]
    domain: str = "certify"
    since: int = 1
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = False
    pointwise: bool = False

    def value(self, *x: Any, **_: Any) -> Any:
        return x[0]

    def enclose(self, X: Operands, **_: Any) -> Enclosure:
        return _present(X)[0]

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return True

    def linearize(self, X: Operands, r: Radii, **_: Any) -> Linearization:
        """The identity on the first operand."""
        shapes = [x.shape[1:] for x in _present(X)]
        zero = np.zeros((1, *shapes[0]))

        def push(t: Tangents) -> Array:
            return zero if t[0] is None else t[0]

        def pull(a: Array) -> Sequence[Array | None]:
            rest = [None if radius is None else np.zeros((a.shape[0], *shape)) for shape, radius in zip(shapes[1:], r[1:], strict=True)]
            return [None if r[0] is None else a, *rest]

        return Linearization(push, pull, push, zero, zero)

    def modulus(self, X: Operands, r: Radii, **_: Any) -> Array:
        return np.zeros((1, *_present(X)[0].shape[1:])) if r[0] is None else r[0]

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """As `born` says."""
        sizes = [v.mag if radius is None else add_up(v.mag, radius) for v, radius in zip(_present(X), r, strict=True)]
        rank = max(size.ndim for size in sizes)
        return self.born(arithmetic, [align(size, rank) for size in sizes], magnitude, **attributes)

    def quantum(self, quantum: Sequence[Array | float], **_: Any) -> Array | float:
        return 0.0


def _present(X: Operands) -> list[Enclosure]:
    operands = [x for x in X if x is not None]
    if len(operands) != len(X):
        raise ValueError("a sized step needs all its operands")
    return operands


def _reassociated(arithmetic: Arithmetic, sizes: Sequence[Array], magnitude: Array) -> Array:
    """The rounding of (x - mean) s scale + bias in whatever association a fused kernel has chosen.

    gamma_6 (|x| + |mean|) |s scale| + gamma_6 |bias| + underflow, then the store. In every association at most four roundings lie on
    the path of each of the three terms x s scale, mean s scale, bias (s scale; its product with x, mean or x - mean; two sums), each
    a factor 1 + t, |t| <= u (Higham, Lemma 3.1). A product that underflows errs by eta once more: s scale, times |x| + |mean|;
    (x - mean) s, times |scale|; and the last products. Where such a product may exceed the largest number, inf.
    """
    _, x, mean, s, scale, bias = sizes
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    if _ROUNDINGS * u >= 0.5:
        return np.full(magnitude.shape, np.inf)
    reach, slope = add_up(x, mean), mul_up(s, scale)
    terms = add_up(mul_up(reach, slope), bias)
    gamma = float(inflate(np.asarray(_ROUNDINGS * u / (1.0 - _ROUNDINGS * u)), 3))
    off = add_up(mul_up(gamma, terms), mul_up(eta * (1.0 + gamma), add_up(reach, scale, 4.0)))
    largest = np.maximum(np.maximum(add_up(terms, off), reach), np.maximum(slope, mul_up(reach, s)))
    stored = arithmetic.round(add_up(magnitude, off))
    return np.where(mul_up(1.0 + gamma, largest) <= arithmetic.accumulator.max, add_up(off, stored), np.inf)


REASSOCIATED = Sized("Reassociated", ("Y", "X", "mean", "s", "scale", "bias"), _reassociated)
