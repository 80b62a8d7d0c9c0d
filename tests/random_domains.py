"""Rows of random_rows for domains other than ONNX's own: com.microsoft, ai.onnx.ml, ai.onnx.preview.training."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.random_graphs import FLOAT, INT64, Shape, Sketch
from tests.random_moves import operand

MS, ML, TRAINING = "com.microsoft", "ai.onnx.ml", "ai.onnx.preview.training"
MICROSOFT = (
    *("Gelu", "QuickGelu", "BiasGelu", "FastGelu", "FusedMatMul", "TransposeMatMul", "FusedGemm", "FusedConv", "SkipLayerNormalization"),
    *("SkipSimplifiedLayerNormalization", "MultiHeadAttention", "Attention", "RotaryEmbedding", "DynamicQuantizeMatMul", "MatMulNBits"),
    *("MatMulIntegerToFloat", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "QGemm", "QLinearWhere"),
    *("QLinearGlobalAveragePool", "QLinearAveragePool", "GroupQueryAttention", "QuantizeLinear", "DequantizeLinear"),
    *("QLinearConv", "DynamicQuantizeLSTM", "EmbedLayerNormalization"),
)
LEARNT = (
    *("Scaler", "Normalizer", "Binarizer", "Imputer", "LabelEncoder", "OneHotEncoder", "ArrayFeatureExtractor", "FeatureVectorizer"),
    *("LinearRegressor", "LinearClassifier", "SVMRegressor", "SVMClassifier", "TreeEnsembleRegressor", "TreeEnsembleClassifier"),
)
TRANSFORMS = ("NONE", "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")


def floats(s: Sketch, rank: int | None = None, least: int = 0) -> str:
    x = operand(s, rank=rank, least=least)
    if s.element(x) != FLOAT:
        raise ValueError("of floats of 32 bits only")
    return x


def scalar(s: Sketch, *values: float, kind: Any = np.float32) -> str:
    return s.constant(np.array(s.one_of(*values), kind))


def microsoft(s: Sketch, op: str) -> None:
    if op == "DynamicQuantizeLSTM":
        _recurrent(s, op)
    elif op == "EmbedLayerNormalization":
        _embedded(s, op)
    elif op in ("DequantizeLinear", "MatMulIntegerToFloat") or (op.startswith("Q") and op != "QuickGelu"):
        _quantized(s, op)
    elif "MatMul" in op or op in ("FusedGemm", "FusedConv"):
        _product(s, op)
    elif "Attention" in op or op == "RotaryEmbedding":
        _attention(s, op)
    else:
        _pointwise(s, op)


def _pointwise(s: Sketch, op: str) -> None:
    skip = op.startswith("Skip")
    x = floats(s, rank=3) if skip else floats(s, least=1)
    shape = s.shape(x)
    last = [s.weights(shape[-1:], FLOAT) for _ in range(2)]
    inputs, more = [x], {}
    match op:
        case "QuickGelu":
            more = {"alpha": float(s.one_of(1.702, 1.0, 0.0))}
        case "BiasGelu" | "FastGelu":
            inputs = [x, last[0]]
        case "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization":
            inputs, more = [x, s.weights(shape, FLOAT), *last[: 2 if op == "SkipLayerNormalization" else 1]], {"epsilon": 1e-5}
    s.add(op, inputs, domain=MS, gives=[(FLOAT, shape)], **more)


def _product(s: Sketch, op: str) -> None:
    if op == "FusedConv":
        x = floats(s, rank=4)
        n, c, h, w = s.shape(x)
        inputs = [x, s.weights((2, c, 1, 2), FLOAT), s.weights((2,), FLOAT)]
        kind, more = s.one_of(("Relu", {}), ("LeakyRelu", {"activation_params": [0.1]}), ("Sigmoid", {}), ("Tanh", {}))
        if w < 2:
            raise ValueError("too small an image")
        s.add(op, inputs, domain=MS, gives=[(FLOAT, (n, 2, h, w - 1))], activation=kind, kernel_shape=[1, 2], **more)
        return
    x = floats(s, rank=2)
    m, n = s.shape(x)
    inputs, more = [x], {}
    match op:
        case "FusedGemm":
            inputs = [x, s.weights((n, 3), FLOAT), s.weights((3,), FLOAT)]
            more = {"alpha": float(s.one_of(1.0, 0.3)), "beta": 0.5, "activation": s.one_of("Relu", "Sigmoid", "Tanh")}
        case "DynamicQuantizeMatMul":
            inputs = [
                x,
                s.constant(s.generator.integers(-128, 128, (n, 3)).astype(np.int8)),
                scalar(s, 0.02),
                scalar(s, 0, 2, kind=np.int8),
            ]
        case "MatMulNBits":
            blocks = -(-n // 16)
            scales = s.generator.choice(np.float32([0.1, 0.02, 1.5]), 3 * blocks)
            inputs = [x, s.constant(s.generator.integers(0, 256, (3, blocks, 8)).astype(np.uint8)), s.constant(scales)]
            more = {"K": n, "N": 3, "bits": 4, "block_size": 16}
        case _:
            more = {"alpha": float(s.one_of(1.0, 0.125, 0.3)), "transB": s.one_of(0, 1)}
            inputs = [x, s.weights((3, n) if more["transB"] else (n, 3), FLOAT)]
    s.add(op, inputs, domain=MS, gives=[(FLOAT, (m, 3))], **more)


def _attention(s: Sketch, op: str) -> None:
    x = floats(s, rank=3)
    b, n, d = s.shape(x)
    match op:
        case "RotaryEmbedding":
            y = s.add("Concat", [x] * 4, axis=2)
            angles = [s.weights((8, 2 * d), FLOAT, "normal") for _ in range(2)]
            s.add(op, [y, s.ints(0), *angles], domain=MS, gives=[(FLOAT, (b, n, 4 * d))], interleaved=s.one_of(0, 1))
        case "Attention":
            w, bias = s.weights((d, 12), FLOAT), s.weights((12,), FLOAT)
            s.add(op, [x, w, bias], domain=MS, gives=[(FLOAT, (b, n, 4))], num_heads=2, unidirectional=s.one_of(0, 1))
        case "GroupQueryAttention":
            q, k, v = (s.add("MatMul", [x, s.weights((d, size), FLOAT)]) for size in (32, 16, 16))
            lengths = [s.constant(np.full(b, n - 1, np.int32)), s.constant(np.array([n], np.int32))]
            gives: list[tuple[int, Shape | None]] = [(FLOAT, (b, n, 32)), (FLOAT, (b, 1, n, 16)), (FLOAT, (b, 1, n, 16))]
            s.add(op, [q, k, v, "", "", *lengths], domain=MS, gives=gives, num_heads=2, kv_num_heads=1)
        case _:
            k, v = (s.one_of(x, s.weights((b, n, d), FLOAT)) for _ in range(2))
            s.add(op, [x, k, v], domain=MS, gives=[(FLOAT, (b, n, d))], num_heads=1)


def _quantized(s: Sketch, op: str) -> None:
    """Quantized before, dequantized after."""
    x = floats(s, rank=4 if "Pool" in op or "Conv" in op else 2)
    shape, kind = s.shape(x), int(TensorProto.UINT8)
    scale, zero = scalar(s, 0.1, 0.03, 0.5), scalar(s, 0, 128, 255, kind=np.uint8)
    ends = [scalar(s, 0.1, 0.02), scalar(s, 0, 128, kind=np.uint8)]
    if op in ("QuantizeLinear", "DequantizeLinear"):
        q = s.add("QuantizeLinear", [x, scale, zero], domain=MS, gives=[(kind, shape)])
        s.add("DequantizeLinear", [q, scale, zero], domain=MS, gives=[(FLOAT, shape)])
        return
    q = s.add("QuantizeLinear", [x, scale, zero])
    made, attributes, result = [q, scale, zero], {}, shape
    other = s.constant(s.generator.integers(0, 256, shape).astype(np.uint8))
    w = s.constant(s.generator.integers(-128, 128, (shape[1], 3)).astype(np.int8))
    match op:
        case "MatMulIntegerToFloat":
            inputs = [q, w, scale, scalar(s, 0.02), zero, scalar(s, 1, kind=np.int8)]
            s.add(op, inputs, domain=MS, gives=[(FLOAT, (shape[0], 3))])
            return
        case "QLinearConv":
            kernel = s.constant(s.generator.integers(-128, 128, (2, shape[1], 1, 1)).astype(np.int8))
            made, result = [*made, kernel, scalar(s, 0.02), scalar(s, 0, 3, kind=np.int8)], (shape[0], 2, *shape[2:])
        case "QLinearAdd" | "QLinearMul":
            made += [s.one_of(q, other), scalar(s, 0.1, 0.02), scalar(s, 0, 128, kind=np.uint8)]
        case "QLinearLeakyRelu":
            attributes = {"alpha": 0.1}
        case "QLinearAveragePool":
            attributes, result = {"kernel_shape": [2, 2]}, (*shape[:2], shape[2] - 1, shape[3] - 1)
        case "QLinearGlobalAveragePool":
            attributes, result = {"channels_last": 0}, (*shape[:2], 1, 1)
        case "QLinearConcat":
            attributes, result = {"axis": 1}, (shape[0], 2 * shape[1])
        case "QLinearWhere":
            made = [s.constant(s.generator.random(shape) < 0.5), *made, other, scalar(s, 0.1), scalar(s, 128, kind=np.uint8)]
        case "QGemm":
            made, result = [*made, w, scalar(s, 0.02), scalar(s, 0, kind=np.int8), ""], (shape[0], 3)
            attributes = {"alpha": 1.0}
    inputs = [*ends, *made, *made] if op == "QLinearConcat" else [*made, *ends]
    y = s.add(op, inputs, domain=MS, gives=[(kind, result)], **attributes)
    if min(result) < 1:
        raise ValueError("empty")
    s.add("DequantizeLinear", [y, *ends])


def _recurrent(s: Sketch, op: str) -> None:
    x = floats(s, rank=3)
    steps, batch, size = s.shape(x)
    direction = s.one_of("forward", "reverse", "bidirectional")
    ways, hidden = 2 if direction == "bidirectional" else 1, 2
    w, r = (s.constant(s.generator.integers(-64, 64, (ways, n, 4 * hidden)).astype(np.int8)) for n in (size, hidden))
    ends = [s.constant(np.full(ways, v, kind)) for v, kind in ((0.02, np.float32), (0, np.int8), (0.01, np.float32), (3, np.int8))]
    bias = s.weights((ways, 8 * hidden), FLOAT, "normal") if s.chance(0.5) else ""
    gives: list[tuple[int, Shape | None]] = [(FLOAT, (steps, ways, batch, hidden)), (FLOAT, (ways, batch, hidden))]
    s.add(op, [x, w, r, bias, "", "", "", "", *ends], domain=MS, gives=gives, hidden_size=hidden, direction=direction)


def _embedded(s: Sketch, op: str) -> None:
    """Rows of tables, chosen by constants; a tensor of the graph shifts the result."""
    x = floats(s, rank=3)
    b, n, d = s.shape(x)
    ids = [s.constant(s.generator.integers(0, top, (b, n)).astype(np.int32)) for top in (5, 2)]
    tables = [s.weights((size, d), FLOAT) for size in (5, n + 1, 2)]
    gives: list[tuple[int, Shape | None]] = [(FLOAT, (b, n, d)), (int(TensorProto.INT32), (b,))]
    y = s.add(op, [*ids, *tables, *(s.weights((d,), FLOAT) for _ in range(2))], domain=MS, gives=gives)
    s.add("Add", [x, y])


def learnt(s: Sketch, op: str) -> None:
    x = floats(s, rank=2)
    n, f = s.shape(x)

    def add(*shape: int, inputs: tuple[str, ...] = (x,), **attributes: Any) -> None:
        s.add(op, list(inputs), domain=ML, gives=[(FLOAT, shape)], **attributes)

    def some(count: int) -> list[float]:
        return [float(np.float32(v)) for v in s.generator.choice([s.generator.normal(), 0.5, -1.0, 0.0, 3.0, 0.1], size=count)]

    match op:
        case "Scaler":
            add(n, f, offset=some(f), scale=some(f))
        case "Normalizer":
            add(n, f, norm=s.one_of("MAX", "L1", "L2"))
        case "Binarizer":
            add(n, f, threshold=some(1)[0])
        case "Imputer":
            add(n, f, imputed_value_floats=some(f), replaced_value_float=some(1)[0])
        case "LabelEncoder":
            add(n, f, keys_floats=[0.5, 1.0, -1.0], values_floats=some(3), default_float=0.25)
        case "OneHotEncoder":
            add(n, f, 3, inputs=(s.add("Cast", [x], to=INT64),), cats_int64s=[0, 1, 3], zeros=1)
        case "ArrayFeatureExtractor":
            add(n, 2, inputs=(x, s.constant(np.array([f - 1, 0]))))
        case "FeatureVectorizer":
            add(n, f + 2, inputs=(x, s.weights((n, 2), FLOAT)), inputdimensions=[f, 2])
        case "LinearRegressor":
            add(n, 2, coefficients=some(2 * f), intercepts=some(2), targets=2, post_transform=s.one_of(*TRANSFORMS))
        case "LinearClassifier":
            given = {"classlabels_ints": [4, 2, 9], "post_transform": s.one_of(*TRANSFORMS)}
            gives: list[tuple[int, Shape | None]] = [(INT64, (n,)), (FLOAT, (n, 3))]
            s.add(op, [x], domain=ML, gives=gives, coefficients=some(3 * f), intercepts=some(3), **given)
        case "SVMRegressor" | "SVMClassifier":
            kernel = {"kernel_type": s.one_of("LINEAR", "POLY", "RBF", "SIGMOID"), "kernel_params": [0.5, 0.25, float(s.one_of(2, 3))]}
            vectors = {"support_vectors": some(4 * f), "coefficients": some(4), "rho": [0.5]}
            if op == "SVMRegressor":
                add(n, 1, n_supports=4, **kernel, **vectors)
            else:
                gives = [(INT64, (n,)), (FLOAT, (n, 2))]
                s.add(op, [x], domain=ML, gives=gives, vectors_per_class=[3, 1], classlabels_ints=[7, 3], **kernel, **vectors)
        case _:
            _forest(s, op, x)


def _forest(s: Sketch, op: str, x: str) -> None:
    """Three trees of two levels, thresholds where values like to be."""
    n, f = s.shape(x)
    mode = s.one_of("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT")
    rows = [(t, k) for t in range(3) for k in range(5)]
    nodes = {
        "nodes_treeids": [t for t, _ in rows],
        "nodes_nodeids": [k for _, k in rows],
        "nodes_modes": [mode if k < 2 else "LEAF" for _, k in rows],
        "nodes_truenodeids": [(1, 3, 0, 0, 0)[k] for _, k in rows],
        "nodes_falsenodeids": [(2, 4, 0, 0, 0)[k] for _, k in rows],
        "nodes_featureids": [int(s.generator.integers(f)) for _ in rows],
        "nodes_values": [float(s.generator.choice([0.0, 0.5, 1.0, -1.0, 0.1, 3.0])) for _ in rows],
    }
    ends = [(t, k) for t in range(3) for k in (2, 3, 4)]
    word = "target" if op.endswith("Regressor") else "class"
    leaves: dict[str, Any] = {f"{word}_treeids": [t for t, _ in ends], f"{word}_nodeids": [k for _, k in ends]}
    leaves[f"{word}_weights"] = [float(np.float32(v)) for v in s.generator.normal(size=len(ends))]
    if op.endswith("Regressor"):
        given = {"n_targets": 1, "target_ids": [0] * 9, "aggregate_function": s.one_of("SUM", "AVERAGE", "MIN", "MAX")}
        s.add(op, [x], domain=ML, gives=[(FLOAT, (n, 1))], **given, **nodes, **leaves)
    else:
        labels = {"classlabels_int64s": [11, 5, 8], "class_ids": [k % 3 for k in range(9)]}
        given = {"post_transform": s.one_of("NONE", "SOFTMAX", "LOGISTIC")}
        s.add(op, [x], domain=ML, gives=[(INT64, (n,)), (FLOAT, (n, 3))], **given, **labels, **nodes, **leaves)


def optimizer(s: Sketch, op: str) -> None:
    x = floats(s, least=1)
    shape, states = s.shape(x), 3 if op == "Adam" else 2
    inputs = [scalar(s, 0.1, 0.003), scalar(s, 0, 3, kind=np.int64), x, *(s.weights(shape, FLOAT, "positive") for _ in range(states))]
    more: dict[str, Any] = {"norm_coefficient": 0.01, "epsilon": 1e-3}
    if op == "Momentum":
        more = {"norm_coefficient": 0.01, "alpha": 0.9, "beta": 0.1, "mode": s.one_of("standard", "nesterov")}
    s.add(op, inputs, domain=TRAINING, gives=[(FLOAT, shape)] * states, **more)
