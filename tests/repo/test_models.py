"""The committed models and data are what models/README.md says: small, valid, keyed by input name, accurate on held-out rows."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
BUNDLED, BENCHMARK = ROOT / "models", ROOT / "benchmarks" / "models"
DIGITS = [
    BUNDLED / "digits_mlp",
    BUNDLED / "digits_cnn",
    BUNDLED / "digits_transformer",
    BENCHMARK / "digits_mlp_6x128",
    BENCHMARK / "digits_mlp_10x128",
]
RESIDUAL = BUNDLED / "residual_softmax"
EVERY = [*DIGITS, RESIDUAL]
ATTENTION_BLOCK = {"LayerNormalization": 2, "MatMul": 8, "Add": 8, "Reshape": 4, "Transpose": 4, "Mul": 1, "Softmax": 1, "Gelu": 1}
OPERATORS = {
    "digits_mlp": {"Gemm": 3, "Relu": 2},
    "digits_cnn": {"Conv": 2, "Relu": 2, "MaxPool": 1, "AveragePool": 1, "Flatten": 1, "Gemm": 1},
    "digits_transformer": Counter({name: 2 * count for name, count in ATTENTION_BLOCK.items()})
    + Counter({"MatMul": 1, "Add": 2, "LayerNormalization": 1, "ReduceMean": 1, "Gemm": 1}),
    "residual_softmax": {"Gemm": 10, "Tanh": 4, "Add": 4, "Softmax": 1},
    "digits_mlp_6x128": {"Gemm": 7, "Relu": 6},
    "digits_mlp_10x128": {"Gemm": 11, "Relu": 10},
}


def named(path: Path) -> str:
    return path.name


def model(path: Path) -> onnx.ModelProto:
    return onnx.load(path.with_suffix(".onnx"))


def arrays(path: Path, suffix: str = ".npz") -> dict[str, NDArray[np.generic]]:
    with np.load(path.parent / f"{path.name}{suffix}", allow_pickle=False) as archive:
        return dict(archive)


def run(path: Path, x: NDArray[np.generic]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def samples() -> ModuleType:
    """models/samples.py, a script's module and no package of the project."""
    spec = importlib.util.spec_from_file_location("bundled_samples", BUNDLED / "samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def residual_weights() -> dict[str, NDArray[np.float32]]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model(RESIDUAL).graph.initializer}


def test_no_model_or_data_file_is_left_out_of_these_tests() -> None:
    found = {path.with_suffix("") for folder in (BUNDLED, BENCHMARK) for path in folder.glob("*.onnx")}
    assert found == set(EVERY)
    data = {path.name for folder in (BUNDLED, BENCHMARK) for path in folder.glob("*.npz")}
    assert data == {f"{path.name}{suffix}" for path in EVERY for suffix in (".npz", ".labels.npz")}


@pytest.mark.parametrize("path", EVERY, ids=named)
def test_model_is_valid_and_under_one_megabyte(path: Path) -> None:
    assert path.with_suffix(".onnx").stat().st_size < 1_000_000
    onnx.checker.check_model(model(path), full_check=True)


@pytest.mark.parametrize("path", EVERY, ids=named)
def test_nodes_are_named_and_the_operators_are_the_documented_ones(path: Path) -> None:
    nodes = model(path).graph.node
    names = [node.name for node in nodes]
    assert all(names)
    assert len(set(names)) == len(names)
    assert Counter(node.op_type for node in nodes) == OPERATORS[path.name]


@pytest.mark.parametrize("path", EVERY, ids=named)
def test_data_is_keyed_by_the_input_and_fits_it(path: Path) -> None:
    (declared,) = model(path).graph.input
    data = arrays(path)
    assert set(data) == {declared.name} == {"x"}
    dims = declared.type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert data["x"].shape[1:] == tuple(dim.dim_value for dim in dims[1:])
    assert data["x"].dtype == np.float32


@pytest.mark.parametrize("path", DIGITS, ids=named)
def test_committed_digits_are_mostly_right(path: Path) -> None:
    x, labels = arrays(path)["x"], arrays(path, ".labels.npz")["labels"]
    assert len(x) == len(labels) == 50
    assert np.mean(np.argmax(run(path, x), axis=1) == labels) > 0.95


@pytest.mark.parametrize("path", DIGITS, ids=named)
def test_held_out_accuracy_is_above_95_percent(path: Path) -> None:
    pytest.importorskip("sklearn")
    _, _, pixels, labels = samples().digits_split()
    x = arrays(path)["x"]
    rows = pixels.reshape(-1, *x.shape[1:])
    assert np.array_equal(x, rows[: len(x)])
    assert np.mean(np.argmax(run(path, rows), axis=1) == labels) > 0.95


def test_residual_network_fits_the_curve_on_its_whole_range() -> None:
    curve = samples()
    t = np.linspace(-0.2, 0.2, 4001)
    p = run(RESIDUAL, curve.points(t))
    p0 = curve.damped_sine(t)
    assert np.max(np.abs(p - np.stack([p0, 1.0 - p0], axis=1))) < 0.002


def test_residual_targets_are_the_formula() -> None:
    t = arrays(RESIDUAL)["x"][:, 0].astype(np.float64)
    p0 = 0.5 + 0.5 * np.sin(45.0 * np.pi * t) * np.exp(-300.0 * t**2)
    assert np.allclose(arrays(RESIDUAL, ".labels.npz")["p"], np.stack([p0, 1.0 - p0], axis=1), rtol=0.0, atol=1e-15)
    assert np.all(arrays(RESIDUAL)["x"][:, 1:] == 0.0)


def test_residual_crossings_are_where_the_committed_network_changes_sign() -> None:
    curve = samples()
    weights = residual_weights()
    crossing = arrays(RESIDUAL, ".labels.npz")["crossings"].astype(np.float64)
    before, after = (np.sign(curve.residual_margin(weights, 4, crossing + step)) for step in (-1e-10, 1e-10))
    assert np.all(before * after == -1.0)
    inner = crossing[np.abs(crossing) < 0.12]
    assert np.max(np.abs(inner - np.arange(-5, 6) / 45.0)) < 2e-4


def test_fp32_makes_false_decisions_but_only_beside_crossings() -> None:
    """The reason for this model: in the data are points where fp32 decides otherwise than float64 arithmetic does."""
    curve = samples()
    x = arrays(RESIDUAL)["x"]
    t = x[:, 0].astype(np.float64)
    p = run(RESIDUAL, x)
    false = (p[:, 0] > p[:, 1]) != (curve.residual_margin(residual_weights(), 4, t) > 0)
    crossing = arrays(RESIDUAL, ".labels.npz")["crossings"].astype(np.float64)
    distance = np.min(np.abs(t[:, None] - crossing), axis=1)
    assert np.count_nonzero(false) >= 5
    assert np.max(distance[false]) < 1e-4
