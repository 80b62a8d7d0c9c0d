"""Elementwise arithmetic: Add, Sub, Mul, Sum, Mean. Broadcasting is numpy's, behind the case axis.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Before opset 7 broadcasting was
another one (attributes `axis`, `broadcast`); those versions have no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from certify.number import enclosure
from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate
from certify.semantics.contract import Arithmetic, Roundings, register
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.broadcast import Shape, align, broadcast_shape, collect, spread_count
from certify.semantics.families.form import Extent
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.moment_kernel import stored_mean_parts


def aligned(*x: Any) -> list[Any]:
    """All operands at the rank of the highest one."""
    rank = max(v.ndim for v in x)
    return [align(v, rank) for v in x]


class Product:
    """A * B, element by element."""

    def apply(self, A: Any, B: Any, **_: Any) -> Any:
        A, B = aligned(A, B)
        return A * B

    def left(self, a: Array, B: Array, shape: Shape, **_: Any) -> Array:
        return collect(a * align(B, a.ndim), shape)

    def right(self, a: Array, A: Array, shape: Shape, **_: Any) -> Array:
        return collect(a * align(A, a.ndim), shape)

    def largest(self, A: Array, B: Array, **_: Any) -> Array:
        return np.asarray(self.apply(A, B))

    def extent(self, A: Shape, B: Shape, **_: Any) -> Extent:
        shape = broadcast_shape([A, B])
        return Extent(shape, 1, spread_count(A, shape), spread_count(B, shape))

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        raise ValueError("an elementwise product has no addend")


def _multiply_interval(a: Enclosure, b: Enclosure) -> Enclosure:
    rank = max(len(a.shape), len(b.shape))
    return enclosure.multiply(a.map(lambda v: align(v, rank)), b.map(lambda v: align(v, rank)))


def _add(*x: Any) -> Any:
    return reduce(lambda a, b: a + b, aligned(*x))


def _add_interval(*x: Enclosure) -> Enclosure:
    rank = max(len(v.shape) for v in x)
    return reduce(enclosure.add, (v.map(lambda e: align(e, rank)) for v in x))


def _subtract(a: Any, b: Any) -> Any:
    a, b = aligned(a, b)
    return a - b


def _subtract_interval(a: Enclosure, b: Enclosure) -> Enclosure:
    return _add_interval(a, enclosure.negative(b))


def _spread_back(a: Array, shapes: Sequence[Shape]) -> Sequence[Array]:
    return [collect(a, shape) for shape in shapes]


def _subtract_back(a: Array, shapes: Sequence[Shape]) -> Sequence[Array]:
    return [collect(a, shapes[0]), -collect(a, shapes[1])]


def _elementwise_extent(shapes: Sequence[Shape]) -> tuple[Shape, int, int]:
    shape = broadcast_shape(shapes)
    return shape, len(shapes), max(spread_count(s, shape) for s in shapes)


def _least_quantum(quantum: Sequence[Array | float]) -> Array | float:
    """A power of two that divides every operand divides their sum."""
    q = [np.asarray(v, dtype=np.float64) for v in quantum]
    rank = max(v.ndim for v in q)
    return np.asarray(reduce(np.minimum, (align(v, rank) if v.ndim else v for v in q)))


def _one_rounding(arithmetic: Arithmetic, sizes: Sizes) -> Array:
    return arithmetic.round(sizes.magnitude, _least_quantum(sizes.quantum))


def _addition_rounding(arithmetic: Arithmetic, sizes: Sizes) -> Array:
    """One addition or subtraction of the two operands."""
    smaller = np.asarray(reduce(np.minimum, aligned(*sizes.operands)))
    return arithmetic.addition(sizes.magnitude, smaller, _least_quantum(sizes.quantum))


def _sum_rounding(arithmetic: Arithmetic, sizes: Sizes) -> Array:
    """n - 1 additions in any order; two operands are one addition, one operand is at most stored."""
    if sizes.terms <= 2:
        return _one_rounding(arithmetic, sizes)
    total = add_up(*aligned(*sizes.operands))
    largest = np.asarray(reduce(np.maximum, aligned(*sizes.operands)))
    return arithmetic.sum(sizes.terms, total, sizes.magnitude, largest)


def _any_association(arithmetic: Arithmetic, sizes: Sizes) -> Array:
    """n - 1 additions, whatever order the arithmetic states for sums: one after the other, none of which has a result beyond all
    magnitudes and the errors before it."""
    error, everything = np.zeros(()), add_up(*aligned(*sizes.operands))
    for _ in range(sizes.terms - 1):
        addition = arithmetic.sum(2, everything, everything, everything)
        error, everything = add_up(error, addition), add_up(everything, addition)
    return error


def mean_rounding(arithmetic: Arithmetic, n: int, total: Array, magnitude: Array, largest: Array, nonzero: Array | None = None) -> Array:
    """The kernel adds n terms, divides by n (or multiplies by 1/n rounded), stores: `total` >= sum |t_i|, `magnitude` >= |mean|.

    nonzero: how many terms may be other than exactly zero; None says all.

    Let 2^k >= n > 2^(k-1). Scaling all terms by 2^-k commutes with every rounding but where results are subnormal after it: there
    the scaled addition is exact, and the one that the kernel really does errs by at most u 2 smallest normal 2^k = 2 eta 2^k.
    So |sum^ - sum| / n <= (2^k / n) E with E = 2 n eta + arithmetic.sum of the scaled terms, 2 n eta being allowed for in what
    is stored. A sum that is not stored apart needs no scaling. The error is also at most gamma_(n-1) total / n in the
    accumulator's unit roundoff (Higham, section 4.2), which leaves out a store that does not happen there (plus eta, should
    sums be flushed to zero).

    n = 2^k: the division is exact but for underflow, and E holds the store. Otherwise the division rounds once in the
    accumulator's format, twice with 1/n rounded first, and the store last; without a wider accumulator the last two are
    one, which arithmetic.round covers. The sum itself must not overflow in the accumulator. n = 1 divides by 1, exactly.
    """
    if n <= 1:
        return arithmetic.sum(1, total, magnitude, largest, nonzero)
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    scale = 2.0 ** -(n - 1).bit_length()
    per_term = 1.0 if scale * n == 1.0 else float(inflate(np.asarray(1.0 / (scale * n)), 1))
    if arithmetic.accumulator == arithmetic.storage:
        summed = inflate(arithmetic.sum(n, total, inflate(magnitude * n, 1), largest, nonzero) * scale, 1)
    else:
        lost = 2.0 * n * eta
        summed = add_up(arithmetic.sum(n, total * scale, inflate((magnitude + lost) / per_term, 3), largest * scale, nonzero), lost)
    overflows = add_up(total, summed / scale) > arithmetic.accumulator.max
    if scale * n == 1.0:
        return np.where(overflows, np.inf, add_up(summed, 2.0 * eta))
    summed = add_up(summed * per_term)
    if n * u < 0.25:
        summed = np.minimum(summed, inflate(n * u / (1.0 - n * u) * total / n + eta, 7))
    reached = add_up(magnitude, summed)
    divisions = 1.0 if arithmetic.accumulator == arithmetic.storage else 2.0
    divided = inflate(divisions * (u * (1.0 + u) * reached + eta), 6)
    return np.where(overflows, np.inf, add_up(summed, divided, arithmetic.round(add_up(reached, divided))))


def _mean(*x: Any) -> Any:
    return _add(*x) / len(x)


def _mean_absolute(*x: Array) -> Array:
    return np.asarray(_mean(*x))


def _mean_back(a: Array, shapes: Sequence[Shape]) -> Sequence[Array]:
    return _spread_back(a / len(shapes), shapes)


def _variadic_mean_rounding(arithmetic: Arithmetic, sizes: Sizes) -> Array:
    total = add_up(*aligned(*sizes.operands))
    largest = np.asarray(reduce(np.maximum, aligned(*sizes.operands)))
    return mean_rounding(arithmetic, sizes.terms, total, sizes.magnitude, largest)


def _variadic_mean_split(roundings: Roundings, sizes: Sizes, usual: bool) -> tuple[Array, Array]:
    total = add_up(*aligned(*sizes.operands))
    largest = np.asarray(reduce(np.maximum, aligned(*sizes.operands)))
    return stored_mean_parts(roundings, sizes.terms, total, sizes.magnitude, largest, None, usual)


def _addition(name: str, since: int) -> Linear:
    return Linear(
        name,
        since,
        ("A", "B"),
        _add,
        _add,
        _spread_back,
        _elementwise_extent,
        _addition_rounding,
        _add_interval,
        _least_quantum,
        pointwise=True,
        infinities="points",
        adds=True,
        basic=True,
    )


def _subtraction(since: int) -> Linear:
    return Linear(
        "Sub",
        since,
        ("A", "B"),
        _subtract,
        _add,
        _subtract_back,
        _elementwise_extent,
        _addition_rounding,
        _subtract_interval,
        _least_quantum,
        pointwise=True,
        basic=True,
    )


def _sum(since: int, kernel: Callable[..., Array] = _sum_rounding, domain: str = "") -> Linear:
    return Linear(
        "Sum",
        since,
        ("data_0",),
        _add,
        _add,
        _spread_back,
        _elementwise_extent,
        kernel,
        _add_interval,
        _least_quantum,
        domain=domain,
        pointwise=True,
        adds=True,
        rounds=None if domain else "stored",
    )


register(
    *(_addition("Add", since) for since in (7, 13, 14)),
    *(_subtraction(since) for since in (7, 13, 14)),
    *(Bilinear("Mul", since, ("A", "B"), Product(), interval=_multiply_interval, pointwise=True) for since in (7, 13, 14)),
    *(_sum(since) for since in (8, 13)),
    _sum(1, _any_association, "certify"),  # a part of expansions, several numbers in whatever order a fused kernel adds them
    *(
        Linear(
            "Mean",
            since,
            ("data_0",),
            _mean,
            _mean_absolute,
            _mean_back,
            _elementwise_extent,
            _variadic_mean_rounding,
            pointwise=True,
            adds=True,
            split=_variadic_mean_split,
        )
        for since in (8, 13)
    ),
)
