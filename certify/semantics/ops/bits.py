"""Operators on the binary digits of numbers: BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitCast.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Integers are two's complement. A number
between two integers, which no tensor holds, counts as the one below. Where the operands are single numbers so is the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from certify.graph.tensors import FLOATING, dtype_of
from certify.number.enclosure import Enclosure
from certify.number.integers import INTEGERS
from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.discrete import Discrete, monotone
from certify.semantics.ops.indexing import aligned
from certify.semantics.ops.whole_numbers import numbers, outward, unwrapped, wrap

Expanded = tuple[list[Primitive], dict[str, Array]]
_HALF = 2.0**32
_SIZE = 2.0**95  # two halves in int64 hold what is smaller


def _halves(x: Array) -> tuple[Any, Any]:
    """floor(x) as (high, low) with x = high 2^32 + low and 0 <= low < 2^32, in int64."""
    x = np.where(np.abs(x) < _SIZE, np.floor(x), 0.0)
    high = np.floor(x / _HALF)
    return high.astype(np.int64), (x - high * _HALF).astype(np.int64)


def _digitwise(ufunc: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def value(a: Any, b: Any) -> Any:
        (a_high, a_low), (b_high, b_low) = (_halves(v) for v in aligned(numbers(a), numbers(b)))
        return np.asarray(ufunc(a_high, b_high) * _HALF + ufunc(a_low, b_low), dtype=np.float64)

    return value


def _digitwise_outcomes(value: Callable[[Any, Any], Any]) -> Callable[..., Enclosure]:
    """Points by value. With 2^k above all magnitudes the result lies in [0, 2^k) or [-2^k, 2^k): the higher digits are all sign."""

    def outcomes(a: Enclosure, b: Enclosure) -> Enclosure:
        a_lo, b_lo = aligned(np.floor(a.lo), np.floor(b.lo))
        a_hi, b_hi = aligned(np.floor(a.hi), np.floor(b.hi))
        point = (a_lo == a_hi) & (b_lo == b_hi) & (np.maximum(np.abs(a_lo), np.abs(b_lo)) < _SIZE)
        size = np.maximum(np.maximum(np.abs(a_lo), np.abs(a_hi)), np.maximum(np.abs(b_lo), np.abs(b_hi)))
        with np.errstate(over="ignore"):
            edge = np.where(np.isfinite(size), np.ldexp(1.0, np.frexp(np.where(np.isfinite(size), size, 1.0))[1]), np.inf)
        negative = (a_lo < 0.0) | (b_lo < 0.0)
        exact = value(a_lo, b_lo)
        return outward(np.where(point, exact, np.where(negative, -edge, 0.0)), np.where(point, exact, edge))

    return outcomes


_and, _or, _xor = _digitwise(np.bitwise_and), _digitwise(np.bitwise_or), _digitwise(np.bitwise_xor)


def bit_not(x: Any, *, bits: int, signed: bool) -> Any:
    """-1 - x; in an unsigned type 2^bits - 1 - x."""
    return (-1.0 if signed else 2.0**bits - 1.0) - np.floor(numbers(x))


def _not_outcomes(x: Enclosure, *, bits: int, signed: bool) -> Enclosure:
    """It falls; the difference may be rounded beyond 2^53."""
    Y = monotone(bit_not, (-1,))(x, bits=bits, signed=signed)
    return outward(Y.lo, Y.hi)


def shift(x: Any, y: Any, *, bits: int, signed: bool, left: bool) -> Any:
    """x 2^y modulo 2^bits to the left, floor(x 2^-y) to the right; a shift by less than 0, or by all bits, leaves 0, or the sign."""
    x, y = aligned(np.floor(numbers(x)), np.floor(numbers(y)))
    within = (y >= 0.0) & (y < bits)
    places = np.where(within, y, 0.0).astype(np.int64)
    with np.errstate(all="ignore"):
        if left:
            return np.where(within, wrap(np.ldexp(x, places), bits, signed), 0.0)
        return np.where(within, np.floor(np.ldexp(x, -places)), np.where(x < 0.0, -1.0, 0.0))


def _shift_outcomes(x: Enclosure, y: Enclosure, *, bits: int, signed: bool, left: bool, defined: bool) -> Enclosure:
    """For one y the ends of x; for more, anything of the type. Undefined shifts (before opset 28) deliver anything at all."""
    x_lo, y_lo = aligned(np.floor(x.lo), np.floor(y.lo))
    x_hi, y_hi = aligned(np.floor(x.hi), np.floor(y.hi))
    known = (y_lo == y_hi) & np.isfinite(x_lo) & np.isfinite(x_hi)
    within = (y_lo >= 0.0) & (y_hi < bits)
    ends = [shift(v, y_lo, bits=bits, signed=signed, left=left) for v in (x_lo, x_hi)]
    if left:
        places = np.where(within & known, y_lo, 0.0).astype(np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            Y = unwrapped(np.ldexp(x_lo, places), np.ldexp(x_hi, places), bits, signed)
        ends = [np.where(within, Y.lo, 0.0), np.where(within, Y.hi, 0.0)]
    least = -(2.0 ** (bits - 1)) if signed else 0.0
    greatest = least + 2.0**bits - 1.0
    outside = np.maximum(np.abs(x_lo), np.abs(x_hi)) > 2.0**bits
    lo = np.where(known, ends[0], np.where(outside, -np.inf, least))
    hi = np.where(known, ends[1], np.where(outside, np.inf, greatest))
    lost = ~(within | defined)
    return outward(np.where(lost, -np.inf, lo), np.where(lost, np.inf, hi))


def _shift(defined: bool) -> Callable[..., Expanded]:
    def expand(expansion: Expansion, *, direction: str) -> Expanded:
        if direction not in ("LEFT", "RIGHT"):
            raise UnsupportedOperator(f"its direction is {direction!r}, neither LEFT nor RIGHT")
        told = {**_type(expansion), "left": direction == "LEFT", "defined": defined}
        return _single("Shift", expansion, told)

    return expand


def _type(expansion: Expansion) -> dict[str, Any]:
    """The type of the first operand, in the words of the inner steps."""
    held = INTEGERS.get(expansion.elements[0])
    if held is None:
        raise UnsupportedOperator("the type of its operand is no integer's")
    return {"bits": held.bits, "signed": held.signed}


def _single(name: str, expansion: Expansion, attributes: dict[str, Any]) -> Expanded:
    y = expansion.outputs[0]
    return ([] if y is None else [Primitive(name, expansion.operands, y, attributes, inner=False, domain="certify")]), {}


def _bitwise_not(expansion: Expansion) -> Expanded:
    return _single("BitNot", expansion, _type(expansion))


@cache
def _types(source: int, target: int) -> tuple[Any, Any]:
    return dtype_of(source), dtype_of(target)


def reinterpret(x: Any, *, source: int, target: int) -> Any:
    """The digits of a number of one element type as those of another; what the source does not hold is rounded into it first."""
    held, read = _types(source, target)
    with np.errstate(all="ignore"):
        digits = numbers(x).astype(held) if source in FLOATING else _digits(numbers(x), INTEGERS[source].bits).astype(held)
        return np.asarray(np.ascontiguousarray(digits).view(read), dtype=np.float64)


def _digits(x: Array, bits: int) -> Any:
    """Whole numbers as int64 with the same lowest digits."""
    high, low = _halves(wrap(np.floor(x), bits, True))
    return high * 2**32 + low


def _reinterpreted(x: Enclosure, *, source: int, target: int) -> Enclosure:
    """Known for one number of the source type alone; not for 0 of a float, whose sign is another digit."""
    held, _ = _types(source, target)
    with np.errstate(all="ignore"):
        represented = x.lo.astype(held).astype(np.float64) == x.lo if source in FLOATING else np.floor(x.lo) == x.lo
    known = (x.lo == x.hi) & represented & ((x.lo != 0.0) | (source not in FLOATING))
    y = reinterpret(np.where(known, x.lo, 1.0), source=source, target=target)
    known &= np.isfinite(y)
    Y = Enclosure(y, y) if target in FLOATING else outward(y, y)
    return Enclosure(np.where(known, Y.lo, -np.inf), np.where(known, Y.hi, np.inf))


def _bit_cast(expansion: Expansion, *, to: int) -> Expanded:
    """Between integers modulo 2^bits; otherwise by the digits, which are known where the number is stored as declared."""
    x, source = expansion.operands[0], expansion.elements[0]
    y = expansion.outputs[0]
    if y is None:
        return [], {}
    if source == to or {source, to} <= {9, 2}:
        return [Primitive("Identity", (x,), y, inner=False)], {}
    if source in INTEGERS and to in INTEGERS:
        told = {"bits": INTEGERS[to].bits, "signed": INTEGERS[to].signed}
        return _single("Wrap", expansion, told)
    for element in (source, to):
        if element not in INTEGERS and element not in FLOATING:
            raise UnsupportedOperator(f"a cast of the bits of element type {element}")
        if element in (21, 22, 23, 25, 26):
            raise UnsupportedOperator("a cast of bits that share a byte")
    if not expansion.declared:
        raise UnsupportedOperator("it reads the bits of a number that is stored in another format than the model declares")
    return _single("Reinterpret", expansion, {"source": source, "target": to})


_PAIR = ("A", "B")

register(
    *(
        Discrete(f"Bitwise{name}", 18, _PAIR, value, _digitwise_outcomes(value))
        for name, value in (("And", _and), ("Or", _or), ("Xor", _xor))
    ),
    Composite("BitwiseNot", 18, ("X",), _bitwise_not),
    Composite("BitShift", 11, ("X", "Y"), _shift(False)),
    Composite("BitShift", 28, ("X", "Y"), _shift(True)),
    Composite("BitCast", 26, ("input",), _bit_cast),
    Discrete("BitNot", 1, ("X",), bit_not, _not_outcomes, domain="certify"),
    Discrete("Shift", 1, ("X", "Y"), lambda x, y, *, defined, **told: shift(x, y, **told), _shift_outcomes, domain="certify"),
    # What comes out as a float is a number of its format, and no whole one.
    Discrete("Reinterpret", 1, ("input",), reinterpret, _reinterpreted, domain="certify", divisor=lambda quantum: 0.0),
)
