"""A rule without a word on infinities, where an operand really is infinite: it is kept from seeing one, and its result has no bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Rule, Tangents


@dataclass(frozen=True, slots=True)
class Guarded:
    """`rule` on operands with 0 in the place of infinities. What they reach is the whole line, of infinite variation and rounding:
    the element itself where the rule is pointwise, else the whole result. Elsewhere it is the rule's own."""

    rule: Rule

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def domain(self) -> str:
        return self.rule.domain

    @property
    def since(self) -> int:
        return self.rule.since

    @property
    def parameters(self) -> tuple[str, ...]:
        return self.rule.parameters

    @property
    def static(self) -> frozenset[str]:
        return self.rule.static

    @property
    def outputs(self) -> int:
        return self.rule.outputs

    @property
    def pointwise(self) -> bool:
        return self.rule.pointwise

    @property
    def nonlinear(self) -> bool:
        return True

    def value(self, *x: Any, **attributes: Any) -> Any:
        return self.rule.value(*x, **attributes)

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        Y = self.rule.enclose(_finite(X), **attributes)
        lost = self._lost(X, Y.shape)
        return Enclosure(np.where(lost, -np.inf, Y.lo), np.where(lost, np.inf, Y.hi))

    def _lost(self, X: Operands, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """The elements of a result of this shape that an infinity reaches."""
        reached = np.zeros(shape, dtype=bool)
        for x in X:
            infinite = None if x is None else np.isinf(x.lo) | np.isinf(x.hi)
            if infinite is None or not infinite.any():
                continue
            if not self.rule.pointwise:
                return np.ones(shape, dtype=bool)
            reached = reached | infinite.reshape(infinite.shape[0], *(1,) * (len(shape) - infinite.ndim), *infinite.shape[1:])
        return reached

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return False

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        linear = self.rule.linearize(_finite(X), r, **attributes)
        lost = self._lost(X, np.broadcast_shapes(linear.radius.shape, (1,) * linear.radius.ndim))

        def kept(x: Array) -> Array:
            return np.where(lost, 0.0, x)

        def push(d: Tangents) -> Array:
            return kept(linear.push(d))

        def pull(a: Array) -> Sequence[Array | None]:
            return linear.pull(kept(a))

        def magnitude(d: Tangents) -> Array:
            return kept(linear.magnitude(d))

        return Linearization(push, pull, magnitude, kept(linear.shift), np.where(lost, np.inf, linear.radius), linear.terms)

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        change = self.rule.modulus(_finite(X), r, **attributes)
        return np.where(self._lost(X, change.shape), np.inf, change)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        born = self.rule.rounding(_finite(X), r, arithmetic, magnitude, quantum, **attributes)
        return np.where(self._lost(X, np.broadcast_shapes(born.shape, np.shape(magnitude))), np.inf, born)

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        return 0.0


def _finite(X: Operands) -> Operands:
    """The operands with 0 where either end is infinite."""
    return tuple(None if x is None else _settled(x) for x in X)


def _settled(x: Enclosure) -> Enclosure:
    infinite = np.isinf(x.lo) | np.isinf(x.hi)
    return x.map(lambda v: np.where(infinite, 0.0, v)) if infinite.any() else x
