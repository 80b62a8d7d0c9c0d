"""Independent references: ball arithmetic end to end, and mpmath on sampled elements (mathematics: §7).

Both use a rule's `value` alone, on numbers that are not float64: of the five verbs the one that the laws check against
an implementation of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.families.block import Block
from certify.validate.balls import Ball, Undecided, balls, enclosed, product
from certify.validate.products import by_parts, factors, is_product, products_of
from certify.validate.runtime import ValidationUnavailable

WORK = 3_000_000  # about ten seconds: one unit is an operation on one ball, or 50 products inside a matrix product
_PER_UNIT = 50
_MPMATH_BITS = 2400  # sums and products of float64 numbers are exact in so many, but for extreme spreads
NO_WAY = (TypeError, AttributeError, ValueError, NotImplementedError)  # what a value raises that is not made for such numbers
_WHOLE_STEP = 2048  # elements up to which a step that is not computed element by element is checked whole


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A step's float64 result that lies farther from f(parents) than its defect says."""

    node: str
    value: str
    index: tuple[int, ...]
    distance: float
    defect: float


def work(problem: Problem) -> int:
    """The size of `reference_arb` in its unit."""
    shapes = {name: X.shape for name, X in problem.values.items()}
    total = 0
    for step in problem.steps:
        output = shapes[step.output]
        products = products_of(step, [shapes[name] if name else () for name in step.operands])
        total += (products // _PER_UNIT if is_product(step) else products) + int(np.prod(output))
        total += sum(int(np.prod(shapes[name])) for name in step.operands if name)
    return total


def reference_arb(problem: Problem, bits: int = 256, limit: int = WORK) -> dict[str, Enclosure]:
    """The exact outputs of the network at the problem's points, enclosed in float64 intervals, in balls of `bits` bits.

    Raises ValidationUnavailable if the work exceeds `limit`, an operator has no way with balls, or overlapping balls
    leave a comparison open at four times the bits.
    """
    import flint

    needed = work(problem)
    if needed > limit:
        raise ValidationUnavailable(f"ball arithmetic end to end takes {needed} units of work, more than {limit}")
    for precision in (bits, 4 * bits):
        with flint.ctx.workprec(precision):
            try:
                return _end_to_end(problem)
            except _Open as reason:
                found = reason
    raise ValidationUnavailable(f"{found} at {4 * bits} bits")


class _Open(Exception):
    pass


def _end_to_end(problem: Problem) -> dict[str, Enclosure]:
    produced = {step.output for step in problem.steps}
    values: dict[str, Any] = {name: X.lo for name, X in problem.values.items() if name not in produced}
    last = {name: k for k, step in enumerate(problem.steps) for name in step.operands if name}
    for k, step in enumerate(problem.steps):
        operands = [values[name] if name else None for name in step.operands]
        try:
            values[step.output] = exactly(step, operands)
        except Undecided as reason:
            raise _Open(f"{step.kind} node {step.node}: {reason}") from reason
        except NO_WAY as reason:
            raise ValidationUnavailable(f"{step.kind} node {step.node} has no way with balls: {reason}") from reason
        for name in step.operands:
            if name and last[name] == k and name not in problem.outputs:
                values.pop(name, None)
    return {name: enclosed(_as_balls(values[name])) for name in problem.outputs}


def exactly(step: Step, operands: Sequence[Any]) -> Any:
    """f(operands) in balls; operands are balls, or float64 numbers, which enter matrix products as they are."""
    if isinstance(step.rule, Block):
        return by_parts(step, operands, exactly)
    contraction = factors(step, [*operands[:2], *(_as_balls(x) for x in operands[2:])])
    if contraction is None:
        return balls(np.asarray(step.rule.value(*(_as_balls(x) for x in operands), **step.attributes)))  # a choice may give plain numbers
    blocks = [product(a, b) for a, b in zip(contraction.left, contraction.right, strict=True)]
    y = contraction.shape(np.stack(blocks))
    y = y if contraction.scale == 1.0 else y * Ball(contraction.scale)
    return y if contraction.addend is None else y + contraction.addend


def _as_balls(x: Any) -> Any:
    return x if x is None or x.dtype == object else balls(x)


def spot_check(problem: Problem, seed: int = 0, count: int = 64) -> tuple[int, list[Mismatch]]:
    """(elements checked, those that break |f(z_parents) - z_k| <= defect), recomputed in mpmath.

    `count` elements of steps drawn with replacement, case and element at random.
    """
    from mpmath import mp

    rng = np.random.default_rng(seed)
    checked, broken = 0, []
    with mp.workprec(_MPMATH_BITS):
        for _ in range(count if problem.steps else 0):
            step = problem.steps[int(rng.integers(len(problem.steps)))]
            z = problem.values[step.output].lo
            if not z.size:
                continue
            index = tuple(int(rng.integers(n)) for n in z.shape)
            try:
                exact = _element(problem, step, index)
            except ZeroDivisionError:
                exact = mp.nan  # a pole: nothing finite may be claimed there
            except NO_WAY:
                continue  # the rule's value has no way with mpmath's numbers
            if exact is None or (mp.isnan(exact) and _meets_infinity(problem, step)):
                continue  # of an infinite operand (a mask) the rule says more than arithmetic does
            checked += 1
            defect = _at(problem.defects.get(step.output, np.zeros((1,) * z.ndim)), index)
            if not _within(exact, float(z[index]), defect):
                distance = float(abs(exact - mp.mpf(float(z[index]))))
                broken.append(Mismatch(step.node, step.output, index, distance, defect))
    return checked, broken


def _meets_infinity(problem: Problem, step: Step) -> bool:
    return any(bool(np.isinf(problem.values[name].lo).any()) for name in step.operands if name)


def _within(exact: Any, z: float, defect: float) -> bool:
    from mpmath import mp

    if not mp.isfinite(exact) or not np.isfinite(z):
        return not np.isfinite(defect) or exact == z
    return bool(abs(exact - mp.mpf(z)) <= mp.mpf(defect))


def _at(x: Array, index: tuple[int, ...]) -> float:
    return float(x[tuple(min(i, n - 1) for i, n in zip(index, x.shape, strict=True))])


def _element(problem: Problem, step: Step, index: tuple[int, ...]) -> Any:
    """f(z_parents) at one element as an mpf, None where the whole step would have to be recomputed and is too large."""
    operands = [None if name is None else _one_case(problem.values[name].lo, index[0]) for name in step.operands]
    inner = (0, *index[1:])
    if step.rule.pointwise:
        rank = len(index)
        picked = [None if x is None else _exact(_picked(x, inner, rank)) for x in operands]
        return np.asarray(step.rule.value(*picked, **step.attributes), dtype=object).reshape(-1)[0]
    contraction = factors(step, operands)
    if contraction is not None:
        return _inner_product(contraction, inner)
    if sum(x.size for x in operands if x is not None) > _WHOLE_STEP:
        return None
    return np.asarray(step.rule.value(*[None if x is None else _exact(x) for x in operands], **step.attributes), dtype=object)[inner]


def _inner_product(contraction: Any, index: tuple[int, ...]) -> Any:
    left, right = contraction.left, contraction.right
    shape = (left.shape[0], left.shape[1], right.shape[2])
    numbers = contraction.shape(np.arange(int(np.prod(shape))).reshape(shape))
    g, i, j = np.unravel_index(int(numbers[index]), shape)
    total = sum(a * b for a, b in zip(_exact(left[g, i]), _exact(right[g, :, j]), strict=True))
    total = total * _exact(np.array(contraction.scale))[()]
    if contraction.addend is None:
        return total
    return total + _exact(np.array(np.broadcast_to(contraction.addend, numbers.shape)[index]))[()]


def _one_case(x: Array, case: int) -> Array:
    return x[case : case + 1] if x.shape[0] > 1 else x


def _picked(x: Array, index: tuple[int, ...], rank: int) -> Array:
    """The one element of a broadcast operand that meets `index`, with unit axes for the rest."""
    x = x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:])
    return x[tuple(slice(min(i, n - 1), min(i, n - 1) + 1) for i, n in zip(index, x.shape, strict=True))]


def _exact(x: Array) -> Any:
    from mpmath import mp

    out = np.empty(x.shape, dtype=object)
    out.reshape(-1)[...] = [mp.mpf(v) for v in np.ravel(x).tolist()]
    return out
