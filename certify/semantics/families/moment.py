"""Second moments over some axes, as parts of normalizations: f = mean((x - mean x)^2), or mean(x^2).

Both are quadratic forms, so that their remainder is exact: with v = x - mid X, |v| <= w,

    f(x + d) - f(x) = L d + 2 Cov(v, d) + Var(d),    L d = (2/n) sum (mid_i - mean mid) d_i,

0 <= Var(d) <= mean(r^2), |Cov(v, d)| <= mean(w r) + mean(w) mean(r) and <= max w max r. Without centring, Cov is
mean(v d) <= mean(w r), Var is mean(d^2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure, square, subtract
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, down, inflate, mul_up, sum_up, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents
from certify.semantics.families.welford import running_mean, running_squares


def mean_enclosure(X: Enclosure) -> Enclosure:
    """The mean along the last axis, which stays with extent 1: float64 sums err by at most (n - 1) u sum |x|."""
    n = X.shape[-1]
    if n == 1:
        return X

    def end(x: Array, sign: int) -> Array:
        outward = up if sign > 0 else down
        with np.errstate(over="ignore", invalid="ignore"):
            off = mul_up(float(n), UNIT_ROUNDOFF, sum_up(np.abs(x), axis=-1, keepdims=True))
            mean = outward(outward(x.sum(axis=-1, keepdims=True) + sign * off) / n)
        return np.where(off == 0.0, 0.0, np.where(np.isnan(mean), sign * np.inf, mean))

    return Enclosure(end(X.lo, -1), end(X.hi, 1))


@dataclass(frozen=True, slots=True)
class Moment:
    """A row. centred: variance; otherwise mean square. `style` says how the kernel computes a variance."""

    name: str
    centred: bool
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("X",)
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def value(self, x: Any, *, axes: tuple[int, ...], style: str = "any") -> Any:
        group = Group(x.shape[1:], axes)
        z = group.split(x)
        n = max(z.shape[-1], 1)
        d = z - z.sum(axis=-1, keepdims=True) / n if self.centred else z
        return group.join((d * d).sum(axis=-1, keepdims=True) / n)

    def enclose(self, X: Operands, *, axes: tuple[int, ...], style: str = "any") -> Enclosure:
        x = _only(X)
        group = Group(x.shape[1:], axes)
        return self._range(x.map(group.split)).map(group.join)

    def _range(self, z: Enclosure) -> Enclosure:
        """mean((z - c)^2) - (mean z - c)^2 for a number c near the mean: hardly any cancellation."""
        if not self.centred:
            return mean_enclosure(square(z))
        centre = np.asarray(z.mid.sum(axis=-1, keepdims=True) / max(z.shape[-1], 1))
        D = subtract(z, Enclosure.point(np.where(np.isfinite(centre), centre, 0.0)))
        V = subtract(mean_enclosure(square(D)), square(mean_enclosure(D)))
        return Enclosure(np.maximum(V.lo, 0.0), np.maximum(V.hi, 0.0))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return r[0] is None

    def linearize(self, X: Operands, r: Radii, *, axes: tuple[int, ...], style: str = "any") -> Linearization:
        x = _only(X)
        group = Group(x.shape[1:], axes)
        z = x.map(group.split)
        n = z.shape[-1]
        slope = self._slope(z)
        g = slope.mid
        radius, shift = self._remainder(z, slope.rad, None if r[0] is None else group.split(r[0]))

        def push(t: Tangents) -> Array:
            d = np.zeros((1, *x.shape[1:])) if t[0] is None else t[0]
            return np.asarray(group.join((g * group.split(d)).sum(axis=-1, keepdims=True)))

        def pull(a: Array) -> Sequence[Array | None]:
            return (None if r[0] is None else np.asarray(group.unsplit(g * group.split_result(a))),)

        def magnitude(t: Tangents) -> Array:
            d = np.zeros((1, *x.shape[1:])) if t[0] is None else t[0]
            return np.asarray(group.join(sum_up(mul_up(np.abs(g), group.split(d)), axis=-1, keepdims=True)))

        return Linearization(push, pull, magnitude, group.join(shift), group.join(radius), max(n, 1))

    def _slope(self, z: Enclosure) -> Enclosure:
        """2 (mid - mean mid) / n."""
        mid = Enclosure.point(z.mid)
        D = subtract(mid, mean_enclosure(mid)) if self.centred else mid
        n = max(z.shape[-1], 1)
        return Enclosure(down(2.0 * D.lo / n), up(2.0 * D.hi / n))

    def _remainder(self, z: Enclosure, off: Array, r: Array | None) -> tuple[Array, Array]:
        """(radius, shift) of 2 Cov(v, d) + Var(d) + what float64 lost in L."""
        if r is None:
            zero = np.zeros((1, *z.shape[1:-1], 1))
            return zero, zero
        n, w = max(z.shape[-1], 1), z.rad
        inverse = float(up(np.asarray(1.0 / n)))
        variance = mul_up(inverse, sum_up(mul_up(r, r), axis=-1, keepdims=True))
        cross = mul_up(inverse, sum_up(mul_up(w, r), axis=-1, keepdims=True))
        if self.centred:
            means = [mul_up(inverse, sum_up(a, axis=-1, keepdims=True)) for a in (w, r)]
            cross = add_up(cross, mul_up(*means))
        lost = sum_up(mul_up(off, r), axis=-1, keepdims=True)
        half = np.where(np.isfinite(variance), 0.5 * variance, 0.0)
        radius = add_up(np.where(np.isfinite(variance), half, np.inf), mul_up(2.0, cross), lost)
        return radius, half + np.zeros_like(radius)

    def modulus(self, X: Operands, r: Radii, *, axes: tuple[int, ...], style: str = "any") -> Array:
        linear = self.linearize(X, r, axes=axes)
        return add_up(linear.magnitude(r), np.abs(linear.shift), linear.radius)

    def rounding(
        self,
        X: Operands,
        r: Radii,
        arithmetic: Arithmetic,
        magnitude: Array,
        quantum: Sequence[Array | float],
        *,
        axes: tuple[int, ...],
        style: str = "any",
    ) -> Array:
        """The larger of the errors of the ways to compute it that `style` leaves open ("any", "centred", "uncentred", "running")."""
        x = _only(X)
        group = Group(x.shape[1:], axes)
        wide = x.widen(r[0]).map(group.split)
        kernel = _Kernel(wide, arithmetic)
        most = self._range(wide).hi
        if not self.centred:
            return np.asarray(group.join(kernel.mean_square(most)))
        ways = {"centred": kernel.centred, "uncentred": kernel.uncentred, "running": kernel.running}
        chosen = [ways[style]] if style in ways else list(ways.values())
        return np.asarray(group.join(np.maximum.reduce([way(most) for way in chosen])))

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """A mean of squares is not negative; a variance computed as a difference of means may be."""
        return -np.inf if self.centred else 0.0

    def quantum(self, quantum: Sequence[Array | float], *, axes: tuple[int, ...], style: str = "any") -> Array | float:
        return 0.0


class _Kernel:
    """Errors of kernels that compute second moments of any x in `wide`, groups along the last axis.

    A mean is a sum divided by n or multiplied by fl(1/n): the sum's error / n, u relative for 1/n, one operation.
    """

    def __init__(self, wide: Enclosure, arithmetic: Arithmetic) -> None:
        self.wide, self.arithmetic, self.n = wide, arithmetic, max(wide.shape[-1], 1)
        mean = mean_enclosure(wide)
        self.mean = mean.mag
        size = sum_up(wide.mag, axis=-1, keepdims=True)
        total = np.minimum(size, mul_up(float(self.n), self.mean))
        self.mean_off = self._average(total, arithmetic.sum(self.n, size, total, self._largest(wide.mag)))
        self.distance = np.minimum(subtract(wide, mean).mag, np.inf)

    def _largest(self, x: Array) -> Array:
        return np.asarray(np.max(x, axis=-1, keepdims=True, initial=0.0))

    def _average(self, total: Array, off: Array) -> Array:
        """Error of a mean whose sum is at most `total` and off by `off`."""
        inverse = float(up(np.asarray(1.0 / self.n)))
        size = mul_up(inverse, add_up(total, off))
        scaled = mul_up(self.arithmetic.unit_roundoff, size)
        return add_up(mul_up(inverse, off), scaled, self.arithmetic.round(add_up(size, scaled)))

    def mean_square(self, most: Array) -> Array:
        """mean(x^2), a dot product; `most` >= its value."""
        squares = mul_up(self.wide.mag, self.wide.mag)
        size = sum_up(squares, axis=-1, keepdims=True)
        return self._average(size, self.arithmetic.dot(self.n, size, size, self._largest(squares)))

    def centred(self, most: Array) -> Array:
        """d_i = fl(x_i - m), m off by e: d_i = (x_i - mean) - e + (at most h_i), then mean(d^2).

        sum ((x_i - mean) - e)^2 = sum (x_i - mean)^2 + n e^2, since deviations from the mean add up to 0; the h_i add
        at most sum (2 |x_i - mean - e| h_i + h_i^2).
        """
        e = self.mean_off
        reach = add_up(self.distance, e)
        h = self.arithmetic.round(reach)
        moved = sum_up(add_up(mul_up(2.0, reach, h), mul_up(h, h)), axis=-1, keepdims=True)
        moved = add_up(moved, mul_up(float(self.n), e, e))
        squares = mul_up(add_up(reach, h), add_up(reach, h))
        size = sum_up(squares, axis=-1, keepdims=True)
        total = np.minimum(size, add_up(mul_up(float(self.n), most), moved))
        off = self.arithmetic.dot(self.n, size, total, self._largest(squares))
        inverse = float(up(np.asarray(1.0 / self.n)))
        return add_up(mul_up(inverse, moved), self._average(total, off))

    def running(self, most: Array) -> Array:
        """Welford's, n V then divided as a sum is. The V of a part is at most (max x - min x)^2 / 4, and n V / 2 of the whole."""
        size, largest = sum_up(self.wide.mag, axis=-1, keepdims=True), self._largest(self.wide.mag)
        ends = np.max(self.wide.hi, axis=-1, keepdims=True, initial=-np.inf), np.min(self.wide.lo, axis=-1, keepdims=True, initial=np.inf)
        total = mul_up(float(self.n), most)
        with np.errstate(over="ignore", invalid="ignore"):
            reach = np.where(ends[0] >= ends[1], up(ends[0] - ends[1]), 0.0)
            deviation = inflate(np.minimum(0.5 * reach, np.sqrt(0.5 * total)), 4)
        mean_off = running_mean(self.arithmetic, self.n, size, deviation, largest)
        upper, lower = (sum_up(np.maximum(end, 0.0), axis=-1, keepdims=True) for end in (self.wide.hi, -self.wide.lo))
        with np.errstate(over="ignore", invalid="ignore"):
            middle = np.minimum(size, inflate(np.sqrt(np.maximum(upper, lower)) * np.sqrt(size), 4))
        return self._average(total, running_squares(self.arithmetic, self.n, middle, total, mean_off, largest, reach))

    def uncentred(self, most: Array) -> Array:
        """fl(E - fl(m^2)), E = mean(x^2): their errors, and one subtraction."""
        e = self.mean_off
        square_off = mul_up(e, add_up(mul_up(2.0, self.mean), e))
        whole = add_up(self.mean, e)
        square_off = add_up(square_off, self.arithmetic.round(mul_up(whole, whole)))
        before = add_up(self.mean_square(most), square_off)
        return add_up(before, self.arithmetic.round(add_up(most, before)))


