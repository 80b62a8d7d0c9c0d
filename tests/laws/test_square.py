"""Square, what Mul is on one operand twice, keeps the laws; exact squares stay exact, and its remainder is one-sided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.semantics import ops
from certify.semantics.contract import lookup
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import E4M3, E5M2, MIXED
from tests.laws.test_lies import Liar, inward, inward_remainder, shifted, smaller_remainder, steeper, zero_for_inf

assert ops.__path__

SQUARE = lookup("certify", "Square", 1)
PLAIN = np.array([-3.7, -1.0, -0.3, 0.0, 0.2, 2.5, 31.0])
HARD = (
    np.array([0.0, -0.0, 5e-324, -5e-324, 2.5e-308, 1e-162, -1e-160]),
    np.array([1e300, -1e200, 1.3407807929942596e154, 1.35e154, 2.0**511, 1e100, 3.0]),
)


def check(rule: Any) -> None:
    check_rule(
        rule,
        [
            ((PLAIN - 1.0, PLAIN + 2.0),),
            ((PLAIN, PLAIN + 2.0**-20),),
            ((-PLAIN - 40.0, np.array([5e-324, 1.0, 0.0, 0.0, 40.0, 7.0, 2.0])),),
        ],
        [(PLAIN,), *((x,) for x in HARD)],
        oracle=elementwise(lambda x: x * x),
        smooth=[(PLAIN[[0, 1, 2, 4, 5]],)],
        kinks=(0.0,),
        kernel=lambda machine, x: machine.fl(x * x),
        machines=(E5M2, E4M3, MIXED),
        exact_push=True,
    )


def test_square() -> None:
    check(SQUARE)


def test_lies_are_caught() -> None:
    lies = [
        ("linearize", steeper),
        ("linearize", smaller_remainder),
        ("linearize", inward_remainder),
        ("linearize", shifted),
        ("linearize", zero_for_inf),
        ("enclose", inward),
        ("enclose", lambda Y, *_: Enclosure(Y.lo, np.nextafter(Y.hi, 0.0))),
        ("enclose", lambda Y, *_: Enclosure(np.nextafter(Y.lo, np.inf), np.nextafter(Y.hi, np.inf))),
        ("modulus", lambda m, *_: 0.99 * m),
        ("rounding", lambda b, *_: 0.5 * b),
        ("rounding", lambda b, *_: np.zeros_like(b)),
        ("quantum", lambda q, *_: 2.0 * np.asarray(q)),
    ]
    for verb, tell in lies:
        with pytest.raises(LawBroken):
            check(Liar(SQUARE, verb, tell))


def test_exact_squares_are_points_and_others_are_one_number_wide() -> None:
    x = np.array([[3.0, -0.125, 1.0 + 2.0**-26, 1.0 + 2.0**-27, 0.1]])
    Y = SQUARE.enclose((Enclosure.point(x),))
    assert (Y.lo == Y.hi)[0].tolist() == [True, True, True, False, False]
    assert (np.nextafter(Y.lo, np.inf) >= Y.hi).all()


def test_the_remainder_is_half_of_what_two_independent_factors_pay() -> None:
    x, r = np.array([[1.5, -2.0]]), np.array([[0.25, 0.5]])
    L = SQUARE.linearize((Enclosure.point(x),), (r,))
    assert np.allclose(L.shift, 0.5 * r * r)
    assert np.allclose(L.radius, 0.5 * r * r)
    assert (L.push([r]) == 2.0 * x * r).all()
