"""TopK and Hardmax keep their promises; mpmath is the oracle, and lies about them are caught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.semantics import ops
from certify.semantics.contract import lookup
from certify.semantics.ops import ranking
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import E5M2, Exact, Machine
from tests.laws.test_lies import Liar

assert ops.__path__

VALUES, PLACES, HARDMAX = lookup("certify", "RankedValues", 1), lookup("certify", "RankedPositions", 1), lookup("", "Hardmax", 13)
RADII = (0.0, 0.0625, 0.25, 1.5)
LO = np.array([[0.0, 0.5, 0.5, -1.0], [1.0, -1.0, 0.5, 0.75]])
BOXES = [((LO, LO + 0.25),), ((LO, LO + np.array([0.0, 0.0, 2.0, 0.125])),)]
POINTS = [(LO,), (0 * LO,), (np.array([[0.0, -0.0, 5e-324, 1e300], [-1e300, 1e300, 1.0, 1.0 + 2.0**-52]]),)]


def rows(find: Any) -> Any:
    """An oracle from find(list of one row, k, largest) along an axis."""

    def oracle(x: Exact, k: int = 0, axis: int = -1, largest: int = 1, sorted: int = 1) -> Exact:
        moved = np.moveaxis(x, axis, -1)
        out = np.empty((*moved.shape[:-1], k or moved.shape[-1]), dtype=object)
        for index in np.ndindex(moved.shape[:-1]):
            out[index] = find(list(moved[index]), k, largest)
        return np.moveaxis(out, -1, axis)

    return oracle


def order(row: list[Any], largest: int) -> list[int]:
    """By repeated search, the lower index of equals first."""
    left, found = list(range(len(row))), []
    while left:
        best = left[0]
        for i in left[1:]:
            if (row[i] > row[best]) if largest else (row[i] < row[best]):
                best = i
        found.append(best)
        left.remove(best)
    return found


def ranked(row: list[Any], k: int, largest: int) -> list[Any]:
    return [row[i] for i in order(row, largest)[:k]]


def placed(row: list[Any], k: int, largest: int) -> list[Any]:
    return [mpf(i) for i in order(row, largest)[:k]]


FORMS = [
    {"k": 2, "axis": -1, "largest": 1},
    {"k": 4, "axis": 1, "largest": 0},
    {"k": 1, "axis": 0, "largest": 1},
    {"k": 2, "axis": 0, "largest": 0},
]


@pytest.mark.parametrize("form", FORMS)
def test_values(form: dict[str, int]) -> None:
    told = {**form, "sorted": 1}
    kernel = lambda machine, x, **a: rows(ranked)(x, **a)  # noqa: E731
    check_rule(VALUES, BOXES, POINTS, oracle=rows(ranked), attributes=told, radii=RADII, kernel=kernel, exact_push=True)


@pytest.mark.parametrize("form", FORMS)
def test_positions(form: dict[str, int]) -> None:
    check_rule(PLACES, BOXES, POINTS, oracle=rows(placed), attributes={**form, "sorted": 1}, radii=RADII)


@pytest.mark.parametrize("name", ["RankedValues", "RankedPositions"])
def test_unsorted_they_may_come_in_any_order(name: str) -> None:
    find = ranked if name == "RankedValues" else placed

    def kernel(machine: Machine, x: Exact, **told: Any) -> Exact:
        return np.flip(rows(find)(x, **told), told["axis"])

    told = {"k": 3, "axis": 1, "largest": 1, "sorted": 0}
    check_rule(lookup("certify", name, 1), BOXES[:1], POINTS[:1], oracle=rows(find), attributes=told, kernel=kernel, machines=(E5M2,))


def winner(row: list[Any], k: int, largest: int) -> list[Any]:
    best = order(row, 1)[0]
    return [mpf(i == best) for i in range(len(row))]


@pytest.mark.parametrize("axis", [-1, 0])
def test_hardmax(axis: int) -> None:
    check_rule(HARDMAX, BOXES, POINTS, oracle=lambda x, axis: rows(winner)(x, axis=axis), attributes={"axis": axis}, radii=RADII)


def test_a_rank_that_cannot_change_is_a_copy() -> None:
    x, r = np.array([[3.0, 0.0, 1.0, 1.25]]), np.array([[0.5, 0.25, 0.25, 0.25]])
    L = VALUES.linearize((Enclosure.point(x),), (r,), k=4, axis=-1, largest=1, sorted=1)
    assert np.array_equal(L.radius[0, [0, 3]], [0.0, 0.0])
    assert np.array_equal(L.push((np.array([[1.0, 2.0, 3.0, 4.0]]),))[0, [0, 3]], [1.0, 2.0])
    assert (L.radius[0, 1:3] > 0.0).all()


def test_many_cases_at_once() -> None:
    rng = np.random.default_rng(3)
    x, r = rng.normal(size=(5, 6)), rng.uniform(0, 1, (5, 6))
    told = {"k": 3, "axis": 0, "largest": 1, "sorted": 1}
    whole, stacked = (Enclosure.point(x),), VALUES.modulus((Enclosure.point(x),), (r,), **told)
    L = VALUES.linearize(whole, (r,), **told)
    pulled = L.pull(np.ones((5, 3)))[0]
    for c in range(5):
        one = (Enclosure.point(x[c : c + 1]),)
        assert np.array_equal(VALUES.modulus(one, (r[c : c + 1],), **told)[0], stacked[c])
        assert np.array_equal(VALUES.linearize(one, (r[c : c + 1],), **told).pull(np.ones((1, 3)))[0][0], pulled[c])


def shortened(L: Any, *_: Any) -> Any:
    return replace(L, radius=np.where(np.isinf(L.radius), np.inf, 0.99 * L.radius))


def to_the_neighbour(L: Any, *_: Any) -> Any:
    return replace(L, pull=lambda a: [np.roll(p, 1, -1) for p in L.pull(a) if p is not None])


LIES: dict[str, Any] = {
    "no remainder": Liar(VALUES, "linearize", lambda L, *_: replace(L, radius=0.0 * L.radius, shift=0.0 * L.shift)),
    "remainder 1 % short": Liar(VALUES, "linearize", shortened),
    "variation of half": Liar(VALUES, "modulus", lambda m, *_: 0.5 * m),
    "pull to the neighbour": Liar(VALUES, "linearize", to_the_neighbour),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_caught(lie: str) -> None:
    with pytest.raises(LawBroken):
        check_rule(LIES[lie], BOXES, POINTS, oracle=rows(ranked), attributes={**FORMS[0], "sorted": 1}, radii=RADII, exact_push=True)


def test_positions_without_doubt_are_a_lie() -> None:
    rule = replace(PLACES, outcomes=lambda X, **told: Enclosure.point(ranking.positions(X.mid, **told)))
    with pytest.raises(LawBroken):
        check_rule(rule, BOXES, POINTS, oracle=rows(placed), attributes={**FORMS[0], "sorted": 1}, radii=RADII)
