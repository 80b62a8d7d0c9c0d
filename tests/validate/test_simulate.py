from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

from certify.engines import adjoint
from certify.number.formats import FORMATS
from certify.number.rounding import round_to
from certify.validate.emulate import Emulator
from certify.validate.runtime import ValidationUnavailable, run_cases, run_onnxruntime
from certify.validate.simulate import Simulator
from certify.validate.summation import ORDERS, TensorCore
from tests.validate.bound import problems, program_of
from tests.validate.graphs import model

SEQUENTIAL = ORDERS["sequential"]


def conv(groups=1, **attributes):
    rng = np.random.default_rng(groups)
    weights = {"w": rng.standard_normal((4, 4 // groups, 3, 2)).astype(np.float32), "b": rng.standard_normal(4).astype(np.float32)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=groups, **attributes)
    return model([node], {"x": [2, 4, 6, 5]}, {"y": [None] * 4}, weights)


def gemm(**attributes):
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((3, 5)).astype(np.float32), "b": rng.standard_normal(3).astype(np.float32)}
    return model([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, **attributes)], {"x": [2, 5]}, {"y": [2, 3]}, weights)


def matmul(left, right):
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": left}, {"y": None}, {"w": small(right, 4)})


def small(shape, seed):
    """Integers: float64 adds their products exactly, in any order."""
    return np.random.default_rng(seed).integers(-7, 8, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32", "fp64"])
def test_matrix_products_without_rounding_agree_with_the_runtime(dtype):
    for left, right in (((2, 5), (5, 3)), ((5,), (5, 3)), ((2, 5), (5,)), ((4, 1, 2, 5), (3, 5, 2)), ((5,), (5,)), ((2, 5), (3, 5, 2))):
        graph = matmul(left, right)
        x = small((3, *left), 5).astype(np.float64)
        plain = np.stack([run_onnxruntime(graph, {"x": case})["y"] for case in x])
        bound = Simulator(program_of(graph, dtype=dtype)).run({"x": x}, SEQUENTIAL)["y"]
        assert np.array_equal(bound, plain)


@pytest.mark.parametrize("order", list(ORDERS))
def test_a_narrow_accumulator_rounds_every_partial_sum(order):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((20, 3)).astype(ml_dtypes.bfloat16).astype(np.float32)
    graph = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [20]}, {"y": [3]}, {"w": weights})
    x = rng.standard_normal(20).astype(ml_dtypes.bfloat16)
    program = program_of(graph, "ieee", "bf16")
    got = Simulator(program).run({"x": x[None].astype(np.float64)}, ORDERS[order])["y"][0]
    native = x[:, None] * weights.astype(ml_dtypes.bfloat16)
    assert np.array_equal(got, ORDERS[order].add(native.astype(np.float64), FORMATS["bf16"]))
    if order == "sequential":
        total = native[0]
        for product in native[1:]:
            total = total + product
        assert np.array_equal(got, total.astype(np.float64))


def test_a_wide_accumulator_rounds_once_at_the_end():
    graph = gemm()
    program = program_of(graph, "wide", "fp16")
    held, _, _ = problems(program, {"x": np.random.default_rng(1).standard_normal((4, 2, 5)).astype(np.float32).astype(np.float64)})
    simulated = Simulator(program).run(held, SEQUENTIAL)["y"]
    emulated = run_cases(Emulator(graph, lambda f: FORMATS["fp16"]), held)["y"]
    ulps = np.abs(simulated - emulated) / np.spacing(np.abs(emulated).astype(np.float16)).astype(np.float64)
    assert ulps.max() <= 1.0  # the orders differ in fp32
    assert np.mean(ulps == 0.0) > 0.9


def test_gemm_scales_the_sum_and_the_addend():
    graph = gemm(alpha=0.5, beta=2.0)
    x = small((1, 2, 5), 6).astype(np.float64)
    program = program_of(graph, dtype="fp64")
    w, b = program.exact["w"][0], program.exact["b"][0]
    assert np.allclose(Simulator(program).run({"x": x}, SEQUENTIAL)["y"], 0.5 * x @ w.T + 2.0 * b, rtol=1e-14)


