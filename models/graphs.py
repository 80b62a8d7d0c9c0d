"""The ONNX graphs of the bundled models, written operator by operator, so that they hold exactly the operators listed in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9

Weights = Mapping[str, NDArray[np.float32]]


class Graph:
    """An ONNX graph under construction. Node names are paths such as "block1/attention/scores"; a value has its node's name."""

    def __init__(self, name: str, weights: Weights) -> None:
        self._name = name
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name: str, transpose: bool = False) -> str:
        """The trained tensor of that name, float32."""
        array = np.asarray(self._weights[name], np.float32)
        return self.constant(name, array.T if transpose else array)

    def width(self, layer: str) -> int:
        """Number of outputs of a dense layer."""
        return int(self._weights[f"{layer}.weight"].shape[0])

    def gemm(self, name: str, x: str, layer: str) -> str:
        """x W' + b as one Gemm, weights stored (out, in) as trained."""
        return self.node("Gemm", name, x, self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias"), transB=1)

    def dense(self, name: str, x: str, layer: str) -> str:
        """x W + b as MatMul and Add, for more than two dimensions; weights stored (in, out)."""
        product = self.node("MatMul", f"{name}/matmul", x, self.weight(f"{layer}.weight", transpose=True))
        return self.node("Add", f"{name}/bias", product, self.weight(f"{layer}.bias"))

    def model(self, input_shape: list[int], output: str, output_shape: list[int], doc: str) -> onnx.ModelProto:
        """Closed graph: input "x" (batch, *input_shape), the last node's value renamed to `output` (batch, *output_shape)."""
        self._nodes[-1].output[0] = output
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *input_shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *output_shape])],
            initializer=list(self._constants.values()),
            doc_string=doc,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="certify models/build.py")
        onnx.checker.check_model(model, full_check=True)
        return model


def mlp(name: str, weights: Weights, depth: int) -> onnx.ModelProto:
    """`depth` hidden layers Gemm, Relu and a last Gemm: 64 pixels to 10 logits."""
    g = Graph(name, weights)
    h = "x"
    for k in range(depth):
        h = g.node("Relu", f"layer{k}/relu", g.gemm(f"layer{k}/gemm", h, f"{2 * k}"))
    g.gemm("head", h, f"{2 * depth}")
    return g.model([64], "logits", [10], f"ReLU network with {depth} hidden layers on 8x8 digits, pixels in [0, 1]")


def cnn(name: str, weights: Weights) -> onnx.ModelProto:
    """Two convolutions, maximum and average pooling, one Gemm: image (1, 8, 8) to 10 logits."""
    g = Graph(name, weights)
    h = "x"
    for stage, pool, layer in (("stage0", "MaxPool", "0"), ("stage1", "AveragePool", "3")):
        parameters = g.weight(f"{layer}.weight"), g.weight(f"{layer}.bias")
        h = g.node("Conv", f"{stage}/conv", h, *parameters, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        h = g.node("Relu", f"{stage}/relu", h)
        h = g.node(pool, f"{stage}/pool", h, kernel_shape=[2, 2], strides=[2, 2])
    g.gemm("head", g.node("Flatten", "flatten", h, axis=1), "7")
    return g.model([1, 8, 8], "logits", [10], "Convolutional network on 8x8 digits, pixels in [0, 1]")


def transformer(name: str, weights: Weights, layers: int, heads: int) -> onnx.ModelProto:
    """Pre-norm transformer encoder over the 8 rows of a digit, mean pooling, 10 logits."""
    g = Graph(name, weights)
    h = g.node("Add", "embed/position", g.dense("embed", "x", "embed"), g.weight("position"))
    for k in range(layers):
        normed = _layer_norm(g, f"block{k}/norm_attention", h, f"blocks.{k}.norm_attention")
        h = g.node("Add", f"block{k}/attention/residual", h, _attention(g, f"block{k}/attention", normed, f"blocks.{k}", heads))
        normed = _layer_norm(g, f"block{k}/norm_mlp", h, f"blocks.{k}.norm_mlp")
        wide = g.node("Gelu", f"block{k}/mlp/gelu", g.dense(f"block{k}/mlp/up", normed, f"blocks.{k}.up"), approximate="none")
        h = g.node("Add", f"block{k}/mlp/residual", h, g.dense(f"block{k}/mlp/down", wide, f"blocks.{k}.down"))
    h = _layer_norm(g, "norm", h, "norm")
    pooled = g.node("ReduceMean", "pool", h, g.constant("pool/axes", np.array([1], np.int64)), keepdims=0)
    g.gemm("head", pooled, "head")
    return g.model([8, 8], "logits", [10], "Transformer encoder on 8x8 digits, one token a row, pixels in [0, 1]")


def residual(name: str, weights: Weights, blocks: int) -> onnx.ModelProto:
    """h + V tanh(W h + b) + c, repeated, then two logits and Softmax: (t, 0, 0) to p = (p0, p1)."""
    g = Graph(name, weights)
    h = g.gemm("stem", "x", "stem")
    for k in range(blocks):
        inner = g.node("Tanh", f"block{k}/tanh", g.gemm(f"block{k}/inner", h, f"blocks.{k}.0"))
        h = g.node("Add", f"block{k}/residual", h, g.gemm(f"block{k}/outer", inner, f"blocks.{k}.1"))
    g.node("Softmax", "softmax", g.gemm("head", h, "head"), axis=1)
    return g.model([3], "p", [2], "Residual network fitted to p0(t) = 1/2 + 1/2 sin(45 pi t) exp(-300 t^2) at (t, 0, 0), |t| <= 0.2")


def _layer_norm(g: Graph, name: str, x: str, layer: str) -> str:
    return g.node("LayerNormalization", name, x, g.weight(f"{layer}.weight"), g.weight(f"{layer}.bias"), axis=-1, epsilon=1e-5)


def _attention(g: Graph, name: str, x: str, block: str, heads: int) -> str:
    """Softmax(Q K' / sqrt(d)) V by heads, then the output projection."""
    width = g.width(f"{block}.query")
    split = g.constant("heads/split", np.array([0, 0, heads, width // heads], np.int64))
    merge = g.constant("heads/merge", np.array([0, 0, width], np.int64))
    scale = g.constant("heads/scale", np.array((width // heads) ** -0.5, np.float32))

    def by_head(part: str, order: list[int]) -> str:
        rows = g.node("Reshape", f"{name}/{part}/split", g.dense(f"{name}/{part}", x, f"{block}.{part}"), split)
        return g.node("Transpose", f"{name}/{part}/transpose", rows, perm=order)

    query, key, value = by_head("query", [0, 2, 1, 3]), by_head("key", [0, 2, 3, 1]), by_head("value", [0, 2, 1, 3])
    scores = g.node("Mul", f"{name}/scale", g.node("MatMul", f"{name}/scores", query, key), scale)
    weights = g.node("Softmax", f"{name}/softmax", scores, axis=-1)
    mixed = g.node("Transpose", f"{name}/mix/transpose", g.node("MatMul", f"{name}/mix", weights, value), perm=[0, 2, 1, 3])
    return g.dense(f"{name}/output", g.node("Reshape", f"{name}/merge", mixed, merge), f"{block}.output")
