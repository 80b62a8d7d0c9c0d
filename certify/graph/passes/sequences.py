"""Sequences of tensors, as some exporters write splits and stacks: followed while walking, so that only tensors remain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from certify.graph.model import InvalidModel, Unsupported, Value
from certify.graph.passes import control_flow
from certify.graph.structure import label

if TYPE_CHECKING:
    import onnx

    from certify.graph.passes.specialize import Frame, Tracer

MAKERS = frozenset({"SequenceEmpty", "SequenceConstruct", "SplitToSequence"})


def concerns(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> bool:
    """True if the node makes or reads a sequence."""
    return node.op_type in MAKERS or any(frame.names[name] in tracer.sequences for name in node.input if name)


def trace(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    """Walk one such node. Raises Unsupported for an operator or index that is not followed."""
    where, kind, result = f"node {label(node)!r} ({node.op_type})", node.op_type, node.output[0]
    if kind in ("SequenceEmpty", "SequenceConstruct"):
        return _bind(tracer, frame, result, [_name(frame, name, where) for name in node.input])
    if kind == "SplitToSequence":
        return _bind(tracer, frame, result, _split(tracer, node, frame, where))
    items = list(tracer.sequences.get(_name(frame, node.input[0], where), ()))
    if kind == "Identity":
        return _bind(tracer, frame, result, items)
    if kind == "SequenceAt":
        frame.names["\0"] = items[_index(tracer, node, frame, 1, len(items) - 1, where)]
        frame.names[result] = tracer.alias(frame, "\0", tracer.target(result, frame))
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
        return [control_flow.take(tracer, frame, value, axis, index) for index in range(extent)]
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [control_flow.cut(tracer, frame, value, axis, start, end) for start, end in pairwise(bounds)]


def _concat(tracer: Tracer, node: onnx.NodeProto, frame: Frame, items: Sequence[str]) -> None:
    axis, result = _attribute(node, "axis", 0), node.output[0]
    if _attribute(node, "new_axis", 0):
        frame.names[result] = control_flow.stack(tracer, frame, items, axis, result)
    else:
        frame.names[result] = control_flow.join_along(tracer, frame, items, axis, result)
