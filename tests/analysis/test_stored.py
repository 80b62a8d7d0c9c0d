"""What storing does to constants and results, where it takes two roundings or meets an infinity."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

import certify
from certify.analysis.bind import bind
from certify.graph.load import load
from certify.number.formats import FORMATS
from certify.number.rounding import round_to
from certify.profiles import profile_named


def multiplied(weight: np.ndarray) -> onnx.ModelProto:
    """y = x @ weight, in double."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, weight.shape[0]])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [1, weight.shape[1]])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_a_double_is_stored_before_a_kernel_converts_it() -> None:
    """Through fp32 both weights fall on a tie, and tf32 rounds both down; rounded at once, one would go up and their sum stay put."""
    weight = np.array([[1.0 + 2.0**-11 + 2.0**-40], [1.0 + 2.0**-11 - 2.0**-30]])
    computed = round_to(round_to(weight, FORMATS["fp32"]), FORMATS["tf32"]).sum()
    error = abs(computed - weight.sum())
    assert error > 2.0**-11
    for engine in ("adjoint", "running"):
        found = certify.certify(multiplied(weight), dtype="tf32", data={"x": np.ones((1, 2))}, engine=engine, validate=False)
        assert found.outputs["y"].absolute_bound.max() >= error


@pytest.mark.parametrize("profile", ["wide", "tensor-core-h100"])
def test_a_constant_beyond_fp32_is_infinite_though_its_truncation_to_tf32_is_not(profile: str) -> None:
    program = bind(load(multiplied(np.array([[1e39], [1.0]]))), profile_named(profile, FORMATS["tf32"], None, "any"))
    assert program.stored["w@tf32"].reshape(-1).tolist() == [np.inf, 1.0]
    assert program.exact["w@tf32"].reshape(-1).tolist() == [1e39, 1.0]


def test_an_integer_may_be_rounded_twice_into_a_short_format() -> None:
    """fp32 drops the last bit, which leaves a tie for bf16: more than half an ulp of bf16 is lost."""
    whole = 2**40 + 2**32 + 1
    error = abs(float(np.float32(whole).astype(ml_dtypes.bfloat16)) - whole)
    assert error > 2.0**32
    inputs = [helper.make_tensor_value_info("i", TensorProto.INT64, [1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    found = certify.certify(model, dtype="bf16", data={"i": np.array([[whole]])}, validate=False)
    assert found.outputs["y"].absolute_bound.max() >= error


def test_an_infinity_that_both_models_deliver_is_moved_by_nothing() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 2] x) => (float[N, 2] y) <float k = {0.1}, bool[2] c = {1, 0}> { p = Mul(x, k)  y = Where(c, p, n) }
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array(-np.inf, np.float32), "n"))
    certificate = certify.certify(model, dtype="bf16", data={"x": np.ones((1, 2), np.float32)})
    found = certificate.outputs["y"]
    assert certificate.gate is not None
    assert certificate.gate.exit_code == 0
    assert found.observed_error is not None
    assert found.observed_error.reshape(-1)[1] == 0.0
    assert found.conversion.reshape(-1)[1] == found.absolute_bound.reshape(-1)[1] == 0.0
    assert 0.0 < found.absolute_bound.reshape(-1)[0] < 1e-3
