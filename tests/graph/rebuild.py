"""A ModelGraph written back as an ONNX model, so that onnxruntime can say whether loading kept its function."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from certify.graph.model import ModelGraph, Node, Value


def to_model(graph: ModelGraph) -> onnx.ModelProto:
    """A model of the same nodes, constants, inputs and outputs."""
    constants = [v for v in graph.values.values() if v.constant is not None]
    proto = helper.make_graph(
        [_node(node) for node in graph.nodes],
        "rebuilt",
        [_info(graph.values[name]) for name in graph.inputs],
        [_info(graph.values[name]) for name in graph.outputs],
        [_tensor(v.name, np.asarray(v.constant), v.elem_type) for v in constants],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=10)


def _info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, value.elem_type, value.shape)


def _tensor(name: str, elements: np.ndarray[Any, Any], elem_type: int) -> onnx.TensorProto:
    if elem_type == onnx.TensorProto.STRING:
        return helper.make_tensor(name, elem_type, elements.shape, [str(s).encode() for s in elements.reshape(-1)])
    return numpy_helper.from_array(np.ascontiguousarray(elements).reshape(elements.shape), name)


def _node(node: Node) -> onnx.NodeProto:
    inputs, outputs = [name or "" for name in node.inputs], [name or "" for name in node.outputs]
    proto = helper.make_node(node.op_type, inputs, outputs, name=node.name, domain=node.domain)
    for name, value in node.attributes.items():
        proto.attribute.append(_attribute(name, value))
    return proto


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, ModelGraph):
        return helper.make_attribute(name, _branch(value))
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(value))
    if value == ():
        return helper.make_attribute(name, [], attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, list(value) if isinstance(value, tuple) else value)


def _branch(graph: ModelGraph) -> onnx.GraphProto:
    constants = [v for v in graph.values.values() if v.constant is not None]
    tensors = [_tensor(v.name, np.asarray(v.constant), v.elem_type) for v in constants]
    return helper.make_graph([_node(n) for n in graph.nodes], "branch", [], [_info(graph.values[n]) for n in graph.outputs], tensors)
