"""Constants computed from constants, where that is exact whatever format the runtime computes in.

Folded are: shapes; integers and booleans computed from integers and booleans; and movement, which rearranges elements
without touching them (and so commutes with rounding them into a narrower format). Arithmetic on floats is left to the
runtime, which rounds there, with one exception: a few integers (at most `STRUCTURAL` of them) cast from floats that
were computed without any rounding in the model's own format, as exporters do to compute sizes. Those belong to the
model's structure, and are the same in every run of the model as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.graph.model import InvalidModel, Shape, Value
from certify.graph.passes.infer_shapes import Type
from certify.graph.structure import label
from certify.graph.tensors import FLOATING, dtype_of

if TYPE_CHECKING:
    import onnx

Constant: TypeAlias = npt.NDArray[Any]
STRUCTURAL = 64
RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
MOVEMENT = RESHAPING | {"Transpose", "Concat", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Tile", "Split", "Where", "Pad"}
MOVEMENT |= {"DepthToSpace", "SpaceToDepth", "ScatterElements", "ScatterND", "Trilu", "Compress", "EyeLike", "OneHot", "ReverseSequence"}
RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"})
CONSTANT_ATTRIBUTES = {"value_float": 1, "value_floats": 1, "value_int": 7, "value_ints": 7, "value_string": 8, "value_strings": 8}


def constant_node(attributes: Mapping[str, Any], owner: str) -> tuple[int | None, Constant]:
    """(element type, or None to take the array's own; elements) of a Constant node. Raises InvalidModel if it has not exactly one value."""
    given = [name for name in ("value", "sparse_value", *CONSTANT_ATTRIBUTES) if name in attributes]
    if len(given) != 1:
        raise InvalidModel(f"{owner}: a Constant has exactly one value, this one has {len(given)}")
    name = given[0]
    if name in ("value", "sparse_value"):
        return None, np.asarray(attributes[name])
    elem_type = CONSTANT_ATTRIBUTES[name]
    dtype = np.dtype(object) if elem_type == 8 else dtype_of(elem_type)
    return elem_type, np.asarray(attributes[name], dtype=dtype)


def shape_of(op_type: str, attributes: Mapping[str, Any], shape: Shape) -> Constant:
    """The result of Shape or Size on a tensor of that shape."""
    if op_type == "Size":
        return np.asarray(np.prod(shape, dtype=np.int64))
    rank = len(shape)
    start, end = (min(max(i + rank if i < 0 else i, 0), rank) for i in (attributes.get("start", 0), attributes.get("end", rank)))
    return np.asarray(shape[start:end], dtype=np.int64)


def fold(
    node: onnx.NodeProto, attributes: Mapping[str, Any], operands: Sequence[Constant | None], types: Sequence[Type | None], opset: int
) -> list[Constant | None] | None:
    """The outputs of a node whose present operands are all constants; None if it must be left to the runtime.

    Raises InvalidModel if the operator cannot be applied to them.
    """
    name = node.op_type
    if node.domain not in ("", "ai.onnx") or name in RANDOM or any(t is not None and t[0] == 8 for t in types):
        return None
    first, result = (operands[0] if operands else None), types[0]
    if first is not None and result is not None:
        if name == "Cast":
            converted = cast(first, result[0])
            return None if converted is None else [converted]
        view = _view(node, attributes, first, result[1])
        if view is not None:
            return [view]
    moves = name in MOVEMENT and attributes.get("reduction", "none") == "none"
    integral = not any(_is_float(x) for x in operands) and not any(t is not None and t[0] in FLOATING for t in types)
    if not moves and not (integral and "body" not in attributes):
        return None
    return evaluate(node, attributes, operands, types, opset)


def _view(node: onnx.NodeProto, attributes: Mapping[str, Any], first: Constant, shape: Shape) -> Constant | None:
    """The result of an operator that copies no element, None of any other."""
    name = node.op_type
    try:
        if name == "ConstantOfShape":
            value = np.asarray(attributes.get("value", np.zeros(1, np.float32)))
            return _still(np.broadcast_to(value.reshape(()), shape))
        if name == "Expand":
            return _still(np.broadcast_to(first, shape))
        return _reshape(first, shape) if name in RESHAPING else None
    except (ValueError, OverflowError) as cause:
        raise InvalidModel(f"node {label(node)!r} ({name}): no tensor has shape {list(shape)} ({cause})") from cause


def cast(x: Constant, elem_type: int) -> Constant | None:
    """`x` in another type, if no element changes its value; None where a runtime would round."""
    if elem_type == 8 or x.dtype == object:
        return None
    dtype = dtype_of(elem_type)
    if _is_float(x) and elem_type not in FLOATING:
        return None
    if x.strides and not any(x.strides):
        single = cast(x[(0,) * x.ndim], elem_type) if x.size else np.zeros((), dtype)
        return None if single is None else _still(np.broadcast_to(single, x.shape))
    with np.errstate(all="ignore"):
        converted = np.asarray(np.asarray(x).astype(dtype))
        # A cast between integers wraps and one to a boolean tests for zero: both are exact as defined.
        exact = elem_type not in FLOATING or bool(np.all(converted.astype(np.float64) == x.astype(np.float64)))
        if exact and elem_type in FLOATING and x.dtype.kind in "iu" and x.size:
            exact = int(np.max(np.abs(x.astype(object)))) <= 2**53
    return _still(converted) if exact else None


def _is_float(x: Constant | None) -> bool:
    return x is not None and x.dtype != object and x.dtype.kind not in "iub" and not _narrow_integer(x.dtype)


def _narrow_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.name in ("int4", "uint4", "int2", "uint2")


def _still(x: Constant) -> Constant:
    x.flags.writeable = False
    return x


def _reshape(x: Constant, shape: Shape) -> Constant:
    """A view; one element repeated stays one element in memory."""
    if x.size and x.strides and not any(x.strides):
        return _still(np.broadcast_to(x[(0,) * x.ndim], shape))
    view = x.reshape(shape)
    return view if not view.flags.writeable else _still(view.view())


def _divide(a: Constant, b: Constant) -> Constant:
    """Integer division as ONNX defines it, toward zero."""
    if not np.all(b):
        raise ZeroDivisionError("division by zero")
    quotient = np.floor_divide(a, b)
    return np.asarray(quotient + ((quotient < 0) & (quotient * b != a)), dtype=a.dtype)


_INTEGER: dict[str, Callable[[Constant, Constant], Constant]] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide}


