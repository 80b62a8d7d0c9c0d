"""The rule kit is itself on trial: every planted lie must be caught, by the law that it breaks, and the honest rule must pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics import ops
from certify.semantics.contract import Linearization, lookup
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import E4M3, E5M2

assert ops is not None


class Liar:
    """An honest rule, one verb of which is answered by `tell(honest answer, arguments)`."""

    def __init__(self, rule: Any, verb: str, tell: Callable[..., Any]) -> None:
        self._rule, self._verb, self._tell = rule, verb, tell

    def __getattr__(self, name: str) -> Any:
        honest = getattr(self._rule, name)
        if name != self._verb:
            return honest
        return lambda *x, **attributes: self._tell(honest(*x, **attributes), *x)


def check_tanh(rule: Any) -> None:
    x = np.array([-1.5, -0.25, 0.0, 0.75, 2.0])
    check_rule(
        rule,
        [((x, x + np.array([0.5, 1.0, 0.25, 0.125, 2.0])),)],
        [(x,)],
        oracle=elementwise(mp.tanh),
        smooth=[(x,)],
        kernel=lambda machine, x: machine.fl_elementary(elementwise(mp.tanh)(x)),
        machines=(E5M2, E4M3),
        exact_push=True,
    )


def check_product(rule: Any) -> None:
    a, b = np.array([[1.0, -2.0, 3.0]]), np.array([[0.5], [-1.5]])
    check_rule(
        rule,
        [((a, a + 0.25), (b - 0.5, b))],
        [(a, b)],
        oracle=elementwise(lambda x, y: x * y),
        kernel=lambda machine, x, y: machine.fl(x * y),
        machines=(E4M3,),
    )


def check_abs(rule: Any) -> None:
    x = np.array([-1.5, 0.0, 2.0])
    check_rule(
        rule, [((x - 1, x + 1),)], [(x,)], oracle=elementwise(abs), kernel=lambda machine, x: abs(x), machines=(E5M2,), exact_push=True
    )


def check_quotient(rule: Any) -> None:
    a, b = np.array([1.0, -2.0]), np.array([0.5, -1.5])
    check_rule(rule, [((a, a + 0.25), (b, b + 0.125))], [(a, b)], oracle=elementwise(lambda x, y: x / y))


def check_largest(rule: Any) -> None:
    a, b = np.array([1.0, -2.0, 0.5]), np.array([0.5, -1.5, 0.5])
    check_rule(rule, [((a, a + 0.25), (b, b + 0.25))], [(a, b)], oracle=lambda x, y: np.where(x > y, x, y))


def test_honest_rules_pass() -> None:
    check_tanh(lookup("", "Tanh", 13))
    check_product(lookup("", "Mul", 14))
    check_abs(lookup("", "Abs", 13))


def pulled(change: Callable[[Enclosure | None], Enclosure | None], order: int = 1) -> Callable[..., Any]:
    """Slope intervals that `change` spoils, for operands in this order."""
    return lambda pull, *_: lambda a: [change(part) for part in pull(a)][::order]


@pytest.mark.parametrize(
    ("check", "name", "tell"),
    [
        (check_tanh, "Tanh", pulled(lambda S: None if S is None else Enclosure(0.99 * S.lo, 0.99 * S.hi))),
        (check_tanh, "Tanh", pulled(lambda S: None if S is None else Enclosure.point(S.mid))),
        (check_product, "Mul", pulled(lambda S: S and Enclosure(S.lo + 0.01 * S.rad, S.hi - 0.01 * S.rad))),
        (check_product, "Mul", lambda pull, X, r: lookup("", "Mul", 14).slopes(X, (r[0], None if r[1] is None else 0.0 * r[1]))),
        (check_product, "Mul", lambda pull, *_: lambda a: pull(Enclosure.point(a.mid))),
        (check_abs, "Abs", pulled(lambda S: None if S is None else Enclosure(np.maximum(S.lo, 0.0), np.maximum(S.hi, 0.0)))),
        (check_quotient, "Div", pulled(lambda S: None if S is None else Enclosure(-S.hi, -S.lo))),
        (check_largest, "Max", pulled(lambda S: S, -1)),
        (check_largest, "Max", pulled(lambda S: None if S is None else Enclosure(0.6 * S.lo, 0.6 * S.hi))),
    ],
)
def test_a_lie_about_slopes_is_caught(check: Callable[[Any], None], name: str, tell: Callable[..., Any]) -> None:
    check(lookup("", name, 14 if name in ("Mul", "Div") else 13))
    with pytest.raises(LawBroken, match="slope intervals"):
        check(Liar(lookup("", name, 14 if name in ("Mul", "Div") else 13), "slopes", tell))


def steeper(L: Linearization, *_: Any) -> Linearization:
    """A slope off by 1 %, consistently in push, pull and magnitude."""
    return replace(
        L,
        push=lambda d: 1.01 * L.push(d),
        pull=lambda a: [None if p is None else 1.01 * p for p in L.pull(a)],
        magnitude=lambda d: 1.011 * L.magnitude(d),
    )


def smaller_remainder(L: Linearization, *_: Any) -> Linearization:
    return replace(L, radius=np.where(np.isfinite(L.radius), 0.99 * L.radius, L.radius))


def inward_remainder(L: Linearization, *_: Any) -> Linearization:
    """Not even one part in 2^44 is lost on the kit."""
    return replace(L, radius=np.where(np.isfinite(L.radius), L.radius * (1 - 2.0**-44), L.radius))


def shifted(L: Linearization, *_: Any) -> Linearization:
    return replace(L, shift=L.shift + 1e-3 * (L.radius > 0))


def pull_off(L: Linearization, *_: Any) -> Linearization:
    return replace(L, pull=lambda a: [None if p is None else p * (1 + 2.0**-40) for p in L.pull(a)])


def swapped(L: Linearization, *_: Any) -> Linearization:
    """push takes its two operands the wrong way round where their shapes allow; pull stays."""
    return replace(L, push=lambda d: -L.push([None if d[0] is None else -d[0], d[1]]))


def small_magnitude(L: Linearization, *_: Any) -> Linearization:
    return replace(L, magnitude=lambda d: 0.999 * L.magnitude(d))


def zero_for_inf(L: Linearization, *_: Any) -> Linearization:
    return replace(L, radius=np.where(np.isinf(L.radius), 1e100, L.radius))


def not_a_number(L: Linearization, *_: Any) -> Linearization:
    return replace(L, radius=np.where(L.radius > 1.0, np.nan, L.radius))


def inward(Y: Enclosure, *_: Any) -> Enclosure:
    return Enclosure(np.where(Y.lo == Y.hi, Y.lo, Y.lo + 2.0**-20 * (Y.hi - Y.lo)), Y.hi)


def rounded_to_nearest(Y: Enclosure, *_: Any) -> Enclosure:
    """One number instead of the interval around it: inward rounding."""
    thin = Y.hi - Y.lo < 2.0**-40
    return Enclosure(np.where(thin, Y.mid, Y.lo), np.where(thin, Y.mid, Y.hi))


def not_isotone(Y: Enclosure, X: Any) -> Enclosure:
    """Thin boxes get a careless margin that wide ones do not."""
    margin = np.where(X[0].hi - X[0].lo < 0.1, 10.0, 0.0)
    return Y.widen(margin)


LIES: list[tuple[str, Callable[[Any], None], str, str, Callable[..., Any], str]] = [
    ("Tanh", check_tanh, "steeper", "linearize", steeper, "remainder"),
    ("Tanh", check_tanh, "remainder 1 % short", "linearize", smaller_remainder, "remainder"),
    ("Mul", check_product, "remainder 1 % short", "linearize", smaller_remainder, "remainder"),
    ("Mul", check_product, "remainder rounded inward", "linearize", inward_remainder, "remainder"),
    ("Abs", check_abs, "remainder rounded inward", "linearize", inward_remainder, "remainder"),
    ("Tanh", check_tanh, "shift", "linearize", shifted, "remainder"),
    ("Tanh", check_tanh, "pull is not the transpose", "linearize", pull_off, "<push d, a>"),
    ("Mul", check_product, "push negates an operand", "linearize", swapped, "<push d, a>"),
    ("Mul", check_product, "magnitude", "linearize", small_magnitude, "magnitude"),
    ("Mul", check_product, "finite where it is inf", "linearize", zero_for_inf, "remainder"),
    ("Tanh", check_tanh, "NaN", "linearize", not_a_number, "shift is finite"),
    ("Tanh", check_tanh, "enclosure shrunk", "enclose", inward, "inclusion"),
    ("Tanh", check_tanh, "enclosure rounded to nearest", "enclose", rounded_to_nearest, "inclusion"),
    ("Tanh", check_tanh, "not isotone", "enclose", not_isotone, "isotonicity"),
    ("Tanh", check_tanh, "modulus short", "modulus", lambda m, *_: 0.99 * m, "modulus >="),
    ("Tanh", check_tanh, "modulus careless", "modulus", lambda m, *_: 1.01 * m, "modulus <="),
    ("Tanh", check_tanh, "rounding forgotten", "rounding", lambda b, *_: 0.0 * b, "rounding"),
    ("Tanh", check_tanh, "storing forgotten", "rounding", lambda b, *_: 0.75 * b, "rounding"),
    ("Mul", check_product, "rounding halved", "rounding", lambda b, *_: 0.5 * b, "rounding"),
    ("Abs", check_abs, "quantum invented", "quantum", lambda q, *_: np.maximum(q, 1.0), "quantum divides"),
    ("Tanh", check_tanh, "quantum invented", "quantum", lambda q, *_: 2.0**-60, "quantum divides"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "check", "what", "verb", "tell", "law"), LIES, ids=[f"{lie[0]} {lie[2]}" for lie in LIES])
def test_lie_is_caught(name: str, check: Any, what: str, verb: str, tell: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=rf"^{re.escape(law)}"):
        check(Liar(lookup("", name, 28), verb, tell))


def test_wrong_function_is_caught() -> None:
    with pytest.raises(LawBroken):
        check_tanh(Liar(lookup("", "Tanh", 13), "value", lambda y, x: y * (1 + 2.0**-20)))


def test_lost_second_order_is_caught() -> None:
    """A first-order fallback everywhere is sound, but does not shrink as r^2."""

    def linear_only(L: Linearization, X: Any, r: Any) -> Linearization:
        radius: Array = np.zeros(L.radius.shape) if r[0] is None else 0.1 * r[0] + L.radius
        return replace(L, radius=radius)

    with pytest.raises(LawBroken, match="shrinks"):
        check_tanh(Liar(lookup("", "Tanh", 13), "linearize", linear_only))


def test_linear_rule_with_a_remainder_is_caught() -> None:
    add = lookup("", "Neg", 13)
    x = np.array([1.0, 2.0])
    with pytest.raises(LawBroken, match="no remainder"):
        check_rule(
            Liar(add, "linearize", lambda L, *_: replace(L, radius=L.radius + 1.0)), [((x, x + 1),)], oracle=elementwise(lambda v: -v)
        )


@pytest.mark.parametrize(
    ("name", "check", "word", "law"),
    [
        ("Tanh", check_tanh, "one", "one rounding is one basic operation"),
        ("Tanh", check_tanh, "own", "own roundings are those of one sum"),
        ("Tanh", check_tanh, "ones", "errors says a known word"),
        ("Mul", check_product, "own", "own roundings are those of one sum"),
    ],
)
def test_a_wrong_word_on_roundings_is_caught(name: str, check: Any, word: str, law: str) -> None:
    with pytest.raises(LawBroken, match=rf"^{re.escape(law)}"):
        check(Liar(lookup("", name, 28), "errors", lambda *_: word))
