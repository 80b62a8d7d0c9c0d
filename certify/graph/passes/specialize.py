"""The driver: walks a model from its inputs' concrete shapes, in topological order, and writes down the nodes that remain.

At each node it opens calls of functions, unrolls or inlines bodies whose course is constant, infers shapes, and folds
what is constant. One walk does all, because each needs the others' results: a Reshape's shape comes from a folded
Concat of a Shape of a result whose shape was inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.graph import tensors
from certify.graph.domains import operators
from certify.graph.model import InvalidModel, Node, Shape, Unsupported, Value
from certify.graph.passes import control_flow, definitions, flex_attention, fold_constants, infer_shapes, sequences
from certify.graph.passes.inline_functions import Key, arguments, domain_of, with_arguments
from certify.graph.structure import captured, label, ordered

if TYPE_CHECKING:
    import onnx

OPSETS = range(7, 29)
VARIADIC = frozenset({"Concat", "Max", "Mean", "Min", "Sum"})  # the identity of a single operand

Ruled: TypeAlias = Callable[[str, str, int], bool]
"""(domain, operator, opset) -> whether a rule knows the operator, so that its definition need not be walked."""


def everything_ruled(domain: str, name: str, opset: int) -> bool:
    """No definition is walked."""
    return True


@dataclass(frozen=True)
class Frame:
    """One body being walked.

    names:   what each local name is called in the result; None where the caller left an optional operand out.
    targets: names that local results must get in the result.
    """

    names: dict[str, str | None]
    targets: Mapping[str, str]
    opsets: Mapping[str, int]
    scope: str = ""
    bound: Mapping[str, onnx.AttributeProto] | None = None
    calls: tuple[Key, ...] = ()


@dataclass
class Tracer:
    """The nodes and values found so far."""

    functions: Mapping[Key, onnx.FunctionProto]
    folder: Path | None
    ruled: Ruled
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    exact: dict[str, npt.NDArray[Any]] = field(default_factory=dict)  # floats known without rounding, see fold_constants
    sequences: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the tensors in each sequence
    taken: set[str] = field(default_factory=set)
    opened: dict[str, None] = field(default_factory=dict)  # operators whose definitions were walked

    def define(self, name: str, elem_type: int, shape: Shape, constant: npt.NDArray[Any] | None = None) -> str:
        self.values[name] = Value(name, tuple(int(d) for d in shape), elem_type, constant)
        self.taken.add(name)
        return name

    def fresh(self, name: str, scope: str) -> str:
        """A name not yet taken, as near to `name` as can be."""
        candidate = name if name not in self.taken else f"{scope}/{name}" if scope else name
        count = 2
        while candidate in self.taken:
            candidate, count = f"{scope}/{name}#{count}" if scope else f"{name}#{count}", count + 1
        self.taken.add(candidate)
        return candidate

    def constants(self, frame: Frame, initializers: Iterable[onnx.TensorProto], sparse: Iterable[onnx.SparseTensorProto]) -> None:
        """Enter a graph's initializers into the frame."""
        found = [(t.name, t.data_type, tensors.array(t, self.folder, f"initializer {t.name!r}")) for t in initializers]
        for s in sparse:
            found.append((s.values.name, s.values.data_type, tensors.dense(s, self.folder, f"initializer {s.values.name!r}")))
        for name, elem_type, elements in found:
            frame.names[name] = self.define(self.target(name, frame), elem_type, elements.shape, elements)

    def walk(self, nodes: Sequence[onnx.NodeProto], frame: Frame) -> None:
        """Trace nodes that are in topological order."""
        for node in nodes:
            node = with_arguments(node, frame.bound)
            key = (domain_of(node.domain), node.op_type, node.overload)
            if key in self.functions:
                self.call(key, node, frame)
            elif key[0] == "" and node.op_type in control_flow.OPERATORS:
                control_flow.trace(self, node, frame)
            elif key[0] == "" and sequences.concerns(self, node, frame):
                sequences.trace(self, node, frame)
            elif key[:2] == flex_attention.OPERATOR:
                flex_attention.trace(self, node, frame)
            elif self.ruled(*key[:2], frame.opsets.get(key[0], 1)) or not self.open(node, frame):
                self.emit(node, frame)

    def open(self, node: onnx.NodeProto, frame: Frame) -> bool:
        """Walk the standard's definition of an operator that no rule knows; False if there is none."""
        schema = schema_of(node, frame.opsets)
        infer_shapes.arity(schema, node)
        operands = [self.values[frame.names[name] or ""] if name and frame.names[name] else None for name in node.input]
        function = definitions.definition(node, schema, operands, frame.opsets)
        if function is None:
            return False
        self.opened[node.op_type] = None
        opsets, bound = definitions.opsets_of(function, frame.opsets), definitions.bound_attributes(node, schema)
        try:
            self._walk_function(function, node, frame, opsets, bound, frame.calls)
        except (InvalidModel, Unsupported) as reason:
            raise definitions.refusal(node, frame.opsets, reason) from reason
        return True

    def call(self, key: Key, node: onnx.NodeProto, frame: Frame) -> None:
        """Walk a function's body in place of the node that calls it."""
        function = self.functions[key]
        if key in frame.calls:
            raise InvalidModel(f"function {function.name!r} calls itself, through node {label(node)!r}")
        opsets = {domain_of(o.domain): o.version for o in function.opset_import}
        self._walk_function(function, node, frame, opsets, arguments(function, node), (*frame.calls, key))

    def _walk_function(
        self,
        function: onnx.FunctionProto,
        node: onnx.NodeProto,
        frame: Frame,
        opsets: Mapping[str, int],
        bound: Mapping[str, onnx.AttributeProto],
        calls: tuple[Key, ...],
    ) -> None:
        actual = [frame.names[name] if name else None for name in node.input]
        formal = dict(zip(function.input, actual + [None] * (len(function.input) - len(actual)), strict=True))
        results = {inner: outer for inner, outer in zip(function.output, node.output, strict=False) if outer}
        targets = {name: self.target(outer, frame) for name, outer in results.items()}
        inner = Frame(dict(formal), targets, opsets, join(frame.scope, label(node)), bound, calls)
        self.walk(ordered(function.node, set(function.input), list(results), f"function {function.name!r}"), inner)
        for name, outer in results.items():
            frame.names[outer] = self.settle(inner, name)

    def body(
        self, graph: onnx.GraphProto, frame: Frame, actual: Sequence[str | None], targets: Sequence[str | None], scope: str
    ) -> list[str | None]:
        """Walk a body in place, its formal inputs bound to `actual`; the names of its outputs, `targets` where one is given."""
        outside = captured(graph)
        absent = sorted(name for name in outside if name not in frame.names)
        if absent:
            raise InvalidModel(f"body {scope!r} reads {absent[0]!r}, which nothing defines")
        wanted = {o.name: target for o, target in zip(graph.output, targets, strict=True) if target is not None}
        inner = Frame(dict(frame.names), wanted, frame.opsets, scope, frame.bound, frame.calls)
        for formal, name in zip(graph.input, actual, strict=True):
            inner.names[formal.name] = name
        self.constants(inner, graph.initializer, graph.sparse_initializer)
        constants = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
        known = outside | constants | {i.name for i in graph.input}
        self.walk(ordered(graph.node, known, [o.name for o in graph.output], f"body {scope!r}"), inner)
        return [
            self.settle(inner, o.name) if target is None or inner.targets[o.name] == target else self.alias(inner, o.name, target)
            for o, target in zip(graph.output, targets, strict=True)
        ]

    def target(self, name: str, frame: Frame) -> str:
        """What a result called `name` in this frame is to be called."""
        return frame.targets.get(name) or (name if not frame.scope else self.fresh(name, frame.scope))

    def settle(self, frame: Frame, name: str) -> str | None:
        """The result `name`, under its target's name if it has one; None if it is absent."""
        target, found = frame.targets.get(name), frame.names[name]
        return found if target is None or found == target else self.alias(frame, name, target)

    def alias(self, frame: Frame, name: str, target: str) -> str | None:
        """A second name for a value: a constant is entered again, anything else passes an Identity."""
        source = frame.names[name]
        if source is None:
            return None
        if source in self.sequences:
            self.sequences[target] = self.sequences[source]
            return target
        value = self.values[source]
        self.define(target, value.elem_type, value.shape, value.constant)
        if value.constant is None:
            self.nodes.append(Node(target, "Identity", "", frame.opsets.get("", 13), (source,), (target,), {}, frame.scope, target))
        return target

    def emit(self, node: onnx.NodeProto, frame: Frame) -> None:
        """Infer one operator, then fold it or write it down."""
        if node.op_type == "Constant" and domain_of(node.domain) == "":
            self._constant(node, frame)
            return
        operands = [_known_if_empty(self.values[frame.names[name] or ""]) if name and frame.names[name] else None for name in node.input]
        if any(name and frame.names[name] is None for name in node.input):
            node = _without_absent(node, frame)
        schema = schema_of(node, frame.opsets)
        infer_shapes.arity(schema, node)
        attributes = {a.name: tensors.attribute(a, self.folder, f"node {label(node)!r}") for a in node.attribute}
        known: dict[str, npt.NDArray[Any]] = {}
        for name, operand in zip(node.input, operands, strict=True):
            elements = None if operand is None else self._exactly(operand)
            if elements is not None:
                known[name] = elements
        types = infer_shapes.infer(schema, node, operands, known, frame.opsets)
        constants = self._fold(node, attributes, operands, types, frame)
        outputs: list[str | None] = []
        for position, (name, found) in enumerate(zip(node.output, types, strict=True)):
            if found is None:
                outputs.append(None)
                continue
            target = self.target(name, frame)
            outputs.append(self.define(target, *found, constant=constants[position] if constants is not None else None))
            frame.names[name] = target
        if constants is None:
            self._note_exact(node, operands, types, outputs, frame)
            operands = fold_constants.without_neutral(node.op_type, operands, types[0])
            self._append(node, frame, attributes, operands, outputs)

    def _append(
        self,
        node: onnx.NodeProto,
        frame: Frame,
        attributes: Mapping[str, Any],
        operands: Sequence[Value | None],
        outputs: Sequence[str | None],
    ) -> None:
        inputs = [None if v is None else v.name for v in operands]
        while inputs and inputs[-1] is None:
            inputs.pop()
        domain, name = domain_of(node.domain), label(node)
        opset, op_type = frame.opsets[domain], node.op_type
        if domain == "" and op_type in VARIADIC and len(inputs) == 1:
            op_type, attributes = "Identity", {}
        if domain == "" and op_type == "CastLike" and outputs[0] is not None:  # the second operand gives its type alone
            kept = {name: attributes[name] for name in ("saturate", "round_mode") if name in attributes}
            op_type, inputs, attributes = "Cast", inputs[:1], {"to": self.values[outputs[0]].elem_type, **kept}
        self.nodes.append(Node(name, op_type, domain, opset, tuple(inputs), tuple(outputs), attributes, frame.scope, name))

    def _constant(self, node: onnx.NodeProto, frame: Frame) -> None:
        where = f"node {label(node)!r}"
        infer_shapes.arity(schema_of(node, frame.opsets), node)
        attributes = {a.name: tensors.attribute(a, self.folder, where) for a in node.attribute}
        elem_type, elements = fold_constants.constant_node(attributes, where)
        if elem_type is None:
            proto = next(a for a in node.attribute if a.name in ("value", "sparse_value"))
            elem_type = proto.t.data_type if proto.name == "value" else proto.sparse_tensor.values.data_type
            if elements.dtype != (np.dtype(object) if elem_type == 8 else tensors.dtype_of(elem_type)):
                raise InvalidModel(f"{where}: its attribute {proto.name!r} is no tensor")
        target = self.target(node.output[0], frame)
        frame.names[node.output[0]] = self.define(target, elem_type, elements.shape, elements)

    def _fold(
        self,
        node: onnx.NodeProto,
        attributes: Mapping[str, Any],
        operands: Sequence[Value | None],
        types: Sequence[infer_shapes.Type | None],
        frame: Frame,
    ) -> list[npt.NDArray[Any] | None] | None:
        """The node's constant outputs, or None if it stays."""
        first = operands[0] if operands else None
        if domain_of(node.domain) == "" and node.op_type in ("Shape", "Size") and first is not None:
            return [fold_constants.shape_of(node.op_type, attributes, first.shape)]
        if node.op_type == "Cast" and first is not None and types[0] is not None and types[0][0] not in tensors.FLOATING:
            floats = self._exactly(first)
            if floats is not None and first.elem_type in tensors.FLOATING:
                found = fold_constants.structural_integers(floats, types[0][0])
                return None if found is None else [found]
        if node.op_type == "CastLike" and first is not None and first.constant is not None and types[0] is not None:
            converted = fold_constants.cast(first.constant, types[0][0])
            return None if converted is None else [converted]
        if any(v is not None and v.constant is None for v in operands):
            return None
        return fold_constants.fold(node, attributes, [None if v is None else v.constant for v in operands], types, frame.opsets.get("", 13))

    def _exactly(self, value: Value) -> npt.NDArray[Any] | None:
        return value.constant if value.constant is not None else self.exact.get(value.name)

    def _note_exact(
        self,
        node: onnx.NodeProto,
        operands: Sequence[Value | None],
        types: Sequence[infer_shapes.Type | None],
        outputs: Sequence[str | None],
        frame: Frame,
    ) -> None:
        if domain_of(node.domain) != "" or len(outputs) != 1 or outputs[0] is None or types[0] is None:
            return
        sources = [None if v is None else self._exactly(v) for v in operands]
        if not sources or any(x is None for x in sources):
            return
        if node.op_type in fold_constants.MOVEMENT:
            attributes = {a.name: tensors.attribute(a, self.folder, "") for a in node.attribute}
            moved = fold_constants.fold(node, attributes, sources, types, frame.opsets[""])
            found = moved[0] if moved is not None else None
        elif node.op_type == "Cast" and sources[0] is not None:
            found = fold_constants.cast(sources[0], types[0][0])
        else:
            found = fold_constants.exact_float(node.op_type, sources)
        if found is not None and found.shape == types[0][1]:
            self.exact[outputs[0]] = found


