"""Intervals of slopes: bounds of their own hold for what is computed, and the engine takes them where they are smaller."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import certify
from certify.analysis.bind import bind
from certify.analysis.program import Program
from certify.engines.region.batch import errors, evaluate, ranges
from certify.engines.region.slopes import Slopes, slope_bounds
from certify.graph.load import load
from certify.number.enclosure import Enclosure
from certify.number.formats import format_named
from certify.profiles import profile_named

RNG = np.random.default_rng(7)
WEIGHT = RNG.standard_normal((3, 4)).astype(np.float32)
REFERENCE = 1e-11  # more than float64 errs by in what stands for the exact result, far less than an fp32 rounding
OFFSET = RNG.standard_normal(4).astype(np.float32)


def _graph(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], inputs: dict[str, list[int]], shape: list[int]
) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, extent) for name, extent in inputs.items()]
    wanted = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "g", given, wanted, [numpy_helper.from_array(x, name) for name, x in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _network() -> onnx.ModelProto:
    """Every family: products of variables and with constants that storage moves, sums, copies, a maximum, a quotient, functions."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Relu", ["h"], ["q"]),
        helper.make_node("Mul", ["t", "q"], ["p"]),
        helper.make_node("Max", ["p", "t"], ["m"]),
        helper.make_node("Transpose", ["m"], ["mt"]),
        helper.make_node("MatMul", ["mt", "x"], ["s"]),
        helper.make_node("Sub", ["s", "c"], ["v"]),
        helper.make_node("ReduceSum", ["v"], ["r"], keepdims=0),
        helper.make_node("Exp", ["t"], ["e"]),
        helper.make_node("Div", ["r", "e"], ["y"]),
    ]
    constants = {"w": WEIGHT, "b": OFFSET, "c": np.array([0.3], np.float32)}
    return _graph(nodes, constants, {"x": [1, 3]}, [1, 4])


def _program(model: onnx.ModelProto, dtype: str) -> Program:
    return bind(load(model), profile_named("ieee", format_named(dtype), None, "any"))


def _stored(x: np.ndarray, dtype: str) -> np.ndarray:
    return np.asarray(x).astype(ml_dtypes.bfloat16 if dtype == "bf16" else np.float32).astype(np.float64)


def _run(x: np.ndarray, dtype: str, exact: bool) -> np.ndarray:
    """The network on points (n, 1, 3), each operation rounded into the format once; sums from left to right."""

    def fl(v: np.ndarray) -> np.ndarray:
        return v if exact else _stored(v, dtype)

    def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = fl(a[..., :, :1] * b[..., :1, :])
        for k in range(1, a.shape[-1]):
            total = fl(total + fl(a[..., :, k : k + 1] * b[..., k : k + 1, :]))
        return total

    x = fl(x)
    h = fl(dot(x, np.broadcast_to(fl(WEIGHT.astype(np.float64)), (len(x), 3, 4))) + fl(OFFSET.astype(np.float64)))
    t, q = fl(np.tanh(h)), np.maximum(h, 0.0)
    m = np.maximum(fl(t * q), t)
    v = fl(dot(np.swapaxes(m, 1, 2), x) - fl(np.array(np.float32(0.3), np.float64)))
    total = np.zeros(len(x))
    for part in v.reshape(len(x), -1).T:
        total = fl(total + part)
    return fl(total[:, None, None] / fl(np.exp(t)))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_slope_bounds_alone_hold_for_what_is_computed(dtype: str) -> None:
    program = _program(_network(), dtype)
    centres = RNG.uniform(-1.0, 1.0, (6, 1, 3)).astype(np.float32).astype(np.float64)
    width = np.array([1.0, 0.5, 0.25, 2.0**-6, 2.0**-12, 0.0]).reshape(6, 1, 1)
    box = {"x": Enclosure(_stored(centres - width, "fp32"), _stored(centres + width, "fp32"))}
    problem, _ = ranges(program, box)
    bound = Slopes(errors(program, problem)).bounds("y")
    assert np.isfinite(bound[1:]).all()
    for _ in range(40):
        at = _stored(RNG.uniform(box["x"].lo, box["x"].hi), "fp32")
        corner = np.where(RNG.random(at.shape) < 0.3, box["x"].lo, at)
        for x in (at, corner):
            off = np.abs(_run(x, dtype, False) - _run(x, "fp32", True))
            assert (off <= bound + REFERENCE).all()


def test_the_smaller_of_both_bounds_is_taken() -> None:
    """The Doppler shift -t v / (t + u)^2: over a wide box its remainders are worth more than its slopes vary."""
    nodes = [
        helper.make_node("Mul", ["t", "v"], ["p"]),
        helper.make_node("Add", ["t", "u"], ["s"]),
        helper.make_node("Mul", ["s", "s"], ["q"]),
        helper.make_node("Div", ["p", "q"], ["y"]),
    ]
    program = _program(_graph(nodes, {}, {"t": [1], "u": [1], "v": [1]}, [1]), "fp32")
    ends = {"t": (314.0, 362.0), "u": (-100.0, 100.0), "v": (20.0, 20000.0)}
    box = {name: Enclosure(np.array([[lo]]), np.array([[hi]])) for name, (lo, hi) in ends.items()}
    batch = evaluate(program, box)
    nominal, sloped = batch.bounding.state.tubes["y"], slope_bounds(batch.bounding, program.outputs)["y"]
    assert (sloped < nominal).all()
    assert (batch.bounds["y"] == sloped).all()


def test_an_operand_that_may_be_a_pole_has_no_bound() -> None:
    program = _program(_graph([helper.make_node("Div", ["x", "z"], ["y"])], {}, {"x": [1], "z": [1]}, [1]), "bf16")
    box = {"x": Enclosure(np.array([[0.0]]), np.array([[1.0]])), "z": Enclosure(np.array([[-1.0]]), np.array([[1.0]]))}
    problem, _ = ranges(program, box)
    assert np.isinf(Slopes(errors(program, problem)).bounds("y")).all()


@pytest.mark.parametrize(
    ("operator", "ranges_", "constant", "most"),
    [
        ("Sub", {"x": (1.0, 2.0), "z": (1.0, 2.0)}, None, 0.0),  # Sterbenz
        ("Sub", {"x": (1.0, 3.0), "z": (1.5, 2.0)}, None, 0.0),
        ("Add", {"x": (1.0, 3.0), "z": (-1e-20, 1e-20)}, None, 1e-20),  # no more than the smaller operand
        ("Mul", {"x": (-3.0, 3.0)}, 0.25, 2.0**-149),  # only underflow
        ("Div", {"x": (-3.0, 3.0)}, -4.0, 2.0**-149),
        ("Mul", {"x": (-3.0, 3.0)}, 4.0, 2.0**-149),
    ],
)
def test_exact_cases_cost_nothing(operator: str, ranges_: dict[str, tuple[float, float]], constant: float | None, most: float) -> None:
    constants = {} if constant is None else {"z": np.array([constant], np.float32)}
    model = _graph([helper.make_node(operator, ["x", "z"], ["y"])], constants, {name: [1] for name in ranges_}, [1])
    found = certify.certify(model, dtype="fp32", profile="ieee", region=True, ranges=ranges_, time_limit=1, jobs=1, samples=50)
    assert float(found.outputs["y"].absolute_bound.max()) <= most
    assert found.validation is not None
    assert not found.validation.violations
