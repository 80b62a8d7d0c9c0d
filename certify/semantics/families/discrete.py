"""Discrete operators: comparisons, logic, rounding to whole numbers, positions of maxima.

The output is one number wherever no decision can change, and the hull of the outcomes elsewhere: `outcomes(X)` gives it.
L = 0; f(x + d) - f(x) lies between outcomes(X +- r) and outcomes(X). A *staircase* (Floor) follows the diagonal,
|f(x) - x| oscillating by `swing`; where the outcomes spread wider than that, L = I leaves a remainder in [-swing, swing].

Comparisons and positions come out as exact integers, and a whole number of magnitude up to a stored one is stored (what
Floor, Ceil and Round make of a float is a float of the same format): no local rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, down, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents


@dataclass(frozen=True, slots=True)
class Discrete:
    """A row.

    outcomes: outcomes(*X, **attributes) -> Enclosure of all values over the box; exactly one value at a point.
    swing:    for unary staircases: sup (f(x) - x) - inf (f(x) - x); None for all others.
    strays:   strays(*X, **attributes) -> how far a kernel's result may be from f's, on computed operands in X; None: not at all.
    divisor:  divisor(quantum) -> what divides every outcome, where outcomes need not be whole; None says that they are.
    settles:  True for comparisons and the like, which every kernel answers alike on NaN.
    """

    infinities: ClassVar[str] = "always"
    name: str
    since: int
    parameters: tuple[str, ...]
    value: Callable[..., Any]
    outcomes: Callable[..., Enclosure]
    swing: float | None = None
    strays: Callable[..., Array] | None = None
    divisor: Callable[[Sequence[Array | float]], Array | float] | None = None
    settles: bool = False
    static: frozenset[str] = frozenset()
    domain: str = ""
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = True

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        return self.outcomes(*X, **attributes)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return all(radius is None or not radius.any() for radius in r)

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """L = 0 and the hull; where a staircase's hull spreads wider than its swing, L = I and the swing."""
        low, high = self._change(X, r, attributes)
        slope = np.zeros((1,) * low.ndim)
        if self.swing is not None:
            slope = np.where(np.maximum(high, -low) > self.swing, 1.0, 0.0)
            low, high = np.where(slope > 0.0, -self.swing, low), np.where(slope > 0.0, self.swing, high)
        with np.errstate(invalid="ignore"):
            middle = 0.5 * low + 0.5 * high
        shift = np.where(np.isfinite(middle), middle, 0.0)
        reach = np.maximum(up(high - shift), up(shift - low))
        radius = np.where((low == shift) & (high == shift), 0.0, np.where(shift == 0.0, np.maximum(high, -low), reach))
        shapes = [None if x is None else x.shape[1:] for x in X]
        zero = np.zeros((1, *low.shape[1:]))
        steep = self.swing is not None and bool(slope.any())

        def push(t: Tangents) -> Array:
            d = t[0]
            return zero if d is None or not steep else np.where(slope > 0.0, d, 0.0)

        def pull(a: Array) -> Sequence[Array | None]:
            if steep:
                return (np.where(slope > 0.0, a, 0.0),)
            pairs = zip(shapes, r, strict=True)
            return [None if shape is None or radius is None else np.zeros((a.shape[0], *shape)) for shape, radius in pairs]

        return Linearization(push, pull, push, shift, radius)

    def _change(self, X: Operands, r: Radii, attributes: dict[str, Any]) -> tuple[Array, Array]:
        """Bounds of f(x + d) - f(x), 0 inside; exactly 0 where before and after are one and the same number."""
        before = self.outcomes(*X, **attributes)
        if all(radius is None or not radius.any() for radius in r):
            zero = np.zeros((1, *before.shape[1:]))
            return zero, zero
        after = self.outcomes(*(None if x is None else x.widen(radius) for x, radius in zip(X, r, strict=True)), **attributes)
        low, high = _difference(after.lo, before.hi, down), _difference(after.hi, before.lo, up)
        return np.minimum(low, 0.0), np.maximum(high, 0.0)

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """The hull's spread; for a staircase no more than r + swing."""
        low, high = self._change(X, r, attributes)
        spread = np.maximum(high, -low)
        if self.swing is None or r[0] is None:
            return spread
        return np.minimum(spread, add_up(r[0], self.swing))

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """As `strays` says; 0 if it says nothing."""
        none = np.zeros_like(np.asarray(magnitude, dtype=np.float64))
        if self.strays is None:
            return none
        reach = (None if x is None else x.widen(radius) for x, radius in zip(X, r, strict=True))
        return np.asarray(self.strays(*reach, **attributes)) + none

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """Every outcome is a whole number, unless `divisor` knows better."""
        if self.divisor is not None:
            return self.divisor(quantum)
        return 1.0 if any(np.any(np.asarray(q) > 0.0) for q in quantum) else 0.0


def _difference(a: Array, b: Array, outward: Callable[[Array], Array]) -> Array:
    """a - b, outward; exact where both are whole numbers up to 2^52, as nearly all outcomes are; inf - inf is inf outward."""
    with np.errstate(invalid="ignore"):
        plain = a - b
    exact = (np.abs(a) <= 2.0**52) & (np.abs(b) <= 2.0**52) & (a == np.rint(a)) & (b == np.rint(b))
    stepped = np.where(exact, plain, outward(plain))
    return np.where(np.isnan(stepped), outward(np.asarray(np.finfo(np.float64).max)) * (1.0 if outward is up else -1.0), stepped)


def monotone(value: Callable[..., Any], directions: tuple[int, ...]) -> Callable[..., Enclosure]:
    """The outcomes of a function that rises (1) or falls (-1) with each operand: its values at two corners."""

    def outcomes(*X: Enclosure | None, **attributes: Any) -> Enclosure:
        pairs = list(zip(X, directions, strict=False))
        lo = value(*(None if x is None else x.lo if up_ > 0 else x.hi for x, up_ in pairs), **attributes)
        hi = value(*(None if x is None else x.hi if up_ > 0 else x.lo for x, up_ in pairs), **attributes)
        return Enclosure(lo, hi)

    return outcomes
