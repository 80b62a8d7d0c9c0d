"""Decision trees: for every row of x the leaf of every tree that its comparisons lead to.

Each comparison of a feature with a threshold is a decision. Where none can change within r the leaves are copied, exactly;
elsewhere the output is known to lie in the hull of the leaves that can be reached, tree by tree. A leaf counts as reachable if
every comparison on its path can go its way for some x in X +- r: each by itself, which is a superset. L = 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure, concatenate
from certify.number.upward import Array, down, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents
from certify.semantics.families.index_map import copied

Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
_CHUNK = 1 << 22  # elements of one intermediate array


@dataclass(frozen=True, eq=False)
class Forest:
    """The structure of all trees; n inner nodes, then the leaves, sorted by tree, share one numbering.

    roots: one node a tree. feature, mode (of MODES), yes, no: one entry an inner node. starts: the first leaf of each tree.
    levels: the inner nodes, each after all that lead to it. columns: how many features x needs.
    """

    roots: Indices
    feature: Indices
    mode: Indices
    yes: Indices
    no: Indices
    starts: Indices
    leaves: int
    levels: tuple[Indices, ...]

    @property
    def nodes(self) -> int:
        return self.feature.size


def _goes_yes(mode: Indices, x: Any, threshold: Any) -> Flags:
    """Which way a comparison goes."""
    below = np.asarray(x <= threshold, dtype=bool)
    above = np.asarray(x >= threshold, dtype=bool)
    return np.asarray(np.choose(mode, [below, ~above, above, ~below, below & above, ~(below & above)]), dtype=bool)


def _possible(mode: Indices, x: Enclosure, threshold: Enclosure) -> tuple[Flags, Flags]:
    """Whether it can go yes, whether it can go no, for some number of each interval."""
    below, above = x.lo <= threshold.hi, x.hi >= threshold.lo
    less, more = x.lo < threshold.hi, x.hi > threshold.lo
    apart = ~((x.lo == x.hi) & (threshold.lo == threshold.hi) & (x.lo == threshold.lo))
    yes = np.choose(mode, [below, less, above, more, below & above, apart])
    no = np.choose(mode, [more, above, less, below, apart, below & above])
    return np.asarray(yes, dtype=bool), np.asarray(no, dtype=bool)


@dataclass(frozen=True, slots=True)
class Leaves:
    """The rule: x (rows, features), thresholds (nodes,), table (leaves, targets) -> (rows, trees, targets)."""

    name: str = "Leaves"
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("X", "thresholds", "table")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def value(self, x: Any, thresholds: Any, table: Any, *, forest: Forest) -> Any:
        """The leaves' rows of the table."""
        cases = max(thresholds.shape[0], table.shape[0])
        if cases > 1:
            parts = [[v[c : c + 1] if v.shape[0] > 1 else v for v in (x, thresholds, table)] for c in range(cases)]
            return np.concatenate([self.value(*part, forest=forest) for part in parts])
        at = np.broadcast_to(forest.roots, (*x.shape[:2], forest.roots.size))
        for _ in forest.levels:
            inner = at < forest.nodes
            node = np.where(inner, at, 0)
            seen = np.take_along_axis(x, forest.feature[node], axis=2)
            yes = _goes_yes(forest.mode[node], seen, thresholds[0][node])
            at = np.where(inner, np.where(yes, forest.yes[node], forest.no[node]), at)
        return table[0][at - forest.nodes]

    def enclose(self, X: Operands, *, forest: Forest) -> Enclosure:
        """The hull of the leaves that can be reached; one number where all comparisons are decided."""
        x, thresholds, table = _given(X)
        if x.is_point and thresholds.is_point and table.is_point:
            return Enclosure.point(self.value(x.lo, thresholds.lo, table.lo, forest=forest))
        several = max(thresholds.shape[0], table.shape[0])
        if several > 1:
            parts = [tuple(v[c : c + 1] if v.shape[0] > 1 else v for v in (x, thresholds, table)) for c in range(several)]
            return concatenate([self.enclose(part, forest=forest) for part in parts])
        cases, rows = x.shape[:2]
        flat = x.reshape((cases * rows, x.shape[2]))
        targets = table.shape[2]
        lo = np.empty((cases * rows, forest.roots.size, targets))
        hi = np.empty_like(lo)
        for part in _parts(cases * rows, forest, targets):
            lo[part], hi[part] = _hull(forest, _reached(forest, flat[part], thresholds), table)
        shape = (cases, rows, *lo.shape[1:])
        return Enclosure(lo.reshape(shape), hi.reshape(shape))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return all(radius is None or not radius.any() for radius in r)

    def linearize(self, X: Operands, r: Radii, *, forest: Forest) -> Linearization:
        """L = 0; the remainder lies between the hulls before and after."""
        low, high = self._change(X, r, forest)
        with np.errstate(invalid="ignore"):
            middle = 0.5 * low + 0.5 * high
        shift = np.where(np.isfinite(middle), middle, 0.0)
        reach = np.maximum(up(high - shift), up(shift - low))
        radius = np.where((low == 0.0) & (high == 0.0), 0.0, reach)
        shapes = [x.shape[1:] for x in _given(X)]
        zero = np.zeros((1, *low.shape[1:]))

        def push(d: Tangents) -> Array:
            return zero

        def pull(a: Array) -> Sequence[Array | None]:
            return [None if q is None else np.zeros((a.shape[0], *shape)) for shape, q in zip(shapes, r, strict=True)]

        return Linearization(push, pull, push, shift, radius)

    def _change(self, X: Operands, r: Radii, forest: Forest) -> tuple[Array, Array]:
        """Bounds of f(x + d) - f(x), 0 inside; exactly 0 where both are one and the same number."""
        before = self.enclose(X, forest=forest)
        if self.is_linear(X, r):
            zero = np.zeros((1, *before.shape[1:]))
            return zero, zero
        after = self.enclose(tuple(None if x is None else x.widen(q) for x, q in zip(X, r, strict=True)), forest=forest)
        same = (after.lo == after.hi) & (before.lo == after.lo) & (before.hi == after.lo)
        low, high = down(after.lo - before.hi), up(after.hi - before.lo)
        return np.where(same, 0.0, np.minimum(low, 0.0)), np.where(same, 0.0, np.maximum(high, 0.0))

    def modulus(self, X: Operands, r: Radii, *, forest: Forest) -> Array:
        """The spread of the hulls."""
        low, high = self._change(X, r, forest)
        return np.maximum(high, -low)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], *, forest: Forest
    ) -> Array:
        """A leaf is a copy of a number of the table."""
        return copied(arithmetic, magnitude, [quantum[2]])

    def quantum(self, quantum: Sequence[Array | float], *, forest: Forest) -> Array | float:
        """What divides the whole table."""
        return float(np.min(quantum[2]))


