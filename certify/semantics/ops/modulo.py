"""Mod: A - n B, n the quotient A / B rounded down (fmod = 0) or toward zero (fmod = 1).

Source: https://onnx.ai/onnx/operators/onnx__Mod.html. Covers kernels that find the remainder as C's fmod does, which is exact, and for
fmod = 0 add the divisor once where the signs differ; not those that evaluate A - floor(A / B) B in floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number import enclosure
from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents, register
from certify.semantics.families import scalar
from certify.semantics.families.broadcast import align, broadcast_shape, collect, spread_count

Flags = npt.NDArray[np.bool_]


def _remainder(a: Any, b: Any, fmod: int) -> Any:
    """One exact remainder; NaN by zero."""
    if b == 0:
        return float("nan")
    quotient = a / b
    n = quotient.floor() if hasattr(quotient, "floor") else _floor(quotient)
    if fmod and n < 0 and n != quotient:
        n = n + 1
    return a - n * b


def _floor(v: Any) -> Any:
    from mpmath import mp

    return mp.floor(v)


@dataclass(frozen=True, slots=True)
class Modulo:
    """Where the quotient rounds to one and the same n over X +- r, f is A - n B: linear, with L (d, e) = d - n e and no remainder.

    Elsewhere only its range is known: n B and A enclose between them |f| < |B|, f has the sign of B (of A for fmod = 1), and |f| <= |A|
    for fmod = 1. L = 0 there and f(x + d) - f(x) is within the width of that range.
    """

    since: int
    name: str = "Mod"
    domain: str = ""
    parameters: tuple[str, ...] = ("A", "B")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = True

    def value(self, *x: Any, fmod: int = 0) -> Any:
        rank = max(v.ndim for v in x)
        a, b = (align(v, rank) for v in x)
        if a.dtype == object or b.dtype == object:
            return scalar.each(lambda p, q: _remainder(p, q, fmod), a, b)
        with np.errstate(all="ignore"):
            return np.fmod(a, b) if fmod else np.mod(a, b)

    def enclose(self, X: Operands, *, fmod: int = 0) -> Enclosure:
        """A - n B in interval arithmetic, cut to the range; at a point fmod is exact, and B may have to be added."""
        a, b = _aligned(X)
        n, decided = _quotient(a, b, fmod)
        line = enclosure.subtract(a, enclosure.multiply(Enclosure.point(n), b))
        wide = _range(a, b, fmod)
        lo, hi = np.where(decided, np.maximum(line.lo, wide.lo), wide.lo), np.where(decided, np.minimum(line.hi, wide.hi), wide.hi)
        points = (a.lo == a.hi) & (b.lo == b.hi) & (b.lo != 0.0) & np.isfinite(a.lo)
        if not points.any():
            return Enclosure(lo, hi)
        with np.errstate(all="ignore"):
            rest = np.where(points, np.fmod(a.lo, b.lo), 0.0)
        turned = (rest != 0.0) & (np.signbit(rest) != np.signbit(b.lo)) & (not fmod)
        exact = enclosure.add(Enclosure.point(rest), Enclosure.point(np.where(turned & points, b.lo, 0.0)))
        Y = Enclosure(np.where(points, exact.lo, lo), np.where(points, exact.hi, hi))
        return Enclosure.point(Y.lo) if np.array_equal(Y.lo, Y.hi) else Y

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Nothing deviates."""
        return all(radius is None or not radius.any() for radius in r)

    def linearize(self, X: Operands, r: Radii, *, fmod: int = 0) -> Linearization:
        """As the class says; infinite where the divisor may be zero and something deviates."""
        n, decided, width = self._moves(X, r, fmod)
        shapes = [x.shape for x in X if x is not None]
        shape = broadcast_shape(shapes)
        rank, zero = len(shape), np.zeros((1, *shape[1:]))

        def push(t: Tangents) -> Array:
            d = zero if t[0] is None else np.where(decided, align(t[0], rank), 0.0)
            return np.asarray(d if t[1] is None else d - n * align(t[1], rank))

        def pull(p: Array) -> Sequence[Array | None]:
            left = None if r[0] is None else collect(np.where(decided, p, 0.0), shapes[0])
            return left, None if r[1] is None else collect(-n * p, shapes[1])

        def magnitude(t: Tangents) -> Array:
            d = zero if t[0] is None else np.where(decided, align(t[0], rank), 0.0)
            return d if t[1] is None else add_up(d, mul_up(np.abs(n), align(t[1], rank)))

        terms = 3 + max(spread_count(s, shape) for s in shapes)
        return Linearization(push, pull, magnitude, zero, np.where(decided, 0.0, width), terms)

    def _moves(self, X: Operands, r: Radii, fmod: int) -> tuple[Array, Flags, Array]:
        """n where it is one number over X +- r and small enough to multiply with, 0 elsewhere; where that is; what f varies by."""
        before = _aligned(X)
        a, b = _aligned(tuple(None if x is None else x.widen(q) for x, q in zip(X, r, strict=True)))
        n, decided = _quotient(a, b, fmod)
        wide = _range(a, b, fmod)
        still = np.ones((1,) * a.lo.ndim, dtype=bool)
        for x, y in zip(before, (a, b), strict=True):
            still = still & (x.lo == y.lo) & (x.hi == y.hi)
        with np.errstate(invalid="ignore"):
            width = add_up(np.maximum(wide.hi - wide.lo, 0.0))
        width = np.where(still & ((b.lo > 0.0) | (b.hi < 0.0)), 0.0, np.where(np.isnan(width), np.inf, width))
        return np.where(decided, n, 0.0), decided, width

    def modulus(self, X: Operands, r: Radii, *, fmod: int = 0) -> Array:
        """|L| r where n is one number; the width of the range elsewhere."""
        linear = self.linearize(X, r, fmod=fmod)
        return add_up(linear.magnitude(r), linear.radius)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], *, fmod: int = 0
    ) -> Array:
        """fmod is exact: its result divides by what divides A and B. One addition for fmod = 0 unless the signs surely agree."""
        a, b = _aligned(tuple(None if x is None else x.widen(q) for x, q in zip(X, r, strict=True)))
        exact = arithmetic.round(magnitude, self.quantum(quantum, fmod=fmod))
        copies = not np.any(arithmetic.sum(1, np.ones(1), np.ones(1), np.ones(1)))
        alike = ((a.lo >= 0.0) & (b.lo > 0.0)) | ((a.hi <= 0.0) & (b.hi < 0.0))
        free = copies & (alike | bool(fmod))
        beyond = (b.lo <= 0.0) & (b.hi >= 0.0)
        return np.where(beyond, np.inf, np.where(free, 0.0, exact))

    def quantum(self, quantum: Sequence[Array | float], **_: Any) -> Array | float:
        """What divides A and B divides A - n B."""
        q = [np.asarray(v, dtype=np.float64) for v in quantum]
        rank = max(v.ndim for v in q)
        return np.asarray(np.minimum(*(align(v, rank) if v.ndim else v for v in q)))


