"""Ranges of a real function, and of phi(x + d) - phi(x) - L d, from the points where the function turns and bends.

The one assumption, ASSUMPTION below, is about the host's float64 elementary functions; everything else is proved from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure, hull, multiply, subtract
from certify.number.upward import Array, add_up, down, mul_up, up

ASSUMPTION = "float64 elementary functions of the host are within 8 ulp"

Mask = npt.NDArray[np.bool_]
_ULP, _NEAR = 2.0**-52, 2.0**-50


@dataclass(frozen=True, slots=True)
class Curve:
    """A real function that float64 computes to within relative * 2^-52 * |f(x)| + absolute.

    turns:    where f stops being monotone, to within 2^-51 relative. `absolute` covers |f(turn) - f(true turn)|, which is
              second order. A function of the lower end gives the next turns above it (periodic functions: all that a
              period holds).
    relative: in ulps; it and `absolute` are numbers or functions of x. limits: f never leaves them.
    enclosed: x -> an enclosure of f(x), in the place of margins, for functions that float64 often computes exactly.
    """

    f: Callable[[Array], Array]
    turns: tuple[float, ...] | Callable[[Array], tuple[Array, ...]] = ()
    relative: float | Callable[[Array], Array] = 8.0
    absolute: float | Callable[[Array], Array] = 2.0**-1020
    limits: tuple[float, float] = (-np.inf, np.inf)
    enclosed: Callable[[Array], Enclosure] | None = None

    def at(self, x: Array) -> Enclosure:
        """Encloses f(x); the limits where f is NaN."""
        if self.enclosed is not None:
            return self.enclosed(x)
        with np.errstate(all="ignore"):
            y = np.asarray(self.f(x), dtype=np.float64)
            relative = self.relative(x) if callable(self.relative) else self.relative
            absolute = self.absolute(x) if callable(self.absolute) else self.absolute
            margin = np.abs(y) * (relative * _ULP * (1.0 + 2.0**-50)) + absolute
            lo, hi = down(y - margin), up(y + margin)
        if not np.all(absolute > 0.0):
            exact = margin == 0.0
            lo, hi = np.where(exact, y, lo), np.where(exact, y, hi)
        if not np.isfinite(lo).all() or not np.isfinite(hi).all():  # overflow: f is beyond the largest float64; NaN: unknown
            largest = np.finfo(np.float64).max
            lo = np.where(y == np.inf, largest * (1.0 - 2.0**-40), np.where(np.isnan(lo), -np.inf, lo))
            hi = np.where(y == -np.inf, -largest * (1.0 - 2.0**-40), np.where(np.isnan(hi), np.inf, hi))
        if self.limits != (-np.inf, np.inf):
            lo, hi = np.clip(lo, *self.limits), np.clip(hi, *self.limits)
        return Enclosure(lo, hi)

    def over(self, X: Enclosure) -> Enclosure:
        """Encloses f over each interval: its ends, and the turns that lie inside."""
        if X.lo is X.hi:
            return self.at(X.lo)
        Y = hull(self.at(X.lo), self.at(X.hi))
        for turn in self.turns(X.lo) if callable(self.turns) else self.turns:
            t = np.asarray(turn, dtype=np.float64)
            with np.errstate(invalid="ignore"):
                inside = (X.lo <= t + _NEAR * np.abs(t)) & (t - _NEAR * np.abs(t) <= X.hi)
            if not inside.any():
                continue
            T = self.at(t)
            Y = Enclosure(np.where(inside, np.minimum(Y.lo, T.lo), Y.lo), np.where(inside, np.maximum(Y.hi, T.hi), Y.hi))
        return Y


@dataclass(frozen=True, slots=True)
class Kink:
    """A jump of the derivative at `at` (exact): from `left` to `right`."""

    at: float
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Function:
    """What is known of phi.

    value, slope, bend: phi, phi', phi'' as curves; the last two need hold only off the kinks.
    curvature: one sign per piece between `bends`: "+" convex, "-" concave, "0" straight; "" if it isn't known.
    bends:     where the sign changes (kinks are exact, others within 2^-51 relative).
    outside:   (lo, hi) -> True where [lo, hi] touches a singularity or leaves the domain; None: never.
    quadratic: phi' is a straight line, so that the slope of a chord is phi' at its middle.
    """

    value: Curve
    slope: Curve
    bend: Curve | None = None
    curvature: str = ""
    bends: tuple[float, ...] = ()
    kinks: tuple[Kink, ...] = ()
    outside: Callable[[Array, Array], Mask] | None = None
    quadratic: bool = False

    def slopes(self, Y: Enclosure) -> Enclosure:
        """Encloses every slope of a chord within Y, so also phi' where it exists (mean value theorem, piece by piece)."""
        if not self.kinks:
            return self.slope.over(Y)
        D, E = self.slope.at(Y.lo), self.slope.at(Y.hi)
        thin = Y.lo == Y.hi
        for kink in self.kinks:  # at a kink the slope that counts is the one inside of Y
            D = _replace(D, (Y.lo == kink.at) & ~thin, kink.right)
            E = _replace(E, (Y.hi == kink.at) & ~thin, kink.left)
        S = hull(hull(D, E), self.slope.over(Y)) if self.slope.turns else hull(D, E)
        for kink in self.kinks:
            inside = ((Y.lo < kink.at) & (kink.at < Y.hi)) | (thin & (Y.lo == kink.at))
            low, high = min(kink.left, kink.right), max(kink.left, kink.right)
            S = Enclosure(np.where(inside, np.minimum(S.lo, low), S.lo), np.where(inside, np.maximum(S.hi, high), S.hi))
        return S

    def kinked(self, Y: Enclosure) -> Mask:
        """True where a kink lies in Y, ends included."""
        found = np.zeros(Y.shape, dtype=bool)
        for kink in self.kinks:
            found |= (Y.lo <= kink.at) & (kink.at <= Y.hi)
        return found


