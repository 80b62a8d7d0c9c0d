"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: the real functions x / scale + zero point and (q - zero point) scale.

What a kernel does beyond them, rounding and saturating, is rounding (docs/decisions/quantization.md). Source of every definition:
https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html, onnx__DequantizeLinear.html, onnx__DynamicQuantizeLinear.html.
Covered are kernels that divide (not: multiply by a rounded reciprocal), round the quotient to a nearest whole number, add the
zero point and saturate; and that subtract the zero point exactly, convert the difference and multiply once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.movement import Movement
from certify.semantics.ops.integers import ENDING, FLOATS, INTEGERS, limits
from certify.semantics.ops.movement import array_axis

Parts = tuple[list[Primitive], dict[str, Any]]

UINT8, INT32 = 2, 6
_E8M0 = 24  # powers of two, in which one does not divide
_BITS = {1: 24, 10: 11, 11: 53, 16: 8}  # precision of the types in which one divides


def repeated(x: Any, *, axis: int, times: int, extent: int) -> Any:
    """Each slice `times` times, cut to `extent` slices."""
    k = array_axis(axis, x.ndim - 1)
    return np.take(np.repeat(x, times, axis=k), np.arange(extent), axis=k)


def spread(e: Expansion, parameter: int, axis: int, block_size: int, part: str) -> tuple[list[Primitive], str | None]:
    """A scale or zero point as it meets the first operand: one number, one an index of `axis`, or one a block along it."""
    name = e.operands[parameter] if parameter < len(e.operands) else None
    if name is None:
        return [], None
    shape, given = e.shapes[0], e.shapes[parameter]
    rank = len(shape)
    if given == () or (given == (1,) and rank > 0 and not block_size):
        return [], name
    fresh = e.name(part)
    if given == (1,) and rank == 0:
        return [Primitive("Reshape", (name,), fresh, {"shape": np.zeros(0, np.int64)}, inner=False, like=name)], fresh
    k = axis % rank if rank > 1 else 0
    if len(given) == 1 and not (rank == 1 and block_size):
        if given[0] != shape[k]:
            raise UnsupportedOperator(f"a scale of {given[0]} numbers for an axis of {shape[k]}")
        aligned = np.asarray([-1 if i == k else 1 for i in range(rank)])
        return [Primitive("Reshape", (name,), fresh, {"shape": aligned}, inner=False, like=name)], fresh
    if not block_size or given != tuple(-(-n // block_size) if i == k else n for i, n in enumerate(shape)):
        raise UnsupportedOperator(f"a scale of shape {list(given)} for one of {list(shape)}, in blocks of {block_size} along axis {axis}")
    places = {"axis": k, "times": block_size, "extent": shape[k]}
    return [Primitive("Repeated", (name,), fresh, places, inner=False, domain="certify", like=name)], fresh


def is_zero(e: Expansion, position: int, parameter: str) -> bool:
    """True if the operand is absent or known to be zero."""
    absent = position >= len(e.operands) or e.operands[position] is None
    return absent or (parameter in e.constants and not np.any(e.constants[parameter]))


def into_integers(e: Expansion, quotient: str, zero: str | None, element: int, output: str, part: str, fixed: int = 0) -> list[Primitive]:
    """quotient + zero, delivered in an integer type. `fixed`: as in `quantized`."""
    shifted, steps = quotient, []
    if zero is not None:
        shifted = e.name(f"{part} shifted")
        steps = [Primitive("Add", (quotient, zero), shifted, like=element)]
    last = Primitive("Quantized", (shifted,), output, limits(element) | {"fixed": fixed}, inner=False, domain="certify", like=element)
    return [*steps, last]


def quotient_of(e: Expansion, x: str, scale: str, element: int, precision: int) -> list[Primitive]:
    """x / scale, in the type of `scale` or, if that is given, of `precision`; integers and wider x are converted first.

    element: the type of x. The quotient stays in the kernel's own format where that type is x's own or wider; where it is
    narrower it is rounded into it.
    """
    kept = precision or (element if e.elements[1] == _E8M0 else e.elements[1])
    if kept not in _BITS:
        raise UnsupportedOperator(f"a division in element type {kept}")
    wide = (element in _BITS and _BITS[kept] < _BITS[element]) or {kept, element} == {10, 16}
    steps, operands = [], [x, scale]
    for i, of in enumerate((element, e.elements[1])):
        if of != kept:
            converted = e.name(("dividend", "divisor")[i])
            steps.append(Primitive("Store", (operands[i],), converted, inner=not wide, domain="certify", like=kept))
            operands[i] = converted
    return [*steps, Primitive("Div", tuple(operands), e.name("quotient"), inner=not wide, like=kept)]


def quantize(e: Expansion, *, axis: int = 1, block_size: int = 0, saturate: int = 1, output_dtype: int = 0, precision: int = 0) -> Parts:
    """x / y_scale + y_zero_point, rounded and saturated into an integer type or rounded into a float of at most 8 bits."""
    x, y, element = e.operands[0], e.outputs[0], e.results[0]
    if x is None or y is None:
        return [], {}
    if e.elements[0] == INT32 and e.elements[1] == INT32:
        raise UnsupportedOperator("a division of int32 by int32")
    if element not in INTEGERS and element not in FLOATS:
        raise UnsupportedOperator(f"quantization into element type {element}")
    steps, scale = spread(e, 1, axis, block_size, "scale")
    more, zero = ([], None) if is_zero(e, 2, "y_zero_point") else spread(e, 2, axis, block_size, "zero")
    assert scale is not None
    steps += [*more, *quotient_of(e, x, scale, e.elements[0], precision)]
    if element in INTEGERS:
        return [*steps, *into_integers(e, e.name("quotient"), zero, element, y, "y")], {}
    quotient = e.name("quotient")
    if zero is not None:
        steps.append(Primitive("Add", (quotient, zero), e.name("shifted"), like=quotient))
        quotient = e.name("shifted")
    kind, ends = ("Saturated", limits(element)) if saturate or element in ENDING else ("Store", {})
    return [*steps, Primitive(kind, (quotient,), y, ends, inner=False, domain="certify")], {}


def difference(e: Expansion, x: str, zero: str | None, element: int, part: str) -> tuple[list[Primitive], str]:
    """x - zero, exactly: kernels subtract integers in a wider type."""
    if zero is None:
        return [], x
    return [Primitive("Sub", (x, zero), e.name(part), like=element)], e.name(part)


def dequantize(e: Expansion, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0) -> Parts:
    """(x - x_zero_point) x_scale; the difference is converted into the result's kernel format, and the product stored."""
    x, y, element = e.operands[0], e.outputs[0], e.elements[0]
    if x is None or y is None:
        return [], {}
    steps, scale = spread(e, 1, axis, block_size, "scale")
    more, zero = ([], None) if is_zero(e, 2, "x_zero_point") else spread(e, 2, axis, block_size, "zero")
    assert scale is not None
    steps += more
    if element in INTEGERS:
        exact, centred = difference(e, x, zero, element, "difference")
        steps += [*exact, Primitive("Store", (centred,), e.name("factor"), domain="certify")]
        factor = e.name("factor")
    else:
        factor = x
        if zero is not None:
            steps.append(Primitive("Sub", (x, zero), e.name("factor")))
            factor = e.name("factor")
    return [*steps, Primitive("Mul", (factor, scale), y, inner=False)], {}


def dynamic_parameters(e: Expansion, x: str, names: tuple[str, str, str]) -> Parts:
    """names: scale, zero point, and the zero point before it is rounded. Scale (max(x, 0) - min(x, 0)) / 255 in the kernel's format.

    The scale may not be zero: where all of x may be, nothing is claimed.
    """
    scale, zero, real = names
    low, high, none, most = (e.name(part) for part in ("low", "high", "none", "most"))
    return [
        Primitive("ReduceMin", (x,), e.name("least"), {"keepdims": 0}, like=x),
        Primitive("ReduceMax", (x,), e.name("greatest"), {"keepdims": 0}, like=x),
        Primitive("Min", (e.name("least"), none), low, like=x),
        Primitive("Max", (e.name("greatest"), none), high, like=x),
        Primitive("Sub", (high, low), e.name("span"), like=x),
        Primitive("Nonzero", (e.name("span"),), e.name("range"), domain="certify", like=x),
        Primitive("Div", (e.name("range"), most), scale, like=x),
        Primitive("Div", (low, scale), e.name("offset"), like=x),
        Primitive("Neg", (e.name("offset"),), real, like=x),
        Primitive("Quantized", (real,), zero, limits(UINT8), inner=False, domain="certify", like=UINT8),
    ], {none: np.zeros(()), most: np.asarray(255.0)}


def dynamic_quantize(e: Expansion) -> Parts:
    """y, its scale and its zero point, all from the range of x. The kernel quantizes with the scale that it has not yet stored."""
    x = e.operands[0]
    if x is None:
        return [], {}
    y, y_scale, y_zero = (*e.outputs, None, None, None)[:3]
    scale, zero = e.name("scale"), y_zero or e.name("zero")
    steps, constants = dynamic_parameters(e, x, (scale, zero, e.name("real zero")))
    if y_scale is not None:
        steps.append(Primitive("Store", (scale,), y_scale, inner=False, domain="certify", like=x))
    if y is not None:
        steps.append(Primitive("Div", (x, scale), e.name("quotient"), like=x))
        steps += into_integers(e, e.name("quotient"), zero, UINT8, y, "y")
    return steps, constants


register(
    Movement("Repeated", 1, ("data",), repeated, domain="certify"),
    *(Composite("QuantizeLinear", since, ("x", "y_scale", "y_zero_point"), quantize) for since in (10, 13, 19, 21, 23, 24, 25, 28)),
    *(Composite("DequantizeLinear", since, ("x", "x_scale", "x_zero_point"), dequantize) for since in (10, 13, 19, 21, 23, 24, 25, 28)),
    Composite("DynamicQuantizeLinear", 11, ("x",), dynamic_quantize, outputs=3),
)
