"""Verified products of float64 matrices, whatever order of summation, blocking, threads or FMA the BLAS chooses.

Everything rests on one fact: a float64 inner product of n terms, evaluated by any tree with or without fused
multiply-add, differs from its exact value by at most n u (1 + u) sum |a_i b_i| + n eta, u = 2^-53, eta = 2^-1075
(Jeannerod & Rump 2013; proof in profiles/summation.py). It does not hold for Strassen-like algorithms, which no BLAS
uses for `dgemm` unasked. Midpoint-radius products follow Rump, *Fast and parallel interval arithmetic*, 1999.
"""

from __future__ import annotations

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, down, inflate, lift, up

_ETA = 2.0**-1074  # twice eta, the smallest number that float64 has


def product_upper(A: Array, B: Array) -> Array:
    """Upper bound of A @ B for non-negative A (..., k, n) and B (..., n, m), entries possibly inf; 0 * inf is 0.

    Non-zero entries are lifted to 2^-500, so that no product underflows and exact zeros stay zero; then all terms are
    non-negative and the computed sum is at least (1 - u)^n times the exact one.
    """
    A, B = lift(np.asarray(A, dtype=np.float64)), lift(np.asarray(B, dtype=np.float64))
    unbounded_a, unbounded_b = np.isinf(A), np.isinf(B)
    if not (unbounded_a.any() or unbounded_b.any()):
        with np.errstate(over="ignore"):
            return inflate(np.matmul(A, B), A.shape[-1])
    reached = np.matmul(unbounded_a * 1.0, (B > 0.0) * 1.0) + np.matmul((A > 0.0) * 1.0, unbounded_b * 1.0) > 0.0
    finite = product_upper(np.where(unbounded_a, 0.0, A), np.where(unbounded_b, 0.0, B))
    return np.where(reached, np.inf, finite)


def product_midrad(mA: Array, rA: Array | None, mB: Array, rB: Array | None) -> tuple[Array, Array]:
    """(M, R) with |A B - M| <= R for all |A - mA| <= rA, |B - mB| <= rB; None is radius 0, midpoints are finite.

    M is the computed mA @ mB. A B - mA mB = mA (B - mB) + (A - mA) B, at most |mA| rB + rA (|mB| + rB); M itself errs by
    at most (n + 1) u |mA| |mB| + n eta. R is inf, and M is 0, where float64 overflows.
    """
    n = mA.shape[-1]
    absolute_a, absolute_b = np.abs(mA), np.abs(mB)
    with np.errstate(over="ignore", invalid="ignore"):
        M = np.asarray(np.matmul(mA, mB), dtype=np.float64)
    size = product_upper(absolute_a, absolute_b)
    R = np.where(size > 0.0, inflate((n + 1) * UNIT_ROUNDOFF * size, 2) + n * _ETA, 0.0)
    if rB is not None:
        R = add_up(R, product_upper(absolute_a, rB))
    if rA is not None:
        R = add_up(R, product_upper(rA, absolute_b if rB is None else add_up(absolute_b, rB)))
    lost = ~(np.isfinite(M) & np.isfinite(R))
    return np.where(lost, 0.0, M), np.where(lost, np.inf, R)


def matmul_enclosure(mA: Array, rA: Array | None, mB: Array, rB: Array | None) -> Enclosure:
    """Encloses A @ B for all |A - mA| <= rA, |B - mB| <= rB (None: exactly the stored doubles)."""
    M, R = product_midrad(mA, rA, mB, rB)
    return Enclosure(np.where(R == 0.0, M, down(M - R)), np.where(R == 0.0, M, up(M + R)))
