"""Operators that rank elements: TopK, Hardmax.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Of equal elements the one with the lower index
comes first. The smallest are the largest of -x.

The values of TopK are order statistics. With the elements of a row sorted by their middles (ties by index), w at rank i, and over all
x in X and |d| <= r,

    up = max over c behind w of (x_c + r_c) - (x_w - r_w), down = max over c before w of (x_w + r_w) - (x_c - r_c), at least 0:

    x_w + d_w - down <= f_i(x + d) <= x_w + d_w + up.

Proof. Were f_i larger, i elements would be larger than x_w + d_w + up, though only i - 1 are before w: some c behind w (or w) would have
x_c + d_c > x_w + d_w + up. The lower bound is the same for -x. With up0, down0 for r = 0, f_i(x + d) - f_i(x) - d_w lies in
[-down - up0, up + down0]. And f_i varies by no more than the largest r of the row: an order statistic is increasing, and
moves by t if every element does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, down, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents, UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.discrete import Discrete
from certify.semantics.families.index_map import IndexMap, copied
from certify.semantics.ops.movement import array_axis

Indices: TypeAlias = npt.NDArray[np.intp]


def _order(middle: Array) -> Indices:
    """Positions along the last axis, largest first, of equal ones the lower index first."""
    return np.argsort(-middle, axis=-1, kind="stable")


def _behind(x: Array) -> Array:
    """The largest of what follows, for each place of the last axis; -inf at the end."""
    reverse = np.maximum.accumulate(x[..., ::-1], axis=-1)[..., ::-1]
    return np.concatenate([reverse[..., 1:], np.full((*x.shape[:-1], 1), -np.inf)], axis=-1)


def _before(x: Array) -> Array:
    """The smallest of what precedes, for each place of the last axis; inf at the start."""
    forward = np.minimum.accumulate(x, axis=-1)
    return np.concatenate([np.full((*x.shape[:-1], 1), np.inf), forward[..., :-1]], axis=-1)


def _rows(x: Enclosure, axis: int, largest: int) -> Enclosure:
    """The ranked axis last, and the largest wanted."""
    k = array_axis(axis, len(x.shape) - 1)
    moved = x.map(lambda v: np.moveaxis(v, k, -1))
    return moved if largest else Enclosure(-moved.hi, -moved.lo if moved.lo is not moved.hi else -moved.hi)


def _operand(X: Operands) -> Enclosure:
    x = X[0]
    if x is None:
        raise ValueError("TopK needs its operand")
    return x


@dataclass(frozen=True, slots=True)
class OrderStatistics:
    """The k largest (or smallest) along one axis, in order. See the proof above."""

    infinities: ClassVar[str] = "always"
    name: str = "RankedValues"
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("X",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def value(self, x: Any, *, k: int, axis: int, largest: int, sorted: int) -> Any:
        ranked = np.sort(np.moveaxis(x, array_axis(axis, x.ndim - 1), -1), axis=-1)
        ranked = ranked[..., ::-1] if largest else ranked
        return np.moveaxis(ranked[..., :k], -1, array_axis(axis, x.ndim - 1))

    def enclose(self, X: Operands, **told: Any) -> Enclosure:
        """Every order statistic increases with every element."""
        return _operand(X).map(lambda v: self.value(v, **told))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return r[0] is None

    def linearize(self, X: Operands, r: Radii, **told: Any) -> Linearization:
        """L copies the element of that rank; nothing, where the largest r of the row is much less than what L would leave."""
        return self._around(X, r, **told)[0]

    def modulus(self, X: Operands, r: Radii, **told: Any) -> Array:
        """The largest r of the row, or |L| r + |shift| + radius where that is less."""
        linear, variation = self._around(X, r, **told)
        return np.minimum(variation, add_up(linear.magnitude(r), np.abs(linear.shift), linear.radius))

    def _around(self, X: Operands, r: Radii, *, k: int, axis: int, largest: int, sorted: int) -> tuple[Linearization, Array]:
        x = _operand(X)
        a = array_axis(axis, len(x.shape) - 1)
        n, rank = x.shape[a], len(x.shape)
        rows = _rows(x, axis, largest)
        order = _order(rows.mid)[..., :n]
        radii = np.broadcast_to(np.moveaxis(np.zeros((1,) * rank) if r[0] is None else r[0], a, -1), rows.shape)
        if r[0] is not None and r[0].shape[0] > rows.shape[0]:
            radii = np.moveaxis(r[0], a, -1)
            order = np.broadcast_to(order, radii.shape)
            rows = rows.map(lambda v: np.broadcast_to(v, radii.shape))
        lo, hi, d = (np.take_along_axis(v, order, axis=-1) for v in (rows.lo, rows.hi, radii))
        above, below = _gap(_behind(_plus(hi, d)), lo, d), _gap(-_before(_plus(lo, -d)), -hi, d)
        calm_above, calm_below = _gap(_behind(hi), lo, 0.0 * d), _gap(-_before(lo), -hi, 0.0 * d)
        most = np.max(d, axis=-1, keepdims=True, initial=0.0)
        top = np.where(d == np.inf, np.inf, add_up(above, calm_below))[..., :k]
        bottom = np.where(d == np.inf, np.inf, add_up(below, calm_above))[..., :k]
        return self._map(
            order[..., :k], d[..., :k], np.broadcast_to(most, d.shape)[..., :k], top, bottom, (x.shape, a, largest, r[0] is not None)
        )

    def _map(
        self, order: Indices, own: Array, most: Array, top: Array, bottom: Array, form: tuple[tuple[int, ...], int, int, bool]
    ) -> tuple[Linearization, Array]:
        shape, a, largest, deviates = form
        with np.errstate(invalid="ignore"):
            shift = np.where(np.isfinite(top) & np.isfinite(bottom), 0.5 * top - 0.5 * bottom, 0.0)
            radius = np.where((top == 0.0) & (bottom == 0.0), 0.0, np.maximum(up(top - shift), up(bottom + shift)))
        whole = add_up(own, np.abs(shift), radius)
        nothing = (most < 0.67 * whole) | np.isinf(radius)
        shift, radius = np.where(nothing, 0.0, shift), np.where(nothing, most, radius)

        def outer(v: Array) -> Array:
            return np.moveaxis(v, -1, a)

        source = np.moveaxis(np.where(nothing, -1, self._numbers(order, shape, a)), -1, a)
        index = IndexMap(source.reshape(source.shape[0], -1), int(np.prod(shape[1:])))
        result = source.shape[1:]

        def push(t: Tangents) -> Array:
            if t[0] is None:
                return np.zeros((1, *result))
            flat = t[0].reshape(t[0].shape[0], -1)
            taken = flat[:, source[0].reshape(-1)] if source.shape[0] == 1 else np.take_along_axis(*_alike(flat, source), axis=1)
            return np.where(source < 0, 0.0, taken.reshape(-1, *result))

        def pull(m: Array) -> Sequence[Array | None]:
            if not deviates:
                return (None,)
            back = index.pull(np.ascontiguousarray(m).reshape(m.shape[0], -1))
            return (back.reshape(back.shape[0], *shape[1:]),)

        sign = 1.0 if largest else -1.0
        linear = Linearization(push, pull, push, outer(sign * shift), outer(radius), index.terms if index.terms > 1 else 0)
        return linear, outer(most)

    def _numbers(self, order: Indices, shape: tuple[int, ...], a: int) -> Indices:
        """Element numbers, within a case, of positions along the ranked axis."""
        numbers = np.moveaxis(np.arange(int(np.prod(shape[1:]))).reshape(1, *shape[1:]), a, -1)
        return np.take_along_axis(np.broadcast_to(numbers, (order.shape[0], *numbers.shape[1:])), order, axis=-1)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **told: Any
    ) -> Array:
        """Copies. Unsorted they may come in any order: off by at most the spread of the k computed values."""
        copies = copied(arithmetic, magnitude, quantum)
        if told["sorted"] or told["k"] < 2:
            return copies
        a = array_axis(told["axis"], len(_operand(X).shape) - 1)
        Y = self.enclose((_operand(X).widen(r[0]),), **told)
        with np.errstate(invalid="ignore"):
            spread = up(Y.hi.max(axis=a, keepdims=True) - Y.lo.min(axis=a, keepdims=True))
        return add_up(copies, np.where(np.isnan(spread), np.inf, spread))

    def quantum(self, quantum: Sequence[Array | float], **told: Any) -> Array | float:
        return float(np.min(quantum[0])) if np.size(quantum[0]) else 0.0


def _alike(flat: Array, source: Indices) -> tuple[Array, Indices]:
    cases = max(flat.shape[0], source.shape[0])
    rows = np.where(source < 0, 0, source).reshape(source.shape[0], -1)
    return np.broadcast_to(flat, (cases, flat.shape[1])), np.broadcast_to(rows, (cases, rows.shape[1]))


def _plus(x: Array, d: Array) -> Array:
    """x + d away from zero error: upward for d > 0, downward for d < 0, x itself for 0."""
    with np.errstate(invalid="ignore"):
        total = np.where(d > 0.0, up(x + d), np.where(d < 0.0, down(x + d), x))
    return np.where(np.isnan(total), np.where(d > 0.0, np.inf, -np.inf), total)


def _gap(rival: Array, own: Array, d: Array) -> Array:
    """max(rival - (own - d), 0), upward; infinite where it is unknown, 0 where there is no rival or both are the same infinity."""
    with np.errstate(invalid="ignore"):
        ahead = up(up(rival - own) + d)
        ahead = np.where((rival == own) & (d == 0.0), 0.0, ahead)
        ahead = np.where(np.isnan(ahead), np.where(d == 0.0, 0.0, np.inf), ahead)
    return np.where(rival == -np.inf, 0.0, np.maximum(ahead, 0.0))


def positions(x: Any, *, k: int, axis: int, largest: int, sorted: int) -> Any:
    a = array_axis(axis, x.ndim - 1)
    moved = np.moveaxis(x, a, -1)
    order = np.argsort(-moved if largest else moved, axis=-1, kind="stable")
    return np.moveaxis(order[..., :k].astype(np.float64), -1, a)


def _position_outcomes(x: Enclosure, *, k: int, axis: int, largest: int, sorted: int) -> Enclosure:
    """One position where w is apart from all before and behind it, or ties with single numbers only; any position elsewhere.

    With the elements sorted by their middles w keeps its rank if all behind are surely smaller and all before surely larger. Equal
    single numbers are in the order of their indices already, for the sort is stable.
    """
    rows = _rows(x, axis, largest)
    order = _order(rows.mid)
    lo, hi = (np.take_along_axis(v, order, axis=-1) for v in (rows.lo, rows.hi))
    thin = lo == hi
    behind, before = (hi, lo)
    loose_behind, loose_before = np.where(thin, -np.inf, behind), np.where(thin, np.inf, before)
    sure = (_behind(behind) < lo) | (thin & (_behind(behind) <= lo) & (_behind(loose_behind) < lo))
    sure |= np.arange(lo.shape[-1]) == lo.shape[-1] - 1
    ahead = (_before(before) > hi) | (thin & (_before(before) >= hi) & (_before(loose_before) > hi))
    ahead |= np.arange(lo.shape[-1]) == 0
    certain = (sure & ahead)[..., :k]
    place, n = order[..., :k].astype(np.float64), lo.shape[-1]
    a = array_axis(axis, len(x.shape) - 1)
    return Enclosure(np.moveaxis(np.where(certain, place, 0.0), -1, a), np.moveaxis(np.where(certain, place, n - 1.0), -1, a))


def _any_position(x: Enclosure, *, k: int, axis: int, sorted: int, **_: Any) -> Any:
    """Unsorted, every position may stand anywhere."""
    return 0.0 if sorted or k < 2 else x.shape[array_axis(axis, len(x.shape) - 1)] - 1.0


def _top(expansion: Expansion, *, K: Any = None, k: int | None = None, axis: int = -1, largest: int = 1, sorted: int = 1) -> Any:
    """Values and indices; k is an attribute before opset 10."""
    count = k if K is None else int(np.ravel(K)[0])
    n = expansion.shapes[0][array_axis(axis, len(expansion.shapes[0])) - 1]
    if count is None or not 0 <= count <= n:
        raise UnsupportedOperator(f"it asks for {count} of {n} elements")
    told = {"k": count, "axis": axis, "largest": largest, "sorted": sorted}
    names = zip(("RankedValues", "RankedPositions"), expansion.outputs, strict=False)
    return [Primitive(part, expansion.operands[:1], y, told, inner=False, domain="certify") for part, y in names if y is not None], {}


def _hard(x: Any) -> Array:
    """1 at the first largest of the last axis, 0 elsewhere."""
    return np.asarray(np.arange(x.shape[-1]) == scalar.first_largest(x)[..., None], dtype=np.float64)


def hardmax(x: Any, *, axis: int = -1) -> Any:
    """1 at the first of the largest elements, 0 elsewhere."""
    a = array_axis(axis, x.ndim - 1)
    return np.moveaxis(_hard(np.moveaxis(x, a, -1)), -1, a)


def _hardmax_outcomes(x: Enclosure, *, axis: int = -1) -> Enclosure:
    """c may win if no other is surely larger; it does if it alone may. Equal single numbers decide by their indices."""
    rows, a = _rows(x, axis, 1), array_axis(axis, len(x.shape) - 1)
    possible = rows.hi >= np.max(rows.lo, axis=-1, keepdims=True)
    still = np.all((rows.lo == rows.hi) | ~possible, axis=-1, keepdims=True)
    alone = possible & (possible.sum(axis=-1, keepdims=True) == 1)
    exact = _hard(rows.lo)
    lo, hi = np.where(still, exact, alone.astype(np.float64)), np.where(still, exact, possible.astype(np.float64))
    return Enclosure(np.moveaxis(lo, -1, a), np.moveaxis(hi, -1, a))


def _flat_hardmax(expansion: Expansion, *, axis: int = 1) -> tuple[list[Primitive], dict[str, Array]]:
    """Before opset 13: over all axes from `axis` on, as if they were one."""
    x, y, shape = expansion.operands[0], expansion.outputs[0], expansion.shapes[0]
    if y is None:
        return [], {}
    split = axis + len(shape) if axis < 0 else axis
    flat, found = expansion.name("flat"), expansion.name("found")
    return [
        Primitive("Reshape", (x,), flat, {"shape": (int(np.prod(shape[:split])), int(np.prod(shape[split:])))}, inner=False),
        Primitive("Hardmax", (flat,), found, {"axis": 1}, inner=False),
        Primitive("Reshape", (found,), y, {"shape": shape, "allowzero": 1}, inner=False),
    ], {}


_TOP = frozenset({"K"})

register(
    OrderStatistics(),
    Discrete("RankedPositions", 1, ("X",), positions, _position_outcomes, strays=_any_position, domain="certify", pointwise=False),
    Composite("TopK", 1, ("X",), _top, outputs=2),
    Composite("TopK", 10, ("X", "K"), _top, static=_TOP, outputs=2),
    Composite("Hardmax", 1, ("input",), _flat_hardmax),
    Discrete("Hardmax", 13, ("input",), hardmax, _hardmax_outcomes, pointwise=False),
)
