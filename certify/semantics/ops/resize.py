"""Resize and Upsample.

Source: https://onnx.ai/onnx/operators/onnx__Resize.html, onnx__Upsample.html. Scales are exact as stored; given sizes, a scale is
their exact ratio. Covered kernels: coordinates by the standard's formulas in fp32 or wider, each constant (scale, roi) rounded
there, at most six roundings of intermediate results, quotients or products by reciprocals (the nearest element: quotients);
weights evaluated from them, axis by axis or multiplied first. Where onnxruntime or the standard's reference disagree with the
text, the node is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.resampling import COORDINATE_ROUNDOFF, Plan, Resampling
from certify.semantics.families.taps import Row, Taps, gathered

_HALF = Fraction(1, 2)
_ROUNDINGS = 6


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its extents, the exact scale, and the roi along it."""

    before: int
    after: int
    scale: Fraction
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)


def _coordinate(mode: str, axis: Axis, i: int) -> tuple[Fraction, Fraction]:
    """(exact coordinate of result i, sum of the magnitudes of the intermediate results that a kernel rounds)."""
    n, m, at = axis.before, axis.after, Fraction(i)
    if mode == "asymmetric":
        return at / axis.scale, at / axis.scale
    if mode == "align_corners":
        x = at * (n - 1) / (m - 1) if m > 1 else Fraction(0)
        return x, x
    if mode == "tf_crop_and_resize":
        if m == 1:
            return _HALF * (axis.start + axis.end) * (n - 1), (abs(axis.start) + abs(axis.end)) * (n - 1)
        moved = at * (axis.end - axis.start) * (n - 1) / (m - 1)
        return axis.start * (n - 1) + moved, abs(axis.start) * (n - 1) + abs(moved)
    centre = (at + _HALF) / axis.scale
    if mode == "tf_half_pixel_for_nn":
        return centre, centre
    if mode == "pytorch_half_pixel" and m == 1:
        return Fraction(0), Fraction(0)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return centre - _HALF, centre + _HALF
    if mode == "half_pixel_symmetric":
        adjustment = m / (axis.scale * n)
        return Fraction(n, 2) * (1 - adjustment) + centre - _HALF, Fraction(n, 2) * (1 + adjustment) + centre + _HALF
    raise UnsupportedOperator(f"coordinate transformation mode {mode!r}")


def _is_exact(mode: str, axis: Axis, i: int, divided: Fraction | None) -> bool:
    """True if no fp32 kernel rounds: the ratio is a power of two, and all results have few bits; 0 stays 0.

    divided: the coordinate, of a kernel that divides by the ratio. A quotient with few bits is exact if the ratio is an fp32 number.
    """
    if i == 0 and (mode in ("asymmetric", "align_corners") or (mode == "tf_crop_and_resize" and not axis.start and axis.after > 1)):
        return True
    if mode not in ("asymmetric", "align_corners", "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn"):
        return False
    aligned = mode == "align_corners"
    ratio = Fraction(max(axis.before - 1, 1), max(axis.after - 1, 1)) if aligned else axis.scale
    if divided is not None and (aligned or Fraction(float(np.float32(float(ratio)))) == ratio):
        return _is_power(divided.denominator) and divided.denominator <= 2**8 and abs(divided) < 2**14 and i * axis.before < 2**22
    power = _is_power(ratio.numerator) and _is_power(ratio.denominator)
    return power and max(ratio, 1 / ratio) * 4 * max(axis.before, axis.after) < 2**22


def _is_power(n: int) -> bool:
    return n & (n - 1) == 0


def _shift(mode: str, axis: Axis, i: int, size: Fraction, divided: Fraction | None) -> Fraction:
    """How far a kernel's coordinate may be off."""
    return Fraction(0) if _is_exact(mode, axis, i, divided) else _ROUNDINGS * Fraction(COORDINATE_ROUNDOFF) * size


def _nearest(x: Fraction, mode: str) -> int:
    if mode == "floor":
        return math.floor(x)
    if mode == "ceil":
        return math.ceil(x)
    if mode == "round_prefer_floor":
        return math.ceil(x - _HALF)
    if mode == "round_prefer_ceil":
        return math.floor(x + _HALF)
    raise UnsupportedOperator(f"nearest mode {mode!r}")


