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
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure, add, around
from certify.number.multipliers import contracted, product
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, inflate, lift, mul_up
from certify.semantics.contract import Arithmetic, Errors, Linearization, Operands, Radii, SlopePull, Tangents, of_cases
from certify.semantics.families.broadcast import Shape, align, collect, collected, spread_count
from certify.semantics.families.form import Extent, Form
from certify.semantics.families.partial import ConsecutiveSums, Indexed
from certify.semantics.families.scaled_dot import scaled_dot

T = TypeVar("T")
_DENSE = 0.9  # a share of factors other than zero from which on counting them is not worth a product
_SAFE = 2.0**-900  # a sum of products at least this large has lost a negligible part to underflow


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


def _is_short(x: Array, rank: int) -> npt.NDArray[np.bool_]:
    """In which cases, (cases, 1, ...) of this rank, all are fp32 numbers within [2^-100, 2^100], or 0: the product of two is a float64,
    and a power of two stays one."""
    with np.errstate(over="ignore", under="ignore"):
        short = (x == x.astype(np.float32)) & ((x == 0.0) | ((x >= 2.0**-100) & (x <= 2.0**100)))
    return np.asarray(short.reshape(x.shape[0], -1).all(axis=1)).reshape(-1, *(1,) * (rank - 1))


