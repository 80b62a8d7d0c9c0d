"""MaskedSoftmax: the softmax inside attention kernels, along the last axis. Masked scores are -inf, and a group of nothing else is 0.

A part of expansions; first order and remainder are those of families/softmax. Its rounding covers kernels that hold all
scores and those that go through them in blocks (online softmax), whichever way they form exponentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure, subtract
from certify.number.upward import Array, add_up, down, mul_up, sum_up, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii
from certify.semantics.families.softmax import INWARD, Softmax, exp_up, expm1_up, probabilities

BLOCK = 16  # the least number of keys that an online softmax takes at a time; tensor cores take no fewer
_PLAIN = Softmax("Softmax", 13, logarithm=False, flattened=False)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MaskedSoftmax:
    """A row. `infinities`: -inf is a masked score wherever it is exactly known, over regions too.

    empty: a group of masked scores alone is 0; if not, nothing is known of it.
    """

    infinities: ClassVar[str] = "always"
    name: str = "MaskedSoftmax"
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("scores",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False
    empty: bool = True

    def value(self, x: Any) -> Any:
        if x.dtype != object:
            closed = x.max(axis=-1, keepdims=True, initial=-np.inf) == -np.inf
            return np.where(closed, 0.0 if self.empty else np.nan, _PLAIN.value(np.where(closed, 0.0, x), axis=-1))
        rows = x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, 0)
        out = np.zeros(rows.shape, dtype=object)
        for row, result in zip(rows, out, strict=True):
            shown = [k for k, v in enumerate(row) if v != -np.inf]
            if shown:
                result[shown] = _PLAIN.value(row[shown][None], axis=-1)[0]
        return out.reshape(x.shape)

    def enclose(self, X: Operands) -> Enclosure:
        """As Softmax; from 0 on where the group may be masked altogether, the whole line where +inf cannot be ruled out."""
        group = _Group(X, (None,), self.empty)
        p = _PLAIN.enclose((group.shown,), axis=-1)
        lo, hi = np.where(group.closed | group.undecided, 0.0, p.lo), np.where(group.masked, 0.0, p.hi)
        hi = np.where(group.undecided & ~group.masked, 1.0, hi)
        return Enclosure(np.where(group.unbounded, -np.inf, lo), np.where(group.unbounded, np.inf, hi))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return r[0] is None

    def linearize(self, X: Operands, r: Radii) -> Linearization:
        """Softmax's; L = 0 in masked groups, and where it is open whether one is, the whole range [-1, 1] of the change."""
        group = _Group(X, r, self.empty)
        inner = _PLAIN.linearize((group.shown,), (group.radius,), axis=-1)
        moves, kept = group.moves, ~(group.closed | group.undecided | group.unbounded)
        radius = np.where(kept, inner.radius, np.where(moves & ~group.closed, 1.0, 0.0))
        radius = np.where(moves & group.unbounded, np.inf, radius)

        return Linearization(
            push=lambda t: np.where(kept, inner.push(t), 0.0),
            pull=lambda a: inner.pull(np.where(kept, a, 0.0)),
            magnitude=lambda t: np.where(kept, inner.magnitude(t), 0.0),
            shift=np.where(kept, inner.shift, 0.0),
            radius=radius,
            terms=inner.terms,
        )

    def modulus(self, X: Operands, r: Radii) -> Array:
        """Softmax's; at most 1 where it is open whether the group is masked."""
        group = _Group(X, r, self.empty)
        inner = _PLAIN.modulus((group.shown,), (group.radius,), axis=-1)
        inner = np.where(group.closed, 0.0, np.where(group.undecided, group.moves * 1.0, inner))
        return np.where(group.unbounded & group.moves, np.inf, inner)

    def rounding(self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
        """`kernel_error`, and one rounding into storage of p, or of the weight that is divided later: u_T p + eta_T."""
        group = _Group(X, r, self.empty)
        error = kernel_error(group.wide, arithmetic)
        stored = arithmetic.storage
        if stored != arithmetic.accumulator:
            error = add_up(error, mul_up(stored.unit_roundoff, add_up(magnitude, error)), stored.eta)
        error = np.where(group.closed, 0.0, error)
        return np.where(group.unbounded, np.inf, error)

    def quantum(self, quantum: Sequence[Array | float]) -> Array | float:
        return 0.0


class _Group:
    """What is known of each group: closed (all of it masked), undecided (it may be), unbounded (+inf, or anything, is possible).

    shown:  scores with a harmless number in groups of which the family says nothing.
    radius: deviations, none of masked scores. wide: scores with their deviations.
    """

    def __init__(self, X: Operands, r: Radii, empty: bool) -> None:
        x = X[0]
        if x is None:
            raise ValueError("a softmax needs its operand")
        self.masked = masked = (x.lo == -np.inf) & (x.hi == -np.inf)
        given = None if r[0] is None else np.where(masked & np.isfinite(r[0]), 0.0, r[0])
        self.wide = x.widen(given)
        if x.shape[-1] == 0:
            self.closed = self.undecided = self.unbounded = np.zeros((1,) * len(x.shape), dtype=bool)
        else:
            self.closed = masked.all(axis=-1, keepdims=True)
            self.undecided = ~self.closed & (x.lo.max(axis=-1, keepdims=True) == -np.inf)
            self.unbounded = (x.hi == np.inf).any(axis=-1, keepdims=True)
        if not empty:
            self.unbounded = self.unbounded | self.closed | self.undecided
            self.closed = self.undecided = np.zeros_like(self.closed)
        aside = self.closed | self.undecided | self.unbounded
        lo = np.where(aside, 0.0, x.lo)
        self.shown = Enclosure(lo, lo) if x.is_point else Enclosure(lo, np.where(aside, 0.0, x.hi))
        self.radius = None if given is None else np.where(aside, 0.0, given)
        self.moves: Flags = np.zeros((1,) * len(x.shape), dtype=bool)
        if given is not None:
            self.moves = np.asarray((given > 0.0).any(axis=-1, keepdims=True))


def kernel_error(wide: Enclosure, arithmetic: Arithmetic) -> Array:
    """What a kernel's p is off before it is stored, for every computed x in `wide`.

    Keys come in blocks of at least `BLOCK`, R + 1 of them at most; m_b is the largest score up to block b, m that of all. A kernel
    forms e_j = exp(x_j - m_b), and whenever the maximum grows multiplies what it has added up, of weights and of weighted values
    alike, by f = exp(m_b - m_(b+1)); in the end w_j = e_j f f ... is divided by s = sum w_j, before or after it meets a value. R = 0:
    all keys at once. With t_j = m - x_j >= 0, u and eta of the kernel's format, exp (or 2^x) good to rho |result| + alpha:

    - Arguments: (x - m) c, c = log2(e) say, is off by at most 4u (the difference); x c - m c, the constant and both products rounded,
      fused or not, by at most 4u (|m_b| + the difference). Along one key the differences add up to t_j, and m - m_b <= t_j, so that
      with a = rho / (1 - rho) the exponents of its exponentials are together off by at most
      h_j = (R + 1) (a + 4u |m|) + 4u t_j + (4u (R + 1) t_j if R > 0). With blocks, x c - m c is covered while no score that is not
      masked exceeds 1 / (16u); beyond, the last term is not needed.
    - Each exponential errs by A = alpha + eta besides. The others of its key are together at most exp(R (a + 4u |m| + A) + 4u R tau), tau
      the difference that it belongs to, at most 1 / (8u) where that term is needed: B = (R + 1) A exp(R (a + 4u |m| + A + 1/2)) a
      weight. A masked score may be the lowest number of storage instead of -inf, in kernels that form (x - m) c: a weight of at most
      exp(h - t) at t = max + m.
    - S = sum exp(-t_j) >= 1: s / S = 1 + (at most Z), Z = sum min(p_j expm1(h_j), tail_j) + n B,
      tail_j = exp(h_j - t_j) at the least t_j, times n - 1 additions' and R products' 1 + u. As in families/softmax,
      log s is off by g = Z / (1 - Z) + (n - 1 + R) v, v = u / (1 - u), if Z < 1.
    - p_i: within min(p_i expm1(E_i), tail_i exp(g')) + B exp(g') + 2 eta, E_i = h_i + g', g' = g + (R + 2) v.
    - If exp never delivers a negative number, s >= w_i up to R roundings on either side whatever the order of addition (rounding
      is monotone), so p_i lies in [0, exp((2R + 4) v) + 2 eta], and is off by no more than that.
    - Scores no larger than half the lowest number of storage may all be taken for masked, or for each other: any p in that range.
    """
    n = wide.shape[-1]
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    rho, alpha = arithmetic.accuracy("exp")
    if n == 0 or rho + alpha >= 1.0 or u >= 0.5:
        return np.full(wide.shape, np.inf)
    R, A = max(0, -(-n // BLOCK) - 1), float(add_up(alpha, eta))
    v, a = float(up(np.asarray(u / (1.0 - u)))), float(up(np.asarray(rho / float(down(np.asarray(1.0 - rho))))))
    most = add_up(exp_up(add_up(mul_up(2.0 * R + 4.0, v))), 2.0 * eta)
    if 4.0 * u * (R + 2) >= 0.5:
        return np.full(wide.shape, most)
    with np.errstate(invalid="ignore", over="ignore"):
        top = Enclosure(np.max(wide.lo, axis=-1, keepdims=True), np.max(wide.hi, axis=-1, keepdims=True))
        t = subtract(top, wide)
        far, near = np.maximum(t.hi, 0.0), np.where(np.isnan(t.lo), 0.0, np.maximum(t.lo, 0.0))
        each = add_up(a, mul_up(4.0 * u, top.mag))
        start, share = mul_up(float(R + 1), each), 4.0 * u * (1.0 + (R + 1 if R else 0) * _moderate(wide, u))
        h = add_up(start, mul_up(share, far))
        tail = exp_up(up(start - mul_up(1.0 - share, near) * INWARD))
        B = mul_up(float(R + 1), A, exp_up(mul_up(float(R), add_up(each, A, 0.5))))
        B = add_up(B, _sentinel(wide, top, start, 1.0 - 4.0 * u, arithmetic))
        p = probabilities(wide).hi
        Z = add_up(sum_up(np.minimum(mul_up(p, expm1_up(h)), tail), axis=-1, keepdims=True), mul_up(float(n), B))
        safe = np.where(Z < 1.0, Z, 0.5)
        g = np.where(Z < 1.0, add_up(up(up(safe / down(1.0 - safe))), mul_up(float(n + 2 * R + 1), v)), np.inf)
        growth = exp_up(g)
        off = np.minimum(mul_up(p, expm1_up(add_up(h, g))), mul_up(tail, growth))
        off = add_up(off, mul_up(B, growth), 2.0 * eta)
    lowest = (top.hi <= -0.5 * arithmetic.storage.max) & (wide.hi > -np.inf)
    return np.where(lowest | np.isnan(off), most, np.minimum(off, most))


def _moderate(wide: Enclosure, u: float) -> Array:
    """1 where no score that is not masked exceeds 1 / (16u), else 0."""
    shown = np.where(wide.hi == -np.inf, 0.0, wide.mag)
    return np.where(16.0 * u * shown.max(axis=-1, keepdims=True) <= 1.0, 1.0, 0.0)


def _sentinel(wide: Enclosure, top: Enclosure, start: Array, slope: float, arithmetic: Arithmetic) -> Array:
    """The weight of the lowest number in place of -inf, 0 where nothing is masked."""
    masked = (wide.lo == -np.inf).any(axis=-1, keepdims=True)
    gap = np.maximum(arithmetic.storage.max * INWARD + np.where(np.isfinite(top.lo), top.lo, 0.0), 0.0)
    return np.where(masked, exp_up(up(start - mul_up(slope, gap) * INWARD)), 0.0)
