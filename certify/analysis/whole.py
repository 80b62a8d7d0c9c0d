"""Steps whose result is held in an integer type.

The analysis computes with real numbers. What integer kernels make of sums, differences and products is the same number as long
as it fits the type: their arithmetic is exact modulo 2^bits, so that it does not even matter whether inner results fit. What
does not fit has no bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from certify.analysis.exact import ExactArithmetic
from certify.number.enclosure import Enclosure
from certify.number.integers import Integer
from certify.number.upward import Array
from certify.semantics.contract import Arithmetic, Operands, Radii, Rule, UnsupportedOperator
from certify.semantics.families.discrete import Discrete
from certify.semantics.families.movement import Movement
from certify.semantics.families.selection import Selection

_SUMS_OF_PRODUCTS = frozenset({"MatMul", "Einsum", "Conv", "Gemm"})


def exact_in(held: Integer) -> Arithmetic:
    """Arithmetic without rounding, under the type's name."""
    storage = replace(ExactArithmetic().storage, name=held.name)
    return ExactArithmetic(storage, storage)


def require_whole(rule: Any, operands: int, attributes: dict[str, Any]) -> None:
    """Raises UnsupportedOperator unless whole operands surely give whole results: the others are truncated, nobody says how.

    Discrete results are whole, moved and selected ones are copies. Of the rest, 1 divides every result where it divides every
    operand, as the rule's own `quantum` says; sums of products are whole where their factors are.
    """
    factors = [float(attributes[name]) for name in ("alpha", "beta") if name in attributes]
    if isinstance(rule, Discrete | Movement | Selection) or (rule.name in _SUMS_OF_PRODUCTS and all(f == np.rint(f) for f in factors)):
        return
    if not np.all(np.asarray(rule.quantum([1.0] * operands, **attributes)) >= 1.0):
        raise UnsupportedOperator("its result on whole numbers is truncated, and no rule covers that")


def whole(rule: Rule, held: Integer, operands: Sequence[Integer | None]) -> Rule:
    """`rule` with a result in `held`, on operands in the given types (None: no integers)."""
    return cast(Rule, Whole(rule, held, tuple(operands)))


@dataclass(frozen=True)
class Whole:
    """A rule but for `rounding`, which is infinite where f(x^) may lie outside of the type.

    Computed operands lie in their own types: so f(x^) is looked for over the part of X +- r that does.
    """

    rule: Any
    held: Integer
    operands: tuple[Integer | None, ...]

    def __getattr__(self, name: str) -> Any:
        if name == "rule":  # not there yet while a copy is being made
            raise AttributeError(name)
        return getattr(self.rule, name)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """The rule's own, and infinite where the result may leave the type; `magnitude` alone decides where it can."""
        born = np.asarray(self.rule.rounding(X, r, arithmetic, magnitude, quantum, **attributes))
        if self.held.signed and float(np.max(magnitude, initial=0.0)) <= self.held.greatest:
            return born
        wide = zip(X, r, self.operands, strict=True)
        Y = self.rule.enclose(tuple(None if x is None else _computed(x.widen(d), held) for x, d, held in wide), **attributes)
        return np.where((Y.lo < self.held.least) | (Y.hi > self.held.greatest), np.inf, born)


def _computed(x: Enclosure, held: Integer | None) -> Enclosure:
    """The numbers of the type in x; the nearest one where there is none (its tube is infinite then)."""
    return x if held is None else Enclosure(np.clip(x.lo, held.least, held.greatest), np.clip(x.hi, held.least, held.greatest))
