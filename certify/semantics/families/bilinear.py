"""Bilinear operators: alpha * form(A, B) + beta * C, where `form` adds up n products a_i b_i for each output element.

With m = mid, A = m_A + (|t| <= rad_A), deviations |d_A| <= r_A, and likewise B,

    f(x + d) - f(x) = form(d_A, m_B) + form(m_A, d_B) + d_C                                   (push)
                    + form(d_A, B - m_B) + form(A - m_A, d_B) + form(d_A, d_B)                (remainder)

so |remainder| <= form(r_A, rad_B + r_B) + form(rad_A, r_B) (mathematics, section 4), exactly 0 where one operand is a
single number without deviation. Enclosures are midpoint-radius (Rump, *Fast and parallel interval arithmetic*, BIT 39,
1999): valid for any order of summation that BLAS chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, inflate, lift, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents
from certify.semantics.families.broadcast import Shape, align, collect, spread_count
from certify.semantics.families.linear import around
from certify.semantics.families.partial import ConsecutiveSums, Indexed

T = TypeVar("T")
_DENSE = 0.9  # a share of factors other than zero from which on counting them is not worth a product
_SAFE = 2.0**-900  # a sum of products at least this large has lost a negligible part to underflow


@dataclass(frozen=True, slots=True)
class Extent:
    """Shapes and counts of one contraction: `shape` of the result with its case axis, `terms` products in each element.

    left, right: how many products one element of A (of B) enters.
    """

    shape: Shape
    terms: int
    left: int
    right: int


class Form(Protocol):
    """A bilinear map of arrays with a case axis, each output element a sum of products a_i b_i.

    apply, left and right work on float64 and on object arrays; left and right are its transposes with respect to
    A and B. Attributes that a form does not know are ignored.
    """

    def apply(self, A: Any, B: Any, **attributes: Any) -> Any: ...

    def left(self, a: Array, B: Array, shape: Shape, **attributes: Any) -> Array:
        """<apply(D, B), a> = <D, left(a, B)>, shaped (rows, *shape[1:]), `shape` being A's."""
        ...

    def right(self, a: Array, A: Array, shape: Shape, **attributes: Any) -> Array:
        """<apply(A, D), a> = <D, right(a, A)>, shaped (rows, *shape[1:]), `shape` being B's."""
        ...

    def largest(self, A: Array, B: Array, **attributes: Any) -> Array:
        """For non-negative A and B: at least max a_i b_i for each output element, one rounded product of two of their elements."""
        ...

    def extent(self, A: Shape, B: Shape, **attributes: Any) -> Extent: ...

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        """The shape (case axis first) in which the addend C broadcasts against an output of `rank` axes."""
        ...


def _bounded(form: Form, x: Array, y: Array, terms: int, attributes: dict[str, Any]) -> Array:
    """Upper bound of form(x, y) for non-negative x, y; inf where an infinite factor meets anything, 0 included.

    Where the computed sum is at least 2^-900 the products that underflowed, each off by at most 2^-1074, make up less than
    one unit roundoff of it (terms < 2^100); elsewhere factors lifted to 2^-500 keep every non-zero product normal.
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        total = np.asarray(form.apply(x, y, **attributes), dtype=np.float64)
        if total.size and not float(total.min()) >= _SAFE:  # NaN counts as small
            total = np.asarray(form.apply(lift(x), lift(y), **attributes), dtype=np.float64)
        return inflate(np.where(np.isnan(total), np.inf, total), terms + 2)


def _nonzero(form: Form, a: Array, b: Array, terms: int, attributes: dict[str, Any]) -> Array | None:
    """How many products of each output element have two factors that may be other than zero, |a_i| <= a, |b_i| <= b.

    None, which says all, where few factors are zero. Integers below 2^24 are counted exactly in fp32.
    """
    if all(np.count_nonzero(x) > _DENSE * x.size for x in (a, b)):
        return None
    exact = np.float32 if terms < 2**24 else np.float64
    return np.asarray(form.apply((a > 0.0).astype(exact), (b > 0.0).astype(exact), **attributes), dtype=np.float64)


def _gamma(terms: int) -> float:
    """More than gamma_terms (Higham, section 3.1), with four more roundings and the underflow of `_bounded` in hand."""
    n = (terms + 5) * UNIT_ROUNDOFF
    return n / (1.0 - n) * (1.0 + 2.0**-50)


def _largest(X: Enclosure, r: Array | None) -> Array:
    """Upper bound of every computed operand's magnitude."""
    return X.mag if r is None else add_up(X.mag, r)


