"""Pairwise and blocked sums with known partial sums: MatMul's, Gemm's and Conv's own rounding against simulated kernels.

Computed operands lie anywhere within their radii of a point or a box; zeros, fused products, addends, flushed subnormals
and accumulators that hold all products' bits included. No tolerance: float64 holds every exact value here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.number.formats import Format
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.profiles.arithmetic import NearestArithmetic
from certify.profiles.order import Order
from certify.semantics.contract import lookup
from certify.semantics.families import partial
from certify.semantics.families.partial import ConsecutiveSums
from certify.semantics.ops import contraction, convolution  # noqa: F401 - registers the rules
from certify.validate.summation import order_named
from tests.profiles.test_summation import PAIRS, ROOMY, SMALL, Tree, arithmetic_of, chain, operand_sets, run

GEMM, CONV = lookup("", "Gemm", 13), lookup("", "Conv", 11)
QUANTA = (np.zeros(()),) * 3


def paired(parts: list[Tree]) -> Tree:
    """Neighbours, then neighbouring sums, an odd one out passing on."""
    while len(parts) > 1:
        even = len(parts) // 2 * 2
        parts = [(parts[i], parts[i + 1]) for i in range(0, even, 2)] + parts[even:]
    return parts[0]


def admitted(order: Order, n: int, addend: bool, generator: np.random.Generator) -> list[Tree]:
    """Some trees that an order admits over leaves 0 .. n - 1 and the addend n."""
    if order.kind == "pairwise":
        tree = paired(list(range(n)))
        return [(tree, n), (n, tree)] if addend else [tree]
    found: list[Tree] = []
    for inside, outside in ((chain, chain), (paired, chain), (chain, paired)):
        blocks = [list(range(i, min(i + order.block, n))) for i in range(0, n, order.block)]
        parts = [inside([int(k) for k in generator.permutation(block)]) for block in blocks] + [n] * addend
        found += [outside(parts), outside(parts[::-1])]
    return found


def worst(arithmetic: NearestArithmetic, leaves: Array, n: int, bound: Array, seed: int) -> float:
    """The largest observed error / bound; leaves are the n exact products and, if there is one more, the addend."""
    ratio = 0.0
    exact = leaves.sum(0)
    for tree in admitted(arithmetic.order, n, len(leaves) > n, np.random.default_rng(seed)):
        for fused in (False, True):
            with np.errstate(all="ignore"):
                got = round_to(run(tree, leaves, arithmetic.accumulator, fused), arithmetic.storage)
                off = np.where(np.isnan(got), np.inf, np.abs(got - exact))
                share = np.where((bound == np.inf) | (off == 0.0), 0.0, off / np.where(bound > 0.0, bound, 5e-324))
            ratio = max(ratio, float(share.max()))
    return ratio


def surrounded(x: Array, generator: np.random.Generator, thick: bool) -> tuple[Enclosure, Array]:
    """(X, r), x within r of some number of X; half of the numbers are exactly known."""
    share = np.where(
        generator.uniform(size=x.shape) < 0.5, 0.0, generator.uniform(-1.0, 1.0, x.shape) * 2.0 ** generator.integers(-9, 1, x.shape)
    )
    centre = x + share * np.maximum(np.abs(x), 0.1 * (generator.uniform(size=x.shape) < 0.2))
    r = np.where(centre == x, 0.0, np.nextafter(np.abs(centre - x), np.inf))
    if not thick:
        return Enclosure.point(centre), r
    width = np.where(generator.uniform(size=x.shape) < 0.5, 0.0, generator.uniform(size=x.shape) * r)
    return Enclosure(centre - width, centre + 0.5 * width), r


def cases(storage: Format, n: int, seed: int) -> tuple[Array, Array, Array]:
    """Computed operands: a (1, rows, n) of every sort, a third of it zeros in some rows, b (1, n, 1), c (1, rows, 1)."""
    generator = np.random.default_rng(seed)
    a = round_to(operand_sets(storage, n, seed), storage)[:, ::4]
    a = np.where(generator.uniform(size=a.shape) < generator.choice([0.0, 0.3, 0.8], a.shape[1]), 0.0, a)
    b = round_to(operand_sets(storage, n, seed + 9), storage)[:, generator.integers(9000)]
    c = round_to(operand_sets(storage, 1, seed + 3)[0], storage)[::4]
    return a.T[None], b[None, :, None], c[None, :, None]


def attacked(arithmetic: NearestArithmetic, n: int, seed: int) -> float:
    """Gemm with and without an addend, at points and over boxes, on operands with and without deviations."""
    assert GEMM is not None
    generator = np.random.default_rng(seed)
    storage = arithmetic.operands[0]
    a, b, c = cases(storage, n, seed)
    ratio = 0.0
    for deviating, thick, addend in ((False, False, False), (False, False, True), (True, False, False), (True, True, True)):
        A, r = surrounded(a, generator, thick) if deviating else (Enclosure.point(a), None)
        B, q = surrounded(b, generator, thick) if deviating and seed % 2 else (Enclosure.point(b), None)
        leaves = a[0].T * b[0]
        leaves = np.concatenate([leaves, c[..., 0]]) if addend else leaves
        X = (A, B, Enclosure.point(c) if addend else None)
        bound = GEMM.rounding(X, (r, q, None), arithmetic, np.abs(leaves.sum(0))[None, :, None], QUANTA)
        ratio = max(ratio, worst(arithmetic, leaves, n, bound.reshape(-1), seed))
    return ratio


@pytest.mark.parametrize("order", ["pairwise", "blocked:2", "blocked:3"])
@pytest.mark.parametrize(("storage", "accumulator"), PAIRS)
def test_products_of_matrices(storage: Format, accumulator: Format, order: str) -> None:
    arithmetic = arithmetic_of(storage, accumulator, order)
    for n in (1, 2, 3, 4, 6, 7, 11):
        for seed in (n, n + 1):
            assert attacked(arithmetic, n, seed) <= 1.0


@pytest.mark.parametrize("order", ["pairwise", "blocked:4", "blocked:5"])
def test_convolutions_with_padding_in_the_stated_index_order(order: str) -> None:
    """The simulator's order, over window columns (channel, row, column) built here tap by tap."""
    assert CONV is not None
    generator = np.random.default_rng(3)
    x = round_to(generator.standard_normal((1, 1, 4, 5, 5)) * (generator.uniform(size=(1, 1, 4, 5, 5)) < 0.6), ROOMY)
    w = round_to(generator.standard_normal((1, 6, 2, 3, 3)), ROOMY)
    c = round_to(generator.standard_normal((1, 6)), ROOMY)
    arithmetic = arithmetic_of(ROOMY, ROOMY, order)
    padded = np.pad(x[0, 0], ((0, 0), (1, 1), (1, 1)))
    exact, got = np.empty((6, 5, 5)), np.empty((6, 5, 5))
    for o, i, j in np.ndindex(6, 5, 5):
        group = slice(2 * (o // 3), 2 * (o // 3) + 2)
        t = (padded[group, i : i + 3, j : j + 3] * w[0, o]).reshape(-1)
        exact[o, i, j] = t.sum() + c[0, o]
        got[o, i, j] = order_named(order.replace(":", "-")).add(round_to(t[:, None], ROOMY), ROOMY, c[:1, o])[0]
    X = (Enclosure.point(x), Enclosure.point(w), Enclosure.point(c))
    keywords: dict[str, Any] = {"group": 2, "pads": [1, 1, 1, 1]}
    bound = CONV.rounding(X, (None, None, None), arithmetic, np.abs(exact)[None, None], QUANTA, **keywords)
    assert (np.abs(got - exact) <= bound[0, 0]).all()
    any_order = CONV.rounding(X, (None, None, None), arithmetic_of(ROOMY, ROOMY, "any"), np.abs(exact)[None, None], QUANTA, **keywords)
    assert (bound <= any_order).all()
    assert bound.sum() < 0.75 * any_order.sum()


def test_the_pairs_of_long_sums_are_bounded_closely() -> None:
    """Cancelling sums of 1024 terms: far below u times the height times sum |t|, and never below the error."""
    assert GEMM is not None
    generator = np.random.default_rng(7)
    format = replace(ROOMY, emax=30, emin=-30)
    a, b = (round_to(generator.standard_normal(shape), format) for shape in ((1, 300, 1024), (1, 1024, 1)))
    leaves = a[0].T * b[0]
    arithmetic = arithmetic_of(format, format, "pairwise")
    bound = GEMM.rounding(
        (Enclosure.point(a), Enclosure.point(b), None), (None,) * 3, arithmetic, np.abs(leaves.sum(0))[None, :, None], QUANTA
    )
    assert 0.05 < worst(arithmetic, leaves, 1024, bound.reshape(-1), 0) <= 1.0
    assert (bound.reshape(-1) < 3.5 * format.unit_roundoff * np.abs(leaves).sum(0)).all()


def test_too_many_products_are_bounded_without_partial_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    for order in ("pairwise", "blocked:3"):
        arithmetic = arithmetic_of(SMALL, ROOMY, order)
        monkeypatch.setattr(partial, "ADDED", 1)
        monkeypatch.setattr(partial, "MULTIPLIED", 1)
        assert attacked(arithmetic, 7, 2) <= 1.0


def _no_deviation(sums: ConsecutiveSums) -> ConsecutiveSums:
    return replace(sums, radii=(None, None))


LIES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "products taken as exact": lambda patch: _pairs(patch, lambda self, leaf, node, lost: (self, 0.0, node, lost)),
    "half the unit roundoff": lambda patch: _pairs(patch, lambda self, leaf, node, lost: (self, leaf, 0.5 * node, lost)),
    "underflow forgotten": lambda patch: _pairs(patch, lambda self, leaf, node, lost: (self, leaf, node, 0.0)),
    "deviations forgotten": lambda patch: _pairs(patch, lambda self, leaf, node, lost: (_no_deviation(self), leaf, node, lost)),
    "exact up to four times the smaller part": lambda patch: _smaller(patch),
}


def _pairs(patch: pytest.MonkeyPatch, lie: Callable[..., tuple[Any, ...]]) -> None:
    honest = ConsecutiveSums.pairwise
    patch.setattr(ConsecutiveSums, "pairwise", lambda self, leaf, node, lost: honest(*lie(self, leaf, node, lost)))


class _Doubled:
    """numpy, but for a minimum that is twice too large; for one module alone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def minimum(self, a: Any, b: Any) -> Any:
        return 2.0 * np.minimum(a, b)


def _smaller(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(partial, "np", _Doubled())


@pytest.mark.parametrize("name", LIES)
def test_planted_lies_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        LIES[name](patch)
        ratio = max(
            attacked(arithmetic_of(*pair, "pairwise"), n, seed) for pair in (PAIRS[0], PAIRS[-1]) for n in (2, 4) for seed in (1, 2, 3)
        )
    assert ratio > 1.0


def test_blocks_of_the_wrong_terms_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks interleaved instead of consecutive: the same sums, another order, and bounds that do not hold."""
    honest = ConsecutiveSums._matrices

    def interleaved(self: ConsecutiveSums) -> Any:
        left, right, shape = honest(self)
        at = np.argsort(np.arange(left.mid.shape[-1]) % 3, kind="stable")
        return replace(left, mid=left.mid[..., at]), replace(right, mid=right.mid[..., at, :]), shape

    monkeypatch.setattr(ConsecutiveSums, "_matrices", interleaved)
    for order in ("pairwise", "blocked:3"):
        assert max(attacked(arithmetic_of(SMALL, SMALL, order), 9, seed) for seed in (1, 2, 3)) > 1.0


@pytest.mark.parametrize("order", ["pairwise", "blocked:2"])
def test_extreme_operands_give_infinity_and_never_nan(order: str) -> None:
    assert GEMM is not None
    arithmetic = arithmetic_of(SMALL, SMALL, order)
    values = [0.0, 5e-324, 1e-200, 1.0, 100.0, 1e300, np.inf]
    for x in values:
        for r in values:
            a = Enclosure.point(np.array([[[min(x, 1e300), 1.0, 0.0]]]))
            X = (a, Enclosure.point(np.array([[[1.0], [-1.0], [0.0]]])), None)
            radius = np.array([[[r, 0.0, 0.0]]])
            bound = GEMM.rounding(X, (radius, None, None), arithmetic, np.full((1, 1, 1), min(x, 1e300) + r + 1.0), QUANTA)
            assert (bound >= 0.0).all()
            assert bound.item() == np.inf or max(x, r) <= SMALL.max
    none = Enclosure.point(np.zeros((1, 2, 0))), Enclosure.point(np.zeros((1, 0, 3))), None
    assert (GEMM.rounding(none, (None,) * 3, arithmetic, np.zeros((1, 2, 3)), QUANTA) == 0.0).all()
    rows = Enclosure.point(np.zeros((1, 0, 4))), Enclosure.point(np.zeros((1, 4, 3))), None
    assert GEMM.rounding(rows, (None,) * 3, arithmetic, np.zeros((1, 0, 3)), QUANTA).shape == (1, 0, 3)
