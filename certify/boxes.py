"""Boxes of a region in the numbers of the inputs' own formats, and a VNN-LIB property against the model that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from certify.errors import InvalidData
from certify.graph.model import ModelGraph
from certify.graph.tensors import dtype_of, type_name
from certify.graph.vnnlib.property import Case, Property
from certify.number.enclosure import Enclosure
from certify.number.formats import from_onnx
from certify.number.rounding import round_to, ulp
from certify.number.upward import Array

EXACT_INTEGERS = 2.0**53
"""Integers up to here are float64 numbers, as every array of the analysis is."""


def inward(elem_type: int, lo: Array, hi: Array) -> tuple[Array, Array]:
    """The least and the greatest number of the type in [lo, hi], elementwise; the first exceeds the second where there is none."""
    if from_onnx(elem_type) is None:
        least, greatest = _integers(elem_type)
        return np.maximum(np.ceil(lo), least), np.minimum(np.floor(hi), greatest)
    return _upward(lo, elem_type), -_upward(-hi, elem_type)


def _upward(x: Array, elem_type: int) -> Array:
    """The least number of the format at or above x; inf if there is none."""
    storage = from_onnx(elem_type)
    assert storage is not None
    inside = np.clip(x, -storage.max, storage.max)
    nearest = round_to(inside, storage)
    above = np.where(nearest >= inside, nearest, nearest + ulp(inside, storage))
    return np.where(x > storage.max, np.inf, above)


def _integers(elem_type: int) -> tuple[float, float]:
    import ml_dtypes

    dtype = dtype_of(elem_type)
    if dtype == np.bool_:
        return 0.0, 1.0
    if dtype.kind not in "iu" and dtype.isbuiltin == 1:
        raise InvalidData(f"inputs of type {type_name(elem_type)} can't be drawn; give them with --data")
    describe: Any = ml_dtypes.iinfo  # knows numpy's integers and the 4- and 2-bit ones
    info = describe(dtype)
    return max(float(info.min), -EXACT_INTEGERS), min(float(info.max), EXACT_INTEGERS)


def input_boxes(graph: ModelGraph, said: Property) -> tuple[tuple[dict[str, Enclosure], ...], int]:
    """The numbers that each case allows, by input, (1, *shape): X_0, X_1, ... are the inputs in the file's order, each in C order.

    An end is the least (greatest) number of the input's own format in the case's [least, greatest], which holds exactly the numbers
    of the format that the file's decimal bounds allow. Where they allow none, as a decimal that is fixed does, what a user feeds is a
    neighbour: the box then holds the greatest number of the format below and the least above. Second: how many elements those are.
    Raises InvalidData if the model has another number of input or output elements, or for bounds beyond the format.
    """
    inputs, outputs = _elements(graph, graph.inputs), _elements(graph, graph.outputs)
    for kind, declared, names, counts in (("X", said.inputs, graph.inputs, inputs), ("Y", said.outputs, graph.outputs, outputs)):
        if declared != sum(counts) and (kind == "X" or declared):
            side = "inputs" if kind == "X" else "outputs"
            listed = ", ".join(f"{name!r} {list(graph.values[name].shape)}" for name in names)
            raise InvalidData(
                f"{said.source}: declares {declared:,} {side} {kind}_i, but the model's {listed} hold {sum(counts):,} elements"
            )
    found = [_box(graph, case, inputs, said.source) for case in said.cases]
    return tuple(box for box, _ in found), sum(widened for _, widened in found)


def flat_outputs(graph: ModelGraph, outputs: Mapping[str, Array]) -> Array:
    """Arrays (cases, *shape) by output as rows of Y_0, Y_1, ...: the outputs in the file's order, each in C order; see `Case.margins`."""
    return np.concatenate([outputs[name].reshape(outputs[name].shape[0], -1) for name in graph.outputs], axis=1)


def _elements(graph: ModelGraph, names: tuple[str, ...]) -> list[int]:
    return [int(np.prod(graph.values[name].shape, dtype=np.int64)) for name in names]


def _box(graph: ModelGraph, case: Case, counts: list[int], source: str) -> tuple[dict[str, Enclosure], int]:
    box = {}
    first = widened = 0
    for name, count in zip(graph.inputs, counts, strict=True):
        value, part = graph.values[name], slice(first, first + count)
        lo, hi = inward(value.elem_type, case.least[part], case.greatest[part])
        none = lo > hi
        if from_onnx(value.elem_type) is not None:
            # No number lies in [least, greatest], so the last below it and the first above it are neighbours.
            lo, hi = np.where(none, hi, lo), np.where(none, lo, hi)
            widened += int(none.sum())
            none = np.isinf(lo) | np.isinf(hi)
        if none.any():
            i = first + int(np.argmax(none))
            raise InvalidData(f"{source}: no {type_name(value.elem_type)} number, the type of input {name!r}, obeys the bounds of X_{i}")
        if from_onnx(value.elem_type) is None and (np.maximum(-lo, hi) >= EXACT_INTEGERS).any():
            raise InvalidData(f"{source}: input {name!r} may hold integers of 2^53 and more, which are not supported; narrow its bounds")
        box[name] = Enclosure(lo.reshape((1, *value.shape)), hi.reshape((1, *value.shape)))
        first += count
    return box, widened
