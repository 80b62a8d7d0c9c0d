"""What is known of steps whose operands are related: x x >= 0, x - max x <= 0, e / sum e in [0, 1], and the like.

A rule encloses its result as if its operands were independent. Where the graph shows that they are not, `related` says what holds of the
*exact* result over the reals, and `related_computed` what holds of the exact result of one operation on *computed* operands. The two are
kept apart: over the reals E[x^2] - E[x]^2 >= 0, but with rounded means it may be negative.

Facts are found from names alone: the same name is the same array, exact or computed. Infinities and NaN are none of their business: those
about exact values are asked only where none may really be one, so that an infinite end is an unknown finite number. What a fact
presupposes, such as e >= 0, is looked at in each case (box) by itself, so that no box learns anything from its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from certify.analysis.exact import ExactArithmetic
from certify.analysis.problem import Step
from certify.number.enclosure import Enclosure, add, divide, intersect, square
from certify.number.upward import Array, up

Cases: TypeAlias = npt.NDArray[np.bool_]  # (cases or 1,): in which cases something holds
Fact: TypeAlias = tuple[Cases, Enclosure]

_ALWAYS: Cases = np.ones(1, dtype=bool)
_DEPTH = 6  # how many additions and maxima are looked through


def producers_of(steps: Sequence[Step]) -> dict[str, Step]:
    """By name, the step that computes it."""
    return {step.output: step for step in steps}


def related(step: Step, producers: Mapping[str, Step], values: Mapping[str, Enclosure], Y: Enclosure) -> Enclosure:
    """Y, which encloses the exact result, within what the relations of its operands say; `values` enclose exact values."""
    facts = _EXACT.get(_operator(step))
    for cases, fact in [] if facts is None else facts(Graph(producers, values), step):
        Y = _within(Y, cases, fact)
    return Y


def related_computed(
    step: Step, producers: Mapping[str, Step], of: Callable[[str], Enclosure], copied: Callable[[str], Cases], Y: Enclosure
) -> Enclosure:
    """Y, which encloses f(x^) of one operation f on computed operands x^, likewise. of: the range of a computed value; copied: the cases in
    which its step errs by nothing.

    - x^ x^ = |x^|^2, x^ - x^ = 0, and x^ / x^ = 1 where x^ is not 0: both operands are the same numbers.
    - x^ - max x^ <= 0, and likewise with a minimum, where the step of the maximum errs by nothing: it delivers one of the numbers x^.
    """
    name = _operator(step)
    a, b = (*step.operands, None, None)[:2]
    if a is None or b is None or name not in ("Mul", "Sub", "Div"):
        return Y
    if a == b:
        return intersect(Y, _same(name, of(a)))
    for extreme, other, sign in ((b, a, -1.0), (a, b, 1.0)):
        reduction = producers.get(extreme)
        if name == "Sub" and reduction is not None and reduction.operands[:1] == (other,) and _aligned(of(extreme), of(other)):
            side = {"ReduceMax": sign, "ReduceMin": -sign}.get(_operator(reduction))
            if side is not None:
                Y = _within(Y, copied(extreme), _sided(side, len(Y.shape)))
    return Y


def _operator(step: Step) -> str:
    """The name of an operator on floats that is ONNX's own, or a part of one; "" for others."""
    return "" if step.rule.domain not in ("", "certify") or isinstance(step.arithmetic, ExactArithmetic) else step.rule.name


def _same(name: str, X: Enclosure) -> Enclosure:
    """f(x, x) over X: x^2, 0, or 1 where 0 is not in X."""
    if name == "Mul":
        return square(X)
    if name == "Sub":
        return Enclosure.point(np.zeros(X.shape))
    apart = (X.lo > 0.0) | (X.hi < 0.0)
    return Enclosure(np.where(apart, 1.0, -np.inf), np.where(apart, 1.0, np.inf))


def _within(Y: Enclosure, cases: Cases, fact: Enclosure) -> Enclosure:
    """Y within the fact, in these cases."""
    cases = cases.reshape(-1, *(1,) * (len(Y.shape) - 1))
    return intersect(Y, Enclosure(np.where(cases, fact.lo, -np.inf), np.where(cases, fact.hi, np.inf)))


def _between(lo: float, hi: float, rank: int) -> Enclosure:
    """One interval for everything of this rank."""
    return Enclosure(np.full((1,) * rank, lo), np.full((1,) * rank, hi))


def _sided(sign: float, rank: int) -> Enclosure:
    """All numbers that are not of the other sign."""
    return _between(0.0, np.inf, rank) if sign > 0.0 else _between(-np.inf, 0.0, rank)


def _aligned(reduced: Enclosure, x: Enclosure) -> bool:
    """Broadcasting `reduced`, a reduction of x, against x lets every element meet its own group: the reduced axes are kept, or there is one
    group alone."""
    return len(reduced.shape) == len(x.shape) or math.prod(reduced.shape[1:]) == 1


