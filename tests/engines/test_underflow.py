"""Multipliers below float64's range: what they lack is paid for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import certify


def test_a_multiplier_that_underflows_still_carries_an_error_of_large_numbers() -> None:
    """Numbers near 1e300 cancel, and are scaled down twice: the multiplier of what cancelling lost is 3e-330."""
    scales = [np.array(1.73e-165), np.array(1.91e-165)]
    weight = np.array([[1.1], [-1.1000000001]]) * 1e300
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Mul", ["p", "b"], ["q"]),
        helper.make_node("Mul", ["q", "c"], ["y"]),
    ]
    constants = [numpy_helper.from_array(v, name) for v, name in ((weight, "w"), (scales[0], "b"), (scales[1], "c"))]
    inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", 1])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 17)])
    x = np.repeat(np.random.default_rng(0).uniform(1.0, 2.0, (9, 1)), 2, axis=1)
    for engine in ("adjoint", "running"):
        bound = certify.certify(model, data={"x": x}, engine=engine, validate=False).outputs["y"].absolute_bound.reshape(-1)
        for row, limit in zip(x, bound, strict=True):
            computed = (row[0] * weight[0, 0] + row[1] * weight[1, 0]) * scales[0] * scales[1]
            products = sum(Fraction(float(v)) * Fraction(float(w)) for v, w in zip(row, weight[:, 0], strict=True))
            exact = products * Fraction(float(scales[0])) * Fraction(float(scales[1]))
            assert abs(Fraction(float(computed)) - exact) <= Fraction(float(limit))
        assert bound.max() < 1e-42
