"""A value that may have overflowed may be NaN, and NaN passes through bounded functions: no finite bound may stand after it."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from certify.analysis.problem import Problem
from certify.engines import adjoint, running
from tests.engines.networks import problems

BODIES = {
    "tanh": "b = Sub(a, a)  y = Tanh(b)",
    "sigmoid": "b = Sub(a, a)  y = Sigmoid(b)",
    "clip": "b = Sub(a, a)  low = Constant <value_float = 0.0> ()  high = Constant <value_float = 1.0> ()  y = Clip(b, low, high)",
    "times zero": "y = Mul(a, zero)",
    "matmul": "w = Constant <value = float[2, 2] {0.0, 0.0, 0.0, 0.0}> ()  y = MatMul(a, w)",
    "softmax": "b = Sub(a, a)  y = Softmax(b)",
    "relu": "b = Neg(a)  y = Relu(b)",
}


def overflowing(body: str) -> Problem:
    text = f"""
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 2] x) => (float[N, 2] y) <float[1] zero = {{0}}> {{ a = Mul(x, x)  {body} }}
    """
    stored, _ = problems(onnx.parser.parse_model(text), "fp16", np.array([[[7000.0, 6000.0]]]))
    return stored


@pytest.mark.parametrize("body", BODIES)
def test_nothing_finite_stands_after_a_value_that_may_be_nan(body: str) -> None:
    problem = overflowing(BODIES[body])
    assert np.isinf(running.solve(problem).outputs["y"]).all()
    assert np.isinf(adjoint.solve(problem)[0].outputs["y"]).all()


def test_only_the_element_that_overflowed_is_lost_where_elements_do_not_mix() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 2] x) => (float[N, 2] y) { a = Mul(x, x)  b = Tanh(a)  c = Transpose(b)  y = Transpose(c) }
    """
    stored, _ = problems(onnx.parser.parse_model(text), "fp16", np.array([[[7000.0, 2.0]]]))
    for bound in (running.solve(stored).outputs["y"], adjoint.solve(stored)[0].outputs["y"]):
        assert np.isinf(bound).tolist() == [[[True, False]]]
