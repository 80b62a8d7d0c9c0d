"""Sub-boxes of the input box as rows of numbers, and how they are cut in two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from certify.analysis.program import Program
from certify.number.enclosure import Enclosure, hull_of
from certify.number.formats import Format
from certify.number.rounding import round_to, ufp, ulp
from certify.number.upward import Array


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-box; lo, hi by input, (*shape)."""

    lo: dict[str, Array]
    hi: dict[str, Array]


@dataclass(frozen=True)
class Layout:
    """Which elements of the inputs vary, in the graph's order; each is a column of the rows `lo` and `hi`.

    boxes: what the region consists of, each by input (1, *shape). box: the smallest that holds all.
    formats: of which numbers an input is, None for integers.
    """

    boxes: tuple[Mapping[str, Enclosure], ...]
    formats: Mapping[str, Format | None]

    @staticmethod
    def of(program: Program, boxes: Sequence[Mapping[str, Enclosure]]) -> Layout:
        return Layout(tuple(boxes), {name: program.declared.get(name) for name in boxes[0]})

    @cached_property
    def box(self) -> Mapping[str, Enclosure]:
        return hull_of(self.boxes)

    @cached_property
    def columns(self) -> tuple[tuple[str, int], ...]:
        """(input, flat element) of each varying element."""
        return tuple((name, int(i)) for name, X in self.box.items() for i in np.flatnonzero(X.lo.reshape(-1) < X.hi.reshape(-1)))

    @property
    def whole(self) -> tuple[Array, Array]:
        """(lo, hi) of the smallest box that holds all, (1, columns)."""
        return self._rows([self.box])

    @property
    def start(self) -> tuple[Array, Array]:
        """(lo, hi) of the region's boxes, (boxes, columns)."""
        return self._rows(self.boxes)

    def _rows(self, boxes: Sequence[Mapping[str, Enclosure]]) -> tuple[Array, Array]:
        ends = [[[x[name].lo.reshape(-1)[i], x[name].hi.reshape(-1)[i]] for name, i in self.columns] for x in boxes]
        both = np.array(ends, dtype=np.float64).reshape(len(boxes), len(self.columns), 2)
        return np.ascontiguousarray(both[:, :, 0]), np.ascontiguousarray(both[:, :, 1])

    def enclosures(self, lo: Array, hi: Array) -> dict[str, Enclosure]:
        """The inputs of the boxes in these rows, (rows, *shape)."""
        found, column = {}, 0
        for name, X in self.box.items():
            flat_lo, flat_hi = (np.repeat(x.reshape(1, -1), lo.shape[0], axis=0) for x in (X.lo, X.hi))
            varying = np.flatnonzero(X.lo.reshape(-1) < X.hi.reshape(-1))
            part = slice(column, column + varying.size)
            flat_lo[:, varying], flat_hi[:, varying] = lo[:, part], hi[:, part]
            column += varying.size
            shape = (lo.shape[0], *X.shape[1:])
            found[name] = Enclosure(flat_lo.reshape(shape), flat_hi.reshape(shape))
        return found

    def parts(self, lo: Array, hi: Array) -> list[Part]:
        """The sub-boxes in these rows, one by one."""
        boxes = self.enclosures(lo, hi)
        return [
            Part({name: X.lo[n] for name, X in boxes.items()}, {name: X.hi[n] for name, X in boxes.items()}) for n in range(lo.shape[0])
        ]

    def split(self, lo: Array, hi: Array, axis: npt.NDArray[np.intp]) -> tuple[Array, Array]:
        """Each row cut in two at the middle of its axis: the left halves, then the right halves, (2 rows, columns).

        Together they hold every number of the input's own format that the row holds; the cut goes between two such numbers.
        """
        rows = np.arange(lo.shape[0])
        low, high = lo[rows, axis], hi[rows, axis]
        last, first = self._cut(0.5 * low + 0.5 * high, low, high, axis)
        left, right = hi.copy(), lo.copy()
        left[rows, axis], right[rows, axis] = last, first
        return np.concatenate([lo, right]), np.concatenate([left, hi])

    def _cut(self, middle: Array, low: Array, high: Array, axis: npt.NDArray[np.intp]) -> tuple[Array, Array]:
        """The last number of the left part and the first of the right one."""
        last, first = np.floor(middle), np.floor(middle) + 1.0
        for format in {self.formats[name] for name, _ in self.columns}:
            if format is not None:
                mine = np.array([self.formats[name] == format for name, _ in self.columns])[axis]
                at = round_to(middle, format)
                at = np.where(at >= high, next_below(at, format), at)
                at = np.maximum(at, low)
                last, first = np.where(mine, at, last), np.where(mine, next_above(at, format), first)
        return last, np.minimum(first, high)

    def middle(self, lo: Array, hi: Array) -> Array:
        """A number of the input's own format in each range, near its middle."""
        at = 0.5 * lo + 0.5 * hi
        found = np.empty_like(lo)
        for column in range(lo.shape[1]):
            format = self.formats[self.columns[column][0]]
            found[:, column] = np.floor(at[:, column]) if format is None else round_to(at[:, column], format)
        return np.clip(found, lo, hi)


def next_above(x: Array, format: Format) -> Array:
    """The least number of the format above its number x (finite)."""
    size = np.abs(x)
    spacing = ulp(size, format)
    shrinks = (x < 0.0) & (size == ufp(size)) & (size > format.smallest_normal)
    return np.asarray(x + np.where(shrinks, 0.5 * spacing, spacing))


def next_below(x: Array, format: Format) -> Array:
    """The greatest number of the format below its number x (finite)."""
    return -next_above(-x, format)
