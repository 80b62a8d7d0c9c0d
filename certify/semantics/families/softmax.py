"""Softmax and LogSoftmax by direct rules: p_i = exp(x_i) / sum_j exp(x_j), y_i = x_i - log sum_j exp(x_j), along one group.

Everything is built on two-sided bounds of T_i = sum_{j != i} exp(x_j - x_i), for p_i = 1 / (1 + T_i) and
y_i = -log(1 + T_i): T_i rises with every x_j, j != i, and falls with x_i, so the corners of a box bound it.

Second derivatives along d and v, with mu_d = sum p_j d_j: p_i'' = p_i ((d_i - mu_d)(v_i - mu_v) - Cov_p(d, v)) and
y_i'' = -Cov_p(d, v), where Cov_p(d, d) = Var_p(d) <= min(sum p_j d_j^2, (max |d|)^2).

float64's own exp, log, expm1, log1p are taken to be good to 16 ulps (NumPy's tests hold its SIMD kernels to 4), and
are stepped outward by that much wherever a bound rests on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure, subtract
from certify.number.upward import TINY, UNIT_ROUNDOFF, Array, add_up, down, inflate, mul_up, sum_up, up
from certify.semantics.contract import Arithmetic, Errors, Linearization, Operands, Radii, Tangents

_OUT = 1.0 + 2.0**-48  # 32 u: 16 ulps of the library's functions
INWARD = 1.0 - 2.0**-48
_STEEP = 690.0  # exp of more is not formed: what it multiplies would overflow


def exp_up(x: Array) -> Array:
    """>= exp(x), where x is taken as it is; never below TINY."""
    with np.errstate(over="ignore", under="ignore"):
        return np.maximum(np.exp(x) * _OUT, TINY)


def exp_down(x: Array) -> Array:
    """<= exp(x); 0 below TINY."""
    with np.errstate(over="ignore", under="ignore"):
        y = np.exp(x) * INWARD
    return np.where(y < TINY, 0.0, np.minimum(y, np.finfo(np.float64).max))


def expm1_up(x: Array) -> Array:
    """>= exp(x) - 1 for x >= 0."""
    with np.errstate(over="ignore", under="ignore"):
        return np.where(x == 0.0, 0.0, np.maximum(np.expm1(x) * _OUT, TINY))


def _others(terms: Array) -> Array:
    """sum_{j != i} t_j along the last axis, without cancellation; at most n roundings on any path."""
    before = np.zeros_like(terms)
    after = np.zeros_like(terms)
    before[..., 1:] = np.cumsum(terms[..., :-1], axis=-1)
    after[..., :-1] = np.cumsum(terms[..., :0:-1], axis=-1)[..., ::-1]
    return before + after


def _anchor(x: Array) -> Array:
    """A finite number near the largest of each group: exponentials are formed relative to it."""
    top = np.max(x, axis=-1, keepdims=True)
    return np.where(np.isfinite(top), top, 0.0)


def odds(own: Array, others: Array, sign: int) -> Array:
    """A bound of T_i = sum_{j != i} exp(others_j - own_i), above for sign 1, below for sign -1; never NaN."""
    c, n = _anchor(others), own.shape[-1]
    outward, exponential = (up, exp_up) if sign > 0 else (down, exp_down)
    with np.errstate(over="ignore", invalid="ignore"):
        total = _others(exponential(outward(others - c)))
        lead = outward(c - own)
        steep = exponential(lead if sign > 0 else np.minimum(lead, _STEEP))
        product = np.where(total == 0.0, 0.0, steep * total)
    product = np.where(np.isnan(product), np.inf if sign > 0 else 0.0, product)
    return inflate(product, n + 1) if sign > 0 else np.maximum(product * (1.0 - (n + 4) * 2.0 * UNIT_ROUNDOFF), 0.0)


def probabilities(X: Enclosure) -> Enclosure:
    """p over the box X, groups along the last axis, within [0, 1]."""
    with np.errstate(over="ignore"):
        hi = up(up(1.0 / down(1.0 + odds(X.hi, X.lo, -1))))
        lo = down(down(1.0 / up(1.0 + odds(X.lo, X.hi, 1))))
    return Enclosure(np.clip(lo, 0.0, 1.0), np.clip(hi, 0.0, 1.0))


def _log_sum(x: Array, sign: int) -> Array:
    """A bound of log sum exp(x) over each group: above for sign 1, below for sign -1."""
    c, n = _anchor(x), x.shape[-1]
    outward, exponential = (up, exp_up) if sign > 0 else (down, exp_down)
    total = exponential(outward(x - c)).sum(axis=-1, keepdims=True)
    total = inflate(total, n) if sign > 0 else total * (1.0 - (n + 3) * 2.0 * UNIT_ROUNDOFF)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        logarithm = np.log(total)
        stepped = outward(logarithm + sign * (np.abs(logarithm) * 2.0**-48 + 2.0**-500))
        result = outward(c + stepped)
    return np.where(np.isnan(result), sign * np.inf, result)


def log_probabilities(X: Enclosure) -> Enclosure:
    """y over the box X, groups along the last axis: -log1p(T) where T is of use, x - log sum exp elsewhere."""
    with np.errstate(over="ignore", under="ignore"):
        hi = -(np.log1p(odds(X.hi, X.lo, -1)) * INWARD)
        lo = -(np.log1p(odds(X.lo, X.hi, 1)) * _OUT)
    lse = Enclosure(_log_sum(X.lo, -1), _log_sum(X.hi, 1))
    direct = subtract(X, lse)
    hi = np.minimum(np.minimum(up(hi), direct.hi), 0.0)
    lo = np.maximum(down(lo), np.where(np.isnan(direct.lo), -np.inf, direct.lo))
    return Enclosure(np.minimum(lo, hi), hi)


def _object_function(name: str) -> Callable[[Any], Any]:
    def apply(v: Any) -> Any:
        if callable(getattr(v, name, None)):
            return getattr(v, name)()
        import mpmath

        return getattr(mpmath, name)(v)

    function: Callable[[Any], Any] = np.frompyfunc(apply, 1, 1)
    return function


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which elements are normalized together: one axis, or all axes from `axis` on (before opset 13).

    `split` moves a group onto the last axis; `join` undoes that.
    """

    shape: tuple[int, ...]
    axis: int
    flattened: bool

    def split(self, x: Any) -> Any:
        if self.flattened:
            lead = int(np.prod(self.shape[: self.axis]))
            return x.reshape((x.shape[0], lead, int(np.prod(self.shape[self.axis :]))))
        return np.moveaxis(x, self.axis + 1, -1) if self.shape else x[..., None]

    def join(self, x: Any) -> Any:
        if self.flattened:
            return x.reshape((x.shape[0], *self.shape))
        return np.moveaxis(x, -1, self.axis + 1) if self.shape else x[..., 0]


