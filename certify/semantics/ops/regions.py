"""RoiAlign and MaxRoiPool: regions of images, brought to one size.

Source: https://onnx.ai/onnx/operators/onnx__RoiAlign.html, onnx__MaxRoiPool.html. RoiAlign's covered kernels scale and shift the corners,
subtract them, and place samples at start + i bin + (j + 1/2) bin / n in any association; all that in the kernel's own format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.selection import Selection
from certify.semantics.ops.arithmetic import mean_rounding

_BORDER = Fraction(1, 2**20)  # nearer to a whole number than that, relatively, fp32 kernels may round to either side


def _steps(pooled: tuple[int, int], counts: tuple[tuple[int, int], ...]) -> tuple[Any, Any]:
    """Where samples lie within a region, as whole numerators and denominators (regions, samples, (x, y)).

    Sample k of bin (i, j) is that of row k // columns and column k % columns; those beyond a region's own count stand at its first.
    """
    most = max(rows * columns for rows, columns in counts)
    top = np.zeros((len(counts), *pooled, max(most, 1), 2), dtype=int)
    bottom = np.ones_like(top)
    for r, (rows, columns) in enumerate(counts):
        k = np.arange(max(most, 1))
        k = np.where(k < rows * columns, k, 0)
        for axis, (n, at) in enumerate(((columns, k % max(columns, 1)), (rows, k // max(columns, 1)))):
            n, bins = max(n, 1), pooled[1 - axis]
            bin_ = np.arange(bins)[:, None] if axis == 0 else np.arange(bins)[:, None, None]
            top[r, ..., axis] = 2 * n * bin_ + 2 * at + 1
            bottom[r, ..., axis] = 2 * n * bins
    return top.reshape(len(counts), -1, 2), bottom.reshape(len(counts), -1, 2)


def _placed(start: Any, size: Any, **how: Any) -> Any:
    """start + size c: (cases, regions, (x, y)) each, to (cases, regions, samples, (x, y))."""
    top, bottom = _steps(**how)
    if scalar.is_object(size):
        top, bottom = top.astype(object), bottom.astype(object)
        return start[:, :, None] + size[:, :, None] * top / bottom
    return start[:, :, None] + size[:, :, None] * (top / bottom)


def _placed_back(a: Array, shapes: Sequence[Shape], **how: Any) -> Sequence[Array]:
    top, bottom = _steps(**how)
    return [a.sum(axis=2), (a * (top / bottom)).sum(axis=2)]


def _placed_extent(shapes: Sequence[Shape], **how: Any) -> tuple[Shape, int, int]:
    samples = _steps(**how)[0].shape[1]
    return (max(s[0] for s in shapes), shapes[0][1], samples, 2), 3, samples + 1


def _placed_rounding(arithmetic: Arithmetic, sizes: Sizes, **how: Any) -> Array:
    """At most six roundings on the path of either term, underflow once a rounding; then the store."""
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    if 6.0 * u >= 0.5:
        return np.full(sizes.magnitude.shape, np.inf)
    total = inflate(_placed(*sizes.operands, **how), 4)
    gamma = float(inflate(np.asarray(6.0 * u / (1.0 - 6.0 * u)), 3))
    off = add_up(mul_up(gamma, total), max(how["pooled"]) * 8.0 * eta)
    within = mul_up(max(how["pooled"]) * 4.0, total) <= arithmetic.accumulator.max
    return np.where(within, add_up(off, arithmetic.round(add_up(sizes.magnitude, off))), np.inf)


def _counted(x: Any, counts: tuple[int, ...]) -> Any:
    """x with what lies beyond a region's own samples set to zero, (cases, regions, C, bins, samples)."""
    own = np.arange(x.shape[-1])[None] < np.array(counts)[:, None]
    return np.where(own[:, None, None], x, x * 0 if scalar.is_object(x) else 0.0)


def _divided(counts: tuple[int, ...]) -> Any:
    return np.maximum(np.array(counts), 1)[:, None, None]


