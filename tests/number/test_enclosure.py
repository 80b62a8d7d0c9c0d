"""Interval arithmetic against exact rationals: inclusion without tolerance, exact cases exact, infinities without NaN."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.number.enclosure import Enclosure, add, divide, hull, intersect, multiply, square, subtract
from certify.number.upward import Array, add_up, inflate, lift, mul_up, sum_up

OPERATIONS = [(add, operator.add), (subtract, operator.sub), (multiply, operator.mul), (divide, operator.truediv)]
EXACT = Callable[[Fraction, Fraction], Fraction]
BINARY = Callable[[Enclosure, Enclosure], Enclosure]
extreme = st.sampled_from([5e-324, 2.0**-537, 2.0**500, 1.7e308])
finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-8, 8).map(float) | extreme


def interval(x: float, y: float) -> Enclosure:
    return Enclosure(np.array([min(x, y)]), np.array([max(x, y)]))


def below(bound: Array, value: Fraction) -> bool:
    return bound[0] == -np.inf or (np.isfinite(bound[0]) and Fraction(float(bound[0])) <= value)


def above(bound: Array, value: Fraction) -> bool:
    return bound[0] == np.inf or (np.isfinite(bound[0]) and Fraction(float(bound[0])) >= value)


@pytest.mark.parametrize(("ours", "exact"), OPERATIONS)
@given(finite, finite, finite, finite)
def test_results_of_the_ends_are_enclosed(ours: BINARY, exact: EXACT, a: float, b: float, c: float, d: float) -> None:
    X, Y = interval(a, b), interval(c, d)
    Z = ours(X, Y)
    assert Z.lo[0] <= Z.hi[0]
    if exact is operator.truediv and Y.lo[0] <= 0.0 <= Y.hi[0]:
        assert (Z.lo[0], Z.hi[0]) == (-np.inf, np.inf)
        return
    for x, y in product((a, b), (c, d)):
        value = exact(Fraction(x), Fraction(y))
        assert below(Z.lo, value)
        assert above(Z.hi, value)


@given(finite, finite)
def test_squares_are_enclosed_and_not_negative(a: float, b: float) -> None:
    Z = square(interval(a, b))
    assert Z.lo[0] >= 0.0
    for x in (a, b):
        assert above(Z.hi, Fraction(x) ** 2)
    assert below(Z.lo, min(Fraction(a) ** 2, Fraction(b) ** 2))


@given(finite, finite)
def test_midpoint_and_radius_cover_the_interval(a: float, b: float) -> None:
    X = interval(a, b)
    mid, rad = Fraction(float(X.mid[0])), X.rad[0]
    assert min(a, b) <= X.mid[0] <= max(a, b)
    assert rad == np.inf or (Fraction(float(rad)) >= abs(Fraction(a) - mid) and Fraction(float(rad)) >= abs(Fraction(b) - mid))


def test_an_infinite_radius_gives_the_whole_line() -> None:
    X = Enclosure.point(np.array([-np.inf, 0.0, np.inf])).widen(np.array([np.inf]))
    assert (X.lo == -np.inf).all()
    assert (X.hi == np.inf).all()


@given(finite, finite, st.floats(0, allow_infinity=False))
def test_widening_covers(a: float, b: float, radius: float) -> None:
    X = interval(a, b).widen(np.array([radius]))
    assert below(X.lo, Fraction(min(a, b)) - Fraction(radius))
    assert above(X.hi, Fraction(max(a, b)) + Fraction(radius))


def test_exact_cases_stay_points() -> None:
    x, y = Enclosure.point(np.array([1.5, 3.0, 0.0])), Enclosure.point(np.array([0.25, 2.0, 7.0]))
    quotient = divide(Enclosure.point(np.array([3.0, 1.0, 7.0])), Enclosure.point(np.array([2.0, 4.0, 7.0])))
    for Z in (add(x, y), subtract(x, y), multiply(x, y), quotient):
        assert Z.is_point
    assert not add(Enclosure.point(np.array([1.0])), Enclosure.point(np.array([2.0**-60]))).is_point


@pytest.mark.parametrize("ours", [add, subtract, multiply, divide])
def test_infinite_ends_never_give_nan(ours: BINARY) -> None:
    ends = np.array([-np.inf, -1.7e308, -1.0, 0.0, 5e-324, 1.0, np.inf])
    pairs = [(p, q) for p, q in product(ends, ends) if p <= q]
    lo, hi = (np.array(side) for side in zip(*pairs, strict=True))
    X, Y = Enclosure(lo[:, None], hi[:, None]), Enclosure(lo[None], hi[None])
    with np.errstate(all="ignore"):
        Z = ours(X, Y)
    assert not np.isnan(Z.lo).any()
    assert not np.isnan(Z.hi).any()
    assert (Z.lo <= Z.hi).all()


def test_hull_and_intersection() -> None:
    X, Y = interval(0.0, 2.0), interval(1.0, 3.0)
    assert (hull(X, Y).lo[0], hull(X, Y).hi[0]) == (0.0, 3.0)
    assert (intersect(X, Y).lo[0], intersect(X, Y).hi[0]) == (1.0, 2.0)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=20))
def test_upward_sums_and_products(terms: list[float]) -> None:
    x = np.array(terms)
    total = sum((Fraction(t) for t in terms), Fraction(0))
    assert above(np.atleast_1d(sum_up(x)), total)
    assert above(np.atleast_1d(add_up(*x)), total)
    few = x[:3]
    exact = Fraction(1)
    for t in few:
        exact *= Fraction(float(t))
    assert above(np.atleast_1d(mul_up(*few)), exact)


def test_upward_edges() -> None:
    np.testing.assert_array_equal(lift(np.array([0.0, 5e-324, 1.0])), [0.0, 2.0**-500, 1.0])
    assert mul_up(np.array([0.0]), np.array([np.inf]))[0] == 0.0
    with pytest.raises(ValueError, match="too many"):
        inflate(np.ones(1), 2**60)
