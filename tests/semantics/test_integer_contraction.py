"""Products of quantized tensors against their definition, onnxruntime, and kernels that scale by fixed-point numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import certify
from tests.semantics.test_quantization import Arrays, one, sound

I8, U8, I32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32
TYPES = {I8: np.int8, U8: np.uint8}


def drawn(generator: np.random.Generator, element: int, *shape: int) -> np.ndarray[Any, Any]:
    ends = np.iinfo(TYPES[element])
    return generator.integers(ends.min, ends.max + 1, shape).astype(TYPES[element])


@pytest.mark.parametrize(("left", "right"), [(U8, U8), (U8, I8), (I8, I8)])
def test_matmul_integer(left: int, right: int) -> None:
    """One zero point, one a row, one a column; the result is a whole number, exactly."""
    generator = np.random.default_rng(left * 10 + right)
    a, b = drawn(generator, left, 2, 3, 5), drawn(generator, right, 5, 4)
    for za, zb in ((drawn(generator, left), drawn(generator, right)), (drawn(generator, left), drawn(generator, right, 4))):
        model = one("MatMulInteger", {"a": a, "b": b}, {"za": za, "zb": zb}, {"y": I32}, 10)
        output = sound(certify.certify(model, data={"a": a, "b": b}))
        assert (output.reference[0] == (a.astype(int) - int(za)) @ (b.astype(int) - zb.astype(int))).all()
        assert not output.absolute_bound.any()
        assert not output.observed_error.any()
    matrix, rows = a[0], drawn(generator, left, 3)
    model = one("MatMulInteger", {"a": matrix, "b": b}, {"za": rows}, {"y": I32}, 10)
    output = certify.certify(model, data={"a": matrix, "b": b}).outputs["y"]
    assert (output.reference[0] == (matrix.astype(int) - rows.astype(int)[:, None]) @ b.astype(int)).all()
    assert not output.absolute_bound.any()


def test_what_leaves_int32_has_no_bound() -> None:
    a, b = np.full((1, 40000), 255, np.uint8), np.full((40000, 2), 255, np.uint8)
    b[:, 0] = 1
    bound = (
        certify.certify(one("MatMulInteger", {"a": a, "b": b}, {}, {"y": I32}, 10), data={"a": a, "b": b}).outputs["y"].absolute_bound[0, 0]
    )
    assert bound[0] == 0.0
    assert np.isinf(bound[1])


def test_conv_integer() -> None:
    """Padding stands for the zero point."""
    generator = np.random.default_rng(3)
    x, w, zero, zeros = drawn(generator, U8, 1, 4, 5, 6), drawn(generator, U8, 6, 2, 3, 3), np.array(37, np.uint8), drawn(generator, U8, 6)
    attributes: dict[str, Any] = {"pads": [1, 0, 1, 1], "strides": [2, 1], "group": 2}
    model = one("ConvInteger", {"x": x, "w": w}, {"zx": zero, "zw": zeros[0]}, {"y": I32}, 10, **attributes)
    output = sound(certify.certify(model, data={"x": x, "w": w}))
    assert not output.absolute_bound.any()
    padded = np.pad(x.astype(int) - 37, ((0, 0), (0, 0), (1, 1), (0, 1)))
    assert output.reference[0][0, 4, 1, 2] == ((padded[0, 2:, 2:5, 2:5]) * (w.astype(int) - int(zeros[0]))[4]).sum()
    by_channel = one("ConvInteger", {"x": x, "w": w}, {"zx": zero, "zw": zeros}, {"y": I32}, 10, **attributes)
    found = certify.certify(by_channel, data={"x": x, "w": w}).outputs["y"]
    assert found.reference[0][0, 4, 1, 2] == ((padded[0, 2:, 2:5, 2:5]) * (w.astype(int) - int(zeros[4]))[4]).sum()


def fixed_point(total: Any, multiplier: Any, zero: int, least: int, greatest: int) -> Any:
    """gemmlowp: a 31-bit multiplier, a doubling high product rounded to nearest, a shift rounded to nearest, ties away from zero."""
    delivered = np.empty(total.shape)
    for index in np.ndindex(total.shape):
        significand, exponent = np.frexp(np.broadcast_to(multiplier, total.shape)[index])
        m, shift = round(float(significand) * 2**31), -int(exponent)
        assert shift >= 0
        product = int(total[index]) * m
        high = (abs(product) + 2**30) // 2**31 * (1 if product >= 0 else -1)
        rounded = (abs(high) + (1 << shift >> 1)) // (1 << shift) * (1 if high >= 0 else -1)
        delivered[index] = min(max(rounded + zero, least), greatest)
    return delivered


@pytest.mark.parametrize("profile", ["wide", "ieee", "ort-cpu"])
@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_qlinear_matmul(profile: str, dtype: str | None) -> None:
    if profile == "ort-cpu" and dtype:
        return
    generator = np.random.default_rng(5)
    a, b = drawn(generator, U8, 6, 40), drawn(generator, I8, 40, 5)
    zeros = {"za": np.array(120, np.uint8), "zb": np.array(-3, np.int8), "zy": np.array(128, np.uint8)}
    scales = [np.array(v, np.float32) for v in (0.02, 0.007, 0.11)]
    constants: Arrays = {"sa": scales[0], "za": zeros["za"], "b": b, "sb": scales[1], "zb": zeros["zb"], "sy": scales[2], "zy": zeros["zy"]}
    output = sound(certify.certify(one("QLinearMatMul", {"a": a}, constants, {"y": U8}, 10), data={"a": a}, profile=profile, dtype=dtype))
    total = (a.astype(int) - 120) @ (b.astype(int) + 3)
    multiplier = float(scales[0]) * float(scales[1]) / float(scales[2])
    assert np.allclose(output.reference[0], total * multiplier + 128, rtol=1e-13)
    if dtype is not None:
        return
    inside = np.abs(total * multiplier) < 120
    if profile == "ort-cpu":
        assert (output.absolute_bound[0][inside] <= 0.501).all()
        return
    assert (output.absolute_bound[0][inside] <= 0.751).all()
    distance = np.abs(fixed_point(total, multiplier, 128, 0, 255) - output.reference[0])
    assert (distance <= output.absolute_bound[0]).all()


def test_qlinear_matmul_by_row_and_column() -> None:
    generator = np.random.default_rng(6)
    a, b = drawn(generator, I8, 3, 8), drawn(generator, I8, 8, 4)
    rows, columns = np.array([0.01, 0.03, 0.02], np.float32), np.array([0.1, 0.2, 0.3, 0.05], np.float32)
    za, zb, zy = (np.arange(n, dtype=np.int8) for n in (3, 4, 3))
    constants: Arrays = {"sa": rows, "za": za, "b": b, "sb": columns, "zb": zb, "sy": rows * 9, "zy": zy}
    output = certify.certify(one("QLinearMatMul", {"a": a}, constants, {"y": I8}, 21), data={"a": a}).outputs["y"]
    exact = ((a.astype(int) - za[:, None].astype(int)) * rows[:, None].astype(float)) @ (
        (b.astype(int) - zb.astype(int)) * columns.astype(float)
    )
    assert np.allclose(output.reference[0], exact / (rows * 9).astype(float)[:, None] + zy[:, None])
    assert np.isfinite(output.absolute_bound).all()


@pytest.mark.parametrize("bias", [False, True])
def test_qlinear_conv(bias: bool) -> None:
    """Scales of weights by output channel, groups, padding; the bias is an int32 of scale x_scale w_scale."""
    generator = np.random.default_rng(7)
    x, w = drawn(generator, U8, 1, 4, 6, 6), drawn(generator, I8, 6, 2, 3, 3)
    scales = np.linspace(0.004, 0.02, 6).astype(np.float32)
    constants: Arrays = {
        "sx": np.array(0.03, np.float32), "zx": np.array(110, np.uint8), "w": w, "sw": scales, "zw": np.zeros(6, np.int8),
        "sy": np.array(0.2, np.float32), "zy": np.array(99, np.uint8),
        "b": generator.integers(-3000, 3000, 6).astype(np.int32) if bias else np.zeros(0),
    }  # fmt: skip
    model = one("QLinearConv", {"x": x}, constants, {"y": U8}, 10, group=2, pads=[1, 1, 0, 0], strides=[1, 2])
    for dtype in (None, "fp16"):
        output = sound(certify.certify(model, data={"x": x}, dtype=dtype))
    padded = np.pad(x.astype(int) - 110, ((0, 0), (0, 0), (1, 0), (1, 0)))
    total = (padded[0, 2:, 1:4, 2:5] * w[5].astype(int)).sum() + (int(constants["b"][5]) if bias else 0)
    assert np.isclose(output.reference[0][0, 5, 1, 1], total * float(constants["sx"]) * float(scales[5]) / float(constants["sy"]) + 99)
    region = certify.certify(one("QLinearConv", {"x": x}, constants, {"y": U8}, 10, group=2), data={"x": x}, engine="running")
    assert np.isfinite(region.outputs["y"].absolute_bound).all()
