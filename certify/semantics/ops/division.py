"""Div: quotients of real numbers, singular where the divisor may be zero.

Source: the ONNX schema of Div, https://onnx.ai/onnx/operators/onnx__Div.html. Before opset 7 broadcasting was another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number import enclosure
from certify.number.enclosure import Enclosure
from certify.number.multipliers import product
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, down, inflate, mul_up
from certify.semantics.contract import Arithmetic, Errors, Linearization, Operands, Radii, SlopePull, Tangents, of_cases, register
from certify.semantics.families.broadcast import align, broadcast_shape, collect, collected, spread_count


def _aligned(X: Operands) -> tuple[Enclosure, Enclosure]:
    """Dividend and divisor at one rank. Raises ValueError if one is absent: ONNX requires both."""
    a, b = X
    if a is None or b is None:
        raise ValueError("Div needs both operands")
    rank = max(len(a.shape), len(b.shape))
    return a.map(lambda v: align(v, rank)), b.map(lambda v: align(v, rank))


def _radii(X: Operands, r: Radii, rank: int) -> tuple[Array | None, Array | None]:
    return (None if r[0] is None else align(r[0], rank), None if r[1] is None else align(r[1], rank))


def _exact_quotient(a: Any, b: Any) -> Any:
    """a / b of exact numbers; NaN at a pole, where some libraries raise."""
    try:
        return a / b
    except ZeroDivisionError:
        return math.nan


_exactly = np.frompyfunc(_exact_quotient, 2, 1)


def _over(numerator: Array, denominator: Array) -> Array:
    """Upper bound of numerator / denominator, both non-negative; inf where the denominator is 0, also for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        quotient = mul_up(numerator, 1.0) / denominator
        quotient = np.where((numerator > 0.0) & (quotient < 2.0**-1000), 2.0**-1000, quotient)
    return inflate(np.where(denominator > 0.0, np.where(np.isnan(quotient), np.inf, quotient), np.inf), 2)


def _nearest_to_zero(b: Enclosure, rb: Array, floors: Sequence[float]) -> Array:
    """At most |b + e|: min |b| - r_b, or the divisor's floor where that is positive."""
    low = np.maximum(down(b.mig - rb), 0.0)
    return np.maximum(low, np.minimum(b.mig, max(floors[1], 0.0))) if len(floors) else low


