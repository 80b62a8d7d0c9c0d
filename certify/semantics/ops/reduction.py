"""Linear reductions: ReduceSum, ReduceMean, and CumSum.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Axis k of the operator is
axis k + 1 of the array, behind the case axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, Roundings, register
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.moment_kernel import SHARED, running_parts_of_mean, stored_mean_parts
from certify.semantics.families.welford import running_mean
from certify.semantics.ops.arithmetic import mean_rounding


def reduced_axes(rank: int, axes: Any = None, noop_with_empty_axes: int = 0) -> tuple[int, ...]:
    """Array axes that a reduction of an operand with `rank` axes of its own sums over.

    `axes` is the attribute or the static input; absent or empty means all, or none with noop_with_empty_axes. Raises
    ValueError for an axis outside the rank.
    """
    listed = [] if axes is None else [int(axis) for axis in np.ravel(axes)]
    if not listed:
        return () if noop_with_empty_axes else tuple(range(1, rank + 1))
    if any(not -rank <= axis < rank for axis in listed):
        raise ValueError(f"axes {listed} are outside rank {rank}")
    return tuple(sorted({axis % rank + 1 for axis in listed}))


def _axes_of(x: Any, attributes: dict[str, Any]) -> tuple[int, ...]:
    return reduced_axes(x.ndim - 1, attributes.get("axes"), attributes.get("noop_with_empty_axes", 0))


def _count(shape: Shape, axes: tuple[int, ...]) -> int:
    return math.prod(shape[axis] for axis in axes)


def _sum(x: Any, **attributes: Any) -> Any:
    axes = _axes_of(x, attributes)
    return x.sum(axis=axes, keepdims=bool(attributes.get("keepdims", 1))) if axes else x


def _mean(x: Any, **attributes: Any) -> Any:
    return _sum(x, **attributes) / max(1, _count(x.shape, _axes_of(x, attributes)))


def _spread(a: Array, shapes: Sequence[Shape], **attributes: Any) -> Sequence[Array]:
    """Every summed element has the multiplier of its sum."""
    shape = shapes[0]
    axes = reduced_axes(len(shape) - 1, attributes.get("axes"), attributes.get("noop_with_empty_axes", 0))
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return [np.broadcast_to(a.reshape(a.shape[0], *kept[1:]), (a.shape[0], *shape[1:]))]


def _mean_back(a: Array, shapes: Sequence[Shape], **attributes: Any) -> Sequence[Array]:
    _, count, _ = _extent(shapes, **attributes)
    return _spread(a / count, shapes, **attributes)


def _extent(shapes: Sequence[Shape], **attributes: Any) -> tuple[Shape, int, int]:
    shape = shapes[0]
    axes = reduced_axes(len(shape) - 1, attributes.get("axes"), attributes.get("noop_with_empty_axes", 0))
    if attributes.get("keepdims", 1):
        out = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    else:
        out = tuple(extent for axis, extent in enumerate(shape) if axis not in axes)
    return out, max(1, _count(shape, axes)), 1


def _sum_rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """n - 1 additions in any order that the profile admits; a single term goes through the accumulator too, which may be narrow."""
    total, largest = sums_and_largest(sizes, attributes)
    return arithmetic.sum(sizes.terms, total, sizes.magnitude, largest, nonzero_terms(sizes, attributes))


def sums_and_largest(sizes: Sizes, attributes: dict[str, Any]) -> tuple[Array, Array]:
    """(>= sum |x|, max |x|) over the reduced axes."""
    x = sizes.operands[0]
    axes = _axes_of(x, attributes)
    largest = x.max(axis=axes, keepdims=bool(attributes.get("keepdims", 1)), initial=0.0)
    return inflate(np.asarray(_sum(x, **attributes)), sizes.terms), np.asarray(largest)


def nonzero_terms(sizes: Sizes, attributes: dict[str, Any]) -> Array:
    """How many of the terms of each sum may be other than zero."""
    return np.asarray(_sum((sizes.operands[0] > 0.0).astype(np.float64), **attributes))


def _mean_rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    if not sizes.operands[0].size:
        return np.full(sizes.magnitude.shape, np.inf)  # the mean of nothing is undefined, and NaN in the kernels
    total, largest = sums_and_largest(sizes, attributes)
    return mean_rounding(arithmetic, sizes.terms, total, sizes.magnitude, largest, nonzero_terms(sizes, attributes))


def _sum_quantum(quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
    """The least quantum of the operand divides any sum of its elements."""
    return float(np.min(quantum[0], initial=2.0**300))


def _running_axis(rank: int, axis: Any) -> int:
    return int(np.ravel(axis)[0]) % rank + 1


def _running(x: Any, exclusive: int, reverse: int, axis: int) -> Any:
    """Sums of all elements up to (without, if exclusive) each one, from the other end if reverse."""
    turned = np.flip(x, axis) if reverse else x
    total = np.cumsum(turned, axis=axis)
    if exclusive:
        total = total - turned if x.dtype == object else _shifted(total, axis)
    return np.flip(total, axis) if reverse else total


def _shifted(x: Array, axis: int) -> Array:
    moved = np.moveaxis(x, axis, -1)
    return np.moveaxis(np.concatenate([np.zeros_like(moved[..., :1]), moved[..., :-1]], axis=-1), -1, axis)


def _cumsum(x: Any, axis: Any = 0, exclusive: int = 0, reverse: int = 0) -> Any:
    return _running(x, exclusive, reverse, _running_axis(x.ndim - 1, axis))


def _cumsum_back(a: Array, shapes: Sequence[Shape], axis: Any = 0, exclusive: int = 0, reverse: int = 0) -> Sequence[Array]:
    return [np.asarray(_running(a, exclusive, 1 - reverse, _running_axis(a.ndim - 1, axis)))]


def _cumsum_extent(shapes: Sequence[Shape], axis: Any = 0, exclusive: int = 0, reverse: int = 0) -> tuple[Shape, int, int]:
    count = max(1, shapes[0][_running_axis(len(shapes[0]) - 1, axis)])
    return shapes[0], count, count


def _cumsum_rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """The larger of: running sums kept in the accumulator and stored once; every running sum stored and read back.

    Second case: n - 1 additions, each rounded as arithmetic.round says of its own exact result. Computed partial sums are at
    most T (1 + 4u)^n <= T e^(4nu), T the sum of magnitudes so far and u the storage's, since a rounding in the
    accumulator and one in storage, to nearest or truncated, enlarge by less than 1 + 4u together.
    """
    n = sizes.terms
    total = inflate(np.asarray(_cumsum(sizes.operands[0], **attributes)), n)
    largest = np.broadcast_to(sizes.operands[0].max(initial=0.0), total.shape)
    once = arithmetic.sum(n, total, sizes.magnitude, largest)
    if n <= 1:
        return once
    with np.errstate(over="ignore"):
        growth = np.exp(4.0 * n * arithmetic.storage.unit_roundoff)
        each = arithmetic.round(inflate(total * growth, 8), _sum_quantum(sizes.quantum))
        return np.maximum(once, inflate((n - 1) * each, 2))


def _moment_rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """A mean beside a variance: added up, or run after Welford's update (families/welford), V <= mean(x^2) <= max |x| sum |x| / n."""
    added = _mean_rounding(arithmetic, sizes, **attributes)
    if sizes.terms <= 1 or not sizes.operands[0].size:
        return added
    total, largest = sums_and_largest(sizes, attributes)
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = inflate(np.sqrt(total / sizes.terms * largest), 4)
        off = running_mean(arithmetic, sizes.terms, total, np.fmin(deviation, largest), largest)
        return np.maximum(added, add_up(off, arithmetic.round(add_up(sizes.magnitude, off))))


