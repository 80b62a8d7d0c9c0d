"""Comparisons, logic, whole numbers and casts.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. Truth values are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from certify.graph.tensors import FLOATING
from certify.number.enclosure import Enclosure
from certify.number.integers import INTEGERS
from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.discrete import Discrete, monotone
from certify.semantics.ops.indexing import aligned
from certify.semantics.ops.integers import ENDING, FLOATS, limits
from certify.semantics.ops.movement import array_axis


def truth(x: Any) -> Any:
    """Truth values as float64 numbers, whatever they came as."""
    return np.asarray(np.asarray(x, dtype=bool), dtype=np.float64)


def _binary(compare: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda a, b: truth(compare(*aligned(a, b)))


def _equal_outcomes(a: Enclosure, b: Enclosure) -> Enclosure:
    """1 where both are the same point, 0 where the intervals are apart."""
    a_lo, b_lo = aligned(a.lo, b.lo)
    a_hi, b_hi = aligned(a.hi, b.hi)
    meet = (a_lo <= b_hi) & (b_lo <= a_hi)
    return Enclosure(truth(meet & (a_lo == a_hi) & (b_lo == b_hi)), truth(meet))


def _nonzero_outcomes(x: Enclosure) -> Enclosure:
    """Truth of a number: 0 where it is exactly 0, undecided where 0 lies inside."""
    return Enclosure(truth((x.lo > 0.0) | (x.hi < 0.0)), truth((x.lo != 0.0) | (x.hi != 0.0)))


def _xor_outcomes(a: Enclosure, b: Enclosure) -> Enclosure:
    """One is true and the other false: certainly, or possibly."""
    A, B = _nonzero_outcomes(a), _nonzero_outcomes(b)
    a_lo, b_lo = aligned(A.lo, B.lo)
    a_hi, b_hi = aligned(A.hi, B.hi)
    surely = ((a_lo == 1.0) & (b_hi == 0.0)) | ((b_lo == 1.0) & (a_hi == 0.0))
    maybe = ((a_hi == 1.0) & (b_lo == 0.0)) | ((b_hi == 1.0) & (a_lo == 0.0))
    return Enclosure(truth(surely), truth(maybe))


def _joined(value: Callable[..., Any]) -> Callable[..., Enclosure]:
    """Outcomes of And, Or, Not over the truth of their operands."""
    sign = -1 if value is _not else 1
    return lambda *X: monotone(value, (sign,) * len(X))(*(_nonzero_outcomes(x) for x in X))


def _not(x: Any) -> Any:
    return 1.0 - truth(x)


_and = _binary(lambda a, b: truth(a) * truth(b))
_or = _binary(lambda a, b: truth(a) + truth(b))
_xor = _binary(lambda a, b: truth(a) != truth(b))


def _whole(name: str, ufunc: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`ufunc` on float64; on exact numbers and balls their own method or mpmath's function `name`."""

    def one(v: Any) -> Any:
        if callable(getattr(v, name, None)):
            return getattr(v, name)()
        import mpmath

        return getattr(mpmath, name)(v)

    return lambda x: np.asarray(np.frompyfunc(one, 1, 1)(x), dtype=object) if x.dtype == object else ufunc(x)


_floor, _ceil = _whole("floor", np.floor), _whole("ceil", np.ceil)
_round, _sign = _whole("nint", np.rint), _whole("sign", np.sign)


def truncate(x: Any, *, least: float = -np.inf, greatest: float = np.inf) -> Any:
    return np.where(x < 0, _ceil(x), _floor(x))


def _rows(x: Any, axis: int, keepdims: int, find: Callable[[Any], Any]) -> Any:
    """`find` along one axis (`find` works on the last), which stays with extent 1 if keepdims."""
    k = array_axis(axis, x.ndim - 1)
    found = find(np.moveaxis(x, k, -1))
    return np.expand_dims(found, k) if keepdims else found


