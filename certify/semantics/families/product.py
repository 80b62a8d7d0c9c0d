"""Products of many factors: what multiplying them in any order rounds.

The first order of a product is exact where it is built from products of two (families/bilinear); `AnyOrder` is a node after them, whose
value is the product itself and whose rounding is that of any order in which a kernel may multiply.

**Any order.** Let every multiplication deliver p^ = a^ b^ (1 + t) + e with |t| <= u, |e| <= eta, and let S be a set of s factors,
p_S their product, P_S = prod max(1, |x_i|). Then for every tree of multiplications

    |p^_S - p_S| <= |p_S| ((1 + u)^(s-1) - 1) + P_S (1 + u)^(s-1) ((1 + eta)^(s-1) - 1),   |p^_S| <= P_S ((1 + u) (1 + eta))^(s-1).

Proof. Write p^_S = p_S (1 + theta) + epsilon with |theta| <= (1 + u)^(s-1) - 1 and |epsilon| <= P_S E_s, E_1 = 0, and let
F_s = (1 + u)^(s-1) + E_s, so that |p^_S| <= P_S F_s. For S = A + B, a + b factors: p^_A p^_B (1 + t) = p_A p_B (1 + theta_A)
(1 + theta_B) (1 + t) + rest, and what is left and e together are at most P_S [(1 + u) (F_a F_b - (1 + u)^(a+b-2)) + eta], hence
F_(a+b) <= (1 + u) F_a F_b + eta. By induction F_s <= ((1 + u) (1 + eta))^(s-1), because the right side is then at most
(1 + u)^(s-1) (1 + eta)^(s-2) + eta <= ((1 + u) (1 + eta))^(s-1); and E_s = F_s - (1 + u)^(s-1). QED.

Products that a kernel may store on the way, and those on the way in the accumulator, overflow where |p^_S| may exceed what is held there.

Factors that enter in a format that does not hold them are multiplied by 1 first: s more roundings. A factor that is exactly zero makes
every product with it exactly zero. If q_i divides x_i then prod q_i divides p_S, and p_S / prod q_i <= prod max(1, |x_i| / q_i): where
that is at most 1/u and prod min(1, q_i) is a number of the format, nothing is rounded at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, lift, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents
from certify.semantics.families.index_map import copied


@dataclass(frozen=True, slots=True)
class AnyOrder:
    """A row. value(y, x) = y, the products of x.

    collect: collect(x, **attributes) -> the products of the elements of a float64 array, in y's shape.
    each:    True if a kernel may store every product on the way.
    """

    name: str
    collect: Callable[..., Array]
    each: bool
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("Y", "X")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = False
    pointwise: bool = False

    def value(self, *x: Any, **attributes: Any) -> Any:
        return x[0]

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        return _both(X)[0]

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return True

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """The identity on y; the factors only size the rounding."""
        y, x = _both(X)
        zero = np.zeros((1, *y.shape[1:]))

        def push(t: Tangents) -> Array:
            return zero if t[0] is None else t[0]

        def pull(a: Array) -> Sequence[Array | None]:
            return [None if r[0] is None else a, None if r[1] is None else np.zeros((a.shape[0], *x.shape[1:]))]

        return Linearization(push, pull, push, zero, zero, 0)

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        return np.zeros((1, *_both(X)[0].shape[1:])) if r[0] is None else r[0]

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """As the family's derivation says, in the accumulator and then stored; if `each`, with both roundings in every multiplication."""
        x = _both(X)[1]
        size = x.mag if r[1] is None else add_up(x.mag, r[1])
        number = int(np.prod(x.shape[1:], dtype=np.int64))
        with np.errstate(all="ignore"):
            factors = np.rint(np.log2(self._collected(np.full((1, *x.shape[1:]), 2.0), attributes)))
            factors = np.where(np.isfinite(factors), factors, float(number))
            reach = self._bounded(np.maximum(size, 1.0), attributes)
            off, top = self._rounded(arithmetic, factors, reach, magnitude)
            exact = self._exactly(arithmetic, size, quantum[1], attributes)
            empty = self._collected((size > 0.0).astype(np.float64), attributes) == 0.0
        off = np.where(exact | empty, 0.0, off)
        off = np.where(factors <= 1.0, copied(arithmetic, magnitude, quantum[1:]), off)
        most = min(arithmetic.accumulator.max, arithmetic.storage.max) if self.each else arithmetic.accumulator.max
        return np.where((factors > 1.0) & ~(top <= most), np.inf, off)

    def _rounded(self, arithmetic: Arithmetic, factors: Array, reach: Array, magnitude: Array) -> tuple[Array, Array]:
        """(error of what is delivered, largest product on the way)."""
        u, eta = arithmetic.unit_roundoff, arithmetic.underflow
        own = arithmetic.accumulator == arithmetic.storage
        stores = self.each and not own
        if stores:
            kept = arithmetic.storage.unit_roundoff
            eta = float(inflate(np.asarray(eta * (1.0 + kept) + float(np.max(arithmetic.round(np.full(1, 2.0**-500))))), 3))
            u = float(inflate(np.asarray((1.0 + u) * (1.0 + kept)), 2)) - 1.0 + 2.0**-50
        held = own or (
            arithmetic.accumulator.max >= arithmetic.storage.max
            and arithmetic.accumulator.unit_roundoff <= arithmetic.storage.unit_roundoff
        )
        count = np.maximum(factors - 1.0 if held else 2.0 * factors - 1.0, 0.0)
        relative = _power_less_one(u, count)
        grown = inflate(1.0 + relative, 1)
        before = add_up(mul_up(relative, magnitude), mul_up(reach, grown, _power_less_one(eta, count)))
        top = mul_up(reach, grown, inflate(1.0 + _power_less_one(eta, count), 1))
        return before if own or stores else add_up(before, arithmetic.round(add_up(magnitude, before))), top

    def _exactly(self, arithmetic: Arithmetic, size: Array, quantum: Array | float, attributes: dict[str, Any]) -> Any:
        """True where every product on the way is a number of every format involved."""
        q = np.broadcast_to(np.asarray(quantum, dtype=np.float64), size.shape)
        if not q.any():
            return np.zeros(1, dtype=bool)
        known = q > 0.0
        ratio = self._bounded(np.where(known, np.maximum(size / np.where(known, q, 1.0), 1.0), np.inf), attributes)
        least = self._collected(np.where(known, np.minimum(q, 1.0), 0.0), attributes)
        fits = (ratio * arithmetic.unit_roundoff <= 1.0) & (least >= 2.0 * arithmetic.underflow) & (least > 0.0)
        stored = arithmetic.round(np.where(np.isfinite(ratio), ratio, 0.0) * least, least) == 0.0
        return fits & stored & np.isfinite(ratio)

    def _collected(self, x: Array, attributes: dict[str, Any]) -> Array:
        return np.asarray(self.collect(x, **attributes), dtype=np.float64)

    def _bounded(self, x: Array, attributes: dict[str, Any]) -> Array:
        """Upper bound of the products of numbers of at least 1."""
        total = self._collected(x, attributes)
        return inflate(np.where(np.isnan(total), np.inf, total), x.size + 2)

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """The product of the factors' quanta, where it is a number."""
        q = np.asarray(quantum[1], dtype=np.float64)
        if q.ndim < 2 or not q.any():
            return 0.0
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            product = self._collected(q, attributes)
        return np.where(np.isfinite(product) & (product >= 2.0**-1000), product, 0.0)


def _power_less_one(u: float, count: Array) -> Array:
    """Upper bound of (1 + u)^count - 1."""
    return lift(inflate(np.asarray(np.expm1(count * np.log1p(u))), 32))


def _both(X: Operands) -> tuple[Enclosure, Enclosure]:
    y, x = X
    if y is None or x is None:
        raise ValueError("a product needs its factors")
    return y, x
