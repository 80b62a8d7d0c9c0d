"""Which elements of images an interpolation at given places can read: patches of nodes, and gathering them.

Places are (cases, sets, points, axes) in units of elements, axes in the order of the image's extents; images (cases, N, C, *extents)
continue beyond their borders by an extension: "zeros", "border" (the nearest element), "reflection" (about the border's elements,
or with align_corners = 0 about their outer edges).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.families import scalar

Indices = npt.NDArray[np.intp]
_FAR = 2.0**50  # whole numbers beyond are not told apart


def floor(p: Any) -> Indices:
    """Of float64 numbers, or of exact numbers and balls that decide it."""
    if not scalar.is_object(p):
        return np.asarray(np.clip(np.floor(p), -_FAR, _FAR), dtype=np.intp)
    from mpmath import mp

    def whole(v: Any) -> int:
        return int(max(-_FAR, min(_FAR, int(v.floor()) if hasattr(v, "floor") else int(mp.floor(v)))))

    return np.asarray(scalar.each(whole, p)).astype(np.intp)


def nearest(p: Any) -> Indices:
    """Halves to even."""
    if not scalar.is_object(p):
        return np.asarray(np.clip(np.rint(p), -_FAR, _FAR), dtype=np.intp)
    up = floor(p + 0.5)
    tie = np.asarray(p + 0.5 == up, dtype=bool)
    return np.where(tie & (up % 2 != 0), up - 1, up)


def extended(i: Indices, n: int, padding: str, align_corners: int) -> Indices:
    """The element that stands at position i of the continued image; -1: a zero."""
    if padding == "zeros":
        return np.where((i >= 0) & (i < n), i, -1)
    if padding == "border":
        return np.clip(i, 0, n - 1)
    period = max(2 * (n - 1), 1) if align_corners else 2 * n
    j = i % period
    return np.where(j < n, j, period - j if align_corners else period - 1 - j)


@dataclass(frozen=True, slots=True)
class Reader:
    """Gathers elements of images for (sets, points). batch: the image of each set, None: its own."""

    extents: tuple[int, ...]
    padding: str
    align_corners: int
    batch: tuple[int, ...] | None

    def numbers(self, nodes: tuple[Indices, ...]) -> Indices:
        """Nodes, one index array an axis (cases, sets, points), as numbers of elements; -1 where one is a zero."""
        flat = np.zeros(np.broadcast_shapes(*(i.shape for i in nodes)), dtype=np.intp)
        zero = np.zeros(flat.shape, dtype=bool)
        for i, n in zip(nodes, self.extents, strict=True):
            at = extended(i, n, self.padding, self.align_corners)
            zero |= at < 0
            flat = flat * n + at
        return np.where(zero, -1, flat)

    def images(self, sets: int) -> Indices:
        return np.arange(sets) if self.batch is None else np.asarray(self.batch, dtype=np.intp)

    def take(self, x: Any, numbers: Indices) -> Any:
        """(cases, N, C, *extents) to (cases, sets, C, points)."""
        flat = x.reshape(*x.shape[:3], math.prod(self.extents))
        cases = np.arange(x.shape[0])[:, None, None]
        out = flat[cases, self.images(numbers.shape[1])[None, :, None], :, np.maximum(numbers, 0)]
        out = np.where((numbers < 0)[..., None], 0.0, out) if (numbers < 0).any() else out
        return np.moveaxis(out, -1, 2)


@dataclass(frozen=True, slots=True)
class Patch:
    """The nodes first ... last of every axis that any place of a region reads; `near`: at most `most` of them an axis.

    low, high: extremes over the patch of images within X; far regions have those of the whole image, and 0.
    """

    reader: Reader
    first: tuple[Indices, ...]
    last: tuple[Indices, ...]
    most: int

    @property
    def near(self) -> npt.NDArray[np.bool_]:
        """(cases, sets, 1, points)."""
        spans = [b - a < self.most for a, b in zip(self.first, self.last, strict=True)]
        return np.asarray(np.logical_and.reduce(spans))[:, :, None]

    def width(self) -> tuple[int, ...]:
        """Nodes to visit along each axis."""
        return tuple(int(min(np.max(b - a, initial=0) + 1, self.most)) for a, b in zip(self.first, self.last, strict=True))

    def at(self, offsets: tuple[int, ...]) -> Indices:
        """The element at first + offset, never beyond last."""
        return self.reader.numbers(tuple(np.minimum(a + t, b) for a, b, t in zip(self.first, self.last, offsets, strict=True)))

    def range(self, X: Enclosure) -> Enclosure:
        lo = hi = np.zeros(())
        for number, offsets in enumerate(np.ndindex(self.width())):
            at = self.at(offsets)
            low = self.reader.take(X.lo, at)
            high = low if X.lo is X.hi else self.reader.take(X.hi, at)
            lo, hi = (low, high) if number == 0 else (np.minimum(lo, low), np.maximum(hi, high))
        if bool(self.near.all()):
            return Enclosure(lo, hi)
        sets = self.reader.images(self.first[0].shape[1])
        axes = tuple(range(3, X.lo.ndim))
        least, most = np.minimum(X.lo.min(axis=axes), 0.0)[:, sets, :, None], np.maximum(X.hi.max(axis=axes), 0.0)[:, sets, :, None]
        return Enclosure(np.where(self.near, lo, least), np.where(self.near, hi, most))

    def largest(self, r: Array) -> Array:
        """max r over the patch, for non-negative r."""
        return self.range(Enclosure.point(r)).hi
