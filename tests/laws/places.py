"""Where the rule kit looks: boxes, radii, sample points with deviations, and the working precision they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from mpmath import mp

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from tests.laws.machine import Exact

Box: TypeAlias = Sequence[tuple[Any, Any] | None]

HUGE = 2.0**500  # stands for an infinite radius when deviations are drawn


@dataclass(frozen=True)
class Subject:
    """A rule under test and what the kit needs to know of it; see `check_rule`."""

    rule: Any
    oracle: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    constant: tuple[int, ...] = ()
    kinks: tuple[float, ...] = ()
    exact_push: bool = False
    seed: int = 0

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def f(self, x: Sequence[Exact | None]) -> Exact:
        return self.oracle(*x, **self.attributes)


def point(*operands: Any) -> tuple[tuple[Array, Array] | None, ...]:
    """The thin box at the given operands."""
    return tuple(None if x is None else (np.asarray(x, dtype=np.float64),) * 2 for x in operands)


def part_of(rng: np.random.Generator, lo: Array, hi: Array) -> tuple[Array, Array]:
    a, b = _between(rng, lo, hi), _between(rng, lo, hi)
    return np.minimum(a, b), np.maximum(a, b)


def finite(x: Exact) -> Any:
    x = np.asarray(x, dtype=object)
    return np.array([bool(mp.isfinite(v)) for v in x.flat], dtype=bool).reshape(x.shape)


def enclosures(box: Box) -> tuple[Enclosure | None, ...]:
    return tuple(None if b is None else Enclosure.point(b[0][None]) if b[0] is b[1] else Enclosure(b[0][None], b[1][None]) for b in box)


def as_box(box: Box) -> Box:
    return tuple(None if b is None else (np.asarray(b[0], dtype=np.float64), np.asarray(b[1], dtype=np.float64)) for b in box)


def precision(box: Box, radii: Sequence[float]) -> int:
    data = [np.asarray(a, dtype=np.float64).ravel() for b in box if b is not None for a in b] + [np.asarray(radii, dtype=np.float64)]
    sizes = np.abs(np.concatenate(data))
    exponents = np.frexp(sizes[(sizes > 0) & np.isfinite(sizes)])[1]
    return 256 + sum(b is not None for b in box) * (int(exponents.max()) - int(exponents.min()) if exponents.size else 0)


def radii_of(s: Subject, box: Box, radii: Sequence[float]) -> Iterator[tuple[Array | None, ...]]:
    """The same radius everywhere; mixtures with zeros and infinities; each operand alone not deviating."""
    rng = s.rng()
    live = [i for i, b in enumerate(box) if b is not None and i not in s.constant]
    for scale in (*radii, np.inf):
        yield tuple(np.full(b[0].shape, scale) if b is not None and i in live else None for i, b in enumerate(box))
    pool = np.array([0.0, *radii[1:]])
    for choices in (pool, np.array([0.0, radii[-1], np.inf])):
        yield tuple(rng.choice(choices, b[0].shape) if b is not None and i in live else None for i, b in enumerate(box))
    for fixed in live if len(live) > 1 else []:
        yield tuple(np.full(b[0].shape, radii[-2]) if b is not None and i in live and i != fixed else None for i, b in enumerate(box))


def _between(rng: np.random.Generator, lo: Array, hi: Array) -> Array:
    t = rng.uniform(size=lo.shape)
    return np.clip(lo * (1 - t) + hi * t, lo, hi)


def samples(s: Subject, box: Box, r: Sequence[Array | None], count: int = 30) -> Iterator[tuple[list[Array | None], list[Array | None]]]:
    """Points x of the box with deviations |d| <= r: ends, centres, corners, kinks, random ones; inf radii draw up to 2^500."""
    rng = s.rng()
    sides = (-1.0, 1.0, 0.0)
    for k in range(count):
        x: list[Array | None] = []
        d: list[Array | None] = []
        for b, radius in zip(box, r, strict=True):
            if b is None:
                x.append(None)
                d.append(None)
                continue
            lo, hi = b
            centre, some = np.clip(0.5 * lo + 0.5 * hi, lo, hi), np.where(rng.integers(0, 2, lo.shape) > 0, lo, hi)
            kink = rng.choice(s.kinks, lo.shape) if s.kinks else np.zeros(lo.shape)
            places = [lo, hi, some, _between(rng, lo, hi), np.clip(kink, lo, hi), centre]
            x.append(places[k % len(places)] + 0.0)
            if radius is None:
                d.append(None)
                continue
            reach = np.where(np.isinf(radius), rng.choice([1.0, 1e3, HUGE]), radius)
            step = kink - x[-1]  # type: ignore[operator]
            mixed, inner = reach * rng.choice(sides, lo.shape), reach * rng.uniform(-1, 1, lo.shape)
            moves = [-reach, reach, mixed, inner, np.clip(step, -reach, reach)]
            d.append(moves[(k // len(places)) % len(moves)])
        yield x, d
