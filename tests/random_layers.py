"""Rows of random_rows for layers: recurrent, spatial, normalizing, attention, spectra, whole-number contractions."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.random_graphs import FLOAT, INT64, NUMPY, Shape, Sketch
from tests.random_moves import operand


def image(s: Sketch, least: int = 1) -> str:
    """A tensor (N, C, H, W)."""
    x = operand(s, rank=4)
    if min(s.shape(x)[2:]) < least:
        raise ValueError("too small an image")
    return x


def recurrent(s: Sketch, op: str) -> None:
    x = operand(s, rank=3)
    steps, batch, size = s.shape(x)
    kind, hidden, gates = s.element(x), 2, {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    direction = s.one_of("forward", "reverse", "bidirectional")
    ways = 2 if direction == "bidirectional" else 1
    inputs = [x, s.weights((ways, gates * hidden, size), kind), s.weights((ways, gates * hidden, hidden), kind)]
    more: dict[str, Any] = {"clip": float(s.one_of(0.5, 3.0))} if s.chance(0.3) else {}
    if op == "GRU":
        more["linear_before_reset"] = s.one_of(0, 1)
    if s.chance(0.5):
        inputs.append(s.weights((ways, 2 * gates * hidden), kind))
        if s.chance(0.5):
            inputs.append(s.constant(s.generator.integers(1, steps + 1, size=batch).astype(np.int32)) if s.chance(0.5) else "")
            inputs.append(s.weights((ways, batch, hidden), kind))
    if s.chance(0.4) and op == "RNN":
        more["activations"] = [s.one_of("Relu", "Tanh", "Sigmoid", "Softsign", "Affine", "HardSigmoid", "Elu") for _ in range(ways)]
    s.add(op, inputs, outputs=s.one_of(1, 2), direction=direction, hidden_size=hidden, **more)


def resized(s: Sketch, op: str) -> None:
    x = image(s)
    if op == "Upsample":
        if s.opset > 9:
            raise ValueError("withdrawn")
        s.add(op, [x, s.constant(np.float32([1, 1, 2, s.one_of(1, 2, 3)]))], mode=s.one_of("nearest", "linear"))
        return
    places = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", *(["half_pixel_symmetric"] if s.opset >= 19 else [])]
    given: dict[str, Any] = {"mode": s.one_of("nearest", "linear", "cubic"), "coordinate_transformation_mode": s.one_of(*places)}
    if s.opset >= 18 and s.chance(0.3) and given["mode"] != "nearest":
        given["antialias"] = 1
    roi = "" if s.opset >= 13 else s.constant(np.zeros(0, np.float32))
    scales = [1.0, 1.0, s.one_of(0.5, 1.5, 2.0, 0.7), s.one_of(1.0, 0.5, 3.0)]
    s.add(op, [x, roi, s.constant(np.float32(scales))], **given)


def sampled(s: Sketch, op: str) -> None:
    x = image(s, 2 if op == "DeformConv" else 1)
    n, c, h, w = s.shape(x)
    kind = s.element(x)
    match op:
        case "GridSample":
            linear = "linear" if s.opset >= 20 else "bilinear"
            grid = operand(s, rank=4) if s.chance(0.2) else s.weights((n, 2, 3, 2), kind, s.one_of("kinks", "near", "normal"))
            mode, padding = s.one_of(linear, "nearest"), s.one_of("zeros", "border", "reflection")
            s.add(op, [x, grid], mode=mode, padding_mode=padding, align_corners=s.one_of(0, 1))
        case "AffineGrid":
            thetas = [name for name, (_, shape) in s.values.items() if shape == (n, 2, 3)]
            theta = s.one_of(*thetas) if thetas and s.chance(0.7) else s.weights((n, 2, 3), kind)
            grid = s.add(op, [theta, s.ints(n, c, 2, 3)], align_corners=s.one_of(0, 1))
            s.add("GridSample", [x, grid], align_corners=s.one_of(0, 1))
        case "RoiAlign":
            rois = s.constant(np.array([[0, 0, 2, 2], [0.5, 0.25, 3, 2.5]], NUMPY[kind]))
            batch = s.constant(np.zeros(2, np.int64))
            s.add(op, [x, rois, batch], output_height=2, output_width=2, mode=s.one_of("avg", "max"), sampling_ratio=s.one_of(0, 2))
        case "MaxRoiPool":
            rois = s.constant(np.array([[0, 0, 0, 2, 2], [0, 1, 0, 3, 2]], NUMPY[kind]))
            s.add(op, [x, rois], pooled_shape=[2, 2], spatial_scale=float(s.one_of(1.0, 0.5)))
        case _:
            offset = s.weights((n, 8, h - 1, w - 1), kind, s.one_of("kinks", "normal", "zeros"))
            s.add(op, [x, s.weights((2, c, 2, 2), kind), offset], kernel_shape=[2, 2])


def pooled(s: Sketch, op: str) -> None:
    x = image(s, 2)
    match op:
        case "LpPool":
            s.add(op, [x], kernel_shape=[2, 2], p=s.one_of(1, 2, 3), strides=[1, s.one_of(1, 2)])
        case "GlobalLpPool":
            s.add(op, [x], p=s.one_of(1, 2, 3))
        case "MaxPool":
            s.add(op, [x], outputs=2, kernel_shape=[2, 2], pads=[s.one_of(0, 1)] * 4, **({"ceil_mode": 1} if s.opset >= 10 else {}))
        case "MaxUnpool":
            y = s.add("MaxPool", [x], outputs=2, kernel_shape=[2, 2], strides=[2, 2])
            s.add(op, [y, f"{y}_1"], kernel_shape=[2, 2], strides=[2, 2])
        case "AveragePool":
            s.add(op, [x], kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=s.one_of(0, 1), ceil_mode=s.one_of(0, 1))
        case "LRN":
            given = {"alpha": float(s.one_of(1e-4, 1.0)), "beta": float(s.one_of(0.75, 0.5)), "bias": float(s.one_of(1.0, 2.0))}
            s.add(op, [x], size=s.one_of(1, 3), **given)
        case _:
            y = s.add("Reshape", [x, s.ints(s.shape(x)[0], -1, 2)])
            if s.shape(y)[1] % 2:
                raise ValueError("no blocks")
            s.add(op, [y, s.ints(2, 2), s.ints(2, 1)])


def normalized(s: Sketch, op: str) -> None:
    x = operand(s, least=1 if op == "RMSNormalization" else 3 if op == "GroupNormalization" else 2)
    shape, kind = s.shape(x), s.element(x)
    match op:
        case "GroupNormalization":
            groups = s.one_of(*(g for g in range(1, shape[1] + 1) if shape[1] % g == 0))
            s.add(op, [x, s.weights(shape[1:2], kind), s.weights(shape[1:2], kind)], gives=[(kind, shape)], num_groups=groups, epsilon=1e-3)
        case "BatchNormalization":
            c = shape[1:2]
            parameters = [s.weights(c, kind), s.weights(c, kind), s.weights(c, kind), s.weights(c, kind, "positive")]
            s.add(op, [x, *parameters], outputs=3, training_mode=1, epsilon=1e-3)
        case "RMSNormalization":
            s.add(op, [x, s.weights(shape[-1:], kind)], epsilon=float(s.one_of(1e-5, 1e-2)))
        case _:
            s.add(op, [x, s.weights(shape[-1:], kind)], gives=[(kind, shape)], epsilon=1e-5, axis=-1, stash_type=1)


def blocks(s: Sketch, op: str) -> None:
    match op:
        case "DepthToSpace" | "SpaceToDepth":
            x = image(s)
            if op == "SpaceToDepth" and any(n % 2 for n in s.shape(x)[2:]):
                raise ValueError("no blocks")
            s.add(op, [x], blocksize=2, **({"mode": s.one_of("DCR", "CRD")} if op == "DepthToSpace" else {}))
        case "Det":
            s.add(op, [s.one_of(*(name for name, (_, shape) in s.values.items() if len(shape) >= 2 and shape[-1] == shape[-2]))])
        case "SwiGLU":
            x = operand(s, least=1)
            s.add(op, [x, s.one_of(x, s.weights(s.shape(x), s.element(x)))])
        case "Einsum":
            x = operand(s, rank=2)
            m, n = s.shape(x)
            factors = [s.weights((n, 2), s.element(x)), s.weights((2, m), s.element(x))]
            s.add(op, [x, *factors], equation=s.one_of("ij,jk,kl->il", "ij,jk,ki->"))
        case "NonMaxSuppression":
            boxes = s.constant(np.float32([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 0.6, 1, 1.6], [2, 2, 3, 3]]]))
            limits = [s.ints(3), s.constant(np.float32([0.5])), s.constant(np.float32([s.one_of(0.0, -9.0)]))]
            if s.chance(0.7):
                best = s.constant(np.float32([[[0.5, 0.25, 0.75, 1.0]]]))
                kept = s.add(op, [boxes, best, *limits], gives=[(INT64, (3, 3))])
                s.add("Mul", [operand(s, element=FLOAT), s.add("Cast", [s.add("ReduceMax", [kept], keepdims=0)], to=FLOAT)])
                return
            x = operand(s, least=1)
            row = s.add("Slice", [s.add("Reshape", [x, s.ints(-1)]), s.ints(0), s.ints(4)])
            if s.shape(row) != (4,) or s.element(x) != FLOAT:
                raise ValueError("no four scores")
            scores = s.add("Reshape", [row, s.ints(1, 1, 4)])
            s.add(op, [boxes, scores, *limits], gives=[(INT64, None)])
        case "BitCast":
            x = operand(s)
            if s.element(x) != FLOAT:
                raise ValueError("other digits")
            s.add(op, [x], to=int(TensorProto.INT32))
        case _:
            x = s.constant(s.generator.integers(0, 4, size=(2, 8)))
            given = {"mode": s.one_of("TF", "IDF", "TFIDF"), "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1}
            grams = {"ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2, 3], "pool_int64s": [1, 2, 0, 1, 2, 3]}
            y = s.add(op, [x], weights=[0.5, 1.5, 0.3, 2.0], **given, **grams)
            s.add("Tanh", [y])


def attended(s: Sketch, op: str) -> None:
    x = operand(s, rank=4 if op in ("Attention", "RotaryEmbedding") else 3)
    kind, shape = s.element(x), s.shape(x)
    match op:
        case "Attention":
            length = s.one_of(shape[2], 3)
            k = s.one_of(x, s.weights(shape, kind)) if length == shape[2] else s.weights((*shape[:2], length, shape[3]), kind)
            v = s.one_of(k, s.weights((*shape[:2], length, shape[3]), kind))
            mask = [s.constant(s.generator.random((shape[2], length)) < 0.8)] if s.chance(0.4) else []
            s.add(op, [x, k, v, *mask], is_causal=s.one_of(0, 1), scale=float(s.one_of(0.5, 1.0)), softcap=float(s.one_of(0.0, 2.0)))
        case "RotaryEmbedding":
            if shape[3] % 2:
                raise ValueError("no halves")
            angles = [s.weights((shape[0], shape[2], shape[3] // 2), kind) for _ in range(2)]
            s.add(op, [x, *angles], interleaved=s.one_of(0, 1))
        case "LinearAttention":
            rule = s.one_of("linear", "gated")
            more = ["", s.weights(shape, kind, "normal")] if rule == "gated" else []
            inputs = [x, s.weights(shape, kind), s.weights(shape, kind), *more]
            s.add(op, inputs, outputs=2, q_num_heads=1, kv_num_heads=1, update_rule=rule)
        case _:
            inputs = [x, s.weights((shape[1], 1, 2), kind), s.weights(shape[1:2], kind)]
            s.add(op, inputs, outputs=2, activation=s.one_of("none", "silu"))


def spectral(s: Sketch, op: str) -> None:
    if op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        x = operand(s, least=1)
        if s.element(x) != FLOAT:
            raise ValueError("of floats of 32 bits only")
        w = s.add(op, [s.constant(np.array(s.shape(x)[-1]))], gives=[(FLOAT, s.shape(x)[-1:])], periodic=s.one_of(0, 1))
        s.add("Mul", [x, w])
    elif op == "MelWeightMatrix":
        given = [s.constant(np.array(v)) for v in (3, 8, 8000)] + [s.constant(np.asarray(v, np.float32)) for v in (0.0, 4000.0)]
        s.add("Mul", [s.add(op, given, gives=[(FLOAT, (5, 3))]), s.constant(np.asarray(0.1, np.float32))])
    elif op == "DFT":
        y = s.add("Unsqueeze", [operand(s, rank=3), s.ints(3)])
        s.add(op, [y, "", s.constant(np.array(s.one_of(1, 2)))], onesided=s.one_of(0, 1))
    else:
        x = operand(s, rank=2)
        length = s.one_of(2, 3)
        if s.shape(x)[1] < length:
            raise ValueError("too short a signal")
        y = s.add("Unsqueeze", [x, s.ints(2)])
        given = [y, s.constant(np.array(1)), s.weights((length,), s.element(x)), s.constant(np.array(length))]
        sides = s.one_of(None, 0, 1)
        bins = length if sides == 0 else length // 2 + 1
        gives: list[tuple[int, Shape | None]] = [(s.element(x), (*s.shape(x)[:1], s.shape(x)[1] - length + 1, bins, 2))]
        s.add(op, given, gives=gives, **({} if sides is None else {"onesided": sides}))


def integral(s: Sketch, op: str) -> None:
    """Quantization of an operand, then a contraction of whole numbers."""
    x = operand(s, rank=4 if "Conv" in op else 2)
    if s.element(x) != FLOAT:
        raise ValueError("of floats of 32 bits only")
    n = s.shape(x)[1]
    w = s.constant(s.generator.integers(-128, 128, size=(2, n, 1, 2) if "Conv" in op else (n, 3)).astype(np.int8))
    if op.startswith("QLinear"):
        scales = [s.constant(np.asarray(s.one_of(0.1, 0.03, 0.5), np.float32)) for _ in range(3)]
        zeros = [s.constant(np.array(v, kind)) for v, kind in ((128, np.uint8), (s.one_of(0, 3), np.int8), (s.one_of(0, 128), np.uint8))]
        q = s.add("QuantizeLinear", [x, scales[0], zeros[0]])
        y = s.add(op, [q, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2]])
        s.add("DequantizeLinear", [y, scales[2], zeros[2]])
    else:
        q = s.add("DynamicQuantizeLinear", [x], outputs=3)
        s.add("Mul", [s.add("Cast", [s.add(op, [q, w, f"{q}_2"])], to=FLOAT), f"{q}_1"])
