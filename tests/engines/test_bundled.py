"""The same attacks on the bundled models: convolution, pooling, attention, normalisation, softmax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from certify.engines import adjoint, running
from certify.engines.sweep import sweep
from tests.engines.networks import problems
from tests.engines.test_adjoint import adversary, disturbed

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("digits_cnn", "bf16"),
        ("digits_cnn", "fp8e4m3"),
        ("digits_transformer", "fp16"),
        ("residual_softmax", "tf32"),
        ("residual_softmax", "bf16"),
    ],
)
def test_no_noise_within_the_local_bounds_leaves_the_output_bound(name: str, dtype: str) -> None:
    rows = np.load(MODELS / f"{name}.npz")["x"]
    stored, _ = problems(onnx.load(MODELS / f"{name}.onnx"), dtype, rows[:1][:, None])
    bound, sweep = adjoint.solve(stored)
    (output,) = stored.outputs
    z = stored.values[output].lo
    draw = np.random.default_rng(0)
    attacks = [adversary(sweep, output, i) for i in range(min(3, z.size))]
    attacks += [{key: -s for key, s in signs.items()} for signs in attacks]
    attacks += [{s.output: draw.choice([-1.0, 1.0], size=stored.values[s.output].shape) for s in stored.steps} for _ in range(5)]
    reached = [np.abs(disturbed(stored, bound.local, signs)[output] - z) for signs in attacks]
    assert all((one <= bound.outputs[output]).all() for one in reached)
    # The attack has teeth: it comes within a factor of 50 of the bound, and the running bound is no better.
    assert max(float(one.max()) for one in reached) * 50 > float(bound.outputs[output].min())
    assert (running.solve(stored).outputs[output] >= 0.99 * bound.outputs[output]).all()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_tubes_hold_inside_the_network_too(dtype: str) -> None:
    rows = np.load(MODELS / "digits_transformer.npz")["x"]
    stored, _ = problems(onnx.load(MODELS / "digits_transformer.onnx"), dtype, rows[:1][:, None])
    swept = sweep(stored)
    draw = np.random.default_rng(1)
    for _ in range(5):
        signs = {s.output: draw.choice([-1.0, 1.0], size=stored.values[s.output].shape) for s in stored.steps}
        values = disturbed(stored, {name: np.where(np.isfinite(x), x, 0.0) for name, x in swept.state.local.items()}, signs)
        for step in stored.steps:
            tube = swept.state.tubes.get(step.output, 0.0)
            assert (np.abs(values[step.output] - stored.values[step.output].lo) <= tube).all(), step.node
