"""Det: determinants of matrices up to 8 x 8.

Source: https://onnx.ai/onnx/operators/onnx__Det.html. Covers kernels that expand by minors and those that factorize with partial
pivoting (onnxruntime's Eigen has both), in the kernel's format. Rows of length n are on the last axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number import enclosure
from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, mul_up, sum_up, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents, UnsupportedOperator, register
from certify.semantics.families.index_map import copied

_MOST = 8  # the work grows with 2^n
Step = tuple[tuple[int, ...], int, tuple[int, ...], int]


def _expansion(n: int, rows: int) -> Iterator[Step]:
    """(columns, column, the others, sign) of the expansion of a minor of the first `rows` rows by its last row."""
    for columns in itertools.combinations(range(n), rows):
        for place, column in enumerate(columns):
            yield columns, column, columns[:place] + columns[place + 1 :], (-1) ** (rows - 1 + place)


def _minors(n: int, entry: Callable[[int, int], Any], one: Any, add: Any, multiply: Any, negative: Any) -> list[dict[tuple[int, ...], Any]]:
    """For k = 0..n the minors of the first k rows by their columns, each from those of one row less."""
    levels: list[dict[tuple[int, ...], Any]] = [{(): one}]
    for rows in range(1, n + 1):
        level: dict[tuple[int, ...], Any] = {}
        for columns, column, rest, sign in _expansion(n, rows):
            term = multiply(entry(rows - 1, column), levels[-1][rest])
            term = term if sign > 0 else negative(term)
            level[columns] = term if columns not in level else add(level[columns], term)
        levels.append(level)
    return levels


def _interval_minors(X: Enclosure) -> list[dict[tuple[int, ...], Enclosure]]:
    n = X.shape[-1]
    one = Enclosure.point(np.ones(X.shape[:-2]))
    return _minors(n, lambda i, j: X[..., i, j], one, enclosure.add, enclosure.multiply, enclosure.negative)


def _cofactors(X: Enclosure) -> Enclosure:
    """d det / d x, enclosed: the expansion's own derivative, backwards."""
    n, levels = X.shape[-1], _interval_minors(X)
    full = tuple(range(n))
    weights = {full: Enclosure.point(np.ones(X.shape[:-2]))}
    found: list[list[Enclosure | None]] = [[None] * n for _ in range(n)]
    for rows in range(n, 0, -1):
        below: dict[tuple[int, ...], Enclosure] = {}
        for columns, column, rest, sign in _expansion(n, rows):
            weight = weights[columns] if sign > 0 else enclosure.negative(weights[columns])
            part = enclosure.multiply(weight, levels[rows - 1][rest])
            before = found[rows - 1][column]
            found[rows - 1][column] = part if before is None else enclosure.add(before, part)
            share = enclosure.multiply(weight, X[..., rows - 1, column])
            below[rest] = share if rest not in below else enclosure.add(below[rest], share)
        weights = below
    parts = [part for row in found for part in row if part is not None]
    lo, hi = (np.stack([getattr(part, end) for part in parts], axis=-1).reshape(X.shape) for end in ("lo", "hi"))
    return Enclosure(lo, hi)


def _lengths(x: Array, axis: int) -> Array:
    """Upper bounds of the Euclidean lengths of rows (axis -1) or columns (-2), moved to the front."""
    square = sum_up(mul_up(x, x), axis=axis)
    return np.moveaxis(up(np.sqrt(square)), -1, 0)


def _beyond_first_order(centre: Array, width: Array, radius: Array) -> Array:
    """Bounds of what f(x + d) - f(x) has beside the first order at the centre, by the lengths of rows (or columns), first axis.

    det is linear in each row: f(m + v + d) is the sum of the determinants with each row taken from m, v or d, each at most the product
    of its rows' lengths (Hadamard). Left out are those without d, which are f(x), and those with one row from d and the others from m.
    """
    still, moved, first, rest = (np.asarray(v) for v in (1.0, 0.0, 0.0, 0.0))
    for m, v, d in zip(centre, width, radius, strict=True):
        rest = add_up(mul_up(rest, add_up(m, v, d)), mul_up(moved, d), mul_up(first, add_up(v, d)))
        first = add_up(mul_up(first, m), mul_up(still, d))
        moved = add_up(mul_up(moved, add_up(m, v)), mul_up(still, v))
        still = mul_up(still, m)
    return rest


