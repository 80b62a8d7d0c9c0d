"""What a VNN-LIB file states, in float64: boxes of inputs and rows of outputs.

The file's numbers are exact rationals, and none is rounded in silence:

- An end of a box is kept twice, rounded outward (lo, hi) and inward (least, greatest). A float64 x satisfies x >= d exactly if x >=
  the least float64 that is >= d, so [least, greatest] holds exactly the float64 numbers, thus exactly the numbers of every narrower
  format, that the file allows. Rounding is monotone: the tightest of several bounds is the largest (smallest) rounded one.
- A row sum c_j Y_j <= b keeps its coefficients where all are float64 numbers. Otherwise it is multiplied by the least common
  multiple of the odd parts of their denominators: a positive number, so the set is the same. Coefficients that still are none are refused.
- b lies in [bound_lo, bound_hi], which are neighbours in float64 or the same.
- A strict inequality counts as closed in lo, hi and in the rows: the unsafe set only grows, so a property said to hold does hold.
  least and greatest obey the strict one, and a row remembers it for witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure, add, multiply
from certify.number.upward import Array


@dataclass(frozen=True, slots=True)
class Constraint:
    """The sum of coefficients[k] * Y[outputs[k]] over k is <= b, for a b in [bound_lo, bound_hi]; < where strict.

    scale: what the file's inequality was multiplied by; margins are in units of that.
    """

    outputs: tuple[int, ...]
    coefficients: tuple[float, ...]
    bound_lo: float
    bound_hi: float
    strict: bool = False
    scale: int = 1


Conjunction: TypeAlias = tuple[Constraint, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A box, and what is unsafe for inputs in it: any one of the conjunctions; one without constraints always is.

    lo, hi:          the box with its ends rounded outward, (inputs,).
    least, greatest: the smallest and the largest float64 in it, (inputs,); least > greatest where it holds none.
    unsafe:          empty if the file says nothing of outputs.
    """

    lo: Array
    hi: Array
    least: Array
    greatest: Array
    unsafe: tuple[Conjunction, ...]

    def margins(self, outputs: Array) -> Enclosure:
        """The largest of sum c y - b over each conjunction, for each row of `outputs`: (rows, outputs) to (rows, conjunctions).

        The interval holds the exact margin of these float64 outputs: Enclosure's sums and products are outward, and exact where
        float64 is. hi <= 0 (hi < 0 if a constraint is strict) proves that the outputs are unsafe: the run that gave them is a witness.
        lo > 0 proves that this conjunction does not hold for them. NaN proves neither. A conjunction without constraints has -inf.
        """
        y = np.asarray(outputs, dtype=np.float64)
        unknown = np.isnan(y)
        return self.enclosed(
            Enclosure(np.where(unknown, -np.inf, y), np.where(unknown, np.inf, y)) if unknown.any() else Enclosure.point(y)
        )

    def enclosed(self, known: Enclosure) -> Enclosure:
        """The same of outputs that lie in intervals, (rows, outputs)."""
        rows = known.lo.shape[0]
        lo, hi = np.full((2, rows, len(self.unsafe)), -np.inf)
        for group in self._groups:
            shape = (rows, len(group.owner))
            total = Enclosure(*(np.broadcast_to(end, shape) for end in (group.negative_bound.lo, group.negative_bound.hi)))
            for index, coefficient in zip(group.outputs.T, group.coefficients.T, strict=True):
                total = add(total, multiply(Enclosure.point(np.broadcast_to(coefficient, shape)), known[:, index]))
            np.maximum.at(lo.T, group.owner, total.lo.T)
            np.maximum.at(hi.T, group.owner, total.hi.T)
        return Enclosure(lo, hi)

    def violated(self, outputs: Array) -> npt.NDArray[np.bool_]:
        """For each row of `outputs`, whether it surely is unsafe, strict inequalities held strictly."""
        return self.surely(self.margins(outputs).hi)

    def surely(self, margins: Array) -> npt.NDArray[np.bool_]:
        """For each row of upper ends of margins, (rows, conjunctions), whether some conjunction surely holds."""
        strict = np.array([any(row.strict for row in conjunction) for conjunction in self.unsafe], dtype=bool)
        return np.asarray(((margins < 0.0) | ((margins == 0.0) & ~strict)).any(axis=1))

    @cached_property
    def _groups(self) -> list[_Group]:
        """The constraints by their number of terms: arrays without padding."""
        by_length: dict[int, list[tuple[int, Constraint]]] = {}
        for owner, conjunction in enumerate(self.unsafe):
            for constraint in conjunction:
                by_length.setdefault(len(constraint.outputs), []).append((owner, constraint))
        return [_Group.of(members) for members in by_length.values()]


@dataclass(frozen=True, slots=True)
class _Group:
    """Constraints of equally many terms: the conjunction of each, (rows,), and its outputs and coefficients, (rows, terms)."""

    owner: npt.NDArray[np.intp]
    outputs: npt.NDArray[np.intp]
    coefficients: Array
    negative_bound: Enclosure

    @staticmethod
    def of(members: Sequence[tuple[int, Constraint]]) -> _Group:
        rows = [constraint for _, constraint in members]
        return _Group(
            np.array([owner for owner, _ in members], dtype=np.intp),
            np.array([row.outputs for row in rows], dtype=np.intp),
            np.array([row.coefficients for row in rows], dtype=np.float64),
            Enclosure(np.array([-row.bound_hi for row in rows]), np.array([-row.bound_lo for row in rows])),
        )


@dataclass(frozen=True, slots=True)
class Property:
    """What a file says of a model with so many elements of inputs and of outputs: its unsafe set, as the union of the cases."""

    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    source: str
