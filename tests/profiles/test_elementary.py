"""The assumption on elementary functions against onnxruntime's CPU kernels, and the measured table behind `ort-cpu`."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest

from certify.number.formats import FORMATS
from certify.number.upward import Array
from certify.profiles import profile_named

Exact = Callable[[np.ndarray], np.ndarray]  # type: ignore[type-arg]


def sigmoid(x: Array) -> Array:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def erf(x: Array) -> Array:
    from scipy.special import erf as reference

    return np.asarray(reference(np.asarray(x, dtype=np.float64)))


def gelu(x: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(x * ndtr(np.asarray(x, dtype=np.float64)))


# kernel -> (reference in extended precision, half width of the sampled range, fp64 kernel exists)
KERNELS: dict[str, tuple[Exact, float, bool]] = {
    "Exp": (np.exp, 80, True),
    "Log": (np.log, 100, True),
    "Tanh": (np.tanh, 20, True),
    "Sin": (np.sin, 100, True),
    "Cos": (np.cos, 100, True),
    "Tan": (np.tan, 100, False),
    "Asin": (np.arcsin, 1, False),
    "Acos": (np.arccos, 1, False),
    "Atan": (np.arctan, 50, False),
    "Sinh": (np.sinh, 50, False),
    "Cosh": (np.cosh, 50, False),
    "Asinh": (np.arcsinh, 50, False),
    "Acosh": (np.arccosh, 50, False),
    "Atanh": (np.arctanh, 1, False),
    "Sqrt": (np.sqrt, 100, True),
    "Reciprocal": (lambda x: 1 / x, 100, True),
    "Sigmoid": (sigmoid, 80, True),
    "Softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 80, False),
    "Erf": (erf, 5, False),
    "Gelu": (gelu, 12, False),
    "Elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 20, False),
    "Swish": (lambda x: x * sigmoid(x), 40, False),
    "HardSwish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 5, False),
    "Mish": (lambda x: x * np.tanh(np.log1p(np.exp(np.minimum(x, 80)))), 50, False),
}
# The references of these are float64: half an ulp of theirs is 2^-30 ulps of fp32.
SLACK = 2.0**-29


def kernel(name: str, x: np.ndarray) -> Array:  # type: ignore[type-arg]
    import onnxruntime
    from onnx import TensorProto, helper

    element = TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.DOUBLE
    ends = [helper.make_tensor_value_info(end, element, [None]) for end in "xy"]
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"])], "one", ends[:1], ends[1:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0], dtype=np.float64)


def conforms(profile: str, name: str, format_name: str, samples: int) -> None:
    exact, width, _ = KERNELS[name]
    generator, format = np.random.default_rng(0), FORMATS[format_name]
    native = np.float32 if format_name == "fp32" else np.float64
    near_zero = generator.uniform(-1, 1, samples) * 2.0 ** generator.uniform(-40, 0, samples)
    x = np.concatenate([generator.uniform(-width, width, samples), near_zero]).astype(native)
    with np.errstate(all="ignore"):
        truth = exact(x.astype(np.longdouble))
    inside = np.isfinite(truth) & (np.abs(truth) < 1e38)
    x, truth = x[inside], truth[inside]
    step = profile_named(profile, format, None, "any").arithmetic(name, [format], format, False)
    bound = step.elementary(name.lower(), np.asarray(np.nextafter(np.abs(truth).astype(np.float64), np.inf)))
    error = np.abs(kernel(name, x).astype(np.longdouble) - truth)
    assert (error <= bound * (1 + SLACK) + np.abs(truth) * 2.0**-53 * (format_name == "fp32")).all()


@pytest.mark.parametrize("name", KERNELS)
def test_the_generic_assumption_covers_onnxruntime_in_fp32(name: str) -> None:
    conforms("wide", name, "fp32", 20_000)


@pytest.mark.parametrize("name", [name for name, row in KERNELS.items() if row[2]])
def test_the_generic_assumption_covers_onnxruntime_in_fp64(name: str) -> None:
    conforms("wide", name, "fp64", 20_000)


@pytest.mark.parametrize("name", ["Exp", "Erf", "Sqrt", "Reciprocal", "Sin", "Cos", "Log", "Softplus", "Tanh", "Sigmoid", "Gelu"])
def test_the_measured_table_holds_here(name: str) -> None:
    conforms("ort-cpu", name, "fp32", 20_000)


def test_a_table_with_a_lie_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.profiles import elementary

    monkeypatch.setattr(elementary, "_ABSOLUTE", {})
    with pytest.raises(AssertionError):
        conforms("wide", "Sigmoid", "fp32", 20_000)


def test_measured_tables_say_where_they_come_from() -> None:
    for entry in resources.files("certify.profiles").joinpath("measured").iterdir():
        document = json.loads(entry.read_text(encoding="utf-8"))
        assert document["version"] >= 1
        assert document["assumption"].endswith(".")
        for format_name, rows in document["formats"].items():
            assert format_name in FORMATS
            assert all(row["ulps"] >= 0.5 and row["absolute"] >= 0.0 for row in rows.values())
