"""Blocks: products and a chain of pointwise rules behind them as one step, so that a long expansion costs an engine few steps.

A part reads the block's operands and earlier parts. Whatever the verbs ask is answered by running the parts' own verbs along
the chain. With e_k the deviation of part k, e_k = L_k e_operands + shift_k + (within radius_k), so that

    e_k = (chain of L) d + s_k + (within q_k),   s_k = L_k s_operands + shift_k,   q_k = |L_k| q_operands + radius_k.

Parts that are contractions, the heads, read the block's operands alone; all others work element by element. So behind operands
and heads the chain of L is one slope per source and element, g = (chain of L)(1), found by pushing ones. L is the map with these very
float64 slopes; that they are rounded, at most gamma_m |chain of L| (m: all roundings along the chain), goes into the radius, as
does the rounding of s_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Rule, Tangents
from certify.semantics.families.broadcast import align, collect, spread_count

_ELEMENTWISE = ("Where", "Reassociated")  # element by element, too, without promising it to engines


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One rule with its attributes; operands are positions among the block's operands followed by the parts before.

    arithmetic: how its kernel rounds; None is the block's.
    """

    rule: Rule
    operands: tuple[int, ...]
    attributes: dict[str, Any]
    arithmetic: Arithmetic | None = None

    def of(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[k] for k in self.operands)

    @property
    def is_head(self) -> bool:
        return not self.rule.pointwise and self.rule.name not in _ELEMENTWISE


Chain = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """The rule; the last part of `chain` is the result. Every part delivers into the kernel's own format."""

    infinities: ClassVar[str] = "none"
    name: str = "Block"
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("operands",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def value(self, *x: Any, chain: Chain) -> Any:
        """The last part's value."""
        values = list(x)
        for part in chain:
            values.append(part.rule.value(*part.of(values), **part.attributes))
        return values[-1]

    def enclose(self, X: Operands, *, chain: Chain) -> Enclosure:
        """The parts' enclosures, one after the other."""
        Y = _enclosed(X, chain)[-1]
        assert Y is not None
        return Y

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return all(radius is None for radius in r)

    def linearize(self, X: Operands, r: Radii, *, chain: Chain) -> Linearization:
        """One slope per source, behind the heads' own maps; see the family's derivation."""
        return _run(X, r, chain).linearization

    def modulus(self, X: Operands, r: Radii, *, chain: Chain) -> Array:
        """The last part's modulus, along the chain; no more than |L| r + |shift| + radius."""
        run = _run(X, r, chain)
        L = run.linearization
        return np.minimum(run.modulus, add_up(L.magnitude(r), np.abs(L.shift), L.radius))

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], *, chain: Chain
    ) -> Array:
        """A running error analysis along the chain, from operands anywhere within r, taken as they are: modulus + rounding of each part."""
        values = _enclosed(tuple(None if x is None else x.widen(q) for x, q in zip(X, r, strict=True)), chain)
        off: list[Array | None] = [None] * len(X)
        for k, part in enumerate(chain):
            xs, radii, Y = part.of(values), part.of(off), values[len(X) + k]
            assert Y is not None
            moved: Array | float = 0.0
            if any(radius is not None for radius in radii):
                moved = part.rule.modulus(xs, radii, **part.attributes)
            rounds = part.arithmetic or arithmetic
            born = part.rule.rounding(xs, radii, rounds, add_up(Y.mag, moved), [0.0] * len(xs), **part.attributes)
            off.append(np.broadcast_to(add_up(moved, born), Y.shape))
        result = off[-1]
        assert result is not None
        return result

    def quantum(self, quantum: Sequence[Array | float], *, chain: Chain) -> Array | float:
        """Nothing is claimed."""
        return 0.0


def _enclosed(X: Operands, chain: Chain) -> list[Enclosure | None]:
    values: list[Enclosure | None] = list(X)
    for part in chain:
        values.append(part.rule.enclose(part.of(values), **part.attributes))
    return values


_RECENT: list[tuple[tuple[Any, ...], _Run]] = []


def _run(X: Operands, r: Radii, chain: Chain) -> _Run:
    """The chain linearized at these very arrays, which an engine asks for several times in a row."""
    key = (chain, *(None if x is None else x.lo for x in X), *(None if x is None else x.hi for x in X), *r)
    for known, run in _RECENT:
        if len(known) == len(key) and all(a is b for a, b in zip(known, key, strict=True)):
            return run
    run = _Run(X, r, chain)
    _RECENT.insert(0, (key, run))
    del _RECENT[2:]
    return run