@dataclass(frozen=True, slots=True)
class Softmax:
    """A row. `logarithm`: LogSoftmax. `flattened`: opset < 13, where all axes from `axis` (1) on are one group."""

    infinities: ClassVar[str] = "points"
    name: str
    since: int
    logarithm: bool
    flattened: bool
    domain: str = ""
    parameters: tuple[str, ...] = ("input",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def grouping(self, shape: tuple[int, ...], axis: int | None) -> Grouping:
        rank = len(shape)
        chosen = (1 if self.flattened else -1) if axis is None else axis
        return Grouping(shape, chosen + rank if chosen < 0 else chosen, self.flattened)

    def value(self, *x: Any, axis: int | None = None) -> Any:
        group = self.grouping(x[0].shape[1:], axis)
        z = group.split(x[0])
        if z.dtype == object:
            exponentials = _object_function("exp")(z)
            total = exponentials.sum(axis=-1, keepdims=True)
            return group.join(z - _object_function("log")(total) if self.logarithm else exponentials / total)
        if z.size == 0:
            return x[0]
        z = z - np.max(z, axis=-1, keepdims=True)
        total = np.exp(z).sum(axis=-1, keepdims=True)
        return group.join(z - np.log(total) if self.logarithm else np.exp(z) / total)

    def enclose(self, X: Operands, *, axis: int | None = None) -> Enclosure:
        """By the corners of T (see above); p within [0, 1] and y <= 0."""
        x = _only(X)
        if x.lo.size == 0:
            return x
        group = self.grouping(x.shape[1:], axis)
        return self._range(x.map(group.split)).map(group.join)

    def _range(self, z: Enclosure) -> Enclosure:
        """The whole line where the largest element is surely infinite: a fully masked group is NaN, in exact arithmetic too."""
        y = log_probabilities(z) if self.logarithm else probabilities(z)
        undefined = (z.hi.max(axis=-1, keepdims=True) == -np.inf) | (z.lo.max(axis=-1, keepdims=True) == np.inf)
        return Enclosure(np.where(undefined, -np.inf, y.lo), np.where(undefined, np.inf, y.hi)) if undefined.any() else y

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return r[0] is None

    def linearize(self, X: Operands, r: Radii, *, axis: int | None = None) -> Linearization:
        """L = diag(p) - p p^T (LogSoftmax: I - 1 p^T) at mid X, with p as float64 has it; its own inaccuracy is remainder.

        Where the remainder would exceed the whole range of the result over X +- r, the group takes L = 0 and that range.
        """
        x = _only(X)
        group = self.grouping(x.shape[1:], axis)
        if x.lo.size == 0 or r[0] is None:
            return _nothing(x.shape)
        part = _Part(self, x.map(group.split), group.split(r[0]))
        p, direct = part.p, 0.0 if self.logarithm else 1.0

        def push(t: Tangents) -> Array:
            if t[0] is None:
                return np.zeros((1, *x.shape[1:]))
            d = group.split(t[0])
            mean = (p * d).sum(axis=-1, keepdims=True)
            return np.asarray(group.join(np.where(part.kept, (p * (d - mean) if direct else d - mean), 0.0)))

        def pull(a: Array) -> Sequence[Array | None]:
            b = np.where(part.kept, group.split(a), 0.0)
            weighed = (p * b).sum(axis=-1, keepdims=True) if direct else b.sum(axis=-1, keepdims=True)
            return (np.asarray(group.join(p * (b - weighed) if direct else b - p * weighed)),)

        def magnitude(t: Tangents) -> Array:
            if t[0] is None:
                return np.zeros((1, *x.shape[1:]))
            return np.asarray(group.join(np.where(part.kept, part.size(group.split(t[0])), 0.0)))

        return Linearization(push, pull, magnitude, group.join(part.shift), group.join(part.radius), p.shape[-1] + 1)

    def modulus(self, X: Operands, r: Radii, *, axis: int | None = None) -> Array:
        """The smaller of |L| r + |shift| + radius and the spread of the result over X +- r."""
        x = _only(X)
        if x.lo.size == 0 or r[0] is None:
            return np.zeros((1, *x.shape[1:]))
        group = self.grouping(x.shape[1:], axis)
        part = _Part(self, x.map(group.split), group.split(r[0]))
        return np.asarray(group.join(part.modulus()))

    def errors(self, **attributes: Any) -> Errors:
        """As `Rule.errors`."""
        return "stored"

    def rounding(
        self,
        X: Operands,
        r: Radii,
        arithmetic: Arithmetic,
        magnitude: Array,
        quantum: Sequence[Array | float],
        *,
        axis: int | None = None,
    ) -> Array:
        """The kernel's own errors (`kernel_error`), then one rounding into storage.

        inf where an operand's deviation is unbounded: what is computed there may not be a number.
        """
        x = _only(X)
        if x.lo.size == 0:
            return np.zeros_like(magnitude)
        group = self.grouping(x.shape[1:], axis)
        wide = x.widen(r[0]).map(group.split)
        inner = kernel_error(wide, arithmetic, self.logarithm)
        if r[0] is not None:
            inner = np.where(np.isinf(group.split(r[0])).any(axis=-1, keepdims=True), np.inf, inner)
        inner = group.join(inner)
        return add_up(inner, arithmetic.round(add_up(magnitude, inner)))

    def quantum(self, quantum: Sequence[Array | float], *, axis: int | None = None) -> Array | float:
        return 0.0


def _only(X: Operands) -> Enclosure:
    operand = X[0]
    if operand is None:
        raise ValueError("softmax needs its operand")
    return operand


def _nothing(shape: tuple[int, ...]) -> Linearization:
    zero = np.zeros((1, *shape[1:]))
    return Linearization(lambda t: zero, lambda a: (None,), lambda t: zero, zero, zero)


class _Part:
    """The first and second order of groups on the last axis, at z with deviations r."""

    def __init__(self, rule: Softmax, z: Enclosure, r: Array) -> None:
        self.rule, self.r = rule, r
        centre = probabilities(Enclosure.point(z.mid))
        self.p, off = centre.mid, centre.rad
        wide = z.widen(r)
        largest = np.maximum(probabilities(wide).hi, up(self.p + off))
        w = z.rad
        with np.errstate(over="ignore", invalid="ignore"):
            self.radius, self.shift = self._remainder(largest, off, w)
        self.kept: npt.NDArray[np.bool_] = np.ones((*self.radius.shape[:-1], 1), dtype=bool)
        self._settle(rule._range(z), rule._range(wide))

    def _remainder(self, q: Array, off: Array, w: Array) -> tuple[Array, Array]:
        """(radius, shift): Taylor's second-order term, the Jacobian's change over z, and float64's error in p."""
        r = self.r
        mean = np.minimum(sum_up(mul_up(q, r), axis=-1, keepdims=True), r.max(axis=-1, keepdims=True))
        variance = np.minimum(sum_up(mul_up(q, r, r), axis=-1, keepdims=True), mul_up(*(r.max(axis=-1, keepdims=True),) * 2))
        w_mean = np.minimum(sum_up(mul_up(q, w), axis=-1, keepdims=True), w.max(axis=-1, keepdims=True))
        covariance = add_up(sum_up(mul_up(q, r, w), axis=-1, keepdims=True), mul_up(mean, w_mean))
        covariance = np.minimum(covariance, mul_up(r.max(axis=-1, keepdims=True), w.max(axis=-1, keepdims=True)))
        wrong = sum_up(mul_up(off, r), axis=-1, keepdims=True)
        if self.rule.logarithm:  # -Var/2 lies in [-variance/2, 0]
            quarter = np.where(np.isfinite(variance), 0.25 * variance, 0.0)
            radius = add_up(np.where(np.isfinite(variance), quarter, np.inf), covariance, wrong)
            full = np.zeros(np.broadcast_shapes(r.shape, w.shape))
            return radius + full, full - quarter
        reach = add_up(r, mean)
        curvature = np.maximum(mul_up(0.5, reach, reach), mul_up(0.5, variance))
        change = add_up(mul_up(reach, add_up(w, w_mean)), covariance)
        radius = add_up(mul_up(q, add_up(curvature, change)), mul_up(off, reach), mul_up(q, wrong))
        return radius, np.zeros_like(radius)

    def _settle(self, before: Enclosure, after: Enclosure) -> None:
        """L = 0 and the range of f(x + d) - f(x) for groups that the second order says nothing about."""
        with np.errstate(invalid="ignore"):
            low, high = down(after.lo - before.hi), up(after.hi - before.lo)
        low, high = np.where(np.isnan(low), -np.inf, np.minimum(low, 0.0)), np.where(np.isnan(high), np.inf, np.maximum(high, 0.0))
        self.spread = np.where((self.r == 0.0).all(axis=-1, keepdims=True), 0.0, np.maximum(-low, high))
        linear = self.size(self.r)
        second = add_up(np.abs(self.shift), self.radius)
        self.bound = np.minimum(self.spread, add_up(linear, second))
        useful = (second <= self.spread).any(axis=-1, keepdims=True) & np.isfinite(second).all(axis=-1, keepdims=True)
        self.kept = np.asarray(useful | np.isinf(self.spread).any(axis=-1, keepdims=True))
        drop = ~self.kept
        middle = np.where(np.isfinite(low + high), 0.5 * low + 0.5 * high, 0.0)
        self.shift = np.where(drop, middle, self.shift)
        reach = np.maximum(up(high - middle), up(middle - low))
        self.radius = np.where(drop, np.where(self.spread == 0.0, 0.0, reach), self.radius)
        self.shift = np.where(drop & (self.spread == 0.0), 0.0, self.shift)

    def size(self, d: Array) -> Array:
        """|L| |d|, rounded up: p (|d| + sum p |d|), or |d| + sum p |d|."""
        mean = sum_up(mul_up(self.p, d), axis=-1, keepdims=True)
        return add_up(d, mean) if self.rule.logarithm else mul_up(self.p, add_up(d, mean))

    def modulus(self) -> Array:
        linear = np.where(self.kept, self.size(self.r), 0.0)
        return np.minimum(self.bound, add_up(linear, np.abs(self.shift), self.radius))


def kernel_error(wide: Enclosure, arithmetic: Arithmetic, logarithm: bool) -> Array:
    """What the kernel's result is off before it is stored, for every computed x in `wide`, groups along the last axis.

    The kernel: m = max x; e_j = exp(fl(x_j - m)); s = sum e_j in any order; p_i = e_i / s or e_i (1 / s);
    y_i = (x_i - m) - log s. With t_j = m - x_j >= 0, exp good to rho |result| + alpha, u and eta of the kernel's format:

    - e_j = exp(-t_j) exp(h_j) + (at most A), |h_j| <= u t_j + a, a = rho / (1 - rho), A = alpha + eta.
    - S = sum exp(-t_j) >= 1, so s / S = 1 + (at most Z), Z = sum_j c_j + n A, times n - 1 additions' (1 + u), with
      c_j = min(p_j expm1(u t_j + a), exp(a - (1 - u) t_j)): the latter is larger than both exponentials, where the first is useless.
      So log s is off by g = Z / (1 - Z) + (n - 1) v, v = u / (1 - u) >= |log(1 +- u)|, if Z < 1.
    - p_i: within min(p_i expm1(E_i), exp(a - (1 - u) t_i + g + 2 v)) + A exp(g + 2v) + 2 eta, E_i = u t_i + a + g + 2 v.
      If exp never delivers a negative number (alpha = 0, rho < 1), s >= e_i whatever the order, the result lies
      in [0, (1 + u)^2], and it is off by at most 1 + 3u.
    - y_i: u t_i + eta + g + rho' (log n + g) + alpha' + u (|y_i| + all of that) + eta, log good to rho' and alpha'.
    """
    n = wide.shape[-1]
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    rho, alpha = arithmetic.accuracy("exp")
    q = probabilities(wide).hi
    with np.errstate(invalid="ignore", over="ignore"):
        top = Enclosure(np.max(wide.lo, axis=-1, keepdims=True), np.max(wide.hi, axis=-1, keepdims=True))
        t = subtract(top, wide)
    farthest, nearest = np.maximum(t.hi, 0.0), np.maximum(t.lo, 0.0)
    if rho >= 1.0 or u >= 0.5:
        return np.full(q.shape, np.inf)
    a = float(up(np.asarray(rho / float(down(np.asarray(1.0 - rho))))))
    v = float(up(np.asarray(u / (1.0 - u))))
    A = add_up(alpha, eta)
    h = add_up(mul_up(u, farthest), a)
    decay = mul_up(1.0 - u, nearest) * INWARD
    tail = exp_up(up(a - decay))
    with np.errstate(invalid="ignore", over="ignore"):
        Z = add_up(sum_up(np.minimum(mul_up(q, expm1_up(h)), tail), axis=-1, keepdims=True), mul_up(float(n), A))
        safe = np.where(Z < 1.0, Z, 0.5)
        g = np.where(Z < 1.0, add_up(up(up(safe / down(1.0 - safe))), mul_up(float(n - 1), v)), np.inf)
    return _log_error(wide, arithmetic, farthest, g) if logarithm else _ratio_error(q, h, tail, add_up(g, 2.0 * v), A, arithmetic)


def _ratio_error(q: Array, h: Array, tail: Array, g: Array, A: Array, arithmetic: Arithmetic) -> Array:
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    growth = exp_up(g)
    first = np.minimum(mul_up(q, expm1_up(add_up(h, g))), mul_up(tail, growth))
    off = add_up(first, mul_up(A, growth), 2.0 * eta)
    rho, alpha = arithmetic.accuracy("exp")
    return np.minimum(off, add_up(1.0, 4.0 * u, 2.0 * eta)) if rho + alpha < 1.0 else off


def _log_error(wide: Enclosure, arithmetic: Arithmetic, farthest: Array, g: Array) -> Array:
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    rho, alpha = arithmetic.accuracy("log")
    most = up(up(np.log(np.asarray(float(wide.shape[-1])))))
    before = add_up(mul_up(u, farthest), eta, g, mul_up(rho, add_up(most, g)), alpha)
    return add_up(before, mul_up(u, add_up(log_probabilities(wide).mag, before)), eta)
