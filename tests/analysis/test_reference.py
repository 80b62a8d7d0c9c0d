"""The reference trajectory: its defects enclose the exact function, conversion is what storing changes, overflow is infinite."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from mpmath import mp, mpf

from certify.analysis.bind import bind
from certify.analysis.problem import conversion
from certify.analysis.reference import at_points, over_region, stored_inputs
from certify.engines import adjoint
from certify.graph.load import load
from certify.number.enclosure import Enclosure
from certify.number.formats import format_named
from certify.profiles import profile_named
from tests.analysis.test_bind import GEMM, program


@pytest.mark.parametrize("seed", range(5))
def test_the_defect_covers_the_float64_error_of_a_dot_product(seed: int) -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (double[N, 40] x, double[40, 3] w) => (double[N, 3] y) { y = MatMul(x, w) }
    """
    found = program(text)
    draw = np.random.default_rng(seed)
    points = {"x": draw.normal(size=(1, 1, 40)), "w": draw.normal(size=(1, 40, 3)) * 10.0 ** draw.integers(-9, 9, size=(1, 40, 3))}
    problem = at_points(found, found.exact, points, {})
    with mp.workprec(400):
        for j in range(3):
            exact = sum((mpf(a) * mpf(b) for a, b in zip(points["x"][0, 0], points["w"][0, :, j], strict=True)), mpf(0))
            assert abs(exact - mpf(problem.values["y"].lo[0, 0, j])) <= mpf(problem.defects["y"][0, 0, j])


def test_conversion_is_the_difference_of_two_trajectories() -> None:
    found = program(GEMM.replace("70000.0", "3.0"), "bf16")
    points = {"x": np.array([[[0.7, -0.2]]]).astype(np.float32).astype(np.float64)}
    held, radii = stored_inputs(found, points)
    exact, stored = at_points(found, found.exact, points, {}), at_points(found, found.stored, held, radii)
    by_hand = abs(stored.values["y"].lo - exact.values["y"].lo)
    assert by_hand > 0
    assert (conversion(stored, exact, "y") >= by_hand).all()
    assert (conversion(stored, exact, "y") <= by_hand * (1 + 1e-15)).all()
    assert not conversion(exact, exact, "y").any()


def test_a_swamped_constant_makes_the_bound_infinite() -> None:
    found = program(GEMM, "fp16")
    problem = at_points(found, found.stored, {"x": np.ones((1, 1, 2))}, {})
    bound, _ = adjoint.solve(problem)
    assert np.isinf(bound.outputs["y"]).all()


def test_dot_of_eight_over_a_region_stays_within_25_units() -> None:
    """Gappa's figure for the dot product of 8 on [-1, 1] in fp32 is 1.490e-6 = 25 u, in sequential order; ours is any order."""
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 1, 8] x, float[N, 8, 1] y) => (float[N, 1, 1] z) { z = MatMul(x, y) }
    """
    graph = load(onnx.parser.parse_model(text))
    found = bind(graph, profile_named("wide", format_named("fp32"), None, "any"))
    box = {name: Enclosure(-np.ones((1, *graph.values[name].shape)), np.ones((1, *graph.values[name].shape))) for name in ("x", "y")}
    bound, _ = adjoint.solve(over_region(found, box))
    assert 25 * 2.0**-24 <= float(bound.outputs["z"].max()) <= 1.5e-6


def test_inputs_that_storage_rounds_deviate_over_a_region() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 2] x) => (float[N, 2] y) { y = Identity(x) }
    """
    found = program(text, "fp16")
    problem = over_region(found, {"x": Enclosure(np.full((1, 1, 2), -1.0), np.full((1, 1, 2), 1.0))})
    bound, _ = adjoint.solve(problem)
    assert (bound.outputs["y"] >= 2.0**-12).all()  # half an ulp of fp16 below 1: reached by 1 - 2^-12


def test_a_fully_masked_softmax_has_no_finite_bound() -> None:
    """Found on a public model: softmax of a row of -inf is NaN in every run, so that no finite bound may stand."""
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 3] x) => (float[N, 3] y) <float[1] zero = {0}> {
        mask = Constant <value = float[1] {-inf}> ()
        some = Less(x, zero)
        masked = Where(some, mask, x)
        y = Softmax(masked)
    }
    """
    found = program(text)
    problem = at_points(found, found.exact, {"x": np.array([[[-1.0, -2.0, -3.0]], [[-1.0, 2.0, 3.0]]])}, {})
    every, some = (adjoint.solve(problem.case(i))[0].outputs["y"] for i in range(2))
    assert np.isinf(every).all()
    assert np.isfinite(some).all()


def test_no_arithmetic_sees_an_infinite_operand() -> None:
    """Nor is an element harmed that none reaches."""
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 2] x) => (float[N, 2] y) <float[1] zero = {0}> {
        mask = Constant <value = float[1] {-inf}> ()
        some = Less(x, zero)
        masked = Where(some, mask, x)
        y = Mul(masked, zero)
    }
    """
    found = program(text)
    problem = at_points(found, found.exact, {"x": np.array([[[-1.0, 2.0]]])}, {})
    assert adjoint.solve(problem)[0].outputs["y"].tolist() == [[[np.inf, 0.0]]]


MASKED = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 4] x) => (float[N, 4] y) <float[1, 4] mask = {0, -3.4028235e38, 0, MORE}> { a = Mul(x, x)  b = Add(a, mask)  y = Softmax(b) }
"""


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_mask_that_becomes_infinite_costs_nothing(dtype: str) -> None:
    """-3.4e38 is -inf in 16 bits; a score plus -inf is -inf, and its probability is 0 in every run."""
    found = program(MASKED.replace("MORE", "-1e9"), dtype)
    points = {"x": np.array([[[0.5, 1.0, 2.0, -1.0]]])}
    held, radii = stored_inputs(found, points)
    bound, _ = adjoint.solve(at_points(found, found.stored, held, radii))
    exact = at_points(found, found.exact, points, {})
    assert np.isfinite(bound.outputs["y"]).all()
    assert exact.values["y"].lo[0, 0, 1] < 1e-200
    assert 0.0 < bound.outputs["y"][0, 0, 0] < 0.05
    assert bound.outputs["y"][0, 0, 1] < 1e-6


def test_a_mask_that_hides_everything_in_storage_has_no_bound() -> None:
    """In exact arithmetic the largest of four hidden scores wins; in fp16 all are -inf, and the softmax is NaN."""
    found = program(MASKED.replace("{0,", "{-1e9,").replace(", 0, MORE", ", -1e9, -1e9"), "fp16")
    held, radii = stored_inputs(found, {"x": np.array([[[0.5, 1.0, 2.0, -1.0]]])})
    bound, _ = adjoint.solve(at_points(found, found.stored, held, radii))
    assert np.isinf(bound.outputs["y"]).all()