@dataclass(frozen=True)
class Graph:
    """Steps by what they compute, and ranges of exact values."""

    producers: Mapping[str, Step]
    values: Mapping[str, Enclosure]

    def source(self, name: str) -> str:
        """The value that `name` is over the reals: conversions and copies of whole arrays change nothing."""
        step = self.producers.get(name)
        while step is not None and _operator(step) in ("Convert", "Identity") and step.operands[0] is not None:
            name = step.operands[0]
            step = self.producers.get(name)
        return name

    def made(self, name: str, *operators: str) -> Step | None:
        """The step that computes `name`, if it is one of these operators."""
        step = self.producers.get(self.source(name))
        return step if step is not None and _operator(step) in operators else None

    def operands(self, step: Step) -> list[str]:
        return [self.source(name) for name in step.operands if name is not None]

    def rank(self, *names: str) -> int:
        """That of an elementwise result."""
        return max(len(self.values[name].shape) for name in names)

    def least(self, name: str) -> Array:
        """The least that any element can be, (cases or 1,)."""
        low = self.values[name].lo
        return np.asarray(low.reshape(low.shape[0], -1).min(axis=1, initial=np.inf))

    def parts(self, name: str, cases: Cases = _ALWAYS, depth: int = _DEPTH) -> Iterator[tuple[str, Cases]]:
        """Values that `name` is nowhere below, and in which cases: itself; a summand where the other is not negative; a maximum's operands.

        Broadcasting aligns an operand with the result as it aligns it with anything else that has the result's shape.
        """
        name = self.source(name)
        yield name, cases
        step = self.producers.get(name)
        if step is None or depth == 0:
            return
        operands = self.operands(step)
        if _operator(step) == "Max":
            for part in operands:
                yield from self.parts(part, cases, depth - 1)
        if _operator(step) == "Add":
            for part, other in zip(operands, reversed(operands), strict=True):
                yield from self.parts(part, cases & (self.least(other) >= 0.0), depth - 1)

    def covers(self, large: str, small: str) -> Cases:
        """Where large >= small, element by element: small is a part of it, or a part is the maximum over small's groups, or the sum, small
        being >= 0."""
        found = ~_ALWAYS
        for part, cases in self.parts(large):
            if part == small:
                found = found | cases
            step = self.made(part, "ReduceMax", "ReduceSum")
            if step is not None and self.operands(step)[0] == small and _aligned(self.values[part], self.values[small]):
                found = found | (cases if _operator(step) == "ReduceMax" else cases & (self.least(small) >= 0.0))
        return found

    def squared(self, name: str, x: str) -> bool:
        """`name` is x x."""
        step = self.made(name, "Square", "Mul", "Pow")
        if step is None:
            return False
        if _operator(step) == "Square":
            return self.operands(step) == [x]
        if _operator(step) == "Pow":
            return step.attributes.get("exponent") == 2.0 and self.operands(step) == [x]
        return self.operands(step) == [x, x]

    def axes(self, step: Step) -> tuple[int, ...]:
        """Array axes that a reduction reduces: those listed; of an empty list or none all, or none of them if it says so."""
        rank = self.rank(self.operands(step)[0]) - 1
        listed = step.attributes.get("axes")
        chosen = [] if listed is None else [int(axis) % rank + 1 for axis in np.ravel(listed)]
        return tuple(sorted(set(chosen))) if chosen or step.attributes.get("noop_with_empty_axes", 0) else tuple(range(1, rank + 1))

    def size(self, step: Step) -> int:
        """How many elements each group of a reduction has."""
        shape = self.values[self.operands(step)[0]].shape
        return math.prod(shape[axis] for axis in self.axes(step))


def _product(graph: Graph, step: Step) -> Iterator[Fact]:
    """x x = |x|^2; and a (1 / b) is a / b."""
    a, b = graph.operands(step)
    if a == b:
        yield _ALWAYS, square(graph.values[a])
        return
    for factor, other in ((a, b), (b, a)):
        inverse = graph.made(other, "Reciprocal")
        if inverse is not None:
            yield from _ratio(graph, factor, graph.operands(inverse)[0])


def _quotient(graph: Graph, step: Step) -> Iterator[Fact]:
    yield from _ratio(graph, *graph.operands(step))


def _ratio(graph: Graph, a: str, b: str) -> Iterator[Fact]:
    """a / b for b > 0 everywhere (and x / x, where x is not 0).

    - 0 <= a <= b: in [0, 1].
    - b = a + c, a >= 0, c >= 0: a / (a + c) = 1 / (1 + c / a) grows with a and falls with c, so that its extremes over *any* relation of a
      and c lie within its values at (least a, largest c) and (largest a, least c).
    - b >= sqrt(s), s >= sum of x^2 over a group that holds a = x_i: |a| = sqrt(x_i^2) <= b. With the mean of n squares, n s >= x_i^2, so
      |a| / b <= sqrt(n).
    """
    if a == b:
        yield _ALWAYS, _same("Div", graph.values[a])
        return
    above, rank = graph.least(b) > 0.0, graph.rank(a, b)
    shares = above & (graph.least(a) >= 0.0)
    yield shares & graph.covers(b, a), _between(0.0, 1.0, rank)
    addition = graph.made(b, "Add")
    if addition is not None and a in graph.operands(addition):
        first, second = graph.operands(addition)
        other = second if first == a else first
        yield shares & (graph.least(other) >= 0.0), _share(graph.values[a], graph.values[other])
    for cases, most in _within_norm(graph, a, b):
        yield above & cases, _between(-most, most, rank)


