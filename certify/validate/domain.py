"""The inputs of a box as points to search: drawn, moved, and always numbers of their input's format inside the box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.formats import Format
from certify.number.rounding import round_to, ulp
from certify.number.upward import Array
from certify.validate.runtime import ValidationUnavailable

ALL_CORNERS = 10  # coordinates up to which every corner is tried
_DEPTH = 40.0  # binades below the largest magnitude that log-uniform draws reach where the range holds 0
_FINEST = 26.0  # binades below the width of the range that normal steps reach


@dataclass(frozen=True, slots=True)
class Part:
    """The coordinates of one input. declared: its format, None for integers; stored: what the runtime rounds it into, None if nothing."""

    name: str
    shape: tuple[int, ...]
    where: slice
    declared: Format | None
    stored: Format | None

    def nearest(self, x: Array) -> Array:
        return np.rint(x) if self.declared is None else round_to(x, self.declared)

    def spacing(self, x: Array) -> Array:
        return np.ones_like(x) if self.declared is None else ulp(np.abs(x), self.declared)


@dataclass(frozen=True, slots=True)
class Domain:
    """Points are rows of `free` coordinates: the elements of all inputs, one input after another.

    lo, hi: the least and the greatest number of each coordinate's format in the box.
    """

    parts: tuple[Part, ...]
    lo: Array
    hi: Array

    @staticmethod
    def of(box: Mapping[str, Enclosure], declared: Mapping[str, Format | None], stored: Mapping[str, Format | None]) -> Domain:
        """The domain of a box, (1, *shape) by input. Raises ValidationUnavailable where the box holds no number of the format."""
        parts, ends, start = [], [], 0
        for name, X in box.items():
            shape, form, held = X.shape[1:], declared.get(name), stored.get(name)
            narrower = held if held is not None and form is not None and not held.contains(form) else None
            part = Part(name, shape, slice(start, start + int(np.prod(shape))), form, narrower)
            lo, hi = _least(np.ravel(X.lo), form), -_least(-np.ravel(X.hi), form)
            if (lo > hi).any():
                raise ValidationUnavailable(f"the box of input {name} holds no number of its format")
            parts.append(part)
            ends.append((lo, hi))
            start = part.where.stop
        empty = [np.zeros(0)]
        return Domain(tuple(parts), np.concatenate([lo for lo, _ in ends] or empty), np.concatenate([hi for _, hi in ends] or empty))

    @property
    def free(self) -> int:
        return int(self.lo.size)

    def inputs(self, rows: Array) -> dict[str, Array]:
        """Rows (cases, free) as arrays by input, (cases, *shape)."""
        return {part.name: rows[:, part.where].reshape(len(rows), *part.shape) for part in self.parts}

    def within(self, rows: Array) -> Array:
        """The nearest numbers of the formats, pushed back into the box: its ends are numbers of the formats."""
        rounded = np.empty_like(rows)
        for part in self.parts:
            rounded[:, part.where] = part.nearest(rows[:, part.where])
        return np.clip(np.where(np.isnan(rounded), rows, rounded), self.lo, self.hi)

    def spacing(self, rows: Array) -> Array:
        gaps = np.empty_like(rows)
        for part in self.parts:
            gaps[:, part.where] = part.spacing(rows[:, part.where])
        return gaps

    def uniform(self, generator: np.random.Generator, count: int) -> Array:
        fraction = generator.random((count, self.free))
        return self.within(self.lo * (1.0 - fraction) + self.hi * fraction)

    def by_magnitude(self, generator: np.random.Generator, count: int) -> Array:
        """Log-uniform magnitudes, of either sign where the range holds both."""
        shape = (count, self.free)
        negative = np.where(self.lo >= 0.0, False, np.where(self.hi <= 0.0, True, generator.random(shape) < 0.5))
        largest = np.where(negative, np.maximum(-self.lo, 0.0), np.maximum(self.hi, 0.0))
        smallest = np.where(negative, np.maximum(-self.hi, 0.0), np.maximum(self.lo, 0.0))
        depth = np.minimum(np.log2(np.where(largest > 0.0, largest, 1.0)) - np.log2(np.where(smallest > 0.0, smallest, 2.0**-1074)), _DEPTH)
        magnitude = largest * np.exp2(-generator.random(shape) * depth)
        return self.within(np.where(negative, -magnitude, magnitude))

    def ends(self, generator: np.random.Generator, count: int, inner: float = 0.0) -> Array:
        """Corners; all of them first, where there are few. inner: the chance of a coordinate to lie between its ends."""
        picked = generator.random((count, self.free)) < 0.5
        if inner == 0.0 and self.free <= ALL_CORNERS:
            every = np.array(list(product((False, True), repeat=self.free)), dtype=bool).reshape(-1, self.free)[:count]
            picked[: len(every)] = every
        corners = np.where(picked, self.lo, self.hi)
        return corners if inner == 0.0 else np.where(generator.random(picked.shape) < inner, self.uniform(generator, count), corners)

    def fresh(self, generator: np.random.Generator, count: int) -> Array:
        """Uniform and log-uniform points, corners, and points on edges and faces, a quarter each."""
        share = -(-count // 4)
        edges = self.ends(generator, share, inner=0.3)
        drawn = [self.uniform(generator, share), self.by_magnitude(generator, share), self.ends(generator, share), edges]
        return np.concatenate(drawn)[:count] if count > 3 else drawn[0][:count]

    def moved(self, generator: np.random.Generator, rows: Array, mates: Array) -> Array:
        """A child of every row: some of its coordinates, at times a block of them, moved in one of seven ways."""
        count = len(rows)
        gaps = self.spacing(rows)
        width = (self.hi - self.lo) * np.exp2(-_FINEST * generator.random((count, 1)))
        few = generator.integers(1, 9, size=rows.shape).astype(np.float64) * np.where(generator.random(rows.shape) < 0.5, 1.0, -1.0)
        ways = [
            self.uniform(generator, count),
            self.by_magnitude(generator, count),
            self.ends(generator, count, inner=2.0**-30),
            rows + few * gaps,
            rows + width * generator.standard_normal(rows.shape),
            mates,
            self._between_stored(rows, few, gaps),
        ]
        chosen = generator.choice(len(ways), size=count, p=_CHANCES)
        children = rows.copy()
        touched = self._touched(generator, count)
        for k, way in enumerate(ways):
            mine = touched & (chosen == k)[:, None]
            children = np.where(mine, way, children)
        return self.within(children)

    def _touched(self, generator: np.random.Generator, count: int) -> npt.NDArray[np.bool_]:
        """Which coordinates of each row move: one at least, scattered or side by side, their number of any magnitude."""
        n = max(1, self.free)
        size = np.exp2(generator.random((count, 1)) * np.log2(n + 1.0))
        first = generator.integers(n, size=(count, 1))
        place = np.arange(n)[None]
        block = (place - first) % n < size
        scattered = (generator.random((count, n)) < (size - 1.0) / n) | (place == first)
        return np.asarray(np.where(generator.random((count, 1)) < 0.5, block, scattered)[:, : self.free])

    def _between_stored(self, rows: Array, few: Array, gaps: Array) -> Array:
        """Half-way between two numbers of the narrower format that an input is stored in, where that rounds it most."""
        between = rows + few * gaps
        for part in self.parts:
            if part.stored is not None:
                x = round_to(rows[:, part.where], part.stored)
                step = 0.5 * ulp(np.abs(rows[:, part.where]), part.stored)
                sign = np.sign(few[:, part.where])
                between[:, part.where] = np.where(np.isfinite(x + step), x + sign * step, rows[:, part.where])
        return between


_CHANCES = np.array([0.1, 0.05, 0.1, 0.25, 0.3, 0.1, 0.1])  # of the ways in `moved`


def _least(x: Array, form: Format | None) -> Array:
    """The least number of the format, or integer, at or above each x."""
    if form is None:
        return np.ceil(x)
    inside = np.clip(x, -form.max, form.max)
    nearest = round_to(inside, form)
    least = np.where(nearest >= inside, nearest, nearest + ulp(np.abs(inside), form))
    return np.where(x > form.max, np.inf, least)
