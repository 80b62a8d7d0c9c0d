"""If, Loop and Scan: a branch that a constant selects is inlined, a loop of constant course unrolled.

An If that data decides keeps both branches, as `ModelGraph` attributes. A Loop that data decides is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from certify.graph import tensors
from certify.graph.model import InvalidModel, ModelGraph, Node, Unsupported, Value, reads
from certify.graph.structure import label

if TYPE_CHECKING:
    import onnx

    from certify.graph.passes.specialize import Frame, Tracer

OPERATORS = frozenset({"If", "Loop", "Scan"})
LONGEST = 1024  # iterations; beyond, the unrolled graph would be larger than anything the engines take


def trace(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    """Walk a control-flow node. Raises InvalidModel or Unsupported, naming it."""
    {"If": _if, "Loop": _loop, "Scan": _scan}[node.op_type](tracer, node, frame)


def _where(node: onnx.NodeProto) -> str:
    return f"node {label(node)!r} ({node.op_type})"


def _scope(frame: Frame, node: onnx.NodeProto, part: str) -> str:
    return "/".join(p for p in (frame.scope, label(node), part) if p)


def _body(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    for attribute in node.attribute:
        if attribute.name == name and attribute.HasField("g"):
            body: onnx.GraphProto = attribute.g
            return body
    raise InvalidModel(f"{_where(node)} has no {name}")


def _operand(tracer: Tracer, node: onnx.NodeProto, frame: Frame, position: int) -> Value | None:
    name = node.input[position] if position < len(node.input) else ""
    found = frame.names[name] if name else None
    return None if found is None else tracer.values[found]


def _targets(tracer: Tracer, names: Sequence[str], frame: Frame) -> list[str | None]:
    return [tracer.target(name, frame) if name else None for name in names]


def _if(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    condition = _operand(tracer, node, frame, 0)
    if condition is None or condition.size != 1 or condition.elem_type != 9:
        raise InvalidModel(f"{_where(node)}: its condition must be one boolean")
    branches = {name: _body(node, name) for name in ("then_branch", "else_branch")}
    for name, branch in branches.items():
        if len(branch.output) != len(node.output) or branch.input:
            raise InvalidModel(f"{_where(node)}: {name} must take no inputs and give {len(node.output)} outputs")
    targets = _targets(tracer, node.output, frame)
    if condition.constant is not None:
        taken = "then_branch" if bool(condition.constant.reshape(())) else "else_branch"
        found = tracer.body(branches[taken], frame, (), targets, _scope(frame, node, taken))
        frame.names.update({outer: inner for outer, inner in zip(node.output, found, strict=True) if outer})
        return
    traced = {name: _apart(tracer, branch, frame, _scope(frame, node, name)) for name, branch in branches.items()}
    _join(tracer, node, frame, traced, targets)
    name = label(node)
    attributes: Mapping[str, ModelGraph] = traced
    tracer.nodes.append(Node(name, "If", "", frame.opsets[""], (condition.name,), tuple(targets), attributes, frame.scope, name))


def _apart(tracer: Tracer, branch: onnx.GraphProto, frame: Frame, scope: str) -> ModelGraph:
    """A branch as a graph of its own, with the values around it that it reads."""
    around, tracer.nodes = tracer.nodes, []
    outputs = tracer.body(branch, frame, (), [None] * len(branch.output), scope)
    nodes, tracer.nodes = tuple(tracer.nodes), around
    if any(name in tracer.sequences for name in outputs):
        raise Unsupported(f"{scope}: data decides between sequences, which is not supported")
    computed = {name for node in nodes for name in node.outputs if name is not None}
    used = dict.fromkeys([*(name for node in nodes for name in reads(node)), *outputs])
    captures = tuple(name for name in used if name not in computed and tracer.values[name].constant is None)
    values = {name: tracer.values[name] for name in (*used, *computed)}
    return ModelGraph(nodes, values, (), tuple(outputs), captures, dict(frame.opsets))


def _join(tracer: Tracer, node: onnx.NodeProto, frame: Frame, branches: Mapping[str, ModelGraph], targets: Sequence[str | None]) -> None:
    """Define the results of an If whose branches agree on types. Raises Unsupported where their shapes differ."""
    for position, (outer, target) in enumerate(zip(node.output, targets, strict=True)):
        one, other = (branch.values[branch.outputs[position]] for branch in branches.values())
        if one.elem_type != other.elem_type:
            types = f"{tensors.type_name(one.elem_type)} or {tensors.type_name(other.elem_type)}"
            raise InvalidModel(f"{_where(node)}: output {outer!r} is {types}, depending on the branch")
        if one.shape != other.shape:
            raise Unsupported(f"{_where(node)}: data decides whether output {outer!r} has shape {list(one.shape)} or {list(other.shape)}")
        if target is not None:
            frame.names[outer] = tracer.define(target, one.elem_type, one.shape)


def _scalar(tracer: Tracer, frame: Frame, elem_type: int, value: object) -> str:
    constant = np.asarray(value, dtype=tensors.dtype_of(elem_type))
    constant.flags.writeable = False
    return tracer.define(tracer.fresh("constant", frame.scope), elem_type, (), constant)


def _loop(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    body, limit = _body(node, "body"), _operand(tracer, node, frame, 0)
    condition = _operand(tracer, node, frame, 1)
    if len(body.input) != len(node.input) or len(node.input) < 2 or len(body.output) < len(body.input) - 1:
        raise InvalidModel(f"{_where(node)}: a body of {len(body.input)} inputs and {len(body.output)} outputs does not fit the node")
    if any(v is not None and v.constant is None for v in (limit, condition)):
        raise Unsupported(f"{_where(node)}: data decides how often it runs; only loops of constant length can be certified")
    trips = LONGEST if limit is None or limit.constant is None else int(limit.constant.reshape(()))
    going = condition is None or condition.constant is None or bool(condition.constant.reshape(()))
    state = [_required(node, frame, i) for i in range(2, len(node.input))]
    kept: list[list[str]] = [[] for _ in range(len(body.output) - 1 - len(state))]
    count = 0
    while going and count < trips:
        if count >= LONGEST:
            raise Unsupported(f"{_where(node)} runs more than {LONGEST} times; too many to unroll")
        scope = _scope(frame, node, f"body[{count}]")
        actual = [_scalar(tracer, frame, 7, count), _scalar(tracer, frame, 9, True), *state]
        found = tracer.body(body, frame, actual, [None] * len(body.output), scope)
        flag = tracer.values[found[0]].constant
        if flag is None:
            raise Unsupported(f"{_where(node)}: data decides when it stops; only loops of constant length can be certified")
        going, count = bool(flag.reshape(())), count + 1
        state = found[1 : 1 + len(state)]
        for results, name in zip(kept, found[1 + len(state) :], strict=True):
            results.append(name)
    if going and limit is None:
        raise Unsupported(f"{_where(node)} does not stop within {LONGEST} iterations")
    _deliver(tracer, node, frame, state, kept, [0] * len(kept))


def _required(node: onnx.NodeProto, frame: Frame, position: int) -> str:
    found = frame.names[node.input[position]] if node.input[position] else None
    if found is None:
        raise InvalidModel(f"{_where(node)}: input {position} is required but absent")
    return found


def _attribute(node: onnx.NodeProto, name: str, length: int) -> list[int]:
    """A repeated integer attribute, zeros where it is absent."""
    found = next((list(a.ints) for a in node.attribute if a.name == name), [0] * length)
    if len(found) != length:
        raise InvalidModel(f"{_where(node)}: attribute {name!r} must have {length} entries")
    return found


def _scan(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    if frame.opsets[""] < 9:
        raise Unsupported(f"{_where(node)}: Scan of opset 8 is not supported; convert the model to opset 9 or later")
    body = _body(node, "body")
    scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
    carried = len(node.input) - scanned
    if scanned < 1 or carried < 0 or len(body.input) != len(node.input) or len(body.output) != len(node.output):
        raise InvalidModel(f"{_where(node)}: a body of {len(body.input)} inputs and {len(body.output)} outputs does not fit the node")
    names = [_required(node, frame, i) for i in range(len(node.input))]
    if any(name in tracer.sequences for name in names):
        raise Unsupported(f"{_where(node)}: scanning a sequence is not supported")
    values = [tracer.values[name] for name in names]
    axes, backward = _attribute(node, "scan_input_axes", scanned), _attribute(node, "scan_input_directions", scanned)
    if any(not -len(v.shape) <= axis < len(v.shape) for v, axis in zip(values[carried:], axes, strict=True)):
        raise InvalidModel(f"{_where(node)}: scan_input_axes {axes} do not fit its inputs")
    lengths = {v.shape[axis] for v, axis in zip(values[carried:], axes, strict=True)}
    if len(lengths) != 1 or not 0 < max(lengths) <= LONGEST:
        raise Unsupported(f"{_where(node)}: scan inputs of lengths {sorted(lengths)}; one length up to {LONGEST} is needed")
    length = lengths.pop()
    state = [v.name for v in values[:carried]]
    kept: list[list[str]] = [[] for _ in range(len(body.output) - carried)]
    for step in range(length):
        slices = [
            take(tracer, frame, v, axis, length - 1 - step if reverse else step)
            for v, axis, reverse in zip(values[carried:], axes, backward, strict=True)
        ]
        found = tracer.body(body, frame, [*state, *slices], [None] * len(body.output), _scope(frame, node, f"body[{step}]"))
        state = found[:carried]
        for results, name in zip(kept, found[carried:], strict=True):
            results.append(name)
    directions = _attribute(node, "scan_output_directions", len(kept))
    kept = [results[::-1] if reverse else results for results, reverse in zip(kept, directions, strict=True)]
    _deliver(tracer, node, frame, state, kept, _attribute(node, "scan_output_axes", len(kept)))


def take(tracer: Tracer, frame: Frame, value: Value, axis: int, index: int) -> str:
    """Element `index` along `axis`, as the body sees it."""
    inner = _synthetic(frame, {"x": value.name, "i": _scalar(tracer, frame, 7, index)})
    _emit(tracer, inner, "Gather", ["x", "i"], f"{value.name}[{index}]", axis)
    return _result(inner)


def cut(tracer: Tracer, frame: Frame, value: Value, axis: int, start: int, end: int) -> str:
    """Elements start to end along `axis`."""
    operands = {"x": value.name}
    for name, number in (("start", start), ("end", end), ("axis", axis)):
        constant = np.asarray([number], dtype=np.int64)
        operands[name] = tracer.define(tracer.fresh("constant", frame.scope), 7, (1,), constant)
    inner = _synthetic(frame, operands)
    if frame.opsets[""] < 10:
        raise Unsupported(f"splitting {value.name!r} into a sequence needs opset 10 or later")
    _emit(tracer, inner, "Slice", ["x", "start", "end", "axis"], f"{value.name}[{start}:{end}]")
    return _result(inner)


def _deliver(
    tracer: Tracer, node: onnx.NodeProto, frame: Frame, state: Sequence[str], kept: Sequence[Sequence[str]], axes: Sequence[int]
) -> None:
    """Bind a loop's results: last states, and what each iteration gave, stacked along a new axis."""
    for outer, found in zip(node.output, state, strict=False):
        if outer:
            frame.names["\0"] = found
            frame.names[outer] = tracer.alias(frame, "\0", tracer.target(outer, frame))
    for outer, results, axis in zip(node.output[len(state) :], kept, axes, strict=True):
        if outer and not results:
            raise Unsupported(f"{_where(node)}: it never runs, so output {outer!r} would be empty")
        if outer:
            frame.names[outer] = stack(tracer, frame, results, axis, outer)