def _mean(x: Any, *, counts: tuple[int, ...], pooled: tuple[int, int]) -> Any:
    z = _counted(x.reshape(*x.shape[:3], math.prod(pooled), x.shape[3] // math.prod(pooled)), counts)
    divisor = _divided(counts)
    y = z.sum(axis=-1) / (divisor.astype(object) if scalar.is_object(x) else divisor)
    return y.reshape(*y.shape[:3], *pooled)


def _mean_back(a: Array, shapes: Sequence[Shape], *, counts: tuple[int, ...], pooled: tuple[int, int]) -> Sequence[Array]:
    bins = math.prod(pooled)
    shared = a.reshape(*a.shape[:3], bins) / _divided(counts)
    spread = np.broadcast_to(shared[..., None], (*shared.shape, shapes[0][3] // bins))
    return [_counted(spread, counts).reshape(a.shape[0], *shapes[0][1:])]


def _mean_extent(shapes: Sequence[Shape], *, counts: tuple[int, ...], pooled: tuple[int, int]) -> tuple[Shape, int, int]:
    return (*shapes[0][:3], *pooled), max(1, *counts), 1


def _mean_rounding(arithmetic: Arithmetic, sizes: Sizes, *, counts: tuple[int, ...], pooled: tuple[int, int]) -> Array:
    """A mean of as many samples as the region has; one bound for each such number."""
    x = sizes.operands[0]
    z = _counted(x.reshape(*x.shape[:3], math.prod(pooled), x.shape[3] // math.prod(pooled)), counts)
    total, largest = inflate(z.sum(axis=-1), sizes.terms), z.max(axis=-1, initial=0.0)
    nonzero = np.asarray((z > 0.0).sum(axis=-1), dtype=np.float64)
    magnitude = sizes.magnitude.reshape(*sizes.magnitude.shape[:3], -1)
    result = np.zeros(np.broadcast_shapes(total.shape, magnitude.shape))
    for count in sorted(set(counts)):
        bound = mean_rounding(arithmetic, max(count, 1), total, magnitude, largest, nonzero)
        result = np.where((np.array(counts) == count)[:, None, None], bound, result)
    return result.reshape(*result.shape[:3], *pooled)


def _sample_counts(
    rois: Array | None, regions: int, pooled: tuple[int, int], ratio: int, scale: float, aligned: bool
) -> tuple[tuple[int, int], ...]:
    """Rows and columns of samples in each bin: the sampling ratio, or ceil(size / bins) of known regions.

    Raises UnsupportedOperator where a kernel in fp32 may round to either side: near a whole number, unless nothing rounds.
    """
    if ratio > 0:
        return ((ratio, ratio),) * regions
    if rois is None:
        raise UnsupportedOperator("computed regions decide how many samples are taken where sampling_ratio is 0")
    found = []
    for roi in rois:
        corners = [Fraction(float(v)) * Fraction(scale) - (Fraction(1, 2) if aligned else 0) for v in roi]
        rounds = any(Fraction(float(np.float32(float(c)))) != c for c in corners)
        sizes = [corners[k + 2] - corners[k] if aligned else max(corners[k + 2] - corners[k], Fraction(1)) for k in (1, 0)]
        for size, bins in zip(sizes, pooled, strict=True):
            exact = not rounds and Fraction(float(np.float32(float(size)))) == size
            slack = _BORDER * (abs(size) + max(map(abs, corners))) / bins
            if not exact and math.ceil(size / bins - slack) != math.ceil(size / bins + slack):
                raise UnsupportedOperator("a region whose number of samples lies on the border of two")
        found.append((max(math.ceil(sizes[0] / pooled[0]), 0), max(math.ceil(sizes[1] / pooled[1]), 0)))
    return tuple(found)


def roi_align(
    e: Expansion,
    *,
    batch_indices: Any,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    coordinate_transformation_mode: str = "half_pixel",
) -> tuple[list[Primitive], dict[str, Array]]:
    """Corners times the scale (minus 1/2), their difference (at least 1 if not half_pixel), samples, their mean."""
    if mode != "avg":
        raise UnsupportedOperator("mode 'max': runtimes take the largest weighted element, not the largest interpolated value")
    aligned = coordinate_transformation_mode == "half_pixel"
    if not aligned and coordinate_transformation_mode != "output_half_pixel":
        raise UnsupportedOperator(f"coordinate transformation mode {coordinate_transformation_mode!r}")
    x, rois = e.operands[:2]
    pooled = (int(output_height), int(output_width))
    batch = tuple(int(v) for v in np.ravel(batch_indices))
    if 0 in (*e.shapes[0], len(batch)) or not all(0 <= b < e.shapes[0][0] for b in batch):
        raise UnsupportedOperator("regions of no image")
    counts = _sample_counts(e.constants.get("rois"), len(batch), pooled, int(sampling_ratio), float(spatial_scale), aligned)
    constants = {e.name("scale"): np.asarray(float(spatial_scale)), e.name("half"): np.asarray(0.5), e.name("one"): np.asarray(1.0)}
    steps = [Primitive("Mul", (rois, e.name("scale")), e.name("scaled"))]
    corners = e.name("scaled")
    if aligned:
        steps.append(Primitive("Sub", (corners, e.name("half")), e.name("corners")))
        corners = e.name("corners")
    for part, start in (("start", 0), ("end", 2)):
        steps.append(Primitive("Slice", (corners,), e.name(part), {"starts": (start,), "ends": (start + 2,), "axes": (1,)}))
    size = e.name("difference")
    steps.append(Primitive("Sub", (e.name("end"), e.name("start")), size))
    if not aligned:
        steps.append(Primitive("Max", (size, e.name("one")), e.name("size")))
        size = e.name("size")
    settings = {"mode": "linear", "padding": "border", "batch": batch, "crop": True}
    totals = tuple(rows * columns for rows, columns in counts)
    steps += [
        Primitive("RoiPlaces", (e.name("start"), size), e.name("places"), {"pooled": pooled, "counts": counts}, domain="certify"),
        Primitive("Sample", (x, e.name("places")), e.name("samples"), settings, domain="certify"),
        Primitive("RoiMean", (e.name("samples"),), e.outputs[0] or "", {"counts": totals, "pooled": pooled}, inner=False, domain="certify"),
    ]
    return steps, constants


def _bins(start: int, end: int, pooled: int, extent: int) -> list[range]:
    """The elements of each bin along an axis. Raises UnsupportedOperator for a bin without any, and where fp32 cuts another way."""
    length, out = max(end - start + 1, 1), []
    for p in range(pooled):
        low, high = math.floor(Fraction(p * length, pooled)), math.ceil(Fraction((p + 1) * length, pooled))
        width = np.float32(length) / np.float32(pooled)
        if (low, high) != (int(np.floor(np.float32(p) * width)), int(np.ceil(np.float32(p + 1) * width))):
            raise UnsupportedOperator("a bin whose border lies on an element, on which runtimes disagree")
        out.append(range(min(max(low + start, 0), extent), min(max(high + start, 0), extent)))
        if not out[-1]:
            raise UnsupportedOperator("a bin without elements")
    return out


def _corner(v: float, scale: float) -> int:
    """round(v scale), halves away from zero; refused where fp32 may round to the other side."""
    exact = Fraction(v) * Fraction(scale)
    rounded = math.floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    half = abs(abs(exact) % 1 - Fraction(1, 2))
    if half <= _BORDER * abs(exact) and Fraction(float(np.float32(float(exact)))) != exact:
        raise UnsupportedOperator("a corner that lies halfway between two elements, on which runtimes disagree")
    return rounded


def max_roi_candidates(x: Any, *, rois: Any, pooled_shape: Any, spatial_scale: float = 1.0) -> Any:
    """All elements of each bin; x holds element numbers (1, N, C, H, W)."""
    pooled = [int(n) for n in pooled_shape]
    bins = []
    for row in np.asarray(rois, dtype=np.float64):
        left, top, right, bottom = (_corner(float(v), float(spatial_scale)) for v in row[1:])
        rows, columns = _bins(top, bottom, pooled[0], x.shape[3]), _bins(left, right, pooled[1], x.shape[4])
        bins.append([[x[0, int(row[0])][:, np.ix_(r, c)[0], np.ix_(r, c)[1]] for c in columns] for r in rows])
    most = max((b.shape[1] * b.shape[2] for rows in bins for row in rows for b in row), default=0)
    out = np.full((1, len(bins), x.shape[2], *pooled, most), -1, dtype=np.intp)
    for n, i, j in np.ndindex(len(bins), *pooled):
        b = bins[n][i][j]
        out[0, n, :, i, j, : b.shape[1] * b.shape[2]] = b.reshape(b.shape[0], -1)
    return out


register(
    Linear("RoiPlaces", 1, ("start", "size"), _placed, _placed, _placed_back, _placed_extent, _placed_rounding, domain="certify"),
    Linear("RoiMean", 1, ("samples",), _mean, _mean, _mean_back, _mean_extent, _mean_rounding, domain="certify"),
    Composite(
        "RoiAlign",
        10,
        ("X", "rois", "batch_indices"),
        lambda e, **attributes: roi_align(e, **{"coordinate_transformation_mode": "output_half_pixel", **attributes}),
        static=frozenset({"batch_indices"}),
    ),
    *(Composite("RoiAlign", since, ("X", "rois", "batch_indices"), roi_align, static=frozenset({"batch_indices"})) for since in (16, 22)),
    *(Selection("MaxRoiPool", since, ("X", "rois"), max_roi_candidates, static=frozenset({"rois"})) for since in (1, 22)),
)
