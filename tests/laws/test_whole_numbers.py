"""Integer quotients, remainders, powers, shifts and bits keep their promises; Python's integers are the oracle."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.ops import bits, whole_numbers
from tests.laws.kit import LawBroken, check_rule, elementwise

RADII = (0.0, 0.5, 1.0, 3.0)
PAIRS = [(np.repeat([-7.0, -6.0, 0.0, 5.0, 100.0], 4), np.tile([-3.0, 1.0, 2.0, 64.0], 5))]
WIDE = [
    ((np.array([-7.0, 3.0, 5.0, 0.0]), np.array([-2.0, 4.0, 5.0, 9.0])), (np.array([2.0, 3.0, -4.0, 5.0]), np.array([2.0, 5.0, -3.0, 5.0])))
]


def whole(name: str) -> Any:
    return lookup("certify", name, 28)


def toward_zero(a: mpf, b: mpf) -> mpf:
    return mp.floor(a / b) if a / b >= 0 else mp.ceil(a / b)


def remainder(a: mpf, b: mpf, fmod: int) -> mpf:
    with mp.workprec(2000):  # whatever the quotient's size
        return a - (toward_zero(a, b) if fmod else mp.floor(a / b)) * b


REAL: dict[str, tuple[dict[str, Any], Callable[..., mpf]]] = {
    "IntegerDiv": ({}, toward_zero),
    "IntegerMod": ({"fmod": 0}, remainder),
    "IntegerMod fmod": ({"fmod": 1}, remainder),
}


@pytest.mark.parametrize("name", REAL)
def test_quotients_and_remainders(name: str) -> None:
    told, oracle = REAL[name]
    check_rule(whole(name.split()[0]), WIDE, PAIRS, oracle=elementwise(oracle), attributes=told, radii=RADII)


def test_quotients_of_large_integers_are_exact() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.integers(-(2**53), 2**53, 2000), rng.integers(1, 2**20, 2000) * rng.choice([-1, 1], 2000)
    near = np.concatenate([a // b * b, a // b * b - 1, a // b * b + 1])
    near, b = near[np.abs(near) <= 2**53], np.tile(b, 3)[np.abs(np.concatenate([a // b * b, a // b * b - 1, a // b * b + 1])) <= 2**53]
    exact = [abs(int(p)) // abs(int(q)) * (1 if (p < 0) == (q < 0) else -1) for p, q in zip(near, b, strict=True)]
    Y = whole("IntegerDiv").enclose(tuple(Enclosure.point(v.astype(np.float64)[None]) for v in (near, b)))
    inside = [lo <= t <= hi for lo, t, hi in zip(map(int, Y.lo[0]), exact, map(int, Y.hi[0]), strict=True)]
    assert all(inside)
    small = np.abs(exact) < 2**50
    assert np.array_equal(Y.lo[0, small], np.array(exact, dtype=np.float64)[small])
    Y = whole("IntegerMod").enclose(tuple(Enclosure.point(v.astype(np.float64)[None]) for v in (near, b)), fmod=0)
    assert [int(y) for y in Y.lo[0]] == [int(p) % int(q) for p, q in zip(near, b, strict=True)]


def test_powers() -> None:
    base, exponent = np.array([-3.0, -1.0, 0.0, 1.0, 2.0, 7.0]), np.array([0.0, 1.0, 2.0, 5.0, 64.0, 1e6 + 1])
    a, b = np.repeat(base, 6), np.tile(exponent, 6)
    Y = whole("IntegerPow").enclose(tuple(Enclosure.point(v[None]) for v in (a, b)))
    for p, q, lo, hi in zip(a, b, Y.lo[0], Y.hi[0], strict=True):
        exact = int(p) ** int(q) if abs(p) < 2 or q < 100 else 2**900
        assert lo <= exact <= hi
        assert (lo == hi == exact) == (abs(exact) <= 2**53)
    assert np.isinf(whole("IntegerDiv").enclose(tuple(Enclosure.point(np.array([[v]])) for v in (1.0, 0.0))).hi).all()
    roots = whole("IntegerPow").enclose(
        (Enclosure.point(np.array([[2.0, 9.0, 8.0, -8.0]])), Enclosure.point(np.array([[0.5, 0.5, -1.0, 0.5]])))
    )
    assert roots.lo[0].tolist() == [1.0, 2.0, 0.0, -np.inf]
    assert roots.hi[0].tolist() == [1.0, 3.0, 0.0, np.inf]


def test_powers_keep_the_laws() -> None:
    oracle = elementwise(lambda a, b: mp.floor(a**b) if mp.isint(b) or a > 0 else mp.nan)
    box = ((np.array([1.0, 2.0]), np.array([3.0, 2.0])), (np.array([1.0, 2.0]), np.array([2.0, 2.0])))
    check_rule(whole("IntegerPow"), [box], [(np.array([2.0, 3.0]), np.array([3.0, 2.0]))], oracle=oracle, radii=(0.0, 0.5))


def held(v: int, width: int, signed: bool) -> int:
    """The number of the type with the lowest bits of v."""
    v &= (1 << width) - 1
    return v - (1 << width) if signed and v >> (width - 1) else v


def numbers_of(width: int, signed: bool) -> list[int]:
    return [held(v, width, signed) for v in range(1 << width)]


@pytest.mark.parametrize("signed", [False, True])
def test_shifts_of_every_byte(signed: bool) -> None:
    told = {"bits": 8, "signed": signed}
    pairs = [(x, y) for x in numbers_of(8, signed) for y in range(-1, 10) if signed or y >= 0]
    x, y = (np.array([[p[i] for p in pairs]], dtype=np.float64) for i in (0, 1))
    for left in (True, False):
        for defined in (True, False):
            Y = whole("Shift").enclose((Enclosure.point(x), Enclosure.point(y)), left=left, defined=defined, **told)
            for (a, b), lo, hi in zip(pairs, Y.lo[0], Y.hi[0], strict=True):
                inside = 0 <= b < 8
                exact = (held(a << b, 8, signed) if left else a >> b) if inside else (-1 if a < 0 and not left else 0)
                assert (lo, hi) == ((exact, exact) if inside or defined else (-np.inf, np.inf))


@pytest.mark.parametrize(("name", "of"), [("BitwiseAnd", operator.and_), ("BitwiseOr", operator.or_), ("BitwiseXor", operator.xor)])
def test_bits_of_every_byte_and_of_large_numbers(name: str, of: Callable[[int, int], int]) -> None:
    bytes_ = list(product(range(-128, 128, 5), range(-128, 256, 3)))
    rng = np.random.default_rng(2)
    wide = [(int(a), int(b)) for a, b in rng.integers(-(2**53), 2**53, (200, 2))]
    wide += [(2**63, 1), (2**64 - 2**11, 2**63 + 2**12), (-(2**63), -1), (2**63, 2**63)]
    pairs = bytes_ + wide
    a, b = (np.array([[float(p[i]) for p in pairs]]) for i in (0, 1))
    rule = lookup("", name, 18)
    Y = rule.enclose((Enclosure.point(a), Enclosure.point(b)))
    for (p, q), lo, hi in zip(pairs, Y.lo[0], Y.hi[0], strict=True):
        assert lo <= of(p, q) <= hi
        assert (lo == hi) == (abs(of(p, q)) <= 2**53)
    for _ in range(300):
        low = rng.integers(-200, 200, 2)
        high = low + rng.integers(0, 40, 2)
        box = rule.enclose(tuple(Enclosure(np.array([[float(p)]]), np.array([[float(q)]])) for p, q in zip(low, high, strict=True)))
        found = [of(p, q) for p in range(low[0], high[0] + 1) for q in range(low[1], high[1] + 1)]
        assert box.lo[0, 0] <= min(found)
        assert max(found) <= box.hi[0, 0]


@pytest.mark.parametrize("signed", [False, True])
def test_not_and_wrap(signed: bool) -> None:
    told = {"bits": 8, "signed": signed}
    oracle = elementwise(lambda a, bits, signed: (-1 if signed else 255) - mp.floor(a))
    check_rule(
        whole("BitNot"),
        [((np.array([0.0, 5.0]), np.array([3.0, 5.0])),)],
        [(np.array([0.0, 127.0]),)],
        oracle=oracle,
        attributes=told,
        radii=RADII,
    )
    oracle = elementwise(lambda a, bits, signed: mpf(held(int(mp.floor(a)), 8, signed)))
    x = np.array([-129.0, -128.0, -1.0, 0.0, 127.0, 128.0, 255.0, 256.0, 2.0**53])
    check_rule(whole("Wrap"), [((x, x + 2.0),)], [(x,)], oracle=oracle, attributes=told, radii=RADII)


SHIFTS = [((np.array([-7.0, 3.0, 100.0]), np.array([5.0, 3.0, 120.0])), (np.array([1.0, 2.0, 1.0]), np.array([1.0, 3.0, 1.0])))]


@pytest.mark.parametrize("left", [False, True])
def test_shifts_keep_the_laws(left: bool) -> None:
    def shift(x: mpf, y: mpf, bits: int, signed: bool, left: bool, defined: bool) -> mpf:
        a, b = int(mp.floor(x)), int(mp.floor(y))
        if not 0 <= b < 8:
            return mpf(-1 if a < 0 and not left else 0)
        return mpf(held(a << b, 8, True) if left else a >> b)

    told = {"bits": 8, "signed": True, "left": left, "defined": True}
    check_rule(
        whole("Shift"), SHIFTS, [(np.array([1.0, -8.0]), np.array([3.0, 1.0]))], oracle=elementwise(shift), attributes=told, radii=RADII
    )


def test_bits_of_floats() -> None:
    x = np.array([[1.0, -2.5, 2.0**127, 0.0]])
    Y = whole("Reinterpret").enclose((Enclosure.point(x),), source=1, target=6)
    assert np.array_equal(Y.lo[0, :3], x[0, :3].astype(np.float32).view(np.int32).astype(np.float64))
    assert np.array_equal(Y.lo[0, :3], Y.hi[0, :3])
    assert Y.hi[0, 3] - Y.lo[0, 3] == np.inf  # -0 is another pattern
    back = whole("Reinterpret").enclose((Enclosure.point(Y.lo[:, :3]),), source=6, target=1)
    assert np.array_equal(back.lo[0], x[0, :3].astype(np.float32).astype(np.float64))
    nan = whole("Reinterpret").enclose((Enclosure.point(np.array([[2.0**31 - 1]])),), source=6, target=1)
    assert (nan.lo[0, 0], nan.hi[0, 0]) == (-np.inf, np.inf)


LIES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "floor for truncation": ("IntegerDiv", {"outcomes": lambda a, b: Enclosure.point(np.floor(a.mid / b.mid))}, REAL["IntegerDiv"]),
    "corners of one divisor": (
        "IntegerDiv",
        {"outcomes": lambda a, b: whole_numbers._quotient_outcomes(a, Enclosure.point(b.lo))},
        REAL["IntegerDiv"],
    ),
    "sign of the dividend": ("IntegerMod", {"value": lambda a, b, fmod: np.fmod(a, b)}, REAL["IntegerMod"]),
    "ends of a remainder": (
        "IntegerMod",
        {"outcomes": lambda a, b, fmod: Enclosure.point(whole_numbers.remainder(a.lo, b.lo, fmod=fmod))},
        REAL["IntegerMod"],
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_caught(lie: str) -> None:
    name, part, (told, oracle) = LIES[lie]
    with pytest.raises(LawBroken):
        check_rule(replace(whole(name), **part), WIDE, PAIRS, oracle=elementwise(oracle), attributes=told, radii=RADII)


def test_halves_hold_every_integer_of_64_bits() -> None:
    x = np.array([-(2.0**63), -1.0, 2.0**64 - 2.0**11, 2.0**32, -(2.0**32) - 1.0])
    high, low = bits._halves(x)
    assert [int(h) * 2**32 + int(m) for h, m in zip(high, low, strict=True)] == [int(v) for v in x]
