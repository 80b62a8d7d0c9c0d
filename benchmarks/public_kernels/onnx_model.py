"""A kernel as an ONNX model: one scalar input for each variable, one node for each different operation."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from public_kernels.expression import record
from public_kernels.rows import Kernel

OPSET = 17
TYPES = {"fp64": (TensorProto.DOUBLE, np.float64), "fp32": (TensorProto.FLOAT, np.float32)}


def model_of(kernel: Kernel) -> onnx.ModelProto:
    """The kernel's operations in its order; constants are rounded to the kernel's format, and are then what the model says."""
    if kernel.length:
        return _dot(kernel)
    elem_type, dtype = TYPES[kernel.format]
    tape, result = record(kernel.function, list(kernel.ranges))
    names: list[str] = []
    nodes, constants = [], []
    for index, (operator, operands) in enumerate(tape.nodes):
        if operator == "input":
            names.append(operands[0])
            continue
        names.append("result" if index == result else f"step{index}")
        if operator == "constant":
            constants.append(numpy_helper.from_array(np.array(operands[0], dtype), names[-1]))
        else:
            nodes.append(helper.make_node(operator, [names[i] for i in operands], [names[-1]]))
    inputs = [helper.make_tensor_value_info(name, elem_type, []) for name in kernel.ranges]
    return _model(kernel, nodes, inputs, helper.make_tensor_value_info("result", elem_type, []), constants)


def _dot(kernel: Kernel) -> onnx.ModelProto:
    """result = a · b by one MatMul of two vectors."""
    elem_type, _ = TYPES[kernel.format]
    inputs = [helper.make_tensor_value_info(name, elem_type, [kernel.length]) for name in kernel.ranges]
    return _model(
        kernel, [helper.make_node("MatMul", ["a", "b"], ["result"])], inputs, helper.make_tensor_value_info("result", elem_type, []), []
    )


def _model(
    kernel: Kernel,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
    constants: list[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, kernel.name, inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
