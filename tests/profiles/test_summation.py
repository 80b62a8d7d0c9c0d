"""Sums and dot products against simulated low-precision kernels: every tree, fused or not, extreme and adversarial operands.

Formats are so small that float64 holds every exact value here, and the comparisons need no tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import TypeAlias

import numpy as np
import pytest

from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.profiles import profile_named, summation
from certify.profiles.arithmetic import NearestArithmetic
from certify.profiles.elementary import Accuracies
from certify.profiles.order import Order, order_named

TINY = Format("tiny", precision=3, emin=-2, emax=3)
SMALL = Format("small", precision=4, emin=-6, emax=7)
ROOMY = Format("roomy", precision=8, emin=-8, emax=12)  # holds products of SMALL, but for underflow
NARROW = Format("narrow", precision=2, emin=-6, emax=7)
PAIRS = [(SMALL, SMALL), (SMALL.flushed(), SMALL.flushed()), (NARROW, SMALL), (SMALL, NARROW), (SMALL, ROOMY)]
ORDERS = ["any", "sequential", "pairwise", "blocked:2", "blocked:3"]
Tree: TypeAlias = "int | tuple[Tree, Tree]"


def numbers(format: Format) -> Array:
    """Every finite number of a small format."""
    steps = np.arange(2**format.precision)
    grid = [np.ldexp(steps, e - format.precision + 1) for e in range(format.emin, format.emax + 1)]
    positive = np.unique(np.concatenate(grid))
    return np.unique(np.concatenate([-positive, positive]))


def trees(leaves: tuple[int, ...]) -> Iterator[Tree]:
    """Every binary tree over the leaves in this order."""
    if len(leaves) == 1:
        yield leaves[0]
    for cut in range(1, len(leaves)):
        yield from product(trees(leaves[:cut]), trees(leaves[cut:]))


def balanced(leaves: tuple[int, ...]) -> Tree:
    half = (len(leaves) + 1) // 2
    return leaves[0] if len(leaves) == 1 else (balanced(leaves[:half]), balanced(leaves[half:]))


def chain(parts: list[Tree]) -> Tree:
    tree = parts[0]
    for part in parts[1:]:
        tree = (tree, part)
    return tree


def shapes(order: Order, m: int) -> list[Tree]:
    """Trees that an order admits over m leaves; operands are random, so that permutations need not be listed."""
    leaves = tuple(range(m))
    if order.kind == "any":
        halves = [chain(list(part)) for part in (leaves[: m // 2], leaves[m // 2 :]) if part]
        return list(trees(leaves)) if m <= 6 else [chain(list(leaves)), balanced(leaves), chain(halves)]
    if order.kind == "sequential":
        return [chain(list(leaves)), chain(list(leaves[::-1]))]
    if order.kind == "pairwise":
        return [balanced(leaves)]
    blocks: list[Tree] = [chain(list(leaves[i : i + order.block])) for i in range(0, m, order.block)]
    return [chain(blocks), chain(blocks[::-1])]


def run(tree: Tree, leaves: Array, format: Format, fused: bool) -> Array:
    """Evaluate the tree on exact leaves (k, samples): rounded one by one, or fused into the addition above where possible."""
    if isinstance(tree, int):
        return round_to(leaves[tree], format)
    left, right = tree
    if fused and isinstance(right, int):
        return round_to(run(left, leaves, format, fused) + leaves[right], format)
    return round_to(run(left, leaves, format, fused) + run(right, leaves, format, fused), format)


def operand_sets(format: Format, k: int, seed: int) -> Array:
    """(k, samples): random, all positive, near powers of two, subnormal, near overflow, cancelling."""
    generator, every = np.random.default_rng(seed), numbers(format)
    positive = every[every > 0]
    top = positive[positive > format.max / 2 ** (format.precision + 1)]
    ones = np.array([1.0, 1.0 + 2 * format.unit_roundoff, 1.0 - format.unit_roundoff, 0.5, 2.0, format.unit_roundoff * 2])
    small = every[np.abs(every) <= 4 * format.smallest_normal]
    some = [generator.choice(pool, (k, 1500)) for pool in (every, positive, top, ones, small, np.concatenate([ones, -ones]))]
    x = np.concatenate(some, axis=1)
    order = np.argsort(np.abs(x[:, ::2]), axis=0)
    x[:, ::2] = np.take_along_axis(x[:, ::2], order, axis=0)  # increasing magnitudes: the most absorption
    return x


Verb: TypeAlias = "Callable[[NearestArithmetic, int, Array, Array], Array]"


def sum_bound(arithmetic: NearestArithmetic, n: int, t: Array, c: Array) -> Array:
    return arithmetic.sum(n, np.abs(t).sum(0), np.abs(t.sum(0)), np.abs(t).max(0))


def dot_bound(arithmetic: NearestArithmetic, n: int, t: Array, c: Array) -> Array:
    return arithmetic.dot(n, np.abs(t).sum(0), np.abs(t.sum(0) + c), np.abs(t).max(0), np.abs(c))


def arithmetic_of(storage: Format, accumulator: Format, order: str) -> NearestArithmetic:
    compute = accumulator if accumulator.contains(storage) else storage
    return NearestArithmetic(storage, compute, accumulator, (storage, storage), order_named(order), Accuracies())


def attack(arithmetic: NearestArithmetic, n: int, t: Array, c: Array | None, fused: bool, bound: Array) -> float:
    """The largest observed error / bound over all trees; a kernel that overflows where the bound is finite counts as inf."""
    leaves = t if c is None else np.concatenate([t, c[None]])
    worst = 0.0
    with np.errstate(all="ignore"):
        for tree in shapes(arithmetic.order, n):
            whole = tree if c is None else (tree, n)
            got = round_to(run(whole, leaves, arithmetic.accumulator, fused), arithmetic.storage)
            error = np.abs(got - leaves.sum(0))
            error = np.where(np.isnan(error), np.inf, error)
            ratio = np.where(bound == np.inf, 0.0, np.where(error == 0.0, 0.0, error / np.where(bound > 0.0, bound, 5e-324)))
            worst = max(worst, float(ratio.max()))
    return worst


@pytest.mark.parametrize("format", [TINY, TINY.flushed()])
def test_every_triple_of_a_tiny_format(format: Format) -> None:
    every = numbers(TINY)
    if not format.subnormals:
        every = every[(every == 0.0) | (np.abs(every) >= format.smallest_normal)]
    t = np.array(np.meshgrid(every, every, every)).reshape(3, -1)
    arithmetic = arithmetic_of(format, format, "any")
    worst = attack(arithmetic, 3, t, None, False, sum_bound(arithmetic, 3, t, t[0]))
    assert worst <= 1.0
    assert worst > (0.999 if format.subnormals else 0.6)  # the bound is attained


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("storage", "accumulator"), PAIRS)
def test_sums(storage: Format, accumulator: Format, order: str) -> None:
    arithmetic = arithmetic_of(storage, accumulator, order)
    for n in (1, 2, 3, 5, 6, 11):
        t = round_to(operand_sets(storage, n, n), storage)
        assert attack(arithmetic, n, t, None, False, sum_bound(arithmetic, n, t, t[0])) <= 1.0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("storage", "accumulator"), PAIRS)
def test_dot_products(storage: Format, accumulator: Format, order: str, fused: bool) -> None:
    arithmetic = arithmetic_of(storage, accumulator, order)
    for n in (1, 2, 3, 5, 11):
        a, b = (round_to(operand_sets(storage, n, seed), storage) for seed in (n, n + 50))
        c = round_to(operand_sets(storage, 1, 7)[0], storage)
        b = np.where(np.arange(b.shape[1]) % 3 == 0, np.sign(b), b)  # a third of the products are no larger than their factors
        for addend in (None, c):
            bound = dot_bound(arithmetic, n, a * b, np.zeros_like(c) if addend is None else c)
            assert attack(arithmetic, n, a * b, addend, fused, bound) <= 1.0


def absorbing(format: Format, n: int) -> Array:
    """A long sequential sum that errs in one direction at every step: the greedy adversary, all terms at most 1."""
    positive = numbers(format)
    positive = positive[(positive > 0) & (positive <= 1.0)]
    total, terms = 1.0, [1.0]
    for _ in range(n - 1):
        lost = (total + positive) - round_to(total + positive, format)
        terms.append(float(positive[lost.argmax()]))
        total = float(round_to(total + terms[-1], format))
    return np.array(terms)[:, None]


@pytest.mark.parametrize("n", [4, 8, 20, 100])
def test_long_sums_hold_and_are_tight(n: int) -> None:
    format = replace(ROOMY, emax=20)
    t = absorbing(format, n)
    arithmetic = arithmetic_of(format, format, "sequential")
    worst = attack(arithmetic, n, t, None, False, sum_bound(arithmetic, n, t, t[0]))
    assert 0.3 < worst <= 1.0


def lie(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Plant one mistake in the bounds."""
    honest = summation.Tree.__init__

    def forgetful(self: summation.Tree, terms: summation.Terms, format: Format) -> None:
        if name == "one addition forgotten":
            terms = replace(terms, nonzero=terms.nonzero - 1.0)
        if name == "products taken as exact":
            terms = replace(terms, leaf="exact")
        if name == "half the largest term":
            terms = replace(terms, largest=0.5 * terms.largest)
        honest(self, terms, format)
        if name == "underflow forgotten":
            self.lost = 0.0
            self.leaf_errors = np.zeros_like(self.leaf_errors)
        if name == "unit roundoff halved":
            self.u, self.v, self.w = 0.5 * self.u, 0.5 * self.v, 0.5 * self.w
        if name == "total instead of subset sums":
            self.subset = np.minimum(self.subset, terms.total)

    monkeypatch.setattr(summation.Tree, "__init__", forgetful)


