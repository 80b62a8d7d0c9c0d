"""A kernel's roundings one by one: what probabilistic bounds ask of an arithmetic that rounds to nearest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from certify.number.rounding import half_ulp
from certify.number.upward import Array, add_up, inflate
from certify.profiles.summation import Terms
from certify.profiles.variance import summation_deviation, usual_deviation

if TYPE_CHECKING:
    from certify.profiles.arithmetic import NearestArithmetic
    from certify.semantics.contract import Arithmetic


@dataclass
class Independent:
    """The arithmetic, with all its verbs, that takes note of how far a sum's individual roundings carry it.

    unstored:  the same kernel, which leaves its result in its own format.
    deviation: of the last sum or dot product asked for, sqrt(sum c^2) over its roundings and the store (profiles/variance); None before.
    """

    arithmetic: Arithmetic
    unstored: Arithmetic
    deviation: Array | None = field(default=None, init=False)
    leaves: Terms | None = field(default=None, init=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.arithmetic, name)

    def sum(self, *given: Any, **named: Any) -> Array:
        """As the arithmetic's own, with the note."""
        return self._noted("sum", given, named)

    def dot(self, *given: Any, **named: Any) -> Array:
        """As the arithmetic's own, with the note."""
        return self._noted("dot", given, named)

    def inner(self) -> Any:
        """The roundings of the kernel that leaves its result in its own format."""
        unstored: Any = self.unstored
        return unstored.independent()

    def store(self, magnitude: Array) -> Array:
        """The error of storing a number of the kernel's own format that is at most `magnitude`."""
        storage = self.arithmetic.storage
        return np.zeros_like(magnitude) if storage.contains(self.unstored.storage) else half_ulp(magnitude, storage)

    @property
    def usual(self) -> Array:
        """The deviation that the last sum's roundings, without the store, usually have together."""
        return np.zeros(()) if self.leaves is None else usual_deviation(self.leaves, self.arithmetic.accumulator)

    def _noted(self, verb: str, given: Any, named: Any) -> Array:
        summed: Any = getattr(self.arithmetic, f"{verb}_leaves", None)
        if summed is None:
            self.deviation = None
            return np.asarray(getattr(self.arithmetic, verb)(*given, **named))
        bound, self.deviation, self.leaves = summed(*given, **named)
        return np.asarray(bound)


def unstored(arithmetic: NearestArithmetic) -> NearestArithmetic:
    """The kernel's result in its own format: the wider of the formats that it computes and adds in."""
    own = arithmetic.accumulator if arithmetic.accumulator.contains(arithmetic.compute) else arithmetic.compute
    return replace(arithmetic, storage=own) if own.contains(arithmetic.storage) else arithmetic


def deviation_of(arithmetic: NearestArithmetic, leaves: Terms, total: Array, off: Array) -> Array:
    """`Independent.deviation` of a sum in the accumulator that is off by `off` at most and then stored."""
    within = summation_deviation(leaves, arithmetic.accumulator, arithmetic.order)
    stored = np.zeros(()) if arithmetic.storage.contains(arithmetic.accumulator) else half_ulp(add_up(total, off), arithmetic.storage)
    with np.errstate(over="ignore"):
        return np.asarray(inflate(np.sqrt(inflate(within**2 + stored**2, 8)), 4))