@dataclass(frozen=True, slots=True)
class Quotient:
    """The rule of Div.

    With a0, b0 the midpoints, q0 = a0 / b0, q = a / b and L (d, e) = (d - q0 e) / b0,

        f(x + (d, e)) - f(x) = (d - q e) / (b + e),  and so the remainder is
        d (1/(b + e) - 1/b0) - e (q/(b + e) - q0/b0) = [d (b0 - b - e) - e ((q - q0) b0 - q0 (b + e - b0))] / (b0 (b + e)),

    at most [r_a s + r_b (|q - q0| |b0| + |q0| s)] / (|b0| low) with s = rad_b + r_b, low = min |b| - r_b and
    |q - q0| <= (rad_a + |q0| rad_b) / min |b|, since q - q0 = ((a - a0) - q0 (b - b0)) / b. At a point this is
    (r_a + |q| r_b) r_b / (|b| (|b| - r_b)). It is infinite where the divisor may reach zero.
    """

    since: int
    name: str = "Div"
    domain: str = ""
    parameters: tuple[str, ...] = ("A", "B")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = True
    basic: bool = True
    heeds_floor: bool = True

    def errors(self, **_: Any) -> Errors:
        """As `Rule.errors`."""
        return "one"

    def value(self, *x: Any, **_: Any) -> Any:
        rank = max(v.ndim for v in x)
        a, b = (align(v, rank) for v in x)
        if a.dtype == object or b.dtype == object:
            return _exactly(a, b)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            return a / b

    def enclose(self, X: Operands, **_: Any) -> Enclosure:
        """Interval division; the whole line where the divisor contains zero."""
        return enclosure.divide(*_aligned(X))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """The divisor is one number without deviation, and not zero."""
        b = X[1]
        return r[1] is None and b is not None and b.is_point and bool(np.all(b.lo != 0.0))

    def linearize(self, X: Operands, r: Radii, floors: Sequence[float] = (), **_: Any) -> Linearization:
        """L and its remainder as the class says; L is 0 where the divisor's middle is 0 (the radius is infinite there)."""
        a, b = _aligned(X)
        rank = len(a.shape)
        ra, rb = _radii(X, r, rank)
        safe = b.mid != 0.0
        b0 = np.where(safe, b.mid, np.inf)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            q0 = np.where(safe, a.mid / np.where(safe, b.mid, 1.0), 0.0)
        radius, usable = self._remainder(a, b, (ra, rb), q0, floors)
        q0, b0 = np.where(usable, q0, 0.0), np.where(usable, b0, np.inf)
        shapes = (X[0].shape, X[1].shape)  # type: ignore[union-attr]
        shape = broadcast_shape(shapes)
        zero = np.zeros((1, *shape[1:]))

        def push(t: Tangents) -> Array:
            d = zero if t[0] is None else align(t[0], rank)
            return np.asarray((d if t[1] is None else d - q0 * align(t[1], rank)) / b0)

        def pulled(p: Array, q0: Array, b0: Array) -> Sequence[Array | None]:
            scaled = p / b0
            return (
                None if r[0] is None else collect(scaled, shapes[0]),
                None if r[1] is None else collect(-q0 * scaled, shapes[1]),
            )

        def magnitude(t: Tangents) -> Array:
            d = zero if t[0] is None else align(t[0], rank)
            d = d if t[1] is None else add_up(d, mul_up(np.abs(q0), align(t[1], rank)))
            return np.where(np.isinf(b0), 0.0, _over(d, np.abs(b0)))

        terms = 3 + max(spread_count(s, shape) for s in shapes)
        return Linearization(
            push,
            lambda p: pulled(p, q0, b0),
            magnitude,
            zero,
            radius,
            terms,
            pull_of=lambda p, cases: pulled(p, of_cases(q0, cases), of_cases(b0, cases)),
        )

    def _remainder(
        self, a: Enclosure, b: Enclosure, r: tuple[Array | None, Array | None], q0: Array, floors: Sequence[float]
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """(radius, where L is used). q0's own rounding, u |q0| + 2^-1074, counts as a part of |q - q0|."""
        ra, rb = (np.zeros((1,) * b.lo.ndim) if v is None else v for v in r)
        thin = not np.any(b.rad) and not np.any(rb)
        low = _nearest_to_zero(b, rb, floors) if not thin else b.mig
        s = add_up(b.rad, rb)
        size = np.abs(q0)
        off = _over(add_up(a.rad, mul_up(size, b.rad)), b.mig)
        off = np.where(rb > 0.0, add_up(off, UNIT_ROUNDOFF * size, 2.0**-1074), 0.0)
        top = add_up(mul_up(ra, s), mul_up(rb, add_up(mul_up(off, np.abs(b.mid)), mul_up(size, s))))
        moves = (ra > 0.0) | (rb > 0.0)
        with np.errstate(invalid="ignore"):
            radius = np.where(top > 0.0, _over(_over(top, np.abs(b.mid)), low), 0.0)
        usable = (low > 0.0) & np.isfinite(q0) & np.isfinite(radius)
        return np.where(usable, radius, np.where(moves | (low == 0.0), np.inf, 0.0)), usable

    def slopes(self, X: Operands, r: Radii, floors: Sequence[float] = (), **_: Any) -> SlopePull:
        """f(x + (d, e)) - f(x) = d / (b + e) - e q / (b + e), q = a / b; the whole line where b + e may be 0."""
        a, b = _aligned(X)
        rb = _radii(X, r, len(a.shape))[1]
        reached = b.widen(rb)
        if rb is not None and len(floors) and floors[1] > 0.0:
            reached = Enclosure(np.maximum(reached.lo, np.minimum(b.lo, floors[1])), reached.hi)
        over = enclosure.divide(Enclosure.point(np.ones((1,) * len(a.shape))), reached)
        slope = enclosure.negative(product(enclosure.divide(a, b), over))

        def pull(p: Enclosure) -> Sequence[Enclosure | None]:
            parts = ((over, X[0], r[0]), (slope, X[1], r[1]))
            return [None if x is None or radius is None else collected(product(p, S), x.shape) for S, x, radius in parts]

        return pull

    def modulus(self, X: Operands, r: Radii, floors: Sequence[float] = (), **_: Any) -> Array:
        """|f(x + d) - f(x)| = |d - q e| / |b + e| <= (r_a + max|q| r_b) / (min |b| - r_b)."""
        a, b = _aligned(X)
        ra, rb = (np.zeros((1,) * b.lo.ndim) if v is None else v for v in _radii(X, r, len(a.shape)))
        low = b.mig if not np.any(rb) else _nearest_to_zero(b, rb, floors)
        q = _over(a.mag, b.mig)
        top = add_up(ra, np.where(rb > 0.0, mul_up(q, rb), 0.0))
        return np.where((top > 0.0) | (low == 0.0), _over(top, low), 0.0)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """One division; exact where the divisor is one power of two, barring underflow and overflow."""
        b = _aligned(X)[1]
        power = (b.lo == b.hi) & (np.abs(np.frexp(b.lo)[0]) == 0.5)
        if r[1] is not None or not power.any():
            return arithmetic.round(magnitude)
        born = arithmetic.round(magnitude, np.where(power, self._shifted(quantum[0], np.where(power, b.lo, 1.0)), 0.0))
        return np.where(power, np.minimum(born, arithmetic.scaled(magnitude)), born)

    def _shifted(self, quantum: Array | float, b: Array) -> Array:
        q = np.asarray(quantum, dtype=np.float64)
        with np.errstate(under="ignore", over="ignore"):
            shifted = (align(q, b.ndim) if q.ndim else q) / np.abs(b)
        return np.where(np.isfinite(shifted), shifted, 0.0)

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """A quotient of a non-negative and a positive number is not negative."""
        return 0.0 if least[0] >= 0.0 and least[1] > 0.0 else -np.inf

    def quantum(self, quantum: Sequence[Array | float], **_: Any) -> Array | float:
        """Nothing is known without the divisor."""
        return 0.0


register(*(Quotient(since) for since in (7, 13, 14)))
