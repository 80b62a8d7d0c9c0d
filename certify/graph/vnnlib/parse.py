"""The part of SMT-LIB that VNN-LIB 1.0 uses, read without recursion.

Commands: declare-const and assert (declare-fun without arguments too); set-logic, set-info, set-option, check-sat, get-model and exit
change nothing. Formulas: and, or, <=, >=, <, >, = (the comparisons chain, as in SMT-LIB) over linear terms of + - * and numbers.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

from certify.graph.vnnlib.formula import Affine, Ends, Formula, Part, concatenate, constraint, contradiction, enclose, ends, merge, product
from certify.graph.vnnlib.source import Source

LARGEST_FORM = 2**22
"""Steps of arithmetic on sums and of products of disjunctions."""
LARGEST_NUMBER = 1000
"""Characters."""
LARGEST_RATIO = 2**15
"""Bits of the numerators and denominators that products of numbers may reach."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_VARIABLE = re.compile(r"[XY]_(?:0|[1-9]\d{0,7})", re.ASCII)
_IDLE = frozenset({"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"})
_COMPARISONS = frozenset({"<=", ">=", "<", ">", "="})
_BEYOND = {
    "vnnlib-version": "VNN-LIB 2 is not read, only VNN-LIB 1.0",
    "declare-network": "VNN-LIB 2 is not read, only VNN-LIB 1.0",
    "/": "division is not read; multiply by the constant's inverse",
    "not": "negation is not read; turn the inequality around",
}

Value: TypeAlias = "str | Affine | Formula"


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """What a file says: the numbers of its variables, and the branches of the conjunction of its assertions."""

    source: Source
    inputs: int
    outputs: int
    branches: Formula
    mentions_outputs: bool


def parse(source: Source) -> Script:
    """Raises InvalidData or Unsupported, naming file and line."""
    return _Parser(source).script()


class _Parser:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = source.tokens()
        self.declared: set[str] = set()
        self.literals: dict[str, tuple[float, float]] = {}
        self.mentions_outputs = False
        self.steps = 0

    def script(self) -> Script:
        everything = _And(self, "and", 0)
        asserted = False
        for token, position in self.tokens:
            if token != "(":
                raise self.source.invalid(f"found {_short(token)} where a command such as (assert ...) should begin", position)
            head, at = self._next(position)
            if head in "()":
                raise self.source.invalid("found a parenthesis where a command such as assert should stand", at)
            if head == "assert":
                everything.add(self._formula(position), position)
                asserted = True
            else:
                self._command(head, position)
        if not asserted:
            raise self.source.invalid("asserts nothing")
        inputs, outputs = (self._count(kind) for kind in "XY")
        return Script(self.source, inputs, outputs, everything.close(), self.mentions_outputs)

    def _next(self, position: int) -> tuple[str, int]:
        token = next(self.tokens, None)
        if token is None:
            raise self.source.invalid("a parenthesis that opens here is never closed", position)
        return token

    def _command(self, head: str, position: int) -> None:
        words, depth = [], 1
        while depth:
            word, _ = self._next(position)
            depth += (word == "(") - (word == ")")
            words.append(word)
            if len(words) > 1000:
                raise self.source.invalid(f"the command {_short(head)} that begins here is too long", position)
        if head in ("declare-const", "declare-fun"):
            self._declare(head, words[:-1], position)
        elif head not in _IDLE:
            raise self.source.unsupported(_BEYOND.get(head, f"the command {_short(head)} is not read"), position)

    def _declare(self, head: str, words: list[str], position: int) -> None:
        if head == "declare-fun" and words[1:3] == ["(", ")"]:
            del words[1:3]
        if len(words) != 2 or not _VARIABLE.fullmatch(words[0]):
            raise self.source.invalid(
                "expected a declaration such as (declare-const X_0 Real), of X_0, X_1, ... or Y_0, Y_1, ...", position
            )
        if words[1] != "Real":
            raise self.source.unsupported(f"{words[0]} has sort {_short(words[1])}; only Real is read", position)
        if words[0] in self.declared:
            raise self.source.invalid(f"{words[0]} is declared twice", position)
        self.declared.add(words[0])

    def _count(self, kind: str) -> int:
        """Declared variables of a kind, which must be numbered from 0 without a gap."""
        count = sum(name[0] == kind for name in self.declared)
        missing = next((i for i in range(count) if f"{kind}_{i}" not in self.declared), None)
        if missing is not None:
            raise self.source.invalid(f"{kind}_{missing} is not declared, but later ones are")
        return count

    def _formula(self, position: int) -> Formula:
        """What stands in an assertion whose head was read, to its last parenthesis."""
        stack: list[_Frame] = [_Assert(self, "assert", position)]
        while True:
            token, at = self._next(position)
            if token == "(":
                head, _ = self._next(position)
                frame = _FRAMES.get(head)
                if frame is None:
                    raise self._unknown(head, at)
                stack.append(frame(self, head, at))
            elif token != ")":
                stack[-1].add(self._known(token, at), at)
            else:
                value = stack.pop().close()
                if not stack:
                    assert isinstance(value, deque)
                    return value
                stack[-1].add(value, at)

    def _unknown(self, head: str, position: int) -> Exception:
        if head in "()" or _NUMBER.fullmatch(head) or _VARIABLE.fullmatch(head):
            return self.source.invalid(f"found {_short(head)} where an operator such as and, or, <=, >=, +, - or * should stand", position)
        return self.source.unsupported(_BEYOND.get(head, f"the operator {_short(head)} is not read"), position)

    def _known(self, token: str, position: int) -> str:
        """A number, or a variable that was declared."""
        if token in self.declared:
            self.mentions_outputs |= token[0] == "Y"
        elif _VARIABLE.fullmatch(token):
            raise self.source.invalid(f"{token} is not declared", position)
        elif not _NUMBER.fullmatch(token):
            raise self.source.invalid(f"{_short(token)} is neither a number nor a variable", position)
        elif len(token) > LARGEST_NUMBER:
            raise self.source.invalid(f"a number of {len(token):,} characters is too long", position)
        return token

    def literal(self, number: str) -> tuple[float, float]:
        """The float64 numbers next to a decimal one."""
        known = self.literals.get(number)
        if known is None:
            known = self.literals[number] = enclose(Decimal(number), float(number))
        return known

    def charge(self, steps: int, position: int) -> None:
        """Count steps. Raises Unsupported where there are too many."""
        self.steps += steps
        if self.steps > LARGEST_FORM:
            raise self.source.unsupported(
                "too many disjuncts, or too long sums, once written as a disjunction of boxes; split the file", position
            )


