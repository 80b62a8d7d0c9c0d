"""onnxruntime's products with quantized factors: QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul, MatMulNBits.

Source: onnxruntime's ContribOperators.md and its kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.delivery import Delivery
from certify.semantics.families.writer import Writer
from certify.semantics.ops.dynamic_quantization import largest_sum, product, quantized_operand, real_weights
from certify.semantics.ops.integer_contraction import along, centred, integer_product
from certify.semantics.ops.qlinear import MS, refuse
from certify.semantics.ops.quantization import UINT8, Parts, into_integers


def scaled_after(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    """u |x| + eta: what a factor of x costs that is multiplied into the sums of a product's terms instead of into x, or into both."""
    return add_up(mul_up(arithmetic.unit_roundoff, magnitude), arithmetic.underflow)


def roomy(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float], *, times: float) -> Array:
    """0; inf where a sum of elements, whose factors add up to `times`, may leave the range of the accumulator."""
    return np.where(mul_up(times, magnitude) <= arithmetic.accumulator.max, 0.0, np.inf)


def scaled(e: Expansion, total: str, scales: tuple[str, ...], divisor: str | None) -> list[Primitive]:
    """total (product of scales) / divisor in the kernel's format; the scales are multiplied first. The result is "scaled"."""
    like, factor = scales[-1], scales[0]
    steps = []
    for k, scale in enumerate(scales[1:]):
        steps.append(Primitive("Mul", (factor, scale), e.name(f"scale {k}"), like=like))
        factor = e.name(f"scale {k}")
    if divisor is not None:
        steps.append(Primitive("Div", (factor, divisor), e.name("multiplier"), like=like))
        factor = e.name("multiplier")
    return [
        *steps,
        Primitive("Store", (total,), e.name("converted"), domain="certify", like=like),
        Primitive("Mul", (e.name("converted"), factor), e.name("scaled"), like=like),
    ]


def stored(e: Expansion, result: str, bias: str | None) -> list[Primitive]:
    """result + bias, stored."""
    output = e.outputs[0] or e.name("output")
    if bias is None:
        return [Primitive("Store", (result,), output, inner=False, domain="certify")]
    return [Primitive("Add", (result, bias), output, inner=False)]


def operand(e: Expansion, position: int) -> str | None:
    return e.operands[position] if position < len(e.operands) else None


