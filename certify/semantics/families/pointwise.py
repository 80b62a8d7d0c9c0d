"""Pointwise: y_i = phi(x_i) for one real function phi, of which `critical.Function` holds what is known.

A row names the function and its kernel; all verbs follow. The remainder phi(x + d) - phi(x) - L d over x in X, |d| <= r is
enclosed in up to four ways, each with a slope L of its own, and every element takes the narrowest:

- slopes:  (s - L) d, s a slope of a chord within X +- r; exactly zero where phi is straight there.
- taylor:  (phi'(x) - L) d + phi''(xi) d^2 / 2, one-sided at a point where phi is convex or concave.
- chord:   psi(y) - psi(x), psi = phi - L t, L the chord of X +- r, from the critical points of psi. Near exact at a point.
- range:   phi(y) - phi(x), L = 0: finite for a bounded phi whatever r is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure, add
from certify.number.multipliers import product
from certify.number.upward import Array, add_up, mul_up
from certify.semantics.contract import Arithmetic, Errors, Linearization, Operands, Radii, SlopePull, of_cases, rounded_floor
from certify.semantics.families.critical import (
    Function,
    by_range,
    by_slopes,
    by_taylor,
    chord_slope,
    tilted_range,
    usable,
)
from certify.semantics.families.index_map import copied

Rounding = Callable[..., Array]
_NOISE = 2.0**-46  # the chord's way evaluates phi itself: useless for remainders below phi's own float64 error


def elementary(arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, **attributes: Any) -> Array:
    """A library function: as accurate as the profile says."""
    return arithmetic.elementary(kernel, magnitude)


def selection(arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, **attributes: Any) -> Array:
    """+-x, or a constant that every format holds: no rounding, unless it is delivered in a narrower format."""
    return copied(arithmetic, magnitude, [quantum])


def multiplication(
    arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, **attributes: Any
) -> Array:
    """x x, one multiplication."""
    return arithmetic.round(magnitude, squared(quantum))


def nothing(quantum: Array | float, **attributes: Any) -> Array | float:
    return 0.0 * np.asarray(quantum)


def keep(quantum: Array | float, **attributes: Any) -> Array | float:
    """What divides x divides -x, |x| and 0."""
    return quantum


def squared(quantum: Array | float, **attributes: Any) -> Array | float:
    """What divides x, squared, divides x^2; powers of two have an exact square, or one that underflows to 0, which claims nothing."""
    q = np.asarray(quantum, dtype=np.float64)
    with np.errstate(under="ignore", over="ignore"):
        square = q * q
    return np.where(np.isfinite(square), square, 0.0)


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A row of the rule table.

    value:    phi on float64 and on object arrays, attributes by keyword.
    function: what is known of phi for given attributes.
    kernel:   the profile's word for it; default the name in lower case.
    born:     (arithmetic, kernel, reach, magnitude, quantum, **attributes) -> rounding, `reach` enclosing every computed x.
    divisor:  (quantum, **attributes) -> a power of two that divides the result.
    least:    (floor, **attributes) -> a number at most phi(x) for every x >= floor in the domain; kernels keep its sign. None: unknown.
    heeds_floor: whether the verbs use the floors of their operand (contract.Rule): for functions that are singular below.
    """

    name: str
    since: int
    value: Callable[..., Any]
    function: Callable[..., Function]
    kernel: str = ""
    born: Rounding = elementary
    divisor: Callable[..., Array | float] = nothing
    parameters: tuple[str, ...] = ("X",)
    static: frozenset[str] = frozenset()
    domain: str = ""
    nonlinear: bool = True
    outputs: int = 1
    pointwise: bool = True
    least: Callable[..., float] | None = None
    heeds_floor: bool = False

    @property
    def basic(self) -> bool:
        """A selection stores what it copied."""
        return self.born in (selection, multiplication)

    def errors(self, **attributes: Any) -> Errors | None:
        """As `Rule.errors`: one multiplication, or a function whose result is stored."""
        return "one" if self.born is multiplication else "stored" if self.born is elementary else None

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """The range of phi over X; the limits of phi where X leaves its domain or touches a singularity."""
        phi, x = self.function(**attributes), _operand(X)
        Y = phi.value.over(x)
        if phi.outside is None:
            return Y
        lost = phi.outside(x.lo, x.hi)
        low, high = phi.value.limits
        return Enclosure(np.where(lost, low, Y.lo), np.where(lost, high, Y.hi))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Only without any deviation; a function straight over X +- r shows in a radius of zero."""
        return r[0] is None

    def linearize(self, X: Operands, r: Radii, floors: Sequence[float] = (), **attributes: Any) -> Linearization:
        """Narrowest of the ways above."""
        slope, D, variation = self._analyse(X, r, floors, attributes)
        shift, radius = _centred(D)
        deviates = r[0] is not None
        zero = np.zeros(shift.shape)
        return Linearization(
            push=lambda d: zero if d[0] is None else slope * d[0],
            pull=lambda a: [slope * a if deviates else None],
            magnitude=lambda d: zero if d[0] is None else mul_up(np.abs(slope), d[0]),
            shift=shift,
            radius=radius,
            variation=_least(variation, slope, shift, radius, r[0]),
            pull_of=lambda a, cases: [of_cases(slope, cases) * a if deviates else None],
        )

    def slopes(self, X: Operands, r: Radii, floors: Sequence[float] = (), **attributes: Any) -> SlopePull:
        """The slopes of all chords within X +- r (mean value theorem), the whole line where that leaves the domain.

        The middle of a chord from x in X to x + d, |d| <= r, lies in X +- r / 2.
        """
        phi, Y = self.function(**attributes), _reach(_operand(X), r[0], floors)
        S = phi.slopes(_reach(_operand(X), mul_up(0.5, r[0])) if phi.quadratic and r[0] is not None else Y)
        if phi.outside is not None:
            lost = phi.outside(Y.lo, Y.hi)
            S = Enclosure(np.where(lost, -np.inf, S.lo), np.where(lost, np.inf, S.hi))
        return lambda a: [None if r[0] is None else product(a, S)]

    def modulus(self, X: Operands, r: Radii, floors: Sequence[float] = (), **attributes: Any) -> Array:
        """The least of |L| r + |shift| + radius, r max |phi'|, and the width of phi's range where that was needed."""
        slope, D, variation = self._analyse(X, r, floors, attributes)
        return _least(variation, slope, *_centred(D), r[0])

    def rounding(
        self,
        X: Operands,
        r: Radii,
        arithmetic: Arithmetic,
        magnitude: Array,
        quantum: Sequence[Array | float],
        floors: Sequence[float] = (),
        **attributes: Any,
    ) -> Array:
        """As `born` says."""
        kernel = self.kernel or self.name.lower()
        return self.born(arithmetic, kernel, _reach(_operand(X), r[0], floors), magnitude, quantum[0], **attributes)

    def floor(self, arithmetic: Arithmetic, least: Sequence[float], same: bool, Y: Enclosure, /, **attributes: Any) -> float:
        """As `least` says, less one rounding and what the kernel may err by where that is above zero."""
        found = -np.inf if self.least is None else self.least(least[0], **attributes)
        if not found > 0.0:
            return rounded_floor(arithmetic, found)
        error = float(np.max(arithmetic.elementary(self.kernel or self.name.lower(), np.full(1, found))))
        return rounded_floor(arithmetic, max(found * (1.0 - 2.0**-48) - error, 0.0))

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """As `divisor` says."""
        return self.divisor(quantum[0], **attributes)

    def _analyse(self, X: Operands, r: Radii, floors: Sequence[float], attributes: dict[str, Any]) -> tuple[Array, Enclosure, Array]:
        """Slope L, enclosure of the remainder, and an upper bound of |phi(x + d) - phi(x)|."""
        phi, x = self.function(**attributes), _operand(X)
        Y = _reach(x, r[0], floors)
        radii = np.zeros(Y.shape) if r[0] is None else np.broadcast_to(np.asarray(r[0], dtype=np.float64), Y.shape)
        if Y.shape != x.shape:
            x = x.map(lambda a: np.broadcast_to(a, Y.shape))
        slopes = phi.slopes(Y)
        slope = usable(slopes.mid)
        D = by_slopes(slopes, slope, radii)
        loose = (D.hi > D.lo) & (radii >= 0.25 * x.rad)
        if phi.bend is not None:
            slope, D, settled = _with_taylor(phi, x, Y, radii, slope, D)
            loose &= ~settled
        variation = mul_up(slopes.mag, radii)
        if loose.any():
            slope, D, variation = _refined(phi, loose, x, Y, slope, D, variation)
        if phi.outside is not None:
            lost = phi.outside(Y.lo, Y.hi)
            slope, variation = np.where(lost, 0.0, slope), np.where(lost, np.inf, variation)
            D = Enclosure(np.where(lost, -np.inf, D.lo), np.where(lost, np.inf, D.hi))
        return slope, D, variation


def _least(variation: Array, slope: Array, shift: Array, radius: Array, r: Array | None) -> Array:
    radii = np.zeros(shift.shape) if r is None else r
    return np.minimum(variation, add_up(mul_up(np.abs(slope), radii), np.abs(shift), radius))


def _operand(X: Operands) -> Enclosure:
    if X[0] is None:
        raise ValueError("a pointwise operator needs its operand")
    return X[0]


def _reach(X: Enclosure, r: Array | None, floors: Sequence[float] = ()) -> Enclosure:
    """X + [-r, r], exactly where float64 holds it, without what lies below the floor."""
    Y = X if r is None else add(X, Enclosure(-r, np.asarray(r)))
    return Enclosure(np.maximum(Y.lo, np.minimum(X.lo, floors[0])), Y.hi) if r is not None and len(floors) else Y


def _centred(D: Enclosure) -> tuple[Array, Array]:
    """Shift and radius of a remainder; shift 0 where the radius is infinite."""
    radius = np.where(np.isfinite(D.lo) & np.isfinite(D.hi), D.rad, np.inf)
    return np.where(np.isfinite(radius), D.mid, 0.0), radius


def _narrower(slope: Array, D: Enclosure, other: Array, E: Enclosure) -> tuple[Array, Enclosure]:
    with np.errstate(invalid="ignore", over="ignore"):
        better = ((E.hi - E.lo) < (D.hi - D.lo)) & np.isfinite(E.lo) & np.isfinite(E.hi)
    chosen = Enclosure(np.where(better, E.lo, D.lo), np.where(better, E.hi, D.hi))
    return np.where(better, other, slope), chosen


def _with_taylor(phi: Function, x: Enclosure, Y: Enclosure, r: Array, slope: Array, D: Enclosure) -> tuple[Array, Enclosure, Any]:
    """Also says where phi'' hardly varies, so that at a point Taylor's enclosure is as good as exact."""
    assert phi.bend is not None
    near, bend = phi.slopes(x), phi.bend.over(Y)
    tangent = usable(near.mid)
    E = by_taylor(near, bend, tangent, r)
    with np.errstate(invalid="ignore"):
        settled = (bend.hi - bend.lo <= 2.0**-6 * bend.mag) | (D.hi - D.lo <= _NOISE * np.minimum(np.abs(phi.value.f(x.mid)), 1.0))
    settled &= np.isfinite(bend.mag)  # at a singularity nothing is
    if phi.kinks:
        kinked = phi.kinked(Y)
        E = Enclosure(np.where(kinked, -np.inf, E.lo), np.where(kinked, np.inf, E.hi))
        settled &= ~kinked
    return *_narrower(slope, D, tangent, E), settled


