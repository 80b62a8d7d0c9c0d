"""The large models of the benchmarks are what their names say, and what is read off their certificates is right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import depth
import large
import large_models
import numpy as np
import onnxruntime
import pytest
from onnx import load, numpy_helper


def gpt2(w: dict[str, Any], ids: Any, layers: int, heads: int) -> Any:
    """GPT-2 in float64, written down from its paper's code."""

    def norm(x: Any, name: str) -> Any:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte"][ids] + w["wpe"]
    for i in range(layers):
        mixed = []
        parts = [np.split(part, heads, axis=-1) for part in np.split(linear(norm(x, f"{i}.ln_1"), f"{i}.attn.c_attn"), 3, axis=-1)]
        for q, k, v in zip(*parts, strict=True):
            scores = np.where(np.tri(len(ids), dtype=bool), q @ k.T / math.sqrt(q.shape[-1]), -np.inf)
            shares = np.exp(scores)
            mixed.append(shares / shares.sum(-1, keepdims=True) @ v)
        x = x + linear(np.concatenate(mixed, axis=-1), f"{i}.attn.c_proj")
        h = linear(norm(x, f"{i}.ln_2"), f"{i}.mlp.c_fc")
        x = x + linear(0.5 * h * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (h + 0.044715 * h**3))), f"{i}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte"].T


def test_a_gpt2_shape_computes_gpt2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    normal = large_models.normal
    monkeypatch.setattr(large_models, "normal", lambda name, shape, deviation: normal(name, shape, 20.0 * deviation))  # so that all matters
    path = large_models.gpt2(tmp_path, layers=2, heads=3, width=24, vocabulary=11, tokens=5)
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in load(path).graph.initializer}
    ids = np.array([3, 1, 4, 1, 10])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input_ids": ids[None]})
    np.testing.assert_allclose(logits[0], gpt2(weights, ids, layers=2, heads=3), rtol=1e-4, atol=1e-4)


def test_resnet50_has_the_weights_of_torchvisions(tmp_path: Path) -> None:
    graph, shapes = large_models.Graph("resnet50", tmp_path), []

    def normed(x: str, name: str, weight: np.ndarray, attributes: dict[str, list[int]]) -> str:
        shapes.append(weight.shape)
        return x

    large_models.resnet50_layers(graph, normed)
    graph.weights.close()
    counted = sum(math.prod(tensor.dims) for tensor in graph.constants.values())
    counted += sum(math.prod(shape) + 2 * shape[0] for shape in shapes)
    assert (len(shapes), counted) == (53, 25_557_032)


def test_a_model_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> Path:
        (folder / "weights.bin").write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setitem(large_models.BUILDERS, "broken", fail)
    with pytest.raises(OSError, match="no space"):
        large_models.model("broken", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_rounding_error_seen_leaves_conversion_out(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    converted, rounded = np.array([[0.5, -0.25, 0.0]]), np.array([[0.125, -0.0625, 0.03125]])
    np.savez(path, **{"observed_error/y": np.abs(converted + rounded), "conversion/y": np.abs(converted), "reference/y": converted})
    assert large.seen(path) == 0.125
    np.savez(path, **{"conversion/y": np.abs(converted)})
    assert math.isnan(large.seen(path))


def test_a_line_through_points_says_how_far_off_they_are() -> None:
    assert depth.fit([2, 4, 8], [5.0, 7.0, 11.0]) == pytest.approx((3.0, 1.0, 0.0))
    assert depth.fit([0, 1, 2], [1.0, 1.3, 1.0])[2] > 0.1
