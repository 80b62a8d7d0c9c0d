"""Comparisons, logic, whole numbers, positions and casts keep their promises; mpmath is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS
from certify.profiles import profile_named
from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.families.composite import Expansion
from certify.semantics.families.discrete import Discrete, monotone
from certify.semantics.ops import logical
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import E5M2, MIXED, Exact, Machine

RADII = (0.0, 0.125, 1.5)


def found(name: str, domain: str = "") -> Any:
    return lookup(domain, name, 20)


PAIR = [((np.array([-1.0, 0.0, 0.5]), np.array([1.0, 0.25, 0.5])), (np.array([0.0, 0.0, 0.5]), np.array([0.5, 0.25, 0.5])))]
POINTS = [
    (np.array([0.0, -0.0, 1.0]), np.array([0.0, 0.0, 1.0 + 2.0**-52])),
    (np.array([1e308, 5e-324, 3.0]), np.array([-1e308, 0.0, 3.0])),
    (np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])),
]
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Greater": lambda a, b: int(a > b),
    "Less": lambda a, b: int(a < b),
    "GreaterOrEqual": lambda a, b: int(a >= b),
    "LessOrEqual": lambda a, b: int(a <= b),
    "Equal": lambda a, b: int(a == b),
    "And": lambda a, b: int(a != 0 and b != 0),
    "Or": lambda a, b: int(a != 0 or b != 0),
    "Xor": lambda a, b: int((a != 0) != (b != 0)),
}
WHOLE: dict[str, Callable[[Any], Any]] = {
    "Floor": mp.floor,
    "Ceil": mp.ceil,
    "Round": mp.nint,
    "Sign": lambda a: int(a > 0) - int(a < 0),
    "Not": lambda a: int(a == 0),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_pairs(name: str) -> None:
    check_rule(found(name), PAIR, POINTS, oracle=elementwise(COMPARISONS[name]), radii=RADII)


STAIRS = [((np.array([-1.0, 0.5, -2.75]), np.array([1.0, 0.5, 2.75])),)]
STEPS = [(np.array(x),) for x in ([0.0, -0.0, 0.5], [1.5, 2.5, -0.5], [1e300, -5e-324, 5e-324], [0.9375, -1.0, 7.0])]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name: str) -> None:
    check_rule(found(name), STAIRS, STEPS, oracle=elementwise(WHOLE[name]), radii=RADII)


def test_truncate_and_truth() -> None:
    rule = found("Truncate", "certify")
    check_rule(rule, STAIRS, STEPS, oracle=elementwise(lambda a: mp.ceil(a) if a < 0 else mp.floor(a)), radii=RADII)
    X, magnitude = (Enclosure.point(np.array([[126.5, 127.5, -200.0]])),), np.full((1, 3), 300.0)
    bound = rule.rounding(X, (np.array([[0.25, 0.75, 0.0]]),), E5M2, magnitude, [0.0], least=-128.0, greatest=127.0)
    assert np.array_equal(bound, [[0.0, np.inf, np.inf]])
    check_rule(found("Truth", "certify"), STAIRS, STEPS, oracle=elementwise(lambda a: int(a != 0)), radii=(0.0, 0.125))


def test_store_rounds_once() -> None:
    def kernel(machine: Machine, x: Exact) -> Exact:
        stored: Exact = machine.fl(x)
        return stored

    check_rule(found("Store", "certify"), STAIRS, STEPS, oracle=lambda x: x, kernel=kernel, machines=(MIXED,))


def positions(best: Callable[..., Any]) -> Callable[..., Exact]:
    def oracle(x: Exact, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Exact:
        k = axis % x.ndim
        moved = np.moveaxis(x, k, -1)
        out = np.empty(moved.shape[:-1], dtype=object)
        for index in np.ndindex(out.shape):
            row = list(moved[index])
            top = best(row)
            out[index] = mpf(len(row) - 1 - row[::-1].index(top) if select_last_index else row.index(top))
        return np.expand_dims(out, k) if keepdims else out

    return oracle


@pytest.mark.parametrize(("name", "best"), [("ArgMax", max), ("ArgMin", min)])
@pytest.mark.parametrize("attributes", [{}, {"axis": -1, "keepdims": 0}, {"axis": 1, "select_last_index": 1}])
def test_positions(name: str, best: Any, attributes: dict[str, Any]) -> None:
    lo = np.array([[0.0, 0.5, 0.5], [1.0, -1.0, 0.5]])
    boxes = [((lo, lo + 0.25),), ((lo, lo + np.array([0.0, 0.0, 2.0])),)]
    check_rule(found(name), boxes, [(lo,), (0 * lo,)], oracle=positions(best), attributes=attributes, radii=RADII)


def expansion(y: str = "y") -> Expansion:
    return Expansion("node", ("x",), ((3,),), (y,), {}, lambda kernel: "any")


def test_cast_is_store_truncate_or_truth() -> None:
    cast = found("Cast")
    parts = {to: cast.expand(expansion(), to=to)[0][0] for to in (1, 10, 16, 17, 27, 18, 19, 20, 23, 24, 6, 3, 2, 22, 9)}
    kinds = ["Store"] * 3 + ["Saturated"] * 6 + ["PowerOfTwo"] + ["Truncate"] * 3 + ["Whole", "Truth"]
    assert [part.name for part in parts.values()] == kinds
    assert parts[3].attributes == {"least": -128.0, "greatest": 127.0}
    assert parts[2].attributes == {"least": 0.0, "greatest": 255.0}
    assert not any(part.inner for part in parts.values())
    assert [cast.expand(expansion(), to=to, saturate=0)[0][0].name for to in (17, 18, 19, 20, 23, 28)] == ["Store"] * 4 + ["Saturated"] * 2
    from_integer = replace(expansion(), elements=(7,))
    assert cast.expand(from_integer, to=3)[0][0].name == "Ranged"
    assert cast.expand(from_integer, to=7)[0][0].attributes["greatest"] < 2.0**63  # the float64 below 2^63 - 1
    with pytest.raises(UnsupportedOperator, match="element type 8"):
        cast.expand(expansion(), to=8)


def test_infinities_stay_undecided() -> None:
    loose = Enclosure(np.array([[-np.inf, 0.0]]), np.array([[np.inf, 1.0]]))
    for name in ("IsNaN", "IsInf"):
        Y = found(name).enclose((loose,))
        assert np.array_equal(Y.lo, [[0.0, 0.0]])
        assert np.array_equal(Y.hi, [[1.0, 0.0]])


LIES = {
    "always decided": lambda X: Enclosure.point(np.floor(X.mid)),
    "inward": lambda X: Enclosure(np.floor(X.hi), np.floor(X.hi)),
    "forgets the top step": lambda X: Enclosure(np.floor(X.lo), np.maximum(np.floor(X.lo), np.floor(X.hi) - 1.0)),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_caught(lie: str) -> None:
    rule = Discrete("Floor", 6, ("X",), logical._floor, LIES[lie])
    with pytest.raises(LawBroken):
        check_rule(rule, STAIRS, STEPS, oracle=elementwise(mp.floor), radii=RADII)


def test_a_swing_too_small_is_caught() -> None:
    rule = Discrete("Floor", 6, ("X",), logical._floor, monotone(logical._floor, (1,)), swing=0.5)
    with pytest.raises(LawBroken):
        check_rule(rule, STAIRS, STEPS, oracle=elementwise(mp.floor), radii=RADII)


@pytest.mark.parametrize(
    ("source", "target", "free"),
    [("fp16", "fp32", True), ("fp32", "fp32", True), ("fp32", "fp16", False), (None, "fp32", False), (None, "fp16", False)],
)
def test_a_cast_is_free_where_the_target_holds_the_source(source: str | None, target: str, free: bool) -> None:
    """Into its own format or a wider one; integers only up to the precision that their quantum shows."""
    profile = profile_named("wide", None, None, "any")
    operands = [None if source is None else FORMATS[source]]
    arithmetic = profile.arithmetic("Store", operands, FORMATS[target], False)
    magnitude = np.array([[1.5e9]]) if target == "fp32" else np.array([[6e4]])
    X = (Enclosure.point(magnitude),)
    born = found("Store", "certify").rounding(X, (None,), arithmetic, magnitude, [0.0])
    assert bool(born[0, 0] == 0.0) == free
    assert found("Store", "certify").rounding(X, (None,), arithmetic, np.array([[1000.0]]), [1.0])[0, 0] == 0.0
