"""Selection: operators that deliver the largest (or smallest) of several candidates.

A row names the candidates: an array of element numbers, (1, *output shape, K), -1 where a window has none. All verbs
follow. With w the winner at mid X, c another candidate, over all x in X and |d| <= r:

- gap_c <= x_w - x_c. A candidate with r_c + r_w <= gap_c never beats w, before or after, and can be forgotten.
- U = max (r_c + r_w - gap_c), S = max (-gap_c), R = max (r_c + r_w) over the others, each at least 0. From
  f(x + d) - f(x) - d_w = max (x_c - x_w + d_c - d_w)+ - max (x_c - x_w)+, that remainder lies in [-min(S, R), min(U, R)].
- If only one other candidate is left, f = x_w + relu(x_c - x_w), and L d = d_w + s (d_c - d_w) with a slope s
  between: at a point v = x_c - x_w <= 0 the parallelogram s = (v + R)/(2R) leaves [v s, (v + R)/2]; over a thick X
  s = 1/2 leaves [-R/2, R/2].
- f never varies by more than the largest r of the candidates that are left.

Min is -max(-x). A selected number is a stored number: a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.multipliers import carried, summed
from certify.number.upward import Array, add_up, down, mul_up, up
from certify.semantics.contract import Arithmetic, Cases, Linearization, Operands, Radii, SlopePull, Tangents, of_cases, rounded_floor
from certify.semantics.families.index_map import IndexMap, Indices, copied, frozen, remembered, rows_of

Flags: TypeAlias = npt.NDArray[np.bool_]
_WEIGHED = 32  # candidates up to which slopes are told


@dataclass(frozen=True, slots=True)
class Selection:
    """A row. candidates(*numbers, **attributes) arranges element numbers as above; sign 1 takes the largest, -1 the smallest."""

    infinities: ClassVar[str] = "always"
    name: str
    since: int
    parameters: tuple[str, ...]
    candidates: Callable[..., Any]
    sign: int = 1
    static: frozenset[str] = frozenset()
    domain: str = ""
    outputs: int = 1
    basic: bool = True
    nonlinear: bool = True
    pointwise: bool = False

    def source(self, shapes: Sequence[tuple[int, ...] | None], attributes: dict[str, Any]) -> Indices:
        """The candidates of each output element as element numbers, (1, *output shape, K)."""

        def build() -> Indices:
            numbers, size = [], 0
            for shape in shapes:
                count = 0 if shape is None else int(np.prod(shape))
                numbers.append(None if shape is None else np.arange(size, size + count, dtype=np.intp).reshape((1, *shape)))
                size += count
            return np.asarray(self.candidates(*numbers, **attributes))

        found: Indices = remembered((self.domain, self.name, self.since, tuple(shapes), frozen(attributes)), build)
        return found

    def value(self, *x: Any, **attributes: Any) -> Any:
        source = self.source([None if a is None else a.shape[1:] for a in x], attributes)
        chosen = _take(_flat(x), source, -self.sign * np.inf)
        if chosen.shape[-1] == 0:
            return np.full(chosen.shape[:-1], -self.sign * np.inf)
        return np.max(chosen, axis=-1) if self.sign > 0 else np.min(chosen, axis=-1)

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """Largest and smallest are increasing in every candidate."""
        lo = self.value(*(None if x is None else x.lo for x in X), **attributes)
        if all(x is None or x.lo is x.hi for x in X):
            return Enclosure(lo, lo)
        return Enclosure(lo, self.value(*(None if x is None else x.hi for x in X), **attributes))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return all(radius is None for radius in r)

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """See the family's derivation above."""
        return self._around(X, r, attributes)[0]

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """The largest r among the candidates that can win, unless |L| r + |shift| + radius is less."""
        linear, race = self._around(X, r, attributes)
        return np.minimum(race.variation, add_up(linear.magnitude(r), np.abs(linear.shift), linear.radius))

    def _around(self, X: Operands, r: Radii, attributes: dict[str, Any]) -> tuple[Linearization, _Race]:
        shapes = [None if x is None else x.shape[1:] for x in X]
        race = _Race(X, r, self.source(shapes, attributes), self.sign)
        first, second, s = race.winner, race.runner, race.slope
        maps = [IndexMap(rows_of(w), race.size) for w in ((first, second) if np.any(s) else (first,))]

        def flat(t: Tangents) -> Array:
            filled = [None if shape is None else np.zeros((1, *shape)) if a is None else a for a, shape in zip(t, shapes, strict=True)]
            return np.asarray(_flat(filled))

        def push(t: Tangents) -> Array:
            d = flat(t)
            won: Array = _take(d, first, 0.0)
            return won if len(maps) == 1 else (1.0 - s) * won + s * _take(d, second, 0.0)

        def magnitude(t: Tangents) -> Array:
            d = flat(t)
            won: Array = _take(d, first, 0.0)
            return won if len(maps) == 1 else np.where(s > 0.0, add_up(mul_up(1.0 - s, won), mul_up(s, _take(d, second, 0.0))), won)

        def pull(a: Array, maps: Sequence[IndexMap] = maps, s: Array = s) -> Sequence[Array | None]:
            shares = (a,) if len(maps) == 1 else ((1.0 - s) * a, s * a)
            whole = [m.pull(rows_of(share)) for m, share in zip(maps, shares, strict=True)]
            return _parts(whole[0] if len(maps) == 1 else whole[0] + whole[1], shapes, r)

        terms = sum(m.terms for m in maps) + len(maps) - 1

        def pull_of(a: Array, cases: Cases) -> Sequence[Array | None]:
            chosen = [IndexMap(rows_of(w if w.shape[0] == 1 else w[cases]), race.size) for w in (first, second)[: len(maps)]]
            return pull(a, chosen, of_cases(s, cases))

        return Linearization(push, pull, magnitude, self.sign * race.shift, race.radius, terms, len(maps), pull_of), race

    def slopes(self, X: Operands, r: Radii, **attributes: Any) -> SlopePull | None:
        """On the way from x to x + d the gradient is a unit vector almost everywhere, that of a candidate which is largest there: its mean
        weighs candidates that may be largest within X +- r, by at least 0, sum 1. One that alone may be has weight 1."""
        shapes = [None if x is None else x.shape[1:] for x in X]
        source = self.source(shapes, attributes)
        if not 0 < source.shape[-1] <= _WEIGHED:
            return None
        reach = [None if x is None else x.widen(radius) for x, radius in zip(X, r, strict=True)]
        lo, hi = _flat([None if x is None else x.lo for x in reach]), _flat([None if x is None else x.hi for x in reach])
        least, most = (_take(v, source, -np.inf) for v in ((lo, hi) if self.sign > 0 else (-hi, -lo)))
        may = (most >= least.max(axis=-1, keepdims=True)) & (source >= 0)
        alone = may.sum(axis=-1) == 1
        size = lo.shape[1]
        maps = [IndexMap(rows_of(source[..., k]), size) for k in range(source.shape[-1])]

        def share(a: Enclosure, k: int) -> Enclosure:
            low = np.where(may[..., k], np.where(alone, a.lo, np.minimum(a.lo, 0.0)), 0.0)
            high = np.where(may[..., k], np.where(alone, a.hi, np.maximum(a.hi, 0.0)), 0.0)
            return carried(lambda x: maps[k].pull(rows_of(x)), Enclosure(low, high), maps[k].terms if maps[k].terms > 1 else 0)

        def pull(a: Enclosure) -> Sequence[Enclosure | None]:
            whole = summed([share(a, k) for k in range(len(maps))])
            ends = [_parts(x, shapes, r) for x in (whole.lo, whole.hi)]
            return [None if low is None or high is None else Enclosure(low, high) for low, high in zip(*ends, strict=True)]

        return pull

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """The result is one of the stored operands: rounded only if it is delivered in a narrower format."""
        return copied(arithmetic, magnitude, quantum)

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """The largest of one element from each operand is above each floor; what else is selected is above one of them."""
        chosen = max(least) if self.pointwise and self.sign > 0 else min(least)
        return rounded_floor(arithmetic, min(chosen, float(Y.lo.min(initial=0.0))) if not self.pointwise else chosen)

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        return min((float(np.min(q)) for q in quantum if np.size(q)), default=0.0)


