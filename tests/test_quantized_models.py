"""Networks that onnxruntime's quantizer made, each against its own unquantized function."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

import certify
from tests.random_claims import outcome
from tests.random_quantized import quantized_claim
from tests.semantics.test_quantization import sound

HOW = ("qdq", "qdq by channel", "qdq 16 bits", "qoperator", "dynamic")
SHAPES = {"mlp": [1, 8], "cnn": [1, 2, 8, 8]}


def mlp() -> ModelProto:
    """No Relu: the quantizer would hide it in saturation."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"]),
        helper.make_node("LeakyRelu", ["h1"], ["a1"], alpha=0.1),
        helper.make_node("MatMul", ["a1", "w2"], ["m2"]),
        helper.make_node("Add", ["m2", "b2"], ["h2"]),
        helper.make_node("Sigmoid", ["h2"], ["a2"]),
        helper.make_node("Gemm", ["a2", "w3", "b3"], ["y"]),
    ]
    return network(nodes, "mlp", 4, {"w1": (8, 16), "b1": (16,), "w2": (16, 12), "b2": (12,), "w3": (12, 4), "b3": (4,)})


def cnn() -> ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("LeakyRelu", ["c1"], ["r1"], alpha=0.1),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("Add", ["p1", "c2"], ["s"]),
        helper.make_node("AveragePool", ["s"], ["v"], kernel_shape=[2, 2]),
        helper.make_node("Concat", ["v", "v"], ["k"], axis=1),
        helper.make_node("GlobalAveragePool", ["k"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"]),
    ]
    return network(nodes, "cnn", 3, {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "w3": (8, 3), "b3": (3,)})


def network(nodes: list[Any], name: str, classes: int, weights: dict[str, tuple[int, ...]]) -> ModelProto:
    generator = np.random.default_rng(0)
    constants = []
    for key, shape in weights.items():
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        constants.append(numpy_helper.from_array((generator.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32), key))
    x, y = (helper.make_tensor_value_info(key, 1, shape) for key, shape in (("x", SHAPES[name]), ("y", [1, classes])))
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def points(shape: list[int], count: int, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    """Every third one is small, every third large: what many of them span is rarely left."""
    generator = np.random.default_rng(seed)
    return ((generator.normal(size=shape) * (0.2, 0.7, 1.5)[k % 3]).astype(np.float32) for k in range(count))


def quantized(model: ModelProto, shape: list[int], how: str, folder: Path) -> ModelProto:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            self._points = points(shape, 60, 1)

        def get_next(self) -> dict[str, Any] | None:
            return next(({"x": x} for x in self._points), None)

    plain, result = folder / "plain.onnx", folder / "quantized.onnx"
    onnx.save(model, plain)
    logging.disable(logging.WARNING)
    try:
        if how == "dynamic":
            quantization.quantize_dynamic(plain, result)
        else:
            quantization.quantize_static(
                plain,
                result,
                Reader(),
                quant_format=quantization.QuantFormat.QOperator if how == "qoperator" else quantization.QuantFormat.QDQ,
                per_channel="channel" in how,
                activation_type=quantization.QuantType.QUInt16 if "16" in how else quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(result)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_certified_against_its_unquantized_function(name: str, how: str, tmp_path: Path) -> None:
    """Observed errors stay within bounds in every format; the exact function is the float network's, but for the stored weights."""
    plain, shape = {"mlp": mlp, "cnn": cnn}[name](), SHAPES[name]
    model = quantized(plain, shape, how, tmp_path)
    x = np.stack(list(points(shape, 2, 5)))
    unquantized = certify.certify(plain, data={"x": x}, validate=False).outputs["y"].reference
    for dtype, profile in ((None, "wide"), (None, "ort-cpu"), ("bf16", "wide"), ("fp16", "wide")):
        if dtype == "fp16" and how == "dynamic":
            continue  # integer sums beyond 65504 are cast to floats
        certificate = certify.certify(model, data={"x": x}, dtype=dtype, profile=profile)
        assert certificate.validation.runtime.startswith("onnxruntime")
        output = sound(certificate)
        assert np.abs(output.reference - unquantized).max() < 0.05  # 8-bit weights
        assert dtype is not None or output.absolute_bound.max() < (0.02 if "16" in how else 1.5)
        assert dtype is not None or output.observed_error.max() > 0.0


def test_a_hidden_relu_is_charged(tmp_path: Path) -> None:
    """docs/decisions/quantization.md: what the quantizer left to saturation shows in the bound."""
    plain = mlp()
    plain.graph.node[1].CopyFrom(helper.make_node("Relu", ["h1"], ["a1"]))
    x = next(points(SHAPES["mlp"], 1, 5))
    hidden = sound(certify.certify(quantized(plain, SHAPES["mlp"], "qoperator", tmp_path), data={"x": x}))
    assert hidden.observed_error.max() > 0.05


def test_over_a_region(tmp_path: Path) -> None:
    model = quantized(mlp(), SHAPES["mlp"], "qdq", tmp_path)
    sound(certify.certify(model, ranges={"x": (0.2, 0.25)}, region=True, boxes=8, samples=4))


@pytest.mark.parametrize("seed", range(21))
def test_no_run_breaks_a_random_claim(seed: int) -> None:
    model, points_, claim = quantized_claim(seed)
    found = outcome(model, points_, claim)
    assert not found.is_defect, (claim, found.text)