@dataclass(frozen=True, slots=True)
class Group:
    """Moves the reduced axes of arrays shaped (rows, *shape) onto one last axis, and back."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def _order(self) -> tuple[list[int], list[int]]:
        chosen = sorted({k % max(len(self.shape), 1) for k in self.axes})
        return [k for k in range(len(self.shape)) if k not in chosen], chosen

    def split(self, x: Any) -> Any:
        kept, chosen = self._order
        moved = x.transpose((0, *(k + 1 for k in kept + chosen)))
        return moved.reshape((x.shape[0], *(self.shape[k] for k in kept), math.prod(self.shape[k] for k in chosen)))

    def unsplit(self, z: Any) -> Any:
        kept, chosen = self._order
        moved = z.reshape((z.shape[0], *(self.shape[k] for k in kept + chosen)))
        return moved.transpose((0, *(k + 1 for k in np.argsort(kept + chosen))))

    def join(self, z: Any) -> Any:
        """A result, extent 1 on the last axis, with extent 1 on the reduced axes."""
        _, chosen = self._order
        return z.reshape((z.shape[0], *(1 if k in chosen else n for k, n in enumerate(self.shape))))

    def split_result(self, a: Any) -> Any:
        kept, _ = self._order
        return a.reshape((a.shape[0], *(self.shape[k] for k in kept), 1))


def _only(X: Operands) -> Enclosure:
    operand = X[0]
    if operand is None:
        raise ValueError("a moment needs its operand")
    return operand
