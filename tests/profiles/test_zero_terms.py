"""Terms that are exactly zero cost nothing: every tree over sparse terms, zeros of both signs in every place, fused or not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.profiles import profile_named
from certify.profiles.arithmetic import NearestArithmetic
from certify.semantics.contract import lookup
from certify.semantics.ops import contraction  # noqa: F401 - registers the rules
from tests.profiles.test_summation import NARROW, PAIRS, ROOMY, SMALL, arithmetic_of, attack, operand_sets

ORDERS = ["any", "sequential", "pairwise", "blocked:2", "blocked:3"]


def sparse(x: Array, seed: int) -> Array:
    """Two thirds of the entries become zeros of either sign; every number of zeros occurs."""
    generator = np.random.default_rng(seed)
    share = generator.uniform(0.0, 1.2, x.shape[1])
    return np.where(generator.uniform(size=x.shape) < share, np.copysign(0.0, x), x)


def bounds(arithmetic: NearestArithmetic, t: Array, c: Array, nonzero: Array) -> Array:
    return arithmetic.dot(len(t), np.abs(t).sum(0), np.abs(t.sum(0) + c), np.abs(t).max(0), np.abs(c), nonzero)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("storage", "accumulator"), PAIRS)
def test_sparse_dot_products(storage: Format, accumulator: Format, order: str, fused: bool) -> None:
    arithmetic = arithmetic_of(storage, accumulator, order)
    for n in (1, 3, 5, 11):
        a, b = (sparse(round_to(operand_sets(storage, n, seed), storage), seed) for seed in (n, n + 50))
        b = np.where(np.arange(b.shape[1]) % 3 == 0, np.sign(b), b)
        c = round_to(operand_sets(storage, 1, 7)[0], storage)
        nonzero = ((a != 0.0) & (b != 0.0)).sum(0).astype(np.float64)
        for addend in (None, c):
            bound = bounds(arithmetic, a * b, np.zeros_like(c) if addend is None else c, nonzero)
            assert attack(arithmetic, n, a * b, addend, fused, bound) <= 1.0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("storage", "accumulator"), PAIRS)
def test_sparse_sums(storage: Format, accumulator: Format, order: str) -> None:
    arithmetic = arithmetic_of(storage, accumulator, order)
    for n in (2, 5, 11):
        t = sparse(round_to(operand_sets(storage, n, n), storage), n)
        bound = arithmetic.sum(n, np.abs(t).sum(0), np.abs(t.sum(0)), np.abs(t).max(0), (t != 0.0).sum(0).astype(np.float64))
        assert attack(arithmetic, n, t, None, False, bound) <= 1.0


def test_a_product_that_underflows_is_no_zero_and_a_count_too_small_is_refuted() -> None:
    """Both lies are caught by the same attack: products that underflow left out, and one term too few."""
    for storage, accumulator in ((SMALL, SMALL), (NARROW, SMALL)):
        arithmetic = arithmetic_of(storage, accumulator, "any")
        a, b = (sparse(round_to(operand_sets(storage, 3, seed), storage), seed) for seed in (3, 53))
        zero = np.zeros_like(a[0])
        honest = ((a != 0.0) & (b != 0.0)).sum(0).astype(np.float64)
        assert attack(arithmetic, 3, a * b, None, False, bounds(arithmetic, a * b, zero, honest)) <= 1.0
        few = np.maximum(honest - 1.0, 0.0)
        assert attack(arithmetic, 3, a * b, None, False, bounds(arithmetic, a * b, zero, few)) > 1.0
    arithmetic = arithmetic_of(SMALL, SMALL, "any")
    a = np.full((3, 1), SMALL.smallest_subnormal)
    lost = (round_to(a * a, SMALL) != 0.0).sum(0).astype(np.float64)
    assert lost.max() == 0.0
    assert attack(arithmetic, 3, a * a, None, False, bounds(arithmetic, a * a, np.zeros(1), lost)) > 1.0


def test_zeros_cost_nothing_and_none_means_all() -> None:
    one, fp32 = np.ones(1), FORMATS["fp32"]
    for name, order in product(("wide", "ieee"), ORDERS):
        arithmetic = profile_named(name, None, None, order).arithmetic("MatMul", [fp32, fp32], fp32, False)
        sized = (8.0 * one, one, one)
        assert arithmetic.dot(1000, *sized, 0.0, np.full(1, 1000.0)) == arithmetic.dot(1000, *sized)
        if order in ("any", "sequential"):
            assert arithmetic.dot(1000, *sized, 0.0, np.full(1, 8.0)) == arithmetic.dot(8, *sized)
        else:
            assert arithmetic.dot(1000, *sized, 0.0, np.full(1, 8.0)) < 0.1 * arithmetic.dot(1000, 1000.0 * one, one, one)
        assert arithmetic.dot(1000, 0 * one, 0 * one, 0 * one, 0.0, 0 * one) == 0.0
        assert arithmetic.dot(1000, 0 * one, one, 0 * one, 1.0, 0 * one) == 0.0
        assert arithmetic.dot(1000, np.inf * one, np.inf * one, np.inf * one, 0.0, 0 * one) == np.inf


@pytest.mark.parametrize("order", ORDERS)
def test_rules_count_only_what_is_zero_in_every_run(order: str) -> None:
    """MatMul's own rounding on sparse operands: zeros with a deviation, and zeros inside of a box, are no zeros."""
    rule = lookup("", "MatMul", 13)
    assert rule is not None
    arithmetic = arithmetic_of(ROOMY, ROOMY, order)
    generator = np.random.default_rng(5)
    for n in (4, 9):
        a = round_to(sparse(generator.standard_normal((n, 4000)), n).T[:, None, None], ROOMY)  # (4000, 1, 1, n)
        b = round_to(generator.standard_normal((1, 1, n, 1)), ROOMY)
        r = np.where(generator.uniform(size=a.shape) < 0.2, 2.0**-8, 0.0)
        X = (Enclosure(np.where(a == 0.0, a - 2.0**-8 * (np.arange(n) == 1), a), a), Enclosure.point(b))
        computed = round_to(a + generator.choice([-1.0, 0.0, 1.0], a.shape) * r, ROOMY)
        computed = np.where(np.abs(computed - a) <= r, computed, a)
        magnitude = np.abs(rule.value(computed, b))
        bound = rule.rounding(X, (r, None), arithmetic, magnitude, (np.zeros(()), np.zeros(())))
        t = (computed[:, 0, 0] * b[:, 0, :, 0]).T
        assert attack(arithmetic, n, t, None, False, bound.reshape(-1)) <= 1.0


def test_infinite_factors_meet_zeros() -> None:
    rule = lookup("", "MatMul", 13)
    assert rule is not None
    fp32 = FORMATS["fp32"]
    arithmetic = profile_named("wide", None, None, "any").arithmetic("MatMul", [fp32, fp32], fp32, False)
    a, b = np.array([[[1.0, 0.0]]]), np.array([[[0.0], [0.0]]])
    r = np.array([[[np.inf, 0.0]]])
    assert rule.rounding((Enclosure.point(a), Enclosure.point(b)), (r, None), arithmetic, np.zeros((1, 1, 1)), (0.0, 0.0)) == np.inf
