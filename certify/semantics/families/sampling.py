"""Sampling: images interpolated at places that may be computed, "nearest", "linear" or "cubic", each axis by the same kernel.

f(x, p) = sum over nodes i of prod_k w(p_k - i_k) x_i is linear in x and, in p, piecewise smooth: with x within X, p within P,
|d| <= r_x, |e| <= r_p, (m, c) the middles, q >= |p + e - c|,

    f(x + d, p + e) - f(x, p) = f(d, c) + g e + [f(d, p + e) - f(d, c)] + [f(x, p + e) - f(x, p) - g e],    g = grad f(m, c).

The first bracket is at most sum_k q_k sup |d_k f(d, .)|, the second sum_k sup |d_k f(x, .) - g_k| r_k over all places that the
region P +- r_p holds (f is Lipschitz, so it is the integral of its gradient along a segment). Nearest: g = 0, and where the
element is not decided the hull of all that are possible.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure, around
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii
from certify.semantics.families import scalar
from certify.semantics.families.index_map import copied
from certify.semantics.families.interpolation import ALPHA, FAR, SUMS, cells, inside, overshot, patch, points, summed, weights
from certify.semantics.families.patches import Patch, Reader, floor, nearest
from certify.semantics.families.sampling_slopes import Slopes


@dataclass(frozen=True, slots=True)
class Settings:
    """mode: nearest, linear, cubic. padding, align_corners, batch: as in Reader. crop: 0 where a place lies beyond [-1, n]."""

    mode: str
    padding: str
    align_corners: int = 0
    batch: tuple[int, ...] | None = None
    crop: bool = False

    def reader(self, shape: tuple[int, ...]) -> Reader:
        return Reader(shape[3:], self.padding, self.align_corners, self.batch)


@dataclass(frozen=True, slots=True)
class Sample:
    """value(X, P): X (cases, N, C, *extents), P (cases, sets, *points, axes), x before y before z, to (cases, sets, C, *points)."""

    name: str = "Sample"
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("X", "places")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def value(self, x: Any, places: Any, **settings: Any) -> Any:
        how = Settings(**settings)
        reader, p = how.reader(x.shape), points(places)
        if how.mode == "nearest":
            out = reader.take(x, reader.numbers(tuple(nearest(v) for v in p)))
        else:
            start = tuple(floor(v) for v in p)
            out = summed(reader, x, start, [weights(v, i, how.mode) for v, i in zip(p, start, strict=True)])
        if how.crop:
            within = np.logical_and.reduce([np.asarray((v >= -1) & (v <= n), dtype=bool) for v, n in zip(p, reader.extents, strict=True)])
            out = np.where(within[:, :, None], out, out * 0 if scalar.is_object(out) else 0.0)
        return out.reshape(*out.shape[:3], *places.shape[2:-1])

    def enclose(self, X: Operands, **settings: Any) -> Enclosure:
        """Linear: within a cell f is affine in each coordinate, so its extremes over a box lie at corners of its parts.

        Regions that reach over more than two cells, and undecided nearest elements: the hull of what they can read. Cubic weights
        add up to 1, their magnitudes to at most 1.375 an axis: within that many half ranges of the middle of what is read.
        """
        how = Settings(**settings)
        x, places = _both(X)
        reader = how.reader(x.shape)
        around_places = patch(reader, places, how.mode)
        hull = around_places.range(x)
        if how.mode == "nearest":
            Y = hull
        elif how.mode == "linear":
            Y = self._corners(reader, x, places, hull, around_places)
        else:
            Y = overshot(hull, SUMS["cubic"][0] ** len(reader.extents))
            if places.is_point:
                Y = self._at_point(reader, x, places, Y)
        if how.crop:
            within, torn = inside(reader.extents, places.mid, places)
            Y = Enclosure(
                np.where(torn, np.minimum(Y.lo, 0.0), np.where(within, Y.lo, 0.0)),
                np.where(torn, np.maximum(Y.hi, 0.0), np.where(within, Y.hi, 0.0)),
            )
        return Y.reshape((*Y.shape[:3], *places.shape[2:-1]))

    def _corners(self, reader: Reader, x: Enclosure, places: Enclosure, hull: Enclosure, read: Patch) -> Enclosure:
        low, high = points(places.lo), points(places.hi)
        met = [cells(a, b) for a, b in zip(low, high, strict=True)]
        ends = [[(a, i)] if places.is_point else [(a, i), (np.minimum(b, i + 1.0), i), (np.maximum(a, j), j), (b, j)]
                for a, b, (i, j) in zip(low, high, met, strict=True)]  # fmt: skip
        lo: Any = None
        hi: Any = None
        for corner in itertools.product(*ends):
            factors = [weights(np.clip(p, i, i + 1.0), i, "linear") for p, i in corner]
            start = tuple(i for _, i in corner)
            below, above = (summed(reader, end, start, factors) for end in (x.lo, x.hi))
            lo, hi = (below, above) if lo is None else (np.minimum(lo, below), np.maximum(hi, above))
        gamma = (2 ** len(ends) + 3 * len(ends) + 4) * UNIT_ROUNDOFF
        loss = np.where(hull.mag > 0.0, inflate(gamma * hull.mag, 4) + 2.0**-1070, 0.0)
        near = read.near & np.isfinite(hull.lo) & np.isfinite(hull.hi)
        lo, hi = np.where(near, np.maximum(lo, hull.lo), hull.lo), np.where(near, np.minimum(hi, hull.hi), hull.hi)
        return Enclosure(lo, hi).widen(loss)

    def _at_point(self, reader: Reader, x: Enclosure, places: Enclosure, wide: Enclosure) -> Enclosure:
        """The weights' own float64 errors, at most 2^-45 a tap, meet the largest element."""
        p = points(places.mid)
        start = tuple(floor(v) for v in p)
        factors = [weights(v, i, "cubic") for v, i in zip(p, start, strict=True)]
        size = Patch(reader, tuple(i - 1 for i in start), tuple(i + 2 for i in start), 4).range(x).mag
        middle = summed(reader, x.mid, start, factors)
        radius = add_up(summed(reader, x.rad, start, [[np.abs(w) for w in axis] for axis in factors]), mul_up(2.0**-40, size))
        Y = around(middle, radius)
        return Enclosure(np.maximum(Y.lo, wide.lo), np.minimum(Y.hi, wide.hi))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Never promised: float64 weights are not the exact ones."""
        return r[0] is None and r[1] is None

    def linearize(self, X: Operands, r: Radii, **settings: Any) -> Linearization:
        """See the family's derivation above; shift 0."""
        how = Settings(**settings)
        x, places = _both(X)
        return Slopes(how.reader(x.shape), x, places, r, how.mode, how.crop).answer()

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """|L| r + radius."""
        L = self.linearize(X, r, **attributes)
        return add_up(L.magnitude(r), L.radius)

    def rounding(
        self,
        X: Operands,
        r: Radii,
        arithmetic: Arithmetic,
        magnitude: Array,
        quantum: Sequence[Array | float],
        **settings: Any,
    ) -> Array:
        """With m the largest element that may be read: gamma_N (c + v)^d m + ((c + v)^d - c^d) m and underflow, then the store.

        d axes, c the greatest sum of |w|, v that of the weights' own errors (linear: 1 - t, t off by one rounding, 4 u together;
        cubic: 100 |a| u for each outer weight, 30 u for each inner one, as ops/resize derives). N: d products and all additions,
        of at most 4^d terms, in any association. The distance p - floor p of a computed place is exact up to u. Copies are
        copies. Places whose integers may overflow have no bound.
        """
        how = Settings(**settings)
        x, places = (v.widen(radius) for v, radius in zip(_both(X), r, strict=True))
        reader = how.reader(x.shape)
        limit = FAR[how.padding]
        far = np.logical_or.reduce([v > limit for v in points(places.mag)])[:, :, None]
        m = patch(reader, places, how.mode).range(x).mag
        shape = (*m.shape[:3], *places.shape[2:-1])
        if how.mode == "nearest":
            born = np.broadcast_to(copied(arithmetic, magnitude, quantum[:1]).reshape(-1, *m.shape[1:]), m.shape)
            return np.where(far, np.inf, born).reshape(shape)
        d, u = len(reader.extents), arithmetic.unit_roundoff
        c, v, taps = (1.0, 4.0 * u, 2) if how.mode == "linear" else (SUMS["cubic"][0], (200.0 * abs(ALPHA) + 60.0) * u, 4)
        N = taps**d + d
        if u == 0.0 or N * u >= 0.5:
            return np.full(shape, np.inf)
        factor = N * u / (1.0 - N * u) * (c + v) ** d + (c + v) ** d - c**d
        off = add_up(mul_up(factor * (1.0 + 2.0**-30), m), np.where(m > 0.0, 8.0 * N * 2.0**d * arithmetic.underflow, 0.0))
        large = mul_up((c + v) ** d * 2.0, m) > arithmetic.accumulator.max
        stored = arithmetic.round(add_up(np.broadcast_to(magnitude, shape).reshape(m.shape), off))
        return np.where(large | far, np.inf, add_up(off, stored)).reshape(shape)

    def quantum(self, quantum: Sequence[Array | float], *, mode: str, **attributes: Any) -> Array | float:
        """What divides the image divides copies of its elements, and 0."""
        return float(np.min(quantum[0])) if mode == "nearest" and np.size(quantum[0]) else 0.0


def _both(X: Operands) -> tuple[Enclosure, Enclosure]:
    if X[0] is None or X[1] is None:
        raise ValueError("sampling needs images and places")
    return X[0], X[1]