def _replace(X: Enclosure, where: Mask, x: float) -> Enclosure:
    return Enclosure(np.where(where, x, X.lo), np.where(where, x, X.hi))


def usable(slope: Array) -> Array:
    """The slope, or 0 where it is too large to multiply with: any slope is a valid one."""
    return np.where(np.abs(slope) < 2.0**500, slope, 0.0)


def by_slopes(S: Enclosure, slope: Array, r: Array) -> Enclosure:
    """phi(x + d) - phi(x) - L d = (s - L) d for some slope s of a chord in X +- r (mean value theorem)."""
    radius = mul_up(subtract(S, Enclosure.point(slope)).mag, r)
    return Enclosure(-radius, radius)


def by_taylor(S: Enclosure, B: Enclosure, slope: Array, r: Array) -> Enclosure:
    """(phi'(x) - L) d + phi''(xi) d^2 / 2: Taylor's theorem with Lagrange's remainder; S encloses phi'(X), B phi''(X +- r)."""
    first = mul_up(subtract(S, Enclosure.point(slope)).mag, r)
    low, high = (mul_up(0.5, np.maximum(b, 0.0), r, r) for b in (-B.lo, B.hi))
    return Enclosure(-add_up(first, low), add_up(first, high))


def by_range(of_Y: Enclosure, of_X: Enclosure) -> Enclosure:
    """psi(y) - psi(x), y in Y, x in X, given the ranges of psi; contains 0 (y = x)."""
    D = subtract(of_Y, of_X)
    return Enclosure(np.minimum(D.lo, 0.0), np.maximum(D.hi, 0.0))


def chord_slope(phi: Function, Y: Enclosure) -> Array:
    """About (phi(hi) - phi(lo)) / (hi - lo): for convex phi the best straight line's slope (Chebyshev)."""
    with np.errstate(all="ignore"):
        slope = (phi.value.f(Y.hi) - phi.value.f(Y.lo)) / (Y.hi - Y.lo)
    return usable(np.where(np.isfinite(slope), slope, 0.0))


