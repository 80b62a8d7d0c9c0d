"""BatchNormalization whose parameters storage moves: every box of parameters stays within slope and remainder."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.semantics import ops  # noqa: F401 (fills the table)
from certify.semantics.contract import lookup

EPSILON = float(np.float32(1e-3))


def exact(x: float, scale: float, bias: float, mean: float, variance: float) -> mpf:
    return mpf(scale) * (mpf(x) - mpf(mean)) / mp.sqrt(mpf(variance) + mpf(EPSILON)) + mpf(bias)


@pytest.mark.parametrize("seed", range(20))
def test_moved_parameters_stay_within_the_remainder(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rule = lookup("", "BatchNormalization", 6)
    x = draw.normal(size=(1, 1, 1)) * 10.0 ** draw.integers(-3, 4)
    parameters = [draw.normal(size=(1, 1)), draw.normal(size=(1, 1)), draw.normal(size=(1, 1)), draw.uniform(0.01, 2.0, size=(1, 1))]
    radii = [np.abs(p) * 2.0**-8 for p in parameters]
    r = (np.abs(x) * 2.0**-9, *radii)
    X = tuple(Enclosure.point(v) for v in (x, *parameters))
    linear = rule.linearize(X, r, epsilon=EPSILON)
    modulus = rule.modulus(X, r, epsilon=EPSILON)
    with mp.workprec(200):
        before = exact(x.item(), *(p.item() for p in parameters))
        widest = mpf(0)
        for signs in np.ndindex(*(2,) * 5):
            s = [2 * i - 1 for i in signs]
            moved = [p.item() + k * q.item() for p, q, k in zip(parameters, radii, s[1:], strict=True)]
            d = s[0] * r[0].item()
            change = exact(x.item() + d, *moved) - before
            slope = mpf(parameters[0].item()) / mp.sqrt(mpf(parameters[3].item()) + mpf(EPSILON))
            rest = change - slope * mpf(d)
            assert abs(rest) <= mpf(linear.radius.item())
            assert abs(change) <= mpf(modulus.item())
            widest = max(widest, abs(rest))
        assert linear.radius.item() <= 3 * widest


def test_a_variance_that_may_vanish_is_infinite() -> None:
    rule = lookup("", "BatchNormalization", 6)
    one = np.ones((1, 1))
    X = tuple(Enclosure.point(v) for v in (np.ones((1, 1, 1)), one, one, one, one))
    r = (None, None, None, None, 2.0 * one)
    assert np.isinf(rule.linearize(X, r, epsilon=EPSILON).radius).all()
    assert np.isinf(rule.modulus(X, r, epsilon=EPSILON)).all()
