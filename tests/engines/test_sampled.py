"""Monte-Carlo arithmetic: what is exact stays exact, the rest is a tolerance limit of what such runs do."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from certify.analysis.problem import Problem
from certify.engines import adjoint, sampled
from certify.engines.contract import Guarantee
from certify.number.upward import Array
from tests.engines.networks import perceptron, problems


def small(dtype: str, activation: str = "Tanh", widths: tuple[int, ...] = (6, 16, 16, 3), seed: int = 1) -> Problem:
    x = np.random.default_rng(seed).uniform(-1, 1, size=(1, 1, widths[0]))
    return problems(perceptron(list(widths), activation, seed), dtype, x)[0].case(0)


def deviations(problem: Problem, seed: tuple[int, ...], runs: int) -> dict[str, Array]:
    """Of so many runs, (runs, *shape) by output."""
    return sampled._runs(problem, sampled._laws(problem), range(runs), seed)


def of_nodes(nodes: list[helper.NodeProto], x: list[float], dtype: str) -> Problem:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", len(x)])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(x)])
    model = helper.make_model(helper.make_graph(nodes, "g", [given], [y]), opset_imports=[helper.make_opsetid("", 17)])
    return problems(model, dtype, np.array([[x]]))[0].case(0)


def test_what_is_exact_does_not_deviate() -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["t"]), helper.make_node("Mul", ["t", "x"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    problem = of_nodes(nodes, [1.0, -2.0, 0.5, 3.0], "fp16")
    assert (sampled.solve(problem, (0,)).outputs["y"] == 0.0).all()


def test_one_rounding_moves_by_half_an_ulp() -> None:
    problem = of_nodes([helper.make_node("Mul", ["x", "x"], ["y"])], [1.0 + 2.0**-10 * k for k in (1, 3, 5, 7)], "fp16")
    found = sampled.solve(problem, (0,)).outputs["y"]
    assert ((found > 0.4 * 2.0**-10) & (found <= 0.5 * 2.0**-10)).all()


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
def test_it_stays_below_what_is_proved(dtype: str, activation: str) -> None:
    problem = small(dtype, activation)
    bound, _ = adjoint.solve(problem)
    found = sampled.solve(problem, (0,))
    assert found.guarantee == Guarantee.SAMPLED
    assert (found.outputs["y"] > 0.0).all()
    assert (found.outputs["y"] <= bound.outputs["y"]).all()


def test_it_is_a_tolerance_limit_of_further_runs() -> None:
    """On average 59 of 60 further runs stay below the largest of 59, element by element; much less would be seen."""
    problem = small("bf16")
    inside = total = 0
    for seed in range(40):
        limit = sampled.solve(problem, (seed,)).outputs["y"]
        further = deviations(problem, (1000 + seed,), 30)["y"]
        inside, total = inside + int((further <= limit).sum()), total + further.size
    assert 0.975 < inside / total < 1.0  # more than 59 of 60, for equal deviations count as inside


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "MEMORY", 1e4)  # several chunks
    problem = small("fp16")
    first = sampled.solve(problem, (7,)).outputs["y"]
    assert not np.array_equal(first, sampled.solve(problem, (8,)).outputs["y"])
    monkeypatch.setattr("certify.engines.parallel._limit", 1)
    assert np.array_equal(first, sampled.solve(problem, (7,)).outputs["y"])


def test_a_run_that_overflows_has_no_limit() -> None:
    nodes = [helper.make_node("Mul", ["x", "x"], ["t"]), helper.make_node("Mul", ["t", "t"], ["y"])]
    found = sampled.solve(of_nodes(nodes, [2.0, 15.998046875], "fp16"), (0,)).outputs["y"]
    assert np.isfinite(found[0, 0, 0])
    assert found[0, 0, 1] == np.inf


def test_a_deviation_of_runs_is_that_of_roundings_of_this_size() -> None:
    """Halving the unit roundoff halves it: fp16 has three bits more than bf16."""
    spread = [float(deviations(small(dtype, "Relu"), (3,), 400)["y"].std()) for dtype in ("bf16", "fp16")]
    assert 7.0 < spread[0] / spread[1] < 9.1
