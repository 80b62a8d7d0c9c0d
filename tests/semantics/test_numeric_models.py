"""Norms, losses, thresholds and optimizer steps, end to end: finite bounds in fp32, and no conforming kernel outside of any."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

from tests.semantics.models import attacked, one_node

rng = np.random.default_rng(11)
X = rng.normal(size=(2, 5, 3, 4))
CLASSES = rng.integers(0, 5, (2, 3, 4))
IGNORED = np.where(rng.random((2, 3, 4)) < 0.3, -1, CLASSES)
WEIGHTS = rng.uniform(0.5, 1.5, 5).astype(np.float32)
TRAINING = "ai.onnx.preview.training"

MODELS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("ReduceLogSumExp", {"x": 3 * X}, {"keepdims": 0}, {"opset": 18, "constants": {"axes": np.array([1, -1])}}),
    ("ReduceLogSumExp", {"x": X}, {"axes": [2]}, {"opset": 13}),
    ("LpNormalization", {"x": np.where(X[:1] > 0, X[:1], 0.0)}, {"p": 1, "axis": 1}, {"opset": 22}),
    ("LpNormalization", {"x": X}, {"p": 2}, {"opset": 1 + 6}),
    ("MeanVarianceNormalization", {"x": X}, {"axes": [0, 2, 3]}, {"opset": 13}),
    ("LRN", {"x": 4 * X}, {"size": 3, "alpha": 0.5, "beta": 0.75, "bias": 1.5}, {"opset": 13}),
    ("LRN", {"x": 4 * X}, {"size": 3, "alpha": 0.1, "beta": 0.6}, {"opset": 13}),
    ("LpPool", {"x": X}, {"kernel_shape": [2, 2], "strides": [1, 2], "pads": [1, 0, 0, 1], "p": 2}, {"opset": 18}),
    ("LpPool", {"x": np.maximum(X, 0)}, {"kernel_shape": [2, 3], "p": 3, "ceil_mode": 1, "dilations": [2, 1]}, {"opset": 22}),
    ("LpPool", {"x": X}, {"kernel_shape": [2, 2], "p": 1, "auto_pad": "SAME_LOWER"}, {"opset": 11}),
    ("GlobalLpPool", {"x": X}, {"p": 2}, {"opset": 22}),
    ("ThresholdedRelu", {"x": X}, {"alpha": 0.1}, {"opset": 22}),
    ("Shrink", {"x": X}, {"lambd": 0.7, "bias": 0.3}, {"opset": 9}),
    ("SwiGLU", {"a": X, "b": X[::-1].copy()}, {"alpha": 1.5}, {"opset": 28}),
    ("NegativeLogLikelihoodLoss", {"x": X, "t": CLASSES}, {"reduction": "mean"}, {"opset": 13, "constants": {"w": WEIGHTS}}),
    ("NegativeLogLikelihoodLoss", {"x": X, "t": IGNORED}, {"reduction": "sum", "ignore_index": -1}, {"opset": 22}),
    ("SoftmaxCrossEntropyLoss", {"x": X, "t": IGNORED}, {"reduction": "mean", "ignore_index": -1}, {"opset": 13, "outputs": 2}),
    ("SoftmaxCrossEntropyLoss", {"x": X, "t": CLASSES}, {"reduction": "none"}, {"opset": 12, "constants": {"w": WEIGHTS}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "attributes", "more"), MODELS, ids=[f"{m[0]} {m[2]}" for m in MODELS])
def test_claims_hold(kind: str, inputs: dict[str, Any], attributes: dict[str, Any], more: dict[str, Any]) -> None:
    came = attacked(one_node(kind, inputs, attributes, **more), inputs)
    assert came[None] == "finite"


def test_what_is_random_is_refused() -> None:
    fixed = {"r": np.array(0.5, dtype=np.float32), "t": np.array(True)}
    assert attacked(one_node("Dropout", {"x": X}, {}, 13, fixed), {"x": X})[None] == "refused"
    fixed["r"] = np.array(0.0, dtype=np.float32)
    assert attacked(one_node("Dropout", {"x": X}, {}, 13, fixed, outputs=1), {"x": X})[None] == "finite"


def test_indices_that_depend_on_data_are_refused() -> None:
    model = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 18]>
    g (float[3] x) => (float[3] y) { i = ArgMax<axis = 0>(x)  y = ScatterElements<reduction = "add">(x, i, x) }
    """)
    ranges = {"x": np.array([0.1, 0.5, 0.3])}
    assert attacked(model, ranges, region=True)[None] == "refused"


@pytest.mark.parametrize("kind", ["Adam", "Adagrad", "Momentum"])
def test_optimizers(kind: str) -> None:
    names = {"Adam": "xgvh", "Adagrad": "xgh", "Momentum": "xgv"}[kind]
    states = {n: np.abs(rng.normal(size=3)) for n in names}
    attributes = {"Momentum": {"alpha": 0.9, "beta": 0.5, "mode": "nesterov", "norm_coefficient": 0.01}}.get(
        kind, {"norm_coefficient": 0.1}
    )
    constants = {"R": np.array([0.1], dtype=np.float32), "T": np.array([2])}
    model = one_node(kind, states, attributes, 18, constants, len(names) - 1, TRAINING, ("R", "T", *names))
    assert attacked(model, states)[None] == "finite"


def test_regions() -> None:
    x = rng.normal(size=(1, 3, 2, 2))
    for kind, attributes, opset in (
        ("ThresholdedRelu", {"alpha": 0.1}, 22),
        ("LRN", {"size": 3}, 13),
        ("LpPool", {"kernel_shape": [2, 2]}, 22),
    ):
        attacked(one_node(kind, {"x": x}, attributes, opset), {"x": x}, region=True)


PARAMETERS = {"s": rng.uniform(0.5, 1.5, 5), "b": rng.normal(size=5), "m": rng.normal(size=5), "v": rng.uniform(0.1, 2.0, 5)}


@pytest.mark.parametrize("training", [0, 1])
def test_batch_normalization(training: int) -> None:
    """Parameters that are inputs, and the batch's own statistics."""
    inputs = {"x": X, **PARAMETERS}
    attributes = {"training_mode": 1, "momentum": 0.3} if training else {"epsilon": 1e-3}
    model = one_node("BatchNormalization", inputs, attributes, 15, outputs=1 + 2 * training)
    assert attacked(model, inputs)[None] == "finite"
    attacked(model, inputs, region=True)