def _power_of_two(X: Enclosure, r: Array | None) -> Array | None:
    """|X| where it is known to be one power of two, 0 elsewhere; None: nowhere."""
    if r is not None:
        return None
    size = np.abs(X.lo)
    found = (X.lo == X.hi) & (np.frexp(size)[0] == 0.5)
    return np.where(found, size, 0.0) if found.any() else None


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

    @property
    def basic(self) -> bool:
        """Elementwise, the kernel is one multiplication."""
        return self.pointwise

    def errors(self, **attributes: Any) -> Errors | None:
        """As `Rule.errors`: alpha rounds operands, which many elements of the result share."""
        return "one" if self.pointwise else "own" if self._factors(attributes) == (1.0, 1.0) else "stored"

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
        # Held as enclosures: a streamed constant is read where a map uses it, and not kept in between.
        middle_a, middle_b = A.middle, B.middle
        form, (alpha, beta) = self.form, self._factors(attributes)
        extent = form.extent(A.shape, B.shape, **attributes)
        zero = np.zeros((1, *extent.shape[1:]))
        given = [None if x is None or radius is None else x.shape for x, radius in zip(X, r, strict=True)]
        met = [None if shape is None else form.addend_shape(shape, zero.ndim) for shape in given[2:]]

        def push(d: Tangents) -> Array:
            parts: list[Array] = []
            if d[0] is not None:
                parts.append(form.apply(d[0], middle_b.lo, **attributes))
            if d[1] is not None:
                parts.append(form.apply(middle_a.lo, d[1], **attributes))
            y = zero if not parts else parts[0] if len(parts) == 1 else parts[0] + parts[1]
            y = y if alpha == 1.0 else y * alpha
            for c in _present(d[2:]):
                c = c.reshape(form.addend_shape(c.shape, zero.ndim))
                y = y + (c if beta == 1.0 else c * beta)
            return np.asarray(y)

        def pulled(p: Array, chosen: Callable[[Array], Array]) -> Sequence[Array | None]:
            scaled = p if alpha == 1.0 else p * alpha
            left = None if r[0] is None else form.left(scaled, chosen(middle_b.lo), A.shape, **attributes)
            right = None if r[1] is None else form.right(scaled, chosen(middle_a.lo), B.shape, **attributes)
            added = p if beta == 1.0 or not _present(met) else p * beta
            back = [
                None if m is None or s is None else collect(added, m).reshape(p.shape[0], *s[1:])
                for s, m in zip(given[2:], met, strict=True)
            ]
            return left, right, *back

        terms = _longest(extent, r, _present(met))

        products = extent.terms * sum(radius is not None for radius in r[:2])

        def magnitude(d: Tangents) -> Array:
            return self._first_order(middle_a.lo, middle_b.lo, d, zero, attributes)

        return Linearization(
            push,
            lambda p: pulled(p, lambda x: x),
            magnitude,
            zero,
            self._remainder(X, r, zero, attributes),
            terms,
            products,
            lambda p, cases: pulled(p, lambda x: of_cases(x, cases)),
        )

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

    def slopes(self, X: Operands, r: Radii, **attributes: Any) -> SlopePull:
        """f(x + d) - f(x) = alpha (form(d_A, B + d_B) + form(A, d_B)) + beta d_C."""
        A, B = _factors_of(X)
        form, (alpha, beta) = self.form, self._factors(attributes)
        extent = form.extent(A.shape, B.shape, **attributes)
        rank = len(extent.shape)
        reached = B.widen(r[1])

        def factor(a: Enclosure, S: Enclosure, shape: Shape, left: bool) -> Enclosure:
            if self.pointwise:
                return collected(product(a, S.map(lambda v: align(v, rank))), shape)
            back, terms = (form.left, extent.left) if left else (form.right, extent.right)
            return contracted(lambda p, s: back(p, s, shape, **attributes), a, S, terms)

        def pull(a: Enclosure) -> Sequence[Enclosure | None]:
            scaled = a if alpha == 1.0 else product(a, Enclosure.point(np.full((1,) * rank, alpha)))
            added = a if beta == 1.0 else product(a, Enclosure.point(np.full((1,) * rank, beta)))
            left = None if r[0] is None else factor(scaled, reached, A.shape, True)
            right = None if r[1] is None else factor(scaled, A, B.shape, False)
            back: list[Enclosure | None] = []
            for C, radius in zip(X[2:], r[2:], strict=True):
                if C is None or radius is None:
                    back.append(None)
                else:
                    met = collected(added, form.addend_shape(C.shape, rank))
                    back.append(met.reshape((met.shape[0], *C.shape[1:])))
            return left, right, *back

        return pull

    def moved(self, X: Operands, D: Sequence[Enclosure | None], **attributes: Any) -> Enclosure:
        """alpha form(A, D_B) + beta D_C and, where A moves, alpha form(D_A, B + D_B): form is linear in each."""
        A, B = _factors_of(X)
        moved_b = Enclosure.point(np.zeros((1, *B.shape[1:]))) if D[1] is None else D[1]
        added = [
            None if c is None else Enclosure.point(np.zeros((1, *c.shape[1:]))) if d is None else d
            for c, d in zip(X[2:], D[2:], strict=True)
        ]
        Y = self.enclose((A, moved_b, *added), **attributes)
        if D[0] is None:
            return Y
        nothing = [None if c is None else Enclosure.point(np.zeros((1, *c.shape[1:]))) for c in X[2:]]
        return add(Y, self.enclose((D[0], B if D[1] is None else add(B, D[1]), *nothing), **attributes))

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

        alpha and beta cost extra roundings, see `scaled_dot`.
        """
        A, B = _factors_of(X)
        a, b = _largest(A, r[0]), _largest(B, r[1])
        extent = self.form.extent(A.shape, B.shape, **attributes)
        alpha, beta = self._factors(attributes)
        if self.pointwise:
            return self._one_product(A, B, r, arithmetic, magnitude, self.quantum(quantum, **attributes))
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
        bound = scaled_dot(arithmetic, terms, abs(alpha), (total, largest, add_up(*ones)), magnitude, c, nonzero)
        return np.where(np.isfinite(total), bound, np.inf)

    def _one_product(self, A: Enclosure, B: Enclosure, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Array | float) -> Array:
        """One multiplication; by a power of two it is exact barring overflow and underflow."""
        born = arithmetic.round(magnitude, quantum)
        for X, radius in ((A, r[0]), (B, r[1])):
            power = _power_of_two(X, radius)
            if power is not None:
                born = np.where(align(power, born.ndim) > 0.0, np.minimum(born, arithmetic.scaled(magnitude)), born)
        return born

    def leaves(self, a: Array, b: Array, **attributes: Any) -> tuple[int, Array, Array, Array | None]:
        """(n, sum |a_i b_i|, max |a_i b_i|, how many are not exactly zero), as `Arithmetic.dot` wants them, for operands up to a and b."""
        n = self.form.extent(a.shape, b.shape, **attributes).terms
        total = _bounded(self.form, a, b, n, attributes)
        with np.errstate(invalid="ignore", over="ignore"):
            largest = np.asarray(self.form.largest(a, b, **attributes))
            largest = np.where(_is_short(a, largest.ndim) & _is_short(b, largest.ndim), largest, inflate(largest, 4))
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
