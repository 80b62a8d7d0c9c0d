"""Model-local functions: which node calls one, and with which attributes its body is to be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from certify.graph.model import InvalidModel
from certify.graph.structure import label

if TYPE_CHECKING:
    import onnx

Key: TypeAlias = tuple[str, str, str]  # domain, name, overload


def domain_of(domain: str) -> str:
    """The default domain has two spellings; ours is the empty one."""
    return "" if domain == "ai.onnx" else domain


def library(model: onnx.ModelProto) -> dict[Key, onnx.FunctionProto]:
    """The model's functions by (domain, name, overload). Raises InvalidModel for two of one key."""
    functions: dict[Key, onnx.FunctionProto] = {}
    for function in model.functions:
        key = (domain_of(function.domain), function.name, function.overload)
        if key in functions:
            raise InvalidModel(f"function {function.domain}::{function.name} is defined twice")
        functions[key] = function
    return functions


def arguments(function: onnx.FunctionProto, node: onnx.NodeProto) -> dict[str, onnx.AttributeProto]:
    """The attributes under which the body of `function` is read when `node` calls it.

    Raises InvalidModel for operands that the function lacks.
    """
    given = {attribute.name: attribute for attribute in node.attribute}
    bound = {default.name: given.get(default.name, default) for default in function.attribute_proto}
    bound |= {name: given[name] for name in function.attribute if name in given}
    if len(node.input) > len(function.input) or len(node.output) > len(function.output):
        raise InvalidModel(f"node {label(node)!r} gives function {function.name!r} more inputs or outputs than it has")
    return bound


def with_arguments(node: onnx.NodeProto, bound: Mapping[str, onnx.AttributeProto] | None) -> onnx.NodeProto:
    """`node` with references to its function's attributes replaced by their values; an attribute never given disappears."""
    if not any(attribute.ref_attr_name for attribute in node.attribute):
        return node
    import onnx

    if bound is None:
        raise InvalidModel(f"node {label(node)!r} refers to a function's attribute but is in no function")
    result = onnx.NodeProto()
    result.CopyFrom(node)
    del result.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            result.attribute.append(attribute)
        elif attribute.ref_attr_name in bound:
            copy = onnx.AttributeProto()
            copy.CopyFrom(bound[attribute.ref_attr_name])
            copy.name = attribute.name
            result.attribute.append(copy)
    return result
