"""Products of quantized tensors: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.

Kernels subtract zero points, multiply and add in int32, exactly as long as the sum fits (premise: intermediate sums wrap, or are
wider; they don't saturate). QLinear* then scale the sum: by the multiplier (a_scale b_scale) / y_scale, computed first, in floating
point or as a fixed-point number of 31 bits. Source: https://onnx.ai/onnx/operators/onnx__QLinearConv.html and its like.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.ops.integers import FLOATS, limits
from certify.semantics.ops.quantization import INT32, Parts, difference, into_integers, is_zero


def along(e: Expansion, parameter: int, shape: tuple[int, ...], part: str) -> tuple[list[Primitive], str]:
    """A vector of scales or zero points in `shape`; one number stays one number, and what has more axes is shaped already."""
    name, given = e.operands[parameter], e.shapes[parameter]
    assert name is not None
    if len(given) != 1:
        return [], name
    target: tuple[int, ...] = () if given == (1,) else shape
    return [Primitive("Reshape", (name,), e.name(part), {"shape": np.asarray(target, np.int64)}, inner=False, like=name)], e.name(part)


def rows(e: Expansion, parameter: int, matrix: int) -> tuple[int, ...]:
    """The shape that a vector of row parameters of operand `matrix` takes: a column."""
    if e.shapes[parameter] not in ((), (1,)) and len(e.shapes[matrix]) < 2:
        raise UnsupportedOperator("a vector of row parameters for an operand that is no matrix")
    return (-1, 1)


def centred(e: Expansion, operand: int, zero: tuple[int, str], shape: tuple[int, ...], part: str) -> tuple[list[Primitive], str]:
    """The operand minus its zero point; `zero` is that one's position and name."""
    x = e.operands[operand]
    assert x is not None
    if e.elements[operand] in FLOATS:
        raise UnsupportedOperator("products of float8 numbers, whose sum the standard leaves open")
    if is_zero(e, *zero):
        return [], x
    steps, name = along(e, zero[0], shape, f"{part} zero")
    more, result = difference(e, x, name, INT32, part)
    return [*steps, *more], result


def channels(rank: int) -> tuple[int, ...]:
    """The shape in which numbers of output channels meet a result of `rank` axes."""
    return (-1, *(1,) * (rank - 2))


def integer_product(e: Expansion, kind: str, operands: tuple[str | None, ...], attributes: dict[str, Any], output: str) -> list[Primitive]:
    """The contraction `kind` of integers, as an int32."""
    return [
        Primitive(kind, operands, e.name("sum"), attributes, like=INT32),
        Primitive("Ranged", (e.name("sum"),), output, limits(INT32), inner=False, domain="certify", like=INT32),
    ]


def matmul_integer(e: Expansion) -> Parts:
    """(A - a_zero_point) (B - b_zero_point) in int32; zero points of A are one number or one a row, those of B one a column."""
    a, left = centred(e, 0, (2, "a_zero_point"), rows(e, 2, 0) if len(e.shapes) > 2 else (), "left")
    b, right = centred(e, 1, (3, "b_zero_point"), (-1,), "right")
    return [*a, *b, *integer_product(e, "MatMul", (left, right), {}, e.outputs[0] or e.name("output"))], {}


def conv_integer(e: Expansion, **attributes: Any) -> Parts:
    """The convolution of x - x_zero_point (padded with zeros) and w - w_zero_point in int32."""
    x, left = centred(e, 0, (2, "x_zero_point"), (), "left")
    w, right = centred(e, 1, (3, "w_zero_point"), (-1, *(1,) * (len(e.shapes[1]) - 1)), "right")
    return [*x, *w, *integer_product(e, "Conv", (left, right), attributes, e.outputs[0] or e.name("output"))], {}


def requantized(e: Expansion, total: str, scales: tuple[str, str, str], zero: str | None, element: int, kernel: str) -> list[Primitive]:
    """total (a b / y) + zero, delivered in an integer type; `scales` are a, b, y."""
    a, b, y = scales
    fixed = 0 if e.style(kernel) == "float" else 1
    return [
        Primitive("Mul", (a, b), e.name("scale"), like=a),
        Primitive("Div", (e.name("scale"), y), e.name("multiplier"), like=a),
        Primitive("Store", (total,), e.name("converted"), domain="certify", like=a),
        Primitive("Mul", (e.name("converted"), e.name("multiplier")), e.name("scaled"), like=a),
        *into_integers(e, e.name("scaled"), zero, element, e.outputs[0] or e.name("output"), "y", fixed),
    ]


def qlinear_matmul(e: Expansion) -> Parts:
    """(a - a_zero_point) (b - b_zero_point) scaled; scales and zero points are one number, or one a row of a and y, a column of b."""
    for position in (1, 2, 6, 7):
        rows(e, position, 0)
    a, left = centred(e, 0, (2, "a_zero_point"), (-1, 1), "a")
    b, right = centred(e, 3, (5, "b_zero_point"), (-1,), "b")
    a_scale, by_row = along(e, 1, (-1, 1), "a scale")
    b_scale, by_column = along(e, 4, (-1,), "b scale")
    y_scale, divisor = along(e, 6, (-1, 1), "y scale")
    y_zero, zero = along(e, 7, (-1, 1), "y zero")
    product = integer_product(e, "MatMul", (left, right), {}, e.name("total"))
    rest = requantized(e, e.name("total"), (by_row, by_column, divisor), zero, e.elements[7], "QLinearMatMul")
    return [*a, *b, *a_scale, *b_scale, *y_scale, *y_zero, *product, *rest], {}


def qlinear_conv(e: Expansion, **attributes: Any) -> Parts:
    """The convolution of (x - x_zero_point) and (w - w_zero_point), plus B, scaled; w_scale and w_zero_point may go by output channel."""
    rank = len(e.shapes[0])
    x, left = centred(e, 0, (2, "x_zero_point"), (), "x")
    w, right = centred(e, 3, (5, "w_zero_point"), (-1, *(1,) * (rank - 1)), "w")
    x_scale, a = along(e, 1, (), "x scale")
    w_scale, b = along(e, 4, channels(rank), "w scale")
    y_scale, divisor = along(e, 6, (), "y scale")
    y_zero, zero = along(e, 7, (), "y zero")
    bias = e.operands[8] if len(e.operands) > 8 else None
    product = integer_product(e, "Conv", (left, right, bias), attributes, e.name("total"))
    rest = requantized(e, e.name("total"), (a, b, divisor), zero, e.elements[7], "QLinearConv")
    return [*x, *w, *x_scale, *w_scale, *y_scale, *y_zero, *product, *rest], {}


_A, _B = ("a", "a_scale", "a_zero_point"), ("b", "b_scale", "b_zero_point")
_X, _W = ("x", "x_scale", "x_zero_point"), ("w", "w_scale", "w_zero_point")
_Y = ("y_scale", "y_zero_point")

register(
    Composite("MatMulInteger", 10, ("A", "B", "a_zero_point", "b_zero_point"), matmul_integer),
    Composite("ConvInteger", 10, ("x", "w", "x_zero_point", "w_zero_point"), conv_integer),
    *(Composite("QLinearMatMul", since, (*_A, *_B, *_Y), qlinear_matmul) for since in (10, 21)),
    Composite("QLinearConv", 10, (*_X, *_W, *_Y, "B"), qlinear_conv),
)
