"""Constants: operators whose operands all are known beforehand, so that the result is one array of numbers, which a kernel approximates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii
from certify.semantics.families.index_map import frozen, remembered


@dataclass(frozen=True, slots=True)
class Constant:
    """A row; both functions take static parameters and attributes by keyword.

    numbers: the exact result, enclosed, without case axis.
    born:    (arithmetic, **keywords) -> upper bound of a kernel's error before it stores, broadcastable against the result.
    """

    name: str
    since: int
    parameters: tuple[str, ...]
    numbers: Callable[..., Enclosure]
    born: Callable[..., Array | float]
    domain: str = ""
    outputs: int = 1
    nonlinear: bool = False
    pointwise: bool = False

    @property
    def static(self) -> frozenset[str]:
        return frozenset(self.parameters)

    def value(self, **keywords: Any) -> Array:
        return self.enclose((), **keywords).mid

    def enclose(self, X: Operands, **keywords: Any) -> Enclosure:
        """As `numbers` says."""
        found: Enclosure = remembered((self.name, self.since, frozen(keywords)), lambda: self.numbers(**keywords).map(lambda x: x[None]))
        return found

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Always: nothing deviates."""
        return True

    def linearize(self, X: Operands, r: Radii, **keywords: Any) -> Linearization:
        zero = np.zeros(self.enclose((), **keywords).shape)
        return Linearization(lambda t: zero, lambda a: (), lambda t: zero, zero, zero, 0)

    def modulus(self, X: Operands, r: Radii, **keywords: Any) -> Array:
        return np.zeros(self.enclose((), **keywords).shape)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **keywords: Any
    ) -> Array:
        """What the kernel errs by before it stores, then the store."""
        off = np.broadcast_to(self.born(arithmetic, **keywords), magnitude.shape)
        return add_up(off, arithmetic.round(add_up(magnitude, off)))

    def quantum(self, quantum: Sequence[Array | float], **keywords: Any) -> Array | float:
        return 0.0
