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
from certify.number.upward import Array, add_up, down, mul_up, sum_up, up
from certify.semantics.contract import Arithmetic, Errors, Linearization, Operands, Radii, Roundings, Tangents
from certify.semantics.families.moment_kernel import MomentKernel, MomentParts, mean_enclosure


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
        kernel = MomentKernel(wide, arithmetic)
        most = self._range(wide).hi
        if not self.centred:
            return np.asarray(group.join(kernel.mean_square(most)))
        ways = {"centred": kernel.centred, "uncentred": kernel.uncentred, "running": kernel.running}
        chosen = [ways[style]] if style in ways else list(ways.values())
        return np.asarray(group.join(np.maximum.reduce([way(most) for way in chosen])))

    def errors(self, **attributes: Any) -> Errors:
        """As `Rule.errors`."""
        return "told"

    def fluctuation(
        self,
        X: Operands,
        r: Radii,
        roundings: Roundings,
        magnitude: Array,
        *,
        axes: tuple[int, ...],
        style: str = "any",
        usual: bool = False,
    ) -> tuple[Array, Array]:
        """The larger of both parts of the ways that `style` leaves open; usually, and by definition, a variance is centred."""
        x = _only(X)
        group = Group(x.shape[1:], axes)
        wide = x.widen(r[0]).map(group.split)
        parts = MomentParts(wide, roundings, usual)
        most = self._range(wide).hi
        if not self.centred:
            found = [parts.mean_square_parts()]
        else:
            ways = {"centred": parts.centred_parts, "uncentred": parts.uncentred_parts, "running": parts.running_parts}
            chosen = ways.values() if style not in ways and not usual else [ways.get(style, parts.centred_parts)]
            found = [way(most) for way in chosen]
        bias, sigma = (np.maximum.reduce(kind) for kind in zip(*found, strict=True))
        return np.asarray(group.join(bias)), np.asarray(group.join(sigma))

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """A mean of squares is not negative; a variance computed as a difference of means may be."""
        return -np.inf if self.centred else 0.0

    def quantum(self, quantum: Sequence[Array | float], *, axes: tuple[int, ...], style: str = "any") -> Array | float:
        return 0.0


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