def _copied(x: Fraction, off: Fraction, extent: int, modes: tuple[str, ...]) -> dict[int, tuple[Fraction, float, float]]:
    """The nearest element, by the first of `modes`, and whatever a kernel may take instead: weight 1 might move to it."""
    own = min(max(_nearest(x, modes[0]), 0), extent - 1)
    reached = [_nearest(v, mode) for mode in modes for v in (x - off, x + off)]
    others = range(max(min(reached), 0), min(max(reached), extent - 1) + 1)
    change = 1.0 if {own, *others} != {own} else 0.0
    taps = {tap: (Fraction(0), change, 0.0) for tap in others}
    return taps | {own: (Fraction(1), change, 0.0)}


@dataclass(frozen=True, slots=True)
class Filter:
    """weight: of a tap at distance t. support: it is zero from there on. lipschitz: of the weight.

    units: evaluating it errs by at most so many u, roundings of its argument up to 3 u included.
    """

    weight: Callable[[Fraction], Fraction]
    support: int
    lipschitz: Fraction
    units: float


def _triangle(t: Fraction) -> Fraction:
    return max(1 - abs(t), Fraction(0))


_APART = 160  # more than twice the roundings that lie on the path of a term (families/resampling)
TRIANGLE = Filter(_triangle, 1, Fraction(1), 3.0)


def cubic(a: Fraction) -> Filter:
    """Keys's cubic convolution: (a+2) t^3 - (a+3) t^2 + 1 up to 1, a t^3 - 5 a t^2 + 8 a t - 4 a up to 2.

    Slopes: 3 (a+2) t^2 - 2 (a+3) t is extreme at t = (a+3) / (3 (a+2)) or at 1, where it is a; a (3 t^2 - 10 t + 8) is at most |a|.
    Roundings by Horner, a running error analysis: outside, a t - 5 a, off by 11 u |a|; times t, at most 6.25 |a|, 28.25; + 8 a, at
    most 4 |a|, 40.25; times t, at most 4.2 |a|, 84.7; - 4 a: 89 u |a|. Inside at most (7 |a| + 20) u. Arguments: 3 u times the slope.
    """

    def weight(t: Fraction) -> Fraction:
        t = abs(t)
        if t <= 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return ((t - 5) * t + 8) * t * a - 4 * a if t < 2 else Fraction(0)

    turn = (a + 3) / (3 * (a + 2)) if a != -2 else Fraction(2)
    slopes = [abs(a)] + ([abs(3 * (a + 2) * turn**2 - 2 * (a + 3) * turn)] if 0 <= turn <= 1 else [])
    return Filter(weight, 2, max(slopes), float(max(8 * (abs(a) + 3), 100 * abs(a)) + 3 * max(slopes)))


def _interpolated(
    x: Fraction, off: Fraction, shrink: Fraction, filter: Filter, extent: int, exclude: bool, antialias: bool
) -> tuple[Row, Fraction]:
    """(taps, sum of their weights): all within the filter's support of a coordinate within `off` of x, taps outside folded or excluded."""
    reach = filter.support / shrink
    first, last = math.floor(x - off - reach) + 1, math.ceil(x + off + reach) - 1
    # A stretched filter's argument is multiplied by a rounded scale: four roundings of at most its support more.
    argument = shrink * off + (4 * Fraction(COORDINATE_ROUNDOFF) * (filter.support + 1) if antialias else 0)
    change = float(filter.lipschitz * argument) * (1.0 + 2.0**-50)
    # Eighths are numbers of every format, and so is what a triangle makes of them.
    units = 0.0 if filter is TRIANGLE and not antialias and not off and (8 * x).denominator == 1 else filter.units
    taps: dict[int, tuple[Fraction, float, float]] = {}
    gross: dict[int, Fraction] = {}
    for i in range(first, last + 1):
        if exclude and not 0 <= i < extent:
            continue
        t = (i - x) * shrink
        tap = min(max(i, 0), extent - 1)
        w, shift, count = taps.get(tap, (Fraction(0), 0.0, 0.0))
        taps[tap] = (w + filter.weight(t), shift + change, count + units)
        gross[tap] = gross.get(tap, Fraction(0)) + abs(filter.weight(t))
    total = sum((w for w, _, _ in taps.values()), start=Fraction(0))
    if total <= 0:
        raise UnsupportedOperator("a result whose taps all lie outside of the operand")
    # Weights of either sign that meet in one element are multiplied apart, and all of that is rounded.
    apart = {i: float(_APART * (gross[i] - abs(w))) * (1.0 + 2.0**-50) for i, (w, _, _) in taps.items()}
    return Row({i: (w / total, shift, count + apart[i]) for i, (w, shift, count) in taps.items()}), total