@dataclass(slots=True, eq=False)
class _Frame(ABC):
    """An expression that is being read."""

    parser: _Parser
    head: str
    position: int

    @abstractmethod
    def add(self, value: Value, position: int) -> None:
        """One more operand, which stands there. Raises InvalidData where it does not fit."""

    @abstractmethod
    def close(self) -> Value:
        """What the expression is. Raises InvalidData for too few or too many operands."""

    def formula(self, value: Value, position: int) -> Formula:
        if not isinstance(value, deque):
            raise self.parser.source.invalid(f"{self.head} holds a term where a condition such as (<= X_0 1.0) should stand", position)
        return value

    def wrong_count(self) -> Exception:
        return self.parser.source.invalid(f"{self.head} has too few or too many operands", self.position)


class _Assert(_Frame):
    def __init__(self, parser: _Parser, head: str, position: int) -> None:
        super().__init__(parser, head, position)
        self.held: Formula | None = None

    def add(self, value: Value, position: int) -> None:
        if self.held is not None:
            raise self.wrong_count()
        self.held = self.formula(value, position)

    def close(self) -> Formula:
        if self.held is None:
            raise self.wrong_count()
        return self.held


class _And(_Frame):
    def __init__(self, parser: _Parser, head: str, position: int) -> None:
        super().__init__(parser, head, position)
        self.own = Part()
        self.disjunctions: list[Formula] = []
        self.count = 0

    def add(self, value: Value, position: int) -> None:
        formula = self.formula(value, position)
        self.count += 1
        if len(formula) == 1:
            for part in formula[0]:
                smaller = min(self.own, part, key=len)
                self.own = merge(self.own, part)
                if (index := contradiction(self.own, smaller)) is not None:
                    raise self.parser.source.invalid(f"no input satisfies this: the bounds of X_{index} contradict each other", position)
        else:
            self.disjunctions.append(formula)

    def close(self) -> Formula:
        if not self.count:
            raise self.wrong_count()
        return product(self.own, self.disjunctions, lambda steps: self.parser.charge(steps, self.position))


class _Or(_Frame):
    def __init__(self, parser: _Parser, head: str, position: int) -> None:
        super().__init__(parser, head, position)
        self.branches: Formula = deque()
        self.count = 0

    def add(self, value: Value, position: int) -> None:
        self.branches = concatenate(self.branches, self.formula(value, position))
        self.count += 1

    def close(self) -> Formula:
        if not self.count:
            raise self.wrong_count()
        return self.branches


