"""Emulated runs in formats that the CPU does not compute in (mathematics: §7; runtime-facts: traps 1, 2, 4, 6).

Every node runs in onnxruntime by itself, in fp32 (fp64 where the storage format is wider), and each float it delivers
is rounded *once* into the storage format before the next node sees it. That is bit for bit what a Cast pair after
every operator gives, for formats, opsets and overflow conventions for which no Cast exists, and no rewrite of the
runtime can undo it. A kernel keeps fp32 inside and rounds at its end, as real fused kernels do. Double rounding is
innocuous for + - * / sqrt, since 24 >= 2p + 2 for p <= 11 (Figueroa 1995).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner

from certify.number.formats import Format
from certify.number.rounding import round_to
from certify.validate.onenode import Held, OneNode, Storage, carried, compile_node, declared_format, tensor_values
from certify.validate.runtime import AnyArray, Feeds, ValidationUnavailable

OperandFormat: TypeAlias = Callable[[str, Format], tuple[Format, str] | None]
Scope: TypeAlias = dict[str, Held]


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A node, the graphs inside it, every name that it or they read, and its sessions by the operands' types."""

    proto: NodeProto
    bodies: dict[str, Plan]
    reads: tuple[str, ...]
    outputs: tuple[str, ...]
    sessions: dict[tuple[int, ...], OneNode] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.proto.op_type} node {self.proto.name or self.proto.output[0]}"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A graph to walk: its nodes in order, its constants in storage, and how often each name is read."""

    nodes: tuple[Planned, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Scope
    uses: Counter[str]


class Emulator:
    """A model as a function from feeds to outputs, every float rounded into its storage format on delivery.

    storage:        the format in which a tensor declared in a format is kept (Profile.storage).
    operand_format: the format and mode in which a kernel takes its operands (Profile.operand_format), or None.
    Outputs are float64 arrays, or integers and booleans of the model's own type. Raises ValidationUnavailable, naming
    the node that the runtime cannot run.
    """

    def __init__(self, model: ModelProto, storage: Storage, operand_format: OperandFormat | None = None) -> None:
        self._storage = storage
        self._operand_format = operand_format
        model = inliner.inline_local_functions(model) if len(model.functions) else model
        self._opsets = {"" if x.domain == "ai.onnx" else x.domain: x.version for x in model.opset_import}
        self._parameters = _parameters(model.graph, self._opsets)
        self._plan = self._planned(model.graph)
        if others := [value.name for value in model.graph.input if not value.type.HasField("tensor_type")]:
            raise ValidationUnavailable(f"input {others[0]} is no tensor")
        self._inputs = {value.name: int(value.type.tensor_type.elem_type) for value in model.graph.input}
        self._control = {"If": self._if, "Loop": self._loop, "Scan": self._scan}

    def __call__(self, feeds: Feeds) -> dict[str, AnyArray]:
        scope: Scope = {}
        for name, element in self._inputs.items():
            if name in feeds:
                scope[name] = self._fed(name, np.asarray(feeds[name]), element)
            elif name not in self._plan.constants:
                raise ValidationUnavailable(f"no value for input {name}")
        outputs = dict(zip(self._plan.outputs, self._walk(self._plan, scope), strict=True))
        for name, held in outputs.items():
            if not isinstance(held.array, np.ndarray):
                raise ValidationUnavailable(f"output {name} is a sequence, not a tensor")
        return {name: held.array.astype(np.float64) if held.array.dtype.kind == "f" else held.array for name, held in outputs.items()}

    def _planned(self, graph: GraphProto) -> Plan:
        if len(graph.sparse_initializer):
            raise ValidationUnavailable("sparse initializers are not emulated")
        nodes = []
        for proto in graph.node:
            bodies = {x.name: self._planned(x.g) for x in proto.attribute if x.type == AttributeProto.GRAPH}
            reads = (*(x for x in proto.input if x), *(name for body in bodies.values() for name in body.uses.elements()))
            nodes.append(Planned(proto, bodies, reads, tuple(x for x in proto.output if x)))
        outputs = tuple(value.name for value in graph.output)
        uses = Counter(name for node in nodes for name in node.reads)
        uses.update(outputs)
        constants = {x.name: self._constant(x) for x in graph.initializer}
        return Plan(tuple(nodes), tuple(value.name for value in graph.input), outputs, constants, uses)

    def _fed(self, name: str, array: AnyArray, element: int) -> Held:
        if declared_format(element) is None:
            return Held(array.astype(helper.tensor_dtype_to_np_dtype(element)), element)
        return Held(carried(array, element, self._stored(name)), element)

    def _stored(self, name: str) -> Storage:
        """The storage of a constant or input: its own where operators read it as a parameter."""
        return _as_declared if name in self._parameters else self._storage

    def _constant(self, tensor: TensorProto, name: str = "") -> Held:
        values = carried(tensor_values(tensor), tensor.data_type, self._stored(name or tensor.name))
        return Held(values, tensor.data_type, constant=True)

    def _walk(self, plan: Plan, outer: Scope) -> list[Held]:
        """The values of the graph's outputs; `outer` holds its inputs and everything that it may capture."""
        scope = {**plan.constants, **outer}
        own = {name for node in plan.nodes for name in node.outputs}
        uses = plan.uses.copy()
        for node in plan.nodes:
            for name, held in zip(node.outputs, self._node(node, scope), strict=True):
                scope[name] = held
            for name in (*node.reads, *node.outputs):
                uses[name] -= name not in node.outputs
                if uses[name] <= 0 and name in own:
                    scope.pop(name, None)  # no later node needs it
        return [scope[name] for name in plan.outputs]

    def _node(self, node: Planned, scope: Scope) -> list[Held]:
        proto = node.proto
        if proto.domain in ("", "ai.onnx"):
            if proto.op_type in self._control:
                return self._control[proto.op_type](node, scope)
            if proto.op_type == "Constant" and proto.attribute[0].name == "value":
                return [self._constant(proto.attribute[0].t, proto.output[0])]
        operands = self._converted(node, [scope[name] if name else None for name in proto.input])
        try:
            return self._kernel(node, operands)
        except ValidationUnavailable as reason:
            raise ValidationUnavailable(f"{node.label}: {reason}") from reason

    def _kernel(self, node: Planned, operands: Sequence[Held | None]) -> list[Held]:
        key = tuple(held.element if held else 0 for held in operands)
        if key not in node.sessions:
            node.sessions[key] = compile_node(node.proto, operands, self._opsets, self._storage)
        compiled = node.sessions[key]
        results = compiled.run(operands)
        return [self._rounded(x, element, compiled.saturate) for x, element in zip(results, compiled.elements, strict=True)]

    def _converted(self, node: Planned, operands: Sequence[Held | None]) -> Sequence[Held | None]:
        """The operands as the kernel takes them on entry: both factors of a product, never its addend."""
        if self._operand_format is None:
            return operands
        converted = list(operands)
        for k, held in enumerate(operands[:2]):
            declared = declared_format(held.element) if held else None
            target = self._operand_format(node.proto.op_type, self._storage(declared)) if declared else None
            if held is not None and target is not None:
                converted[k] = replace(held, array=round_to(held.array, *target).astype(held.array.dtype))
        return converted

    def _rounded(self, value: Any, element: int, saturate: bool) -> Held:
        if isinstance(value, list):
            return Held([carried(x, element, self._storage) for x in value], element)
        if not isinstance(value, np.ndarray):
            raise ValidationUnavailable(f"it delivers a {type(value).__name__}, not a tensor")
        return Held(carried(value, element, self._storage, saturate), element)

    def _if(self, node: Planned, scope: Scope) -> list[Held]:
        taken = "then_branch" if bool(scope[node.proto.input[0]].array.reshape(())) else "else_branch"
        results = self._walk(node.bodies[taken], scope)
        return [held for held, name in zip(results, node.proto.output, strict=True) if name]

    def _loop(self, node: Planned, scope: Scope) -> list[Held]:
        body, names = node.bodies["body"], [*node.proto.input, "", ""]
        limit = int(scope[names[0]].array.reshape(())) if names[0] else None
        going = scope[names[1]] if names[1] else Held(np.array(True), TensorProto.BOOL)
        states = [scope[name] for name in node.proto.input[2:]]
        stacks: list[list[Held]] = [[] for _ in body.outputs[1 + len(states) :]]
        count = 0
        while (limit is None or count < limit) and bool(going.array.reshape(())):
            arguments = [Held(np.array(count, np.int64), TensorProto.INT64), going, *states]
            going, *results = self._walk(body, {**scope, **_bound(body, arguments)})
            states, rows = results[: len(states)], results[len(states) :]
            for stack, held in zip(stacks, rows, strict=True):
                stack.append(held)
            count += 1
        results = [*states, *(_stacked(stack, 0, node) for stack in stacks)]
        return [held for held, name in zip(results, node.proto.output, strict=False) if name]

    def _scan(self, node: Planned, scope: Scope) -> list[Held]:
        if self._opsets[""] < 9:
            raise ValidationUnavailable(f"{node.label}: the definition before opset 9 is not emulated")
        body, proto = node.bodies["body"], node.proto
        ints = {x.name: list(x.ints) for x in proto.attribute if x.type == AttributeProto.INTS}
        sources = next(int(x.i) for x in proto.attribute if x.name == "num_scan_inputs")
        count = len(proto.input) - sources
        states, scanned = [scope[name] for name in proto.input[:count]], [scope[name] for name in proto.input[count:]]
        axes, back = ints.get("scan_input_axes", [0] * sources), ints.get("scan_input_directions", [0] * sources)
        rows = [np.moveaxis(held.array, axis, 0)[:: -1 if flip else 1] for held, axis, flip in zip(scanned, axes, back, strict=True)]
        stacks: list[list[Held]] = [[] for _ in body.outputs[count:]]
        for t in range(len(rows[0])):
            slices = [Held(np.asarray(row[t], order="C"), held.element) for row, held in zip(rows, scanned, strict=True)]
            results = self._walk(body, {**scope, **_bound(body, [*states, *slices])})
            states = results[:count]
            for stack, held in zip(stacks, results[count:], strict=True):
                stack.append(held)
        axes, back = ints.get("scan_output_axes", [0] * len(stacks)), ints.get("scan_output_directions", [0] * len(stacks))
        joined = [_stacked(stack[:: -1 if flip else 1], axis, node) for stack, axis, flip in zip(stacks, axes, back, strict=True)]
        return [held for held, name in zip([*states, *joined], proto.output, strict=False) if name]


def _as_declared(declared: Format) -> Format:
    return declared


def _parameters(graph: GraphProto, opsets: dict[str, int]) -> set[str]:
    """Names that operators read only where the standard fixes the type to a float (Resize's scales): no storage format changes them."""
    import onnx

    fixed, free = set[str](), {value.name for value in graph.output}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                inner = _parameters(attribute.g, opsets)
                fixed |= inner
                free |= {name for each in attribute.g.node for name in each.input} - inner
        try:
            formal = onnx.defs.get_schema(node.op_type, opsets.get("" if node.domain == "ai.onnx" else node.domain, 1), node.domain).inputs
        except onnx.defs.SchemaError:
            formal = []
        for position, name in enumerate(node.input):
            stated = position < len(formal) and formal[position].type_str in ("tensor(float)", "tensor(double)")
            stated |= node.op_type == "Resize" and position == 1  # a region of interest has a type of its own
            (fixed if stated else free).add(name)
    return fixed - free


def _bound(body: Plan, arguments: Sequence[Held]) -> Scope:
    """The body's inputs; they change from turn to turn, so that no session may take them for constants."""
    return {name: replace(held, constant=False) for name, held in zip(body.inputs, arguments, strict=True)}


def _stacked(stack: Sequence[Held], axis: int, node: Planned) -> Held:
    if not stack:
        raise ValidationUnavailable(f"{node.label}: no iteration, so its stacked output has no known shape")
    return Held(np.stack([held.array for held in stack], axis=axis), stack[0].element)
