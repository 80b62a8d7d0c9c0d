"""Resampling along one axis: every result is a weighted sum of a few elements, taps, with weights that are exact rational numbers.

A kernel does not use these weights. It computes the coordinate of each result in fp32 (or wider), off by some amount, and then
weights of that coordinate. Their deviation has two parts: what a moved coordinate changes, which adds up to zero over the taps of
a result (interpolation keeps constants), and what is rounded off each weight, which need not. The first part thus meets only the
differences of the taps from their middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, lift, mul_up, sum_up
from certify.semantics.families import scalar


@dataclass(frozen=True, slots=True)
class Row:
    """One result: tap -> (exact weight, change by a moved coordinate, roundings of the weight in units of u).

    outside: the result is a constant instead; loose: a kernel may see that differently.
    """

    taps: dict[int, tuple[Fraction, float, float]]
    outside: bool = False
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Taps:
    """All results along an axis, arrays (results, most taps), taps that a row lacks with weight 0.

    normalised: kernels divide weights by their sum `totals`; `moved` and `rounded` are then of the weights before that.
    """

    extent: int
    index: npt.NDArray[np.intp]
    exact: tuple[tuple[Fraction, ...], ...]
    weight: Array
    moved: Array
    rounded: Array
    totals: Array | None
    outside: npt.NDArray[np.bool_]
    loose: npt.NDArray[np.bool_]

    @property
    def results(self) -> int:
        return int(self.index.shape[0])

    @property
    def most(self) -> int:
        """The most taps of a result."""
        return max(1, int(self.index.shape[1]))

    @property
    def copies(self) -> bool:
        """Every result is one element, as it is."""
        return bool((((self.weight == 0.0) | (self.weight == 1.0)).all()) and (self.weight.sum(axis=1) == 1.0).all())

    def reach(self) -> int:
        """The most results that one element enters."""
        return int(np.bincount(self.index[self.weight != 0.0], minlength=1).max(initial=1))

    def zero_sum(self, u: float) -> Array:
        """Upper bounds of the weights' changes that add up to zero in each row, in a kernel that computes weights to u.

        Normalised weights w = f / sum f, each f off by D: |w' - w| <= (D + |w| sum D) / (sum f - sum D), and both sum up to 1.
        """
        if self.totals is None:
            return self.moved
        D = add_up(self.moved, mul_up(u, self.rounded))
        off = sum_up(D, axis=1, keepdims=True)
        left = self.totals[:, None] * (1.0 - 2.0**-40) - off
        change = add_up(D, mul_up(np.abs(self.weight), off))
        return np.where(change == 0.0, 0.0, np.where(left > 0.0, inflate(change / np.where(left > 0.0, left, 1.0), 2), np.inf))

    def rest(self, u: float) -> Array:
        """Upper bounds of the weights' other changes: rounded off them, or off their sum and the quotient by it."""
        if self.totals is None:
            return mul_up(u, self.rounded)
        return mul_up((self.most + 4.0) * u * (1.0 + u) ** self.most, add_up(np.abs(self.weight), self.zero_sum(u)))


def gathered(rows: list[Row], extent: int, totals: list[Fraction] | None = None) -> Taps:
    """Rows as arrays; weights are the nearest float64."""
    most = max((len(row.taps) for row in rows), default=0)
    index = np.zeros((len(rows), most), dtype=np.intp)
    weight, moved, rounded = (np.zeros((len(rows), most)) for _ in range(3))
    exact = []
    for i, row in enumerate(rows):
        exact.append(tuple(w for w, _, _ in row.taps.values()) + (Fraction(0),) * (most - len(row.taps)))
        for t, (tap, (w, shift, units)) in enumerate(row.taps.items()):
            index[i, t], weight[i, t], moved[i, t], rounded[i, t] = tap, float(w), shift, units
    sums = None if totals is None else np.array([float(t) for t in totals])
    flags = [np.array([getattr(row, name) for row in rows], dtype=bool) for name in ("outside", "loose")]
    return Taps(extent, index, tuple(exact), weight, moved, rounded, sums, *flags)


def weighted(x: Any, taps: Taps, k: int, weight: Array, back: bool = False) -> Any:
    """sum over taps of weight times x along array axis k of float64 numbers; `back`: the transpose."""
    from scipy.sparse import csr_matrix

    rows = np.repeat(np.arange(taps.results), taps.index.shape[1])
    matrix = csr_matrix((weight.reshape(-1), (rows, taps.index.reshape(-1))), shape=(taps.results, taps.extent))
    matrix.eliminate_zeros()
    front = np.moveaxis(x, k, 0)
    out = (matrix.T if back else matrix) @ np.ascontiguousarray(front).reshape(front.shape[0], -1)
    return np.moveaxis(np.asarray(out).reshape(-1, *front.shape[1:]), 0, k)


def along(x: Any, taps: Taps, k: int) -> Any:
    """The exact map along array axis k, on float64 numbers and on objects."""
    if not scalar.is_object(x):
        return weighted(x, taps, k, taps.weight)
    front = np.moveaxis(x, k, 0)
    out = np.empty((taps.results, *front.shape[1:]), dtype=object)
    for i, row in enumerate(taps.exact):
        used = [front[taps.index[i, t]] * w.numerator / w.denominator for t, w in enumerate(row) if w]
        out[i] = sum(used[1:], start=used[0]) if used else front[0] * 0
    return np.moveaxis(out, 0, k)


def absolute(x: Array, taps: Taps, k: int, weight: Array) -> Array:
    """Upper bound of `weighted` for non-negative x and weights."""
    with np.errstate(invalid="ignore", over="ignore"):
        y = np.asarray(weighted(lift(x), taps, k, lift(weight)))
    return inflate(np.where(np.isnan(y), np.inf, y), taps.most + 3)


def spread(Z: Enclosure, taps: Taps, k: int, change: Array) -> Array:
    """Upper bound of |sum c z| over |c| <= change with sum c = 0 and z in Z: sum change max |z - m|, m the middle of the taps."""
    lo, hi = (np.moveaxis(np.moveaxis(a, k, 0)[taps.index], 1, 0) for a in (Z.lo, Z.hi))
    used = (change > 0.0).T.reshape(*change.T.shape, *(1,) * (lo.ndim - 2))
    least, most = np.min(lo, axis=0, initial=np.inf, where=used), np.max(hi, axis=0, initial=-np.inf, where=used)
    with np.errstate(invalid="ignore"):
        middle = np.where(np.isfinite(least) & np.isfinite(most), 0.5 * least + 0.5 * most, 0.0)
        far = np.where(used, np.maximum(np.abs(hi - middle), np.abs(lo - middle)), 0.0)
    size = np.maximum(np.abs(least), np.abs(most))
    slack = np.where(np.isfinite(size), 2.0**-51 * size, 0.0)
    # A single tap keeps its weight: what changes it would have to add up to zero alone.
    single = (used.sum(axis=0) == 1) | (least == most)
    terms = mul_up(change.T.reshape(used.shape), add_up(np.where(np.isnan(far), np.inf, far), slack))
    return np.moveaxis(np.where(single, 0.0, sum_up(terms, axis=0)), 0, k)
