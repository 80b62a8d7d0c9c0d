"""Trees, keys and rounded squares keep their promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.semantics import ops
from certify.semantics.contract import Linearization, lookup
from certify.semantics.families.forest import MODES, Forest
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import E4M3, E5M2, Exact, Machine
from tests.laws.test_lies import Liar

assert ops is not None
RULE: Any = lookup("certify", "Leaves", 1)
# Two trees: x0 ? t0 -> (x1 ? t1 -> leaf 0, leaf 1), leaf 2; and x1 ? t2 -> leaf 3, leaf 4.
CHILDREN = {0: (1, 5), 1: (3, 4), 2: (6, 7)}
THRESHOLDS, TABLE = np.array([0.5, -1.0, 2.0]), np.array([[1.0, -2.0], [3.0, 0.25], [-4.0, 8.0], [0.5, 0.5], [16.0, 0.0]])
X = np.array([[0.25, -1.5], [0.5, -1.0], [3.0, 2.0]])


def forest(mode: str) -> Forest:
    def numbers(*v: int) -> Any:
        return np.asarray(v, dtype=np.intp)

    yes, no = (numbers(*(CHILDREN[k][way] for k in range(3))) for way in (0, 1))
    modes = np.full(3, MODES.index(mode), dtype=np.intp)
    return Forest(numbers(0, 2), numbers(0, 1, 1), modes, yes, no, numbers(0, 3), 5, (numbers(0, 2), numbers(1)))


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "LEQ": lambda a, b: a <= b,
    "LT": lambda a, b: a < b,
    "GTE": lambda a, b: a >= b,
    "GT": lambda a, b: a > b,
    "EQ": lambda a, b: a == b,
    "NEQ": lambda a, b: a != b,
}


def walked(mode: str) -> Callable[..., Exact]:
    """One row and one tree at a time."""

    def oracle(x: Exact, t: Exact, table: Exact, forest: Any = None) -> Exact:
        out = np.empty((x.shape[0], 2, table.shape[1]), dtype=object)
        for k, row in enumerate(x):
            for tree, root in enumerate((0, 2)):
                node = root
                while node < 3:
                    node = CHILDREN[node][0 if TESTS[mode](row[(0, 1, 1)[node]], t[node]) else 1]
                out[k, tree] = table[node - 3]
        return out

    return oracle


@pytest.mark.parametrize("mode", MODES)
def test_trees(mode: str) -> None:
    check_rule(
        RULE,
        [((X, X), (THRESHOLDS, THRESHOLDS), (TABLE, TABLE)), ((X - 0.25, X + 0.25), (THRESHOLDS, THRESHOLDS + 0.125), (TABLE, TABLE))],
        [(X, THRESHOLDS, TABLE), (0.0 * X, -0.0 * THRESHOLDS, TABLE), (1e300 * X, 1e300 * THRESHOLDS, 1e-300 * TABLE)],
        oracle=walked(mode),
        attributes={"forest": forest(mode)},
        radii=(0.0, 2.0**-40, 0.125, 1.5),
        kinks=(0.5, -1.0, 2.0),
        constant=(1, 2),
        kernel=lambda machine, x, t, table, forest: walked(mode)(x, t, table),
        machines=(E5M2,),
    )


def nearest_leaf_alone(L: Linearization, *_: Any) -> Linearization:
    """As if no decision could change."""
    return replace(L, shift=0.0 * L.shift, radius=0.0 * L.radius)


LIES: list[tuple[str, str, Callable[..., Any], str]] = [
    ("no decision changes", "linearize", nearest_leaf_alone, "remainder"),
    ("only one decision changes", "linearize", lambda L, *_: replace(L, radius=0.5 * L.radius), "remainder"),
    ("modulus of the middle", "modulus", lambda m, *_: 0.5 * m, "modulus"),
    ("one leaf in a box", "enclose", lambda Y, X, **a: Enclosure(Y.lo, Y.lo), "inclusion"),
]


@pytest.mark.parametrize(("what", "verb", "tell", "law"), LIES, ids=[lie[0] for lie in LIES])
def test_lies_are_caught(what: str, verb: str, tell: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=f"^{law}"):
        check_rule(
            Liar(RULE, verb, tell),
            [((X - 2.0, X + 2.0), (THRESHOLDS, THRESHOLDS), (TABLE, TABLE))],
            [(X, THRESHOLDS, TABLE)],
            oracle=walked("LEQ"),
            attributes={"forest": forest("LEQ")},
            kinks=(0.5, -1.0, 2.0),
            constant=(1, 2),
        )


KEYS = np.array([2.0, -1.0, 0.5])


def test_keys() -> None:
    def number(x: Any, keys: Any) -> Any:
        return next((k for k, key in enumerate(keys) if x == key), len(keys))

    x = np.array([2.0, -1.0, 0.25, 0.5])
    check_rule(
        lookup("certify", "KeyPosition", 1),
        [((x - 0.5, x + 1.0),)],
        [(x,), (np.array([0.0, -0.0, 5e-324, 1e300]),)],
        oracle=elementwise(number),
        attributes={"keys": KEYS},
        kinks=tuple(KEYS),
        kernel=lambda machine, v, keys: elementwise(number)(v, keys=keys),
        machines=(E4M3,),
    )


@pytest.mark.parametrize("what", ["operand", "result"])
def test_rounded_squares(what: str) -> None:
    """sqrt of a rounded square; as a result the root rounds as well."""

    def kernel(machine: Machine, x: Exact) -> Exact:
        square = machine.fl(x * x)
        root = elementwise(lambda s, v: mp.sign(v) * mp.sqrt(s))(square, x)
        return machine.fl(root) if what == "result" else root

    x = np.array([1.5, -0.25, 0.0, 3.0])
    check_rule(
        lookup("certify", "RootOfSquare", 1),
        [((x, x + 0.5),)],
        [(x,), (np.array([2.0**-12, -(2.0**-16), 5e-324]),)],
        oracle=elementwise(lambda v: mpf(v)),
        kernel=kernel,
        machines=(E5M2, E4M3),
        exact_push=True,
    )
