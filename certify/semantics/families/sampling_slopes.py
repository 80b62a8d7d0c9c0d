"""The linear map of a sampling at the middle of images and places, and what it misses (derivation: families/sampling)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, mul_up, up
from certify.semantics.contract import Linearization, Radii, Tangents
from certify.semantics.families import interpolation
from certify.semantics.families.patches import Reader, floor, nearest


class Slopes:
    """At X, places, r. Arrays of results are (cases, sets, C, points) until they are shaped."""

    def __init__(self, reader: Reader, x: Enclosure, places: Enclosure, r: Radii, mode: str, crop: bool) -> None:
        self.reader, self.x, self.places, self.r, self.mode, self.crop = reader, x, places, r, mode, crop
        self.wide = places.widen(r[1])
        self.axes = len(reader.extents)
        self.patch = interpolation.patch(reader, self.wide, mode)
        self.start, self.weights = self._taps()
        self.inside: Any = None
        self.torn: Any = None
        if crop:
            self.inside, self.torn = interpolation.inside(reader.extents, places.mid, self.wide)
        self.gradient = self._gradient() if r[1] is not None and mode != "nearest" else []
        self.shape = (*places.shape[2:-1],)

    def _taps(self) -> tuple[list[Any], list[list[Any]]]:
        """The first tap and the weights of each axis at the middle, in a cell that the region meets."""
        middle = interpolation.points(self.places.mid)
        if self.mode == "nearest":
            return [nearest(p) for p in middle], [[np.ones_like(p)] for p in middle]
        ends = zip(interpolation.points(self.wide.lo), interpolation.points(self.wide.hi), strict=True)
        cells = [interpolation.cells(a, b) for a, b in ends]
        start = [np.clip(floor(p), i, j) for p, (i, j) in zip(middle, cells, strict=True)]
        return start, [interpolation.weights(p, i, self.mode) for p, i in zip(middle, start, strict=True)]

    def _gradient(self) -> list[Array]:
        """g, one array an axis of the image."""
        middle = interpolation.points(self.places.mid)
        out = []
        for k in range(self.axes):
            weights = list(self.weights)
            weights[k] = interpolation.slopes(middle[k], self.start[k], self.mode)
            g = np.asarray(interpolation.summed(self.reader, self.x.mid, self.start, weights))
            out.append(np.where(np.isfinite(g), g, 0.0) if self.inside is None else np.where(self.inside & np.isfinite(g), g, 0.0))
        return out

    def _matrices(self) -> list[Any]:
        """For each case of places, (sets * points, N * elements) sparse."""
        from scipy.sparse import csr_matrix

        shift = 1 if self.mode == "cubic" else 0
        rows: list[Array] = []
        columns: list[Array] = []
        for taps in itertools.product(*(range(len(w)) for w in self.weights)):
            numbers = self.reader.numbers(tuple(i + (t - shift) for i, t in zip(self.start, taps, strict=True)))
            factor = np.ones(numbers.shape)
            for t, axis in zip(taps, self.weights, strict=True):
                factor = factor * axis[t]
            factor = factor if self.inside is None else factor * self.inside[:, :, 0]
            rows.append(np.where(numbers < 0, 0.0, factor))
            columns.append(np.maximum(numbers, 0))
        size = int(np.prod(self.reader.extents))
        images = self.reader.images(columns[0].shape[1])[None, :, None] * size
        out = []
        for case in range(columns[0].shape[0]):
            data = np.stack([w[case].reshape(-1) for w in rows], axis=1)
            index = np.stack([(c + images)[case].reshape(-1) for c in columns], axis=1)
            where = np.repeat(np.arange(data.shape[0]), data.shape[1])
            matrix = csr_matrix((data.reshape(-1), (where, index.reshape(-1))), shape=(data.shape[0], self.x.shape[1] * size))
            matrix.eliminate_zeros()
            out.append(matrix)
        return out

    def answer(self) -> Linearization:
        matrices = self._matrices()
        zero = np.zeros((1, *self._result_shape(1)[1:]))
        radius = self._radius()
        absolute = [abs(m) for m in matrices]

        def along_places(t: Array, gradient: Sequence[Array]) -> Any:
            parts = [g * v[:, :, None] for g, v in zip(gradient, interpolation.points(t), strict=True)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            return total

        def push(d: Tangents) -> Array:
            y: Array = zero
            if d[0] is not None:
                y = self._forth(d[0], matrices)
            if d[1] is not None and self.gradient:
                moved = along_places(d[1], self.gradient)
                y = y + moved.reshape(*moved.shape[:3], *self.shape)
            return y

        def pull(a: Array) -> Sequence[Array | None]:
            left = None if self.r[0] is None else self._back(a, matrices)
            if self.r[1] is None:
                return left, None
            flat = a.reshape(*a.shape[:3], int(np.prod(self.shape)))
            if not self.gradient:
                return left, np.zeros((a.shape[0], *self.places.shape[1:]))
            parts = [(flat * g).sum(axis=2) for g in self.gradient][::-1]
            right = np.stack(parts, axis=-1)
            return left, right.reshape(right.shape[0], *self.places.shape[1:])

        def magnitude(d: Tangents) -> Array:
            with np.errstate(invalid="ignore", over="ignore"):
                y: Array = zero
                if d[0] is not None:
                    y = self._forth(np.where((d[0] > 0.0) & (d[0] < 2.0**-500), 2.0**-500, d[0]), absolute)
                if d[1] is not None and self.gradient:
                    moved = along_places(mul_up(1.0, d[1]), [mul_up(1.0, np.abs(g)) for g in self.gradient])
                    y = y + moved.reshape(*moved.shape[:3], *self.shape)
            return inflate(np.where(np.isnan(y), np.inf, y), 4**self.axes + 3 * self.axes + 4)

        reach = max((int(np.bincount(m.indices, minlength=1).max(initial=0)) for m in matrices), default=1)
        terms = max(len(self.weights[0]) ** self.axes + 3 * self.axes + 2, reach + 2 * self.axes, self.x.shape[2]) + 4
        return Linearization(push, pull, magnitude, zero, radius.reshape(*radius.shape[:3], *self.shape), terms)

    def _result_shape(self, rows: int) -> tuple[int, ...]:
        return (rows, self.places.shape[1], self.x.shape[2], *self.shape)

    def _forth(self, d: Array, matrices: list[Any]) -> Array:
        """(rows, N, C, *extents) to results."""
        flat = np.moveaxis(d.reshape(*d.shape[:3], -1), -1, 1)  # rows, N? -> rows, elements, N, C
        rows, elements, N, C = flat.shape
        if len(matrices) == 1:
            columns = np.ascontiguousarray(flat.transpose(2, 1, 0, 3)).reshape(N * elements, rows * C)
            y = (matrices[0] @ columns).reshape(self.places.shape[1], -1, rows, C)
            return np.asarray(y.transpose(2, 0, 3, 1)).reshape(self._result_shape(rows))
        flat = np.broadcast_to(flat, (len(matrices), elements, N, C))
        parts = [
            (m @ flat[c].transpose(1, 0, 2).reshape(N * elements, C)).reshape(self.places.shape[1], -1, C) for c, m in enumerate(matrices)
        ]
        return np.stack(parts).transpose(0, 1, 3, 2).reshape(self._result_shape(len(parts)))

    def _back(self, a: Array, matrices: list[Any]) -> Array:
        rows, sets, C = a.shape[:3]
        flat = a.reshape(rows, sets, C, -1)
        N = self.x.shape[1]
        if len(matrices) == 1:
            columns = np.ascontiguousarray(flat.transpose(1, 3, 0, 2)).reshape(-1, rows * C)
            y = (matrices[0].T @ columns).reshape(N, -1, rows, C).transpose(2, 0, 3, 1)
            return np.asarray(y).reshape(rows, N, C, *self.reader.extents)
        flat = np.broadcast_to(flat, (len(matrices), *flat.shape[1:]))
        parts = [(m.T @ flat[c].transpose(0, 2, 1).reshape(-1, C)).reshape(N, -1, C) for c, m in enumerate(matrices)]
        return np.stack(parts).transpose(0, 1, 3, 2).reshape(len(parts), N, C, *self.reader.extents)

    def _radius(self) -> Array:
        """What L misses; where a crop may set the result to zero or not, all that it can be, and |L| r."""
        X, r = self.x, np.zeros((1, *self.x.shape[1:])) if self.r[0] is None else self.r[0]
        most = self.patch.largest(r)
        hull = self.patch.range(X)
        radius = self._undecided(hull, most) if self.mode == "nearest" else self._bent(hull, most)
        if self.inside is None or self.torn is None:
            return radius
        factor = interpolation.OVERSHOOT[self.mode] ** self.axes
        everything = mul_up(3.0 * factor, add_up(hull.mag, most))  # before, after, and the map of d
        moves = interpolation.points(self._moves()) if self.gradient else []
        reach = [mul_up(np.abs(g), v[:, :, None]) for g, v in zip(self.gradient, moves, strict=True)]
        return np.where(self.torn, add_up(everything, *reach), np.where(self.inside, radius, 0.0))

    def _moves(self) -> Array:
        return np.zeros((1, *self.places.shape[1:])) if self.r[1] is None else self.r[1]

    def _undecided(self, hull: Enclosure, most: Array) -> Array:
        """Results before and after lie within hull -+ r, and |L| r <= r."""
        open_ = np.logical_or.reduce([a != b for a, b in zip(self.patch.first, self.patch.last, strict=True)])[:, :, None]
        with np.errstate(invalid="ignore"):
            width = np.where(hull.lo == hull.hi, 0.0, up(hull.hi - hull.lo))
        return np.where(open_, add_up(np.where(np.isnan(width), np.inf, width), mul_up(3.0, most)), 0.0)

    def _bent(self, hull: Enclosure, most: Array) -> Array:
        """The two brackets; the float64 errors of the weights of a cubic map, and of g, on top."""
        c0, c1, c2 = interpolation.SUMS[self.mode]
        other = c0 ** (self.axes - 1)
        middle = interpolation.points(self.places.mid)
        bounds = zip(middle, interpolation.points(self.wide.lo), interpolation.points(self.wide.hi), strict=True)
        q = [np.where((lo == p) & (hi == p), 0.0, up(np.maximum(hi - p, p - lo)))[:, :, None] for p, lo, hi in bounds]
        first = mul_up(c1 * other, most, add_up(0.0, *q))
        first = np.minimum(first, mul_up(2.0 * c0**self.axes, most))
        if self.mode == "cubic":
            first = add_up(first, mul_up(2.0**-40, most))
        parts = [np.zeros((1,) * hull.lo.ndim), first]
        for k, moves in enumerate(interpolation.points(self._moves()) if self.gradient else []):
            off = self._slope_off(k, hull, q, (c0, c1, c2))
            noise = mul_up(2.0**-40, hull.mag) if self.mode == "cubic" else mul_up(2.0**-46, hull.mag)
            parts.append(mul_up(add_up(off, noise), moves[:, :, None]))
        return add_up(*parts)

    def _slope_off(self, k: int, hull: Enclosure, q: list[Array], sums: tuple[float, float, float]) -> Array:
        """sup |d_k f(x, .) - g_k| over the region and X.

        Far regions: the range of all elements, whose half meets sum |w'|. Near ones: the middle's own, sum |w'| max rad, and q times
        second derivatives (cubic); for linear ones the differences of neighbours in the patch, all of which d_k f averages, and
        within a single cell also 2 max rad + q times the mixed differences.
        """
        c0, c1, c2 = sums
        with np.errstate(invalid="ignore", over="ignore"):
            half = np.where(hull.lo == hull.hi, 0.0, up(0.5 * up(hull.hi - hull.lo)))
        half = np.where(np.isnan(half), np.inf, half)
        other = c0 ** (self.axes - 1)
        far = add_up(mul_up(c1 * other, half), np.abs(self.gradient[k]))
        spread = mul_up(c1 * other, self.patch.largest(self.x.rad))
        if self.mode == "cubic":
            bends = [mul_up(q[k], c2 * other)] + [mul_up(v, c1 * c1) for i, v in enumerate(q) if i != k]
            near = add_up(spread, mul_up(half, add_up(0.0, *bends)))
        else:
            steps, mixed = self._differences(k)
            within = add_up(spread, *(mul_up(v, m) for v, m in zip([v for i, v in enumerate(q) if i != k], mixed, strict=True)))
            cell = np.logical_and.reduce([b - a <= 1 for a, b in zip(self.patch.first, self.patch.last, strict=True)])[:, :, None]
            near = np.where(cell, np.minimum(within, steps), steps)
        return np.where(self.patch.near, np.minimum(near, far), far)

    def _differences(self, k: int) -> tuple[Array, list[Array]]:
        """(max |difference of neighbours along k - g_k| over X, per other axis the largest mixed difference at the middle)."""
        g, others = self.gradient[k], [i for i in range(self.axes) if i != k]
        widths = self.patch.width()
        steps: Array = np.zeros((1,) * g.ndim)
        mixed: list[Array] = [np.zeros((1,) * g.ndim) for _ in others]
        unit = np.eye(self.axes, dtype=int)
        for at in np.ndindex(*(n - 1 if i == k else n for i, n in enumerate(widths))):
            beyond = tuple(int(v) for v in np.add(at, unit[k]))
            here, there = self.patch.at(at), self.patch.at(beyond)
            real = (self.patch.first[k] + at[k] < self.patch.last[k])[:, :, None]
            low = self.reader.take(self.x.lo, there) - self.reader.take(self.x.hi, here)
            high = low if self.x.is_point else self.reader.take(self.x.hi, there) - self.reader.take(self.x.lo, here)
            off = np.where(real, up(np.maximum(np.abs(high - g), np.abs(low - g))), 0.0)
            steps = np.maximum(steps, np.where(np.isnan(off), np.inf, off))
            for j, i in enumerate(others):
                if at[i] + 1 < widths[i]:
                    side = [tuple(int(v) for v in np.add(place, unit[i])) for place in (at, beyond)]
                    a, b = (self.reader.take(self.x.mid, self.patch.at(place)) for place in side)
                    across = up(np.abs((b - a) - (self.reader.take(self.x.mid, there) - self.reader.take(self.x.mid, here))))
                    mixed[j] = np.maximum(mixed[j], np.where(np.isnan(across), np.inf, across))
        return steps, mixed