@dataclass(frozen=True, slots=True)
class Determinant:
    """L d = sum C_ij d_ij with the cofactors C of mid X; the remainder by `_beyond_first_order`, the smaller of rows' and columns'."""

    since: int
    name: str = "Det"
    domain: str = ""
    parameters: tuple[str, ...] = ("X",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def value(self, x: Any) -> Any:
        n = _size(x.shape)
        one = x[..., 0, 0] * 0 + 1 if n else np.ones(x.shape[:-2])
        return _minors(n, lambda i, j: x[..., i, j], one, lambda a, b: a + b, lambda a, b: a * b, lambda a: -a)[n][tuple(range(n))]

    def enclose(self, X: Operands) -> Enclosure:
        """Expansion by minors in interval arithmetic."""
        x = _only(X)
        n = _size(x.shape)
        return _interval_minors(x)[n][tuple(range(n))]

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return r[0] is None or (_only(X).shape[-1] == 1)

    def linearize(self, X: Operands, r: Radii) -> Linearization:
        x = _only(X)
        n = _size(x.shape)
        C = _cofactors(Enclosure.point(x.mid))
        slope = np.where(np.isfinite(C.lo) & np.isfinite(C.hi), C.mid, 0.0)
        off = enclosure.subtract(C, Enclosure.point(slope)).mag
        zero = np.zeros((1, *x.shape[1:-2]))

        def push(t: Tangents) -> Array:
            return zero if t[0] is None else np.asarray((slope * t[0]).sum(axis=(-2, -1)))

        def pull(a: Array) -> Sequence[Array | None]:
            return (None if r[0] is None else slope * a[..., None, None],)

        def magnitude(t: Tangents) -> Array:
            return zero if t[0] is None else sum_up(mul_up(np.abs(slope), t[0]), axis=(-2, -1))

        radius = zero if r[0] is None else self._remainder(x, r[0], off)
        return Linearization(push, pull, magnitude, zero, radius, max(n * n, 1))

    def _remainder(self, x: Enclosure, r: Array, off: Array) -> Array:
        lost = sum_up(mul_up(off, r), axis=(-2, -1))
        ways = [_beyond_first_order(*(_lengths(v, axis) for v in (np.abs(x.mid), x.rad, r))) for axis in (-1, -2)]
        return add_up(lost, np.minimum(*ways))

    def modulus(self, X: Operands, r: Radii) -> Array:
        """|L| r and the remainder."""
        linear = self.linearize(X, r)
        return add_up(linear.magnitude(r), linear.radius)

    def rounding(self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
        """The larger of the errors of the two ways, then the store. u, eta: the kernel's format; a_ij >= |x^_ij|.

        Minors: each of the n! terms meets at most K = n (n + 1) / 2 roundings (a product and at most k - 1 additions at each minor of
        k rows), so the error is at most ((1 + u)^K - 1) P, P = prod of the rows' sums >= the permanent of a. There are at most 3 n!
        products; one that underflows errs by eta, times what multiplies it later, at most prod max(1, row sum), (1 + u)^K.

        Pivoting: L^ U^ = A + E up to a permutation, |E| <= gamma_n |L^| |U^| (Higham, Theorem 9.3), |l^| <= 1, and no element grows
        by more than 2 (1 + u)^2 a step, and what underflows: |u^| <= g = (2 (1 + u)^2)^(n-1) (max a + 2 eta). So |E_ij| <= n gamma_n g,
        and by underflow of products and quotients (n + g) eta (1 + gamma_n) more. By Hadamard |det(A + E) - det A| <=
        prod (|row| + sqrt(n) |E|) - prod |row|.
        The diagonal's product is one in any order (families/product): (1 + u)^(n-1) - 1 relative, and its underflow.
        """
        x = _only(X)
        n = _size(x.shape)
        a = x.mag if r[0] is None else add_up(x.mag, r[0])
        if n <= 1:
            return copied(arithmetic, magnitude, quantum)
        u, eta = arithmetic.unit_roundoff, arithmetic.underflow
        with np.errstate(over="ignore", invalid="ignore"):
            off = np.maximum(
                self._by_minors(a, n, u, eta, arithmetic.accumulator.max), self._by_pivots(a, n, u, eta, arithmetic, magnitude)
            )
        off = np.where(np.isnan(off), np.inf, off)
        return off if arithmetic.accumulator == arithmetic.storage else add_up(off, arithmetic.round(add_up(magnitude, off)))

    def _by_minors(self, a: Array, n: int, u: float, eta: float, most: float) -> Array:
        sums = np.moveaxis(sum_up(a, axis=-1), -1, 0)
        K = n * (n + 1) // 2
        grown = _power_less_one(u, K)
        P, reach = mul_up(*sums), mul_up(*np.maximum(sums, 1.0))
        off = add_up(mul_up(grown, P), mul_up(3.0 * math.factorial(n) * eta, 1.0 + grown, reach))
        return np.where(add_up(mul_up(1.0 + grown, reach), off) <= most, off, np.inf)

    def _by_pivots(self, a: Array, n: int, u: float, eta: float, arithmetic: Arithmetic, magnitude: Array) -> Array:
        if n * u >= 0.5:
            return np.full(magnitude.shape, np.inf)
        gamma = float(inflate(np.asarray(n * u / (1.0 - n * u)), 4))
        g = mul_up(float(inflate(np.asarray((2.0 * (1.0 + u) ** 2) ** (n - 1)), 2 * n + 4)), add_up(a.max(axis=(-2, -1)), 2.0 * eta))
        E = add_up(mul_up(n * gamma, g), mul_up(eta * (1.0 + gamma), add_up(n, g)))
        rows = _lengths(a, -1)
        length = mul_up(float(up(np.asarray(math.sqrt(n)))), E)
        moved, whole = np.zeros(E.shape), np.ones(E.shape)
        for row in rows:
            moved = add_up(mul_up(moved, add_up(row, length)), mul_up(whole, length))
            whole = mul_up(whole, row)
        top = mul_up(*(np.maximum(g, 1.0),) * n)
        grown = 1.0 + _power_less_one(u, n - 1)
        multiplied = add_up(mul_up(grown - 1.0, add_up(magnitude, moved)), mul_up(grown, _power_less_one(eta, n - 1), top))
        safe = mul_up(grown, 1.0 + _power_less_one(eta, n - 1), top) <= arithmetic.accumulator.max
        return np.where(safe, add_up(moved, multiplied), np.inf)

    def quantum(self, quantum: Sequence[Array | float]) -> Array | float:
        """Nothing is claimed for sums of products."""
        return 0.0


def _power_less_one(u: float, count: int) -> float:
    """Upper bound of (1 + u)^count - 1."""
    return float(inflate(np.asarray(math.expm1(count * math.log1p(u))), 16)) if u > 0.0 else 0.0


def _size(shape: tuple[int, ...]) -> int:
    """n. Raises UnsupportedOperator for larger matrices."""
    n = shape[-1]
    if n > _MOST:
        raise UnsupportedOperator(f"a determinant of {n} x {n}; rules reach {_MOST} x {_MOST}")
    return n


def _only(X: Operands) -> Enclosure:
    operand = X[0]
    if operand is None:
        raise ValueError("Det needs its operand")
    return operand


register(*(Determinant(since) for since in (11, 22)))
