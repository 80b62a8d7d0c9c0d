"""Laws of the steps that stand for other ways of computing the same expression, and lies about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.semantics.contract import lookup
from tests.laws.kit import LawBroken, check_rule, elementwise, exact
from tests.laws.machine import BFLOAT16, E5M2, Machine
from tests.laws.test_lies import Liar

FACTORS = {"factors": 2}


def _parts(q: Any, zero: Any, r: Any) -> tuple[Any, Any]:
    """The sum of ratios times numbers, and all of it in the operands' order: value, zero point, ratios, numbers."""
    value = r[0] * q[0] + r[1] * q[1]
    return value, (value, zero, *r, *q)


q, ratios = np.array([[-3.0, 5.0, 0.0], [7.0, -2.0, 1.0]]), np.array([[0.5, 0.25, 1.5], [2.0, 0.75, 0.0]])
_, POINT = _parts(q, np.array(3.0), ratios)
WIDE = tuple((v, v + 0.25) for v in POINT)


def summed(machine: Machine, value: Any, zero: Any, *rest: Any, factors: int) -> Any:
    """What another association, (zero + r0 q0) + r1 q1 in the machine's format, is off by, on top of the value."""
    r, x = rest[:factors], rest[factors:]
    total = machine.fl(zero + machine.fl(r[0] * x[0]))
    computed = machine.fl(total + machine.fl(r[1] * x[1])) - zero
    return value + (computed - (r[0] * x[0] + r[1] * x[1]))


def fixed(machine: Machine, value: Any, zero: Any, *rest: Any, factors: int) -> Any:
    """Ratios rounded to 22 bits of the largest one."""
    r, x = rest[:factors], rest[factors:]

    def ratio(a: mpf, largest: mpf) -> mpf:
        if largest == 0:
            return a
        unit = mpf(2) ** (mp.floor(mp.log(largest, 2)) - 21)
        return mp.nint(a / unit) * unit

    largest = np.maximum(abs(r[0]), abs(r[1]))
    rounded = [elementwise(ratio)(a, largest) for a in r]
    return value + sum((b - a) * v for a, b, v in zip(r, rounded, x, strict=True))


def check_requantized(rule: Any, kernel: Callable[..., Any] = summed, machines: tuple[Machine, ...] = (BFLOAT16,)) -> None:
    check_rule(
        rule,
        [WIDE, tuple((v, v) for v in POINT)],
        [tuple(1e-3 * v for v in POINT)],
        oracle=lambda value, *_, factors: value,
        attributes=FACTORS,
        radii=(0.0, 2.0**-40, 2.0**-10, 0.125, 0.25),
        kernel=kernel,
        machines=machines,
    )


@pytest.mark.parametrize("kernel", [summed, fixed])
def test_requantized(kernel: Callable[..., Any]) -> None:
    check_requantized(lookup("certify", "Requantized", 1), kernel, (BFLOAT16, Machine(precision=26, emin=-126, emax=127)))


@pytest.mark.parametrize(
    ("verb", "tell", "law"),
    [
        ("rounding", lambda b, *_: 0.0 * b, "rounding"),
        ("rounding", lambda b, *_: b / 64.0, "rounding"),
        ("linearize", lambda L, *_: L.__class__(lambda d: 0.5 * L.push(d), L.pull, L.magnitude, L.shift, L.radius), "<push d, a>"),
        ("modulus", lambda m, *_: 0.5 * m, "modulus >="),
    ],
)
def test_lie_is_caught(verb: str, tell: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=rf"^{re.escape(law)}"):
        check_requantized(Liar(lookup("certify", "Requantized", 1), verb, tell))


def test_forgotten_fixed_point_is_caught() -> None:
    with pytest.raises(LawBroken, match="^rounding"):
        check_requantized(
            Liar(lookup("certify", "Requantized", 1), "rounding", lambda b, *_: 0.05 * b),
            fixed,
            (Machine(precision=40, emin=-126, emax=127),),
        )


def test_a_factor_multiplied_into_the_sum() -> None:
    """One factor 1 + t, |t| <= u, at its extremes; and room for unscaled sums."""
    x = np.array([-3.0, 0.5, 0.0, 1e-3])
    check_rule(
        lookup("certify", "ScaledAfter", 1),
        [((x, x + 0.25),)],
        oracle=elementwise(lambda v: v),
        kernel=lambda machine, v: v * (1 + mpf(machine.unit_roundoff)),
        machines=(E5M2, BFLOAT16),
    )
    check_rule(
        lookup("certify", "Roomy", 1),
        [((x, x + 0.25),)],
        oracle=elementwise(lambda v, times: v),
        attributes={"times": 1000.0},
        kernel=lambda machine, v, times: elementwise(lambda w: w if abs(w) * times <= machine.max else mp.inf)(exact(v)),
        machines=(E5M2, BFLOAT16),
    )