def _position(sign: int) -> Callable[..., Any]:
    def value(x: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        def find(rows: Any) -> Any:
            n = rows.shape[-1]
            best = sign * rows
            if select_last_index:
                return (n - 1 - scalar.first_largest(best[..., ::-1])).astype(np.float64)
            return scalar.first_largest(best).astype(np.float64)

        return _rows(x, axis, keepdims, find)

    return value


def _position_outcomes(sign: int) -> Callable[..., Enclosure]:
    """First and last position that may hold the largest: upper end no less than every lower end. Points decide by value."""
    value = _position(sign)

    def outcomes(X: Enclosure, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Enclosure:
        at_lo = value(X.lo, axis=axis, keepdims=keepdims, select_last_index=select_last_index)
        if X.lo is X.hi:
            return Enclosure(at_lo, at_lo)
        low, high = (X.lo, X.hi) if sign > 0 else (-X.hi, -X.lo)
        k = array_axis(axis, len(X.shape) - 1)
        possible = high >= np.max(low, axis=k, keepdims=True)
        still = (X.lo == X.hi) | ~possible  # what cannot win does not count

        def ends(rows: Any) -> Any:
            return np.argmax(rows, axis=-1).astype(np.float64)

        n = X.shape[k]
        first = _rows(possible, axis, keepdims, ends)
        last = n - 1 - _rows(np.flip(possible, axis=k), axis, keepdims, ends)
        fixed = _rows(still, axis, keepdims, lambda rows: rows.all(axis=-1))
        return Enclosure(np.where(fixed, at_lo, first), np.where(fixed, at_lo, last))

    return outcomes


_BOOL, _E8M0 = 9, 24
_ROUNDED = {21, 22, 25, 26}  # kernels disagree on how floats become integers of 4 and 2 bits


def _cast(expansion: Expansion, *, to: int, saturate: int = 1, round_mode: str = "up") -> tuple[list[Primitive], dict[str, Array]]:
    """To float: stored in its format, saturated where told so (float4 and float6 always). To bool: x != 0. To integers: toward zero.

    Outside of an integer's range the standard says nothing for floats, and for integers what would be modulo 2^bits has no bound here:
    integers are cast to integers unchanged, for what is behind them need not be whole (docs/decisions/quantization.md).
    """
    x, y = expansion.operands[0], expansion.outputs[0]
    if y is None:
        return [], {}
    if to == _E8M0:
        return [_part("PowerOfTwo", x, y, {"upward": round_mode == "up", "saturate": bool(saturate)})], {}
    if to in FLOATS and (saturate or to in ENDING):
        return [_part("Saturated", x, y, limits(to))], {}
    if to in FLOATING:
        return [_part("Store", x, y, {})], {}
    if to == _BOOL:
        return [_part("Truth", x, y, {})], {}
    if to not in INTEGERS:
        raise UnsupportedOperator(f"a cast to element type {to}")
    ends = {"least": INTEGERS[to].least, "greatest": INTEGERS[to].greatest}
    if expansion.elements and expansion.elements[0] in INTEGERS:
        return [_part("Ranged", x, y, ends)], {}
    return [_part("Whole" if to in _ROUNDED else "Truncate", x, y, ends)], {}


def _part(name: str, x: str | None, y: str, attributes: dict[str, Any]) -> Primitive:
    return Primitive(name, (x,), y, attributes, inner=False, domain="certify")


def _beyond(x: Enclosure, *, least: float = -np.inf, greatest: float = np.inf) -> Array:
    """What a kernel makes of a number outside of its type is undefined."""
    return np.where((truncate(x.lo) < least) | (truncate(x.hi) > greatest), np.inf, 0.0)


def _fractional(x: Enclosure, **limits: float) -> Array:
    """Kernels truncate, or round: they agree on one whole number."""
    return np.where((x.lo == x.hi) & (x.lo == np.rint(x.lo)), _beyond(x, **limits), np.inf)


def is_infinite(x: Any, *, detect_positive: int = 1, detect_negative: int = 1) -> Any:
    return truth(((x == np.inf) & bool(detect_positive)) | ((x == -np.inf) & bool(detect_negative)))


def _infinite_outcomes(x: Enclosure, *, detect_positive: int = 1, detect_negative: int = 1) -> Enclosure:
    """Decided unless the interval is unbounded: what is computed there may be anything."""
    loose = (x.lo != x.hi) & (np.isinf(x.lo) | np.isinf(x.hi))
    found = is_infinite(x.lo, detect_positive=detect_positive, detect_negative=detect_negative)
    return Enclosure(np.where(loose, 0.0, found), np.where(loose, 1.0, found))


def _nan_outcomes(x: Enclosure) -> Enclosure:
    """No exact value is NaN; where the interval is unbounded a computed one may be."""
    return Enclosure(np.zeros(x.shape), truth((x.lo != x.hi) & (np.isinf(x.lo) | np.isinf(x.hi))))


_PAIR, _ONE = ("A", "B"), ("X",)
_greater, _less = _binary(lambda a, b: a > b), _binary(lambda a, b: a < b)
_not_less, _not_greater = _binary(lambda a, b: a >= b), _binary(lambda a, b: a <= b)

register(
    Discrete("Greater", 7, _PAIR, _greater, monotone(_greater, (1, -1)), settles=True),
    Discrete("Less", 7, _PAIR, _less, monotone(_less, (-1, 1)), settles=True),
    Discrete("GreaterOrEqual", 12, _PAIR, _not_less, monotone(_not_less, (1, -1)), settles=True),
    Discrete("LessOrEqual", 12, _PAIR, _not_greater, monotone(_not_greater, (-1, 1)), settles=True),
    Discrete("Equal", 7, _PAIR, _binary(lambda a, b: a == b), _equal_outcomes, settles=True),
    Discrete("And", 7, _PAIR, _and, _joined(_and)),
    Discrete("Or", 7, _PAIR, _or, _joined(_or)),
    Discrete("Xor", 7, _PAIR, _xor, _xor_outcomes),
    Discrete("Not", 1, _ONE, _not, _joined(_not)),
    Discrete("Floor", 6, _ONE, _floor, monotone(_floor, (1,)), swing=1.0),
    Discrete("Ceil", 6, _ONE, _ceil, monotone(_ceil, (1,)), swing=1.0),
    Discrete("Round", 11, _ONE, _round, monotone(_round, (1,)), swing=1.0),
    Discrete("Sign", 9, _ONE, _sign, monotone(_sign, (1,))),
    Discrete("IsNaN", 9, _ONE, lambda x: truth(x != x), _nan_outcomes, settles=True),
    Discrete("IsInf", 10, _ONE, is_infinite, _infinite_outcomes, settles=True),
    Discrete("ArgMax", 1, ("data",), _position(1), _position_outcomes(1), pointwise=False),
    Discrete("ArgMin", 1, ("data",), _position(-1), _position_outcomes(-1), pointwise=False),
    Discrete("Truth", 1, _ONE, lambda x: truth(x != 0), _nonzero_outcomes, domain="certify"),
    Discrete("Truncate", 1, _ONE, truncate, monotone(truncate, (1,)), swing=2.0, domain="certify", strays=_beyond),
    Discrete("Whole", 1, _ONE, truncate, monotone(truncate, (1,)), swing=2.0, domain="certify", strays=_fractional),
    Composite("Cast", 6, ("input",), _cast),
)