def _factors_of(X: Operands) -> tuple[Enclosure, Enclosure]:
    """A and B. Raises ValueError if one is absent: ONNX requires both."""
    if X[0] is None or X[1] is None:
        raise ValueError("a bilinear operator needs both factors")
    return X[0], X[1]


def _is_short(x: Array) -> bool:
    """fp32 numbers within [2^-100, 2^100], or 0: the product of two is a float64, and a power of two stays one."""
    with np.errstate(over="ignore", under="ignore"):
        return bool(((x == x.astype(np.float32)) & ((x == 0.0) | ((x >= 2.0**-100) & (x <= 2.0**100)))).all())


def _is_integral(x: Array) -> bool:
    head = x.reshape(-1)[:64]
    return bool((head == np.rint(head)).all()) and bool((x == np.rint(x)).all())


@dataclass(frozen=True, slots=True)
class Bilinear:
    """A row over a `Form`; parameters are A, B and, if there are more, the addends C.

    scale:   attributes -> (alpha, beta).
    interval: an exact enclosure for forms that are elementwise; midpoint-radius if None.
    """

    name: str
    since: int
    parameters: tuple[str, ...]
    form: Form
    scale: Callable[[dict[str, Any]], tuple[float, float]] | None = None
    interval: Callable[[Enclosure, Enclosure], Enclosure] | None = None
    static: frozenset[str] = frozenset()
    domain: str = ""
    outputs: int = 1
    pointwise: bool = False
    nonlinear: bool = True

    def _factors(self, attributes: dict[str, Any]) -> tuple[float, float]:
        return (1.0, 1.0) if self.scale is None else self.scale(attributes)

    def value(self, *x: Any, **attributes: Any) -> Any:
        """alpha * form(A, B) + beta * C."""
        alpha, beta = self._factors(attributes)
        y = self.form.apply(x[0], x[1], **attributes)
        y = y if alpha == 1.0 else y * alpha
        for c in _present(x[2:]):
            c = c.reshape(self.form.addend_shape(c.shape, y.ndim))
            y = y + (c if beta == 1.0 else c * beta)
        return y

    def _absolute(self, x: Sequence[Array | None], attributes: dict[str, Any]) -> Array:
        """Upper bound of `value` on non-negative operands with |alpha|, |beta|."""
        A, B = _present(x[:2])
        alpha, beta = self._factors(attributes)
        y = _bounded(self.form, A, B, self.form.extent(A.shape, B.shape, **attributes).terms, attributes)
        y = y if alpha == 1.0 else mul_up(y, abs(alpha))
        added = [self._addend(c, y.ndim, beta) for c in _present(x[2:])]
        return add_up(y, *added) if added else y

    def _addend(self, c: Array, rank: int, beta: float) -> Array:
        c = c.reshape(self.form.addend_shape(c.shape, rank))
        return c if beta == 1.0 else mul_up(np.where(np.isinf(c), 1.0, abs(beta)), np.abs(c))  # 0 inf may be anything

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """Midpoint-radius: value(mid) within [form(|m_A|, rad_B) + form(rad_A, |m_B| + rad_B) + rad_C] + gamma * value(|mid|).

        gamma covers the float64 rounding of value(mid) for any order, its scaling and its addend; integers whose sums
        stay below 2^53 are added exactly.
        """
        A, B = _factors_of(X)
        if self.interval is not None and not _present(X[2:]):
            return self.interval(A, B)
        thin = all(x.is_point for x in _present(X))
        middles = [x if x is None else x.mid for x in X]
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            middle = np.asarray(self.value(*middles, **attributes), dtype=np.float64)
        size = self._absolute([m if m is None else np.abs(m) for m in middles], attributes)
        unscaled = self._factors(attributes) == (1.0, 1.0)
        if thin and unscaled and float(size.max(initial=0.0)) < 2.0**53 and all(map(_is_integral, _present(middles))):
            return Enclosure.point(middle)
        terms = self.form.extent(A.shape, B.shape, **attributes).terms
        radius = _gamma(terms) * size
        if not thin:
            radius = add_up(radius, self._spread(A, B, _present(X[2:]), middle.ndim, attributes))
        return around(middle, radius)

    def _spread(self, A: Enclosure, B: Enclosure, addends: Sequence[Enclosure], rank: int, attributes: dict[str, Any]) -> Array:
        """|alpha| (form(|m_A|, rad_B) + form(rad_A, |m_B| + rad_B)) + |beta| rad_C."""
        parts: list[Array] = []
        if not B.is_point:
            parts.append(self._absolute([np.abs(A.mid), B.rad], attributes))
        if not A.is_point:
            reach = np.abs(B.mid) if B.is_point else add_up(np.abs(B.mid), B.rad)
            parts.append(self._absolute([A.rad, reach], attributes))
        parts += [self._addend(C.rad, rank, self._factors(attributes)[1]) for C in addends if not C.is_point]
        return add_up(*parts)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """One of A and B has no deviation and is known exactly."""
        return any(radius is None and x is not None and x.is_point for x, radius in zip(X[:2], r[:2], strict=False))

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """L at the midpoints; radius form(r_A, rad_B + r_B) + form(rad_A, r_B), centred at 0."""
        A, B = _factors_of(X)
        form, (alpha, beta) = self.form, self._factors(attributes)
        extent = form.extent(A.shape, B.shape, **attributes)
        zero = np.zeros((1, *extent.shape[1:]))
        given = [None if x is None or radius is None else x.shape for x, radius in zip(X, r, strict=True)]
        met = [None if shape is None else form.addend_shape(shape, zero.ndim) for shape in given[2:]]

        def push(d: Tangents) -> Array:
            parts: list[Array] = []
            if d[0] is not None:
                parts.append(form.apply(d[0], B.mid, **attributes))
            if d[1] is not None:
                parts.append(form.apply(A.mid, d[1], **attributes))
            y = zero if not parts else parts[0] if len(parts) == 1 else parts[0] + parts[1]
            y = y if alpha == 1.0 else y * alpha
            for c in _present(d[2:]):
                c = c.reshape(form.addend_shape(c.shape, zero.ndim))
                y = y + (c if beta == 1.0 else c * beta)
            return np.asarray(y)

        def pull(a: Array) -> Sequence[Array | None]:
            scaled = a if alpha == 1.0 else a * alpha
            left = None if r[0] is None else form.left(scaled, B.mid, A.shape, **attributes)
            right = None if r[1] is None else form.right(scaled, A.mid, B.shape, **attributes)
            added = a if beta == 1.0 or not _present(met) else a * beta
            back = [
                None if m is None or s is None else collect(added, m).reshape(a.shape[0], *s[1:])
                for s, m in zip(given[2:], met, strict=True)
            ]
            return left, right, *back

        terms = _longest(extent, r, _present(met))

        products = extent.terms * sum(radius is not None for radius in r[:2])

        def magnitude(d: Tangents) -> Array:
            return self._first_order(A.mid, B.mid, d, zero, attributes)

        return Linearization(push, pull, magnitude, zero, self._remainder(X, r, zero, attributes), terms, products)

    def _first_order(self, a: Array, b: Array, d: Tangents, zero: Array, attributes: dict[str, Any]) -> Array:
        """Upper bound of |alpha| (form(d_A, |b|) + form(|a|, d_B)) + |beta| d_C for non-negative d."""
        parts: list[Array] = []
        if d[0] is not None:
            parts.append(self._absolute([d[0], np.abs(b)], attributes))
        if d[1] is not None:
            parts.append(self._absolute([np.abs(a), d[1]], attributes))
        parts += [self._addend(c, zero.ndim, self._factors(attributes)[1]) for c in _present(d[2:])]
        return add_up(zero, *parts)

    def _remainder(self, X: Operands, r: Radii, zero: Array, attributes: dict[str, Any]) -> Array:
        A, B = _factors_of(X)
        parts: list[Array] = []
        if r[0] is not None and not (r[1] is None and B.is_point):
            reach = B.rad if r[1] is None else r[1] if B.is_point else add_up(B.rad, r[1])
            parts.append(self._absolute([r[0], reach], attributes))
        if r[1] is not None and not A.is_point:
            parts.append(self._absolute([A.rad, r[1]], attributes))
        return add_up(zero, *parts) if parts else zero

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """|f(x + d) - f(x)| <= form(r_A, |B| + r_B) + form(|A|, r_B) + r_C, since (a + d)(b + e) - a b = d (b + e) + a e."""
        A, B = _factors_of(X)
        reach = B.mag if r[1] is None or r[0] is None else add_up(B.mag, r[1])
        zero = np.zeros((1, *self.form.extent(A.shape, B.shape, **attributes).shape[1:]))
        return self._first_order(A.mag, reach, r, zero, attributes)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """A dot product with `terms` products and the addends; elementwise, a plain multiplication.

        alpha and beta cost extra roundings, see `_scaled_dot`.
        """
        A, B = _factors_of(X)
        a, b = _largest(A, r[0]), _largest(B, r[1])
        extent = self.form.extent(A.shape, B.shape, **attributes)
        alpha, beta = self._factors(attributes)
        if self.pointwise:
            return arithmetic.round(magnitude, self.quantum(quantum, **attributes))
        terms, total, largest, nonzero = self.leaves(a, b, **attributes)
        reached = [_largest(C, radius) for C, radius in zip(X[2:], r[2:], strict=True) if C is not None]
        sizes = [self._addend(C, total.ndim, beta) for C in reached]
        c: Array | float = sizes[0] if len(sizes) == 1 else add_up(0.0, *sizes) if sizes else 0.0
        if alpha == 1.0 and (not reached or beta == 1.0):
            partial = None
            if isinstance(self.form, Indexed) and extent.terms:
                partial = ConsecutiveSums(self.form, (A, B), (r[0], r[1]), math.prod(extent.shape) * terms, attributes)
            return arithmetic.dot(terms, total, magnitude, largest, c, nonzero, partial, max(1, len(reached)))
        ones = [_bounded(self.form, x, y, terms, attributes) for x, y in ((np.ones_like(a), b), (a, np.ones_like(b)))]
        bound = _scaled_dot(arithmetic, terms, abs(alpha), (total, largest, add_up(*ones)), magnitude, c, nonzero)
        return np.where(np.isfinite(total), bound, np.inf)

    def leaves(self, a: Array, b: Array, **attributes: Any) -> tuple[int, Array, Array, Array | None]:
        """(n, sum |a_i b_i|, max |a_i b_i|, how many are not exactly zero), as `Arithmetic.dot` wants them, for operands up to a and b."""
        n = self.form.extent(a.shape, b.shape, **attributes).terms
        total = _bounded(self.form, a, b, n, attributes)
        with np.errstate(invalid="ignore", over="ignore"):
            largest = np.asarray(self.form.largest(a, b, **attributes))
            largest = largest if _is_short(a) and _is_short(b) else inflate(largest, 4)
            # One product is at most the sum of all, also where the product of maxima underflowed or 0 met inf.
            largest = np.where(largest >= _SAFE, np.minimum(largest, total), total)
        return max(1, n), total, largest, _nonzero(self.form, a, b, max(1, n), attributes)

    def condition(self, X: Operands, **attributes: Any) -> Array:
        """kappa = (sum |a_i b_i| + |c|) / |sum a_i b_i + c| at mid X (Higham, section 3.1); NaN where all is 0, inf where all cancels.

        A figure for people, not a bound: float64, to nearest.
        """
        middles = [x if x is None else x.mid for x in X]
        sizes = self._absolute([m if m is None else np.abs(m) for m in middles], attributes)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(sizes / np.abs(self.value(*middles, **attributes)))

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """Squares, and sums of products of non-negative numbers, are not negative in any order of summation."""
        alpha, beta = self._factors(attributes)
        square = self.pointwise and same and len(least) == 2
        return 0.0 if min(alpha, beta) >= 0.0 and (square or min(least) >= 0.0) else -np.inf

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """q_A q_B divides a product elementwise; nothing is claimed for sums of products."""
        if not self.pointwise:
            return 0.0
        q = [np.asarray(x, dtype=np.float64) for x in (quantum[0], quantum[1])]
        rank = max(x.ndim for x in q)
        with np.errstate(under="ignore", over="ignore"):
            product = np.multiply(*(align(x, rank) if x.ndim else x for x in q))
        return np.where(np.isfinite(product), product, 0.0)


def _present(x: Sequence[T | None]) -> list[T]:
    return [a for a in x if a is not None]


def _longest(extent: Extent, r: Radii, addends: Sequence[Shape]) -> int:
    """The longest inner product of push or pull over the operands that deviate."""
    given = [radius is not None for radius in r]
    pushed = extent.terms * (given[0] + given[1]) + max(1, len(addends))
    reached = [extent.left * given[0], extent.right * given[1]]
    return max(pushed, *reached, *(spread_count(addend, extent.shape) for addend in addends))


def _scaled_dot(
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
