"""Expressions as data: a Python function of scalars, run on symbols, leaves its operations behind, each different one once.

The same function runs on floats. Equal subexpressions are one node, as FPTaylor and Gappa read them too: the same operation on the same
operands rounds the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LEAVES = ("input", "constant")


@dataclass(eq=False)
class Tape:
    """Operations in the order in which they were first met: (operator, operands); a leaf's operand is its name or its number."""

    nodes: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    _known: dict[tuple[str, tuple[Any, ...]], int] = field(default_factory=dict)

    def add(self, operator: str, *operands: Any) -> Symbol:
        key = (operator, operands)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(key)
        return Symbol(self, self._known[key])


@dataclass(frozen=True, eq=False)
class Symbol:
    """A value on a tape."""

    tape: Tape
    index: int

    def _with(self, operator: str, left: Any, right: Any) -> Symbol:
        sides = (x.index if isinstance(x, Symbol) else self.tape.add("constant", float(x)).index for x in (left, right))
        return self.tape.add(operator, *sides)

    def __add__(self, other: Any) -> Symbol:
        return self._with("Add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self._with("Add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self._with("Sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self._with("Sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self._with("Mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self._with("Mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self._with("Div", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self._with("Div", other, self)

    def __neg__(self) -> Symbol:
        return self.tape.add("Neg", self.index)


def _function(operator: str, name: str) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        if isinstance(x, Symbol):
            return x.tape.add(operator, x.index)
        return getattr(np, name)(x) if isinstance(x, np.generic) else getattr(math, name)(x)

    return apply


exp, log, sqrt, sin, cos = (_function(name.capitalize(), name) for name in ("exp", "log", "sqrt", "sin", "cos"))


def atan(x: Any) -> Any:
    if isinstance(x, Symbol):
        return x.tape.add("Atan", x.index)
    return np.arctan(x) if isinstance(x, np.generic) else math.atan(x)


def relu(x: Any) -> Any:
    return x.tape.add("Relu", x.index) if isinstance(x, Symbol) else max(x, type(x)(0))


def record(function: Callable[..., Any], names: Sequence[str]) -> tuple[Tape, int]:
    """The tape of function(*inputs), and the index of its result."""
    tape = Tape()
    result = function(*(tape.add("input", name) for name in names))
    return tape, result.index