def _share(a: Enclosure, c: Enclosure) -> Enclosure:
    """a / (a + c) as above, within [0, 1]; where a sum is infinite nothing better is known."""
    rank = max(len(a.shape), len(c.shape))
    a, c = (x.map(lambda v: v.reshape(v.shape[:1] + (1,) * (rank - v.ndim) + v.shape[1:])) for x in (a, c))
    least, most = Enclosure.point(a.lo), Enclosure.point(a.hi)
    below, above = add(least, Enclosure.point(c.hi)), add(most, Enclosure.point(c.lo))
    low = np.where(np.isfinite(below.hi), divide(least, below).lo, 0.0)
    high = np.where(np.isfinite(above.hi), divide(most, above).hi, 1.0)
    return Enclosure(np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0))


def _within_norm(graph: Graph, x: str, b: str) -> Iterator[tuple[Cases, float]]:
    """The most that |x| / b can be where b is at least a norm of x, and in which cases."""
    for root, here in graph.parts(b):
        step = graph.made(root, "Sqrt")
        for part, cases in [] if step is None else graph.parts(graph.operands(step)[0], here):
            if graph.squared(part, x):
                yield cases, 1.0
            group = graph.made(part, "ReduceSum", "ReduceMean")
            if group is not None and graph.squared(graph.operands(group)[0], x) and _aligned(graph.values[part], graph.values[x]):
                yield cases, 1.0 if _operator(group) == "ReduceSum" else float(up(np.sqrt(float(graph.size(group)))))


def _difference(graph: Graph, step: Step) -> Iterator[Fact]:
    """x - x = 0; x - y <= 0 where y >= x, as a maximum over x's group is, and likewise a minimum; a variance is not negative.

    E[x^2] - E[x]^2 = E[(x - E x)^2] >= 0, both means over the same groups.
    """
    a, b = graph.operands(step)
    rank = graph.rank(a, b)
    if a == b:
        yield _ALWAYS, _between(0.0, 0.0, rank)
        return
    for small, large, sign in ((a, b, -1.0), (b, a, 1.0)):
        yield graph.covers(large, small), _sided(sign, rank)
        minimum = graph.made(small, "ReduceMin")
        if minimum is not None and graph.operands(minimum)[0] == large and _aligned(graph.values[small], graph.values[large]):
            yield _ALWAYS, _sided(sign, rank)
    if _is_variance(graph, a, b):
        yield _ALWAYS, _sided(1.0, rank)


def _is_variance(graph: Graph, a: str, b: str) -> bool:
    """a = E[x^2] and b = E[x]^2 over the same groups, which are not empty, delivered in the same shape."""
    mean_square, product = graph.made(a, "ReduceMean"), graph.made(b, "Square", "Mul", "Pow")
    if mean_square is None or product is None:
        return False
    m = graph.operands(product)[0]
    mean = graph.made(m, "ReduceMean")
    if mean is None or not graph.squared(b, m) or graph.values[a].shape[1:] != graph.values[m].shape[1:]:
        return False
    x = graph.operands(mean)[0]
    return graph.squared(graph.operands(mean_square)[0], x) and graph.axes(mean) == graph.axes(mean_square) and graph.size(mean) > 0


def _reduced_rank(graph: Graph, step: Step) -> int:
    return graph.rank(graph.operands(step)[0]) - (0 if step.attributes.get("keepdims", 1) else len(graph.axes(step)))


def _mean(graph: Graph, step: Step) -> Iterator[Fact]:
    """Sums and means of what is not negative are not negative."""
    yield graph.least(graph.operands(step)[0]) >= 0.0, _sided(1.0, _reduced_rank(graph, step))


def _sum(graph: Graph, step: Step) -> Iterator[Fact]:
    """Further, sum exp(x - max x) >= 1 over groups that are not empty: the term of a maximal x is 1, no other is negative."""
    yield from _mean(graph, step)
    summed = graph.operands(step)[0]
    power = graph.made(summed, "Exp")
    shifted = None if power is None else graph.made(graph.operands(power)[0], "Sub")
    if shifted is None:
        return
    x, m = graph.operands(shifted)
    most = graph.made(m, "ReduceMax")
    if (
        most is None
        or graph.operands(most)[0] != x
        or not _aligned(graph.values[m], graph.values[x])
        or graph.rank(x) != graph.rank(summed)
    ):
        return
    if graph.axes(most) == graph.axes(step) and graph.size(step) > 0:
        yield _ALWAYS, _between(1.0, np.inf, _reduced_rank(graph, step))


_EXACT: dict[str, Callable[[Graph, Step], Iterator[Fact]]] = {
    "Mul": _product,
    "Sub": _difference,
    "Div": _quotient,
    "ReduceSum": _sum,
    "ReduceMean": _mean,
}