def test_tf32_operands_are_rounded_on_entry_and_nothing_else():
    graph = matmul((4, 6), (6, 2))
    x = np.random.default_rng(7).standard_normal((1, 4, 6)).astype(np.float32).astype(np.float64)
    program = program_of(graph, dtype="tf32")
    got = Simulator(program).run({"x": x}, SEQUENTIAL)["y"]
    assert np.array_equal(got, (round_to(x, FORMATS["tf32"]) @ program.exact["w"][0]).astype(np.float32))


def test_truncating_hardware_truncates():
    graph = matmul((4, 6), (6, 2))
    x = np.random.default_rng(8).standard_normal((1, 4, 6)).astype(np.float32).astype(np.float64)
    program = program_of(graph, "tensor-core-h100", "tf32")
    got = Simulator(program).run({"x": x}, SEQUENTIAL)["y"]
    products = round_to(x, FORMATS["tf32"], "zero")[0].T[:, :, None] * program.exact["w"][0][:, None, :]
    assert np.array_equal(got[0], TensorCore("", 25, 8).add(products, np.zeros((4, 2))))


def test_means_are_added_in_the_accumulator():
    graph = model([helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)], {"x": [2, 33]}, {"y": [2]}, opset=17)
    x = round_to(np.random.default_rng(9).uniform(0, 4, (1, 2, 33)), FORMATS["fp16"])
    got = Simulator(program_of(graph, "ieee", "fp16")).run({"x": x}, SEQUENTIAL)["y"]
    total = np.zeros(2, np.float16)
    for k in range(33):
        total = total + x[0, :, k].astype(np.float16)
    assert np.array_equal(got[0], (total / np.float16(33)).astype(np.float64))


def test_a_run_beyond_the_limit_is_refused():
    program = program_of(matmul((4, 6), (6, 2)))
    x = np.zeros((1, 4, 6))
    assert Simulator(program, limit=48).run({"x": x}, SEQUENTIAL)["y"].shape == (1, 4, 2)
    with pytest.raises(ValidationUnavailable, match="more than 47 products"):
        Simulator(program, limit=47).run({"x": x}, SEQUENTIAL)


@pytest.mark.parametrize(
    ("groups", "attributes"),
    [
        (1, {}),
        (2, {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        (4, {"dilations": [2, 3], "strides": [1, 2]}),
        (1, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        (2, {"auto_pad": "SAME_LOWER"}),
    ],
)
def test_convolutions_agree_with_the_runtime(groups, attributes):
    from types import SimpleNamespace

    from certify.validate.products import factors

    graph = conv(groups, **attributes)
    x = small((3, 2, 4, 6, 5), 10).astype(np.float64)
    constants = {t.name: np.frombuffer(t.raw_data, np.float32).reshape(tuple(t.dims)).astype(np.float64) for t in graph.graph.initializer}
    step = SimpleNamespace(rule=SimpleNamespace(name="Conv", domain=""), attributes={"group": groups, **attributes})
    found = factors(step, [x, constants["w"][None], constants["b"][None]])
    got = found.shape(found.left @ found.right) + found.addend
    plain = np.stack([run_onnxruntime(graph, {"x": case})["y"] for case in x])
    assert got.shape == plain.shape
    assert np.allclose(got, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("op", "attributes"), [("ReduceSum", {}), ("ReduceMean", {}), ("ReduceL1", {}), ("ReduceSumSquare", {})])
def test_a_sum_of_one_term_goes_through_a_narrow_accumulator(op, attributes):
    """43072 is a number of fp16, and 43008 its nearest of bf16."""
    nodes = [helper.make_node(op, ["x"], ["y"], axes=[0], **attributes)]
    graph = model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, opset=12)
    program = program_of(graph, "wide", "fp16", "bf16")
    x = np.array([[[43072.0, 1.0625]]]) if op != "ReduceSumSquare" else np.array([[[181.25, 1.0625]]])
    held, stored, exact = problems(program, {"x": x})
    moved = np.abs(Simulator(program).run(held, SEQUENTIAL)["y"] - exact.values["y"].mid)
    assert moved.max() > 16.0
    assert (moved <= adjoint.solve(stored)[0].outputs["y"]).all()
