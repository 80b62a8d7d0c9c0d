"""One node of a model as an onnxruntime session of its own, its floats carried in fp32 or fp64.

A model's float tensors keep the element type that they declare, but travel in a *carrier*: fp32, or fp64 for formats
that fp32 does not contain. onnxruntime's CPU provider has kernels for the carriers; it has few for fp16, none for
bf16 and fp8. The session's opset is the version that introduced the operator's definition, so that a model may be
newer than the runtime as long as its operators are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from certify.number.formats import FORMATS, Format, UnknownFormat, from_onnx
from certify.number.rounding import round_to
from certify.validate.runtime import AnyArray, ValidationUnavailable, first_line, open_session

Storage: TypeAlias = Callable[[Format], Format]
FLOAT8 = frozenset({TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2FNUZ})
_QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SMALL = 1024  # constants up to this size become part of the session: some kernels demand it of axes, scales, zero points
_IR_VERSION = 10


@dataclass(frozen=True, slots=True)
class Held:
    """A value under way: its array in the carrier's type, the element type that the model declares, known beforehand or not.

    A sequence is held as a list of arrays.
    """

    array: Any
    element: int
    constant: bool = False


def declared_format(element: int) -> Format | None:
    """The format of an ONNX element type, None for what is no float. Raises ValidationUnavailable."""
    try:
        return from_onnx(element)
    except UnknownFormat as unknown:
        raise ValidationUnavailable(str(unknown)) from unknown


def carrier(element: int, storage: Storage) -> int:
    """The element type in which a tensor declared `element` travels."""
    declared = declared_format(element)
    if declared is None:
        return element
    return int(TensorProto.FLOAT if FORMATS["fp32"].contains(storage(declared)) else TensorProto.DOUBLE)


def carried(array: AnyArray, element: int, storage: Storage, saturate: bool = False) -> AnyArray:
    """`array` rounded once into the storage format of a tensor declared `element`, in its carrier; integers as they are."""
    declared = declared_format(element)
    if declared is None:
        return array
    stored = storage(declared)
    dtype = np.float32 if carrier(element, storage) == TensorProto.FLOAT else np.float64
    own = FORMATS["fp32"] if dtype is np.float32 else FORMATS["fp64"]
    if array.dtype == dtype and stored == own:
        return array
    with np.errstate(over="ignore"):
        return round_to(array, stored.saturating() if saturate else stored).astype(dtype)


def tensor_values(tensor: TensorProto) -> AnyArray:
    """The values of a constant: floats of every type as float64 (exactly), others in their own type."""
    if tensor.data_type == TensorProto.STRING or declared_format(tensor.data_type) is None:
        return np.asarray(numpy_helper.to_array(tensor))
    return np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class OneNode:
    """A compiled node: `run` takes the node's operands and returns its outputs, unrounded, with their declared types."""

    session: Any
    fed: tuple[int, ...]
    elements: tuple[int, ...]
    saturate: bool

    def run(self, operands: Sequence[Held | None]) -> list[Any]:
        feeds = {f"i{k}": held.array for k in self.fed if (held := operands[k]) is not None}
        try:
            return list(self.session.run(None, feeds))
        except Exception as refusal:  # onnxruntime's exceptions share no base class of their own
            raise ValidationUnavailable(first_line(refusal)) from refusal


def compile_node(node: NodeProto, operands: Sequence[Held | None], opsets: Mapping[str, int], storage: Storage) -> OneNode:
    """The session of `node` for operands of these element types. Raises ValidationUnavailable."""
    import onnxruntime

    elements = [held.element if held else 0 for held in operands]
    if node.op_type in _QUANTIZING and (FLOAT8 & set(elements) or _attribute(node, "output_dtype", 0) in FLOAT8):
        raise ValidationUnavailable(f"{node.op_type} of an fp8 tensor has no fp32 equivalent")
    opset = helper.make_opsetid(node.domain, _definition(node, opsets))
    declared = _declared(node, operands, opset)
    embedded = {k for k, held in enumerate(operands) if held and _embeddable(held)}
    model = _model(_carried_node(node, storage), operands, [carrier(element, storage) for element in elements], embedded, opset)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = open_session(model.SerializeToString(), options, ["CPUExecutionProvider"])
    fed = tuple(k for k, held in enumerate(operands) if held and k not in embedded)
    saturate = node.op_type in ("Cast", "CastLike") and bool(_attribute(node, "saturate", 1)) and bool(FLOAT8 & set(declared))
    resolved = _resolved(declared, session, elements)
    _check_width(node, resolved, session, storage)
    return OneNode(session, fed, resolved, saturate)


def _embeddable(held: Held) -> bool:
    return held.constant and isinstance(held.array, np.ndarray) and held.array.size <= _SMALL


