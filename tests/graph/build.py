"""Small ONNX models for tests, written as text (onnx.parser) or as nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser


def parsed(text: str, opset: int = 18, ir_version: int = 9, **constants: Any) -> onnx.ModelProto:
    """A model from the text of its graph; keyword arguments become initializers."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
    model = parser.parse_model(header + text)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def dense(weights: Any, opset: int = 18) -> onnx.ModelProto:
    """y = x @ W for one row x."""
    w = np.asarray(weights, np.float32)
    return parsed(f"g (float[1, {w.shape[0]}] x) => (float[1, {w.shape[1]}] y) {{ y = MatMul(x, W) }}", opset, W=w)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str | None] | None],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    opset: int = 18,
    ir_version: int = 9,
) -> onnx.ModelProto:
    """A model of nodes over float inputs; the outputs are declared without shape."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
