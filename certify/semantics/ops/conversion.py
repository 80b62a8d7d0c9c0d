"""Convert: an operand that a kernel rounds on entry (tf32). Over the reals it is the identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents, register


@dataclass(frozen=True, slots=True)
class Convert:
    """value(x) = x; the kernel's operand is x rounded by `arithmetic.convert`.

    A node of its own, so that the rounding is weighed by the adjoint of the operand instead of by the sum of
    magnitudes inside the dot product (up to 8 times tighter).
    """

    name: str = "Convert"
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
        zero = np.zeros((1,) * len(_only(X).shape))

        def push(d: Tangents) -> Array:
            return zero if d[0] is None else d[0]

        return Linearization(push, lambda a: (a,), push, zero, zero)

    def modulus(self, X: Operands, r: Radii) -> Array:
        return np.zeros((1,) * len(_only(X).shape)) if r[0] is None else r[0]

    def rounding(self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
        return arithmetic.convert(magnitude)

    def quantum(self, quantum: Sequence[Array | float]) -> Array | float:
        return quantum[0]


def _only(X: Operands) -> Enclosure:
    operand = X[0]
    if operand is None:
        raise ValueError("Convert needs its operand")
    return operand


register(Convert())
