"""Layer, RMS, instance and group normalization, fused kernels: their inner results stay in the kernel's own format.

Source: https://onnx.ai/onnx/operators/onnx__LayerNormalization.html, onnx__RMSNormalization.html,
onnx__InstanceNormalization.html, onnx__GroupNormalization.html. Division by the
standard deviation is covered as multiplication by its reciprocal: the reciprocal's rounding may be zero.
"""

from __future__ import annotations

import math

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.moment import Moment
from certify.semantics.families.sized import REASSOCIATED

_EPSILON = float(np.float32(1e-5))  # ONNX attributes are float32
_HELD = {1: (1, 10, 16), 10: (10,), 11: (1, 10, 11, 16), 16: (16,)}  # float element types, and those of which each holds all numbers


def _stage(e: Expansion, stash_type: int) -> tuple[list[Primitive], str | None, int | None]:
    """Steps to the operand as the first stage reads it, its name, and the element type that the stage keeps (None: the kernel's own).

    The standard computes the mean, the variance and x normalized in `stash_type`, fp32 by default, also for a tensor of fp64: what that
    loses is charged. Kernels that keep more of x lose less. Raises UnsupportedOperator for a type that is no float of 16 bits or more.
    """
    x, own = e.operands[0], e.elements[0] if e.elements else 0
    if stash_type not in _HELD:
        raise UnsupportedOperator(f"stash_type {stash_type}")
    if own not in _HELD or own in _HELD[stash_type]:
        return [], x, None
    held = e.name("stashed")
    return [Primitive("Store", (x,), held, inner=False, domain="certify", like=stash_type)], held, stash_type


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


def _reciprocal_root(e: Expansion, moment: str, epsilon: float, like: int | None) -> tuple[list[Primitive], dict[str, Array]]:
    """1 / sqrt(moment + epsilon)."""
    return [
        Primitive("Add", (moment, e.name("epsilon")), e.name("shifted"), like=like),
        Primitive("Sqrt", (e.name("shifted"),), e.name("root"), like=like),
        Primitive("Reciprocal", (e.name("root"),), e.name("reciprocal"), like=like),
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
    stage, x, like = _stage(e, stash_type)
    y = e.outputs[0] or e.name("output")
    roots, constants = _reciprocal_root(e, e.name("variance"), epsilon, like)
    told = {"axes": axes, "style": e.style("LayerNormalization")}
    return [
        *stage,
        Primitive("Mean", (x,), e.name("mean"), {"axes": np.asarray(axes), "keepdims": 1}, like=like, domain="certify"),
        Primitive("Variance", (x,), e.name("variance"), told, domain="certify", like=like),
        *roots,
        Primitive("Sub", (x, e.name("mean")), e.name("centred"), like=like),
        Primitive("Mul", (e.name("centred"), e.name("reciprocal")), e.name("normal"), like=like),
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
    stage, x, like = _stage(e, stash_type)
    y = e.outputs[0] or e.name("output")
    roots, constants = _reciprocal_root(e, e.name("square"), epsilon, like)
    return [
        *stage,
        Primitive("MeanSquare", (x,), e.name("square"), {"axes": axes}, domain="certify", like=like),
        *roots,
        Primitive("Mul", (x, e.name("reciprocal")), e.name("normal"), like=like),
        *_scaled(e, e.name("normal"), y, 1, 2),
        *_delivered(e, 1, e.name("reciprocal")),
    ], constants


def _grouped(
    e: Expansion, groups: int, each: tuple[int, int], epsilon: float, kernel: str, stash_type: int = 11
) -> tuple[list[Primitive], dict[str, Array]]:
    """Normalize groups of channels with all their places: x as (N, groups, channels of a group, places).

    each: the shape (groups, channels of a group, or 1) as which scale and bias meet that. Kernels may fold the affine map.
    """
    shape = e.shapes[0]
    y = e.outputs[0] or e.name("output")
    split = (shape[0], groups, shape[1] // groups, math.prod(shape[2:]))
    stage, x, like = _stage(e, stash_type)
    roots, constants = _reciprocal_root(e, e.name("variance"), epsilon, like)
    means, told = {"axes": np.asarray((2, 3)), "keepdims": 1}, {"axes": (2, 3), "style": e.style(kernel)}
    folded = ("affine", "grouped", "mean", "reciprocal", "scale", "bias")
    return [
        *stage,
        Primitive("Reshape", (x,), e.name("grouped"), {"shape": np.asarray(split), "allowzero": 1}, like=like),
        Primitive("Reshape", (e.operands[1],), e.name("scale"), {"shape": np.asarray((1, *each, 1))}),
        Primitive("Reshape", (e.operands[2],), e.name("bias"), {"shape": np.asarray((1, *each, 1))}),
        Primitive("Mean", (e.name("grouped"),), e.name("mean"), means, like=like, domain="certify"),
        Primitive("Variance", (e.name("grouped"),), e.name("variance"), told, domain="certify", like=like),
        *roots,
        Primitive("Sub", (e.name("grouped"), e.name("mean")), e.name("centred"), like=like),
        Primitive("Mul", (e.name("centred"), e.name("reciprocal")), e.name("normal"), like=like),
        Primitive("Mul", (e.name("normal"), e.name("scale")), e.name("scaled")),
        Primitive("Add", (e.name("scaled"), e.name("bias")), e.name("affine")),
        Primitive("Reassociated", tuple(e.name(part) for part in folded), e.name("stored"), inner=False, domain="certify"),
        Primitive("Reshape", (e.name("stored"),), y, {"shape": np.asarray(shape), "allowzero": 1}, inner=False),
    ], constants


def instance_normalization(e: Expansion, *, epsilon: float = _EPSILON) -> tuple[list[Primitive], dict[str, Array]]:
    """Each channel of each case by itself."""
    return _grouped(e, e.shapes[0][1], (e.shapes[0][1], 1), epsilon, "InstanceNormalization")


def group_normalization(
    e: Expansion, *, num_groups: int, epsilon: float = _EPSILON, stash_type: int = 1
) -> tuple[list[Primitive], dict[str, Array]]:
    """Scale and bias by channel (opset 21), or by group (opset 18): their length tells."""
    channels = e.shapes[0][1]
    by_group = e.shapes[1] == (num_groups,) and num_groups != channels
    return _grouped(e, num_groups, (num_groups, 1 if by_group else channels // num_groups), epsilon, "GroupNormalization", stash_type)


register(
    REASSOCIATED,
    Composite("InstanceNormalization", 1, ("input", "scale", "B"), instance_normalization),
    Composite("GroupNormalization", 18, ("X", "scale", "bias"), group_normalization),
    Moment("Variance", centred=True),
    Moment("MeanSquare", centred=False),
    Composite("LayerNormalization", 17, ("X", "Scale", "B"), layer_normalization, outputs=3),
    Composite("LayerNormalization", 1, ("X", "Scale", "B"), layer_normalization, outputs=3),
    Composite("RMSNormalization", 23, ("X", "scale"), rms_normalization),
    Composite("SimplifiedLayerNormalization", 1, ("X", "scale"), rms_normalization, outputs=2),
)
