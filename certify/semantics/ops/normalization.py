"""LayerNormalization and RMSNormalization, fused kernels: their inner results stay in the kernel's own format.

Source: https://onnx.ai/onnx/operators/onnx__LayerNormalization.html, onnx__RMSNormalization.html. Division by the
standard deviation is covered as multiplication by its reciprocal: the reciprocal's rounding may be zero.
"""

from __future__ import annotations

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.moment import Moment

_EPSILON = float(np.float32(1e-5))  # ONNX attributes are float32


def _scaled(e: Expansion, normal: str, y: str, scale: int, bias: int) -> list[Primitive]:
    """normal * scale + bias, the last of them stored in y; operands by position, absent ones left out."""
    present = [(kind, e.operands[i]) for kind, i in (("Mul", scale), ("Add", bias)) if i < len(e.operands) and e.operands[i] is not None]
    steps, current = [], normal
    for number, (kind, operand) in enumerate(present):
        last = number == len(present) - 1
        result = y if last else e.name("scaled")
        steps.append(Primitive(kind, (current, operand), result, inner=not last))
        current = result
    return steps


def _reciprocal_root(e: Expansion, moment: str, epsilon: float) -> tuple[list[Primitive], dict[str, Array]]:
    """1 / sqrt(moment + epsilon)."""
    return [
        Primitive("Add", (moment, e.name("epsilon")), e.name("shifted")),
        Primitive("Sqrt", (e.name("shifted"),), e.name("root")),
        Primitive("Reciprocal", (e.name("root"),), e.name("reciprocal")),
    ], {e.name("epsilon"): np.asarray(epsilon, dtype=np.float64)}


def _delivered(e: Expansion, index: int, inner: str) -> list[Primitive]:
    """An optional output: an inner result, stored."""
    name = e.outputs[index] if index < len(e.outputs) else None
    return [] if name is None else [Primitive("Store", (inner,), name, inner=False, domain="certify")]


def layer_normalization(
    e: Expansion, *, axis: int = -1, epsilon: float = _EPSILON, stash_type: int = 1
) -> tuple[list[Primitive], dict[str, Array]]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over all axes from `axis` on; outputs Y, Mean, InvStdDev."""
    rank = len(e.shapes[0])
    axes = tuple(range(axis % rank, rank))
    x, y = e.operands[0], e.outputs[0] or e.name("output")
    roots, constants = _reciprocal_root(e, e.name("variance"), epsilon)
    return [
        Primitive("ReduceMean", (x,), e.name("mean"), {"axes": np.asarray(axes), "keepdims": 1}),
        Primitive("Variance", (x,), e.name("variance"), {"axes": axes, "style": e.style("LayerNormalization")}, domain="certify"),
        *roots,
        Primitive("Sub", (x, e.name("mean")), e.name("centred")),
        Primitive("Mul", (e.name("centred"), e.name("reciprocal")), e.name("normal")),
        *_scaled(e, e.name("normal"), y, 1, 2),
        *_delivered(e, 1, e.name("mean")),
        *_delivered(e, 2, e.name("reciprocal")),
    ], constants


def rms_normalization(
    e: Expansion, *, axis: int = -1, epsilon: float = _EPSILON, stash_type: int = 1
) -> tuple[list[Primitive], dict[str, Array]]:
    """x / sqrt(mean(x^2) + epsilon) * scale over all axes from `axis` on; SimplifiedLayerNormalization adds InvStdDev."""
    rank = len(e.shapes[0])
    axes = tuple(range(axis % rank, rank))
    x, y = e.operands[0], e.outputs[0] or e.name("output")
    roots, constants = _reciprocal_root(e, e.name("square"), epsilon)
    return [
        Primitive("MeanSquare", (x,), e.name("square"), {"axes": axes}, domain="certify"),
        *roots,
        Primitive("Mul", (x, e.name("reciprocal")), e.name("normal")),
        *_scaled(e, e.name("normal"), y, 1, 2),
        *_delivered(e, 1, e.name("reciprocal")),
    ], constants


register(
    Moment("Variance", centred=True),
    Moment("MeanSquare", centred=False),
    Composite("LayerNormalization", 17, ("X", "Scale", "B"), layer_normalization, outputs=3),
    Composite("LayerNormalization", 1, ("X", "Scale", "B"), layer_normalization, outputs=3),
    Composite("RMSNormalization", 23, ("X", "scale"), rms_normalization),
    Composite("SimplifiedLayerNormalization", 1, ("X", "scale"), rms_normalization, outputs=2),
)
