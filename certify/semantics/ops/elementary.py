"""Elementary functions: one row each. Margins are in units of 2^-52 and include the roundings of our own formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure, square
from certify.number.upward import Array
from certify.semantics.contract import register
from certify.semantics.families import scalar
from certify.semantics.families.critical import Curve, Function, Kink, Mask
from certify.semantics.families.pointwise import Pointwise, keep, multiplication, selection, squared

LOOSE = 2.0**-44  # absolute margin of slopes of order 1: it only meets deviations, never values
_WAVE = 2.0**26  # beyond it float64 does not hold the turns of sin well enough


def below(limit: float) -> Any:
    return lambda lo, hi: lo < limit


def at_or_below(limit: float) -> Any:
    return lambda lo, hi: lo <= limit


def holds_zero(lo: Array, hi: Array) -> Mask:
    return np.asarray((lo <= 0.0) & (hi >= 0.0))


def constant(c: float) -> Curve:
    return Curve(lambda x: np.full(np.shape(x), c), relative=0.0, absolute=0.0)


def _exact(f: Any, turns: tuple[float, ...] = ()) -> Curve:
    return Curve(f, turns, relative=0.0, absolute=0.0)


# --- selections and straight lines ---

NEG = Function(_exact(np.negative), constant(-1.0))
ABS = Function(_exact(np.abs, (0.0,)), _exact(lambda x: np.where(x < 0, -1.0, 1.0)), None, "00", (0.0,), (Kink(0.0, -1.0, 1.0),))


# --- exp, log, roots ---

_EXP = Curve(np.exp, limits=(0.0, np.inf))
EXP = Function(_EXP, _EXP, _EXP, "+")
LOG = Function(
    Curve(np.log), Curve(lambda x: 1 / x, relative=1.0), Curve(lambda x: -1 / x / x, relative=4.0), "-", outside=at_or_below(0.0)
)
SQRT = Function(
    Curve(np.sqrt, relative=1.0, absolute=0.0, limits=(0.0, np.inf)),
    Curve(lambda x: 0.5 / np.sqrt(x), relative=4.0),
    Curve(lambda x: -0.25 / np.sqrt(x) / x, relative=4.0),
    "-",
    outside=below(0.0),
)
RECIPROCAL = Function(
    Curve(lambda x: 1 / x, relative=1.0),
    Curve(lambda x: -1 / x / x, relative=4.0),
    Curve(lambda x: 2 / x / x / x, relative=8.0),
    "-+",
    (0.0,),
    outside=holds_zero,
)


# --- sin, cos, tan ---


def _wave_margin(x: Array) -> Array:
    return np.where(np.abs(x) < _WAVE, 8.0, np.inf)


def _wave(f: Any, phase: float) -> Curve:
    """f turns at (k + phase) pi; a period holds two turns, and the third bounds what rounding lets slip."""

    def turns(lo: Array) -> tuple[Array, ...]:
        first = np.floor(lo / np.pi - phase)
        return tuple((first + k + phase) * np.pi for k in range(4))

    return Curve(f, turns, relative=_wave_margin, absolute=2.0**-1020, limits=(-1.0, 1.0))


_SIN, _COS = _wave(np.sin, 0.5), _wave(np.cos, 0.0)
SIN = Function(_SIN, _COS, _wave(lambda x: -np.sin(x), 0.5))
COS = Function(_COS, _wave(lambda x: -np.sin(x), 0.5), _wave(lambda x: -np.cos(x), 0.0))


def _tan_pole(lo: Array, hi: Array) -> Mask:
    """True where [lo, hi] may hold (k + 1/2) pi, or lies so far out that float64 cannot tell."""
    with np.errstate(invalid="ignore"):
        near = 2.0**-40 * (1.0 + np.maximum(np.abs(lo), np.abs(hi)))
        apart = np.floor((lo - near) / np.pi - 0.5) != np.floor((hi + near) / np.pi - 0.5)
    return np.asarray(apart | ~(near < 1e-3))


TAN = Function(
    Curve(np.tan),
    Curve(lambda x: 1 / np.cos(x) ** 2, _wave(np.cos, 0.0).turns, relative=32.0),
    Curve(lambda x: 2 * np.tan(x) / np.cos(x) ** 2, relative=64.0),
    outside=_tan_pole,
)


# --- inverse and hyperbolic functions ---


def _outside_unit(lo: Array, hi: Array) -> Mask:
    return np.asarray((lo < -1.0) | (hi > 1.0))


def _outside_open_unit(lo: Array, hi: Array) -> Mask:
    return np.asarray((lo <= -1.0) | (hi >= 1.0))


def _beside(x: Array) -> Array:
    return np.asarray((1 - x) * (1 + x))


TANH = Function(
    Curve(np.tanh, limits=(-1.0, 1.0)),
    Curve(lambda x: 1 - np.tanh(x) ** 2, (0.0,), absolute=LOOSE, limits=(0.0, 1.0)),
    Curve(
        lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2), (-0.6584789484624084, 0.6584789484624084), absolute=LOOSE, limits=(-0.77, 0.77)
    ),
    "+-",
    (0.0,),
)
SINH = Function(Curve(np.sinh), Curve(np.cosh, (0.0,)), Curve(np.sinh), "-+", (0.0,))
COSH = Function(Curve(np.cosh, (0.0,), limits=(1.0, np.inf)), Curve(np.sinh), Curve(np.cosh, (0.0,)), "+")
ATAN = Function(
    Curve(np.arctan),
    Curve(lambda x: 1 / (1 + x * x), (0.0,), absolute=LOOSE, limits=(0.0, 1.0)),
    Curve(lambda x: -2 * x / (1 + x * x) ** 2, (-(3**-0.5), 3**-0.5), absolute=LOOSE, limits=(-0.65, 0.65)),
    "+-",
    (0.0,),
)
ASINH = Function(
    Curve(np.arcsinh),
    Curve(lambda x: 1 / np.hypot(1, x), (0.0,), absolute=LOOSE, limits=(0.0, 1.0)),
    Curve(lambda x: -x / np.hypot(1, x) ** 3, (-(2**-0.5), 2**-0.5), absolute=LOOSE, limits=(-0.39, 0.39)),
    "+-",
    (0.0,),
)
ACOSH = Function(
    Curve(np.arccosh, limits=(0.0, np.inf)),
    Curve(lambda x: 1 / np.sqrt(x - 1) / np.sqrt(x + 1), relative=16.0),
    Curve(lambda x: -x / (np.sqrt(x - 1) * np.sqrt(x + 1)) ** 3, relative=32.0),
    "-",
    outside=below(1.0),
)
ATANH = Function(
    Curve(np.arctanh),
    Curve(lambda x: 1 / _beside(x), (0.0,), relative=16.0),
    Curve(lambda x: 2 * x / _beside(x) ** 2, relative=32.0),
    "-+",
    (0.0,),
    outside=_outside_open_unit,
)
ASIN = Function(
    Curve(np.arcsin),
    Curve(lambda x: 1 / np.sqrt(_beside(x)), (0.0,), relative=16.0),
    Curve(lambda x: x / _beside(x) ** 1.5, relative=32.0),
    "-+",
    (0.0,),
    outside=_outside_unit,
)
ACOS = Function(
    Curve(np.arccos),
    Curve(lambda x: -1 / np.sqrt(_beside(x)), (0.0,), relative=16.0),
    Curve(lambda x: -x / _beside(x) ** 1.5, relative=32.0),
    "+-",
    (0.0,),
    outside=_outside_unit,
)
ERF = Function(
    Curve(scalar.erf, limits=(-1.0, 1.0)),
    Curve(lambda x: 2 / np.pi**0.5 * np.exp(-x * x), (0.0,), absolute=LOOSE, limits=(0.0, 1.13)),
    Curve(lambda x: -4 / np.pi**0.5 * x * np.exp(-x * x), (-(2**-0.5), 2**-0.5), absolute=LOOSE, limits=(-0.97, 0.97)),
    "+-",
    (0.0,),
)


# --- powers ---

SQUARE = Function(
    Curve(lambda x: x * x, (0.0,), limits=(0.0, np.inf), enclosed=lambda x: square(Enclosure.point(x))),
    _exact(lambda x: 2.0 * x),
    constant(2.0),
    "+",
    quadratic=True,
)


def _power(x: Any, p: float) -> Any:
    if scalar.is_object(x):
        return scalar.each(lambda v: v ** int(p) if p == int(p) else scalar._of_element("sqrt", v) if p == 0.5 else v ** (v * 0 + p), x)
    with np.errstate(all="ignore"):
        return np.power(x, p)


def power(x: Any, exponent: float = 1.0) -> Any:
    return _power(x, exponent)


def of_power(exponent: float = 1.0) -> Function:
    """x^p: convex or concave by the sign of p (p - 1) on x > 0; whole exponents reach negative x, with a pole for p < 0."""
    p = exponent
    if p == 0.0:
        return Function(constant(1.0), constant(0.0))
    if p == 1.0:
        return Function(_exact(lambda x: x), constant(1.0))
    whole, odd = p == int(p), int(p) % 2 == 1
    above = "+" if p * (p - 1) > 0 else "-"
    curvature = above
    bends: tuple[float, ...] = ()
    if whole and p < 0:
        curvature, bends = ("-" if odd else "+") + above, (0.0,)
    elif whole and odd:
        curvature, bends = "-+", (0.0,)
    zero = (0.0,) if whole and p > 0 else ()
    outside = holds_zero if whole else at_or_below(0.0) if p < 0 else below(0.0)
    return Function(
        Curve(lambda x: _power(x, p), zero),
        Curve(lambda x: p * _power(x, p - 1), zero, relative=16.0),
        Curve(lambda x: p * (p - 1) * _power(x, p - 2), zero, relative=32.0) if p != 2.0 else constant(2.0),
        curvature,
        bends,
        outside=None if whole and p > 0 else outside,
    )


def _least_reciprocal(low: float) -> float:
    return 0.0 if low > 0.0 else -math.inf


def _least_power(low: float, exponent: float = 1.0) -> float:
    """Even powers, and powers of what is not negative, are not negative."""
    return 0.0 if low >= 0.0 or exponent % 2.0 == 0.0 else -math.inf


register(
    Pointwise("Neg", 6, lambda x: -x, lambda: NEG, born=selection, divisor=keep, nonlinear=False),
    Pointwise("Abs", 6, abs, lambda: ABS, born=selection, divisor=keep, least=lambda low: max(low, 0.0)),
    Pointwise("Exp", 6, scalar.exp, lambda: EXP, least=lambda low: 0.0),
    Pointwise("Log", 6, scalar.log, lambda: LOG, heeds_floor=True),
    Pointwise("Sqrt", 6, scalar.sqrt, lambda: SQRT, least=lambda low: math.sqrt(max(low, 0.0)), heeds_floor=True),
    Pointwise("Reciprocal", 6, lambda x: 1 / x, lambda: RECIPROCAL, least=_least_reciprocal, heeds_floor=True),
    Pointwise("Pow", 1, power, of_power, domain="certify", least=_least_power, heeds_floor=True),
    # What Mul is on one operand twice (analysis/bind): its parabola is known, its kernel is still one multiplication.
    Pointwise("Square", 1, lambda x: x * x, lambda: SQUARE, born=multiplication, divisor=squared, domain="certify", least=lambda low: 0.0),
    Pointwise("Sin", 7, scalar.sin, lambda: SIN),
    Pointwise("Cos", 7, scalar.cos, lambda: COS),
    Pointwise("Tan", 7, scalar.tan, lambda: TAN),
    Pointwise("Asin", 7, scalar.asin, lambda: ASIN),
    Pointwise("Acos", 7, scalar.acos, lambda: ACOS),
    Pointwise("Atan", 7, scalar.atan, lambda: ATAN),
    Pointwise("Sinh", 9, scalar.sinh, lambda: SINH),
    Pointwise("Cosh", 9, scalar.cosh, lambda: COSH),
    Pointwise("Asinh", 9, scalar.asinh, lambda: ASINH),
    Pointwise("Acosh", 9, scalar.acosh, lambda: ACOSH),
    Pointwise("Atanh", 9, scalar.atanh, lambda: ATANH),
    Pointwise("Tanh", 6, scalar.tanh, lambda: TANH),
    Pointwise("Erf", 9, scalar.erf, lambda: ERF),
)
