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
    nearest:   the arithmetic itself, if its sums round to nearest; None: nothing is known of them.
    deviation: of the last sum or dot product asked for, sqrt(sum c^2) over its roundings and the store (profiles/variance); None before.
    """

    arithmetic: Arithmetic
    unstored: Arithmetic
    nearest: NearestArithmetic | None = None
    deviation: Array | None = field(default=None, init=False)
    leaves: Terms | None = field(default=None, init=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.arithmetic, name)

    def sum(self, *given: Any, **named: Any) -> Array:
        """As the arithmetic's own, with the note."""
        bound = self.arithmetic.sum(*given, **named)
        self._note(None if self.nearest is None else self.nearest.sum_terms(*given, **named), bound)
        return bound

    def dot(self, *given: Any, **named: Any) -> Array:
        """As the arithmetic's own, with the note, but where addends are rounded on entry: many sums may share them, and such a rounding."""
        bound = self.arithmetic.dot(*given, **named)
        leaves = None if self.nearest is None else self.nearest.dot_terms(*given, **named)
        self._note(leaves, bound)
        if leaves is not None and leaves.entered:
            self.deviation = None
        return bound

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

    def _note(self, leaves: Terms | None, bound: Array) -> None:
        """Of a sum of these, off by `bound` at most when it is stored; None where they are one number."""
        self.leaves, self.deviation = leaves, None
        if self.nearest is None:
            return
        if leaves is None:
            self.deviation = np.zeros(())
            return
        within = summation_deviation(leaves, self.nearest.accumulator, self.nearest.order)
        with np.errstate(over="ignore"):
            self.deviation = np.asarray(inflate(np.sqrt(inflate(within**2 + self.store(add_up(leaves.result, bound)) ** 2, 8)), 4))


def unstored(arithmetic: NearestArithmetic) -> NearestArithmetic:
    """The kernel's result in its own format: the wider of the formats that it computes and adds in."""
    own = arithmetic.accumulator if arithmetic.accumulator.contains(arithmetic.compute) else arithmetic.compute
    return replace(arithmetic, storage=own) if own.contains(arithmetic.storage) else arithmetic
