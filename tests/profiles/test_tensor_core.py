"""Tensor-core bounds against a simulator of the blocks: aligned, truncated, chained; subnormal factors not normalised."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.profiles import profile_named
from certify.profiles.tensor_core import ARCHITECTURES, Block, TensorCoreArithmetic

FP32 = FORMATS["fp32"]
CASES = [(architecture, operand) for architecture, blocks in ARCHITECTURES.items() for operand in blocks]


def exponent(x: Array, format: Format) -> Array:
    return np.maximum(np.frexp(x)[1] - 1, format.emin)


def block_sum(block: Block, factors: Format, a: Array, b: Array, c: Array) -> Array:
    """One block on (samples, terms) factors and (samples,) accumulators, after MMA-Sim's description."""
    products = np.concatenate([a * b, c[:, None]], axis=1)
    exponents = np.concatenate([exponent(a, factors) + exponent(b, factors), exponent(c, FP32)[:, None]], axis=1)
    E = np.where(products == 0.0, -300, exponents).max(axis=1, keepdims=True)
    aligned = np.trunc(np.ldexp(products, block.fraction - E))
    total = np.ldexp(aligned.sum(axis=1), (E - block.fraction)[:, 0])
    return round_to(total, FP32 if block.kept == 23 else Format("e8m13", 14, -126, 127), "zero")


def run(block: Block, factors: Format, a: Array, b: Array, c: Array, splits: int) -> Array:
    """Blocks in the given order; `splits` chains joined by fp32 additions."""
    results = []
    for part in np.array_split(np.arange(0, a.shape[1], block.terms), splits):
        total = c if not results else np.zeros_like(c)
        for start in part:
            total = block_sum(block, factors, a[:, start : start + block.terms], b[:, start : start + block.terms], total)
        results.append(total)
    total = results[0]
    for other in results[1:]:
        total = round_to(total + other, FP32)
    return total


def operands(format: Format, samples: int, n: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    wide = generator.uniform(-2, 2, (samples, n)) * 2.0 ** generator.integers(-6, 4, (samples, n))
    rows = np.arange(samples)[:, None] % 5
    same_sign = np.abs(wide)
    ones = 1.0 + generator.integers(0, 4, (samples, n)) * 2 * format.unit_roundoff
    low = max(format.smallest_normal, 2.0**-40)
    small = generator.uniform(-2, 2, (samples, n)) * np.where(generator.uniform(size=(samples, n)) < 0.5, low, 1.0)
    cancelling = np.where(np.arange(n) % 2 == 0, ones, -ones)
    return round_to(np.select([rows == 0, rows == 1, rows == 2, rows == 3], [wide, same_sign, ones, small], cancelling), format)


def exact_dot(a: Array, b: Array, c: Array) -> list[Fraction]:
    rows = zip(a, b, c, strict=True)
    return [sum((Fraction(x) * Fraction(y) for x, y in zip(p, q, strict=True)), Fraction(float(z))) for p, q, z in rows]


@pytest.mark.parametrize(("architecture", "operand"), CASES)
def test_blocks_in_any_order_stay_within_the_bound(architecture: str, operand: str) -> None:
    format, block = FORMATS[operand], ARCHITECTURES[architecture][operand]
    profile = profile_named(f"tensor-core-{architecture}", format, None, "any")
    step = profile.arithmetic("MatMul", [format, format], FP32, True)
    assert isinstance(step, TensorCoreArithmetic)
    worst = 0.0
    for n, splits in ((1, 1), (block.terms + 1, 1), (80, 1), (80, 2)):
        a, b = operands(format, 60, n, n), operands(format, 60, n, n + 1)
        c = round_to(np.random.default_rng(n).uniform(-8, 8, 60), FP32) * (np.arange(60) % 2)
        truth = exact_dot(a, b, c)
        magnitude, largest = np.abs(a * b).sum(1) * (1 + 2.0**-40), np.abs(a * b).max(1)
        total = np.array([float(abs(x)) for x in truth]) * (1 + 2.0**-40)
        bound = step.dot(n, magnitude, total, largest, np.abs(c))
        computed = run(block, format, a, b, c, splits)
        for got, want, limit in zip(computed, truth, bound, strict=True):
            assert abs(Fraction(float(got)) - want) <= Fraction(float(limit))
            worst = max(worst, float(abs(Fraction(float(got)) - want) / Fraction(float(limit))))
    assert worst > 0.02  # of this order of magnitude, not a mere safety


def test_the_subnormal_floor_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subnormal factor aligns its block to emin's exponent: without the floor the bound breaks."""
    half, block = FORMATS["fp16"], ARCHITECTURES["h100"]["fp16"]
    a = np.array([[2.0**-24] + [1.5 * 2.0**-13] * 15])
    b = np.array([[2.0**15] + [(1 + 2.0**-10) * 2.0**-12] * 15])
    c, truth = np.zeros(1), exact_dot(a, b, np.zeros(1))[0]
    step = profile_named("tensor-core-h100", half, None, "any").arithmetic("MatMul", [half, half], FP32, True)
    error = abs(Fraction(float(run(block, half, a, b, c, 1)[0])) - truth)
    sizes = (np.abs(a * b).sum(1), np.abs(a * b).sum(1), np.abs(a * b).max(1))
    assert error <= Fraction(float(step.dot(16, *sizes)[0]))
    monkeypatch.setattr(TensorCoreArithmetic, "_floor", lambda self, largest: np.zeros_like(largest))
    assert error > Fraction(float(step.dot(16, *sizes)[0]))


def test_a_contraction_of_one_product_truncates_too() -> None:
    half = FORMATS["fp16"]
    step = profile_named("tensor-core-v100", half, None, "any").arithmetic("Gemm", [half, half, half], half, False)
    one = np.ones(1)
    assert step.round(one, 1.0)[0] > 0.0


def test_everything_but_contractions_is_wide() -> None:
    half = FORMATS["fp16"]
    ours = profile_named("tensor-core-a100", half, None, "any").arithmetic("Add", [half, half], half, False)
    wide = profile_named("wide", half, None, "any").arithmetic("Add", [half, half], half, False)
    m = np.array([0.1, 1.0, 100.0])
    np.testing.assert_array_equal(ours.round(m), wide.round(m))
