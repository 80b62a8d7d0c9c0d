"""What a row of the table says: how an operator without an ONNX schema is read. The test holds it against onnxruntime's own schemas."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from certify.graph.model import Shape, Value

if TYPE_CHECKING:
    import onnx

Type: TypeAlias = tuple[int, Shape]
Infer: TypeAlias = Callable[[Sequence[Value | None], Mapping[str, Any]], Sequence[Type | None]]
"""(operands, one for each formal input, attributes with their defaults) -> type of each output, as many as the operator has.

Raises ValueError with the reason where the operands do not fit. None: an output whose shape the operands do not fix.
"""

FLOATS = "float16 float double bfloat16"
"""The usual types of T."""


@dataclass(frozen=True)
class Operator:
    """One operator.

    inputs, outputs: "X:T W:T B:T? C:T*": names with a type variable or an element type; ? optional, * variadic, + variadic of mixed types.
    attributes:      "alpha=1.0 mode='constant' kernel_shape:ints heads:int!": a default, or the type of one without; ! required.
    types:           the element types that each type variable stands for, as ONNX names them.
    """

    domain: str
    name: str
    inputs: str
    outputs: str
    attributes: str
    infer: Infer
    types: Mapping[str, str] = field(default_factory=lambda: {"T": FLOATS})

    @cached_property
    def schema(self) -> onnx.defs.OpSchema:
        """The same in ONNX's own words."""
        import onnx

        return onnx.defs.OpSchema(
            self.name,
            self.domain,
            1,
            inputs=[_formal(text) for text in self.inputs.split()],
            outputs=[_formal(text) for text in self.outputs.split()],
            type_constraints=[(variable, [f"tensor({name})" for name in names.split()], "") for variable, names in self.types.items()],
            attributes=[_attribute(text) for text in self.attributes.split()],
        )

    def infer_types(self, operands: Sequence[Value | None], attributes: Mapping[str, Any], count: int) -> list[Type | None]:
        """Of the first `count` outputs. Raises ValueError."""
        formal = len(self.inputs.split())
        padded = [*operands, *[None] * (formal - len(operands))]
        return list(self.infer(padded, {**self._defaults, **attributes}))[:count]

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return {
            name: ast.literal_eval(value) for name, equals, value in (text.partition("=") for text in self.attributes.split()) if equals
        }


def _formal(text: str) -> onnx.defs.OpSchema.FormalParameter:
    import onnx

    name, _, kind = text.partition(":")
    option, mixed = {"?": "Optional", "*": "Variadic", "+": "Variadic"}.get(kind[-1], "Single"), kind.endswith("+")
    kind = kind.rstrip("?*+")
    chosen = getattr(onnx.defs.OpSchema.FormalParameterOption, option)
    held = f"tensor({kind})" if kind.islower() else kind
    return onnx.defs.OpSchema.FormalParameter(name, held, param_option=chosen, is_homogeneous=not mixed)


def _attribute(text: str) -> onnx.defs.OpSchema.Attribute:
    import onnx

    name, equals, default = text.partition("=")
    if equals:
        return onnx.defs.OpSchema.Attribute(name, onnx.helper.make_attribute(name, ast.literal_eval(default)))
    name, _, kind = text.partition(":")
    declared = getattr(onnx.defs.OpSchema.AttrType, kind.rstrip("!").upper())
    return onnx.defs.OpSchema.Attribute(name, declared, required=kind.endswith("!"))


def like(*positions: int) -> Infer:
    """Outputs of the types of these operands."""

    def infer(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
        return [(v.elem_type, v.shape) if v is not None else None for v in (operands[i] for i in positions)]

    return infer


def as_onnx(name: str, opset: int, operands: int, attributes: str = "") -> Infer:
    """What ONNX infers for its own operator `name` of the first `operands` and the attributes of these names."""
    kept = attributes.split()

    def infer(given: Sequence[Value | None], named: Mapping[str, Any]) -> list[Type | None]:
        import onnx

        from certify.graph.passes.infer_shapes import concrete

        present = {f"i{k}": v for k, v in enumerate(given[:operands]) if v is not None}
        schema = onnx.defs.get_schema(name, opset, "")
        node = onnx.helper.make_node(
            name,
            [f"i{k}" if f"i{k}" in present else "" for k in range(operands)],
            [output.name for output in schema.outputs],
            **{key: named[key] for key in kept if key in named},
        )
        while node.input and not node.input[-1]:
            node.input.pop()
        types = {key: onnx.helper.make_tensor_type_proto(v.elem_type, v.shape) for key, v in present.items()}
        small = {key: v.constant for key, v in present.items() if v.constant is not None and v.size <= 64}
        data = {key: onnx.numpy_helper.from_array(np.asarray(constant), key) for key, constant in small.items()}
        try:
            found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=[onnx.helper.make_opsetid("", opset)])
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, TypeError) as cause:
            raise ValueError(str(cause)) from cause
        return [concrete(found[output.name]) if output.name in found else None for output in schema.outputs]

    return infer
