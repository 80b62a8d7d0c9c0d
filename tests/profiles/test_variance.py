"""How far individual roundings carry a sum: no squares of theirs add up to more, whatever tree adds which numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.profiles import profile_named, summation
from certify.profiles.arithmetic import NearestArithmetic
from certify.profiles.order import order_named
from certify.profiles.summation import terms_of
from certify.profiles.tensor_core import TensorCoreArithmetic
from certify.profiles.variance import summation_deviation, usual_deviation
from tests.profiles.test_summation import (
    NARROW,
    ORDERS,
    ROOMY,
    SMALL,
    Tree,
    arithmetic_of,
    lie,
    numbers,
    operand_sets,
    products_of_small,
    shapes,
)

PAIRS = [(SMALL, SMALL), (NARROW, SMALL), (SMALL, NARROW), (SMALL, ROOMY)]


def squares_of(tree: Tree, leaves: Array, format: Format) -> tuple[Array, Array]:
    """(the computed sum, the sum of the squares of its rounding errors), each leaf and each node rounded."""
    if isinstance(tree, int):
        rounded = round_to(leaves[tree], format)
        return rounded, (rounded - leaves[tree]) ** 2
    (a, first), (b, second) = (squares_of(part, leaves, format) for part in tree)
    rounded = round_to(a + b, format)
    return rounded, first + second + (rounded - (a + b)) ** 2


def attack(arithmetic: NearestArithmetic, n: int, t: Array, c: Array | None, deviation: Array) -> float:
    """The largest sum of squares over the square of what is said of it, over all trees."""
    leaves = t if c is None else np.concatenate([t, c[None]])
    worst = 0.0
    with np.errstate(all="ignore"):
        for tree in shapes(arithmetic.order, n):
            whole = tree if c is None else (tree, n)
            got, squares = squares_of(whole, leaves, arithmetic.accumulator)
            stored = round_to(got, arithmetic.storage)
            squares = np.where(np.isfinite(stored), squares + (stored - got) ** 2, np.inf)
            ratio = np.where(deviation == np.inf, 0.0, np.where(squares == 0.0, 0.0, squares / np.maximum(deviation**2, 5e-324)))
            worst = max(worst, float(np.nan_to_num(ratio, nan=np.inf).max()))
    return worst


def deviation(arithmetic: NearestArithmetic, n: int, t: Array, c: Array) -> Array:
    independent = arithmetic.independent()
    assert independent is not None
    independent.dot(n, np.abs(t).sum(0), np.abs(t.sum(0) + c), np.abs(t).max(0), np.abs(c))
    return np.full(c.shape, np.inf) if independent.deviation is None else independent.deviation  # nothing is said of shared roundings


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("storage", "accumulator"), PAIRS)
def test_no_roundings_carry_a_dot_product_farther(storage: Format, accumulator: Format, order: str) -> None:
    arithmetic = arithmetic_of(storage, accumulator, order)
    for n in (1, 2, 3, 5, 11):
        a, b = (round_to(operand_sets(storage, n, seed), storage) for seed in (n, n + 50))
        c = round_to(operand_sets(storage, 1, 7)[0], storage)
        b = np.where(np.arange(b.shape[1]) % 3 == 0, np.sign(b), b)
        for addend in (None, c):
            said = deviation(arithmetic, n, a * b, np.zeros_like(c) if addend is None else c)
            assert attack(arithmetic, n, a * b, addend, said) <= 1.0


def test_every_triple_of_a_tiny_format() -> None:
    """And the bound is attained, nearly: by one rounding, and by two."""
    format = Format("tiny", precision=3, emin=-2, emax=3)
    every = numbers(format)
    t = np.array(np.meshgrid(every, every, every)).reshape(3, -1)
    arithmetic = arithmetic_of(format, format, "any")
    independent = arithmetic.independent()
    assert independent is not None
    independent.sum(3, np.abs(t).sum(0), np.abs(t.sum(0)), np.abs(t).max(0))
    assert independent.deviation is not None
    assert 0.99 < attack(arithmetic, 3, t, None, independent.deviation) <= 1.0  # of squares: half a per cent too small is seen


LIES = [
    "one addition forgotten",
    "products taken as exact",
    "half the largest term",
    "unit roundoff halved",
    "total instead of subset sums",
]


@pytest.mark.parametrize("name", LIES)
def test_planted_lies_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lie(monkeypatch, name)
    said = [(x, n, t, deviation(x, n, t, np.zeros_like(t[0]))) for x, n, t in products_of_small()]
    assert max(attack(x, n, t, None, least) for x, n, t, least in said) > 1.0


@pytest.mark.parametrize("magnitude", [1e-120, 1e-40, 1.0, 1e30])
@pytest.mark.parametrize("order", ["any", "blocked:128", "pairwise"])
def test_it_grows_with_the_root_of_the_length(order: str, magnitude: float) -> None:
    """Also where squares underflow in the format of the sum."""
    format = FORMATS["fp64"]
    for n in (64, 4096):
        terms = terms_of(n, n * magnitude, magnitude, magnitude, 0.0, "rounded")
        found = float(summation_deviation(terms, format, order_named(order)))
        worst = float(summation.summation_error(terms, format, order_named(order)))
        assert 0.0 < found < worst
        if order == "any":
            assert found > 0.2 * worst / math.sqrt(n)


def test_what_flushes_and_what_truncates_is_not_independent() -> None:
    with pytest.raises(ValueError, match="flushes"):
        summation_deviation(terms_of(3, 3.0, 3.0, 1.0, 0.0, "rounded"), SMALL.flushed(), order_named("any"))
    assert arithmetic_of(SMALL.flushed(), SMALL.flushed(), "any").independent() is None
    fp16 = FORMATS["fp16"]
    core = profile_named("tensor-core-h100", fp16, None, "any").arithmetic("MatMul", [fp16, fp16], fp16, False)
    assert isinstance(core, TensorCoreArithmetic)
    independent = core.independent()
    one = np.ones(1)
    bound = independent.dot(64, 64 * one, 64 * one, one)
    assert independent.deviation is None
    assert (bound == core.dot(64, 64 * one, 64 * one, one)).all()
    assert independent.store(one) == 0.5 * 2.0**-11
    assert 0.0 < independent.unstored.dot(64, 64 * one, 64 * one, one) < bound


def test_usual_deviations_are_those_of_sums_in_random_order() -> None:
    """Within a third, for terms of either sign and for positive ones."""
    generator, format, n, rows = np.random.default_rng(3), FORMATS["fp16"], 200, 4000
    for shift in (0.0, 1.0):
        t = round_to(generator.standard_normal(n) + shift, format)
        each = np.stack([generator.permutation(t) for _ in range(rows)], axis=1)
        total = np.zeros(rows)
        for x in each:
            total = round_to(total + x, format)
        seen = float(np.sqrt(np.mean((total - t.sum()) ** 2)))
        terms = terms_of(n, float(np.abs(t).sum()), float(abs(t.sum())), float(np.abs(t).max()), 0.0, "exact")
        assert 0.66 < float(usual_deviation(terms, format)) / seen < 1.5


def test_addends_that_are_rounded_on_entry_are_shared() -> None:
    """A bias in fp32 that enters sums in fp16: one rounding, which every row has."""
    fp32, one = FORMATS["fp32"], np.ones(1)
    arithmetic = profile_named("wide", fp32, FORMATS["fp16"], "any").arithmetic("Gemm", [fp32, fp32, fp32], fp32, False)
    assert isinstance(arithmetic, NearestArithmetic)
    independent = arithmetic.independent()
    assert independent is not None
    independent.dot(8, 8 * one, 8 * one, one, one)
    assert independent.deviation is None
    independent.dot(8, 8 * one, 8 * one, one)
    assert independent.deviation is not None
