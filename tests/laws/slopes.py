"""The law of slope intervals: a.(f(x + d) - f(x)) lies in pull(A).d, a in A, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from tests.laws.machine import exact
from tests.laws.places import Box, Subject, enclosures, finite, samples

APART = 11  # of the pairs (x, d) that other laws draw, every eleventh: another place, moved another way each time


def broken_slopes(s: Subject, box: Box, r: Sequence[Array | None]) -> Any:
    """What contradicts the law at one box and one tuple of radii (no case axis); None if nothing does."""
    X, radii = enclosures(box), tuple(None if a is None else a[None] for a in r)
    told = getattr(s.rule, "slopes", None)
    pull = None if told is None else told(X, radii, **s.attributes)
    if pull is None:
        return None
    if any(a is not None and np.isinf(a).any() for a in r):
        return None  # no walk goes through an infinite tube (engines/region/slopes)
    return _contradiction(s, pull, box, r)


def _contradiction(s: Subject, pull: Any, box: Box, r: Sequence[Array | None]) -> Any:
    rng = s.rng()
    for x, d in islice(samples(s, box, r), 0, None, APART):
        before = [None if a is None else exact(a) for a in x]
        after = [a if a is None or b is None else np.asarray(a + exact(b), dtype=object) for a, b in zip(before, d, strict=True)]
        change = np.asarray(s.f(after) - s.f(before), dtype=object)
        if not finite(change).all():
            continue
        a = rng.integers(-4, 5, (1, *change.shape)).astype(np.float64)
        truth = sum((mpf(float(p)) * q for p, q in zip(a.ravel(), change.ravel(), strict=True)), mpf(0))
        for A in (Enclosure.point(a), Enclosure(a - rng.integers(0, 2, a.shape), a + rng.integers(0, 2, a.shape))):
            parts = pull(A)
            if [part is None for part in parts] != [radius is None for radius in r]:
                return "one interval array per operand, None where r is None", parts
            low, high = _reach(parts, d)
            if not low <= truth <= high:
                return x, d, A, (low, truth, high)
    return None


def _reach(parts: Sequence[Enclosure | None], d: Sequence[Array | None]) -> tuple[mpf, mpf]:
    low, high = mpf(0), mpf(0)
    for part, moved in zip(parts, d, strict=True):
        if part is None or moved is None:
            continue
        if not (part.lo <= part.hi).all():
            return mp.inf, -mp.inf
        for lo, hi, t in zip(part.lo.ravel(), part.hi.ravel(), moved.ravel(), strict=True):
            if t != 0.0:
                ends = [mpf(float(lo)) * mpf(float(t)), mpf(float(hi)) * mpf(float(t))]
                low, high = low + min(ends), high + max(ends)
    return low if low == low else -mp.inf, high if high == high else mp.inf
