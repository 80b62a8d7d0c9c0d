"""Einsum of one operand (linear), of two (bilinear) or, pair by pair, of more; behind the case axis.

Source: https://onnx.ai/onnx/operators/onnx__Einsum.html. Labels are letters; the axes of an ellipsis get labels "0", "1", ...
counted from its right end, so that ellipses of different length meet aligned to the right.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, inflate
from certify.semantics.contract import Arithmetic, Errors, Linearization, Operands, Radii, UnsupportedOperator, register
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.broadcast import Shape, collect
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.form import Extent
from certify.semantics.families.linear import Linear, Sizes

Labels = tuple[str, ...]


def parse(equation: str | bytes, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """The labels of each operand (ranks without case axis) and of the result. Raises UnsupportedOperator if malformed."""
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise UnsupportedOperator(f"equation {text!r} has {len(terms)} operands, the node {len(ranks)}")
    operands = [_labels(term, rank, text) for term, rank in zip(terms, ranks, strict=True)]
    dots = sorted({label for labels in operands for label in labels if label.isdigit()}, key=int, reverse=True)
    if arrow:
        before, ellipsis, after = right.partition("...")
        return operands, (*before, *(dots if ellipsis else ()), *after)
    everything = [label for labels in operands for label in labels if not label.isdigit()]
    return operands, (*dots, *sorted(label for label in set(everything) if everything.count(label) == 1))


def _labels(term: str, rank: int, text: str) -> Labels:
    before, ellipsis, after = term.partition("...")
    spare = rank - len(before) - len(after)
    letters = before + after
    if spare < 0 or (spare > 0 and not ellipsis) or (letters and not letters.isalpha()):
        raise UnsupportedOperator(f"equation {text!r} does not fit an operand of rank {rank}")
    return (*before, *(str(spare - 1 - i) for i in range(spare)), *after)


def _numbers(labels: Labels, table: dict[str, int]) -> list[int]:
    return [0, *(table.setdefault(label, len(table) + 1) for label in labels)]


def _diagonal(x: Any, labels: Labels) -> tuple[Any, Labels]:
    """A repeated label is a diagonal: each label once, in order of first appearance."""
    unique = tuple(dict.fromkeys(labels))
    if unique == labels:
        return x, labels
    table: dict[str, int] = {}
    return np.einsum(x, _numbers(labels, table), _numbers(unique, table)), unique


def _embedded(a: Array, shape: Shape, labels: Labels) -> Array:
    """The transpose of `_diagonal`: (rows, unique extents) onto the diagonal of (rows, *shape[1:]), zero elsewhere."""
    unique = tuple(dict.fromkeys(labels))
    if unique == labels:
        return a
    out = np.zeros((a.shape[0], *shape[1:]))
    table: dict[str, int] = {}
    np.einsum(out, _numbers(labels, table), _numbers(unique, table))[...] = a
    return out


def contract(x: Any, x_labels: Labels, y: Any, y_labels: Labels, out: Labels) -> Any:
    """Sum of products over the labels that are not in `out`; x, y carry a case axis, labels are unique in each.

    One batched matrix product; axes of extent 1 meet others by broadcasting.
    """
    x, x_labels = _summed(x, x_labels, {*out, *y_labels})
    y, y_labels = _summed(y, y_labels, {*out, *x_labels})
    shared = [label for label in x_labels if label in y_labels]
    batch = [label for label in shared if label in out]
    inner = [label for label in shared if label not in out]
    left = [label for label in x_labels if label not in y_labels]
    right = [label for label in y_labels if label not in x_labels]
    length = {label: max(x.shape[1 + x_labels.index(label)], y.shape[1 + y_labels.index(label)]) for label in inner}
    x, x_shapes = _folded(x, x_labels, [batch, left, inner], length)
    y, y_shapes = _folded(y, y_labels, [batch, inner, right], length)
    x = x.reshape(*x.shape[: 1 + len(batch)], math.prod(x_shapes[1]), math.prod(x_shapes[2]))
    y = y.reshape(*y.shape[: 1 + len(batch)], math.prod(y_shapes[1]), math.prod(y_shapes[2]))
    product = np.matmul(x, y)
    product = product.reshape(*product.shape[: 1 + len(batch)], *x_shapes[1], *y_shapes[2])
    found = [*batch, *left, *right]
    return product.transpose(0, *(1 + found.index(label) for label in out))


def _summed(x: Any, labels: Labels, kept: set[str]) -> tuple[Any, Labels]:
    """Sum over the labels that nothing else has."""
    axes = tuple(1 + i for i, label in enumerate(labels) if label not in kept)
    return (x.sum(axis=axes) if axes else x), tuple(label for label in labels if label in kept)


def _folded(x: Any, labels: Labels, groups: list[list[str]], length: dict[str, int]) -> tuple[Any, list[Shape]]:
    """Axes in the order of the groups, summed ones spread to their full length, and each group's extents."""
    order = [label for group in groups for label in group]
    x = x.transpose(0, *(1 + labels.index(label) for label in order))
    target = tuple(length.get(label, extent) for label, extent in zip(order, x.shape[1:], strict=True))
    x = x if target == x.shape[1:] else np.broadcast_to(x, (x.shape[0], *target))
    extents = dict(zip(order, target, strict=True))
    return x, [tuple(extents[label] for label in group) for group in groups]


