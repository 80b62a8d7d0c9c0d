"""Laws of Mod."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.semantics import ops  # noqa: F401 - registers the rules
from certify.semantics.contract import lookup
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import E4M3, E5M2, MIXED, Exact, Machine
from tests.laws.test_lies import Liar, small_magnitude, steeper
from tests.semantics.models import attacked, one_node

A = np.array([5.5, -5.5, 7.0, 0.0, -0.25, 100.3])
B = np.array([2.0, 2.0, -3.0, 1.5, 1.0, 0.7])


def remainder(a: mpf, b: mpf, fmod: int) -> mpf:
    if b == 0:
        return mp.nan
    n = mp.floor(abs(a) / abs(b)) * mp.sign(a) * mp.sign(b) if fmod else mp.floor(a / b)
    return a - n * b


def kernel(machine: Machine, a: Exact, b: Exact, fmod: int) -> Exact:
    return machine.fl(elementwise(lambda x, y: remainder(x, y, fmod))(a, b))


def check_mod(rule: Any, fmod: int) -> None:
    oracle = elementwise(lambda x, y: remainder(x, y, fmod))
    check_rule(
        rule,
        [((A, A + 0.25), (B, B)), ((A, A), (B, B + 0.125)), ((A - 3, A + 3), (B - 0.1, B + 0.1))],
        [(A, B), (np.array([6.0, 1e300, 2.0**-1074, -6.0]), np.array([2.0, 3.0, 1.0, 3.0])), (np.array([1.0]), np.array([0.0]))],
        oracle=lambda x, y, fmod: oracle(x, y),
        attributes={"fmod": fmod},
        radii=(0.0, 2.0**-40, 2.0**-10, 0.125, 1.5),
        kernel=kernel,
        machines=(E5M2, E4M3, MIXED),
    )


@pytest.mark.parametrize("fmod", [0, 1])
def test_laws(fmod: int) -> None:
    check_mod(lookup("", "Mod", 28), fmod)


@pytest.mark.parametrize(
    ("tell", "verb", "law"),
    [
        (small_magnitude, "linearize", "magnitude"),
        (steeper, "linearize", "remainder"),
        (lambda m, *_: 0.9 * m, "modulus", "modulus >="),
        (lambda b, *_: np.where(np.isfinite(b), 0.0, b), "rounding", "rounding"),
    ],
)
def test_lies(tell: Any, verb: str, law: str) -> None:
    with pytest.raises(LawBroken, match=f"^{law}"):
        check_mod(Liar(lookup("", "Mod", 28), verb, tell), 0)


def test_decided_quotients_are_linear() -> None:
    rule = lookup("", "Mod", 13)
    from certify.number.enclosure import Enclosure

    X = (Enclosure.point(np.array([[5.5]])), Enclosure.point(np.array([[2.0]])))
    L = rule.linearize(X, (np.array([[0.1]]), np.array([[0.01]])), fmod=1)
    assert L.radius.item() == 0.0
    assert L.push([None, np.ones((1, 1))]).item() == -2.0


def test_models() -> None:
    for fmod, opset in ((0, 28), (1, 13)):
        model = one_node("Mod", {"a": A, "b": B}, {"fmod": fmod}, opset)
        attacked(model, {"a": A, "b": B})
        attacked(model, {"a": A, "b": B}, region=True)
    whole = {"a": np.array([-7, 7, 9]), "b": np.array([3, -3, 3])}
    assert attacked(one_node("Mod", whole, {}, 13, integral=(0,)), whole)[None] == "finite"
