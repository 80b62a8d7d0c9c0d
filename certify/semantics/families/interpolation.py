"""Interpolation kernels at float64 or exact places: weights, slopes, and the sums over taps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up, up
from certify.semantics.families.patches import Patch, Reader, floor, nearest

ALPHA = -0.75
# The greatest sums of |w|, |w'|, |w''| over the taps; a linear kernel has no curvature within a cell.
SUMS = {"cubic": (1.375, 4.2, 15.0), "linear": (1.0, 2.0, 0.0)}
OVERSHOOT = {"cubic": 1.375, "linear": 1.0, "nearest": 1.0}
FAR = {"zeros": 2.0**30, "border": 2.0**30, "reflection": 2.0**22}  # places beyond overflow the integers of kernels


def weights(p: Any, i: Any, mode: str) -> list[Any]:
    """Of the taps i, i + 1 (linear) or i - 1 ... i + 2 (cubic), i <= p <= i + 1; both distances are formed by one subtraction."""
    after, before = p - i, (i + 1) - p
    if mode == "linear":
        return [before, after]
    a = ALPHA
    inner = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (after, before)]
    outer = [((t * a - 5 * a) * t + 8 * a) * t - 4 * a for t in (after + 1, before + 1)]
    return [outer[0], *inner, outer[1]]


def slopes(p: Array, i: Array, mode: str) -> list[Array]:
    """Derivatives of `weights` in p."""
    if mode == "linear":
        return [-np.ones_like(p), np.ones_like(p)]
    a, after, before = ALPHA, p - i, (i + 1) - p
    inner = [3 * (a + 2) * t * t - 2 * (a + 3) * t for t in (after, before)]
    outer = [a * (3 * t * t - 10 * t + 8) for t in (after + 1, before + 1)]
    return [outer[0], inner[0], -inner[1], -outer[1]]


def points(places: Any) -> list[Any]:
    """(cases, sets, *points, axes), x first, as one array (cases, sets, points) for each axis of the image."""
    flat = places.reshape(*places.shape[:2], int(np.prod(places.shape[2:-1])), places.shape[-1])
    return [flat[..., k] for k in range(places.shape[-1])][::-1]


def cells(lo: Array, hi: Array) -> tuple[Any, Any]:
    """The first and the last cell [i, i + 1] that the interval meets in more than its end."""
    first = floor(lo)
    return first, np.maximum(first, -floor(-hi) - 1)


def patch(reader: Reader, places: Enclosure, mode: str) -> Patch:
    """What places can read: up to three nodes an axis are looked at one by one (nearest: two, cubic: five)."""
    low, high = points(places.lo), points(places.hi)
    if mode == "nearest":
        pairs = [
            (np.where(a == b, nearest(a), -floor(0.5 - a)), np.where(a == b, nearest(a), floor(b + 0.5)))
            for a, b in zip(low, high, strict=True)
        ]
        return Patch(reader, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), 2)
    more = 1 if mode == "cubic" else 0
    met = [cells(a, b) for a, b in zip(low, high, strict=True)]
    return Patch(reader, tuple(a - more for a, _ in met), tuple(b + 1 + more for _, b in met), 3 + 2 * more)


def summed(reader: Reader, x: Any, start: Sequence[Any], weights: Sequence[list[Any]]) -> Any:
    """sum over taps of the weights' product times the element."""
    shift = 1 if len(weights[0]) == 4 else 0
    total: Any = None
    for taps in itertools.product(*(range(len(w)) for w in weights)):
        factor: Any = None
        for t, axis in zip(taps, weights, strict=True):
            factor = axis[t] if factor is None else factor * axis[t]
        numbers = reader.numbers(tuple(i + (t - shift) for i, t in zip(start, taps, strict=True)))
        term = reader.take(x, numbers) * factor[:, :, None]
        total = term if total is None else total + term
    return total


def overshot(hull: Enclosure, factor: float) -> Enclosure:
    """Middle -+ factor times the half range."""
    with np.errstate(invalid="ignore", over="ignore"):
        more = np.where(hull.lo == hull.hi, 0.0, mul_up(0.5 * (factor - 1.0), up(hull.hi - hull.lo)))
    slack = np.where(hull.mag > 0.0, mul_up(2.0**-45, hull.mag), 0.0)
    return hull.widen(add_up(np.where(np.isnan(more), np.inf, more), slack))


def inside(extents: tuple[int, ...], middle: Array, wide: Enclosure) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(middle within [-1, n] on every axis, whether that is open for places in `wide`), (cases, sets, 1, points)."""
    some, every = [], []
    for n, lo, hi in zip(extents, points(wide.lo), points(wide.hi), strict=True):
        some.append((hi >= -1.0) & (lo <= n))
        every.append((lo >= -1.0) & (hi <= n))
    within = [(p >= -1.0) & (p <= n) for n, p in zip(extents, points(middle), strict=True)]
    torn = np.logical_and.reduce(some) & ~np.logical_and.reduce(every)
    return np.asarray(np.logical_and.reduce(within))[:, :, None], np.asarray(torn)[:, :, None]
