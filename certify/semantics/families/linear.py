"""Linear operators: every output element is a sum of operand elements times fixed coefficients.

The remainder is exactly 0. Enclosures are midpoint-radius like those of families/bilinear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure, around
from certify.number.multipliers import carried
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, inflate, lift
from certify.semantics.contract import Arithmetic, Errors, Linearization, Operands, Radii, Roundings, SlopePull, Tangents, rounded_floor
from certify.semantics.families.broadcast import Shape


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a kernel's rounding may depend on: upper bounds over all computed operands.

    operands: largest magnitude of each operand, each in its own shape.
    magnitude: of the exact result. quantum: as in Rule.rounding. terms: as `Linear.extent` says.
    """

    operands: tuple[Array, ...]
    magnitude: Array
    quantum: Sequence[Array | float]
    terms: int


@dataclass(frozen=True, slots=True)
class Linear:
    """A row; every function takes ONNX attributes by keyword.

    apply:     L x, on float64 and on object arrays.
    absolute:  |L| x for non-negative x in float64, not yet rounded up.
    transpose: (a, shapes) -> L^T a per operand, (rows, *shapes[i][1:]).
    extent:    shapes -> (shape of the result, most terms in one output element, most outputs that one element enters).
    kernel:    (arithmetic, Sizes) -> rounding.
    interval:  an exact enclosure where it can be had.
    divisor:   quantum, the power of two that divides the result; None claims nothing.
    adds:      True if kernels only add elements up, and at most divide by their number: what is not negative stays so.
    basic: True if the kernel is one addition, or one subtraction.
    rounds: what `Rule.errors` says of a kernel that is not one operation. split: (roundings, Sizes, usual) -> `Rule.fluctuation`, where
            that is "told".
    infinities: "points" for a sum in which one infinite term (a mask) is the result, whatever is added to it.
    """

    name: str
    since: int
    parameters: tuple[str, ...]
    apply: Callable[..., Any]
    absolute: Callable[..., Array]
    transpose: Callable[..., Sequence[Array]]
    extent: Callable[..., tuple[Shape, int, int]]
    kernel: Callable[..., Array]
    interval: Callable[..., Enclosure] | None = None
    divisor: Callable[..., Array | float] | None = None
    static: frozenset[str] = frozenset()
    domain: str = ""
    outputs: int = 1
    pointwise: bool = False
    nonlinear: bool = False
    infinities: str = "none"
    adds: bool = False
    basic: bool = False
    rounds: Errors | None = None
    split: Callable[..., tuple[Array, Array]] | None = None

    def value(self, *x: Any, **attributes: Any) -> Any:
        """L x."""
        return self.apply(*x, **attributes)

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """L mid within |L| rad + gamma |L| |mid|, gamma covering any order of summation and one scaling.

        Sums never underflow inexactly; a scaling may, by at most 2^-1074. Integers that stay below 2^53 in size are exact.
        """
        given = _given(X)
        if self.interval is not None:
            Y = self.interval(*given, **attributes)
            masked = self._masked(given)
            return Y if masked is None else Enclosure(np.where(np.isnan(masked), Y.lo, masked), np.where(np.isnan(masked), Y.hi, masked))
        _, terms, _ = self.extent([x.shape for x in given], **attributes)
        middles = [x.mid for x in given]
        with np.errstate(invalid="ignore", over="ignore"):
            middle = np.asarray(self.apply(*middles, **attributes), dtype=np.float64)
        size = self._bound([np.abs(m) for m in middles], terms, attributes)
        thin = all(x.is_point for x in given)
        if thin and self.divisor is not None and _added_exactly(middles, size):
            return Enclosure.point(middle)
        gamma = (terms + 6) * UNIT_ROUNDOFF
        radius = inflate(gamma / (1.0 - gamma) * size, 4) + np.where(size > 0.0, 2.0**-1073, 0.0)
        if not thin:
            radius = add_up(radius, self._bound([x.rad for x in given], terms, attributes))
        return around(middle, radius)

    def _masked(self, given: Sequence[Enclosure]) -> Array | None:
        """The infinite result where exactly known infinities of one sign are added, NaN elsewhere; None: nowhere."""
        if self.infinities == "none" or not any(np.isinf(x.lo[x.lo == x.hi]).any() for x in given):
            return None
        with np.errstate(invalid="ignore"):
            total = np.asarray(self.apply(*(np.where((x.lo == x.hi) & np.isinf(x.lo), x.lo, 0.0) for x in given)))
        return np.where(np.isinf(total), total, np.nan)

    def _bound(self, x: Sequence[Array], terms: int, attributes: dict[str, Any]) -> Array:
        """Upper bound of |L| x for non-negative x."""
        with np.errstate(invalid="ignore", over="ignore"):
            total = np.asarray(self.absolute(*(lift(v) for v in x), **attributes), dtype=np.float64)
        return inflate(np.where(np.isnan(total), np.inf, total), terms + 3)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Always."""
        return True

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """L itself; no remainder."""
        shapes = [x.shape for x in _given(X)]
        shape, terms, reach = self.extent(shapes, **attributes)
        zero = np.zeros((1, *shape[1:]))

        def push(d: Tangents) -> Array:
            return zero if all(t is None for t in d) else np.asarray(self.apply(*_filled(d, shapes), **attributes))

        def pull(a: Array) -> Sequence[Array | None]:
            parts = self.transpose(a, shapes, **attributes)
            return [None if radius is None else part for radius, part in zip(r, parts, strict=True)]

        def magnitude(d: Tangents) -> Array:
            return zero if all(t is None for t in d) else self._bound(_filled(d, shapes), terms, attributes)

        return Linearization(push, pull, magnitude, zero, zero, max(terms, reach) + 1, terms).alike()

    def slopes(self, X: Operands, r: Radii, **attributes: Any) -> SlopePull | None:
        """L^T itself, where all coefficients of an operand are of one sign."""
        if not (self.adds or self.basic):
            return None
        shapes = [x.shape for x in _given(X)]
        _, _, reach = self.extent(shapes, **attributes)
        terms = 0 if reach <= 1 and self.divisor is not None else reach + 1  # without a divisor, sums are scaled

        def pull(a: Enclosure) -> Sequence[Enclosure | None]:
            def part(i: int) -> Enclosure:
                return carried(lambda x: self.transpose(x, shapes, **attributes)[i], a, terms)

            return [None if radius is None else part(i) for i, radius in enumerate(r)]

        return pull

    def moved(self, X: Operands, D: Sequence[Enclosure | None], **attributes: Any) -> Enclosure:
        """L D."""
        zeros = [Enclosure.point(np.zeros(x.shape)) if d is None else d for x, d in zip(_given(X), D, strict=True)]
        return self.enclose(tuple(zeros), **attributes)

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """|L| r."""
        return self.linearize(X, r, **attributes).magnitude(r)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """As `kernel` says; 0 where the result is an infinity that was added."""
        given = _given(X)
        born = self.kernel(arithmetic, self._sizes(given, r, magnitude, quantum, attributes), **attributes)
        masked = self._masked(given)
        return born if masked is None else np.where(np.isinf(masked), 0.0, born)  # infinity plus a finite number rounds to itself

    def _sizes(
        self, given: list[Enclosure], r: Radii, magnitude: Array, quantum: Sequence[Array | float], attributes: dict[str, Any]
    ) -> Sizes:
        operands = tuple(x.mag if radius is None else add_up(x.mag, radius) for x, radius in zip(given, r, strict=True))
        _, terms, _ = self.extent([x.shape for x in given], **attributes)
        return Sizes(operands, magnitude, quantum, terms)

    def errors(self, **attributes: Any) -> Errors | None:
        """As `Rule.errors`."""
        return "one" if self.basic else "told" if self.split is not None else self.rounds

    def fluctuation(
        self, X: Operands, r: Radii, roundings: Roundings, magnitude: Array, usual: bool = False, **attributes: Any
    ) -> tuple[Array, Array]:
        """As `split` says."""
        assert self.split is not None
        return self.split(roundings, self._sizes(_given(X), r, magnitude, (), attributes), usual, **attributes)

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """Sums of non-negative numbers are not negative in any order; a single addition is at least the floors' sum, rounded."""
        if not self.adds or min(least) < 0.0:
            return -np.inf
        added = sum(least) * (1.0 - 2.0**-50)
        return rounded_floor(arithmetic, added) if self.pointwise and len(least) == 2 and self.divisor is not None else 0.0

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """As `divisor` says; 0 if it says nothing."""
        return 0.0 if self.divisor is None else self.divisor(quantum, **attributes)


def _given(X: Operands) -> list[Enclosure]:
    """The operands, none of which a linear operator leaves out."""
    return [x for x in X if x is not None]


def _filled(d: Tangents, shapes: Sequence[Shape]) -> list[Array]:
    """Tangents with zeros for None, of extent 1 on the case axis."""
    return [np.zeros((1, *shape[1:])) if t is None else t for t, shape in zip(d, shapes, strict=True)]


def _added_exactly(x: Sequence[Array], size: Array) -> bool:
    """Integers, every partial sum of which is at most 2^53 in size: float64 adds them without rounding."""
    return float(size.max(initial=0.0)) < 2.0**53 and all(bool((v == np.rint(v)).all()) for v in x)
