"""Laws of the steps that deliver whole numbers and saturate, and lies about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import lookup
from certify.semantics.families.delivery import Delivery
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import BFLOAT16, E4M3, Machine
from tests.laws.test_lies import Liar

NIBBLE = {"least": -8.0, "greatest": 7.0}
BYTE = {"least": 0.0, "greatest": 255.0}
same = elementwise(lambda x, **_: x)

_x = np.array([-9.0, -8.5, -8.0, -0.5, -0.0, 0.25, 0.5, 1.5, 6.75, 7.0, 7.5, 40.0])
BOXES = [
    ((_x, _x),),
    ((_x, _x + np.array([0.5, 0.5, 0.25, 1.0, 0.5, 0.125, 1.0, 0.0, 0.25, 0.0, 0.5, 1.0])),),
    ((np.array([-300.0, 2.0**-30, 254.0, 255.5]), np.array([-299.0, 2.0**-20, 255.0, 256.0])),),
]
HARD = [(np.array([5e-324, -5e-324, 1e300, -1e300, 2.0**53 + 2.0, 0.5 + 2.0**-53, 0.5 - 2.0**-54]),)]


def to_nearest(ties: Callable[[mpf], mpf]) -> Callable[..., Any]:
    def kernel(machine: Machine, x: Any, *, least: float, greatest: float, fixed: int = 0) -> Any:
        return elementwise(lambda v: min(max(ties(v), mpf(least)), mpf(greatest)))(x)

    return kernel


def away(v: mpf) -> mpf:
    return mp.sign(v) * mp.floor(abs(v) + mpf(0.5))


def twice(machine: Machine, x: Any, *, least: float, greatest: float, fixed: int = 0) -> Any:
    """A multiplier that is off by 2^-31, its product rounded to halves, then to whole numbers, ties away from zero."""
    return elementwise(lambda v: min(max(away(away(2 * v * (1 + mpf(2) ** -31)) / 2), mpf(least)), mpf(greatest)))(x)


def check_quantized(rule: Any, kernel: Callable[..., Any] | None = None, **attributes: Any) -> None:
    check_rule(
        rule,
        BOXES,
        HARD,
        oracle=same,
        attributes=NIBBLE | attributes,
        kinks=(-8.5, 0.5, 7.5),
        kernel=kernel or to_nearest(mp.nint),
        machines=(E4M3, BFLOAT16),
    )


@pytest.mark.parametrize("ties", [mp.nint, away, lambda v: mp.ceil(v - mpf(0.5))])
def test_quantized(ties: Callable[[mpf], mpf]) -> None:
    check_quantized(lookup("certify", "Quantized", 1), to_nearest(ties))


def test_quantized_by_a_fixed_point_multiplier() -> None:
    check_quantized(lookup("certify", "Quantized", 1), twice, fixed=1)


def test_a_fixed_point_multiplier_is_not_covered_unasked() -> None:
    with pytest.raises(LawBroken, match="rounding"):
        check_quantized(lookup("certify", "Quantized", 1), twice)


def test_saturated() -> None:
    """Into the numbers of the machine, or of another format within its own."""
    for ends in (E4M3.max, 448.0):
        check_rule(
            lookup("certify", "Saturated", 1),
            [((np.array([-500.0, -0.3, 447.0]), np.array([-400.0, 0.1, 449.0])),)],
            [(np.array([1e30, -1e30, 464.0, 1e-3, 5e-324, 480.0]),)],
            oracle=same,
            attributes={"least": -ends, "greatest": ends},
            kernel=lambda machine, x, least, greatest: machine.fl(elementwise(lambda v: min(max(v, mpf(least)), mpf(greatest)))(x)),
            machines=(E4M3,),
        )


def test_ranged() -> None:
    check_rule(
        lookup("certify", "Ranged", 1),
        [((np.array([-3.0, 0.0, 200.0]), np.array([3.0, 1.0, 255.0])),)],
        [(np.array([-1.0, 256.0, 255.0]),)],
        oracle=same,
        attributes=BYTE,
        kernel=lambda machine, x, least, greatest: elementwise(lambda v: v if least <= v <= greatest else v % 256)(x),
        machines=(BFLOAT16,),
    )


def test_what_may_be_zero_has_no_bound() -> None:
    check_rule(
        lookup("certify", "Nonzero", 1),
        [((np.array([-1.0, 1.0, 0.0]), np.array([1.0, 2.0, 0.0])),)],
        oracle=same,
        kernel=lambda machine, x: elementwise(lambda v: v if v else mpf(1))(x),
    )


def _born(lie: Callable[[Array, Enclosure], Array]) -> Callable[..., Any]:
    def tell(honest: Array, X: Any, r: Any, *_: Any) -> Array:
        return lie(honest, X[0].widen(r[0]))

    return tell


# lie: (what, verb, tell, law)
LIES: list[tuple[str, str, Callable[..., Any], str]] = [
    ("half forgotten", "rounding", _born(lambda b, v: 0.0 * b), "rounding"),
    ("a quarter for a half", "rounding", _born(lambda b, v: np.where(b <= 0.5, 0.5 * b, b)), "rounding"),
    ("no saturation", "rounding", _born(lambda b, v: np.minimum(b, 0.5)), "rounding"),
    ("saturation at one end only", "rounding", _born(lambda b, v: np.where(v.lo < -8.0, np.minimum(b, 0.5), b)), "rounding"),
    ("the cell of one end", "rounding", _born(lambda b, v: np.where(b <= 0.5, np.abs(v.lo - np.rint(v.lo)), b)), "rounding"),
    ("the whole variation forgotten", "modulus", lambda m, *_: 0.5 * m, "modulus >="),
    ("quantum invented", "quantum", lambda q, *_: 2.0, "quantum divides"),
]


@pytest.mark.parametrize(("what", "verb", "tell", "law"), LIES, ids=[lie[0] for lie in LIES])
def test_lie_is_caught(what: str, verb: str, tell: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=rf"^{re.escape(law)}"):
        check_quantized(Liar(lookup("certify", "Quantized", 1), verb, tell))


def test_known_numbers_cost_what_their_own_rounding_costs() -> None:
    """1/2 is for those that are not known; whole numbers and representable ones are exact."""
    rule = lookup("certify", "Quantized", 1)
    assert isinstance(rule, Delivery)
    X = Enclosure.point(np.array([[2.0, 2.25, 2.5, 7.25, -9.0]]))
    born = rule.rounding((X,), (None,), E4M3, X.mag, [0.0], **NIBBLE)
    assert born.tolist() == [[0.0, 0.25, 0.5, np.nextafter(0.25, 1.0), np.nextafter(1.0, 2.0)]]
    assert rule.rounding((X,), (np.full((1, 5), 0.75),), E4M3, X.mag, [1.0], **NIBBLE)[0, 0] == 0.0
