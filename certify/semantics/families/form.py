"""Bilinear forms: what families/bilinear builds its rules on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from certify.number.upward import Array
from certify.semantics.families.broadcast import Shape


@dataclass(frozen=True, slots=True)
class Extent:
    """Shapes and counts of one contraction: `shape` of the result with its case axis, `terms` products in each element.

    left, right: how many products one element of A (of B) enters.
    """

    shape: Shape
    terms: int
    left: int
    right: int


class Form(Protocol):
    """A bilinear map of arrays with a case axis, each output element a sum of products a_i b_i.

    apply, left and right work on float64 and on object arrays; left and right are its transposes with respect to
    A and B. Attributes that a form does not know are ignored.
    """

    def apply(self, A: Any, B: Any, **attributes: Any) -> Any: ...

    def left(self, a: Array, B: Array, shape: Shape, **attributes: Any) -> Array:
        """<apply(D, B), a> = <D, left(a, B)>, shaped (rows, *shape[1:]), `shape` being A's."""
        ...

    def right(self, a: Array, A: Array, shape: Shape, **attributes: Any) -> Array:
        """<apply(A, D), a> = <D, right(a, A)>, shaped (rows, *shape[1:]), `shape` being B's."""
        ...

    def largest(self, A: Array, B: Array, **attributes: Any) -> Array:
        """For non-negative A and B: at least max a_i b_i for each output element, one rounded product of two of their elements."""
        ...

    def extent(self, A: Shape, B: Shape, **attributes: Any) -> Extent: ...

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        """The shape (case axis first) in which the addend C broadcasts against an output of `rank` axes."""
        ...