def _given(X: Operands) -> tuple[Enclosure, Enclosure, Enclosure]:
    x, thresholds, table = X
    assert x is not None
    assert thresholds is not None
    assert table is not None
    return x, thresholds, table


def _parts(rows: int, forest: Forest, targets: int) -> Iterator[slice]:
    """Rows a few at a time."""
    step = max(1, _CHUNK // max(1, forest.nodes + forest.leaves * targets))
    return (slice(start, start + step) for start in range(0, rows, step))


def _reached(forest: Forest, x: Enclosure, thresholds: Enclosure) -> Flags:
    """Which leaves each row may reach, (rows, leaves)."""
    seen = x.map(lambda v: v[:, forest.feature])
    yes, no = _possible(np.broadcast_to(forest.mode, seen.shape), seen, thresholds)
    reached = np.zeros((x.shape[0], forest.nodes + forest.leaves), dtype=bool)
    reached[:, forest.roots] = True
    for level in forest.levels:
        for ways, children in ((yes, forest.yes[level]), (no, forest.no[level])):
            goes = reached[:, level] & ways[:, level]
            if np.unique(children).size == children.size:
                reached[:, children] |= goes
            else:
                for k, child in enumerate(children):
                    reached[:, child] |= goes[:, k]
    return reached[:, forest.nodes :]


def _hull(forest: Forest, reached: Flags, table: Enclosure) -> tuple[Array, Array]:
    """Smallest and largest number of the reachable leaves of each tree."""
    flags = reached[:, :, None]
    lo = np.minimum.reduceat(np.where(flags, table.lo[0], np.inf), forest.starts, axis=1)
    return lo, np.maximum.reduceat(np.where(flags, table.hi[0], -np.inf), forest.starts, axis=1)
