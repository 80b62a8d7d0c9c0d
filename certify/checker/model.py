"""An ONNX file ─▶ the steps that the kernel knows. Definitions: the ONNX operator schemas, https://onnx.ai/onnx/operators/.

Every operator here is a linear map with constant coefficients, or the largest of some elements. Movements are found by moving the
numbers of the elements. Whatever is not covered is refused by name, all of it at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from certify.checker.kernel import Dense, Indices, Largest, Linear, Mix, Step, exact, zeros
from certify.checker.rounding import FORMATS, UNIT, Format, Ints, Unsupported

_TYPES = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16"}
OPSETS = range(7, 27)


def units(x: Any, storage: Format | None) -> Ints:
    """The array in units, flat, rounded into `storage` if one is given. Raises Unsupported below the unit."""
    n, e = exact(np.asarray(x, dtype=np.float64).reshape(-1))
    if e > UNIT:
        raise Unsupported("a constant or input is no multiple of 2^-256")
    n = n << (UNIT - e)
    return n if storage is None else np.array([storage.nearest(v) for v in n], dtype=object)


@dataclass
class Model:
    """A model bound to the shapes of its inputs.

    storage: constants are rounded into it; None leaves them as they stand in the file.
    steps, outputs: what the kernel runs. shapes: of every value. constants: in units, flat.
    """

    proto: onnx.ModelProto
    inputs: Mapping[str, tuple[int, ...]]
    storage: Format | None
    steps: list[Step] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, Ints] = field(default_factory=dict)
    integers: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph, refused = self.proto.graph, []
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor)
        for name, shape in self.inputs.items():
            self.shapes[name] = shape
        for node in graph.node:
            if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
                refused.append(f"{node.domain or 'ai.onnx'}::{node.op_type} (node {node.name or node.output[0]!r})")
        if refused:
            raise Unsupported(f"no rule in the checker for {', '.join(refused)}")
        for node in graph.node:
            try:
                self._node(node)
            except (Unsupported, KeyError) as refusal:
                reason = refusal if isinstance(refusal, Unsupported) else f"operand {refusal} is not known here"
                raise Unsupported(f"{node.op_type} (node {node.name or node.output[0]!r}): {reason}") from None

    def _constant(self, name: str, tensor: onnx.TensorProto) -> None:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise Unsupported(f"{name!r} lies in another file, which the model's hash does not cover")
        array = onnx.numpy_helper.to_array(tensor)
        self.shapes[name] = array.shape
        if tensor.data_type in _TYPES:
            self.constants[name] = units(array.astype(np.float64), self.storage)
        else:
            self.integers[name] = [int(v) for v in array.reshape(-1)]

    def _node(self, node: onnx.NodeProto) -> None:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            if set(attributes) != {"value"}:
                raise Unsupported("only with a tensor as its value")
            self._constant(node.output[0], attributes["value"])
            return
        if any(node.output[1:]):
            raise Unsupported("only with one output")
        operands = list(node.input)
        while operands and not operands[-1]:
            operands.pop()
        _OPERATORS[node.op_type](self, operands, node.output[0], attributes)

    def numbers(self, name: str) -> Indices:
        """The numbers of the elements of a value, in its shape."""
        shape = self.shapes[name]
        return np.arange(math.prod(shape)).reshape(shape)

    def add(self, step: Step, shape: Sequence[int]) -> None:
        """Raises Unsupported where an operand is a constant, or a name is given twice."""
        operands = [step.operand] if isinstance(step, Largest) else [name for name, _ in step.maps]
        for name in operands:
            if name not in self.inputs and all(name != earlier.output for earlier in self.steps):
                raise Unsupported(f"not of the constant {name!r}")
        if step.output in self.shapes:
            raise Unsupported(f"a second value {step.output!r}")
        self.steps.append(step)
        self.shapes[step.output] = tuple(shape)

    def weights(self, name: str) -> tuple[Ints, int]:
        """(n, e), the constant being n 2^-e. Raises Unsupported for what is no constant."""
        if name not in self.constants:
            raise Unsupported(f"only with a constant {name!r}")
        n = self.constants[name]
        common = min((int(v & -v).bit_length() - 1 for v in n if v), default=UNIT)
        shift = min(common, UNIT)
        return (n >> shift).reshape(self.shapes[name]), UNIT - shift

    def dense(self, x: str, out: str, blocks: Any, e: int, shape: Sequence[int], addend: Ints | None, rounding: str = "dot") -> None:
        self.add(Linear(out, [(x, Dense(blocks, math.prod(self.shapes[x]), math.prod(shape), e))], addend, rounding), shape)


Attributes = dict[str, Any]


def _check(attributes: Attributes, **wanted: Any) -> None:
    """Raises Unsupported where an attribute is given that is not as wanted (or not named here at all)."""
    for name, value in attributes.items():
        if name not in wanted or (wanted[name] is not ... and value != wanted[name]):
            raise Unsupported(f"not with {name}={value!r}")


def _gemm(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    _check(attributes, alpha=1.0, beta=1.0, transA=0, transB=...)
    W, e = model.weights(x[1])
    W = W if attributes.get("transB", 0) else W.T
    into = model.numbers(x[0])
    if into.ndim != 2 or W.ndim != 2 or into.shape[1] != W.shape[1]:
        raise Unsupported("only of two matrices that fit")
    shape = (into.shape[0], W.shape[0])
    addend = None if len(x) < 3 else np.broadcast_to(model.constants[x[2]].reshape(model.shapes[x[2]]), shape).reshape(-1)
    model.dense(x[0], out, [(W, into.T, np.arange(math.prod(shape)).reshape(shape).T)], e, shape, addend)


def _matmul(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    left = x[0] in model.constants
    W, e = model.weights(x[0] if left else x[1])
    operand = x[1] if left else x[0]
    into = model.numbers(operand)
    if W.ndim != 2 or into.ndim < (2 if left else 1):
        raise Unsupported("only with a constant matrix")
    if left:  # (..., K, N): every column of the last axis
        shape = (*into.shape[:-2], W.shape[0], into.shape[-1])
        into, out_numbers = np.moveaxis(into, -2, 0), np.moveaxis(np.arange(math.prod(shape)).reshape(shape), -2, 0)
    else:
        W, shape = W.T, (*into.shape[:-1], W.shape[1])
        into, out_numbers = np.moveaxis(into, -1, 0), np.moveaxis(np.arange(math.prod(shape)).reshape(shape), -1, 0)
    if into.shape[0] != W.shape[1]:
        raise Unsupported("only of matrices that fit")
    block = (W, into.reshape(into.shape[0], -1), out_numbers.reshape(out_numbers.shape[0], -1))
    model.dense(operand, out, [block], e, shape, None)


def _windows(numbers: Indices, kernel: Sequence[int], attributes: Attributes) -> Indices:
    """(N, C, *windows, taps): the numbers that each window reads, -1 in the padding."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"") or attributes.get("ceil_mode", 0):
        raise Unsupported("not with auto_pad or ceil_mode")
    axes = len(kernel)
    pads = list(attributes.get("pads", [0] * 2 * axes))
    strides, dilations = (list(attributes.get(name, [1] * axes)) for name in ("strides", "dilations"))
    if min(pads) < 0:
        raise Unsupported("not with negative pads")
    padded = np.pad(numbers, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)], constant_values=-1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + axes)))
    view = view[(slice(None), slice(None), *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))]
    return view.reshape(*view.shape[: 2 + axes], -1)


