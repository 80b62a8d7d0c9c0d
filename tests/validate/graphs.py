"""Small models for the tests of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT = int(TensorProto.FLOAT)
Shape = Sequence[int | str | None]


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    element: int = FLOAT,
    elements: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model of `nodes`; every input and output has element type `element` unless `elements` names another."""
    kinds = dict(elements or {})
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kinds.get(name, element), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kinds.get(name, element), shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(x, name) for name, x in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def unary(op: str, opset: int = 17, element: int = FLOAT, **attributes: object) -> ModelProto:
    return model([helper.make_node(op, ["x"], ["y"], **attributes)], {"x": ["N"]}, {"y": ["N"]}, opset=opset, element=element)


def perceptron(widths: Sequence[int] = (6, 8, 3), seed: int = 0, opset: int = 17, scale: float = 0.6) -> ModelProto:
    """Gemm and Relu layers over a symbolic batch N."""
    rng = np.random.default_rng(seed)
    nodes, constants, value = [], {}, "x"
    for k, (n, m) in enumerate(pairwise(widths)):
        constants[f"W{k}"] = (scale * rng.standard_normal((n, m))).astype(np.float32)
        constants[f"b{k}"] = (0.1 * rng.standard_normal(m)).astype(np.float32)
        last = k == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [value, f"W{k}", f"b{k}"], ["y" if last else f"h{k}"], name=f"layer{k}"))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{k}"], [f"a{k}"], name=f"relu{k}"))
            value = f"a{k}"
    return model(nodes, {"x": ["N", widths[0]]}, {"y": ["N", widths[-1]]}, constants, opset)
