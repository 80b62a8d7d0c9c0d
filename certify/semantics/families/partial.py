"""Sums of consecutive products of a bilinear form, for profiles that state the order in which kernels add (PartialSums).

The form is written as matrices: output element (i, j) adds A[i, k] B[k, j] over k = 0 .. n - 1, in this order. Every
computed operand lies within a radius of its midpoint (the enclosure's and the deviation's radius together).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.linalg import product_midrad, product_upper
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, inflate, lift
from certify.semantics.contract import Block

ADDED, MULTIPLIED = 1 << 25, 1 << 30  # products beyond which pairs, and blocks, are not worth their time
_CHUNK = 1 << 15  # products held at once: 256 KB an array, which the cache holds
_UP = 1.0 + 2.0**-48


@runtime_checkable
class Indexed(Protocol):
    """A form whose products have an order that runtimes and people agree on."""

    def matrices(self, A: Any, B: Any, **attributes: Any) -> tuple[Any, Any, Callable[[Array], Array]]:
        """Left (..., M, n), right (..., n, N), and the way from (..., M, N) back to the form's result."""
        ...


@dataclass(frozen=True, slots=True)
class Around:
    """All computed values of one matrix: within `radius` of `mid`; None is exactly there."""

    mid: Array
    radius: Array | None

    @property
    def mag(self) -> Array:
        return np.abs(self.mid) if self.radius is None else add_up(np.abs(self.mid), self.radius)

    def reach(self) -> Array:
        return np.zeros((1,) * self.mid.ndim) if self.radius is None else self.radius

    def columns(self, at: slice) -> Around:
        return Around(self.mid[..., :, at], None if self.radius is None else self.radius[..., :, at])

    def rows(self, at: slice) -> Around:
        return Around(self.mid[..., at, :], None if self.radius is None else self.radius[..., at, :])


