"""Range over floats: start + i delta, from constants (integers are folded before).

Source: https://onnx.ai/onnx/operators/onnx__Range.html. Kernels multiply and add, or add delta again and again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure, add, multiply
from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, register


def _parts(start: Any, limit: Any, delta: Any) -> tuple[float, float, Array]:
    """start, delta and i = 0, 1, ... Raises ValueError if delta is 0."""
    first, last, step = (float(np.ravel(v)[0]) for v in (start, limit, delta))
    if step == 0.0:
        raise ValueError("Range needs a delta other than 0")
    return first, step, np.arange(max(math.ceil((last - first) / step), 0), dtype=np.float64)


def _lowest_bit(x: float) -> float:
    """The largest power of two that divides x; 2^300 for 0, which anything divides; 0 for an infinity."""
    if not np.isfinite(x):
        return 0.0
    numerator, denominator = x.as_integer_ratio()
    return float(numerator & -numerator) / denominator if x else 2.0**300


@dataclass(frozen=True, slots=True)
class Range:
    name: str = "Range"
    domain: str = ""
    since: int = 11
    parameters: tuple[str, ...] = ("start", "limit", "delta")
    static: frozenset[str] = frozenset(("start", "limit", "delta"))
    outputs: int = 1
    nonlinear: bool = False
    pointwise: bool = False

    def value(self, *, start: Any, limit: Any, delta: Any) -> Array:
        first, step, i = _parts(start, limit, delta)
        return (first + step * i)[None]

    def enclose(self, X: Operands, *, start: Any, limit: Any, delta: Any) -> Enclosure:
        """Interval arithmetic; every quantity occurs once."""
        first, step, i = _parts(start, limit, delta)
        product = multiply(Enclosure.point(np.full((1, i.size), step)), Enclosure.point(i[None]))
        return add(Enclosure.point(np.full((1, i.size), first)), product)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Always: it is constant."""
        return True

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """Nothing to deviate."""
        zero = np.zeros_like(self.value(**attributes))
        return Linearization(lambda t: zero, lambda a: (), lambda t: zero, zero, zero, 0)

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        return np.zeros_like(self.value(**attributes))

    def rounding(
        self,
        X: Operands,
        r: Radii,
        arithmetic: Arithmetic,
        magnitude: Array,
        quantum: Sequence[Array | float],
        *,
        start: Any,
        limit: Any,
        delta: Any,
    ) -> Array:
        """Start and delta are stored first: off by at most e_s and e_d. Then at most k = max(i, 2) operations, then the store.

        Every operation errs by at most u |result| + eta in the kernel's format, |result| <= T (1 + u)^k <= T e^(ku),
        T = |s^| + i |d^|, s^ and d^ as stored, so that s^ + i d^ is off by at most k (u T e^(ku) + eta) before it is stored;
        by nothing where all multiples up to T of a power of two that divides s^ and d^ are numbers of the format.
        """
        first, step, i = _parts(start, limit, delta)
        e_s, e_d = (arithmetic.round(np.asarray(abs(v)), _lowest_bit(v)) for v in (first, step))
        if not (np.isfinite(e_s) and np.isfinite(e_d)):
            return np.full((1, i.size), np.inf)
        off = add_up(e_s, mul_up(e_d, i))
        total = add_up(abs(first), e_s, mul_up(add_up(abs(step), e_d), i))
        u, eta, k = arithmetic.unit_roundoff, arithmetic.underflow, np.maximum(i, 2.0)
        bit = 0.0 if e_s or e_d else min(_lowest_bit(first), _lowest_bit(step))
        with np.errstate(over="ignore"):
            exact = (total * u <= bit) & (bit >= 2.0 * eta) & (bit > 0.0)
            loss = mul_up(k, add_up(mul_up(u, total, inflate(np.exp(k * u), 4)), eta))
        before = add_up(off, np.where(exact, 0.0, loss))
        stored = arithmetic.round(add_up(magnitude.reshape(-1), before), np.where(exact, bit, 0.0))
        return np.where(add_up(total, before) <= arithmetic.accumulator.max, add_up(before, stored), np.inf)[None]

    def quantum(self, quantum: Sequence[Array | float], *, start: Any, limit: Any, delta: Any) -> Array | float:
        """What divides start and delta divides them as stored, and whatever is added up from these: rounding keeps multiples."""
        first, step, _ = _parts(start, limit, delta)
        return min(_lowest_bit(first), _lowest_bit(step))


register(Range())
