"""Operators whose data decide the shape of their result: NonZero, Unique, NonMaxSuppression, Compress.

They are covered where what decides is known beforehand: constants, and inputs to which the data give one value. The decision must
be the same on numbers as the runtime holds them; for NonMaxSuppression also under the roundings of its own comparisons.
Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from certify.graph import decided
from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.movement import Movement
from certify.semantics.ops.movement import array_axis

Expanded = tuple[list[Primitive], dict[str, Array]]


def compress(x: Any, *, condition: Any, axis: int | None = None) -> Any:
    """The slices (elements, without axis) whose condition is true."""
    flat = x.reshape(x.shape[0], -1) if axis is None else x
    k = 1 if axis is None else array_axis(axis, x.ndim - 1)
    return np.take(flat, np.flatnonzero(np.ravel(condition)[: flat.shape[k]]), axis=k)


def take(x: Any, *, places: Any, axis: int | None = None) -> Any:
    """The slices (elements, without axis) at `places`."""
    return np.take(x.reshape(x.shape[0], -1), places, axis=1) if axis is None else np.take(x, places, axis=array_axis(axis, x.ndim - 1))


def known(*, value: Any) -> Any:
    """Whole numbers that are known beforehand."""
    return np.asarray(value, dtype=np.float64)[None]


def _both(expansion: Expansion, names: tuple[str, ...], decide: Callable[..., tuple[Any, ...]]) -> tuple[Any, ...]:
    """decide(*constants), the same on exact and stored ones (None where absent). Raises UnsupportedOperator if it is not."""
    given = zip(names, expansion.operands, strict=False)
    if missing := [part for part, name in given if name is not None and part not in expansion.constants]:
        raise UnsupportedOperator(f"data decide the shape of its result: its {missing[0]!r} must be a constant, or an input with one value")
    try:
        exact = decide(*(expansion.constants.get(part) for part in names))
        stored = decide(*(expansion.stored.get(part) for part in names))
    except decided.Undecided as reason:
        raise UnsupportedOperator(str(reason)) from reason
    if not all(np.array_equal(a, b) for a, b in zip(exact, stored, strict=True)):
        raise UnsupportedOperator("what it selects is not the same once its operands are stored in their format")
    return exact


def _whole(value: Any, output: str) -> Primitive:
    return Primitive("Known", (), output, {"value": value}, inner=False, domain="certify")


def _nonzero(expansion: Expansion) -> Expanded:
    """Positions of what is not 0."""
    (places,) = _both(expansion, ("X",), lambda x: (decided.nonzero(x),))
    y = expansion.outputs[0]
    return ([] if y is None else [_whole(places, y)]), {}


def _unique(expansion: Expansion, *, axis: int | None = None, sorted: int = 1) -> Expanded:
    """The different elements, or slices; where each was first, which of them each element is, how often each occurs."""
    shape = expansion.shapes[0]
    along = None if axis is None else array_axis(axis, len(shape)) - 1
    first, inverse, counts = _both(expansion, ("X",), lambda x: decided.unique(x, along, bool(sorted)))
    outputs = dict(enumerate(expansion.outputs))
    parts = [_whole(value, name) for value, i in ((first, 1), (inverse, 2), (counts, 3)) if (name := outputs.get(i)) is not None]
    if outputs[0] is not None:
        told = {"places": first, "axis": axis}
        parts.append(Primitive("Take", expansion.operands[:1], outputs[0], told, inner=False, domain="certify"))
    return parts, {}


_SUPPRESSION = ("boxes", "scores", "max_output_boxes_per_class", "iou_threshold", "score_threshold")


def _suppressed(expansion: Expansion, *, center_point_box: int = 0) -> Expanded:
    """The boxes that stay, best score first, when each drops those that overlap it by more than the threshold."""

    def decide(boxes: Any, scores: Any, limit: Any, overlap: Any, least: Any) -> tuple[Any]:
        numbers = [None if v is None else float(np.ravel(v)[0]) for v in (limit, overlap, least)]
        count, threshold = int(numbers[0] or 0), numbers[1] or 0.0
        return (decided.selected(boxes, scores, count, threshold, numbers[2], bool(center_point_box), expansion.unit_roundoff),)

    (rows,) = _both(expansion, _SUPPRESSION, decide)
    y = expansion.outputs[0]
    return ([] if y is None else [_whole(rows, y)]), {}


_X = frozenset({"X"})

register(
    Movement("Compress", 9, ("input", "condition"), compress, static=frozenset({"condition"})),
    Composite("NonZero", 9, ("X",), _nonzero, known=_X),
    Composite("Unique", 11, ("X",), _unique, known=_X, outputs=4),
    Composite("NonMaxSuppression", 10, _SUPPRESSION, _suppressed, known=frozenset(_SUPPRESSION)),
    Movement("Take", 1, ("input",), take, domain="certify"),
    Movement("Known", 1, (), known, domain="certify", copies=False),
)