def _conv(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    _check(attributes, kernel_shape=..., pads=..., strides=..., dilations=..., group=..., auto_pad=...)
    W, e = model.weights(x[1])
    groups = int(attributes.get("group", 1))
    windows = _windows(model.numbers(x[0]), W.shape[2:], attributes)
    shape = (windows.shape[0], W.shape[0], *windows.shape[2:-1])
    numbers = np.arange(math.prod(shape)).reshape(shape)
    inner, outer = W.shape[1], W.shape[0] // groups
    if windows.shape[1] != groups * inner or W.shape[0] % groups:
        raise Unsupported("only with weights that fit")
    blocks = []
    for g in range(groups):
        # (N, C, *out, taps) -> (C taps, N *out), as the weights' rows are laid out
        part = np.moveaxis(windows[:, g * inner : (g + 1) * inner], (1, -1), (0, 1)).reshape(inner * windows.shape[-1], -1)
        rows = np.moveaxis(numbers[:, g * outer : (g + 1) * outer], 1, 0).reshape(outer, -1)
        blocks.append((W[g * outer : (g + 1) * outer].reshape(outer, -1), part, rows))
    addend = None
    if len(x) > 2:
        addend = np.broadcast_to(model.constants[x[2]].reshape(-1, *[1] * (len(shape) - 2)), shape).reshape(-1)
    model.dense(x[0], out, blocks, e, shape, addend)


def _average(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    _check(attributes, kernel_shape=..., pads=..., strides=..., dilations=..., count_include_pad=..., auto_pad=..., ceil_mode=...)
    windows = _windows(model.numbers(x[0]), attributes["kernel_shape"], attributes)
    _mean(model, x[0], out, windows, bool(attributes.get("count_include_pad", 0)))


def _global_average(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    numbers = model.numbers(x[0])
    _mean(model, x[0], out, numbers.reshape(*numbers.shape[:2], *[1] * (numbers.ndim - 2), -1), False)


def _mean(model: Model, x: str, out: str, windows: Indices, padding_counts: bool) -> None:
    n = windows.shape[-1]
    if n & (n - 1) or ((windows < 0).any() and not padding_counts):
        raise Unsupported("only where every window divides by one power of two")
    shape = windows.shape[:-1]
    block = (zeros(1, n) + 1, windows.reshape(-1, n).T, np.arange(math.prod(shape)).reshape(1, -1))
    model.dense(x, out, [block], n.bit_length() - 1, shape, None, "mean")


def _relu(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    numbers = model.numbers(x[0])
    model.add(Largest(out, x[0], numbers.reshape(-1, 1), True), numbers.shape)


def _max_pool(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    _check(attributes, kernel_shape=..., pads=..., strides=..., dilations=..., auto_pad=..., ceil_mode=..., storage_order=...)
    _pooled(model, x[0], out, _windows(model.numbers(x[0]), attributes["kernel_shape"], attributes))


def _global_max(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    numbers = model.numbers(x[0])
    _pooled(model, x[0], out, numbers.reshape(*numbers.shape[:2], *[1] * (numbers.ndim - 2), -1))


def _pooled(model: Model, x: str, out: str, windows: Indices) -> None:
    if (windows < 0).all(axis=-1).any():
        raise Unsupported("not with a window in the padding alone")
    model.add(Largest(out, x, windows.reshape(-1, windows.shape[-1]), False), windows.shape[:-1])


def _move(move: Callable[[Model, Indices, list[str], Attributes], Indices]) -> Any:
    """A movement: run on the numbers of the elements, -1 standing for 0; constants are moved at once."""

    def operator(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
        moved = move(model, model.numbers(x[0]), x[1:], attributes)
        into = moved.reshape(-1)
        if x[0] in model.constants:
            model.constants[out], model.shapes[out] = np.append(model.constants[x[0]], 0)[into], moved.shape
            return
        m = Mix(zeros(into.size, 1) + 1, into.reshape(-1, 1), math.prod(model.shapes[x[0]]), 0)
        model.add(Linear(out, [(x[0], m)], None, "none"), moved.shape)

    return operator


def _reshape(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    _check(attributes, allowzero=0)
    target = [numbers.shape[i] if d == 0 else d for i, d in enumerate(model.integers[rest[0]])]
    return numbers.reshape(target)


def _identity(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    return numbers


def _flatten(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    axis = int(attributes.get("axis", 1))
    return numbers.reshape(math.prod(numbers.shape[:axis]), -1)


def _pad(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    _check(attributes, mode=b"constant", pads=..., value=0.0)
    pads = model.integers[rest[0]] if rest else list(attributes["pads"])
    filled = rest[1] if len(rest) > 1 else ""
    if min(pads) < 0 or len(rest) > 2 or (filled and any(model.constants[filled])):
        raise Unsupported("only with zeros around all axes")
    return np.pad(numbers, list(zip(pads[: numbers.ndim], pads[numbers.ndim :], strict=True)), constant_values=-1)


def _slice(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    _check(attributes)
    starts, ends, *optional = (model.integers[name] for name in rest)
    axes, steps = (*optional, *([list(range(len(starts))), [1] * len(starts)][len(optional) :]))
    if min(steps) < 1:
        raise Unsupported("only forwards")
    where = [slice(None)] * numbers.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[axis] = slice(start, end, step)
    return numbers[tuple(where)]


def _transpose(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    return numbers.transpose(attributes.get("perm"))


def _squeeze(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    axes = attributes.get("axes") if not rest else model.integers[rest[0]]
    return numbers.squeeze(None if axes is None else tuple(axes))


def _unsqueeze(model: Model, numbers: Indices, rest: list[str], attributes: Attributes) -> Indices:
    return np.expand_dims(numbers, tuple(attributes["axes"] if not rest else model.integers[rest[0]]))


def _sum(sign: int) -> Any:
    """A + B or A - B, broadcast; at most one of them constant."""

    def operator(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
        _check(attributes)
        shape = np.broadcast_shapes(*(model.shapes[name] for name in x))
        maps, addend = [], None
        for name, factor in zip(x, (1, sign), strict=True):
            into = np.broadcast_to(model.numbers(name), shape).reshape(-1)
            if name in model.constants:
                addend = factor * model.constants[name][into]
            else:
                maps.append((name, Mix(zeros(into.size, 1) + factor, into.reshape(-1, 1), math.prod(model.shapes[name]), 0)))
        if not maps:
            raise Unsupported("not of two constants")
        model.add(Linear(out, maps, addend, "once"), shape)

    return operator


def _multiply(model: Model, x: list[str], out: str, attributes: Attributes) -> None:
    _check(attributes)
    operand, constant = (x[1], x[0]) if x[0] in model.constants else (x[0], x[1])
    n, e = model.weights(constant)
    shape = np.broadcast_shapes(model.shapes[operand], n.shape)
    into = np.broadcast_to(model.numbers(operand), shape).reshape(-1, 1)
    m = Mix(np.broadcast_to(n, shape).reshape(-1, 1), into, math.prod(model.shapes[operand]), e)
    model.add(Linear(out, [(operand, m)], None, "once"), shape)


_OPERATORS: dict[str, Any] = {
    "Add": _sum(1), "AveragePool": _average, "Constant": None, "Conv": _conv, "Flatten": _move(_flatten), "Gemm": _gemm,
    "GlobalAveragePool": _global_average, "GlobalMaxPool": _global_max, "Identity": _move(_identity), "MatMul": _matmul,
    "MaxPool": _max_pool, "Mul": _multiply, "Pad": _move(_pad), "Relu": _relu, "Reshape": _move(_reshape), "Slice": _move(_slice),
    "Squeeze": _move(_squeeze), "Sub": _sum(-1), "Transpose": _move(_transpose), "Unsqueeze": _move(_unsqueeze),
}  # fmt: skip


def declared(proto: onnx.ModelProto) -> Format:
    """The one format in which the model declares all its floating-point inputs, outputs and constants. Raises Unsupported."""
    graph = proto.graph
    kinds = {t.data_type for t in graph.initializer} | {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    kinds |= {a.t.data_type for node in graph.node for a in node.attribute if a.HasField("t")}
    kinds -= {onnx.TensorProto.INT64, onnx.TensorProto.INT32}
    if len(kinds) != 1 or not kinds <= _TYPES.keys():
        names = sorted(onnx.TensorProto.DataType.Name(kind) for kind in kinds)
        raise Unsupported(f"a model of {', '.join(names)}; it must be all fp32, fp64, fp16 or bf16")
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    if versions.get("", versions.get("ai.onnx")) not in OPSETS or proto.functions:
        raise Unsupported(f"opset versions other than {OPSETS[0]} to {OPSETS[-1]}, and models with functions of their own")
    return FORMATS[_TYPES[kinds.pop()]]
