"""Operators that the standard itself defines by others: where no rule knows one, its definition is walked in its place.

What is claimed then is about a runtime that computes the definition, operation by operation, each result stored in the format of its
own type. A kernel that computes the operator in one go is not covered, not even one that keeps its inner results in a wider format:
where the definition's results are numbers of a narrow format, some of its operations are exact that are not on wider ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from certify.graph.model import Unsupported, Value
from certify.graph.passes.inline_functions import domain_of
from certify.graph.structure import label

if TYPE_CHECKING:
    import onnx


def definition(node: onnx.NodeProto, schema: Any, operands: Sequence[Value | None], opsets: Mapping[str, int]) -> onnx.FunctionProto | None:
    """The function that defines the node's operator on operands of these types; None if the standard gives none.

    Of several, written in the words of different opsets, that of the greatest up to the model's, else the first: they mean the same.
    """
    import onnx

    version = opsets[domain_of(node.domain)]
    function = onnx.FunctionProto()
    if schema.has_function:
        function.ParseFromString(schema.get_function_with_opset_version(_chosen(schema.function_opset_versions, version)))
    elif schema.has_context_dependent_function:
        types = [onnx.TypeProto() if v is None else onnx.helper.make_tensor_type_proto(v.elem_type, v.shape) for v in operands]
        chosen = _chosen(schema.context_dependent_function_opset_versions, version)
        told = [t.SerializeToString() for t in types]
        function.ParseFromString(schema.get_context_dependent_function_with_opset_version(chosen, node.SerializeToString(), told))
    return function if len(function.node) else None


def _chosen(versions: Sequence[int], wanted: int) -> int:
    return max((v for v in versions if v <= wanted), default=min(versions))


def bound_attributes(node: onnx.NodeProto, schema: Any) -> dict[str, onnx.AttributeProto]:
    """The attributes under which the definition is read: the node's, and the operator's defaults."""
    bound = {name: declared.default_value for name, declared in schema.attributes.items() if declared.default_value.name}
    return bound | {attribute.name: attribute for attribute in node.attribute}


def opsets_of(function: onnx.FunctionProto, opsets: Mapping[str, int]) -> dict[str, int]:
    """The versions under which the definition's nodes are read."""
    return dict(opsets) | {domain_of(entry.domain): entry.version for entry in function.opset_import}


def deciding_operands(domain: str, name: str, opset: int) -> frozenset[int]:
    """Positions of the operands of an operator defined by others that may decide its structure: those that are never floats."""
    import onnx

    try:
        schema: Any = onnx.defs.get_schema(name, opset, domain)
    except onnx.defs.SchemaError:
        return frozenset()
    if not schema.has_function and not schema.has_context_dependent_function:
        return frozenset()
    return frozenset(i for i, formal in enumerate(schema.inputs) if not any("float" in t or "double" in t for t in formal.types))


def refusal(node: onnx.NodeProto, opsets: Mapping[str, int], reason: Exception) -> Unsupported:
    """Why a node without a rule is refused although its operator has a definition."""
    domain = domain_of(node.domain)
    operator = f"{domain or 'ai.onnx'}::{node.op_type} (opset {opsets[domain]}), node {label(node)!r}"
    return Unsupported(f"no rule for {operator}, and its definition cannot be followed: {reason}")
