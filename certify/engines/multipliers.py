"""Arithmetic of the adjoint's linear maps and multipliers, with the float64 rounding of each paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from certify.number.upward import UNIT_ROUNDOFF, Array, inflate
from certify.semantics.contract import Linearization, of_cases

_UNDERFLOWN = 2.0**-1000  # more than all squares of one walk's step that underflow may lack, below 2^50 elements


def cut(linear: Linearization, modulus: Array) -> Linearization:
    """The same step with L = 0 and the whole variation as remainder at the elements where that is smaller."""
    cut = np.broadcast_to(~(linear.radius < modulus), modulus.shape)
    if not cut.any():
        return linear
    keep = np.where(cut, 0.0, 1.0)
    pull_of = linear.pull_of

    def kept(x: Array) -> Array:
        return np.where(cut, 0.0, x)

    return Linearization(
        push=lambda d: kept(linear.push(d)),
        pull=lambda a: linear.pull(a * keep),
        magnitude=lambda d: kept(linear.magnitude(d)),
        shift=kept(linear.shift),
        radius=np.where(cut, modulus, linear.radius),
        terms=linear.terms,
        products=linear.products,
        pull_of=None if pull_of is None else lambda a, cases: pull_of(a * of_cases(keep, cases), cases),
    )


def gamma_bound(n: int) -> Array:
    """Upper bound of gamma_n = n u / (1 - n u) in float64 (Higham, (3.1))."""
    nu = n * UNIT_ROUNDOFF
    return inflate(np.asarray(nu / (1.0 - nu)), 4)


def times(factor: Array, x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return inflate(np.where((x == 0.0) | (factor == 0.0), 0.0, factor * x), 1)


def dot_rows(rows: Array, x: Array) -> Array:
    """<row, x> for each row (rows, elements); x of many cases, (rows, ...), meets row i with its case i."""
    if x.shape[0] == 1:
        return np.asarray(rows @ x.reshape(-1))
    return np.asarray(np.einsum("ri,ri->r", rows, x.reshape(x.shape[0], -1)))


def weigh(a: Array, *noises: Array) -> list[Array]:
    """For each noise an upper bound of sum |a| noise per row; a multiplier of exactly zero meets infinite noise with nothing.

    Noise of many cases, (rows, ...), meets row i with its case i. A multiplier is not a number where one of zero met an infinite
    slope (a constant that storage swamps): its row has no bound.
    """
    weighted = [np.broadcast_to(noise, (noise.shape[0] if noise.ndim == a.ndim else 1, *a.shape[1:])) for noise in noises]
    if not any(weights.any() for weights in weighted):
        return [np.zeros(a.shape[0]) for _ in noises]
    flat = np.abs(a).reshape(a.shape[0], -1)
    return [_weighed(flat, weights.reshape(weights.shape[0], -1)) if weights.any() else np.zeros(a.shape[0]) for weights in weighted]


def _weighed(flat: Array, weights: Array) -> Array:
    infinite = np.isinf(weights)
    some = bool(infinite.any())
    with np.errstate(invalid="ignore", over="ignore"):
        finite = inflate(dot_rows(flat, np.where(infinite, 0.0, weights) if some else weights), flat.shape[1])
    lost = np.isnan(finite)
    if some:
        lost |= ((flat > 0.0) & infinite).any(axis=1)
    return np.where(lost, np.inf, finite)


def squares(a: Array, sigma: Array) -> Array:
    """Upper bound of sum (a sigma)^2 per row; sigma finite, (1 or rows, *shape)."""
    flat = (np.abs(a) * np.broadcast_to(sigma, (sigma.shape[0], *a.shape[1:]))).reshape(a.shape[0], -1)
    with np.errstate(over="ignore", invalid="ignore"):
        found = inflate(np.einsum("ri,ri->r", flat, flat), flat.shape[1] + 3)
    return np.where(np.isnan(found), np.inf, found + _UNDERFLOWN)


def unit_rows(shape: tuple[int, ...], entries: Sequence[tuple[npt.NDArray[np.intp], float]]) -> Callable[[int, int], Array]:
    """Makes rows start to stop, (rows, *shape), of functionals with these entries, (flat elements by row, entry): one of each a row."""

    def rows(start: int, stop: int) -> Array:
        unit = np.zeros((stop - start, int(np.prod(shape))))
        for index, entry in entries:
            unit[np.arange(stop - start), index[start:stop]] = entry
        return unit.reshape(-1, *shape)

    return rows