def _maximal(x: Array, labels: Labels, out: Labels) -> tuple[Array, Labels]:
    """The largest entry over the labels that are summed, and the labels left."""
    axes = tuple(1 + i for i, label in enumerate(labels) if label not in out)
    return np.asarray(x.max(axis=axes, initial=0.0) if axes else x), tuple(label for label in labels if label in out)


class EinsteinSum:
    """The form of a two-operand Einsum."""

    def apply(self, A: Any, B: Any, equation: str = "", **_: Any) -> Any:
        (a, b), out = parse(equation, (A.ndim - 1, B.ndim - 1))
        return contract(*_diagonal(A, a), *_diagonal(B, b), out)

    def left(self, a: Array, B: Array, shape: Shape, equation: str = "", **_: Any) -> Array:
        (target, b), out = parse(equation, (len(shape) - 1, B.ndim - 1))
        return _back(a, out, *_diagonal(B, b), shape, target)

    def right(self, a: Array, A: Array, shape: Shape, equation: str = "", **_: Any) -> Array:
        (b, target), out = parse(equation, (A.ndim - 1, len(shape) - 1))
        return _back(a, out, *_diagonal(A, b), shape, target)

    def largest(self, A: Array, B: Array, equation: str = "", **_: Any) -> Array:
        """Product of the largest factors over all labels that are summed."""
        (a, b), out = parse(equation, (A.ndim - 1, B.ndim - 1))
        return np.asarray(contract(*_maximal(*_diagonal(A, a), out), *_maximal(*_diagonal(B, b), out), out))

    def extent(self, A: Shape, B: Shape, equation: str = "", **_: Any) -> Extent:
        (a, b), out = parse(equation, (len(A) - 1, len(B) - 1))
        sizes: dict[str, int] = {}
        for label, n in (*zip(a, A[1:], strict=True), *zip(b, B[1:], strict=True)):
            if sizes.setdefault(label, n) != n:
                if 1 not in (n, sizes[label]):
                    raise ValueError(f"label {label!r} has extents {sizes[label]} and {n}")
                sizes[label] = max(n, sizes[label])
        every = math.prod(sizes.values())
        own = [math.prod(dict(zip(labels, shape[1:], strict=True)).values()) for labels, shape in ((a, A), (b, B))]
        shape = (max(A[0], B[0]), *(sizes[label] for label in out))
        return Extent(shape, math.prod(n for label, n in sizes.items() if label not in out), *(every // max(1, n) for n in own))

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        raise ValueError("Einsum has no addend")


def _back(a: Array, out: Labels, other: Any, other_labels: Labels, shape: Shape, target: Labels) -> Array:
    """Multipliers of the result to multipliers of the operand with labels `target`: the products' other factor is `other`."""
    unique = tuple(dict.fromkeys(target))
    extents = dict(zip(target, shape[1:], strict=True))
    reached = tuple(label for label in unique if label in out or label in other_labels)
    pulled = contract(a, out, other, other_labels, reached)
    # collect sums what broadcasting an extent of 1 spread; labels that only this operand has were summed over: spread them
    pulled = collect(pulled, (1, *(extents[label] for label in reached)))
    kept = (pulled.shape[0], *(extents[label] if label in reached else 1 for label in unique))
    full = np.broadcast_to(pulled.reshape(kept), (pulled.shape[0], *(extents[label] for label in unique)))
    return _embedded(full, shape, target)


def _sum_over(x: Any, equation: str = "", **_: Any) -> Any:
    (labels,), out = parse(equation, (x.ndim - 1,))
    x, unique = _diagonal(x, labels)
    x, kept = _summed(x, unique, set(out))
    return x.transpose(0, *(1 + kept.index(label) for label in out))


def _spread(a: Array, shapes: Sequence[Shape], equation: str = "", **_: Any) -> Sequence[Array]:
    (labels,), out = parse(equation, (len(shapes[0]) - 1,))
    return [_back(a, out, np.ones((1,)), (), shapes[0], labels)]


def _unary_extent(shapes: Sequence[Shape], equation: str = "", **_: Any) -> tuple[Shape, int, int]:
    (labels,), out = parse(equation, (len(shapes[0]) - 1,))
    sizes = dict(zip(labels, shapes[0][1:], strict=True))
    shape = (shapes[0][0], *(sizes[label] for label in out))
    return shape, max(1, math.prod(n for label, n in sizes.items() if label not in out)), 1


def _unary_rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """A sum of `terms` elements in any order that the profile admits; a single one goes through the accumulator too."""
    x = sizes.operands[0]
    total = inflate(np.asarray(_sum_over(x, **attributes)), sizes.terms)
    return arithmetic.sum(sizes.terms, total, sizes.magnitude, np.minimum(total, x.max(initial=0.0)))


def _least(quantum: Sequence[Array | float], **_: Any) -> Array | float:
    return float(np.min(quantum[0], initial=2.0**300))


UNARY = Linear("Einsum", 12, ("Inputs",), _sum_over, _sum_over, _spread, _unary_extent, _unary_rounding, divisor=_least)
BINARY = Bilinear("Einsum", 12, ("Inputs",), EinsteinSum())


@dataclass(frozen=True, slots=True)
class Einsum:
    """The rule of Einsum of one operand or two: UNARY or BINARY. `contracted` makes more operands such pairs."""

    name: str = "Einsum"
    since: int = 11
    domain: str = ""
    parameters: tuple[str, ...] = ("Inputs",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def _rule(self, x: Sequence[Any]) -> Linear | Bilinear:
        if len(x) > 2:
            raise ValueError(f"{len(x)} operands are contracted pair by pair")
        return UNARY if len(x) == 1 else BINARY

    def value(self, *x: Any, **attributes: Any) -> Any:
        return self._rule(x).value(*x, **attributes)

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        return self._rule(X).enclose(X, **attributes)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return self._rule(X).is_linear(X, r)

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        return self._rule(X).linearize(X, r, **attributes)

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        return self._rule(X).modulus(X, r, **attributes)

    def errors(self, **attributes: Any) -> Errors:
        """As `Rule.errors`: one sum, or one dot product, for each element."""
        return "own"

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        return self._rule(X).rounding(X, r, arithmetic, magnitude, quantum, **attributes)

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        return self._rule(quantum).quantum(quantum, **attributes)


def contracted(e: Expansion, *, equation: str | bytes) -> tuple[list[Primitive], dict[str, Array]]:
    """More than two operands from left to right, each result stored or not: what onnxruntime does, and PyTorch left to itself.

    Another order of contraction has other inner results; a bound for all of them would have to count every product that the equation
    names, which is useless where it matters. Each step sums over the labels that no later operand and not the result has.
    """
    y = e.outputs[0] or e.name("output")
    if len(e.operands) <= 2:
        return [Primitive("Einsum", e.operands, y, {"equation": equation}, inner=False, opset=11)], {}
    operands, out = parse(equation, [len(shape) for shape in e.shapes])
    letters = _letters([*operands, out])
    steps: list[Primitive] = []
    current, labels = e.operands[0], operands[0]
    for i, (operand, other) in enumerate(zip(e.operands[1:], operands[1:], strict=True), start=1):
        last = i == len(e.operands) - 1
        needed = {*out, *(label for later in operands[i + 1 :] for label in later)}
        kept = out if last else tuple(label for label in dict.fromkeys((*labels, *other)) if label in needed)
        name = y if last else e.name(f"contracted {i}")
        text = f"{_spelled(labels, letters)},{_spelled(other, letters)}->{_spelled(kept, letters)}"
        steps.append(Primitive("Einsum", (current, operand), name, {"equation": text}, inner=False, opset=11))
        current, labels = name, kept
    return steps, {}


def _letters(terms: Sequence[Labels]) -> dict[str, str]:
    """A letter for every label: its own, and free ones for the axes of an ellipsis. Raises UnsupportedOperator if there are too few."""
    used = dict.fromkeys(label for labels in terms for label in labels)
    free = [c for c in string.ascii_letters if c not in used]
    axes = [label for label in used if label.isdigit()]
    if len(axes) > len(free):
        raise UnsupportedOperator("more axes than letters")
    return {label: label for label in used} | dict(zip(axes, free, strict=False))


def _spelled(labels: Labels, letters: dict[str, str]) -> str:
    return "".join(letters[label] for label in labels)


register(Einsum(), Composite("Einsum", 12, ("Inputs",), contracted))
