"""onnxruntime's quantized operators: the real function behind each, and claims about it against onnxruntime and the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import certify
from certify.errors import Unsupported
from tests.semantics.test_integer_contraction import drawn
from tests.semantics.test_quantization import Arrays, one, sound

I8, U8, F32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT


def microsoft(kind: str, feeds: Arrays, constants: Arrays, results: dict[str, int], **attributes: Any) -> Any:
    model = one(kind, feeds, constants, results, 17, domain="com.microsoft", **attributes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def f(value: float) -> Any:
    return np.array(value, np.float32)


def zero(value: int, element: int) -> Any:
    return np.array(value, np.uint8 if element == U8 else np.int8)


def real(q: Any, scale: Any, point: Any) -> Any:
    return (q.astype(np.float64) - np.asarray(point, np.float64)) * np.asarray(scale, np.float64)


def claims(model: Any, feeds: Arrays, exact: Any, name: str = "y", slack: float = 0.002) -> Any:
    """In several formats and profiles; where nothing saturates, half a step is enough in fp32 with kernels that scale in floating point."""
    for dtype, profile in ((None, "wide"), ("bf16", "wide"), ("fp16", "ieee"), (None, "ort-cpu")):
        certificate = certify.certify(model, data=feeds, dtype=dtype, profile=profile)
        complete = all(model.graph.node[0].input)  # it refuses to add and multiply without zero points
        assert certificate.validation.runtime.startswith("onnxruntime") or profile == "ieee" or not complete
        output = sound(certificate, name)
        assert np.allclose(output.reference[0], exact, rtol=1e-12, atol=1e-12)
    least, greatest = (0, 255) if model.graph.output[0].type.tensor_type.elem_type == U8 else (-128, 127)
    assert (output.absolute_bound[0] <= np.maximum(0.5, np.maximum(exact - greatest, least - exact)) + slack).all()
    return output


@pytest.mark.parametrize("element", [U8, I8])
@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
def test_elementwise(kind: str, element: int) -> None:
    """Broadcasting, zero points given or not; bounds cover fixed-point ratios of 22 bits."""
    generator = np.random.default_rng(element)
    a, b = drawn(generator, element, 3, 40), drawn(generator, element, 40)
    for za, zb in ((3, -2 if element == I8 else 7), (0, 0)):
        scales = [f(v) for v in (0.031, 0.12, 0.19 if kind == "QLinearAdd" else 1.3)]
        zeros = [zero(v, element) for v in (za, zb, 5)]
        left, right = real(a, scales[0], za), real(b, scales[1], zb)
        exact = (left + right if kind == "QLinearAdd" else left * right) / float(scales[2]) + 5
        absent = np.zeros(0)
        constants: Arrays = {"sa": scales[0], "za": zeros[0] if za else absent, "b": b, "sb": scales[1], "zb": zeros[1] if zb else absent}
        model = microsoft(kind, {"a": a}, {**constants, "sc": scales[2], "zc": zeros[2]}, {"y": element})
        output = claims(model, {"a": a}, exact)
        if kind == "QLinearAdd":
            inside = np.abs(exact) < 120
            wanted = np.abs(_fixed_sum((a, b), (za, zb), scales, 5) - exact)
            assert (wanted[inside] <= output.absolute_bound[0][inside]).all()


def _fixed_sum(q: Any, zeros: Any, scales: Any, zero_point: int) -> Any:
    """Ratios as integers, 22 bits for the larger one; the sum is shifted right, rounding to nearest."""
    ratios = [np.float32(s) / np.float32(scales[2]) for s in scales[:2]]
    shift = 21 - int(np.floor(np.log2(max(ratios))))
    a, b = (round(float(r) * 2**shift) for r in ratios)
    total = (q[0].astype(np.int64) - zeros[0]) * a + (q[1].astype(np.int64) - zeros[1]) * b
    return ((total + (1 << shift - 1)) >> shift) + zero_point


@pytest.mark.parametrize("element", [U8, I8])
@pytest.mark.parametrize("kind", ["QLinearSigmoid", "QLinearLeakyRelu"])
def test_functions(kind: str, element: int) -> None:
    x = np.arange(-128 if element == I8 else 0, 128 if element == I8 else 256).astype(zero(0, element).dtype)
    function: Callable[[Any], Any] = (
        (lambda v: 1 / (1 + np.exp(-v))) if kind == "QLinearSigmoid" else (lambda v: np.where(v < 0, float(f(0.2)) * v, v))
    )
    scale = f(1 / 256 if kind == "QLinearSigmoid" else 0.05)
    attributes = {} if kind == "QLinearSigmoid" else {"alpha": 0.2}
    constants = {"sx": f(0.05), "zx": zero(10, element), "sy": scale, "zy": zero(2, element)}
    claims(microsoft(kind, {"x": x}, constants, {"y": element}, **attributes), {"x": x}, function(real(x, f(0.05), 10)) / float(scale) + 2)


@pytest.mark.parametrize("last", [0, 1])
def test_pooling(last: int) -> None:
    generator = np.random.default_rng(last)
    x = drawn(generator, U8, 1, 3, 6, 6)
    fed = np.moveaxis(x, 1, -1).copy() if last else x
    constants = {"sx": f(0.04), "zx": zero(7, U8), "sy": f(0.03), "zy": zero(11, U8)}
    values = real(x, f(0.04), 7)
    shaped = (lambda v: np.moveaxis(v, 1, -1)) if last else (lambda v: v)
    mean = values.reshape(1, 3, 3, 2, 3, 2).mean(axis=(3, 5)) / float(f(0.03)) + 11
    pool = microsoft("QLinearAveragePool", {"x": fed}, constants, {"y": U8}, kernel_shape=[2, 2], strides=[2, 2], channels_last=last)
    claims(pool, {"x": fed}, shaped(mean))
    whole = values.mean(axis=(2, 3), keepdims=True) / float(f(0.03)) + 11
    claims(microsoft("QLinearGlobalAveragePool", {"x": fed}, constants, {"y": U8}, channels_last=last), {"x": fed}, shaped(whole))
    padded = microsoft("QLinearAveragePool", {"x": fed}, constants, {"y": U8}, kernel_shape=[3, 3], pads=[1] * 4, channels_last=last)
    sound(certify.certify(padded, data={"x": fed}))
    weights, scales = drawn(generator, I8, 4, 3, 3, 3), np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    convolution: Arrays = {
        "sx": f(0.04),
        "zx": zero(7, U8),
        "w": weights,
        "sw": scales,
        "zw": np.zeros(4, np.int8),
        "sy": f(2.0),
        "zy": zero(99, U8),
    }
    model = microsoft("QLinearConv", {"x": fed}, convolution, {"y": U8}, channels_last=last, kernel_shape=[3, 3])
    found = sound(certify.certify(model, data={"x": fed})).reference[0]
    exact = (values[0, :, 1:4, 2:5] * weights[2]).sum() * float(scales[2]) / 2.0 + 99
    assert np.isclose(found[0, 1, 2, 2] if last else found[0, 2, 1, 2], exact)


def test_concatenation() -> None:
    generator = np.random.default_rng(9)
    a, b = drawn(generator, U8, 2, 3), drawn(generator, U8, 2, 4)
    constants: Arrays = {"sy": f(0.05), "zy": zero(4, U8), "a": a, "sa": f(0.05), "za": zero(4, U8)}
    model = microsoft("QLinearConcat", {}, {**constants, "b": b, "sb": f(0.03), "zb": zero(0, U8)}, {"y": U8}, axis=1)
    del model.graph.initializer[2]
    model.graph.input.append(helper.make_tensor_value_info("a", U8, a.shape))
    exact = np.concatenate([a.astype(float), real(b, f(0.03), 0) / float(f(0.05)) + 4], axis=1)
    output = claims(model, {"a": a}, exact)
    assert (output.absolute_bound[0][:, :3] < 1e-3).all()  # the same scale and zero point: copies


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("quantized", [False, True])
def test_qgemm(quantized: bool, turned: int) -> None:
    generator = np.random.default_rng(11)
    a, b, c = drawn(generator, U8, 4, 12), drawn(generator, I8, 12, 5), generator.integers(-5000, 5000, 5).astype(np.int32)
    columns, zeros = np.linspace(0.01, 0.05, 5).astype(np.float32), np.arange(-2, 3).astype(np.int8)
    exact = (real(a, 1.0, 100) @ real(b, 1.0, zeros) + c) * float(f(0.5)) * float(f(0.02)) * columns.astype(np.float64)
    constants: Arrays = {"sa": f(0.02), "za": zero(100, U8), "b": b.T.copy() if turned else b, "sb": columns, "zb": zeros, "c": c}
    more: Arrays = {"sy": f(3.1), "zy": zero(101, U8)} if quantized else {}
    element = U8 if quantized else F32
    model = microsoft(
        "QGemm", {"a": a.T.copy() if turned else a}, {**constants, **more}, {"y": element}, transA=turned, transB=turned, alpha=0.5
    )
    feeds = {"a": a.T.copy() if turned else a}
    if quantized:
        claims(model, feeds, exact / float(f(3.1)) + 101)
        return
    output = sound(certify.certify(model, data=feeds))
    assert np.allclose(output.reference[0], exact)
    assert (output.absolute_bound[0] <= 4e-7 * np.abs(exact) + 1e-9).all()


@pytest.mark.parametrize("bias", [False, True])
def test_integer_factors_and_a_float_result(bias: bool) -> None:
    generator = np.random.default_rng(12)
    a, b, c = drawn(generator, U8, 2, 3, 16), drawn(generator, I8, 16, 5), generator.normal(size=5).astype(np.float32)
    columns, zeros = np.linspace(0.01, 0.05, 5).astype(np.float32), np.arange(-2, 3).astype(np.int8)
    addend = c if bias else np.zeros(0, np.float32)
    constants: Arrays = {"b": b, "sa": f(0.02), "sb": columns, "za": zero(100, U8), "zb": zeros, "c": addend}
    output = sound(certify.certify(microsoft("MatMulIntegerToFloat", {"a": a}, constants, {"y": F32}), data={"a": a}))
    assert np.allclose(output.reference[0], real(a, f(0.02), 100) @ real(b, columns, zeros) + (c if bias else 0))
    x = generator.normal(size=(2, 3, 16)).astype(np.float32)
    constants = {"b": b, "sb": columns, "zb": zeros, "c": addend}
    model = microsoft("DynamicQuantizeMatMul", {"x": x}, constants, {"y": F32})
    for dtype in (None, "fp16"):
        output = sound(certify.certify(model, data={"x": x}, dtype=dtype))
        assert np.allclose(output.reference[0], x.astype(np.float64) @ real(b, columns, zeros) + (c if bias else 0))
    step = (x.max() - x.min()) / 255
    limit = np.abs(real(b, columns, zeros)).sum(axis=0) * step * 0.5
    assert (sound(certify.certify(model, data={"x": x})).absolute_bound[0] <= limit * 1.01 + 1e-3).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("given", [False, True])
def test_matmul_of_few_bits(bits: int, given: bool) -> None:
    """K is no multiple of the block; zero points are packed too."""
    generator = np.random.default_rng(bits)
    N, K, block = 6, 40, 16
    blocks = -(-K // block)
    numbers = generator.integers(0, 1 << bits, (N, blocks, block))
    scales = generator.uniform(0.01, 0.02, (N, blocks)).astype(np.float32)
    zeros = generator.integers(0, 1 << bits, (N, blocks)) if given else np.full((N, blocks), 1 << (bits - 1))
    packed = _packed(numbers, bits)
    points = _packed(np.pad(zeros, ((0, 0), (0, -blocks % (8 // bits)))), bits) if given else np.zeros(0, np.uint8)
    x, c = generator.normal(size=(2, 3, K)).astype(np.float32), generator.normal(size=N).astype(np.float32)
    weights = ((numbers - zeros[..., None]) * scales.astype(np.float64)[..., None]).reshape(N, -1)[:, :K]
    constants: Arrays = {"b": packed, "s": scales, "z": points, "g": np.zeros(0), "c": c}
    model = microsoft("MatMulNBits", {"x": x}, constants, {"y": F32}, K=K, N=N, bits=bits, block_size=block)
    for dtype in (None, "fp16", "bf16"):
        output = sound(certify.certify(model, data={"x": x}, dtype=dtype))
        assert np.allclose(output.reference[0], x.astype(np.float64) @ weights.T + c)
    with pytest.raises(Unsupported, match="accuracy_level 4"):
        certify.certify(microsoft("MatMulNBits", {"x": x}, constants, {"y": F32}, K=K, N=N, bits=bits, block_size=block, accuracy_level=4))


def _packed(numbers: Any, bits: int) -> Any:
    groups = numbers.reshape(*numbers.shape[:-1], -1, 8 // bits)
    return (groups << np.arange(0, 8, bits)).sum(axis=-1).astype(np.uint8)


def test_onnxruntimes_own_quantize_and_dequantize() -> None:
    x = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    zeros, scales = np.array([1, 2, 3], np.uint16), np.array([0.1, 0.2, 0.3], np.float32)
    model = microsoft("QuantizeLinear", {"x": x}, {"s": scales, "z": zeros}, {"y": TensorProto.UINT16}, axis=1)
    assert np.allclose(sound(certify.certify(model, data={"x": x})).reference[0], x / scales.astype(np.float64) + zeros)
    held = np.array([[1, 2, 60000], [4, 5, 6]], np.uint16)
    model = microsoft("DequantizeLinear", {"x": held}, {"s": scales, "z": zeros}, {"y": F32}, axis=1)
    assert np.allclose(sound(certify.certify(model, data={"x": held})).reference[0], real(held, scales, zeros))


def test_choice_and_refusals() -> None:
    generator = np.random.default_rng(2)
    a, b, where = drawn(generator, U8, 2, 3), drawn(generator, U8, 3), np.array([[True], [False]])
    constants: Arrays = {"sa": f(0.05), "za": zero(4, U8), "b": b, "sb": f(0.03), "zb": zero(9, U8), "sz": f(0.04), "zz": zero(1, U8)}
    model = microsoft("QLinearWhere", {"where": where, "a": a}, constants, {"y": U8})
    exact = np.where(where, real(a, f(0.05), 4), real(b, f(0.03), 9)) / float(f(0.04)) + 1
    assert np.allclose(sound(certify.certify(model, data={"where": where, "a": a})).reference[0], exact)
    softmax = microsoft("QLinearSoftmax", {"a": a}, {"s": f(0.1), "z": zero(1, U8), "t": f(0.1), "u": zero(0, U8)}, {"y": U8})
    softmax.graph.node[0].attribute.append(helper.make_attribute("opset", 13))
    with pytest.raises(Unsupported, match="fixed point"):
        certify.certify(softmax, data={"a": a})
