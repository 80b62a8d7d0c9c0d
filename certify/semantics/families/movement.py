"""Movement: operators whose output elements are copies of operand elements, or constants that they fill in.

`value` itself, run on an array of element numbers, *is* the linear map L: it tells for every output element which
operand element it copies. push runs `value` on the tangents, pull adds every output multiplier to the element it
came from (scatter-add). L is exact, so the remainder is 0, and copies of stored numbers are stored numbers (the
ONNX type constraint T is the same on both sides), so the local rounding is 0 (`copied`).

A *steering* operand (indices of Gather, condition of Where) chooses the copies and is itself never copied. Where its
value is one number for every x in X and every |d| <= r, the map is fixed; elsewhere the output is only known to lie in
`spread(X)`, the hull of everything that it might copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.multipliers import carried
from certify.number.upward import Array, add_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, SlopePull, Tangents, rounded_floor
from certify.semantics.families.index_map import IndexMap, copied, frozen, remembered, rows_of


@dataclass(frozen=True, slots=True)
class Movement:
    """A row: `value` moves arrays of any kind; everything else follows from it.

    steering:  positions of operands that choose what is copied.
    spread:    spread(X, **attributes) encloses every element that an output element might copy, for any steering.
    undecided: undecided(flags, X, **attributes) -> bool array of the output's shape: True where a steering element
               with its flag set has a say; `flags` is one bool array (or None) per operand.
    copies:    False if every output element is the operator's own (Shape).
    fills:     names of attributes that are constants which the operator fills in (0 where absent).
    """

    infinities: ClassVar[str] = "always"
    settles: ClassVar[bool] = True
    name: str
    since: int
    parameters: tuple[str, ...]
    value: Callable[..., Any]
    static: frozenset[str] = frozenset()
    domain: str = ""
    outputs: int = 1
    steering: tuple[int, ...] = ()
    spread: Callable[..., Enclosure] | None = None
    undecided: Callable[..., npt.NDArray[np.bool_]] | None = None
    pointwise: bool = False
    fills: tuple[str, ...] = ()
    copies: bool = True
    basic: bool = True

    @property
    def nonlinear(self) -> bool:
        return bool(self.steering)

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """Both ends move alike: a copy is increasing in what it copies. `spread` where the steering is not one number."""
        settled = tuple(Enclosure.point(x.mid) if i in self.steering and x is not None else x for i, x in enumerate(X))
        lo = self.value(*(None if x is None else x.lo for x in settled), **attributes)
        thin = all(x is None or x.lo is x.hi for x in settled)
        hi = lo if thin else self.value(*(None if x is None else x.hi for x in settled), **attributes)
        open_ = self._open(X, (None,) * len(X), attributes)
        if open_ is None or self.spread is None:
            return Enclosure(lo, hi)
        wide = self.spread(X, **attributes)
        return Enclosure(np.where(open_, np.minimum(wide.lo, lo), lo), np.where(open_, np.maximum(wide.hi, hi), hi))

    def _open(self, X: Operands, r: Radii, attributes: dict[str, Any]) -> npt.NDArray[np.bool_] | None:
        """True at output elements whose copy may change within X and r; None if there is none."""
        flags: list[npt.NDArray[np.bool_] | None] = [None] * len(X)
        for i in self.steering:
            x, radius = X[i], r[i]
            if x is not None:
                still = x.lo == x.hi
                flags[i] = ~still if radius is None else ~still | (radius > 0.0)
        if self.undecided is None or not any(f is not None and f.any() for f in flags):
            return None
        return self.undecided(flags, X, **attributes)

    def _map(self, X: Operands, attributes: dict[str, Any]) -> tuple[IndexMap, npt.NDArray[np.bool_]]:
        """The index map at the middle of the steering operands, and where the output is filled with constants."""
        shapes = tuple(None if x is None else x.shape[1:] for x in X)
        steering = {i: x.mid for i in self.steering if (x := X[i]) is not None}
        value = self.value

        def build() -> tuple[IndexMap, npt.NDArray[np.bool_]]:
            numbers: list[Array | None] = []
            size = 0
            for i, shape in enumerate(shapes):
                if shape is None or i in steering:
                    numbers.append(steering.get(i))
                    continue
                count = int(np.prod(shape))
                numbers.append(np.arange(size, size + count, dtype=np.float64).reshape((1, *shape)))
                size += count
            first = np.asarray(value(*numbers, **attributes), dtype=np.float64)
            shifted = [n if n is None or i in steering else n + size for i, n in enumerate(numbers)]
            # What follows a renumbering is a copy; what does not is a constant of the operator's own.
            with np.errstate(invalid="ignore"):
                copied = (np.asarray(value(*shifted, **attributes)) - first == size) & (size > 0)
            source = np.where(copied, first, -1.0).astype(np.intp)
            return IndexMap(rows_of(source), size), ~copied

        key = (self.domain, self.name, self.since, shapes, frozen(attributes))
        found: tuple[IndexMap, npt.NDArray[np.bool_]] = remembered((key, tuple((i, frozen(x)) for i, x in steering.items())), build)
        return found

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """True where no steering element may change: L is then the whole story."""
        steered = ((X[i], r[i]) for i in self.steering if i < len(X))
        return all(x is None or (bool((x.lo == x.hi).all()) and (radius is None or not radius.any())) for x, radius in steered)

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """L copies as the steering's middle says; radius 0 but where the steering may change.

        There f(x + d) and f(x) both lie in spread(X +- r), so they differ from each other by at most its width, and
        L d is at most |L| r: radius = width + |L| r.
        """
        index_map, filled = self._map(X, attributes)
        steering = {i: x.mid for i in self.steering if (x := X[i]) is not None}
        shapes = tuple(None if x is None else x.shape[1:] for x in X)
        wanted = tuple(radius is not None and i not in steering for i, radius in enumerate(r))
        fills = bool(filled.any())

        def push(t: Tangents) -> Array:
            moved: list[Array | None] = []
            for i, shape in enumerate(shapes):
                if shape is None or i in steering:
                    moved.append(steering.get(i))
                else:
                    tangent = t[i]
                    moved.append(np.zeros((1, *shape)) if tangent is None else tangent)
            out = self.value(*moved, **attributes)
            return np.where(filled, 0.0, out) if fills else np.asarray(out)

        def pull(a: Array) -> Sequence[Array | None]:
            flat = index_map.pull(rows_of(np.ascontiguousarray(a)))
            parts: list[Array | None] = []
            start = 0
            for i, shape in enumerate(shapes):
                count = 0 if shape is None or i in steering else int(np.prod(shape))
                kept = wanted[i] and shape is not None
                parts.append(flat[:, start : start + count].reshape((flat.shape[0], *(shape or ()))) if kept else None)
                start += count
            for i in steering:
                if r[i] is not None:
                    parts[i] = np.zeros((a.shape[0], *(shapes[i] or ())))
            return parts

        out_shape = filled.shape[1:]
        zero = np.zeros((1, *out_shape))
        open_ = self._open(X, r, attributes)
        radius = zero if open_ is None else np.where(open_, add_up(self._width(X, r, attributes), push(r)), 0.0)
        linear = Linearization(push, pull, push, zero, radius, index_map.terms if index_map.terms > 1 else 0, 1)
        return linear.alike() if index_map.rows == 1 and filled.shape[0] == 1 else linear

    def slopes(self, X: Operands, r: Radii, **attributes: Any) -> SlopePull | None:
        """L^T, which adds copies up; none where the steering may change."""
        if not self.is_linear(X, r):
            return None
        linear = self.linearize(X, r, **attributes)

        def pull(a: Enclosure) -> Sequence[Enclosure | None]:
            def part(i: int) -> Enclosure:
                return carried(lambda x: np.asarray(linear.pull(x)[i]), a, linear.terms)

            return [None if radius is None else part(i) for i, radius in enumerate(r)]

        return pull

    def _width(self, X: Operands, r: Radii, attributes: dict[str, Any]) -> Array:
        assert self.spread is not None
        wide = self.spread(tuple(None if x is None else x.widen(radius) for x, radius in zip(X, r, strict=True)), **attributes)
        with np.errstate(invalid="ignore"):
            width = np.where(wide.hi == wide.lo, 0.0, wide.hi - wide.lo)  # of one infinity as well
        return add_up(np.maximum(width, 0.0))

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """|L| r, which for copies is r itself, moved; the width of what may be copied where that may change."""
        moved = self.linearize(X, r, **attributes).magnitude(r)
        open_ = self._open(X, r, attributes)
        return moved if open_ is None else np.where(open_, self._width(X, r, attributes), moved)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """A copy of a stored number is that number, unless it is delivered in a narrower format; what is filled in is stored first."""
        copies = copied(arithmetic, magnitude, [q for i, q in enumerate(quantum) if i not in self.steering])
        stored = [self._stored(arithmetic, float(attributes.get(name, 0.0))) for name in self.fills]
        if not any(stored):
            return copies
        _, filled = self._map(X, attributes)
        return np.where(filled, max(stored), copies)

    def _stored(self, arithmetic: Arithmetic, fill: float) -> float:
        """Error of a constant of the operator's own in the storage format: one rounding, none of an infinity."""
        if not np.isfinite(fill):
            return 0.0
        numerator, denominator = fill.as_integer_ratio()
        lowest_bit = (numerator & -numerator) / denominator
        return float(np.max(arithmetic.round(np.abs(np.full(1, fill)), lowest_bit)))

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """A copy is above the floor of what it may be copied from; what the operator fills in is in Y."""
        copied_from = [number for i, number in enumerate(least) if i not in self.steering]
        return rounded_floor(arithmetic, min([*copied_from, float(Y.lo.min(initial=np.inf))]))

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """The smallest quantum of all copied operands divides every copy; a constant filled in that is not 0 makes it unknown."""
        if not self.copies or any(attributes.get(name, 0.0) for name in self.fills):
            return 0.0
        least = [float(np.min(q)) for i, q in enumerate(quantum) if i not in self.steering and np.size(q)]
        return min(least, default=0.0)
