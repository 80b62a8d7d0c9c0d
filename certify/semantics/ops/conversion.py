"""Copies that are delivered in another format. Over the reals each is the identity.

Store:   in the step's own storage format: a Cast between floats, the end of a fused kernel.
Convert: an operand that a kernel rounds on entry (tf32). A node of its own, so that the rounding is weighed by the adjoint of the
         operand instead of by the sum of magnitudes inside the dot product (up to 8 times tighter).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents, register
from certify.semantics.families.index_map import copied


@dataclass(frozen=True, slots=True)
class Delivery:
    """value(x) = x. born: (arithmetic, magnitude, quantum) -> rounding of the delivered copy."""

    infinities: ClassVar[str] = "always"
    name: str
    born: Callable[[Arithmetic, Array, Sequence[Array | float]], Array]
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("input",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = False
    pointwise: bool = True

    def value(self, x: Any) -> Any:
        return x

    def enclose(self, X: Operands) -> Enclosure:
        return _only(X)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return True

    def linearize(self, X: Operands, r: Radii) -> Linearization:
        zero = np.zeros((1, *_only(X).shape[1:]))

        def push(d: Tangents) -> Array:
            return zero if d[0] is None else d[0]

        return Linearization(push, lambda a: (None if r[0] is None else a,), push, zero, zero, 0)

    def modulus(self, X: Operands, r: Radii) -> Array:
        return np.zeros((1, *_only(X).shape[1:])) if r[0] is None else r[0]

    def rounding(self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
        """As `born` says."""
        return self.born(arithmetic, magnitude, quantum)

    def quantum(self, quantum: Sequence[Array | float]) -> Array | float:
        return quantum[0]


def _only(X: Operands) -> Enclosure:
    operand = X[0]
    if operand is None:
        raise ValueError("a delivery needs its operand")
    return operand


def _converted(arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    return arithmetic.convert(magnitude)


register(
    # One rounding, unless the storage format holds the operand's (a Cast to a wider format, or to the same).
    Delivery("Store", copied),
    Delivery("Convert", _converted),
)