def evaluate(
    node: onnx.NodeProto, attributes: Mapping[str, Any], operands: Sequence[Constant | None], types: Sequence[Type | None], opset: int
) -> list[Constant | None]:
    """Apply an operator to constants, by onnx's reference implementation where a line of numpy does not do."""
    where = f"node {label(node)!r} ({node.op_type})"
    try:
        with np.errstate(all="ignore"):
            results = _apply(node, attributes, operands, opset)
    except (ArithmeticError, ValueError, IndexError, TypeError, KeyError, RuntimeError) as cause:
        raise InvalidModel(f"{where} cannot be applied to its constant inputs: {cause}") from cause
    outputs: list[Constant | None] = []
    for found, declared in zip(results, types, strict=True):
        if declared is not None and (found is None or found.shape != declared[1] or found.dtype != dtype_of(declared[0])):
            got = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise InvalidModel(f"{where}: its constant inputs give {got}, where {dtype_of(declared[0])}{list(declared[1])} was inferred")
        outputs.append(None if declared is None or found is None else _still(found))
    return outputs


def _apply(
    node: onnx.NodeProto, attributes: Mapping[str, Any], operands: Sequence[Constant | None], opset: int
) -> Sequence[Constant | None]:
    present = [x for x in operands if x is not None]
    if node.op_type in _INTEGER and len(present) == 2:
        return [np.asarray(_INTEGER[node.op_type](present[0], present[1]), dtype=present[0].dtype)]
    if node.op_type == "Transpose":
        return [np.transpose(present[0], attributes.get("perm"))]
    if node.op_type == "Concat":
        return [np.concatenate(present, axis=attributes["axis"])]
    if node.op_type == "Pad" and present[1:] and np.min(present[1], initial=0) < 0:
        return _cropped(node, operands, opset)
    if node.op_type == "OneHot":  # onnx's reference implementation computes off + (on - off), in the values' own format
        chosen = _reference(node, [*operands[:2], np.arange(2)], opset)[0]
        return [None if chosen is None else present[2][chosen]]
    return _reference(node, operands, opset)


def _cropped(node: onnx.NodeProto, operands: Sequence[Constant | None], opset: int) -> Sequence[Constant | None]:
    """Pad where some amounts are negative, which take elements away; onnx's reference implementation has no such."""
    x, pads, *rest = operands
    assert x is not None
    assert pads is not None
    listed = rest[1] if len(rest) > 1 else None
    axes = [int(k) % x.ndim for k in (range(x.ndim) if listed is None else np.ravel(listed))]
    cut = [slice(None)] * x.ndim
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        cut[axis] = slice(max(-int(before), 0), x.shape[axis] - max(-int(after), 0))
    return _reference(node, [x[tuple(cut)], np.maximum(pads, 0), *rest], opset)


