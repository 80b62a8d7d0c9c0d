"""Single operations, elementary functions and conversions of the profiles, exhaustively where formats are small."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.profiles import profile_named
from certify.profiles.arithmetic import NearestArithmetic
from certify.profiles.elementary import Accuracies
from certify.profiles.order import order_named
from tests.profiles.test_summation import NARROW, SMALL, numbers

# Twice SMALL's bits and two more, with the same exponents: subnormals of both meet, as for bf16 in fp32.
DOUBLE = Format("double", precision=10, emin=SMALL.emin, emax=SMALL.emax)
SHORT = Format("short", precision=7, emin=SMALL.emin, emax=SMALL.emax)  # too short for single rounding


def arithmetic(storage: Format, compute: Format, conversion: tuple[Format, str] | None = None) -> NearestArithmetic:
    return NearestArithmetic(storage, compute, compute, (storage, storage), order_named("any"), Accuracies(), conversion)


def results(operation: str) -> Array:
    """Exact (or float64-rounded, 53 >= 2p + 2) results of an operation on all pairs of numbers."""
    every = numbers(SMALL)
    a, b = (x.ravel() for x in np.meshgrid(every, every))
    with np.errstate(all="ignore"):
        exact = {"+": a + b, "*": a * b, "/": a / b, "sqrt": np.sqrt(np.abs(every))}[operation]
    return np.asarray(exact[np.isfinite(exact)])


@pytest.mark.parametrize("compute", [SMALL, DOUBLE, SHORT])
@pytest.mark.parametrize("storage", [SMALL, SMALL.flushed()])
def test_an_addition_errs_by_no_more_than_the_smaller_operand(compute: Format, storage: Format) -> None:
    """All pairs of numbers; not claimed where two roundings are not one."""
    if not storage.subnormals:
        compute = compute.flushed()
    every = round_to(numbers(SMALL), storage)
    a, b = (x.ravel() for x in np.meshgrid(every, every))
    machine = arithmetic(storage, compute)
    smaller = np.minimum(np.abs(a), np.abs(b))
    bound = machine.addition(np.abs(a + b), smaller)
    off = np.abs(round_to(round_to(a + b, compute), storage) - (a + b))
    assert (off <= bound).all()
    assert (bound <= machine.round(np.abs(a + b))).all()
    claimed = compute.precision != SHORT.precision
    assert bool((bound[np.isfinite(bound)] <= smaller[np.isfinite(bound)]).all()) == claimed
    wider = NearestArithmetic(storage, compute, compute, (storage, DOUBLE), order_named("any"), Accuracies())
    assert np.array_equal(wider.addition(np.abs(a + b), smaller), wider.round(np.abs(a + b)))


@pytest.mark.parametrize("compute", [SMALL, DOUBLE, SHORT, NARROW])
@pytest.mark.parametrize("storage", [SMALL, SMALL.flushed(), SHORT, NARROW])
def test_a_scaled_number_errs_only_where_bits_are_missing_or_underflow(compute: Format, storage: Format) -> None:
    """All numbers times all powers of two, up to overflow. Rounded once, the bound is attained; flushed, nothing is as large."""
    if not storage.subnormals:
        compute = compute.flushed()
    x, scale = (v.ravel() for v in np.meshgrid(numbers(SMALL), np.ldexp(1.0, np.arange(-8, 9))))
    machine = NearestArithmetic(storage, compute, compute, (SMALL, SMALL), order_named("any"), Accuracies())
    bound = machine.scaled(np.abs(x * scale))
    stored = round_to(round_to(x * scale, compute), storage)
    error = np.where(np.isfinite(stored), np.abs(stored - x * scale), np.inf)
    assert (error <= bound).all()
    assert (bound <= machine.round(np.abs(x * scale))).all()
    at = np.isfinite(bound) & (bound > 0)
    once = storage.subnormals and (compute is storage or storage is SHORT)
    assert (error[at] / bound[at]).max() > (0.99 if once else 0.4)


@pytest.mark.parametrize("operands", [(), (SMALL,), (SMALL, DOUBLE), (SMALL, SMALL, SMALL)])
def test_scaling_is_rounded_where_an_operand_may_have_any_number_of_bits(operands: tuple[Format, ...]) -> None:
    m = np.abs(results("*"))
    machine = NearestArithmetic(SMALL, SMALL, SMALL, operands, order_named("any"), Accuracies())
    assert np.array_equal(machine.scaled(m), machine.round(m))


@pytest.mark.parametrize("compute", [SMALL, DOUBLE, SHORT, NARROW])
@pytest.mark.parametrize("storage", [SMALL, SMALL.flushed(), NARROW])
def test_what_is_delivered_holds_every_rounding_and_nothing_else(compute: Format, storage: Format) -> None:
    exact = np.unique(np.concatenate([results(operation) for operation in ("+", "*", "/")]))
    ways = [round_to(exact, storage), round_to(round_to(exact, compute), storage)]
    machine = arithmetic(storage, compute)
    at = machine.delivered(Enclosure(exact, exact))
    assert np.array_equal(at.lo, np.minimum(*ways))
    assert np.array_equal(at.hi, np.maximum(*ways))
    span = 40
    reached = np.lib.stride_tricks.sliding_window_view(np.stack(ways), span, axis=1)
    over = machine.delivered(Enclosure(exact[: -span + 1], exact[span - 1 :]))
    assert np.array_equal(over.lo, reached.min(axis=(0, 2)))
    assert np.array_equal(over.hi, reached.max(axis=(0, 2)))


@pytest.mark.parametrize("operation", ["+", "*", "/", "sqrt"])
@pytest.mark.parametrize("compute", [SMALL, DOUBLE, SHORT])
@pytest.mark.parametrize("storage", [SMALL, SMALL.flushed()])
def test_one_operation(operation: str, compute: Format, storage: Format) -> None:
    if not storage.subnormals:
        compute = compute.flushed()
    exact = results(operation)
    bound = arithmetic(storage, compute).round(np.abs(exact))
    stored = round_to(round_to(exact, compute), storage)
    error = np.where(np.isfinite(stored), np.abs(stored - exact), np.inf)
    assert (error <= bound).all()
    finite = np.isfinite(bound) & (bound > 0)
    assert (error[finite] / bound[finite]).max() > 0.9


def test_two_roundings_without_room_are_not_taken_for_one() -> None:
    exact = results("*")
    once = replace(arithmetic(SMALL, SMALL))
    stored = round_to(round_to(exact, SHORT), SMALL)
    error = np.where(np.isfinite(stored), np.abs(stored - exact), 0.0)
    assert (error > once.round(np.abs(exact))).any()


def test_multiples_of_a_quantum_are_exact() -> None:
    half = FORMATS["fp16"]
    fp32 = FORMATS["fp32"]
    for compute in (half, fp32):
        step = arithmetic(half, compute)
        m = np.array([2048.0, 2049.0, 2.0**-13, 65504.0, 65536.0, 1.0])
        q = np.array([1.0, 1.0, 2.0**-24, 32.0, 64.0, 2.0**-25])
        np.testing.assert_array_equal(step.round(m, q) == 0.0, [True, False, True, True, False, False])
    flushed = arithmetic(half.flushed(), half.flushed())
    assert flushed.round(np.array([2.0**-15]), half.smallest_subnormal)[0] > 0.0
    generator = np.random.default_rng(0)
    a, b = (round_to(generator.uniform(-4, 4, 10_000), FORMATS["fp8e4m3"]) for _ in range(2))
    differences = a - b  # multiples of 2^-9, the smallest subnormal
    quantum = np.ldexp(1.0, np.frexp(np.minimum(np.where(a == 0, 1, np.abs(a)), np.where(b == 0, 1, np.abs(b))))[1] - 4)
    quantum = np.maximum(quantum, FORMATS["fp8e4m3"].smallest_subnormal)
    bound = arithmetic(FORMATS["fp8e4m3"], FORMATS["fp8e4m3"]).round(np.abs(differences), quantum)
    error = np.abs(round_to(differences, FORMATS["fp8e4m3"]) - differences)
    assert (error <= bound).all()
    assert ((bound == 0.0) & (differences != 0.0)).any()


def test_conversion_truncates_or_rounds() -> None:
    generator, tf32 = np.random.default_rng(1), FORMATS["tf32"]
    x = np.concatenate([generator.uniform(-4, 4, 10_000), np.ldexp(generator.uniform(-1, 1, 1000), -127)])
    for mode in ("nearest", "zero"):
        bound = arithmetic(FORMATS["fp32"], FORMATS["fp32"], (tf32, mode)).convert(np.abs(x))
        assert (np.abs(round_to(x, tf32, mode) - x) <= bound).all()
    truncated = arithmetic(FORMATS["fp32"], FORMATS["fp32"], (tf32, "nearest")).convert(np.abs(x))
    assert (np.abs(round_to(x, tf32, "zero") - x) > truncated).any()


def test_elementary_adds_the_store_only_where_there_is_one() -> None:
    one, half, fp32 = np.ones(1), FORMATS["fp16"], FORMATS["fp32"]
    alone, stored = arithmetic(fp32, fp32).elementary("exp", one), arithmetic(half, fp32).elementary("exp", one)
    assert stored[0] >= alone[0] + half.unit_roundoff / 2
    assert np.isinf(arithmetic(half, fp32).elementary("exp", np.array([65520.0, 1e39, np.inf]))).all()
    for storage, compute in product((half, fp32), (fp32, FORMATS["fp64"])):
        step = arithmetic(storage, compute)
        m = np.array([0.0, 1e-40, 1e-3, 1.0, 3.0, 1000.0])
        relative, absolute = step.accuracy("tanh")
        assert (step.elementary("tanh", m) >= 0.25 * relative * m + absolute * (m == 0.0) * 0.5).all()
        assert relative >= 2 * compute.unit_roundoff


@pytest.mark.parametrize("name", ["wide", "ieee", "tensor-core-h100"])
def test_no_bound_is_nan(name: str) -> None:
    m = np.array([0.0, 5e-324, 1e-310, 1e-45, 1.0, 65504.0, 3.4028235e38, 3.5e38, 1.7e308, np.inf])
    for format in (FORMATS["fp16"], FORMATS["bf16"], FORMATS["fp32"], FORMATS["fp64"]):
        step = profile_named(name, format, None, "any").arithmetic("MatMul", [format, format], format, False)
        for bound in (step.round(m), step.round(m, m), step.elementary("exp", m), step.elementary("sigmoid", m), step.convert(m)):
            assert bound.shape == m.shape
            assert (bound >= 0.0).all()
            assert np.isinf(bound[-1])
