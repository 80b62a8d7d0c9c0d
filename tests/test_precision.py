"""How many bits a budget needs: the answer is proved, and one bit less is not."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from certify.engines.adjoint import solve
from certify.errors import UsageError
from certify.number.formats import FORMATS, synthetic_format
from certify.precision import Precision, precision_for
from certify.request import DTYPES, Request
from tests.engines.networks import perceptron, problems
from tests.graph.build import parsed

NETWORK = perceptron([6, 8, 3], "Relu", 0)
POINTS = np.random.default_rng(0).uniform(-1, 1, (3, 1, 6)).astype(np.float32)


def answer(budget: float, model: onnx.ModelProto = NETWORK, **options: object) -> Precision:
    return precision_for(Request(model=model, data={"x": POINTS}, **options), budget)  # type: ignore[arg-type]


def proved(precision: int, model: onnx.ModelProto = NETWORK) -> float:
    """The largest bound of rounding and conversion together, found anew."""
    from certify.analysis.bind import bind
    from certify.analysis.reference import at_points, stored_inputs
    from certify.graph.load import load
    from certify.profiles import profile_named

    program = bind(load(model), profile_named("wide", synthetic_format(precision), None, "any"))
    largest = 0.0
    for point in POINTS.astype(np.float64):
        held, radii = stored_inputs(program, {"x": point[None]})
        stored, exact = at_points(program, program.stored, held, radii), at_points(program, program.exact, {"x": point[None]}, {})
        moved = np.abs(stored.values["y"].lo - exact.values["y"].lo)
        largest = max(largest, float((solve(stored)[0].outputs["y"] + moved).max()))
    return largest


@pytest.mark.parametrize("budget", [1.0, 1e-1, 1e-2, 1e-3, 1e-5, 1e-7, 1e-10])
def test_the_answer_is_proved_and_one_bit_less_is_not(budget: float) -> None:
    found = answer(budget)
    assert found.precision is not None
    assert found.bound <= budget
    assert found.below is None or found.below > budget
    assert proved(found.precision) == pytest.approx(found.bound, rel=1e-6)
    if found.precision > 1:
        assert proved(found.precision - 1) > budget


def test_more_bits_for_less_error() -> None:
    bits = [answer(budget).precision or 54 for budget in (10.0, 1e-1, 1e-3, 1e-6, 1e-12)]
    assert bits == sorted(bits)
    assert bits[0] < bits[-1]


@pytest.mark.parametrize("budget", [0.0, 1e-30])
def test_nothing_is_promised_that_53_bits_do_not_keep(budget: float) -> None:
    found = answer(budget)
    assert found.precision is None
    assert budget < found.bound < 1e-12
    assert not any(row.within for row in found.formats)


@pytest.mark.parametrize(("bits", "name"), [(8, "bf16"), (24, "fp32"), (53, "fp64")])
def test_bits_and_formats_agree(bits: int, name: str) -> None:
    """p bits are the named format where one has them: what is answered and what is listed is one scale."""
    listed = {row.name: row.bound for row in answer(1.0).formats}
    assert tuple(listed) == DTYPES
    found = answer(listed[name])
    assert found.precision is not None
    assert found.precision <= bits
    assert answer(math.nextafter(listed[name], 0.0)).precision != bits


def test_each_format_is_judged_by_its_proved_bound() -> None:
    found = answer(1e-2)
    for row in found.formats:
        assert row.precision == FORMATS[row.name].precision
        assert row.within == (row.bound <= 1e-2)
    assert {row.name for row in found.formats if row.within} >= {"fp64", "fp32"}


def test_the_accumulator_is_the_profiles() -> None:
    """A narrow accumulator costs bits, in the estimate and in the proof."""
    wide, narrow = answer(1e-3), answer(1e-3, profile="ieee")
    assert wide.precision is not None
    assert narrow.precision is not None
    assert narrow.precision > wide.precision
    of = {row.name: row for row in wide.formats}
    for row in narrow.formats:
        if row.precision < 24:
            assert row.estimate > of[row.name].estimate
    assert answer(1e-3, accumulate="fp16").precision is None


def test_a_model_without_rounding_needs_the_bits_of_its_inputs() -> None:
    model = parsed("g (float[1, 6] x) => (float[1, 6] y) { y = Relu(x) }")
    found = answer(0.0, model)
    assert found.precision == 24
    assert (found.store, found.accumulate) == (0.0, 0.0)
    assert found.convert == pytest.approx(POINTS.max())


def test_formulas_name_the_steps() -> None:
    assert [(row.node, row.op, row.step, row.text) for row in answer(1.0).formulas] == [
        ("gemm0", "Gemm", "Gemm", "6*kappa*u_acc + u_store"),
        ("gemm1", "Gemm", "Gemm", "8*kappa*u_acc + u_store"),
    ]


def test_several_outputs_share_the_budget() -> None:
    model = parsed("g (float[1, 6] x) => (float[1, 6] y, float[1, 6] z) { y = Mul(x, x) z = Mul(y, c) }", c=np.float32([1000.0]))
    one = parsed("g (float[1, 6] x) => (float[1, 6] y) { y = Mul(x, x) }")
    both, alone = answer(1e-3, model).precision, answer(1e-3, one).precision
    assert both is not None
    assert alone is not None
    assert both > alone + 5


def test_regions_are_refused() -> None:
    with pytest.raises(UsageError, match="--region"):
        precision_for(Request(model=NETWORK, region=True), 1.0)


def test_the_problems_of_these_tests_are_the_pipelines() -> None:
    """`problems` of the networks and of the pipeline bound the same."""
    stored, _ = problems(NETWORK, "bf16", POINTS)
    row = next(row for row in answer(1.0).formats if row.name == "bf16")
    assert row.bound >= max(float(solve(stored.case(i))[0].outputs["y"].max()) for i in range(3))
