"""The mean of nothing is no number; a sum of no products is 0."""

from __future__ import annotations

import numpy as np
import onnx.numpy_helper
import onnx.parser

import certify


def test_the_mean_of_nothing_has_no_bound() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[1, 2] x) => (float[1, 1] y) <int64[1] s = {0}, int64[1] a = {1}> { p = Slice(x, s, s, a)  y = ReduceMean<axes = [1]>(p) }
    """
    for engine in ("adjoint", "running"):
        found = certify.certify(onnx.parser.parse_model(text), data={"x": np.ones((1, 2), np.float32)}, engine=engine, validate=False)
        assert found.outputs["y"].absolute_bound.tolist() == [[[np.inf]]]


def test_a_sum_of_no_products_is_zero() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[1, 2] x) => (float[1, 3] y) <int64[1] s = {0}, int64[1] a = {1}> { p = Slice(x, s, s, a)  y = MatMul(p, w) }
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((0, 3), np.float32), "w"))
    for engine in ("adjoint", "running"):
        found = certify.certify(model, data={"x": np.ones((1, 2), np.float32)}, engine=engine, validate=False)
        assert not found.outputs["y"].absolute_bound.any()
