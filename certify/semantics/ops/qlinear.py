"""onnxruntime's quantized operators: integers in, integers out, the real function in between.

Kernels may fold scales and zero points together in any way, in floating point or in fixed point of 22 bits (`requantized_error`); some look
results up in a table that was computed so. Source: onnxruntime's ContribOperators.md and its kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.sized import Sized
from certify.semantics.ops.integer_contraction import along, qlinear_conv
from certify.semantics.ops.quantization import INT32, Parts, dequantize, into_integers, quantize

MS = "com.microsoft"
_ROUNDINGS = 8


def requantized_error(arithmetic: Arithmetic, sizes: Sequence[Array], magnitude: Array, *, factors: int) -> Array:
    """What t + zero may be off by before it is rounded to whole numbers, t a sum of products of scales and numbers.

    sizes: t, the zero point, then `factors` sizes of the scales (none: 1), then those of the numbers. Every term of the sum is at
    most (sum of factors) (sum of numbers) =: S, all of them together too. In floating point, at most eight roundings lie on the path
    of any term (quotients of scales, products, sums, the zero point): gamma_8 (S + |zero|), and underflow of eight results, each met
    by a factor or a number. In fixed point, factors are rounded to 22 bits of the largest one: 2^-22 S, the rest is exact.
    Inf where an intermediate result may overflow.
    """
    value, zero, *rest = sizes
    scale: Array | float = add_up(*rest[:factors]) if factors else 1.0
    numbers = add_up(*rest[factors:])
    total = add_up(mul_up(scale, numbers), value, zero)
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    if _ROUNDINGS * u >= 0.5:
        return np.full(magnitude.shape, np.inf)
    gamma = float(inflate(np.asarray(_ROUNDINGS * u / (1.0 - _ROUNDINGS * u) + 2.0**-22), 4))
    off = add_up(mul_up(gamma, total), mul_up(2.0 * _ROUNDINGS * eta, add_up(numbers, scale, 1.0)))
    return np.where(mul_up(2.0, total) <= arithmetic.accumulator.max, off, np.inf)


def number(e: Expansion, position: int, part: str) -> tuple[list[Primitive], str | None]:
    """A scale or zero point that is one number; None where absent."""
    if position >= len(e.operands) or e.operands[position] is None:
        return [], None
    if math.prod(e.shapes[position]) != 1:
        raise UnsupportedOperator(f"operand {position} of shape {list(e.shapes[position])}, where one number is expected")
    return along(e, position, (), part)


def offset(e: Expansion, positions: tuple[int, int], part: str) -> tuple[list[Primitive], str, list[str]]:
    """operand - zero point as an integer, and the names of both, for their sizes."""
    x = e.operands[positions[0]]
    assert x is not None
    steps, zero = number(e, positions[1], f"{part} zero")
    if zero is None:
        return steps, x, [x]
    return [*steps, Primitive("Sub", (x, zero), e.name(part), like=INT32)], e.name(part), [x, zero]


def real(e: Expansion, positions: tuple[int, int, int], part: str) -> tuple[list[Primitive], str]:
    """(operand - zero point) scale in the kernel's format; positions of operand, scale and zero point."""
    operand, scale, zero = positions
    steps, centred, _ = offset(e, (operand, zero), f"{part} centred")
    more, factor = number(e, scale, f"{part} scale")
    result = e.name(f"{part} real")
    return [
        *steps,
        *more,
        Primitive("Store", (centred,), e.name(f"{part} stored"), domain="certify", like=factor),
        Primitive("Mul", (e.name(f"{part} stored"), factor), result, like=factor),
    ], result


def delivered(e: Expansion, t: str, zero: int, factors: Sequence[str], numbers: Sequence[str]) -> Parts:
    """t + zero point, rounded into the node's output, whatever way t was computed from `factors` and `numbers`."""
    steps, shift = number(e, zero, "y zero")
    constants: dict[str, Any] = {}
    if shift is None:
        shift = e.name("no zero")
        constants[shift] = np.zeros((), np.int64)
    sized = Primitive(
        "Requantized", (t, shift, *factors, *numbers), e.name("requantized"), {"factors": len(factors)}, domain="certify", like=t
    )
    output = e.outputs[0] or e.name("output")
    return [*steps, sized, *into_integers(e, e.name("requantized"), shift, e.results[0], output, "y")], constants


def divided(e: Expansion, value: str, scale: int, zero: int) -> Parts:
    """value / scale + zero point, delivered."""
    steps, divisor = number(e, scale, "y scale")
    quotient = Primitive("Div", (value, divisor), e.name("quotient"), like=value)
    more, constants = delivered(e, e.name("quotient"), zero, (), (e.name("quotient"),))
    return [*steps, quotient, *more], constants


