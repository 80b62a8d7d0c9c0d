"""Laws of the elementwise arithmetic operators."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.ops import arithmetic  # noqa: F401 - registers the rules
from tests.laws.kit import check_rule, elementwise

TINY, HUGE = 2.0**-1074, 2.0**900
BOXES = [
    ((np.array([-1.0, 0.5, 0.0]), np.array([2.0, 0.5, 3.0])), (np.array([0.25, -3.0, -1.0]), np.array([0.5, 2.0, -1.0]))),
    ((np.array([[1.0], [-2.0]]), np.array([[1.5], [-2.0]])), (np.array([3.0, 0.0]), np.array([3.0, 0.1]))),
    ((np.array([7.0, 8.0]), np.array([7.0, 9.0])), (np.array(2.0), np.array(2.5))),
]
POINTS = [
    (np.array([0.0, -0.0, TINY]), np.array([-0.0, 0.0, TINY])),
    (np.array([HUGE, -HUGE, 2.0**-600]), np.array([HUGE / 2, HUGE, 2.0**-600])),
    (np.array([1.0, 0.1, 3.0]), np.array([2.0**-53, 0.2, -3.0])),
    (np.zeros((0, 2)), np.zeros((2,))),
]


def rule(name: str) -> Any:
    return lookup("", name, 14)


@pytest.mark.parametrize(("name", "oracle"), [("Add", lambda a, b: a + b), ("Sub", lambda a, b: a - b), ("Mul", lambda a, b: a * b)])
def test_binary(name: str, oracle: Any) -> None:
    check_rule(
        rule(name),
        BOXES,
        POINTS,
        oracle=elementwise(oracle),
        kernel=lambda machine, a, b: machine.fl(elementwise(oracle)(a, b)),
    )


def test_one_constant_factor_leaves_no_remainder() -> None:
    mul = rule("Mul")
    X = tuple(Enclosure.point(np.array([[0.1, 3.0]])) for _ in range(2))
    r = (np.full((1, 2), 0.5), None)
    assert mul.is_linear(X, r)
    assert not np.any(mul.linearize(X, r).radius)
    assert not mul.is_linear(X, (r[0], r[0]))


def _total(*x: Any) -> Any:
    return reduce(lambda a, b: a + b, x)


def _sum_kernel(machine: Any, *x: Any) -> Any:
    return machine.fl_sum(np.stack(np.broadcast_arrays(*x), axis=-1))


THREE = [(*box, (np.array(-0.75), np.array(0.5))) for box in BOXES]
THREE_POINTS = [(*x, np.array(0.1)) for x in POINTS]


def test_sum() -> None:
    check_rule(rule("Sum"), THREE, THREE_POINTS, oracle=elementwise(lambda *x: _total(*x)), kernel=_sum_kernel)
    check_rule(rule("Sum"), [box[:1] for box in BOXES], oracle=elementwise(lambda x: x), kernel=lambda machine, x: machine.fl(x))


def test_mean() -> None:
    def kernel(machine: Any, *x: Any) -> Any:
        inner = machine.accumulator_precision or machine.precision
        total = machine.fl_sum(np.stack(np.broadcast_arrays(*x), axis=-1))
        return machine.fl(machine.fl(total / len(x), inner))

    check_rule(rule("Mean"), THREE, THREE_POINTS, oracle=elementwise(lambda *x: _total(*x) / len(x)), kernel=kernel)


DIV_BOXES = [
    ((np.array([-1.0, 0.5, 0.0]), np.array([2.0, 0.5, 3.0])), (np.array([0.25, -3.0, -1.0]), np.array([0.5, -2.0, -1.0]))),
    ((np.array([[1.0], [-2.0]]), np.array([[1.5], [-2.0]])), (np.array([3.0, -1.0]), np.array([3.0, 0.1]))),
    ((np.array([7.0, 8.0]), np.array([7.0, 9.0])), (np.array(2.0), np.array(2.5))),
]
DIV_POINTS = [
    (np.array([0.0, -0.0, TINY]), np.array([1.0, -1.0, 3.0])),
    (np.array([1.0, 0.0, -2.0]), np.array([0.0, 0.0, -0.0])),
    (np.array([HUGE, -HUGE, 2.0**-600]), np.array([2.0**-600, HUGE, 2.0**600])),
    (np.array([1.0, 0.1, 3.0]), np.array([2.0**-53, 0.2, -3.0])),
]


def _quotient(a: Any, b: Any) -> Any:
    return a / b


def _divided(machine: Any, a: Any, b: Any) -> Any:
    return machine.fl(elementwise(_quotient)(a, b))


def test_div() -> None:
    check_rule(
        rule("Div"), DIV_BOXES, DIV_POINTS, oracle=elementwise(_quotient), kernel=_divided, smooth=[(np.array(1.25), np.array(-3.5))]
    )


@pytest.mark.parametrize("divisor", [4.0, -0.3])
def test_div_by_a_constant(divisor: float) -> None:
    b = np.array(divisor)
    boxes = [(box[0], (b, b)) for box in DIV_BOXES]
    check_rule(rule("Div"), boxes, [(x[0], b) for x in POINTS], oracle=elementwise(_quotient), kernel=_divided, constant=(1,))
    X = (Enclosure.point(np.array([[0.1, 3.0]])), Enclosure.point(b[None]))
    r = (np.full((1, 2), 0.5), None)
    assert rule("Div").is_linear(X, r)
    assert not np.any(rule("Div").linearize(X, r).radius)