class _Terms(_Frame):
    """Operands that are numbers, variables and sums."""

    def __init__(self, parser: _Parser, head: str, position: int) -> None:
        super().__init__(parser, head, position)
        self.operands: list[str | Affine] = []

    def add(self, value: Value, position: int) -> None:
        if isinstance(value, deque):
            raise self.parser.source.invalid(f"{self.head} holds a condition where a number or a variable should stand", position)
        self.operands.append(value)


class _Arithmetic(_Terms):
    def close(self) -> Affine:
        if not self.operands:
            raise self.wrong_count()
        first, *rest = (_affine(operand) for operand in self.operands)
        self.parser.charge(sum(len(x.terms) for x in (first, *rest)), self.position)
        if self.head == "*":
            return self._product(first, rest)
        if self.head == "-" and not rest:
            return first.times(Fraction(-1))
        for x in rest:
            if self.head == "+" and len(x.terms) > len(first.terms):
                first, x = x, first
            first.add(x, 1 if self.head == "+" else -1)
        return first

    def _product(self, result: Affine, rest: list[Affine]) -> Affine:
        for x in rest:
            if result.terms and x.terms:
                raise self.parser.source.unsupported("a product of variables is not linear", self.position)
            result = result.times(x.constant) if result.terms else x.times(result.constant)
            if any(
                c.numerator.bit_length() + c.denominator.bit_length() > LARGEST_RATIO for c in (result.constant, *result.terms.values())
            ):
                raise self.parser.source.unsupported("this product of numbers is too large or too small", self.position)
        return result


class _Comparison(_Terms):
    def close(self) -> Formula:
        if len(self.operands) < 2:
            raise self.wrong_count()
        if len(self.operands) == 2 and self.head != "=":
            return self._at_most(*(self.operands if self.head[0] == "<" else reversed(self.operands)))
        conjunction = _And(self.parser, self.head, self.position)
        for left, right in zip(self.operands, self.operands[1:], strict=False):
            if self.head in ("<=", "<", "="):
                conjunction.add(self._at_most(left, right), self.position)
            if self.head in (">=", ">", "="):
                conjunction.add(self._at_most(right, left), self.position)
        return conjunction.close()

    def _at_most(self, small: str | Affine, large: str | Affine) -> Formula:
        """small <= large, or < if that is what the head says."""
        strict = self.head in "<>"
        if isinstance(small, str) and isinstance(large, str):
            if small[0] == "X" and large[0] not in "XY":
                return _bounded(small, ends(self.parser.literal(large), True, strict), True)
            if large[0] == "X" and small[0] not in "XY":
                return _bounded(large, ends(self.parser.literal(small), False, strict), False)
        difference = _copy(_affine(small))
        self.parser.charge(len(difference.terms), self.position)
        difference.add(_affine(large), -1)
        terms, bound = difference.terms, -difference.constant
        kinds = {variable[0] for variable in terms}
        if not terms:
            return deque([(Part(),)]) if bound > 0 or (bound == 0 and not strict) else deque()
        if len(kinds) == 2:
            raise self.parser.source.unsupported("a comparison of inputs with outputs is not read", self.position)
        if kinds == {"X"}:
            if len(terms) > 1:
                raise self.parser.source.unsupported("a relation between inputs is not read, only bounds of each", self.position)
            ((variable, coefficient),) = terms.items()
            upper = coefficient > 0
            return _bounded(variable, ends(enclose(bound / coefficient), upper, strict), upper)
        row = constraint(terms, bound, strict)
        if row is None:
            raise self.parser.source.unsupported("coefficients with so many digits are not read; round them to fewer", self.position)
        return deque([(Part(rows=[(self.position, row)]),)])


def _bounded(variable: str, end: Ends, upper: bool) -> Formula:
    bounds = {int(variable[2:]): end}
    return deque([(Part(upper=bounds) if upper else Part(lower=bounds),)])


def _affine(value: str | Affine) -> Affine:
    if isinstance(value, Affine):
        return value
    return Affine({value: Fraction(1)}) if value[0] in "XY" else Affine(constant=Fraction(Decimal(value)))


def _copy(value: Affine) -> Affine:
    return Affine(dict(value.terms), value.constant)


def _short(token: str) -> str:
    return repr(token if len(token) <= 40 else f"{token[:40]}...")


_FRAMES: dict[str, type[_Frame]] = {"and": _And, "or": _Or, **dict.fromkeys("+-*", _Arithmetic), **dict.fromkeys(_COMPARISONS, _Comparison)}
