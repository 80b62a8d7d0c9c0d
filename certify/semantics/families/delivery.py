"""Deliveries: over the reals each is the identity; what the kernel makes of its operand is its rounding.

All of L is the identity, so no remainder and no magnitude needs a proof: a row is its rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents
from certify.semantics.families.index_map import copied

Born = Callable[..., Array]


def stored(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    """One rounding, unless the storage format holds the operand's (a Cast to a wider format, or to the same).

    None of a number that really is infinite, which stays so in a format that keeps infinities.
    """
    born = copied(arithmetic, magnitude, quantum)
    infinite = np.isinf(reach.lo) & (reach.lo == reach.hi)
    return np.where(infinite, 0.0, born) if infinite.any() and arithmetic.storage.keeps_infinities else born


def converted(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    """The rounding of an operand on entry."""
    return arithmetic.convert(magnitude)


@dataclass(frozen=True, slots=True)
class Delivery:
    """value(x) = x. born: (arithmetic, reach, magnitude, quantum, **attributes) -> rounding, `reach` enclosing every computed operand."""

    infinities: ClassVar[str] = "always"
    name: str
    born: Born
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("input",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = False
    pointwise: bool = True

    def value(self, x: Any, **attributes: Any) -> Any:
        return x

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        return _only(X)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return True

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        zero = np.zeros((1, *_only(X).shape[1:]))

        def push(d: Tangents) -> Array:
            return zero if d[0] is None else d[0]

        return Linearization(push, lambda a: (None if r[0] is None else a,), push, zero, zero, 0).alike()

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        return np.zeros((1, *_only(X).shape[1:])) if r[0] is None else r[0]

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """As `born` says."""
        return self.born(arithmetic, _only(X).widen(r[0]), magnitude, quantum, **attributes)

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """Rounding keeps signs, whatever the format."""
        return 0.0 if least[0] >= 0.0 else -np.inf

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        return quantum[0]


@dataclass(frozen=True, slots=True)
class Whole(Delivery):
    """A delivery of whole numbers in [least, greatest], which is what integer tensors hold."""

    infinities: ClassVar[str] = "none"

    def deliver(self, x: Array, *, least: float, greatest: float, **_: Any) -> Array:
        return np.clip(np.rint(x), least, greatest)

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """What is delivered is a whole number."""
        return 1.0


@dataclass(frozen=True, slots=True)
class Clipped(Delivery):
    """A delivery into a format whose numbers end at `least` and `greatest`, multiples of 1/2; what lies beyond becomes the end."""

    infinities: ClassVar[str] = "none"

    def deliver(self, x: Array, *, least: float, greatest: float) -> Array:
        return np.clip(x, least, greatest)

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """Both what is not clipped and the ends are multiples of it."""
        return np.minimum(quantum[0], 0.5)


@dataclass(frozen=True, slots=True)
class Loose(Delivery):
    """A delivery of which only the distance is known: the kernel may deliver something else than a rounded copy."""

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """Nothing is known."""
        return 0.0


def _only(X: Operands) -> Enclosure:
    operand = X[0]
    if operand is None:
        raise ValueError("a delivery needs its operand")
    return operand