def _refined(phi: Function, loose: Any, x: Enclosure, Y: Enclosure, slope: Array, D: Enclosure, variation: Array) -> Any:
    """The chord's and the range's way, on the elements `loose`."""
    some, thick, best = (E[loose] for E in (x, Y, D))
    of_x, of_Y = phi.value.over(some), phi.value.over(thick)
    tilt, best = _narrower(slope[loose], best, np.zeros(best.shape), by_range(of_Y, of_x))
    if phi.curvature:
        finite = np.isfinite(thick.lo) & np.isfinite(thick.hi)
        thick = Enclosure(np.where(finite, thick.lo, some.lo), np.where(finite, thick.hi, some.hi))
        chord = chord_slope(phi, thick)
        E = by_range(tilted_range(phi, chord, thick), tilted_range(phi, chord, some))
        E = Enclosure(np.where(finite, E.lo, -np.inf), np.where(finite, E.hi, np.inf))
        tilt, best = _narrower(tilt, best, chord, E)
    swing = by_range(of_Y, of_x).mag
    slope, low, high, variation = slope.copy(), D.lo.copy(), D.hi.copy(), variation.copy()
    slope[loose], low[loose], high[loose] = tilt, best.lo, best.hi
    variation[loose] = np.minimum(variation[loose], swing)
    return slope, Enclosure(low, high), variation
