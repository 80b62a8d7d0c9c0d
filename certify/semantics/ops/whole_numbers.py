"""Operators that mean something else on integers than on real numbers: quotients, remainders and means are truncated.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Integer division is "toward zero" (Div); the
mean of integers is what their integer sum divided by their count gives in numpy and onnxruntime, truncated toward zero.

A node whose results are all integers is bound to `Integer<name>`, where that rule exists. Whether a result fits its type is
looked at for every such step (analysis/whole.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, down, up
from certify.semantics.contract import register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.discrete import Discrete
from certify.semantics.ops.indexing import aligned
from certify.semantics.ops.reduction import reduced_axes

_SURE = 2.0**50  # quotients below this come out of float64 exactly


def numbers(x: Any) -> Array:
    """Exact numbers or balls of an integer tensor as float64, which holds them."""
    return np.asarray(x, dtype=np.float64) if x.dtype != object else np.asarray(np.frompyfunc(float, 1, 1)(x), dtype=np.float64)


def _quotient(a: Array, b: Array) -> Array:
    """trunc(a / b), NaN for b = 0; exact below 2^50.

    fmod is exact, so a - fmod(a, b) = q b with a whole q; in float64 the difference and its quotient by b err by less than
    2^-51 |q| together, which rounding to the nearest whole number undoes.
    """
    with np.errstate(all="ignore"):
        return np.where(b == 0.0, np.nan, np.rint((a - np.fmod(a, b)) / b))


def quotient(a: Any, b: Any) -> Any:
    """A / B toward zero."""
    return _quotient(*aligned(numbers(a), numbers(b)))


def _everywhere(undefined: Any, lo: Array, hi: Array) -> Enclosure:
    """[lo, hi], and the whole line where the result is undefined."""
    lost = undefined | np.isnan(lo) | np.isnan(hi)
    return Enclosure(np.where(lost, -np.inf, lo), np.where(lost, np.inf, hi))


def _ends(a: Enclosure, b: Enclosure) -> tuple[Array, Array, Array, Array]:
    a_lo, b_lo = aligned(a.lo, b.lo)
    a_hi, b_hi = aligned(a.hi, b.hi)
    return a_lo, a_hi, b_lo, b_hi


def _quotient_outcomes(a: Enclosure, b: Enclosure) -> Enclosure:
    """Truncation rises with a / b, which is extreme in the corners; undefined where the divisor may be 0."""
    a_lo, a_hi, b_lo, b_hi = _ends(a, b)
    undefined = (b_lo <= 0.0) & (b_hi >= 0.0)
    corners = [_quotient(x, y) for x in (a_lo, a_hi) for y in (b_lo, b_hi)]
    lo, hi = reduce(np.minimum, corners), reduce(np.maximum, corners)
    lo = np.where(np.abs(lo) < _SURE, lo, down(down(lo)))
    hi = np.where(np.abs(hi) < _SURE, hi, up(up(hi)))
    return _everywhere(undefined, lo, hi)


def _remainder(a: Array, b: Array, fmod: int) -> Array:
    with np.errstate(all="ignore"):
        exact = np.fmod(a, b)
        if fmod:
            return np.where(b == 0.0, np.nan, exact)
        other = (exact != 0.0) & ((exact < 0.0) != (b < 0.0))
        return np.where(b == 0.0, np.nan, np.where(other, exact + b, exact))


def remainder(a: Any, b: Any, *, fmod: int = 0) -> Any:
    """A - floor(A / B) B, of the sign of B; with fmod A - trunc(A / B) B, of the sign of A."""
    a, b = aligned(numbers(a), numbers(b))
    return _remainder(a, b, fmod)


def _remainder_outcomes(a: Enclosure, b: Enclosure, *, fmod: int = 0) -> Enclosure:
    """Exact at points (fmod of whole numbers up to 2^53 is, and so is the sum with B). For one B it rises with A between jumps.

    There is no jump between a_lo and a_hi if they have the same whole quotient: floor(A / B), or trunc and the same sign.
    Elsewhere the result has the sign that is said, and is no larger than B and, with fmod, than A.
    """
    a_lo, a_hi, b_lo, b_hi = _ends(a, b)
    undefined = (b_lo <= 0.0) & (b_hi >= 0.0)
    first, last = _remainder(a_lo, b_lo, fmod), _remainder(a_hi, b_lo, fmod)
    size = np.maximum(np.abs(b_lo), np.abs(b_hi))
    if fmod:
        low, high = -np.minimum(size, np.maximum(-a_lo, 0.0)), np.minimum(size, np.maximum(a_hi, 0.0))
    else:
        low, high = np.where(b_lo < 0.0, -size, 0.0), np.where(b_hi > 0.0, size, 0.0)
    with np.errstate(all="ignore"):
        # The distance to the jump below is the same at both ends if none lies between; all terms are exact where they are small and whole.
        smooth = (b_lo == b_hi) & ((a_hi - a_lo) == (last - first)) & (a_hi - a_lo < np.abs(b_lo))
        smooth &= (np.rint(a_lo) == a_lo) & (np.rint(a_hi) == a_hi) & (np.rint(b_lo) == b_lo)
        smooth &= np.maximum(np.abs(a_lo), np.abs(a_hi)) <= 2.0**52
        point = (b_lo == b_hi) & (a_lo == a_hi)
        inexact = point & ~((np.rint(a_lo) == a_lo) & (np.rint(b_lo) == b_lo) & (np.maximum(np.abs(a_lo), np.abs(b_lo)) <= 2.0**53))
    lo = np.where(point, np.where(inexact, down(first), first), np.where(smooth, first, low))
    hi = np.where(point, np.where(inexact, up(first), first), np.where(smooth, last, high))
    return _everywhere(undefined, lo, hi)


def _least(quantum: Sequence[Array | float]) -> Array | float:
    """What divides A and B divides A - q B."""
    return min((float(np.min(q)) for q in quantum if np.size(q)), default=0.0)


def _natural_power(a: Array, n: Array) -> Array:
    """a^n for whole a and n >= 0 by repeated squaring: exact where the result is below 2^53, for then every factor that enters it is."""
    n = np.minimum(n, 2.0**20 + np.fmod(n, 2.0))  # beyond 53 only -1, 0 and 1 stay small, and parity decides
    result, base, rest = np.ones(np.broadcast_shapes(a.shape, n.shape)), a, n
    for _ in range(21):
        odd = np.fmod(rest, 2.0) == 1.0
        result = np.where(odd, result * base, result)
        base, rest = base * base, np.floor(rest / 2.0)
    return result


def _power(a: Array, b: Array) -> tuple[Array, Array]:
    """Least and greatest trunc(a^b) that a kernel may deliver; NaN where that is unknown.

    Kernels multiply, or call pow in float64: of a result that is whole and below 2^53 its error, below one ulp before rounding
    in any case and below 0.03 in glibc, leaves nothing. For other exponents, 2^-40 covers the kernel's error and our own.
    """
    with np.errstate(all="ignore"):
        natural = (b >= 0.0) & (np.rint(b) == b) & (np.rint(a) == a)
        exact = _natural_power(np.where(natural, a, 1.0), np.where(natural, b, 0.0))
        exact = np.where(np.abs(exact) <= 2.0**53, exact, np.nan)
        near = np.power(a, b)
        near = np.where(np.abs(near) < 2.0**53, near, np.nan)
        off = np.abs(near) * 2.0**-40
        return np.where(natural, exact, np.trunc(near - off)), np.where(natural, exact, np.trunc(near + off))


def power(a: Any, b: Any) -> Any:
    """A^B, truncated toward zero."""
    a, b = aligned(numbers(a), numbers(b))
    lo, hi = _power(a, b)
    with np.errstate(all="ignore"):
        return np.where(lo == hi, lo, np.trunc(np.power(a, b)))


def _power_outcomes(a: Enclosure, b: Enclosure) -> Enclosure:
    """Between the corners for bases from 1 up, where the power is monotone in both; at single points; unknown elsewhere."""
    a_lo, a_hi, b_lo, b_hi = _ends(a, b)
    corners = [_power(x, y) for x in (a_lo, a_hi) for y in (b_lo, b_hi)]
    lo, hi = reduce(np.minimum, (c[0] for c in corners)), reduce(np.maximum, (c[1] for c in corners))
    known = (a_lo >= 1.0) | ((a_lo == a_hi) & (b_lo == b_hi))
    return _everywhere(~known, lo, hi)


def _mean(expansion: Expansion, **attributes: Any) -> tuple[list[Primitive], dict[str, Array]]:
    """The sum, which must fit the type, divided toward zero by the count."""
    x, y = expansion.operands[0], expansion.outputs[0]
    if y is None:
        return [], {}
    shape = (1, *expansion.shapes[0])
    axes = reduced_axes(len(shape) - 1, attributes.get("axes"), attributes.get("noop_with_empty_axes", 0))
    count, total = expansion.name("count"), expansion.name("total")
    parts = [Primitive("ReduceSum", (x,), total, attributes), Primitive("IntegerDiv", (total, count), y, inner=False, domain="certify")]
    return parts, {count: np.asarray(float(np.prod([shape[k] for k in axes])))}


def wrap(v: Array, bits: int, signed: bool) -> Array:
    """The number of the type that equals the whole number `v` modulo 2^bits; exact where float64 holds it.

    fmod is exact. So is the step of 2^bits that follows, unless the result needs more than 53 bits.
    """
    period = 2.0**bits
    with np.errstate(invalid="ignore"):
        rest = np.fmod(v, period)
    if not signed:
        return np.where(rest < 0.0, rest + period, rest)
    return np.where(rest >= period / 2.0, rest - period, np.where(rest < -period / 2.0, rest + period, rest))


def wrapped(x: Any, *, bits: int, signed: bool) -> Any:
    """An integer cast to a narrower type: its lowest bits."""
    return wrap(np.floor(numbers(x)), bits, signed)


def outward(lo: Array, hi: Array) -> Enclosure:
    """[lo, hi], which may be rounded beyond 2^53."""
    return Enclosure(np.where(np.abs(lo) <= 2.0**53, lo, down(lo)), np.where(np.abs(hi) <= 2.0**53, hi, up(hi)))


def unwrapped(lo: Array, hi: Array, bits: int, signed: bool) -> Enclosure:
    """Where no multiple of the period is crossed the ends wrap alike; elsewhere anything of the type."""
    least = -(2.0 ** (bits - 1)) if signed else 0.0
    with np.errstate(invalid="ignore"):
        first, last = wrap(lo, bits, signed), wrap(hi, bits, signed)
        alike = ((hi - lo) < 2.0**bits) & (first <= last) & np.isfinite(lo) & np.isfinite(hi)
    return outward(np.where(alike, first, least), np.where(alike, last, least + 2.0**bits - 1.0))


def _wrapped_outcomes(x: Enclosure, *, bits: int, signed: bool) -> Enclosure:
    return unwrapped(np.floor(x.lo), np.floor(x.hi), bits, signed)


_PAIR = ("A", "B")


def _row(name: str, since: int, value: Callable[..., Any], outcomes: Callable[..., Enclosure], **more: Any) -> Discrete:
    return Discrete(name, since, _PAIR, value, outcomes, domain="certify", **more)


register(
    _row("IntegerDiv", 1, quotient, _quotient_outcomes),
    _row("IntegerMod", 10, remainder, _remainder_outcomes, divisor=_least),
    _row("IntegerPow", 7, power, _power_outcomes),
    Composite("IntegerReduceMean", 1, ("data",), _mean, domain="certify"),
    Composite("IntegerReduceMean", 18, ("data", "axes"), _mean, static=frozenset({"axes"}), domain="certify"),
    Discrete("Wrap", 1, ("input",), wrapped, _wrapped_outcomes, domain="certify"),
)
