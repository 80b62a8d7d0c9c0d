from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.validate.summation import ORDERS, TensorCore, into, order_named

BF16, FP16, FP32, FP64 = (FORMATS[name] for name in ("bf16", "fp16", "fp32", "fp64"))


def in_steps(terms, order, accumulator):
    """Adds Fractions one by one in a given permutation, rounding each partial sum by the format's own rounder."""
    total = Fraction(float(terms[order[0]]))
    for k in order[1:]:
        total = Fraction(float(round_to(float(total + Fraction(float(terms[k]))), accumulator)))
    return float(total)


@pytest.mark.parametrize("accumulator", [BF16, FP16, FP32], ids=lambda f: f.name)
def test_orders_are_what_their_names_say(accumulator):
    rng = np.random.default_rng(0)
    terms = into(rng.standard_normal((9, 5)) * 10.0 ** rng.integers(-3, 3, (9, 5)), accumulator)
    for row in range(5):
        x = terms[:, row]
        expected = {
            "sequential": range(9),
            "reversed": range(8, -1, -1),
            "ascending": np.argsort(np.abs(x), kind="stable"),
            "descending": np.argsort(-np.abs(x), kind="stable"),
            "positives-first": [*np.flatnonzero(x >= 0), *np.flatnonzero(x < 0)],
        }
        for name, order in expected.items():
            assert ORDERS[name].add(terms, accumulator)[row] == in_steps(x, list(order), accumulator)


def test_trees_are_what_their_names_say():
    terms = into(np.random.default_rng(1).standard_normal((7, 3)), BF16)

    def plus(a, b):
        return round_to(a + b, BF16)

    t = list(terms)
    balanced = plus(plus(plus(t[0], t[1]), plus(t[2], t[3])), plus(plus(t[4], t[5]), t[6]))
    assert np.array_equal(ORDERS["pairwise"].add(terms, BF16), balanced)
    threes = plus(plus(plus(plus(t[0], t[1]), t[2]), plus(plus(t[3], t[4]), t[5])), t[6])
    assert np.array_equal(order_named("blocked-3").add(terms, BF16), threes)


@pytest.mark.parametrize("name", [*ORDERS, "blocked-3", "blocked-1", "blocked-1000"])
@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_every_order_adds_every_term_once(name, n):
    terms = np.random.default_rng(n).integers(-9, 10, (n, 4)).astype(np.float64)
    for accumulator in (FP16, FP32, FP64):
        assert np.array_equal(order_named(name).add(terms, accumulator), terms.sum(axis=0))


def test_an_unknown_order_is_refused():
    for name in ("random", "blocked-0", "blocked-x", "blocked"):
        with pytest.raises(ValueError, match="unknown order of summation"):
            order_named(name)


def test_overflow_in_a_partial_sum_is_kept():
    terms = np.array([[6e4], [6e4], [-6e4]])
    assert ORDERS["sequential"].add(terms, FP16)[0] == np.inf
    assert ORDERS["reversed"].add(terms, FP16)[0] == 6e4


def adversary(n=256):
    """A sum of bf16 numbers that loses everything in one order, nothing in another: 256 once, then halves."""
    return np.concatenate([[256.0], np.full(n - 1, 0.5)])[:, None]


def test_an_adversarial_order_catches_a_bound_that_holds_for_another():
    """The bound of a balanced tree, taken for one that holds in any order, does not survive the adversary."""
    terms = adversary()
    exact, u, n = float(terms.sum()), BF16.unit_roundoff, len(terms)
    tree_bound = math.ceil(math.log2(n)) * u / (1 - math.ceil(math.log2(n)) * u) * np.abs(terms).sum()
    any_order_bound = (n - 1) * u * np.abs(terms).sum()
    worst = {name: abs(float(ORDERS[name].add(terms, BF16)[0]) - exact) for name in ORDERS}
    assert worst["pairwise"] <= tree_bound
    assert worst["descending"] > tree_bound
    assert max(worst.values()) <= any_order_bound


class TestTensorCore:
    def exactly(self, core, products, initial):
        """The published model in Fractions."""
        total = Fraction(initial)
        for start in range(0, len(products), core.block):
            terms = [total, *(Fraction(float(p)) for p in products[start : start + core.block])]
            largest = max(abs(t) for t in terms)
            if largest:
                quantum = Fraction(2) ** (math.frexp(float(largest))[1] - 1 - core.fraction)
                total = sum((Fraction(math.trunc(t / quantum)) * quantum for t in terms), Fraction(0))
            total = Fraction(float(round_to(float(total), core.result, "zero")))
        return float(total)

    @pytest.mark.parametrize(
        "core",
        [
            TensorCore("v100", 23, 4),
            TensorCore("a100", 24, 8),
            TensorCore("h100", 25, 16),
            TensorCore("h100-fp8", 13, 32, Format("e8m13", 14, -126, 127)),
        ],
        ids=lambda core: core.name,
    )
    def test_it_is_the_published_model_to_the_bit(self, core):
        rng = np.random.default_rng(core.block)
        a, b = (into(rng.standard_normal((70, 6)) * 2.0 ** rng.integers(-9, 9, (70, 6)), FP16) for _ in range(2))
        initial = into(rng.standard_normal(6), FP32)
        got = core.add(a * b, initial)
        assert got.tolist() == [self.exactly(core, (a * b)[:, row], float(initial[row])) for row in range(6)]

    def test_its_error_stays_within_the_published_bound(self):
        rng = np.random.default_rng(7)
        core = TensorCore("h100", 25, 16)
        a, b = (into(rng.standard_normal((16, 500)), FP16) for _ in range(2))
        products = a * b
        bound = (core.block + 1) * 2.0**-core.fraction * np.abs(products).max(axis=0) + 2.0**-23 * np.abs(products.sum(axis=0)) * (
            1 + 2.0**-20
        )
        difference = np.abs(core.add(products, np.zeros(500)) - products.sum(axis=0))
        assert (difference <= bound).all()
        assert difference.max() > 0.0

    def test_overflow_stays_overflow(self):
        core = TensorCore("a100", 24, 8)
        assert core.add(np.array([[np.inf], [1.0]]), np.zeros(1))[0] == np.inf
        assert np.isnan(core.add(np.array([[np.inf], [-np.inf]]), np.zeros(1))[0])
        assert core.add(np.zeros((8, 1)), np.zeros(1))[0] == 0.0