def _reference(node: onnx.NodeProto, operands: Sequence[Constant | None], opset: int) -> Sequence[Constant | None]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    helper = onnx.helper
    feeds = {name: np.asarray(x) for name, x in zip(node.input, operands, strict=True) if x is not None}
    graph = helper.make_graph(
        [node],
        "fold",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in feeds.items()],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    found = iter(ReferenceEvaluator(model).run(None, feeds))
    return [np.asarray(next(found)) if name else None for name in node.output]


def without_neutral(op_type: str, operands: Sequence[Value | None], result: Type | None) -> list[Value | None]:
    """The operands of Max, Min and Clip without infinite constants that cannot change the result.

    max(x, -inf) = x = min(x, inf); the shape must not need the operand, and one operand stays.
    """
    neutral = {"Max": (-np.inf, -np.inf), "Min": (np.inf, np.inf), "Clip": (-np.inf, np.inf)}.get(op_type)
    if neutral is None or result is None:
        return list(operands)
    kept: list[Value | None] = []
    for position, operand in enumerate(operands):
        bound = neutral[max(position - 1, 0) if op_type == "Clip" else 0]
        if (op_type == "Clip" and position == 0) or operand is None or not _everywhere(operand, bound):
            kept.append(operand)
        elif op_type == "Clip":
            kept.append(None)
    reached = np.broadcast_shapes(*(v.shape for v in kept if v is not None)) if kept else None
    return kept if reached == result[1] else list(operands)


def _everywhere(value: Value, bound: float) -> bool:
    return value.constant is not None and _is_float(value.constant) and bool(np.all(value.constant.astype(np.float64) == bound))


def exact_float(op_type: str, operands: Sequence[Constant | None]) -> Constant | None:
    """The result of float arithmetic on a few constants if the model's own format computes it without rounding, else None.

    Proof: formats of at most 24 bits multiply exactly in float64; a sum or quotient is exact if undoing it in float64 gives back
    the operand exactly (an addition's rounding error is TwoSum's residual, zero if and only if the sum is exact).
    """
    present = [x for x in operands if x is not None]
    if not present or len(present) != len(operands) or any(x.size > STRUCTURAL or x.dtype.name not in _SHORT for x in present):
        return None
    dtype, wide = present[0].dtype, [x.astype(np.float64) for x in present]
    with np.errstate(all="ignore"):
        found = _exactly(op_type, wide)
        if found is None:
            return None
        stored = np.asarray(found.astype(dtype))
        return _still(stored) if bool(np.all(np.isfinite(found)) and np.all(stored.astype(np.float64) == found)) else None


_SHORT = frozenset({"float32", "float16", "bfloat16"})
_UNARY: dict[str, Callable[[Any], Any]] = {"Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Neg": np.negative, "Abs": np.abs}
_UNARY["Relu"] = lambda x: np.maximum(x, 0.0)


def _exactly(op_type: str, x: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64] | None:
    if op_type in _UNARY and len(x) == 1:
        return np.asarray(_UNARY[op_type](x[0]))
    if len(x) != 2:
        return None
    a, b = x if op_type != "Sub" else (x[0], -x[1])
    if op_type in ("Add", "Sub"):
        total = a + b
        part = total - a
        return total if np.all((a - (total - part)) + (b - part) == 0) else None
    if op_type == "Mul":
        return a * b
    if op_type == "Div" and np.all(b):
        quotient = a / b
        # The quotient must fit the short format for its product with b to be exact here; the caller checks that it does.
        return quotient if np.all(quotient.astype(np.float32) * b == a) else None
    return None


def structural_integers(x: Constant, elem_type: int) -> Constant | None:
    """A Cast to integers or truth values of a few exactly known floats: truncation toward zero, or whether it is 0.

    None if there are more, or one is out of range.
    """
    if x.size > STRUCTURAL or not np.all(np.isfinite(x.astype(np.float64))):
        return None
    whole, dtype = np.trunc(x.astype(np.float64)), dtype_of(elem_type)
    if dtype == np.bool_:
        return _still(np.asarray(x.astype(np.float64) != 0.0))
    if dtype.kind not in "iu" or np.any(np.abs(whole) >= 2.0**31):
        return None
    if np.any(whole < np.iinfo(dtype).min) or np.any(whole > np.iinfo(dtype).max):
        return None
    return _still(np.asarray(whole.astype(dtype)))