def stack(tracer: Tracer, frame: Frame, results: Sequence[str], axis: int, outer: str) -> str:
    """The results side by side along a new axis."""
    if len({tracer.values[name].shape for name in results}) > 1:
        raise Unsupported(f"the iterations that make {outer!r} give different shapes")
    rank = len(tracer.values[results[0]].shape) + 1
    axis = axis + rank if axis < 0 else axis
    rows = []
    for position, name in enumerate(results):
        shape = tracer.values[name].shape
        target = np.asarray((*shape[:axis], 1, *shape[axis:]), dtype=np.int64)
        inner = _synthetic(frame, {"x": name, "s": tracer.define(tracer.fresh("shape", frame.scope), 7, target.shape, target)})
        _emit(tracer, inner, "Reshape", ["x", "s"], f"{outer}[{position}]")
        rows.append(_result(inner))
    return join_along(tracer, frame, rows, axis, outer)


def join_along(tracer: Tracer, frame: Frame, parts: Sequence[str], axis: int, outer: str) -> str:
    """The parts one after the other along `axis`, under the name that `outer` is to have."""
    inner = _synthetic(frame, {str(i): name for i, name in enumerate(parts)}, {_RESULT: tracer.target(outer, frame)})
    _emit(tracer, inner, "Concat", [str(i) for i in range(len(parts))], outer, axis)
    return _result(inner)


_RESULT = "result"


def _synthetic(frame: Frame, names: dict[str, str], targets: dict[str, str] | None = None) -> Frame:
    from certify.graph.passes.specialize import Frame

    return Frame(dict(names), targets or {}, frame.opsets, frame.scope or "loop")


def _emit(tracer: Tracer, inner: Frame, op_type: str, inputs: Sequence[str], name: str, axis: int | None = None) -> None:
    import onnx

    node = onnx.helper.make_node(op_type, list(inputs), [_RESULT], name=name)
    if axis is not None:
        node.attribute.append(onnx.helper.make_attribute("axis", axis))
    tracer.emit(node, inner)


def _result(inner: Frame) -> str:
    found = inner.names[_RESULT]
    assert found is not None
    return found
