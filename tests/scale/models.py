"""Networks whose weights lie in a file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH = 320  # a matrix of weights is large enough to be streamed


def deep(path: Path, layers: int, width: int = WIDTH, elem_type: int = TensorProto.FLOAT) -> Path:
    """MatMul and Relu, so often, then a MatMul to 4 elements; seeded; external data beside the model."""
    draw = np.random.default_rng(0)
    stored = helper.tensor_dtype_to_np_dtype(elem_type)
    nodes, constants, name = [], [], "x"
    for k, columns in enumerate([width] * layers + [4]):
        weights = (draw.standard_normal((width, columns)) * np.sqrt(2.0 / width)).astype(stored)
        constants.append(helper.make_tensor(f"w{k}", elem_type, weights.shape, weights.tobytes(), raw=True))
        last = k == layers
        nodes.append(helper.make_node("MatMul", [name, f"w{k}"], ["y" if last else f"m{k}"], f"layer{k}"))
        if not last:
            nodes.append(helper.make_node("Relu", [f"m{k}"], [f"r{k}"], f"relu{k}"))
            name = f"r{k}"
    x, y = (helper.make_tensor_value_info(n, elem_type, [1, size]) for n, size in (("x", width), ("y", 4)))
    model = helper.make_model(
        helper.make_graph(nodes, "deep", [x], [y], constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    return path