def _aligned(X: Operands) -> tuple[Enclosure, Enclosure]:
    a, b = X
    if a is None or b is None:
        raise ValueError("Mod needs both operands")
    rank = max(len(a.shape), len(b.shape))
    return a.map(lambda v: align(v, rank)), b.map(lambda v: align(v, rank))


def _quotient(a: Enclosure, b: Enclosure, fmod: int) -> tuple[Array, Flags]:
    """n, and where every quotient over the boxes rounds to it; |n| < 2^53."""
    q = enclosure.divide(a, b)
    with np.errstate(invalid="ignore"):
        low, high = (np.trunc(q.lo), np.trunc(q.hi)) if fmod else (np.floor(q.lo), np.floor(q.hi))
        decided = (low == high) & (np.abs(low) < 2.0**53)
    return np.where(decided, low, 0.0) + 0.0, np.asarray(decided)


def _range(a: Enclosure, b: Enclosure, fmod: int) -> Enclosure:
    """Where the remainder lies whatever the quotient is; everything where the divisor may be zero."""
    size = np.minimum(a.mag, b.mag) if fmod else b.mag
    sign = a if fmod else b
    lo, hi = np.where(sign.lo < 0.0, -size, 0.0), np.where(sign.hi > 0.0, size, 0.0)
    beyond = (b.lo <= 0.0) & (b.hi >= 0.0)
    return Enclosure(np.where(beyond, -np.inf, lo), np.where(beyond, np.inf, hi))


register(*(Modulo(since) for since in (10, 13, 28)))
