"""A cast to float8e8m0 keeps its promises; ml_dtypes says what the codes are, and a search among them is the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS
from certify.profiles import profile_named
from certify.semantics import ops
from certify.semantics.contract import lookup
from tests.laws.kit import LawBroken, check_rule
from tests.laws.test_lies import Liar

assert ops.__path__

RULE = lookup("certify", "PowerOfTwo", 1)
NUMBERS = np.exp2(np.arange(-127.0, 128.0))
ARITHMETIC = profile_named("wide", None, None, "any").arithmetic("Cast", [FORMATS["fp32"]], FORMATS["fp8e8m0"], False)


def delivered(x: Any, mode: str) -> Any:
    """The neighbour above, the neighbour below, or the nearest, ties up; the ends beyond."""
    at = np.searchsorted(NUMBERS, x)
    above, below = NUMBERS[np.minimum(at, 254)], NUMBERS[np.clip(at - 1, 0, 254)]
    below = np.where(above == x, x, below)
    if mode == "nearest":
        return np.where(above - x <= x - below, above, below)
    return above if mode == "up" else below


X = np.concatenate([NUMBERS, 1.5 * NUMBERS, np.nextafter(NUMBERS, 0), np.nextafter(NUMBERS, np.inf), [0.0, 5e-324, 1e39]])[None]


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_every_power_and_its_surroundings(mode: str) -> None:
    born = RULE.rounding((Enclosure.point(X),), (None,), ARITHMETIC, X, [0.0], upward=mode == "up", saturate=True)
    assert (np.abs(delivered(X, mode) - X) <= born).all()
    assert np.isfinite(born).all()
    assert (born[:, :255] == 0.0).all()
    loose = RULE.rounding(
        (Enclosure.point(X),), (np.full_like(X, 1e-60),), ARITHMETIC, X * (1 + 1e-15) + 1e-60, [0.0], upward=mode == "up", saturate=True
    )
    assert (loose[X >= 1e-30] >= np.abs(delivered(X, mode) - X)[X >= 1e-30]).all()
    strict = RULE.rounding((Enclosure.point(X),), (None,), ARITHMETIC, X, [0.0], upward=mode == "up", saturate=False)
    assert np.array_equal(np.isinf(strict), (X < 2.0**-127) | (X > 2.0**127))


def test_negative_numbers_have_no_bound() -> None:
    x = np.array([[-1.0, 0.5]])
    born = RULE.rounding((Enclosure.point(x),), (np.array([[0.0, 0.75]]),), ARITHMETIC, np.abs(x) + 0.75, [0.0], upward=True, saturate=True)
    assert np.isinf(born).all()


def test_it_is_the_identity_but_for_rounding() -> None:
    x, told = np.array([0.5, 3.0, 1e-3]), {"upward": True, "saturate": True}
    check_rule(RULE, [((x, 2.0 * x),)], [(x,)], oracle=lambda x, **_: x, attributes=told)
    twice = Liar(RULE, "linearize", lambda L, *_: replace(L, push=lambda d: 2.0 * L.push(d)))
    with pytest.raises(LawBroken):
        check_rule(twice, [((x, 2.0 * x),)], [(x,)], oracle=lambda x, **_: x, attributes=told)
