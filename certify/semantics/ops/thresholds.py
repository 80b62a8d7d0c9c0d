"""Functions that jump at a threshold: ThresholdedRelu, Shrink. Exact where the comparison is decided, else the hull of both sides.

Source: the ONNX operator schemas, https://onnx.ai/onnx/operators/. A threshold may be compared as the attribute stands or as
the storage format holds it: it deviates by its rounding into storage, and whatever is compared with it lies within.
"""

from __future__ import annotations

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive

Expanded = tuple[list[Primitive], dict[str, Array]]
BOOL = 9  # onnx.TensorProto.BOOL
_FLOATS = {0, 1, 10, 11, 16, 17, 18, 19, 20, 23, 24}


def stored(e: Expansion, part: str) -> Primitive:
    """A constant of the expansion, as the storage format may hold it."""
    return Primitive("Store", (e.name(part),), e.name(f"stored {part}"), inner=False, domain="certify")


def zeros(e: Expansion, shape: tuple[int, ...], part: str = "zeros") -> Primitive:
    """Zeros in the storage format: what is chosen beside them is copied from storage to storage."""
    return Primitive("ConstantOfShape", (), e.name(part), {"input": np.asarray(shape, dtype=np.int64), "value": 0.0}, inner=False)


def thresholded_relu(e: Expansion, *, alpha: float = 1.0) -> Expanded:
    """x where x > alpha, else 0."""
    x, y = e.operands[0], e.outputs[0]
    return [
        stored(e, "alpha"),
        Primitive("Greater", (x, e.name("stored alpha")), e.name("above"), inner=False, like=BOOL),
        zeros(e, ()),
        Primitive("Where", (e.name("above"), x, e.name("zeros")), y or e.name("output"), inner=False),
    ], {e.name("alpha"): np.asarray(alpha, dtype=np.float64)}


def shrink(e: Expansion, *, bias: float = 0.0, lambd: float = 0.5) -> Expanded:
    """x + bias where x < -lambd, x - bias where x > lambd, else 0. Raises UnsupportedOperator for integers and a bias that is none.

    Both conditions hold where lambd < 0: the standard's first one counts. The sum is one operation on x and the bias as stored.
    """
    x, y = e.operands[0], e.outputs[0]
    if e.elements and e.elements[0] not in _FLOATS and bias != round(bias):
        raise UnsupportedOperator(f"integers shrunk by {bias:g}")
    constants = {"low": -lambd, "high": lambd, "bias": bias}
    return [
        stored(e, "low"),
        stored(e, "high"),
        stored(e, "bias"),
        Primitive("Less", (x, e.name("stored low")), e.name("below"), inner=False, like=BOOL),
        Primitive("Greater", (x, e.name("stored high")), e.name("above"), inner=False, like=BOOL),
        Primitive("Add", (x, e.name("stored bias")), e.name("raised"), inner=False),
        Primitive("Sub", (x, e.name("stored bias")), e.name("lowered"), inner=False),
        zeros(e, ()),
        Primitive("Where", (e.name("above"), e.name("lowered"), e.name("zeros")), e.name("upper"), inner=False),
        Primitive("Where", (e.name("below"), e.name("raised"), e.name("upper")), y or e.name("output"), inner=False),
    ], {e.name(part): np.asarray(value, dtype=np.float64) for part, value in constants.items()}


register(
    Composite("ThresholdedRelu", 10, ("X",), thresholded_relu),
    Composite("Shrink", 9, ("input",), shrink),
)
