"""A rule that has a word on infinities encloses what it makes of known ones, and claims nothing where that is no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.semantics import ops
from certify.semantics.contract import lookup, rules

assert ops.__path__
POINTS = np.array([[np.inf, -np.inf, 0.0, 1.5, -2.0]])


def speaking() -> list[Any]:
    """Pointwise rules of one or two operands with such a word, which need no attribute."""
    found = [rule for rule in rules() if getattr(rule, "infinities", "none") != "none" and rule.pointwise]
    return [rule for rule in found if len(operands(rule)) in (1, 2) and takes(rule)]


def operands(rule: Any) -> list[str]:
    return [parameter for parameter in rule.parameters if parameter not in rule.static]


def takes(rule: Any) -> bool:
    try:
        rule.value(*[np.ones((1, 1))] * len(operands(rule)))
    except TypeError:
        return False
    return True


def unsound(rule: Any) -> bool:
    """True if some value at known infinities, or next to one, lies outside of its enclosure; the whole line alone encloses NaN."""
    shifts = [()] if len(operands(rule)) == 1 else [(k,) for k in range(POINTS.size)]
    for shift in shifts:
        x = (POINTS, *(np.roll(POINTS, k, axis=1) for k in shift))
        with np.errstate(all="ignore"):
            value = np.asarray(rule.value(*x), dtype=np.float64)
            Y = rule.enclose(tuple(map(Enclosure.point, x)))
        inside = (value >= Y.lo) & (value <= Y.hi)
        if not np.where(np.isnan(value), np.isneginf(Y.lo) & np.isposinf(Y.hi), inside).all():
            return True
    return False


@pytest.mark.parametrize("rule", speaking(), ids=lambda rule: f"{rule.domain}-{rule.name}-{rule.since}")
def test_the_word_holds(rule: Any) -> None:
    assert not unsound(rule)


def test_arithmetic_that_claims_a_word_is_caught() -> None:
    """The remainder of an infinity is no number: Mod has no word on it."""
    rule = lookup("", "Mod", 28)
    assert getattr(rule, "infinities", "none") == "none"
    assert unsound(rule)
