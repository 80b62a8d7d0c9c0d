"""Formulas in disjunctive normal form, and the exact numbers in them.

A formula is a queue of branches, of which one holds; a branch is a tuple of parts, all of which hold. Products of disjunctions share
their parts. A formula of one branch has one part that nothing else holds, so conjunctions merge it in place, the smaller part into
the larger: n atoms nested in any way take n log n steps.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

from certify.graph.vnnlib.property import Constraint

Ends: TypeAlias = tuple[float, float]
"""An end of a box, rounded outward and inward."""


@dataclass(slots=True, eq=False)
class Part:
    """A conjunction: the tightest bounds by input, and rows with their positions in the file."""

    lower: dict[int, Ends] = field(default_factory=dict)
    upper: dict[int, Ends] = field(default_factory=dict)
    rows: list[tuple[int, Constraint]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lower) + len(self.upper) + len(self.rows)


_ANY_LOWER, _ANY_UPPER = (-math.inf, -math.inf), (math.inf, math.inf)

Branch: TypeAlias = tuple[Part, ...]
Formula: TypeAlias = deque[Branch]


def merge(a: Part, b: Part) -> Part:
    """Both, in the larger of the two."""
    into, part = (a, b) if len(a) >= len(b) else (b, a)
    for index, ends in part.lower.items():
        known = into.lower.get(index)
        into.lower[index] = ends if known is None else (max(ends[0], known[0]), max(ends[1], known[1]))
    for index, ends in part.upper.items():
        known = into.upper.get(index)
        into.upper[index] = ends if known is None else (min(ends[0], known[0]), min(ends[1], known[1]))
    into.rows.extend(part.rows)
    return into


def contradiction(part: Part, changed: Part) -> int | None:
    """The first input, of those that `changed` bounds, whose bounds in `part` exclude each other."""
    for index in itertools.chain(changed.lower, changed.upper):
        if part.lower.get(index, _ANY_LOWER)[0] > part.upper.get(index, _ANY_UPPER)[0]:
            return index
    return None


def concatenate(a: Formula, b: Formula) -> Formula:
    """Either, in the file's order; the longer queue grows."""
    if len(a) >= len(b):
        a.extend(b)
        return a
    b.extendleft(reversed(a))
    return b


def product(own: Part, disjunctions: Sequence[Formula], charge: Callable[[int], None]) -> Formula:
    """`own` and one branch of every disjunction, in every combination; `charge` is told of every step and may raise."""
    if not disjunctions:
        return deque([(own,)])
    found: Formula = deque()
    for combination in itertools.product(*disjunctions):
        branch = (own, *itertools.chain.from_iterable(combination)) if len(own) else tuple(itertools.chain.from_iterable(combination))
        charge(len(branch) + 1)
        found.append(branch)
    return found


@dataclass(slots=True, eq=False)
class Affine:
    """constant + sum of terms[v] * v over variables v such as "Y_3"; exact, no coefficient 0."""

    terms: dict[str, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)

    def add(self, other: Affine, factor: int = 1) -> None:
        """Add factor * other, factor 1 or -1."""
        self.constant += factor * other.constant
        for variable, coefficient in other.terms.items():
            total = self.terms.get(variable, 0) + factor * coefficient
            if total:
                self.terms[variable] = Fraction(total)
            else:
                self.terms.pop(variable, None)

    def times(self, factor: Fraction) -> Affine:
        return Affine({v: c * factor for v, c in self.terms.items()} if factor else {}, self.constant * factor)


def enclose(value: Fraction | Decimal, nearest: float | None = None) -> tuple[float, float]:
    """The largest float64 <= value and the smallest >= value, which is infinite if there is no finite one."""
    if nearest is None:
        try:
            nearest = float(value)
        except OverflowError:
            nearest = math.inf if value > 0 else -math.inf
    if math.isinf(nearest):
        return (sys.float_info.max, math.inf) if nearest > 0 else (-math.inf, -sys.float_info.max)
    if value == nearest:
        return nearest, nearest
    return (nearest, math.nextafter(nearest, math.inf)) if value > nearest else (math.nextafter(nearest, -math.inf), nearest)


def ends(value: tuple[float, float], upper: bool, strict: bool) -> Ends:
    """A bound whose value lies in `value` (see `enclose`), as the end of a box: outward, and the last float64 that obeys it."""
    down, up = value
    if upper:
        return up, math.nextafter(down, -math.inf) if strict and down == up else down
    return down, math.nextafter(up, math.inf) if strict and down == up else up


def constraint(terms: dict[str, Fraction], bound: Fraction, strict: bool) -> Constraint | None:
    """sum of terms <= bound as a row of float64 coefficients; None if there are none (see property.py)."""
    scale = 1
    if not all(_is_float(c) for c in terms.values()):
        scale = math.lcm(*(_odd(c.denominator) for c in terms.values()))
        terms = {v: c * scale for v, c in terms.items()}
        if not all(_is_float(c) for c in terms.values()):
            return None
    by_output = sorted((int(variable[2:]), float(c)) for variable, c in terms.items())
    down, up = enclose(bound * scale)
    return Constraint(tuple(j for j, _ in by_output), tuple(c for _, c in by_output), down, up, strict, scale)


def _is_float(value: Fraction) -> bool:
    down, up = enclose(value)
    return down == up


def _odd(n: int) -> int:
    return n // (n & -n)