def _mean_split(roundings: Roundings, sizes: Sizes, usual: bool, **attributes: Any) -> tuple[Array, Array]:
    total, largest = sums_and_largest(sizes, attributes)
    return stored_mean_parts(roundings, sizes.terms, total, sizes.magnitude, largest, nonzero_terms(sizes, attributes), usual)


def _moment_split(roundings: Roundings, sizes: Sizes, usual: bool, **attributes: Any) -> tuple[Array, Array]:
    """As `_moment_rounding`; a variance beside it shares its roundings."""
    bias, sigma = _mean_split(roundings, sizes, usual, **attributes)
    if usual or sizes.terms <= 1 or not sizes.operands[0].size:
        return bias, mul_up(SHARED, sigma)
    total, largest = sums_and_largest(sizes, attributes)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.fmin(inflate(np.sqrt(total / sizes.terms * largest), 4), largest)
    running = running_parts_of_mean(roundings, sizes.terms, total, spread, largest, sizes.magnitude)
    return np.maximum(bias, running[0]), mul_up(SHARED, np.maximum(sigma, running[1]))


register(
    Linear("Mean", 1, ("data",), _mean, _mean, _mean_back, _extent, _moment_rounding, adds=True, split=_moment_split, domain="certify"),
    *(
        Linear(
            "ReduceSum",
            since,
            ("data", "axes") if since >= 13 else ("data",),
            _sum,
            _sum,
            _spread,
            _extent,
            _sum_rounding,
            divisor=_sum_quantum,
            adds=True,
            rounds="own",
            static=frozenset({"axes"}) if since >= 13 else frozenset(),
        )
        for since in (1, 11, 13)
    ),
    *(
        Linear(
            "ReduceMean",
            since,
            ("data", "axes") if since >= 18 else ("data",),
            _mean,
            _mean,
            _mean_back,
            _extent,
            _mean_rounding,
            adds=True,
            split=_mean_split,
            static=frozenset({"axes"}) if since >= 18 else frozenset(),
        )
        for since in (1, 11, 13, 18)
    ),
    *(
        Linear(
            "CumSum",
            since,
            ("x", "axis"),
            _cumsum,
            _cumsum,
            _cumsum_back,
            _cumsum_extent,
            _cumsum_rounding,
            divisor=_sum_quantum,
            static=frozenset({"axis"}),
        )
        for since in (11, 14)
    ),
)
