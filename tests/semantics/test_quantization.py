"""Quantizing operators against their definition, and their claims against onnxruntime and the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

import certify
from certify.errors import Unsupported

I8, U8, I16, U16, F32, F16 = (
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
)
ENDS = {I8: (-128, 127), U8: (0, 255), I16: (-32768, 32767), U16: (0, 65535)}
Arrays = dict[str, np.ndarray[Any, Any]]


def one(kind: str, feeds: Arrays, constants: Arrays, results: dict[str, int], opset: int, **attributes: Any) -> ModelProto:
    """One node; its operands are the feeds and constants in order, those of size 0 absent."""
    named = {**feeds, **constants}
    operands = [name if x.size else "" for name, x in named.items()]
    node = helper.make_node(kind, operands, list(results), **attributes)
    inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in feeds.items() if x.size]
    outputs = [helper.make_tensor_value_info(name, element, None) for name, element in results.items()]
    stored = [onnx.numpy_helper.from_array(x, name) for name, x in constants.items() if x.size]
    graph = helper.make_graph([node], "g", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def sound(certificate: Any, name: str = "y") -> Any:
    """No run broke the claim; the output, whose bound is finite."""
    assert certificate.validation.runs > 0, certificate.validation.runtime
    assert certificate.gate.exit_code == 0, certificate.gate.reasons
    output = certificate.outputs[name]
    assert np.isfinite(output.absolute_bound).all()
    assert (output.observed_error <= output.absolute_bound + output.reference_radius).all()
    return output


x = np.array([[-40.0, -1.3, -0.06, 0.0, 0.05, 0.7, 12.345, 3.05], [1.0, 2.0, -3.0, 0.1, -0.1, 25.0, -25.6, 100.0]], np.float32)
SCALE, SCALES = np.float32(0.1), np.array([0.1, 0.4], np.float32)
none = np.zeros(0, np.float32)


@pytest.mark.parametrize("element", ENDS)
@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23])
def test_quantize_is_the_real_quotient_and_its_bound_is_half_plus_saturation(element: int, opset: int) -> None:
    if element in (I16, U16) and opset < 21:
        return
    zero = np.array(3, helper.tensor_dtype_to_np_dtype(element))
    model = one("QuantizeLinear", {"x": x}, {"s": np.asarray(SCALE), "z": zero}, {"y": element}, opset)
    output = sound(certify.certify(model, data={"x": x}))
    exact = x.astype(np.float64) / float(SCALE) + 3.0
    assert np.allclose(output.reference[0], exact, rtol=1e-15, atol=0)
    least, greatest = ENDS[element]
    beyond = np.maximum(np.maximum(exact - greatest, least - exact), 0.0)
    assert (output.absolute_bound[0] <= np.maximum(0.5, beyond) + 1e-3).all()
    assert (output.observed_error[0] >= 0.999 * output.absolute_bound[0] - 1e-4).all()  # each number's own rounding is known


@pytest.mark.parametrize("dtype", [None, "fp16", "bf16", "fp8e4m3", "fp8e5m2", "fp64"])
@pytest.mark.parametrize("profile", ["wide", "ieee"])
def test_there_and_back_in_any_format(dtype: str | None, profile: str) -> None:
    """By tensor, by axis and in blocks; the real function is the identity."""
    blocks = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)
    cases: list[tuple[Any, Any, dict[str, int]]] = [
        (np.asarray(SCALE), np.asarray(np.uint8(100)), {}),
        (SCALES, np.array([5, 100], np.uint8), {"axis": 0}),
        (blocks, np.array([[1, 2, 3], [100, 101, 102]], np.uint8), {"axis": -1, "block_size": 3}),
    ]
    for scale, zero, attributes in cases:
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", F32, x.shape)],
            [helper.make_tensor_value_info("y", F32, x.shape)],
            [onnx.numpy_helper.from_array(scale, "s"), onnx.numpy_helper.from_array(zero, "z")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        data = x if dtype != "fp8e4m3" else x / np.float32(4.0)  # that format ends at 448
        output = sound(certify.certify(model, data={"x": data}, dtype=dtype, profile=profile))
        assert np.allclose(output.reference[0], data)
        region = certify.certify(model, ranges={"x": (-0.25, 1.5)}, region=True, boxes=8, dtype=dtype, profile=profile, samples=3)
        bound = sound(region).absolute_bound.max()
        if dtype is None:
            assert bound <= float(np.max(scale)) * 0.5001


@pytest.mark.parametrize(("kind", "most"), [(ml_dtypes.float8_e4m3fn, 448.0), (ml_dtypes.float8_e5m2, 57344.0)], ids=["e4m3fn", "e5m2"])
def test_into_float8(kind: Any, most: float) -> None:
    """Saturating, half an ulp and what lies beyond; otherwise nothing is claimed beyond."""
    zero = np.array(0, kind)
    results = {"y": int(helper.np_dtype_to_tensor_dtype(zero.dtype))}
    wide = np.concatenate([x.reshape(-1), np.array([1e4, -1e4], np.float32)])
    model = one("QuantizeLinear", {"x": wide}, {"s": np.asarray(SCALE), "z": zero}, results, 19)
    output = sound(certify.certify(model, data={"x": wide}))
    exact = wide.astype(np.float64) / float(SCALE)
    beyond = np.maximum(np.abs(exact) - most, 0.0)
    assert (np.abs(np.clip(exact, -most, most) - exact) <= output.absolute_bound[0]).all()
    assert (output.absolute_bound[0] <= np.maximum(beyond, np.abs(exact) * 2.0**-3) * 1.001 + 1e-3).all()
    strict = one("QuantizeLinear", {"x": wide}, {"s": np.asarray(SCALE), "z": zero}, results, 19, saturate=0)
    bound = certify.certify(strict, data={"x": wide}).outputs["y"].absolute_bound[0]
    assert np.isinf(bound[np.abs(exact) > 1.1 * most]).all()
    assert np.isfinite(bound[np.abs(exact) < most]).all()


@pytest.mark.parametrize(("name", "most"), [("float4_e2m1fn", 6.0), ("float6_e2m3fn", 7.5), ("float6_e3m2fn", 28.0)])
def test_into_formats_without_infinity(name: str, most: float) -> None:
    """They saturate whatever `saturate` says; scales may be powers of two of a type of their own."""
    kind = np.dtype(getattr(ml_dtypes, name))
    element = {"float4_e2m1fn": 23, "float6_e2m3fn": 27, "float6_e3m2fn": 28}[name]
    scale = np.array(0.25, ml_dtypes.float8_e8m0fnu)
    for saturate in (0, 1):
        model = one("QuantizeLinear", {"x": x}, {"s": scale}, {"y": element}, 28, output_dtype=element, saturate=saturate)
        output = sound(certify.certify(model, data={"x": x}))
        exact = x.astype(np.float64) * 4.0
        delivered = np.clip(exact, -most, most).astype(kind).astype(np.float64)
        assert (np.abs(delivered - exact) <= output.absolute_bound[0]).all()
        assert (output.absolute_bound[0] <= np.maximum(np.abs(exact) - most, np.abs(exact) / 4 + 0.25) * 1.001).all()


def test_dequantized_constants_are_exact_reals() -> None:
    """Stored integers, as weights are; int32 as biases are."""
    weights = np.array([[-128, 3], [127, 0]], np.int8)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0),
            helper.make_node("DequantizeLinear", ["b", "t"], ["c"]),
            helper.make_node("Gemm", ["x", "d", "c"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", F32, [2, 2])],
        [helper.make_tensor_value_info("y", F32, [2, 2])],
        [
            onnx.numpy_helper.from_array(v, n)
            for n, v in {
                "w": weights,
                "s": SCALES,
                "z": np.array([5, -7], np.int8),
                "b": np.array([2**30 + 1, -7], np.int32),
                "t": np.float32(2e-9),
            }.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    data = x[:, :2].copy()
    output = sound(certify.certify(model, data={"x": data}))
    exact = data.astype(np.float64) @ ((weights - np.array([[5], [-7]])) * SCALES.astype(np.float64)[:, None])
    exact += np.array([2**30 + 1, -7]) * float(np.float32(2e-9))
    assert np.allclose(output.reference[0], exact, rtol=1e-14)
    assert output.absolute_bound.max() < 1e-2


def test_dynamic_quantization() -> None:
    """All three outputs; what is quantized and dequantized again is off by half a scale, not by the zero point's rounding too."""
    results = {"y": U8, "s": F32, "z": U8}
    model = one("DynamicQuantizeLinear", {"x": x}, {}, results, 11)
    certificate = certify.certify(model, data={"x": x})
    scale, zero, y = sound(certificate, "s"), sound(certificate, "z"), sound(certificate, "y")
    assert np.isclose(scale.reference[0], 140.0 / 255.0)
    assert np.isclose(zero.reference[0], 40.0 * 255.0 / 140.0)
    assert (zero.absolute_bound <= 0.5001).all()
    assert (y.absolute_bound <= 1.001).all()
    model.graph.node.append(helper.make_node("DequantizeLinear", ["y", "s", "z"], ["d"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("d", F32, x.shape))
    for dtype in (None, "fp16", "bf16"):
        back = sound(certify.certify(model, data={"x": x}, dtype=dtype), "d")
        assert np.allclose(back.reference[0], x)
        assert dtype is not None or back.absolute_bound.max() <= 140.0 / 255.0 * 1.001


def test_all_zeros_have_no_dynamic_scale() -> None:
    """The standard divides by zero, onnxruntime takes 1: nothing is claimed."""
    model = one("DynamicQuantizeLinear", {"x": x}, {}, {"y": U8, "s": F32, "z": U8}, 11)
    certificate = certify.certify(model, data={"x": np.zeros_like(x)})
    assert certificate.gate.exit_code == 0
    assert all(np.isinf(output.absolute_bound).all() for output in certificate.outputs.values())


def _refused(build: Callable[[], ModelProto], reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        certify.certify(build(), ranges=(-1.0, 1.0))


def test_what_is_refused() -> None:
    ints, scales = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones(3, np.float32)
    _refused(lambda: one("QuantizeLinear", {"x": ints}, {"s": np.asarray(np.int32(2))}, {"y": U8}, 23), "int32 by int32")
    floats = ints.astype(np.float32)
    _refused(lambda: one("QuantizeLinear", {"x": floats}, {"s": scales}, {"y": U8}, 13, axis=0), "for an axis of 2")
    _refused(lambda: one("QuantizeLinear", {"x": floats}, {"s": np.ones((2, 2), np.float32)}, {"y": U8}, 21, axis=0), "blocks of 0")


def test_integers_and_mixed_types() -> None:
    """int32 is converted before it is divided; `precision`, or else the scale's type, is the type in which one divides."""
    ints = np.array([2**24 + 1, -7, 100, 0], np.int32)
    sound(certify.certify(one("QuantizeLinear", {"x": ints}, {"s": np.array(0.5, np.float32)}, {"y": U8}, 13), data={"x": ints}))
    for held, scale, precision in (
        (np.float32, np.float16, 0),
        (np.float16, np.float32, 0),
        (np.float32, np.float32, F16),
        (np.float16, np.float16, F32),
    ):
        data, s = x.astype(held), np.asarray(scale(0.3))
        model = one("QuantizeLinear", {"x": data}, {"s": s}, {"y": I16}, 23, output_dtype=I16, precision=precision)
        output = certify.certify(model, data={"x": data}).outputs["y"]
        kept = np.float16 if precision == F16 or (scale is np.float16 and not precision) else np.float32
        delivered = np.rint(data.astype(kept) / s.astype(kept)).astype(np.float64)
        assert (np.abs(delivered - data.astype(np.float64) / float(s)) <= output.absolute_bound[0]).all()


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_narrow_integers(name: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, name))
    element = int(helper.np_dtype_to_tensor_dtype(kind))
    least, greatest = float(ml_dtypes.iinfo(kind).min), float(ml_dtypes.iinfo(kind).max)
    model = one("QuantizeLinear", {"x": x}, {"s": np.asarray(SCALE), "z": np.array(1, kind)}, {"y": element}, 25)
    output = sound(certify.certify(model, data={"x": x}))
    exact = x.astype(np.float64) / float(SCALE) + 1.0
    assert np.allclose(output.absolute_bound[0], np.maximum(np.abs(np.clip(np.rint(exact), least, greatest) - exact), 0.0), atol=1e-4)
    held = np.array([[0, 1, 1], [1, 0, 0]], kind)
    back = one("DequantizeLinear", {"x": held}, {"s": SCALES, "z": np.array([0, 1], kind)}, {"y": F32}, 25, axis=0)
    found = sound(certify.certify(back, data={"x": held}))
    assert np.allclose(found.reference[0], (held.astype(np.float64) - [[0], [1]]) * SCALES[:, None])