def _definition(node: NodeProto, opsets: Mapping[str, int]) -> int:
    """The opset version that introduced the definition of the operator that the model means (7 is the runtime's oldest)."""
    import onnx

    version = opsets.get(node.domain, 1)
    try:
        since = int(onnx.defs.get_schema(node.op_type, version, node.domain).since_version)
    except onnx.defs.SchemaError:
        return version  # the runtime's own domains
    return since if node.domain else max(since, min(version, 7))


def _told(node: NodeProto) -> Sequence[AttributeProto]:
    """The attributes, and of those not given the one that is an element type: onnxruntime's GroupNormalization computes in it."""
    silent = node.op_type == "GroupNormalization" and all(attribute.name != "stash_type" for attribute in node.attribute)
    return [*node.attribute, *([helper.make_attribute("stash_type", TensorProto.FLOAT)] if silent else [])]


def _carried_node(node: NodeProto, storage: Storage) -> NodeProto:
    """The node with fresh names, and element types in its attributes replaced by their carriers."""
    fresh = NodeProto()
    fresh.CopyFrom(node)
    fresh.ClearField("input")
    fresh.ClearField("output")
    fresh.ClearField("attribute")
    fresh.input.extend(f"i{k}" if name else "" for k, name in enumerate(node.input))
    fresh.output.extend(f"o{k}" if name else "" for k, name in enumerate(node.output))
    for attribute in _told(node):
        if attribute.name in ("saturate", "round_mode"):
            continue
        copy = fresh.attribute.add()
        copy.CopyFrom(attribute)
        if attribute.name in ("to", "dtype", "output_dtype", "stash_type") and attribute.type == AttributeProto.INT:
            copy.i = carrier(attribute.i, storage) if attribute.i else 0
        elif attribute.type == AttributeProto.TENSOR and declared_format(attribute.t.data_type) is not None:
            values = carried(tensor_values(attribute.t), attribute.t.data_type, storage)
            copy.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    return fresh


def _model(node: NodeProto, operands: Sequence[Held | None], elements: Sequence[int], embedded: set[int], opset: Any) -> ModelProto:
    inputs, constants = [], []
    for k, held in enumerate(operands):
        if held is None:
            continue
        if k in embedded:
            constants.append(numpy_helper.from_array(held.array, f"i{k}"))
            continue
        tensor = helper.make_tensor_type_proto(elements[k], None)
        sequence = isinstance(held.array, list)
        inputs.append(helper.make_value_info(f"i{k}", helper.make_sequence_type_proto(tensor) if sequence else tensor))
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)


def _declared(node: NodeProto, operands: Sequence[Held | None], opset: Any) -> list[int]:
    """The element types that ONNX's type inference gives the present outputs, 0 where it gives none."""
    plain = _carried_node(node, lambda declared: declared)
    plain.ClearField("attribute")
    plain.attribute.extend(node.attribute)
    model = _model(plain, operands, [held.element if held else 0 for held in operands], set(), opset)
    names = [name for name in plain.output if name]
    try:
        inferred = shape_inference.infer_shapes(model, check_type=False, strict_mode=False)
    except shape_inference.InferenceError:  # the runtime's own inference decides then
        return [0] * len(names)
    types = {value.name: value.type for value in [*inferred.graph.output, *inferred.graph.value_info]}
    return [_element(types[name]) if name in types else 0 for name in names]


def _element(type_proto: Any) -> int:
    if type_proto.HasField("sequence_type"):
        return _element(type_proto.sequence_type.elem_type)
    return int(type_proto.tensor_type.elem_type)


def _resolved(declared: Sequence[int], session: Any, elements: Sequence[int]) -> tuple[int, ...]:
    """Where ONNX knows no type (the runtime's own operators): float outputs are of the first float operand's type, others of their own."""
    floats = [element for element in elements if element and declared_format(element) is not None]
    resolved = []
    for element, output in zip(declared, session.get_outputs(), strict=True):
        if not element and ("(float)" in output.type or "(double)" in output.type):
            element = floats[0] if floats else TensorProto.FLOAT
        elif not element and output.type.startswith("tensor("):
            element = TensorProto.DataType.Value(output.type[7:-1].upper())
        resolved.append(element)
    return tuple(resolved)


def _check_width(node: NodeProto, elements: Sequence[int], session: Any, storage: Storage) -> None:
    """Raises ValidationUnavailable where a kernel delivers fp32 for a tensor that fp32 does not hold, as those of ai.onnx.ml do."""
    for element, output in zip(elements, session.get_outputs(), strict=True):
        if output.type == "tensor(float)" and element and carrier(element, storage) == TensorProto.DOUBLE:
            raise ValidationUnavailable(f"its {node.op_type} computes in fp32, whatever the operands")


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)