def qlinear_add(e: Expansion) -> Parts:
    """A + B of the real numbers behind, by the ratios of their scales to the result's."""
    steps: list[Primitive] = []
    terms, ratios, numbers = [], [], []
    divisor_steps, divisor = number(e, 6, "c scale")
    steps += divisor_steps
    for operand, part in ((0, "a"), (3, "b")):
        more, centred, names = offset(e, (operand, operand + 2), f"{part} centred")
        scaled, scale = number(e, operand + 1, f"{part} scale")
        ratio, stored, term = (e.name(f"{part} {what}") for what in ("ratio", "stored", "term"))
        steps += [
            *more,
            *scaled,
            Primitive("Div", (scale, divisor), ratio, like=scale),
            Primitive("Store", (centred,), stored, domain="certify", like=scale),
            Primitive("Mul", (stored, ratio), term, like=scale),
        ]
        terms.append(term)
        ratios.append(ratio)
        numbers += names
    steps.append(Primitive("Add", tuple(terms), e.name("total"), like=terms[0]))
    more, constants = delivered(e, e.name("total"), 7, ratios, numbers)
    return [*steps, *more], constants


def qlinear_mul(e: Expansion) -> Parts:
    """A B of the real numbers behind; integers are multiplied exactly, scales together."""
    a, left, _ = offset(e, (0, 2), "a centred")
    b, right, _ = offset(e, (3, 5), "b centred")
    a_scale, s = number(e, 1, "a scale")
    b_scale, t = number(e, 4, "b scale")
    c_scale, divisor = number(e, 6, "c scale")
    steps = [
        *(*a, *b, *a_scale, *b_scale, *c_scale),
        Primitive("Mul", (left, right), e.name("product"), like=INT32),
        Primitive("Mul", (s, t), e.name("scale"), like=s),
        Primitive("Div", (e.name("scale"), divisor), e.name("ratio"), like=s),
        Primitive("Store", (e.name("product"),), e.name("stored"), domain="certify", like=s),
        Primitive("Mul", (e.name("stored"), e.name("ratio")), e.name("scaled"), like=s),
    ]
    more, constants = delivered(e, e.name("scaled"), 7, (e.name("ratio"),), (e.name("product"),))
    return [*steps, *more], constants


def _unary(kind: str) -> Callable[..., Parts]:
    def expand(e: Expansion, **attributes: Any) -> Parts:
        steps, x = real(e, (0, 1, 2), "x")
        function = Primitive(kind, (x,), e.name("function"), attributes, like=x)
        more, constants = divided(e, e.name("function"), 3, 4)
        return [*steps, function, *more], constants

    expand.__doc__ = f"{kind} of the real numbers behind, as a table of all 256 would hold it."
    return expand


def channels_first(expand: Callable[..., Parts]) -> Callable[..., Parts]:
    """`expand` for tensors that may keep their channels in the last axis (attribute channels_last)."""

    def turned(e: Expansion, *, channels_last: int = 0, **attributes: Any) -> Parts:
        if not channels_last:
            return expand(e, **attributes)
        shape, rank = e.shapes[0], len(e.shapes[0])
        x, y = e.name("channels first"), e.name("result")
        there, back = (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)
        inner = replace(
            e, operands=(x, *e.operands[1:]), shapes=(tuple(shape[k] for k in there), *e.shapes[1:]), outputs=(y, *e.outputs[1:])
        )
        steps, constants = expand(inner, **attributes)
        first = Primitive("Transpose", (e.operands[0],), x, {"perm": there}, inner=False, like=e.operands[0])
        last = Primitive("Transpose", (y,), e.outputs[0] or e.name("output"), {"perm": back}, inner=False)
        return [first, *steps, last], constants

    turned.__doc__ = expand.__doc__
    return turned


def qlinear_average_pool(e: Expansion, **attributes: Any) -> Parts:
    """The mean of the real numbers behind each window."""
    if attributes.get("ceil_mode") and attributes.get("count_include_pad"):
        raise UnsupportedOperator("ceil_mode with count_include_pad, where its kernel counts elements beyond the padding")
    steps, x = real(e, (0, 1, 2), "x")
    pooled = Primitive("AveragePool", (x,), e.name("mean"), attributes, like=x)
    more, constants = divided(e, e.name("mean"), 3, 4)
    return [*steps, pooled, *more], constants


