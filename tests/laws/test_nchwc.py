"""com.microsoft.nchwc: moves against a memory laid out by hand, graphs that onnxruntime itself wrote, single nodes against its kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import certify
from certify.errors import InvalidModel, Unsupported
from certify.graph.domains.nchwc import block_size
from certify.graph.load import load
from certify.semantics.contract import lookup
from tests.laws.kit import LawBroken, check_rule
from tests.laws.test_lies import Liar

rng = np.random.default_rng(5)
BLOCK = block_size()
DOMAIN = "com.microsoft.nchwc"


def by_hand(x: Any, block: int) -> Any:
    """The blocked order of (N, C, H, W), element by element."""
    _, c, h, w = x.shape
    memory = np.empty(x.size, dtype=x.dtype)
    for i, j, k, m in np.ndindex(x.shape):
        memory[((((i * (c // block) + j // block) * h + k) * w + m) * block) + j % block] = x[i, j, k, m]
    return memory.reshape(x.shape)


def undone(x: Any, block: int) -> Any:
    places = by_hand(np.arange(x.size).reshape(x.shape), block)
    plain = np.empty(x.size, dtype=x.dtype)
    plain[places.reshape(-1)] = x.reshape(-1)
    return plain.reshape(x.shape)


def padded(x: Any, block: int) -> Any:
    out = np.zeros((x.shape[0], -(-x.shape[1] // block) * block, *x.shape[2:]), dtype=x.dtype)
    out[:, : x.shape[1]] = x
    return out


MOVES: dict[str, tuple[tuple[int, ...], dict[str, Any], Any]] = {
    "Unblocked": ((2, 4, 1, 3), {"block": 2}, undone),
    "Blocked": ((2, 4, 1, 3), {"block": 2}, by_hand),
    "Entering": ((2, 3, 2, 1), {"block": 2}, lambda x, block: by_hand(padded(x, block), block)),
    "Entering, channels last": (
        (2, 2, 1, 3),
        {"block": 2, "channels_last": 1},
        lambda x, block, channels_last: by_hand(padded(x.transpose(0, 3, 1, 2), block), block),
    ),
    "Leaving": ((2, 4, 2, 1), {"block": 2, "channels": 3}, lambda x, block, channels: undone(x, block)[:, :channels]),
    "Leaving, channels last": (
        (2, 4, 2, 1),
        {"block": 2, "channels": 3, "channels_last": 1},
        lambda x, block, channels, channels_last: undone(x, block)[:, :channels].transpose(0, 2, 3, 1),
    ),
    "Enlarged": (
        (1, 2, 2, 2),
        {"block": 2, "scales": (1, 1, 2, 3)},
        lambda x, block, scales: by_hand(np.kron(undone(x, block), np.ones((1, 1, 2, 3), dtype=object)), block),
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    shape, attributes, oracle = MOVES[name]
    lo = rng.normal(size=shape)
    rule = lookup("certify", name.split(",")[0], 1)
    check_rule(rule, [((lo, lo + 0.25),)], [(lo,)], oracle=oracle, attributes=attributes, radii=(0.0, 0.125), kernel=oracle_kernel(oracle))


def oracle_kernel(oracle: Any) -> Any:
    return lambda machine, x, **attributes: oracle(x, **attributes)


def test_a_move_to_the_wrong_place_is_noticed() -> None:
    shape, attributes, oracle = MOVES["Blocked"]
    lie = Liar(lookup("certify", "Blocked", 1), "value", lambda honest, *x: honest[..., ::-1])
    with pytest.raises(LawBroken):
        check_rule(lie, [], [(rng.normal(size=shape),)], oracle=oracle, attributes=attributes, radii=(0.0, 0.125))


@pytest.mark.parametrize("both", [0, 1])
def test_weights(both: int) -> None:
    """Read back what was laid out by the loops of MlasReorderFilterOIHWBiBo and OIHWBo."""
    plain = rng.normal(size=(4, 6, 2, 1))
    o, i, h, w = plain.shape
    memory: list[float] = []
    for b in range(0, o, 2):
        if both:
            memory += [
                plain[b + t, a + s, k, m] for a in range(0, i, 2) for k in range(h) for m in range(w) for s in range(2) for t in range(2)
            ]
        else:
            memory += [plain[b + t, a, k, m] for a in range(i) for k in range(h) for m in range(w) for t in range(2)]
    stored = np.array(memory).reshape(plain.shape)
    rule = lookup("certify", "Weights", 1)
    assert np.array_equal(rule.value(stored[None], block=2, both=both)[0], plain)


def net(*nodes: onnx.NodeProto, channels: int, constants: dict[str, Any], size: int = 7, ends: str = "y") -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", 1, [1, channels, size, size])
    stored = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()]
    graph = helper.make_graph(list(nodes), "g", [x], [helper.make_empty_tensor_value_info(ends)], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def drawn(*shape: int) -> Any:
    return rng.integers(-8, 9, shape) / 8


def node(name: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(name, inputs, [output], **attributes)


def conv(x: str, w: str, y: str, *more: str, pads: int = 1, **attributes: Any) -> onnx.NodeProto:
    return node("Conv", [x, w, *more], y, pads=[pads] * 4, **attributes)


B = BLOCK
NETS = {
    "first layer, few channels, then whole blocks": net(
        conv("x", "w", "a", "b", strides=[2, 2]), node("Relu", ["a"], "r"), conv("r", "v", "y"),
        channels=3, constants={"w": drawn(B, 3, 3, 3), "b": drawn(B), "v": drawn(2 * B, B, 3, 3)},
    ),
    "channels that fill no block": net(
        conv("x", "w", "a"), conv("a", "v", "y", pads=0),
        channels=B + 4, constants={"w": drawn(B + 4, B + 4, 3, 3), "v": drawn(5, B + 4, 1, 1)},
    ),
    "depthwise": net(
        conv("x", "w", "a", "b", group=2 * B, dilations=[2, 2], pads=2), conv("a", "v", "y", pads=0),
        channels=2 * B, constants={"w": drawn(2 * B, 1, 3, 3), "b": drawn(2 * B), "v": drawn(B, 2 * B, 1, 1)},
    ),
    "groups": net(conv("x", "w", "y", group=2), channels=2 * B, constants={"w": drawn(2 * B, B, 3, 3)}),
    "a sum fused": net(
        conv("x", "w", "a"), conv("a", "v", "c"), node("Add", ["a", "c"], "s"), node("Relu", ["s"], "y"),
        channels=B, constants={"w": drawn(B, B, 3, 3), "v": drawn(B, B, 3, 3)},
    ),
    "pools and joins": net(
        conv("x", "w", "a"), node("MaxPool", ["a"], "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("AveragePool", ["a"], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("AveragePool", ["a"], "q", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        node("Concat", ["m", "p", "q"], "c", axis=1), conv("c", "v", "y", pads=0),
        channels=4, constants={"w": drawn(B, 4, 3, 3), "v": drawn(4, 3 * B, 1, 1)},
    ),
    "whole planes": net(
        conv("x", "w", "a"), node("GlobalAveragePool", ["a"], "g"), node("GlobalMaxPool", ["a"], "m"), node("Add", ["g", "m"], "s"),
        conv("s", "v", "y", pads=0), channels=4, constants={"w": drawn(B, 4, 3, 3), "v": drawn(4, B, 1, 1)},
    ),
    "a scale by channel": net(
        conv("x", "w", "a"), node("GlobalAveragePool", ["a"], "g"), node("Sigmoid", ["g"], "s"), node("Mul", ["a", "s"], "c"),
        conv("c", "v", "y"), channels=4, constants={"w": drawn(2 * B, 4, 3, 3), "v": drawn(4, 2 * B, 3, 3)},
    ),
    "channels last": net(
        conv("x", "w", "a"), node("Transpose", ["a"], "y", perm=[0, 2, 3, 1]), channels=4, constants={"w": drawn(B, 4, 3, 3)},
    ),
    "enlarged": net(
        conv("x", "w", "a"),
        node("Resize", ["a", "", "s"], "e", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        conv("e", "v", "y"), channels=4, constants={"w": drawn(B, 4, 3, 3), "v": drawn(4, B, 3, 3), "s": [1, 1, 2, 3]},
    ),
}  # fmt: skip


def opened(model: onnx.ModelProto, level: str, path: Path | None = None) -> Any:
    """A session of the model, which writes the graph that it really runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    if path is not None:
        options.optimized_model_filepath = str(path)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def written(model: onnx.ModelProto, folder: Path) -> Path:
    """The graph that onnxruntime makes of it at its highest level."""
    opened(model, "ORT_ENABLE_ALL", folder / "optimized.onnx")
    return folder / "optimized.onnx"