def _flat(x: Sequence[Any]) -> Any:
    """All operands side by side, (cases, elements)."""
    parts = [rows_of(a) for a in x if a is not None]
    cases = max((p.shape[0] for p in parts if p.shape[0] != 1), default=1)
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([p if p.shape[0] == cases else np.broadcast_to(p, (cases, p.shape[1])) for p in parts], axis=1)


def _take(flat: Any, source: Indices, missing: float) -> Any:
    """flat's elements at `source`, (cases, *source.shape[1:]); `missing` where source is -1."""
    none = source < 0
    index = np.where(none, 0, source)
    if source.shape[0] == 1:
        out = np.take(flat, index[0], axis=1) if flat.shape[1] else np.full((flat.shape[0], *source.shape[1:]), missing)
    else:
        whole = np.broadcast_to(flat, (source.shape[0], flat.shape[1]))
        out = np.take_along_axis(whole, rows_of(index), axis=1).reshape(source.shape)
    return np.where(none, missing, out) if none.any() else out


def _parts(flat: Array, shapes: Sequence[tuple[int, ...] | None], r: Radii) -> list[Array | None]:
    parts: list[Array | None] = []
    start = 0
    for shape, radius in zip(shapes, r, strict=True):
        count = 0 if shape is None else int(np.prod(shape))
        wanted = shape is not None and radius is not None
        parts.append(flat[:, start : start + count].reshape((flat.shape[0], *(shape or ()))) if wanted else None)
        start += count
    return parts


