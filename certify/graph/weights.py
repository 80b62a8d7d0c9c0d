"""Facts about the constants of a node, in passes over slabs, so that mapped weights are never copied whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.formats import Format
from certify.number.upward import Array, inflate

SLAB = 1 << 21  # elements; 16 MiB as float64


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """largest, smallest: extreme |w| over the non-zero finite elements, None if all are zero; outside: elements beyond a format."""

    size: int
    largest: float | None
    smallest: float | None
    overflowing: int
    underflowing: int


def slabs(weights: npt.NDArray[Any]) -> Iterator[Array]:
    """`weights` in float64, in pieces along the first axis (a 0- or 1-dimensional array along its only one)."""
    rows = weights.reshape(1) if weights.ndim == 0 else weights
    step = max(1, SLAB // max(1, rows.size // max(1, rows.shape[0])))
    for start in range(0, rows.shape[0], step):
        yield np.asarray(rows[start : start + step]).astype(np.float64)


def magnitudes(weights: npt.NDArray[Any], storage: Format) -> Magnitudes:
    """Extremes of |w|, and how many elements `storage` cannot hold as normal numbers: too large, or too small and not zero."""
    largest, smallest, over, under = 0.0, np.inf, 0, 0
    if weights.size and weights.strides and not any(weights.strides):
        one = magnitudes(weights[(0,) * weights.ndim], storage)
        return Magnitudes(weights.size, one.largest, one.smallest, one.overflowing * weights.size, one.underflowing * weights.size)
    for slab in slabs(weights):
        size = np.abs(slab)
        largest = max(largest, float(np.max(size, initial=0.0)))
        smallest = min(smallest, float(np.min(size, initial=np.inf, where=size > 0.0)))
        over += int(np.count_nonzero(size > storage.max))
        under += int(np.count_nonzero((size > 0.0) & (size < storage.smallest_normal)))
    return Magnitudes(int(weights.size), largest or None, None if largest == 0.0 else smallest, over, under)


def absolute_sums(weights: npt.NDArray[Any], axes: tuple[int, ...]) -> Array:
    """Upper bounds of sum |w| over `axes`, of the shape that the other axes leave."""
    axes = tuple(axis % weights.ndim for axis in axes)
    if not weights.size:
        return np.zeros([d for axis, d in enumerate(weights.shape) if axis not in axes])
    if not any(weights.strides):  # one element, repeated
        left = [d for axis, d in enumerate(weights.shape) if axis not in axes]
        count = prod(d for axis, d in enumerate(weights.shape) if axis in axes)
        return np.broadcast_to(inflate(np.abs(weights[(0,) * weights.ndim].astype(np.float64)) * count, 2), left)
    total = [np.sum(np.abs(slab), axis=axes) for slab in slabs(weights)]
    found = np.asarray(sum(total[1:], total[0]) if 0 in axes else np.concatenate([np.asarray(t) for t in total]), dtype=np.float64)
    return inflate(found, max(1, weights.size // max(1, found.size)))


def largest_upward(values: Array) -> float:
    """The largest entry, 0 for none."""
    if values.size and not any(values.strides):
        return float(values[(0,) * values.ndim])
    return float(np.max(values, initial=0.0))


def spectral_norm(matrix: npt.NDArray[Any]) -> float:
    """Largest singular value of a matrix (or of any in a stack), computed in float64: an estimate, good to a few ulps times its size."""
    stack = matrix.reshape(-1, *matrix.shape[-2:])
    return max((_largest_singular(m) for m in stack), default=0.0)


def _largest_singular(matrix: npt.NDArray[Any]) -> float:
    scale = max((float(np.max(np.abs(slab), initial=0.0)) for slab in slabs(matrix)), default=0.0)
    if scale == 0.0:
        return 0.0
    if min(matrix.shape) <= 64:
        return float(np.linalg.norm(matrix.astype(np.float64) / scale, 2)) * scale
    from scipy.sparse.linalg import ArpackError, LinearOperator, svds

    def forward(x: Array) -> Array:
        return np.concatenate([slab @ x.reshape(-1) for slab in slabs(matrix)]) / scale

    def backward(y: Array) -> Array:
        flat, start, total = y.reshape(-1), 0, np.zeros(matrix.shape[1])
        for slab in slabs(matrix):
            total += flat[start : start + slab.shape[0]] @ slab
            start += slab.shape[0]
        return total / scale

    operator = LinearOperator(matrix.shape, matvec=forward, rmatvec=backward, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    try:
        return float(svds(operator, k=1, v0=start, return_singular_vectors=False)[0]) * scale
    except ArpackError:
        return float(np.linalg.norm(matrix.astype(np.float64) / scale, 2)) * scale


def conv_spectral_bound(weights: npt.NDArray[Any], group: int) -> float:
    """Upper bound of the l2 norm of a convolution with kernel (out, in / group, ...), whatever its padding, stride and dilation.

    Proof: ||T||_2^2, the spectral radius of T^T T, is at most ||T^T T||_inf <= ||T||_1 ||T||_inf. A row of T holds each
    weight of an output channel at most once; a column holds each weight that reads its input channel at most once.
    """
    rows = absolute_sums(weights, tuple(range(1, weights.ndim)))
    grouped = weights.reshape(group, weights.shape[0] // group, *weights.shape[1:])
    columns = max(largest_upward(absolute_sums(part, (0, *range(2, part.ndim)))) for part in grouped)
    return float(inflate(np.sqrt(inflate(np.asarray(largest_upward(rows) * columns), 1)), 1))