def qgemm(e: Expansion, *, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> Parts:
    """alpha a_scale b_scale ((A - a_zero_point) (B - b_zero_point) + C), divided by y_scale and quantized if that is given."""
    a, left = centred(e, 0, (2, "a_zero_point"), (), "a")
    b, right = centred(e, 3, (5, "b_zero_point"), (-1, 1) if transB else (-1,), "b")
    a_scale, s = along(e, 1, (), "a scale")
    b_scale, t = along(e, 4, (-1,), "b scale")
    product = integer_product(e, "Gemm", (left, right, operand(e, 6)), {"transA": transA, "transB": transB}, e.name("total"))
    constants: dict[str, Any] = {} if alpha == 1.0 else {e.name("alpha"): np.asarray(float(alpha))}
    steps, scales = [*a, *b, *a_scale, *b_scale, *product], (*constants, s, t)
    if operand(e, 7) is None:
        return [*steps, *scaled(e, e.name("total"), scales, None), *stored(e, e.name("scaled"), None)], constants
    y_scale, divisor = along(e, 7, (), "y scale")
    y_zero, zero = along(e, 8, (), "y zero") if operand(e, 8) is not None else ([], None)
    fixed = 0 if e.style("QLinearGemm") == "float" else 1
    last = into_integers(e, e.name("scaled"), zero, e.results[0], e.outputs[0] or e.name("output"), "y", fixed)
    return [*steps, *y_scale, *y_zero, *scaled(e, e.name("total"), scales, divisor), *last], constants


def matmul_integer_to_float(e: Expansion) -> Parts:
    """a_scale b_scale (A - a_zero_point) (B - b_zero_point) + bias; b's scale and zero point may go by column."""
    a, left = centred(e, 0, (4, "a_zero_point"), (), "a")
    b, right = centred(e, 1, (5, "b_zero_point"), (-1,), "b")
    a_scale, s = along(e, 2, (), "a scale")
    b_scale, t = along(e, 3, (-1,), "b scale")
    product = integer_product(e, "MatMul", (left, right), {}, e.name("total"))
    return [
        *(*a, *b, *a_scale, *b_scale, *product),
        *scaled(e, e.name("total"), (s, t), None),
        *stored(e, e.name("scaled"), operand(e, 6)),
    ], {}


def dynamic_quantize_matmul(e: Expansion) -> Parts:
    """A times b_scale (B - b_zero_point), plus bias; the kernel quantizes A by its own range (semantics/ops/dynamic_quantization)."""
    w, (x, weights, scale) = Writer(e), e.operands[:3]
    assert x is not None
    assert weights is not None
    assert scale is not None
    zeros = operand(e, 3)
    times = largest_sum(e.constants.get("B"), 0.0 if zeros is None else e.constants.get("b_zero_point"), e.shapes[0][-1])
    y = product(w, x, quantized_operand(w, x), real_weights(w, weights, zeros, scale), scale, times)
    output, bias = e.outputs[0] or e.name("output"), operand(e, 4)
    if bias is None:
        w.step("Store", y, domain="certify", output=output)
    else:
        w.step("Add", y, bias, output=output)
    return w.parts


def unpacked(x: Any, bits: int) -> npt.NDArray[np.int64]:
    """Numbers of `bits` bits from the bytes of the last axis, the lowest bits first."""
    data = np.asarray(x, dtype=np.int64)[..., None] >> np.arange(0, 8, bits)
    return np.asarray((data & ((1 << bits) - 1)).reshape(*data.shape[:-2], -1))


def packed_weights(e: Expansion, N: int, K: int, block_size: int, bits: int) -> npt.NDArray[np.int64]:
    """The integers behind the packed factor minus their zero points, (N, blocks, block_size); 0 beyond K."""
    if "B" not in e.constants or (operand(e, 3) is not None and "zero_points" not in e.constants):
        raise UnsupportedOperator("weights or zero points that are not constant")
    blocks = -(-K // block_size)
    numbers = unpacked(e.constants["B"].reshape(N, blocks, -1), bits)[..., :block_size]
    if operand(e, 3) is None:
        zeros = np.full((N, blocks), 1 << (bits - 1))
    elif e.elements[3] != UINT8:
        raise UnsupportedOperator("zero points that are no integers")
    else:
        zeros = unpacked(e.constants["zero_points"].reshape(N, -1), bits)[:, :blocks]
    inside = np.arange(blocks * block_size).reshape(blocks, block_size) < K
    return np.where(inside, numbers - zeros[..., None], 0)


def matmul_n_bits(
    e: Expansion, *, K: int, N: int, block_size: int, bits: int = 4, accuracy_level: int = 0, weight_prepacked: int = 0
) -> Parts:
    """A times scales (B - zero_points), plus bias, in the kernel's format, each block scaled before or after its products are added.

    Refused: accuracy levels that let the kernel convert A, reordered or prepacked or empty weights.
    """
    x, bias = e.operands[0], operand(e, 5)
    if accuracy_level not in (0, 1):
        raise UnsupportedOperator(f"accuracy_level {accuracy_level}, which lets the kernel round A into a narrower type")
    if operand(e, 4) is not None or weight_prepacked or bits not in (2, 4, 8) or not e.constants.get("B", np.ones(1)).size:
        raise UnsupportedOperator("g_idx, prepacked or empty weights, or numbers of other than 2, 4 or 8 bits")
    weights = packed_weights(e, N, K, block_size, bits)
    blocks = weights.shape[1]

    def reshaped(source: str | None, shape: Sequence[int], target: str, inner: bool = True) -> Primitive:
        return Primitive("Reshape", (source,), target, {"shape": np.asarray(shape), "allowzero": 1}, inner=inner)

    rows = int(np.prod(e.shapes[0][:-1], dtype=np.int64))
    y = e.outputs[0] or e.name("output")
    within = {"starts": np.asarray([0]), "ends": np.asarray([K]), "axes": np.asarray([1])}
    times = float(K * (1 << bits))
    return [
        Primitive("Store", (e.name("weights"),), e.name("numbers"), domain="certify"),
        Primitive("Reshape", (e.operands[2],), e.name("scales"), {"shape": np.asarray((N, blocks, 1))}, inner=False, like=e.operands[2]),
        Primitive("Mul", (e.name("numbers"), e.name("scales")), e.name("products")),
        Primitive("ScaledAfter", (e.name("products"),), e.name("factors"), domain="certify"),
        reshaped(e.name("factors"), (N, blocks * block_size), e.name("whole")),
        Primitive("Slice", (e.name("whole"),), e.name("B"), within),
        Primitive("Roomy", (x,), e.name("roomy"), {"times": times}, inner=False, domain="certify", like=x),
        Primitive("Reshape", (e.name("roomy"),), e.name("A"), {"shape": np.asarray((rows, K)), "allowzero": 1}, inner=False, like=x),
        Primitive("Gemm", (e.name("A"), e.name("B"), bias), e.name("Y"), {"transB": 1}, inner=False),
        reshaped(e.name("Y"), (*e.shapes[0][:-1], N), y, inner=False),
    ], {e.name("weights"): weights}


_A, _B = ("A", "a_scale", "a_zero_point"), ("B", "b_scale", "b_zero_point")
_TO_FLOAT = ("A", "B", "a_scale", "b_scale", "a_zero_point", "b_zero_point", "bias")
_ATTENTION = ("input", "weight", "bias", "input_scale", "weight_scale", "mask_index", "input_zero_point", "weight_zero_point", "past")

register(
    Delivery("ScaledAfter", scaled_after),
    Delivery("Roomy", roomy),
    Composite("QGemm", 1, (*_A, *_B, "C", "y_scale", "y_zero_point"), qgemm, domain=MS),
    Composite("MatMulIntegerToFloat", 1, _TO_FLOAT, matmul_integer_to_float, domain=MS),
    Composite("DynamicQuantizeMatMul", 1, ("A", "B", "b_scale", "b_zero_point", "bias"), dynamic_quantize_matmul, domain=MS),
    Composite("QAttention", 1, _ATTENTION, refuse("attention of quantized operands"), domain=MS, outputs=2),
    Composite("MatMulNBits", 1, ("A", "B", "scales", "zero_points", "g_idx", "bias"), matmul_n_bits, domain=MS),
)