def qlinear_global_average_pool(e: Expansion) -> Parts:
    """The mean of each channel: integers are added exactly, and scaled by x_scale / (y_scale count)."""
    axes = np.arange(2, len(e.shapes[0]))
    count = math.prod(e.shapes[0][2:])
    steps, centred, _ = offset(e, (0, 2), "centred")
    x_scale, s = number(e, 1, "x scale")
    y_scale, divisor = number(e, 3, "y scale")
    if s is None or divisor is None:
        raise UnsupportedOperator("scales are missing")
    steps += [
        *(*x_scale, *y_scale),
        Primitive("ReduceSum", (centred,), e.name("sum"), {"axes": axes, "keepdims": 1}, like=INT32),
        Primitive("Mul", (divisor, e.name("count")), e.name("divisor"), like=s),
        Primitive("Div", (s, e.name("divisor")), e.name("ratio"), like=s),
        Primitive("Store", (e.name("sum"),), e.name("stored"), domain="certify", like=s),
        Primitive("Mul", (e.name("stored"), e.name("ratio")), e.name("scaled"), like=s),
    ]
    more, constants = delivered(e, e.name("scaled"), 4, (e.name("ratio"),), (e.name("sum"),))
    return [*steps, *more], constants | {e.name("count"): np.asarray(float(count))}


def qlinear_concat(e: Expansion, *, axis: int) -> Parts:
    """Each tensor's real numbers, quantized anew, side by side; Y_scale, Y_zero_point, then tensor, scale and zero point by turns."""
    steps: list[Primitive] = []
    parts = []
    for k in range(2, len(e.operands), 3):
        if e.elements[k] not in (2, 3):
            raise UnsupportedOperator("a part that is not quantized")
        more, name = real(e, (k, k + 1, k + 2), f"part {k}")
        steps += more
        parts.append(name)
    joined = Primitive("Concat", tuple(parts), e.name("joined"), {"axis": axis}, like=parts[0])
    more, constants = divided(e, e.name("joined"), 0, 1)
    return [*steps, joined, *more], constants


def qlinear_where(e: Expansion) -> Parts:
    """Of the real numbers behind X and Y the chosen ones, quantized anew."""
    left, x = real(e, (1, 2, 3), "x")
    right, y = real(e, (4, 5, 6), "y")
    chosen = Primitive("Where", (e.operands[0], x, y), e.name("chosen"), like=x)
    more, constants = divided(e, e.name("chosen"), 7, 8)
    return [*left, *right, chosen, *more], constants


def refuse(reason: str) -> Callable[..., Parts]:
    """An operator that is known and not covered."""

    def expand(e: Expansion, **_: Any) -> Parts:
        raise UnsupportedOperator(reason)

    expand.__doc__ = f"Refused: {reason}."
    return expand


_UNARY = ("X", "X_scale", "X_zero_point", "Y_scale", "Y_zero_point")
_POOL = ("X", "x_scale", "x_zero_point", "y_scale", "y_zero_point")
_BINARY = ("A", "A_scale", "A_zero_point", "B", "B_scale", "B_zero_point", "C_scale", "C_zero_point")
_CONV = ("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "B")

register(
    Sized("Requantized", ("value", "zero_point", "parts"), requantized_error),
    Composite("QLinearAdd", 1, _BINARY, qlinear_add, domain=MS),
    Composite("QLinearMul", 1, _BINARY, qlinear_mul, domain=MS),
    Composite("QLinearSigmoid", 1, _UNARY, _unary("Sigmoid"), domain=MS),
    Composite("QLinearLeakyRelu", 1, _UNARY, _unary("LeakyRelu"), domain=MS),
    Composite("QLinearAveragePool", 1, _POOL, channels_first(qlinear_average_pool), domain=MS),
    Composite("QLinearGlobalAveragePool", 1, _POOL, channels_first(qlinear_global_average_pool), domain=MS),
    Composite("QLinearConcat", 1, ("Y_scale", "Y_zero_point", "inputs"), qlinear_concat, domain=MS),
    Composite("QLinearWhere", 1, ("condition", *_BINARY), qlinear_where, domain=MS),
    Composite("QLinearSoftmax", 1, _UNARY, refuse("its kernel adds exponentials of its own fixed point"), domain=MS),
    Composite("QLinearConv", 1, _CONV, channels_first(qlinear_conv), domain=MS),
    Composite("QuantizeLinear", 1, ("x", "y_scale", "y_zero_point"), quantize, domain=MS),
    Composite("DequantizeLinear", 1, ("x", "x_scale", "x_zero_point"), dequantize, domain=MS),
)
