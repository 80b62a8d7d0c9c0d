"""Random quantizing operators at hard places: ties, saturation, scales of any size, zero points at the ends of their type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from tests.random_claims import Claim
from tests.semantics.test_integer_contraction import drawn
from tests.semantics.test_qlinear import microsoft
from tests.semantics.test_quantization import one

I8, U8, F32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT
Array = np.ndarray[Any, Any]


def scale(g: np.random.Generator, times: float = 1.0) -> Array:
    drawn_ = (2.0 ** g.integers(-10, 3), g.uniform(0.001, 0.5), 10.0 ** g.uniform(-6, 3), 1 / 3, g.uniform(0.01, 0.02))[g.integers(5)]
    return np.asarray(drawn_ * times, np.float32)


def zero(g: np.random.Generator, element: int) -> Array:
    kind = np.uint8 if element == U8 else np.int8
    ends = np.iinfo(kind)
    return np.array(g.choice([ends.min, ends.max, 0, g.integers(ends.min, ends.max + 1)]), kind)


def floats(g: np.random.Generator, step: Array, *shape: int) -> Array:
    """Ties, numbers of the grid, others, and a few extremes."""
    grid = (g.integers(-300, 300, shape) + g.choice([0.0, 0.5], shape)) * float(step)
    x = np.where(g.random(shape) < 0.6, grid, g.normal(size=shape) * float(step) * 100)
    return np.where(g.random(shape) < 0.05, g.choice([0.0, -0.0, 1e-38, 1e30, -1e30, 1e-45], shape), x).astype(np.float32)


def _there_and_back(g: np.random.Generator) -> tuple[ModelProto, Array]:
    first, second = scale(g), scale(g)
    constants = {"s": first, "z": zero(g, U8), "t": second, "u": zero(g, I8)}
    x = floats(g, first, 3, 8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node(str(g.choice(["Tanh", "Relu", "Exp", "Softmax", "Neg"])), ["d"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "t", "u"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "t", "u"], ["y"]),
    ]
    return _graph(nodes, x, {"y": F32}, constants), x


def _dynamic(g: np.random.Generator) -> tuple[ModelProto, Array]:
    x = (g.normal(size=(2, 6)) * 10.0 ** g.integers(-5, 4) + g.choice([0, 0, 5])).astype(np.float32)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    return _graph(nodes, x, {"y": F32, "q": U8, "s": F32, "z": U8}, {}), x


def _graph(nodes: list[Any], x: Array, outputs: dict[str, int], constants: dict[str, Array]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F32, x.shape)],
        [helper.make_tensor_value_info(name, element, None) for name, element in outputs.items()],
        [onnx.numpy_helper.from_array(v, name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def _product(g: np.random.Generator) -> tuple[ModelProto, Array]:
    x = drawn(g, U8, 2, 7)
    constants = {"sa": scale(g), "za": zero(g, U8), "b": drawn(g, I8, 7, 3), "sb": scale(g), "zb": zero(g, I8)}
    return one("QLinearMatMul", {"x": x}, {**constants, "sy": scale(g, 10.0), "zy": zero(g, U8)}, {"y": U8}, 10), x


def _convolution(g: np.random.Generator) -> tuple[ModelProto, Array]:
    x, by_channel = drawn(g, U8, 1, 2, 5, 5), np.stack([scale(g) for _ in range(3)])
    constants = {"sx": scale(g), "zx": zero(g, U8), "w": drawn(g, I8, 3, 2, 2, 2), "sw": by_channel, "zw": np.zeros(3, np.int8)}
    return one("QLinearConv", {"x": x}, {**constants, "sy": scale(g, 10.0), "zy": zero(g, U8)}, {"y": U8}, 10, pads=[1] * 4), x


def _elementwise(g: np.random.Generator) -> tuple[ModelProto, Array]:
    element = int(g.choice([U8, I8]))
    x, kind = drawn(g, element, 2, 9), str(g.choice(["QLinearAdd", "QLinearMul"]))
    constants = {"sa": scale(g), "za": zero(g, element), "b": drawn(g, element, 9), "sb": scale(g), "zb": zero(g, element)}
    return microsoft(kind, {"x": x}, {**constants, "sc": scale(g), "zc": zero(g, element)}, {"y": element}), x


def _of_floats(g: np.random.Generator) -> tuple[ModelProto, Array]:
    x, element = (g.normal(size=(3, 6)) * 10.0 ** g.integers(-3, 3)).astype(np.float32), int(g.choice([U8, I8]))
    constants = {"b": drawn(g, element, 6, 4), "sb": scale(g), "zb": zero(g, element), "c": g.normal(size=4).astype(np.float32)}
    return microsoft("DynamicQuantizeMatMul", {"x": x}, constants, {"y": F32}), x


def _unary(g: np.random.Generator) -> tuple[ModelProto, Array]:
    kind = str(g.choice(["QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSigmoid", "QLinearLeakyRelu"]))
    attributes = {"kernel_shape": [2, 2]} if kind == "QLinearAveragePool" else {}
    x = drawn(g, U8, 1, 2, 4, 4)
    constants = {"sx": scale(g), "zx": zero(g, U8), "sy": scale(g), "zy": zero(g, U8)}
    return microsoft(kind, {"x": x}, constants, {"y": U8}, **attributes), x


KINDS: tuple[Callable[[np.random.Generator], tuple[ModelProto, Array]], ...] = (
    *(_there_and_back, _dynamic, _product, _convolution),
    *(_elementwise, _of_floats, _unary),
)


def quantized_claim(seed: int) -> tuple[ModelProto, dict[str, Array], Claim]:
    """A model, two points and what is claimed of it there."""
    g = np.random.default_rng(seed)
    model, x = KINDS[seed % len(KINDS)](g)
    profile = str(g.choice(["wide", "wide", "ieee", "ort-cpu", "tensor-core-a100"]))
    dtype = None if profile == "ort-cpu" else g.choice([None, None, "fp16", "bf16", "fp8e4m3", "fp64"])
    region = bool(g.random() < 0.3) and x.dtype == np.float32
    claim = Claim(None if dtype is None else str(dtype), None, profile, "any", str(g.choice(["auto", "running"])), region)
    return model, {"x": np.stack([x, np.roll(x, 1)])}, claim