def tilted_range(phi: Function, slope: Array, Y: Enclosure) -> Enclosure:
    """Encloses psi(t) = phi(t) - L t over Y (finite), from the pieces on which phi is convex, concave or straight.

    psi is largest at an end of Y, at a bend, or within a concave piece; there psi(t) <= psi(s) + |psi'(s)| |t - s| for any
    s of the piece (a concave function lies below its tangents), and s is chosen where psi' is about 0. Smallest likewise. A bend
    that is known only to 2^-51 leaves a sliver around it on which psi moves by at most its width times |phi'| + |L|.
    """
    psi = _tilted(phi, slope, Y.lo)
    psi = hull(psi, _tilted(phi, slope, Y.hi))
    edges = (-np.inf, *phi.bends, np.inf)
    kinks = {kink.at for kink in phi.kinks}
    for t in phi.bends:
        sliver = 0.0 if t in kinks or t == 0.0 else 4.0 * _NEAR * abs(t)
        inside = (Y.lo <= t + sliver) & (t - sliver <= Y.hi)
        at = np.full(Y.shape, t)
        spread = 0.0 if sliver == 0.0 else mul_up(sliver, add_up(phi.slope.at(at).mag, np.abs(slope)))
        T = _tilted(phi, slope, at).widen(spread)
        psi = Enclosure(np.where(inside, np.minimum(psi.lo, T.lo), psi.lo), np.where(inside, np.maximum(psi.hi, T.hi), psi.hi))
        psi = Enclosure(np.where(inside, down(psi.lo - spread), psi.lo), np.where(inside, up(psi.hi + spread), psi.hi))
    for sign, left, right in zip(phi.curvature, edges[:-1], edges[1:], strict=True):
        if sign != "0":
            psi = _with_tangent(phi, slope, psi, 1.0 if sign == "+" else -1.0, _within(Y, left, right, kinks))
    return psi


def _tilted(phi: Function, slope: Array, t: Array) -> Enclosure:
    return subtract(phi.value.at(t), multiply(Enclosure.point(slope), Enclosure.point(t)))


def _within(Y: Enclosure, left: float, right: float, kinks: set[float]) -> Enclosure:
    """The part of Y inside the piece (left, right), its ends kept off uncertain bends; lo > hi where there is none."""
    if left not in kinks and np.isfinite(left):
        left += 4.0 * _NEAR * abs(left)
    if right not in kinks and np.isfinite(right):
        right -= 4.0 * _NEAR * abs(right)
    return Enclosure(np.maximum(Y.lo, left), np.minimum(Y.hi, right))


def _inner_slopes(phi: Function, slope: Array, part: Enclosure, s: Array) -> Enclosure:
    """psi'(s) for s in `part`, taken from the inside where s is a kink at its end."""
    S = phi.slope.at(s)
    for kink in phi.kinks:
        S = _replace(S, (s == kink.at) & (s == part.lo), kink.right)
        S = _replace(S, (s == kink.at) & (s == part.hi), kink.left)
    return subtract(S, Enclosure.point(slope))


def _with_tangent(phi: Function, slope: Array, psi: Enclosure, sign: float, part: Enclosure) -> Enclosure:
    """Widen psi's range by its extremum inside `part`, on which psi is convex (sign 1: smallest) or concave (-1: largest).

    psi' is monotone there: unless it changes its sign from one end to the other the extremum is at an end.
    """
    first, last = (_inner_slopes(phi, slope, part, end) for end in (part.lo, part.hi))
    some = part.lo < part.hi
    some &= (first.lo < 0.0) & (last.hi > 0.0) if sign > 0 else (first.hi > 0.0) & (last.lo < 0.0)
    if not some.any():
        return psi
    part, tilt = part[some], slope[some]
    lo, hi = part.lo, part.hi
    for _ in range(20):
        s = 0.5 * lo + 0.5 * hi
        with np.errstate(all="ignore"):
            beyond = sign * (phi.slope.f(s) - tilt) > 0.0
        lo, hi = np.where(beyond, lo, s), np.where(beyond, s, hi)
    s = np.clip(0.5 * lo + 0.5 * hi, part.lo, part.hi)
    spread = mul_up(_inner_slopes(phi, tilt, part, s).mag, up(part.hi - part.lo))
    T = _tilted(phi, tilt, s).widen(spread)
    low, high = psi.lo.copy(), psi.hi.copy()
    if sign > 0:
        low[some] = np.minimum(low[some], T.lo)
    else:
        high[some] = np.maximum(high[some], T.hi)
    return Enclosure(low, high)
