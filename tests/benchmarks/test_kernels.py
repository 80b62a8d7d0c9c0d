"""The kernels' ONNX models compute what the rows say, and so do the Gappa scripts where Gappa is installed."""

from __future__ import annotations

import shutil
from typing import Any

import mlps
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from public_kernels import figures, gappa
from public_kernels.expression import record
from public_kernels.onnx_model import TYPES, model_of
from public_kernels.rows import KERNELS, Kernel, named
from public_kernels.sampling import draw

POINTS = 20
# onnxruntime's and Python's functions differ by some ulps, which the kernel may magnify (exp1x divides by x = 0.01).
FUNCTIONS = 1e-12


def session_of(model: onnx.ModelProto) -> Any:
    """onnxruntime without optimizations; ONNX's own evaluator for Atan of doubles, which onnxruntime has not."""
    if any(node.op_type == "Atan" for node in model.graph.node):
        return ReferenceEvaluator(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(kernel: Kernel, points: list[dict[str, float]]) -> list[float]:
    session = session_of(model_of(kernel))
    _, dtype = TYPES[kernel.format]
    results = []
    for point in points:
        values = [dtype(x) for x in point.values()]
        if kernel.length:
            feeds = {name: np.array(values[i * kernel.length : (i + 1) * kernel.length]) for i, name in enumerate(kernel.ranges)}
        else:
            feeds = dict(zip(kernel.ranges, map(np.asarray, values), strict=True))
        results.append(float(session.run(None, feeds)[0]))
    return results


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_the_model_computes_the_expression(kernel: Kernel) -> None:
    points = draw(kernel, POINTS, seed=1)
    _, dtype = TYPES[kernel.format]
    number = float if kernel.format == "fp64" else dtype
    expected = [float(kernel.function(*(number(x) for x in point.values()))) for point in points]
    tape, _ = record(kernel.function, list(kernel.variables))
    rounds_alike = not kernel.length and {operator for operator, _ in tape.nodes}.isdisjoint({"Exp", "Log", "Sin", "Cos", "Atan"})
    if rounds_alike:
        assert run(kernel, points) == expected
    else:
        unit = FUNCTIONS * (1.0 if kernel.format == "fp64" else 2.0**29)
        np.testing.assert_allclose(run(kernel, points), expected, rtol=unit, atol=unit)


def test_names_are_told_apart_and_figures_are_of_kernels() -> None:
    names = [kernel.name for kernel in KERNELS]
    assert len(set(names)) == len(names)
    for peer in (figures.FPTAYLOR, figures.FPTAYLOR_STORED, figures.PRECISA, figures.VCFLOAT):
        assert set(peer.bounds) <= set(names), peer.name


def test_an_operation_met_twice_is_one_node() -> None:
    tape, _ = record(named("doppler1").function, ["u", "v", "T"])
    assert [operator for operator, _ in tape.nodes].count("Add") == 2
    model = model_of(named("sine"))
    assert [node.op_type for node in model.graph.node].count("Mul") == 6


@pytest.mark.skipif(shutil.which("gappa") is None, reason="Gappa is not installed")
def test_gappa_reads_the_scripts() -> None:
    kernel = named("rigidBody1")
    tape, result = record(kernel.function, list(kernel.variables))
    found = gappa.bound(gappa.script(tape, result, kernel.variables, kernel.format, []), 10)
    assert found == pytest.approx(2.13163e-13, rel=1e-5)


@pytest.mark.parametrize("sizes", mlps.LAYERS)
def test_gappa_is_asked_about_the_network_that_is_certified(sizes: tuple[int, ...]) -> None:
    session = session_of(mlps.model_of(sizes, "Relu"))
    x = np.random.default_rng(2).uniform(-1.0, 1.0, (5, sizes[0])).astype(np.float32)
    for row in x:
        expected = mlps.network(sizes, *map(float, row))
        assert float(session.run(None, {"x": row[np.newaxis]})[0][0, 0]) == pytest.approx(expected, abs=1e-5)
