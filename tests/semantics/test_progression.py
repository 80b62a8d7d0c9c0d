"""Range over floats: kernels store its constants, and may add delta again and again."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import certify
from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to


def ranged(start: float, delta: float, count: int) -> ModelProto:
    """y = Range(start, ., delta) - x."""
    limit = np.float32(start + (count - 0.5) * delta)
    constants = [numpy_helper.from_array(np.array(v, np.float32), n) for v, n in ((start, "s"), (limit, "l"), (delta, "d"))]
    nodes = [helper.make_node("Range", ["s", "l", "d"], ["r"]), helper.make_node("Sub", ["r", "x"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [count])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def errors(computed: np.ndarray, start: float, delta: float) -> list[Fraction]:
    first, step = Fraction(float(np.float32(start))), Fraction(float(np.float32(delta)))
    return [abs(Fraction(float(v)) - (first + i * step)) for i, v in enumerate(computed)]


def runs(start: float, delta: float, count: int, storage: Format) -> list[np.ndarray]:
    """Product and sum, and repeated sums, in fp32; then stored."""
    first, step = (np.float32(round_to(np.asarray(float(np.float32(v))), storage)) for v in (start, delta))
    once = first + (np.arange(count).astype(np.float32) * step)
    again = np.add.accumulate(np.concatenate([[first], np.full(count - 1, step)]).astype(np.float32), dtype=np.float32)
    return [round_to(v.astype(np.float64), storage) for v in (once, again)]


@pytest.mark.parametrize(("start", "delta", "count"), [(0.0, 0.1, 100), (-3.0, 1 / 3, 40), (1e-3, -0.7, 65), (0.0, 1.0, 300)])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("engine", ["adjoint", "running"])
def test_both_kernels_are_bounded(start: float, delta: float, count: int, dtype: str, engine: str) -> None:
    model = ranged(start, delta, count)
    found = certify.certify(model, dtype=dtype, data={"x": np.zeros((1, 1), np.float32)}, engine=engine, validate=False).outputs["y"]
    for computed in runs(start, delta, count, FORMATS[dtype]):
        for error, bound in zip(errors(computed, start, delta), found.absolute_bound[0], strict=True):
            assert error <= Fraction(float(bound))


def test_onnxruntime_adds_again_and_again() -> None:
    model, x = ranged(0.0, 0.1, 100), np.zeros(1, np.float32)
    (computed,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    found = certify.certify(model, data={"x": x[None]}, validate=False).outputs["y"]
    worst = max(errors(computed, 0.0, 0.1))
    assert worst > Fraction(2) ** -18  # far more than one rounding of numbers below 10
    assert worst <= Fraction(float(found.absolute_bound.max())) <= 100 * worst


def test_whole_numbers_cost_nothing_while_they_fit() -> None:
    found = certify.certify(ranged(0.0, 1.0, 300), dtype="bf16", data={"x": np.zeros((1, 1), np.float32)}, validate=False).outputs["y"]
    bound = found.absolute_bound[0]
    assert not bound[:256].any()
    assert bound[257] >= 1.0