@dataclass(frozen=True, slots=True)
class ConsecutiveSums:
    """PartialSums of form(A, B): A and B within their radii (None: exactly there) of the midpoints of X, `products` in all."""

    form: Indexed
    X: tuple[Enclosure, Enclosure]
    radii: tuple[Array | None, Array | None]
    products: int
    attributes: dict[str, Any]

    def _matrices(self) -> tuple[Around, Around, Callable[[Array], Array]]:
        radii = [x.rad if r is None else add_up(x.rad, r) for x, r in zip(self.X, self.radii, strict=True)]
        left, right, shape = self.form.matrices(self.X[0].mid, self.X[1].mid, **self.attributes)
        around_left, around_right, _ = self.form.matrices(radii[0], radii[1], **self.attributes)
        a, b = (Around(m, r if r.any() else None) for m, r in ((left, around_left), (right, around_right)))
        return a, b, shape

    def blocks(self, size: int) -> Iterator[Block] | None:
        """Each block is a product of matrices of its own, midpoint and radius (number/linalg)."""
        return None if self.products > MULTIPLIED else self._blocks(size)

    def _blocks(self, size: int) -> Iterator[Block]:
        left, right, shape = self._matrices()
        for first in range(0, left.mid.shape[-1], size):
            a, b = left.columns(slice(first, first + size)), right.rows(slice(first, first + size))
            middle, radius = product_midrad(a.mid, a.radius, b.mid, b.radius)
            above, beside = a.mag, b.mag
            with np.errstate(invalid="ignore", over="ignore"):
                largest = inflate(lift(above.max(axis=-1))[..., :, None] * lift(beside.max(axis=-2))[..., None, :], 1)
            largest = np.where(np.isnan(largest), np.inf, largest)
            nonzero = np.matmul((above > 0.0).astype(np.float32), (beside > 0.0).astype(np.float32)).astype(np.float64)
            magnitude = product_upper(above, beside)
            total = np.minimum(add_up(np.abs(middle), radius), magnitude)
            yield Block(above.shape[-1], shape(nonzero), shape(magnitude), shape(total), shape(np.minimum(largest, magnitude)))

    def pairwise(self, leaf: float, node: float, lost: float) -> Array | None:
        """Every node carries its value S~ at the midpoints, in float64, and a bound D of what the computed one is off from it.

        D of a leaf: its operands' radii, its own rounding, and (n + 4) 2^-53 |t~| + 2^-900 for the float64 sums above it (a sum of
        at most n products by a tree errs by at most gamma_n sum |t~|: Higham, section 3.1). D is 0 just where a factor is
        zero in every run. A node's exact result is at most s = |S~| + D_x + D_y, D the sums' below; D_x + D_y + (its
        error) is its own D. Its error is at most node ufp(s), and none where

        - one part is zero in every run: the other is a number of the format, or a fused product, whose rounding is charged;
        - s <= 2 ufp of the smaller part: all parts are multiples of 2u ufp(smaller), and so is the sum, a number of the format;
          if a part is a product fused into this addition, then |sum| < 2 ufp(product) is rounded by at most u ufp(product),
          which was charged to that product, not rounded before.
        """
        if self.products > ADDED:
            return None
        left, right, shape = self._matrices()
        n = left.mid.shape[-1]
        batch = np.broadcast_shapes(left.mid.shape[:-2], right.mid.shape[:-2])
        total = np.zeros((*batch, left.mid.shape[-2], right.mid.shape[-1]))
        given = (left.mid, left.reach(), right.mid, right.reach())
        wide = [np.broadcast_to(x, batch + m.shape[-2:]) for x, m in zip(given, (left.mid, left.mid, right.mid, right.mid), strict=True)]
        columns = max(1, _CHUNK // n)
        rows = max(1, _CHUNK // (n * max(1, min(columns, total.shape[-1]))))
        with np.errstate(all="ignore"):
            for index in np.ndindex(*batch):
                A, r, B, q = (x[index] for x in wide)
                for i, j in itertools.product(range(0, A.shape[0], rows), range(0, B.shape[1], columns)):
                    part, across = slice(i, i + rows), slice(j, j + columns)
                    a, ra = (x[part].T[:, :, None] for x in (A, r))
                    b, rb = (x[:, None, across] for x in (B, q))
                    total[(*index, part, across)] = _by_pairs(*_leaves(a, ra, b, rb), leaf, node, lost)
        return shape(np.where(np.isnan(total), np.inf, inflate(total, 2 * n)))


def _ufp(x: Array) -> Array:
    """2^floor(log2 x) of x >= 0, the significand's bits cleared; 0 below 2^-1022; inf for infinities and NaN."""
    return np.asarray((x.view(np.int64) & 0x7FF0000000000000).view(np.float64))


def _leaves(a: Array, ra: Array, b: Array, rb: Array) -> tuple[Array, Array]:
    """The products of midpoints, and bounds D without the products' own rounding: |a| rb + ra (|b| + rb), rounded up."""
    products = a * b
    size = np.abs(products)
    off = size * ((len(products) + 4.0) * UNIT_ROUNDOFF) + 2.0**-900
    off = off + np.abs(a) * rb if rb.any() else off
    off = off + ra * (np.abs(b) + rb) if ra.any() else off
    return products, np.where((np.abs(a) + ra > 0.0) & (np.abs(b) + rb > 0.0), off * _UP, 0.0)


def _by_pairs(sums: Array, off: Array, leaf: float, node: float, lost: float) -> Array:
    """The sum of all errors charged, along the first axis; _UP makes up for at most 4 roundings of non-negative terms."""
    charged = np.where(off > 0.0, leaf * _ufp((np.abs(sums) + off) * _UP) + lost, 0.0)
    total, off = charged.sum(axis=0), (off + charged) * _UP
    while len(sums) > 1:
        even = len(sums) // 2 * 2
        x, y, x_off, y_off = sums[0:even:2], sums[1:even:2], off[0:even:2], off[1:even:2]
        added, below = x + y, x_off + y_off
        reach = (np.abs(added) + below) * _UP
        smaller = np.maximum(np.minimum(np.abs(x) - x_off, np.abs(y) - y_off), 0.0) * (2.0 - _UP)
        exact = (x_off == 0.0) | (y_off == 0.0) | (reach <= 2.0 * _ufp(smaller))
        charged = np.where(exact, 0.0, node * _ufp(reach))
        total = total + charged.sum(axis=0)
        sums, off = np.concatenate([added, sums[even:]]), np.concatenate([(below + charged) * _UP, off[even:]])
    return np.asarray(total)
