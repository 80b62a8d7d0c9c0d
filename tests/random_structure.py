"""Rows of random_rows that move elements or decide the structure: indices, shapes, control flow."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from tests.random_graphs import FLOAT, INT64, NUMPY, Sketch
from tests.random_moves import operand


def indexing(s: Sketch, op: str) -> None:
    x = operand(s, least={"ReverseSequence": 2, "TensorScatter": 3}.get(op, 1))
    shape, kind = s.shape(x), s.element(x)
    axis = int(s.generator.integers(len(shape)))
    drawn = s.generator.integers
    match op:
        case "GatherElements":
            s.add(op, [x, s.constant(drawn(-shape[axis], shape[axis], size=shape))], axis=axis)
        case "GatherND":
            s.add(op, [x, s.constant(drawn(0, shape[0], size=(2, 1)))])
        case "Gather":
            s.add(op, [x, s.add("ArgMax", [x], axis=axis, keepdims=0)], axis=axis)
        case "ScatterND":
            s.add(op, [x, s.constant(drawn(0, shape[0], size=(2, 1))), s.weights((2, *shape[1:]), kind)], **_reduction(s))
        case "Scatter" | "ScatterElements":
            if op == "Scatter" and s.opset > 10:
                raise ValueError("withdrawn")
            more = _reduction(s) if op != "Scatter" else {}
            repeated = bool(more) or s.chance(0.2)
            rows = drawn(-shape[axis], shape[axis], size=shape) if repeated else np.argsort(s.generator.random(shape), axis=axis)
            rows = rows[tuple(slice(s.one_of(n, 1)) for n in shape)]
            s.add(op, [x, s.constant(rows), s.weights(rows.shape, kind)], axis=axis, **more)
        case "OneHot":
            rows = s.add("ArgMax", [x], axis=axis, keepdims=0) if s.chance(0.6) else s.constant(drawn(-5, 6, size=(3,)))
            s.add(op, [rows, s.constant(np.array(4)), s.weights((2,), kind)], axis=-1)
        case "ReverseSequence":
            s.add(op, [x, s.constant(drawn(1, shape[0] + 1, size=shape[1]))], batch_axis=1, time_axis=0)
        case _:
            new = tuple(1 if k == len(shape) - 2 else n for k, n in enumerate(shape))
            starts = s.constant(drawn(0, shape[-2], size=shape[0]))
            s.add(op, [x, s.weights(new, kind), starts], mode=s.one_of("linear", "circular"))


def _reduction(s: Sketch) -> dict[str, str]:
    if s.opset < 16 or s.chance(0.3):
        return {}
    return {"reduction": s.one_of("none", "add", "mul", *(("max", "min") if s.opset >= 18 else ()))}


def shapes(s: Sketch, op: str) -> None:
    """Structure computed from structure: constants that are folded."""
    x = operand(s, least=1)
    shape, kind = s.shape(x), s.element(x)
    match op:
        case "Shape":
            s.add("Reshape", [x, s.add(op, [x])], gives=[(kind, shape)])
        case "Size":
            s.add("Mul", [x, s.add("Cast", [s.add(op, [x])], to=kind)])
        case "ConstantOfShape":
            value = helper.make_tensor("v", kind, [1], [s.one_of(0.5, -1.0, 3.0)])
            s.add(s.one_of("Add", "Mul"), [x, s.add(op, [s.add("Shape", [x])], gives=[(kind, shape)], value=value)])
        case "EyeLike":
            x = operand(s, rank=2)
            s.add("Mul", [x, s.add(op, [x], k=s.one_of(-1, 0, 1))])
        case "Range":
            y = s.add(op, [s.constant(np.asarray(v, np.float32)) for v in (0.1, 0.95, 0.3)], gives=[(FLOAT, (3,))])
            s.add("Mul", [y, s.constant(np.asarray(3.0, np.float32))])
        case "NonZero":
            if s.chance(0.2):
                s.add(op, [x], gives=[(INT64, None)])
                return
            held = s.generator.integers(0, 2, shape).astype(NUMPY[kind])
            places = s.add(op, [s.constant(held)], gives=[(INT64, (held.ndim, np.count_nonzero(held)))])
            if not held.any():
                raise ValueError("empty")
            s.add("GatherND", [x, s.add("Transpose", [places], perm=[1, 0])])
        case "Squeeze":
            y = s.add("Unsqueeze", [x, s.ints(0)]) if s.opset >= 13 else s.add("Unsqueeze", [x], axes=[0])
            s.add(op, [y, s.ints(0)] if s.opset >= 13 else [y], **({} if s.opset >= 13 else {"axes": [0]}))
        case "Trilu":
            s.add(op, [operand(s, least=2), s.constant(np.array(s.one_of(-1, 0, 1)))], upper=s.one_of(0, 1))
        case "CenterCropPad":
            s.add(op, [x, s.ints(*(int(n + s.one_of(-1, 0, 2)) or 1 for n in shape))])
        case _:
            s.add(op, [x])


def control(s: Sketch, op: str) -> None:
    """Bodies that read values from outside."""
    x = operand(s)
    kind, shape = s.element(x), s.shape(x)

    def values(*names: str) -> list[ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, shape) for name in names]

    b = f"b{len(s.nodes)}"
    step = helper.make_node(s.one_of("Tanh", "Sin", "Neg", "Abs"), [f"{b}i"], [f"{b}t"])
    join = helper.make_node(s.one_of("Add", "Mul", "Sub"), [f"{b}t", x], [f"{b}o"])
    match op:
        case "If":
            total = s.add("ReduceSum", [x], keepdims=0)
            condition = s.add("Greater", [total, s.weights((), kind)])
            then = helper.make_graph([helper.make_node("Identity", [x], [f"{b}i"]), step, join], "then", [], values(f"{b}o"))
            other = helper.make_graph([helper.make_node(s.one_of("Exp", "Neg", "Relu"), [x], [f"{b}e"])], "else", [], values(f"{b}e"))
            s.add(op, [condition], gives=[(kind, shape)], then_branch=then, else_branch=other)
        case "Loop":
            flags = [helper.make_tensor_value_info(f"{b}{name}", int(TensorProto.BOOL), []) for name in "cd"]
            turn = helper.make_tensor_value_info(f"{b}n", INT64, [])
            on = helper.make_node("Identity", [f"{b}c"], [f"{b}d"])
            body = helper.make_graph([step, join, on], "body", [turn, flags[0], *values(f"{b}i")], [flags[1], *values(f"{b}o")])
            s.add(op, [s.constant(np.array(s.one_of(1, 2, 3))), s.constant(np.array(True)), x], gives=[(kind, shape)], body=body)
        case _:
            if not shape:
                raise ValueError("no rows")
            first, last, each, row = (helper.make_tensor_value_info(f"{b}{name}", kind, shape[1:]) for name in "iosr")
            nodes = [helper.make_node("Add", [f"{b}i", f"{b}r"], [f"{b}o"]), helper.make_node("Tanh", [f"{b}o"], [f"{b}s"])]
            body = helper.make_graph(nodes, "body", [first, row], [last, each])
            given = {"num_scan_inputs": 1, "scan_input_directions": [s.one_of(0, 1)]}
            s.add(op, [s.weights(shape[1:], kind), x], gives=[(kind, shape[1:]), (kind, shape)], body=body, **given)