def _known_if_empty(value: Value) -> Value:
    """A tensor without elements is known whatever it depends on."""
    if value.size or value.constant is not None or value.elem_type == 8:
        return value
    return replace(value, constant=np.zeros(value.shape, tensors.dtype_of(value.elem_type)))


def _without_absent(node: onnx.NodeProto, frame: Frame) -> onnx.NodeProto:
    """`node` with operands that the enclosing function was not given left out."""
    import onnx

    result = onnx.NodeProto()
    result.CopyFrom(node)
    result.input[:] = [name if name and frame.names[name] is not None else "" for name in node.input]
    return result


def join(scope: str, part: str) -> str:
    return f"{scope}/{part}" if scope else part


def schema_of(node: onnx.NodeProto, opsets: Mapping[str, int]) -> onnx.defs.OpSchema:
    """The operator's definition. Raises Unsupported if there is none that we know."""
    import onnx

    domain = domain_of(node.domain)
    if domain not in opsets:
        raise InvalidModel(f"node {label(node)!r} ({node.op_type}): the model imports no opset of domain {domain or 'ai.onnx'!r}")
    try:
        return onnx.defs.get_schema(node.op_type, opsets[domain], domain)
    except onnx.defs.SchemaError as cause:
        row = operators().get((domain, node.op_type))
        if row is not None:
            return row.schema
        operator = f"{domain or 'ai.onnx'}::{node.op_type} in opset {opsets[domain]}"
        raise Unsupported(f"node {label(node)!r}: there is no operator {operator} that is known here") from cause
