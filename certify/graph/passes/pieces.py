"""Small nodes that loading writes by itself: elements and slices of a tensor, tensors put together, a choice between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from certify.graph import tensors
from certify.graph.model import InvalidModel, Node, Unsupported, Value

if TYPE_CHECKING:
    from certify.graph.passes.specialize import Frame, Tracer


def scalar(tracer: Tracer, frame: Frame, elem_type: int, value: object) -> str:
    """A constant of no dimension."""
    constant = np.asarray(value, dtype=tensors.dtype_of(elem_type))
    constant.flags.writeable = False
    return tracer.define(tracer.fresh("constant", frame.scope), elem_type, (), constant)


def take(tracer: Tracer, frame: Frame, value: Value, axis: int, index: int) -> str:
    """Element `index` along `axis`, as the body sees it."""
    inner = _synthetic(frame, {"x": value.name, "i": scalar(tracer, frame, 7, index)})
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


def stack(tracer: Tracer, frame: Frame, results: Sequence[str], axis: int, target: str) -> str:
    """The results side by side along a new axis."""
    if len({tracer.values[name].shape for name in results}) > 1:
        raise Unsupported(f"the iterations that make {target!r} give different shapes")
    rank = len(tracer.values[results[0]].shape) + 1
    axis = axis + rank if axis < 0 else axis
    rows = []
    for position, name in enumerate(results):
        shape = tracer.values[name].shape
        wanted = np.asarray((*shape[:axis], 1, *shape[axis:]), dtype=np.int64)
        inner = _synthetic(frame, {"x": name, "s": tracer.define(tracer.fresh("shape", frame.scope), 7, wanted.shape, wanted)})
        _emit(tracer, inner, "Reshape", ["x", "s"], f"{target}[{position}]")
        rows.append(_result(inner))
    return join_along(tracer, frame, rows, axis, target)


def join_along(tracer: Tracer, frame: Frame, parts: Sequence[str], axis: int, target: str) -> str:
    """The parts one after the other along `axis`."""
    inner = _synthetic(frame, {str(i): name for i, name in enumerate(parts)}, {_RESULT: target})
    _emit(tracer, inner, "Concat", [str(i) for i in range(len(parts))], target, axis)
    return _result(inner)


def second(tracer: Tracer, frame: Frame, name: str | None, target: str) -> str | None:
    """A second name for a value (Tracer.alias)."""
    frame.names["\0"] = name
    return tracer.alias(frame, "\0", target)


def both(tracer: Tracer, frame: Frame, one: str, other: str, outer: str) -> str:
    """The truth value "one and other"."""
    inner = _synthetic(frame, {"a": one, "b": other})
    _emit(tracer, inner, "And", ["a", "b"], outer)
    return _result(inner)


def choice(tracer: Tracer, frame: Frame, condition: str, pair: tuple[str | None, str | None], owner: str, target: str) -> str | None:
    """A value that is the first of two where the condition holds, else the other: `target`, or what both are. None: absent either way.

    owner: whose result it is. Raises Unsupported where the two differ in more than their numbers, naming the result.
    """
    one, other = pair
    if one == other:
        return one
    if one is None or other is None:
        raise Unsupported(f"{owner}: data decides whether {target!r} is there at all")
    if one in tracer.sequences or other in tracer.sequences:
        return _sequence(tracer, frame, condition, (one, other), owner, target)
    a, b = tracer.values[one], tracer.values[other]
    if a.elem_type != b.elem_type:
        types = f"{tensors.type_name(a.elem_type)} or {tensors.type_name(b.elem_type)}"
        raise InvalidModel(f"{owner}: {target!r} is {types}, depending on its condition")
    if a.shape != b.shape:
        raise Unsupported(f"{owner}: data decides whether {target!r} has shape {list(a.shape)} or {list(b.shape)}")
    tracer.define(target, a.elem_type, a.shape)
    flag = _flat(tracer, frame, tracer.values[condition])
    opset = max(9, frame.opsets[""])  # the first that has a Where
    tracer.nodes.append(Node(target, "Where", "", opset, (flag, one, other), (target,), {}, frame.scope, target))
    return target


def _sequence(tracer: Tracer, frame: Frame, condition: str, pair: tuple[str, str], owner: str, target: str) -> str:
    """The same for two sequences, tensor by tensor."""
    found = [tracer.sequences.get(name) for name in pair]
    one, other = found
    if one is None or other is None or len(one) != len(other):
        lengths = " or ".join("a tensor" if items is None else f"a sequence of {len(items)} tensors" for items in found)
        raise Unsupported(f"{owner}: data decides whether {target!r} is {lengths}")
    names = [tracer.fresh(f"{target}[{i}]", frame.scope) for i in range(len(one))]
    chosen = [choice(tracer, frame, condition, items, owner, name) for items, name in zip(zip(one, other, strict=True), names, strict=True)]
    tracer.sequences[target] = tuple(name for name in chosen if name is not None)
    return target


def _flat(tracer: Tracer, frame: Frame, condition: Value) -> str:
    """The one truth value as a scalar, which broadcasts to any shape."""
    if condition.shape == ():
        return condition.name
    shape = tracer.define(tracer.fresh("shape", frame.scope), 7, (0,), np.zeros(0, np.int64))
    inner = _synthetic(frame, {"x": condition.name, "s": shape})
    _emit(tracer, inner, "Reshape", ["x", "s"], condition.name)
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
