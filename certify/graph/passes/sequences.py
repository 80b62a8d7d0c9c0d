"""Sequences of tensors and values that may be absent, as some exporters write splits and stacks: followed while walking, so that only
tensors remain. An absent value is one that has no name in the result."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from certify.graph.model import InvalidModel, Unsupported, Value
from certify.graph.passes import pieces
from certify.graph.structure import label

if TYPE_CHECKING:
    import onnx

    from certify.graph.passes.specialize import Frame, Tracer

MAKERS = frozenset({"SequenceEmpty", "SequenceConstruct", "SplitToSequence", "SequenceMap"})
OPTIONAL = frozenset({"Optional", "OptionalHasElement", "OptionalGetElement"})


def concerns(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> bool:
    """True if the node makes or reads a sequence, or a value that may be absent."""
    return node.op_type in MAKERS | OPTIONAL or any(frame.names[name] in tracer.sequences for name in node.input if name)


def trace(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    """Walk one such node. Raises Unsupported for an operator or index that is not followed."""
    where, kind, result = f"node {label(node)!r} ({node.op_type})", node.op_type, node.output[0]
    if kind in OPTIONAL:
        return _optional(tracer, node, frame, where)
    if kind == "SequenceMap":
        return _map(tracer, node, frame, where)
    if kind in ("SequenceEmpty", "SequenceConstruct"):
        return _bind(tracer, frame, result, [_name(frame, name, where) for name in node.input])
    if kind == "SplitToSequence":
        return _bind(tracer, frame, result, _split(tracer, node, frame, where))
    items = list(tracer.sequences.get(_name(frame, node.input[0], where), ()))
    if kind == "Identity":
        return _bind(tracer, frame, result, items)
    if kind == "SequenceAt":
        item = items[_index(tracer, node, frame, 1, len(items) - 1, where)]
        frame.names[result] = pieces.second(tracer, frame, item, tracer.target(result, frame))
        return None
    if kind == "SequenceInsert":
        at = _index(tracer, node, frame, 2, len(items), where) if len(node.input) > 2 and node.input[2] else len(items)
        return _bind(tracer, frame, result, [*items[:at], _name(frame, node.input[1], where), *items[at:]])
    if kind == "SequenceErase":
        at = _index(tracer, node, frame, 1, len(items) - 1, where) if len(node.input) > 1 and node.input[1] else len(items) - 1
        return _bind(tracer, frame, result, items[:at] + items[at + 1 :])
    if kind == "SequenceLength":
        frame.names[result] = tracer.define(tracer.target(result, frame), 7, (), np.asarray(len(items), np.int64))
        return None
    if kind == "ConcatFromSequence" and items:
        return _concat(tracer, node, frame, items)
    raise Unsupported(f"{where} is not supported on a sequence of {len(items)} tensors")


def _optional(tracer: Tracer, node: onnx.NodeProto, frame: Frame, where: str) -> None:
    """A value that is there is itself, as an optional and as its element."""
    found = frame.names[node.input[0]] if node.input and node.input[0] else None
    target = tracer.target(node.output[0], frame)
    if node.op_type == "OptionalHasElement":
        frame.names[node.output[0]] = tracer.define(target, 9, (), np.asarray(found is not None))
        return
    if node.op_type == "OptionalGetElement" and found is None:
        raise InvalidModel(f"{where}: it reads the element of an optional value that is absent")
    frame.names[node.output[0]] = pieces.second(tracer, frame, found, target)


def _map(tracer: Tracer, node: onnx.NodeProto, frame: Frame, where: str) -> None:
    """The body, once for each tensor of the first operand; other sequences go along with it, tensors are the same every time."""
    body = next((a.g for a in node.attribute if a.name == "body" and a.HasField("g")), None)
    names = [_name(frame, name, where) for name in node.input]
    sequences = [tracer.sequences.get(name) for name in names]
    count = len(sequences[0] or ())
    if body is None or len(body.input) != len(names) or len(body.output) != len(node.output) or sequences[0] is None:
        raise InvalidModel(f"{where}: its operands and body do not fit each other")
    if any(items is not None and len(items) != count for items in sequences):
        raise InvalidModel(f"{where}: its sequences have {[len(items) for items in sequences if items is not None]} tensors")
    results: list[list[str]] = [[] for _ in body.output]
    for i in range(count):
        actual = [name if items is None else items[i] for name, items in zip(names, sequences, strict=True)]
        scope = "/".join(part for part in (frame.scope, label(node), f"body[{i}]") if part)
        for found, name in zip(results, tracer.body(body, frame, actual, [None] * len(body.output), scope), strict=True):
            if name is None or name in tracer.sequences:
                raise Unsupported(f"{where}: its body gives a sequence or an absent value, which is not supported")
            found.append(name)
    for name, found in zip(node.output, results, strict=True):
        if name:
            _bind(tracer, frame, name, found)


def _name(frame: Frame, name: str, where: str) -> str:
    found = frame.names[name] if name else None
    if found is None:
        raise InvalidModel(f"{where}: an input is absent")
    return found


def _bind(tracer: Tracer, frame: Frame, result: str, items: Sequence[str]) -> None:
    target = tracer.target(result, frame)
    tracer.sequences[target] = tuple(items)
    frame.names[result] = target


def _constant(tracer: Tracer, node: onnx.NodeProto, frame: Frame, position: int, where: str) -> Value:
    value = tracer.values[_name(frame, node.input[position], where)]
    if value.constant is None:
        raise Unsupported(f"{where}: data decides a position or size in a sequence")
    return value


def _index(tracer: Tracer, node: onnx.NodeProto, frame: Frame, position: int, last: int, where: str) -> int:
    constant = _constant(tracer, node, frame, position, where).constant
    assert constant is not None
    items = len(tracer.sequences.get(frame.names[node.input[0]] or "", ()))
    index = int(constant.reshape(()))
    index = index + items if index < 0 else index
    if not 0 <= index <= last:
        raise InvalidModel(f"{where}: position {int(constant.reshape(()))} lies outside of a sequence of {items} tensors")
    return index


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _split(tracer: Tracer, node: onnx.NodeProto, frame: Frame, where: str) -> list[str]:
    """Slices along the axis: of the given sizes, or of one size with a smaller rest, or of one element each."""
    value = tracer.values[_name(frame, node.input[0], where)]
    axis = _attribute(node, "axis", 0)
    if not -len(value.shape) <= axis < len(value.shape):
        raise InvalidModel(f"{where}: axis {axis} does not fit shape {list(value.shape)}")
    extent, single = value.shape[axis], len(node.input) < 2 or not node.input[1]
    sizes = [1] * extent
    if not single:
        constant = _constant(tracer, node, frame, 1, where).constant
        assert constant is not None
        step = int(constant.reshape(())) if constant.ndim == 0 else 0
        sizes = [min(step, extent - start) for start in range(0, extent, step)] if step > 0 else [int(s) for s in constant.reshape(-1)]
    if sum(sizes) != extent or min(sizes, default=1) < 0:
        raise InvalidModel(f"{where}: sizes {sizes} do not split an axis of {extent}")
    if single and not _attribute(node, "keepdims", 1):
        return [pieces.take(tracer, frame, value, axis, index) for index in range(extent)]
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [pieces.cut(tracer, frame, value, axis, start, end) for start, end in pairwise(bounds)]


def _concat(tracer: Tracer, node: onnx.NodeProto, frame: Frame, items: Sequence[str]) -> None:
    axis, result = _attribute(node, "axis", 0), node.output[0]
    if _attribute(node, "new_axis", 0):
        frame.names[result] = pieces.stack(tracer, frame, items, axis, tracer.target(result, frame))
    else:
        frame.names[result] = pieces.join_along(tracer, frame, items, axis, tracer.target(result, frame))