def _taps(axis: Axis, mode: str, coordinates: str, nearest: tuple[str, ...], a: Fraction, exclude: bool, antialias: bool) -> Taps:
    rows, totals = [], []
    filter = TRIANGLE if mode == "linear" else cubic(a)
    shrink = min(axis.scale, Fraction(1)) if antialias else Fraction(1)
    for i in range(axis.after):
        x, size = _coordinate(coordinates, axis, i)
        off = _shift(coordinates, axis, i, size, x if mode == "nearest" else None)
        cropped = coordinates == "tf_crop_and_resize"
        outside = cropped and not 0 <= x <= axis.before - 1
        if mode == "nearest":
            row, total = Row(_copied(x, off, axis.before, nearest)), Fraction(1)
        else:
            row, total = _interpolated(x, off, shrink, filter, axis.before, exclude and not outside, antialias)
        border = min(abs(x), abs(x - (axis.before - 1)))
        row = Row(row.taps, outside, cropped and off > 0 and border <= off)
        rows.append(row)
        totals.append(total)
    return gathered(rows, axis.before, totals if mode != "nearest" and (exclude or antialias) else None)


def _plan(rank: int, axes: dict[int, Axis], fill: float, **how: Any) -> Plan:
    """Axes on which nothing is resized are left out. Runtimes copy an operand that keeps its shape, whatever its scales are.

    Otherwise they interpolate along two axes, three where the rank is odd, whether these are resized or not.
    """
    resized = {k: axis for k, axis in axes.items() if axis.scale != 1 or axis.before != axis.after}
    kept = [k for k, axis in resized.items() if axis.before == axis.after]
    if kept and (how["antialias"] or len(kept) == len(resized)):
        raise UnsupportedOperator(f"axis {kept[0]} keeps its extent though its scale is not 1, on which runtimes disagree")
    if any(axis.before == 0 or axis.after == 0 for axis in resized.values()):
        raise UnsupportedOperator("an axis without elements is resized")
    taps = tuple((k + 1, _taps(axis, **how)) for k, axis in sorted(resized.items()))
    blended = {"linear": (2, max(len(resized), 3 if rank in (3, 5) else 2)), "cubic": (4, max(len(resized), 2))}
    return Plan(taps, fill, blended.get(how["mode"]) if resized else None)


def _given(x: Any) -> list[Any] | None:
    return None if x is None or not np.size(x) else list(np.ravel(x))


def _scaled(n: int, scale: Fraction) -> int:
    """floor(n scale). Raises UnsupportedOperator where fp32 says something else."""
    exact, single = math.floor(n * scale), int(np.floor(np.float32(n) * np.float32(float(scale))))
    if exact != single:
        raise UnsupportedOperator(f"{n} elements times {float(scale)} are {exact} or, in fp32, {single}")
    return exact


def _kept_ratio(extents: list[int], sizes: list[int], policy: str) -> list[tuple[int, Fraction]]:
    """(size, scale) for each axis: as wanted, or all scaled by the least or the greatest ratio, halves rounded up."""
    ratios = [Fraction(size, n) if n else Fraction(1) for size, n in zip(sizes, extents, strict=True)]
    if policy == "stretch" or not ratios:
        return list(zip(sizes, ratios, strict=True))
    if policy not in ("not_larger", "not_smaller"):
        raise UnsupportedOperator(f"keep_aspect_ratio_policy {policy!r}")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    out = []
    for n in extents:
        size = math.floor(n * scale + _HALF)
        if abs(n * scale + _HALF - round(n * scale + _HALF)) * 2**20 < n * scale and Fraction(float(np.float32(float(scale)))) != scale:
            raise UnsupportedOperator("a size that lies on the border of two whole numbers, so that runtimes disagree")
        out.append((size, scale))
    return out