LIES = [
    "one addition forgotten",
    "products taken as exact",
    "half the largest term",
    "underflow forgotten",
    "unit roundoff halved",
    "total instead of subset sums",
]


def products_of_small() -> Iterator[tuple[NearestArithmetic, int, Array]]:
    """Dot products that refute what is a little wrong: an arithmetic that stores nothing apart, n, and exact products (n, samples)."""
    for accumulator, n in product((SMALL, ROOMY), (2, 3, 5)):
        a, b = operand_sets(SMALL, n, n), operand_sets(SMALL, n, n + 50)
        b = np.where(np.arange(b.shape[1]) % 3 == 0, np.sign(b), b)
        yield replace(arithmetic_of(SMALL, accumulator, "any"), storage=accumulator), n, a * b


@pytest.mark.parametrize("name", LIES)
def test_planted_lies_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same attack refutes each mistake."""
    lie(monkeypatch, name)
    bounds = [(x, n, t, dot_bound(x, n, t, np.zeros_like(t[0]))) for x, n, t in products_of_small()]
    assert max(attack(x, n, t, None, False, bound) for x, n, t, bound in bounds) > 1.0


def test_eight_products_in_fp32() -> None:
    one, fp32 = np.ones(1), FORMATS["fp32"]
    arithmetic = profile_named("wide", None, None, "any").arithmetic("MatMul", [fp32, fp32], fp32, False)
    assert float(arithmetic.dot(8, 8 * one, 8 * one, one)[0]) <= 1.5e-6


def test_orders_are_ranked_and_long_bf16_sums_stay_finite() -> None:
    one, bf16 = np.ones(1), FORMATS["bf16"]
    bounds = {}
    for order in ("any", "blocked:128", "pairwise"):
        arithmetic = profile_named("ieee", bf16, None, order).arithmetic("MatMul", [bf16, bf16], bf16, False)
        bounds[order] = float(arithmetic.dot(4096, 4096 * one, one, one)[0])
    assert bounds["pairwise"] < bounds["blocked:128"] < bounds["any"] < np.inf


def test_extreme_arguments_give_infinity_or_zero_and_never_nan() -> None:
    values = np.array([0.0, 5e-324, 1e-40, 1.0, 3e38, 3.4e38, 1e300, np.inf])
    magnitude, total, largest, addend = (x.ravel() for x in np.meshgrid(values, values, values, values))
    for name, order in product(("wide", "ieee", "tensor-core-h100"), ORDERS):
        for dtype in (FORMATS["fp16"], FORMATS["fp32"], FORMATS["fp64"]):
            arithmetic = profile_named(name, dtype, None, order).arithmetic("MatMul", [dtype, dtype], dtype, False)
            for n in (0, 1, 2, 7, 5000):
                for bound in (arithmetic.dot(n, magnitude, total, largest, addend), arithmetic.sum(n, magnitude, total, largest)):
                    assert bound.shape == magnitude.shape
                    assert (bound >= 0.0).all()
                zero = np.zeros(2)
                assert (arithmetic.sum(n, zero, zero, zero) == 0.0).all()


def test_case_axes_broadcast() -> None:
    fp32 = FORMATS["fp32"]
    arithmetic = profile_named("wide", None, None, "blocked:4").arithmetic("MatMul", [fp32, fp32], fp32, False)
    assert arithmetic.dot(9, np.ones((5, 3, 4)), np.ones((5, 1, 1)), np.ones((1, 3, 1)), np.ones((1, 1, 4))).shape == (5, 3, 4)


def test_large_arrays_are_bounded_like_small_ones() -> None:
    fp32, generator = FORMATS["fp32"], np.random.default_rng(2)
    step = profile_named("wide", None, None, "blocked:8").arithmetic("MatMul", [fp32, fp32], fp32, False)
    m = generator.uniform(0, 100, (3, 20_000))
    whole = step.dot(50, m, 0.3 * m, 0.1 * m[:1], m[:, :1])
    rows = [step.dot(50, m[i], 0.3 * m[i], 0.1 * m[0], m[i, :1]) for i in range(3)]
    np.testing.assert_array_equal(whole, np.stack(rows))
    assert np.shape(step.dot(50, np.float64(1.0), np.float64(1.0), np.float64(1.0), 1.0)) == ()


def test_unknown_orders_are_refused() -> None:
    for text in ("blocked", "blocked:0", "blocked:-1", "tree"):
        with pytest.raises(ValueError, match="pairwise, blocked:B"):
            order_named(text)


def test_long_dot_products_as_the_processor_adds_them() -> None:
    """fp32 by BLAS, in order, and in reverse; fp16 step by step: 40 dot products of 2000 terms each."""
    generator = np.random.default_rng(11)
    n, rows = 2000, 40
    for name, native in (("fp32", np.float32), ("fp16", np.float16)):
        format = FORMATS[name]
        a = round_to(generator.standard_normal((rows, n)) + np.arange(rows)[:, None] % 2, format)
        b = round_to(generator.standard_normal((rows, n)) / 64 + (np.arange(rows)[:, None] % 2) / 64, format)
        products = a * b  # exact in float64
        step = profile_named("ieee", format, None, "any").arithmetic("MatMul", [format, format], format, False)
        exact = np.array([math.fsum(row) for row in products])
        bound = step.dot(n, np.abs(products).sum(1) * (1 + 1e-12), np.abs(exact) * (1 + 1e-12), np.abs(products).max(1))
        narrow = products.astype(np.float32).astype(native)
        runs = [np.add.accumulate(line, axis=1, dtype=native)[:, -1] for line in (narrow, narrow[:, ::-1], np.sort(narrow, axis=1))]
        if name == "fp32":
            runs.append(np.einsum("ij,ij->i", a.astype(native), b.astype(native)))
            runs.append(np.diagonal(a.astype(native) @ b.astype(native).T))
        for computed in runs:
            assert (np.abs(computed.astype(np.float64) - exact) <= bound).all()
        assert (np.abs(runs[2].astype(np.float64) - exact) > bound / 200).any()
