"""One ONNX operator, run by onnx's reference evaluator or by onnxruntime: values for comparison, not for bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def single_node(
    name: str, inputs: Sequence[Any], attributes: dict[str, Any], opset: int, element: int | None = None
) -> tuple[Any, dict[str, Any]]:
    """A model of one node, and what to feed it; None is an absent input. element: the output's type, by default the first input's."""
    from onnx import TensorProto, helper

    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    while names and not names[-1]:
        names.pop()
    feeds = {n: x for n, x in zip(names, inputs, strict=False) if n}
    declared = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in feeds.items()]
    node = helper.make_node(name, names, ["y"], **attributes)
    first = declared[0].type.tensor_type.elem_type if element is None else element
    graph = helper.make_graph([node], "g", declared, [helper.make_tensor_value_info("y", first or TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), feeds


def reference(name: str, inputs: Sequence[Any], attributes: dict[str, Any], opset: int) -> Any:
    """By onnx.reference."""
    from onnx.reference import ReferenceEvaluator

    model, feeds = single_node(name, inputs, attributes, opset)
    return ReferenceEvaluator(model).run(None, feeds)[0]


def runtime(name: str, inputs: Sequence[Any], attributes: dict[str, Any], opset: int, element: int | None = None) -> Any:
    """By onnxruntime on the CPU; float64 inputs are handed over as float32."""
    import onnxruntime

    single = [x.astype(np.float32) if x is not None and x.dtype == np.float64 else x for x in inputs]
    model, feeds = single_node(name, single, attributes, opset, element)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
