"""Operators that move elements: reshaping, slicing, joining, repeating, padding.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Axis k of the operator is
axis k + 1 of the array, behind the case axis.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.movement import Movement


def integers(x: Any) -> tuple[int, ...]:
    """A static parameter or attribute as plain integers (they may lie outside int64 once they were float64)."""
    return tuple(int(v) for v in np.ravel(np.asarray(x, dtype=object)))


def array_axis(axis: int, rank: int) -> int:
    """The array axis of the operator's axis, negative ones counted from the operator's rank. Raises ValueError outside it."""
    if not -max(rank, 1) <= axis < max(rank, 1):
        raise ValueError(f"axis {axis} is outside rank {rank}")
    return axis % max(rank, 1) + 1


def _rank(x: Any) -> int:
    return int(x.ndim) - 1


def _case_aligned(*arrays: Any) -> list[Any]:
    """All arrays with the same extent on the case axis."""
    cases = max((a.shape[0] for a in arrays if a.shape[0] != 1), default=1)
    return [a if a.shape[0] == cases else np.broadcast_to(a, (cases, *a.shape[1:])) for a in arrays]


def reshape(x: Any, *, shape: Any, allowzero: int = 0) -> Any:
    target = [n if n or allowzero else x.shape[i + 1] for i, n in enumerate(integers(shape))]
    if -1 in target:
        rest = math.prod(n for n in target if n != -1)
        target[target.index(-1)] = math.prod(x.shape[1:]) // rest if rest else 0
    return x.reshape((x.shape[0], *target))


def flatten(x: Any, *, axis: int = 1) -> Any:
    split = (axis + _rank(x) if axis < 0 else axis) + 1
    return x.reshape((x.shape[0], math.prod(x.shape[1:split]), math.prod(x.shape[split:])))


def transpose(x: Any, *, perm: Any = None) -> Any:
    order = integers(perm) if perm is not None else tuple(range(_rank(x)))[::-1]
    return x.transpose((0, *(k + 1 for k in order)))


def squeeze(x: Any, *, axes: Any = None) -> Any:
    if axes is None:
        chosen = tuple(k for k in range(1, x.ndim) if x.shape[k] == 1)
    else:
        chosen = tuple(array_axis(k, _rank(x)) for k in integers(axes))
    return np.squeeze(x, axis=chosen)


def unsqueeze(x: Any, *, axes: Any) -> Any:
    chosen = integers(axes)
    rank = _rank(x) + len(chosen)
    return np.expand_dims(x, tuple(array_axis(k, rank) for k in chosen))


def slice_(x: Any, *, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    first, last = integers(starts), integers(ends)
    chosen = integers(axes) if axes is not None else tuple(range(len(first)))
    stride = integers(steps) if steps is not None else (1,) * len(first)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(first, last, chosen, stride, strict=True):
        k = array_axis(axis, _rank(x))
        n = x.shape[k]
        start, end = (v + n if v < 0 else v for v in (start, end))
        if step > 0:
            index[k] = slice(min(max(start, 0), n), min(max(end, 0), n), step)
        else:
            stop = min(max(end, -1), n - 1)
            index[k] = slice(min(max(start, 0), n - 1), None if stop < 0 else stop, step) if n else slice(0, 0)
    return x[tuple(index)]


def split(x: Any, *, axis: int = 0, split: Any = None, num_outputs: int | None = None, output: int = 0) -> Any:
    k = array_axis(axis, _rank(x))
    if split is not None:
        sizes = integers(split)
    else:
        if num_outputs is None:
            raise UnsupportedOperator("Split without `split` needs the number of its outputs")
        sizes = (-(-x.shape[k] // num_outputs),) * num_outputs  # the last one may be shorter
    start = sum(sizes[:output])
    return x[(slice(None),) * k + (slice(start, start + sizes[output]),)]


def count_outputs(expansion: Expansion, **attributes: Any) -> tuple[list[Primitive], dict[str, Array]]:
    """Split as it was before it was told its number of outputs: the node knows it."""
    told = {"num_outputs": len(expansion.outputs), **attributes}
    named = [(i, name) for i, name in enumerate(expansion.outputs) if name is not None]
    return [Primitive("Split", expansion.operands[:1], name, {**told, "output": i}, inner=False) for i, name in named], {}


def concat(*x: Any, axis: int = 1) -> Any:
    parts = _case_aligned(*x)
    return np.concatenate(parts, axis=array_axis(axis, _rank(parts[0])))


def expand(x: Any, *, shape: Any) -> Any:
    wanted = integers(shape)
    rank = max(_rank(x), len(wanted))
    full = x.reshape((x.shape[0], *(1,) * (rank - _rank(x)), *x.shape[1:]))
    target = np.broadcast_shapes(full.shape[1:], wanted)
    return np.broadcast_to(full, (x.shape[0], *target))


def tile(x: Any, *, repeats: Any) -> Any:
    return np.tile(x, (1, *integers(repeats)))


def pad(x: Any, constant: Any = None, *, pads: Any, axes: Any = None, mode: str = "constant", value: float = 0.0) -> Any:
    amounts = integers(pads)
    chosen = range(1, x.ndim) if axes is None else [array_axis(k, _rank(x)) for k in integers(axes)]
    widths = [(0, 0)] * x.ndim
    crop = [slice(None)] * x.ndim
    for i, k in enumerate(chosen):
        before, after = amounts[i], amounts[i + len(amounts) // 2]
        widths[k] = (max(before, 0), max(after, 0))
        crop[k] = slice(max(-before, 0), x.shape[k] - max(-after, 0))
    x = x[tuple(crop)]
    if mode != "constant":
        return np.pad(x, widths, mode=mode)  # type: ignore[call-overload]
    if constant is None:
        return np.pad(x, widths, constant_values=value)
    x, fill = _case_aligned(x, constant.reshape((constant.shape[0],) + (1,) * _rank(x)))
    inside = np.pad(np.ones((1, *x.shape[1:]), dtype=bool), [(0, 0), *widths[1:]], constant_values=False)
    return np.where(inside, np.pad(x, widths, mode="constant"), fill)


def depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    cases, n, _, h, w = x.shape
    b, depth = blocksize, x.shape[2] // blocksize**2
    if mode == "DCR":
        moved = x.reshape((cases, n, b, b, depth, h, w)).transpose((0, 1, 4, 5, 2, 6, 3))
    else:
        moved = x.reshape((cases, n, depth, b, b, h, w)).transpose((0, 1, 2, 5, 3, 6, 4))
    return moved.reshape((cases, n, depth, h * b, w * b))


def space_to_depth(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    cases, n, c, h, w = x.shape
    b = blocksize
    order = (0, 1, 2, 4, 6, 3, 5) if mode == "CRD" else (0, 1, 4, 6, 2, 3, 5)
    moved = x.reshape((cases, n, c, h // b, b, w // b, b)).transpose(order)
    return moved.reshape((cases, n, c * b * b, h // b, w // b))


def trilu(x: Any, *, k: Any = None, upper: int = 1) -> Any:
    diagonal = 0 if k is None else integers(k)[0]
    rows, columns = np.indices(x.shape[-2:])
    kept = columns - rows >= diagonal if upper else columns - rows <= diagonal
    return np.where(kept, x, 0.0)


def reverse_sequence(x: Any, *, sequence_lens: Any, batch_axis: int = 1, time_axis: int = 0) -> Any:
    time = np.arange(x.shape[time_axis + 1])
    lengths = np.asarray(integers(sequence_lens))[:, None]
    order = np.where(time < lengths, lengths - 1 - time, time)  # (batch, time)
    shape = [1] * x.ndim
    shape[batch_axis + 1], shape[time_axis + 1] = order.shape
    order = (order if batch_axis < time_axis else order.T).reshape(shape)
    return np.take_along_axis(x, np.broadcast_to(order, (x.shape[0], *x.shape[1:])), axis=time_axis + 1)


def identity(x: Any) -> Any:
    return x


def shape_of(x: Any, *, start: int = 0, end: int | None = None) -> Any:
    return np.asarray([x.shape[1:][start:end]], dtype=np.float64)


def size_of(x: Any) -> Any:
    return np.asarray([math.prod(x.shape[1:])], dtype=np.float64)


def constant_of_shape(*, input: Any, value: Any = 0.0) -> Any:
    return np.full((1, *integers(input)), float(np.ravel(value)[0]))


_DATA = ("data",)

register(
    Movement("Identity", 1, ("input",), identity, pointwise=True),
    Movement("Reshape", 5, ("data", "shape"), reshape, static=frozenset({"shape"})),
    Movement("Flatten", 1, ("input",), flatten),
    Movement("Transpose", 1, _DATA, transpose),
    Movement("Squeeze", 1, _DATA, squeeze),
    Movement("Squeeze", 13, ("data", "axes"), squeeze, static=frozenset({"axes"})),
    Movement("Unsqueeze", 1, _DATA, unsqueeze),
    Movement("Unsqueeze", 13, ("data", "axes"), unsqueeze, static=frozenset({"axes"})),
    Movement("Slice", 1, _DATA, slice_),
    Movement("Slice", 10, ("data", "starts", "ends", "axes", "steps"), slice_, static=frozenset({"starts", "ends", "axes", "steps"})),
    Composite("Split", 2, ("input",), count_outputs, outputs=1 << 16),
    Composite("Split", 13, ("input", "split"), count_outputs, static=frozenset({"split"}), outputs=1 << 16),
    Movement("Split", 18, ("input", "split"), split, static=frozenset({"split"}), outputs=1 << 16),
    Movement("Concat", 4, ("inputs",), concat),
    Movement("Expand", 8, ("input", "shape"), expand, static=frozenset({"shape"})),
    Movement("Tile", 6, ("input", "repeats"), tile, static=frozenset({"repeats"})),
    Movement("Pad", 2, _DATA, pad, fills=("value",)),
    Movement("Pad", 11, ("data", "pads", "constant_value", "axes"), pad, static=frozenset({"pads", "axes"})),
    Movement("DepthToSpace", 1, ("input",), depth_to_space),
    Movement("SpaceToDepth", 1, ("input",), space_to_depth),
    Movement("Trilu", 14, ("input", "k"), trilu, static=frozenset({"k"})),
    Movement("ReverseSequence", 10, ("input", "sequence_lens"), reverse_sequence, static=frozenset({"sequence_lens"})),
    Movement("Shape", 1, _DATA, shape_of, copies=False),
    Movement("Size", 1, _DATA, size_of, copies=False),
    Movement("ConstantOfShape", 9, ("input",), constant_of_shape, static=frozenset({"input"})),
)