def _axes(shape: tuple[int, ...], roi: Any, scales: Any, sizes: Any, axes: Any, policy: str, coordinates: str) -> dict[int, Axis]:
    rank = len(shape)
    chosen = list(range(rank)) if axes is None or not len(axes) else [int(k) % rank for k in axes]
    factors, wanted = _given(scales), _given(sizes)
    if (factors is None) == (wanted is None) or len(factors or wanted or ()) != len(chosen):
        raise UnsupportedOperator("it needs either scales or sizes, one for each axis")
    extents = [shape[k] for k in chosen]
    if wanted is not None:
        results = _kept_ratio(extents, [int(v) for v in wanted], policy)
    else:
        exact = [Fraction(float(v)) for v in factors or ()]
        results = [(_scaled(n, scale), scale) for n, scale in zip(extents, exact, strict=True)]
    found = {k: Axis(n, after, scale) for k, n, (after, scale) in zip(chosen, extents, results, strict=True)}
    if coordinates in ("align_corners", "tf_crop_and_resize", "pytorch_half_pixel"):
        _is_whole(found, coordinates)
    if coordinates != "tf_crop_and_resize":
        return found
    corners = _given(roi)
    if corners is None or len(corners) != 2 * len(chosen):
        raise UnsupportedOperator("tf_crop_and_resize needs a roi with a start and an end for each axis")
    ends = [Fraction(float(v)) for v in corners]
    out = {}
    for i, (k, axis) in enumerate(found.items()):
        out[k] = Axis(axis.before, axis.after, axis.scale, ends[i], ends[i + len(chosen)])
        whole = out[k].start == 0 and out[k].end == 1
        if not whole and (axis.scale == 1 or wanted is None):
            raise UnsupportedOperator("a cropped axis whose scale is 1 or decides its size, on which runtimes disagree")
    return out


def _is_whole(axes: dict[int, Axis], coordinates: str) -> None:
    """The standard's own reference takes a length that is no whole number where its text and runtimes take the whole one."""
    for axis in axes.values():
        if axis.before * axis.scale != axis.after and axis.scale != 1 and (axis.after == 1 or coordinates != "pytorch_half_pixel"):
            raise UnsupportedOperator(f"{coordinates} with a scale that gives no whole number of elements, on which runtimes disagree")


def resize(
    shape: tuple[int, ...],
    *,
    roi: Any = None,
    scales: Any = None,
    sizes: Any = None,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    antialias: int = 0,
    keep_aspect_ratio_policy: str = "stretch",
    axes: Any = None,
) -> Plan:
    """Opset 11 on."""
    if mode not in ("nearest", "linear", "cubic"):
        raise UnsupportedOperator(f"mode {mode!r}")
    if (mode == "nearest" and antialias) or (exclude_outside and not (mode == "cubic" or antialias)):
        raise UnsupportedOperator("antialias or exclude_outside in a mode that the standard does not give them")
    found = _axes(shape, roi, scales, sizes, axes, keep_aspect_ratio_policy, coordinate_transformation_mode)
    return _plan(
        len(shape),
        found,
        float(extrapolation_value),
        mode=mode,
        coordinates=coordinate_transformation_mode,
        nearest=(nearest_mode,),
        a=Fraction(float(cubic_coeff_a)),
        exclude=bool(exclude_outside),
        antialias=bool(antialias),
    )


def upsample(shape: tuple[int, ...], *, scales: Any, mode: str = "nearest") -> Plan:
    """Up to opset 10: asymmetric coordinates; the element below, though onnxruntime takes the one above where it shrinks an axis."""
    if mode not in ("nearest", "linear"):
        raise UnsupportedOperator(f"mode {mode!r}")
    found = _axes(shape, None, scales, None, None, "stretch", "asymmetric")
    how = {"mode": mode, "coordinates": "asymmetric", "a": Fraction(0), "exclude": False, "antialias": False}
    shrinks = any(axis.scale < 1 for axis in found.values())
    return _plan(len(shape), found, 0.0, nearest=("floor", "ceil") if shrinks else ("floor",), **how)


register(
    Resampling("Upsample", 7, ("X",), upsample),
    Resampling("Upsample", 9, ("X", "scales"), upsample),
    Resampling("Resize", 10, ("X", "scales"), upsample),
    *(Resampling("Resize", since, ("X", "roi", "scales", "sizes"), resize) for since in (11, 13, 18, 19)),
)