class _Race:
    """Who wins at mid X, who else might, and what the linear map then misses (of the largest of sign * x)."""

    def __init__(self, X: Operands, r: Radii, source: Indices, sign: int) -> None:
        lo, hi = _flat([None if x is None else x.lo for x in X]), _flat([None if x is None else x.hi for x in X])
        if sign < 0:
            lo, hi = -hi, -lo
        zeros = [None if x is None else np.zeros((1, *x.shape[1:])) if radius is None else radius for x, radius in zip(X, r, strict=True)]
        self.size = lo.shape[1]
        taken = (_take(lo, source, -np.inf), _take(hi, source, -np.inf), _take(_flat(zeros), source, 0.0))
        sources, lows, highs, radii = np.broadcast_arrays(source, *taken)
        if source.shape[-1] == 0:
            self._nobody(source.shape[:-1])
            return
        w = np.argmax(np.where(sources >= 0, Enclosure(lows, highs).mid, -np.inf), axis=-1)[..., None]
        self.winner = np.take_along_axis(sources, w, axis=-1)[..., 0]
        others = (sources >= 0) & (np.arange(source.shape[-1]) != w)
        with np.errstate(invalid="ignore"):
            difference = np.take_along_axis(lows, w, axis=-1) - highs
        gap = np.where(np.isnan(difference), 0.0, np.where(difference == 0.0, 0.0, down(difference)))
        exact = (lows == highs).all(axis=-1)
        self._compete(sources, others, gap, radii, np.take_along_axis(radii, w, axis=-1), exact)

    def _nobody(self, shape: tuple[int, ...]) -> None:
        self.winner = self.runner = np.full(shape, -1, dtype=np.intp)
        self.slope = self.shift = self.radius = self.variation = np.zeros(shape)

    def _compete(self, sources: Indices, others: Flags, gap: Array, radii: Array, own: Array, exact: Flags) -> None:
        pair = add_up(radii, own)
        rivals = others & (pair > gap) & (pair > 0.0)
        with np.errstate(invalid="ignore"):
            ahead = up(pair - gap)
        ahead = np.where(np.isnan(ahead), np.inf, ahead)
        R = np.max(pair, axis=-1, initial=0.0, where=rivals)
        U = np.minimum(np.max(ahead, axis=-1, initial=0.0, where=rivals), R)
        S = np.minimum(np.max(-gap, axis=-1, initial=0.0, where=rivals), R)
        self.variation = np.maximum(np.max(radii, axis=-1, initial=0.0, where=rivals), own[..., 0])
        runner = np.argmax(rivals, axis=-1)[..., None]
        self.runner = np.take_along_axis(sources, runner, axis=-1)[..., 0]
        duel = (rivals.sum(axis=-1) == 1) & np.isfinite(R)
        self._duel(duel, np.take_along_axis(gap, runner, axis=-1)[..., 0], R, -S, U, exact)

    def _duel(self, duel: Flags, gap: Array, R: Array, low: Array, high: Array, exact: Flags) -> None:
        """The slope and the remainder's interval: plain, or with one rival left, the better of the two."""
        safe = np.where(duel, R, 1.0)
        behind = np.where(duel & exact, gap, 0.0)  # x_w - x_c, rounded down by at most one step
        v = np.minimum(-behind, 0.0)
        s = np.where(exact, np.clip((v + safe) / (2.0 * safe), 0.0, 0.5), 0.5)
        # At a point: relu(v + e) - s e on |e| <= R is convex in e, so its ends and its kink e = -v bound it, for any s.
        top = np.maximum(up(s * safe), up(up(v + safe) - down(s * safe)))
        bottom = np.where(v == 0.0, 0.0, down(s * down(down(v))))
        low_slope, high_slope = np.where(exact, bottom, -0.5 * safe), np.where(exact, top, 0.5 * safe)
        better = duel & (high_slope - low_slope < high - low)
        self.slope = np.where(better, s, 0.0)
        low, high = np.where(better, low_slope, low), np.where(better, high_slope, high)
        with np.errstate(invalid="ignore"):
            middle = 0.5 * low + 0.5 * high
        self.shift = np.where(np.isfinite(middle), middle, 0.0)
        reach = np.maximum(up(high - self.shift), up(self.shift - low))
        self.radius = np.where((low == 0.0) & (high == 0.0), 0.0, reach)
