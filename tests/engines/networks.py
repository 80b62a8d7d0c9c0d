"""Small seeded networks and their problems, for attacks on the engines."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from certify.analysis.bind import bind
from certify.analysis.problem import Problem
from certify.analysis.reference import at_points, stored_inputs
from certify.graph.load import load
from certify.number.formats import format_named
from certify.profiles import profile_named


def perceptron(widths: list[int], activation: str, seed: int) -> onnx.ModelProto:
    """Gemm, activation, Gemm, ..., Gemm with seeded weights of unit gain; input x, output y."""
    draw = np.random.default_rng(seed)
    nodes, constants, name = [], [], "x"
    for i, (n, m) in enumerate(pairwise(widths)):
        weight = (draw.normal(size=(n, m)) * np.sqrt(2.0 / n)).astype(np.float32)
        bias = (draw.normal(size=m) * 0.1).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        last = i == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"], f"gemm{i}"))
        if not last:
            nodes.append(helper.make_node(activation, [f"h{i}"], [f"a{i}"], f"act{i}"))
            name = f"a{i}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", widths[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", widths[-1]])
    return helper.make_model(helper.make_graph(nodes, "net", [x], [y], constants), opset_imports=[helper.make_opsetid("", 17)])


def problems(
    model: onnx.ModelProto, dtype: str, points: np.ndarray, profile: str = "wide", summation: str = "any"
) -> tuple[Problem, Problem]:
    """(stored, exact) at `points` (cases, 1, n)."""
    graph = load(model)
    program = bind(graph, profile_named(profile, format_named(dtype), None, summation))
    inputs = {graph.inputs[0]: points.astype(np.float32).astype(np.float64)}
    held, radii = stored_inputs(program, inputs)
    return at_points(program, program.stored, held, radii), at_points(program, program.exact, inputs, {})