@pytest.mark.parametrize("name", NETS)
def test_graphs_that_onnxruntime_writes(name: str, tmp_path: Path) -> None:
    """The values are those of the source, and what onnxruntime computes lies within the bound."""
    model = NETS[name]
    path = written(model, tmp_path)
    assert any(n.domain == DOMAIN for n in onnx.load(path).graph.node)
    feed = {"x": drawn(3, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)).astype(np.float32)}
    certificate = certify.certify(path, profile="ort-cpu", data=feed)
    assert certificate.validation is not None
    assert certificate.validation.violations == ()
    source = opened(model, "ORT_DISABLE_ALL")
    plain = np.stack([source.run(None, {"x": x})[0] for x in feed["x"]])
    assert np.allclose(certificate.outputs["y"].reference, plain, rtol=1e-4, atol=1e-4)
    assert float(certificate.outputs["y"].absolute_bound.max()) < 0.1


def test_a_narrow_format_is_kept_by_weights_too(tmp_path: Path) -> None:
    path = written(NETS["a sum fused"], tmp_path)
    certificate = certify.certify(path, dtype="bf16", samples=2)
    assert certificate.validation is not None
    assert certificate.validation.violations == ()


def alone(name: str, shape: tuple[int, ...], constants: dict[str, Any] | None = None, **attributes: Any) -> onnx.ModelProto:
    model = net(
        helper.make_node(name, ["x", *(constants or {})], ["y"], domain=DOMAIN, **attributes), channels=1, constants=constants or {}
    )
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    for dim, n in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = n
    return model


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [0, 1, 1, 1], "ceil_mode": 1}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 1]}),
        ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("Upsample", {"scales": [1, 1, 3, 2]}),
        ("Upsample", {"scales": [1, 1, 3, 2], "mode": "linear"}),
        ("Upsample", {"scales": [1, 1, 7, 1], "mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
        ("Upsample", {"scales": [1, 1, 2, 3], "mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ],
    ids=str,
)
def test_single_nodes(name: str, attributes: dict[str, Any]) -> None:
    feed = {"x": drawn(1, 2 * B, 5, 5).astype(np.float32)}
    certificate = certify.certify(alone(name, (1, 2 * B, 5, 5), **attributes), profile="ort-cpu", data=feed)
    assert certificate.validation is not None
    assert certificate.validation.violations == ()
    assert "CPUExecutionProvider" in certificate.validation.runtime


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (alone("Upsample", (1, B, 2, 2), scales=[1, 1, 2, 2], mode="cubic"), Unsupported, "cubic"),
        (alone("AveragePool", (1, B, 4, 4), kernel_shape=[2, 2], ceil_mode=1, count_include_pad=1), Unsupported, "ceil_mode"),
        (alone("MaxPool", (1, B + 4, 4, 4), kernel_shape=[2, 2]), Unsupported, "whole blocks"),
        (alone("Conv", (1, B + 4, 4, 4), {"w": drawn(B, B + 4, 1, 1)}), Unsupported, "blocks of"),
        (alone("Conv", (1, 4, 4, 4), {"w": drawn(B, 2, 1, 1)}, group=2), Unsupported, "groups"),
        (alone("ReorderInput", (1, 3, 4, 4)), InvalidModel, "fours"),
        (alone("ReorderOutput", (1, 2 * B, 4, 4), channels=3), InvalidModel, "hold 3"),
    ],
    ids=["cubic", "ceil", "channels", "blocks", "groups", "fours", "hold"],
)
def test_refusals(model: onnx.ModelProto, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        certify.certify(model)


def test_a_blocked_tensor_is_its_memory(tmp_path: Path) -> None:
    """Any other operator sees the elements in the order of memory: the sum along W of a blocked tensor is no sum along W."""
    model = alone("ReorderInput", (1, B, 2, 2))
    model.graph.node[0].output[0] = "r"
    model.graph.node.append(helper.make_node("ReduceSum", ["r"], ["y"], keepdims=0))
    model.graph.node[-1].input.append("axes")
    model.graph.initializer.append(numpy_helper.from_array(np.array([3]), "axes"))
    certificate = certify.certify(model, profile="ort-cpu", data={"x": drawn(1, B, 2, 2).astype(np.float32)})
    assert certificate.validation is not None
    assert certificate.validation.violations == ()
    assert load(model).values["y"].shape == (1, B, 2)
