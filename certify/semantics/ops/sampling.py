"""GridSample and DeformConv: images interpolated at computed places.

Source: https://onnx.ai/onnx/operators/onnx__GridSample.html, onnx__DeformConv.html. Fused kernels: places, weights and samples stay
in the kernel's own format. An image continues beyond its borders as the padding says and is interpolated there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.broadcast import Shape, align
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.sampling import Sample

_MODES = {"bilinear": "linear", "linear": "linear", "nearest": "nearest", "bicubic": "cubic", "cubic": "cubic"}


def scaled(grid: Any, shift: Any, *, halves: tuple[int, ...]) -> Any:
    """grid h / 2 + shift along the last axis, h whole numbers."""
    factor = np.array(halves, dtype=object if grid.dtype == object else np.float64)
    return grid * factor / 2 + align(shift, grid.ndim)


def _scaled_back(a: Array, shapes: Sequence[Shape], *, halves: tuple[int, ...]) -> Sequence[Array]:
    axes = tuple(range(1, a.ndim - 1))
    return [a * (np.array(halves) / 2.0), a.sum(axis=axes)]


def _scaled_size(grid: Array, shift: Array, *, halves: tuple[int, ...]) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(grid * (np.array(halves) / 2.0) + align(shift, grid.ndim))


def _scaled_extent(shapes: Sequence[Shape], *, halves: tuple[int, ...]) -> tuple[Shape, int, int]:
    return (max(s[0] for s in shapes), *shapes[0][1:]), 2, int(np.prod(shapes[0][1:-1]))


def _scaled_rounding(arithmetic: Arithmetic, sizes: Sizes, *, halves: tuple[int, ...]) -> Array:
    """In any association of (n + 1) h / 2 - 1/2: at most five roundings on a path of sum |n| h / 2 + h / 2 + 1/2, then the store."""
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    if 5.0 * u >= 0.5:
        return np.full(sizes.magnitude.shape, np.inf)
    factor = np.array(halves) / 2.0
    size = add_up(mul_up(sizes.operands[0], factor), factor, 0.5)
    gamma = float(inflate(np.asarray(5.0 * u / (1.0 - 5.0 * u)), 3))
    off = add_up(mul_up(gamma, size), mul_up(eta * (1.0 + gamma), add_up(factor, 4.0)))
    within = mul_up(2.0 * (1.0 + gamma), size) <= arithmetic.accumulator.max
    return np.where(within, add_up(off, arithmetic.round(add_up(sizes.magnitude, off))), np.inf)


def grid_sample(
    e: Expansion, *, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: int = 0
) -> tuple[list[Primitive], dict[str, Array]]:
    """Places (n + 1) s / 2 - 1/2 for s elements, or (n + 1) (s - 1) / 2 if corners are aligned; then a sample."""
    if mode not in _MODES or padding_mode not in ("zeros", "border", "reflection"):
        raise UnsupportedOperator(f"mode {mode!r} with padding mode {padding_mode!r}")
    extents = e.shapes[0][2:]
    if len(extents) not in (2, 3) or (_MODES[mode] == "cubic" and len(extents) == 3):
        raise UnsupportedOperator(f"mode {mode!r} of images with {len(extents)} axes")
    if 0 in extents:
        raise UnsupportedOperator("images without elements")
    halves = tuple(n - 1 if align_corners else n for n in extents[::-1])
    shift = np.array([(n - 1) / 2.0 for n in extents[::-1]])
    settings = {"mode": _MODES[mode], "padding": padding_mode, "align_corners": int(align_corners)}
    return [
        Primitive("Scaled", (e.operands[1], e.name("shift")), e.name("places"), {"halves": halves}, domain="certify"),
        Primitive("Sample", (e.operands[0], e.name("places")), e.outputs[0] or "", settings, inner=False, domain="certify"),
    ], {e.name("shift"): shift}


def _offsets(
    e: Expansion, kernel: Shape, out: Shape, groups: int, begin: Shape, stride: Shape, dilation: Shape
) -> tuple[list[Primitive], Array]:
    """Steps that lay offsets out as (N groups, taps, *out, (x, y)), and the places without them."""
    n, taps = e.shapes[0][0], int(np.prod(kernel))
    split, turned = (n, groups, taps, 2, *out), e.name("turned")
    steps = [
        Primitive("Reshape", (e.operands[2],), e.name("split"), {"shape": split}),
        Primitive("Transpose", (e.name("split"),), turned, {"perm": (0, 1, 2, 4, 5, 3)}),
        Primitive("Slice", (turned,), e.name("reversed"), {"starts": (1,), "ends": (-3,), "axes": (5,), "steps": (-1,)}),
        Primitive("Reshape", (e.name("reversed"),), e.name("offsets"), {"shape": (n * groups, taps, *out, 2)}),
    ]
    rows, columns = (
        (np.arange(k)[:, None] * d + np.arange(o)[None, :] * s - b)
        for k, d, o, s, b in zip(kernel, dilation, out, stride, begin, strict=True)
    )
    y, x = np.broadcast_arrays(rows[:, None, :, None], columns[None, :, None, :])
    return steps, np.stack([x, y], axis=-1).reshape(taps, *out, 2).astype(np.float64)


def deform_conv(
    e: Expansion,
    *,
    kernel_shape: Any = None,
    strides: Any = (1, 1),
    pads: Any = (0, 0, 0, 0),
    dilations: Any = (1, 1),
    group: int = 1,
    offset_group: int = 1,
) -> tuple[list[Primitive], dict[str, Array]]:
    """Samples at each tap's own place, zero beyond the image, times the mask; then a convolution with kernels of one element."""
    if len(e.shapes[0]) != 4:
        raise UnsupportedOperator(f"images with {len(e.shapes[0]) - 2} axes")
    (n, channels, *_), (outer, inner, *kernel) = e.shapes[0], e.shapes[1]
    bias, mask = (e.operands[i] if len(e.operands) > i else None for i in (3, 4))
    out, taps = e.shapes[2][2:], int(np.prod(kernel))
    steps, base = _offsets(e, tuple(kernel), out, offset_group, tuple(pads[:2]), tuple(strides), tuple(dilations))
    images = (n * offset_group, channels // offset_group, *e.shapes[0][2:])
    steps += [
        Primitive("Add", (e.name("offsets"), e.name("base")), e.name("places")),
        Primitive("Reshape", (e.operands[0],), e.name("images"), {"shape": images}),
        Primitive(
            "Sample", (e.name("images"), e.name("places")), e.name("sampled"), {"mode": "linear", "padding": "zeros"}, domain="certify"
        ),
    ]
    current = e.name("sampled")
    if mask is not None:
        steps.append(Primitive("Reshape", (mask,), e.name("mask"), {"shape": (n * offset_group, 1, taps, *out)}))
        steps.append(Primitive("Mul", (current, e.name("mask")), e.name("masked")))
        current = e.name("masked")
    steps += [
        Primitive("Reshape", (current,), e.name("columns"), {"shape": (n, channels * taps, *out)}),
        Primitive("Reshape", (e.operands[1],), e.name("weights"), {"shape": (outer, inner * taps, 1, 1)}),
        Primitive("Conv", (e.name("columns"), e.name("weights"), bias), e.outputs[0] or "", {"group": int(group)}, inner=False),
    ]
    return steps, {e.name("base"): base}


register(
    Linear("Scaled", 1, ("grid", "shift"), scaled, _scaled_size, _scaled_back, _scaled_extent, _scaled_rounding, domain="certify"),
    Sample(),
    *(Composite("GridSample", since, ("X", "grid"), grid_sample) for since in (16, 20, 22)),
    *(Composite("DeformConv", since, ("X", "W", "offset", "B", "mask"), deform_conv) for since in (19, 22)),
)