class _Run:
    """The chain linearized: maps, deviations, and what the maps miss at the end."""

    def __init__(self, X: Operands, r: Radii, chain: Chain) -> None:
        self.X, self.r, self.chain, self.count = X, r, chain, len(X)
        self.heads = sum(part.is_head for part in chain)
        for k, part in enumerate(chain):
            if part.is_head != (k < self.heads) or (k < self.heads and max(part.operands) >= self.count):
                raise ValueError("the heads of a block come first and read its operands alone")
        self.values = _enclosed(X, chain)
        self.maps: list[Linearization] = []
        self.roundings = 1
        moduli: list[Array | None] = list(r)
        shifts: list[Array | None] = [None] * len(X)
        radii: list[Array | None] = [None] * len(X)
        for part in chain:
            xs, deviations, before = part.of(self.values[: self.count + len(self.maps)]), part.of(moduli), part.of(shifts)
            L = part.rule.linearize(xs, deviations, **part.attributes)
            self.maps.append(L)
            self.roundings += L.terms + 3
            moduli.append(part.rule.modulus(xs, deviations, **part.attributes) if _some(deviations) else None)
            shift = L.push(before) + L.shift if _some(before) else L.shift
            rounded = _times(self.roundings, add_up(L.magnitude([None if s is None else np.abs(s) for s in before]), np.abs(L.shift)))
            radius = add_up(L.magnitude(part.of(radii)), L.radius, rounded)
            shifts.append(shift if np.any(shift) else None)
            radii.append(radius if np.any(radius) else None)
        last = self.values[-1]
        assert last is not None
        shape = np.broadcast_shapes(last.shape, *(a.shape for a in (moduli[-1], shifts[-1], radii[-1]) if a is not None))
        zero = np.zeros(shape)
        self.modulus = zero if moduli[-1] is None else np.broadcast_to(moduli[-1], shape)
        self.shift = zero if shifts[-1] is None else np.broadcast_to(shifts[-1], shape)
        self.radius = add_up(zero if radii[-1] is None else radii[-1], _times(self.roundings, self._pushed(r, True)))
        self.shift = np.where(np.isinf(self.radius), 0.0, self.shift)
        self.linearization = self._linearization()

    def _pushed(self, tangents: Sequence[Array | None], magnitude: bool = False) -> Array:
        """Along all maps, as they are or in absolute values."""
        moved: list[Array | None] = list(tangents)
        for part, L in zip(self.chain, self.maps, strict=True):
            given = part.of(moved)
            moved.append((L.magnitude if magnitude else L.push)(given) if _some(given) else None)
        return np.zeros((1,) * self.shift.ndim) if moved[-1] is None else moved[-1]

    def _slopes(self) -> list[Array | None]:
        """(chain of L)(1) from each operand and head that deviates, through the pointwise parts alone."""
        found: list[Array | None] = []
        sources = self.count + self.heads
        for k in range(sources):
            x = self.values[k]
            moves = _some([self.r[k]] if k < self.count else self.chain[k - self.count].of(self.r))
            if x is None or not moves:
                found.append(None)
                continue
            moved: list[Array | None] = [None] * sources
            moved[k] = np.ones((1, *x.shape[1:]))
            for part, L in zip(self.chain[self.heads :], self.maps[self.heads :], strict=True):
                given = part.of(moved)
                moved.append(L.push(given) if _some(given) else None)
            found.append(None if moved[-1] is None else np.broadcast_to(moved[-1], self.shift.shape))
        return found

    def _linearization(self) -> Linearization:
        slopes = self._slopes()
        shapes = [None if x is None else x.shape for x in self.values[: self.count + self.heads]]
        count, heads, chain, maps, r = self.count, self.heads, self.chain, self.maps, self.r
        zero = np.zeros((1, *self.shift.shape[1:]))
        rank = zero.ndim

        def along(d: Tangents, times: Any, through: str) -> list[Array]:
            sources = list(d)
            for part, L in zip(chain[:heads], maps[:heads], strict=True):
                given = part.of(sources)
                sources.append(getattr(L, through)(given) if _some(given) else None)
            return [times(g, align(t, rank)) for g, t in zip(slopes, sources, strict=True) if g is not None and t is not None]

        def push(d: Tangents) -> Array:
            moved = along(d, np.multiply, "push")
            return np.asarray(reduce(np.add, moved)) if moved else zero

        def pull(a: Array) -> Sequence[Array | None]:
            back = [None if g is None or s is None else collect(a * g, s) for g, s in zip(slopes, shapes, strict=True)]
            found = [
                None if q is None else np.zeros((a.shape[0], *(s or ())[1:])) if b is None else b
                for q, b, s in zip(r, back, shapes, strict=False)
            ]
            for k, (part, L) in enumerate(zip(chain[:heads], maps[:heads], strict=True)):
                onto = back[count + k]
                if onto is None:
                    continue
                for position, share in zip(part.operands, L.pull(onto), strict=True):
                    known = found[position]
                    if share is not None and known is not None:
                        found[position] = known + share
            return found

        def magnitude(d: Tangents) -> Array:
            return add_up(zero, *along(d, lambda g, t: mul_up(np.abs(g), t), "magnitude"))

        spread = [spread_count((1, *s[1:]), zero.shape) for s, g in zip(shapes, slopes, strict=True) if s and g is not None]
        terms = max(spread, default=1) + sum(L.terms + 2 for L in maps[:heads]) + len(slopes)
        products = sum(L.products or L.terms for L in maps[:heads])
        return Linearization(push, pull, magnitude, self.shift, self.radius, terms, max(1, products))


def _some(tangents: Sequence[Array | None]) -> bool:
    return any(t is not None for t in tangents)


def _times(roundings: int, x: Array) -> Array:
    """gamma_(roundings) x; 0 inf is 0."""
    gamma = 2.0 * roundings * UNIT_ROUNDOFF
    with np.errstate(invalid="ignore"):
        return inflate(np.where(x == 0.0, 0.0, gamma * x), 2)
