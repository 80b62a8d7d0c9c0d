"""What one walk says of the exact values too: |exact - z| and |computed - exact|, around a trajectory with errors of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from certify.analysis.problem import Problem
from certify.engines import adjoint, running
from certify.engines.answer import answer
from certify.engines.methods import Method
from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from tests.engines.networks import perceptron, problems
from tests.engines.test_adjoint import adversary, disturbed, points


def strayed(problem: Problem, size: float, seed: int) -> Problem:
    """The problem around a trajectory that is off by up to `size` at every step, and says so."""
    draw = np.random.default_rng(seed)
    values = {name: X for name, X in problem.values.items() if name not in problem.produced}
    defects: dict[str, Array] = {}
    for step in problem.steps:
        operands = [None if name is None else values[name].lo for name in step.operands]
        value = step.rule.value(*operands, **step.attributes)
        off = size * draw.choice([-1.0, 1.0], size=value.shape)
        values[step.output] = Enclosure.point(value + off)
        defects[step.output] = 1.01 * np.abs(off)
    return replace(problem, values=values, defects=defects)


def exact_values(problem: Problem) -> Array:
    """In float64, whose errors are nothing beside what the trajectory is off by."""
    zero = {step.output: np.zeros(problem.values[step.output].shape) for step in problem.steps}
    return disturbed(problem, zero, zero)["y"]


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("seed", range(3))
def test_exact_values_stay_within_their_bounds(activation: str, dtype: str, seed: int) -> None:
    stored, _ = problems(perceptron([6, 9, 9, 5, 3], activation, seed), dtype, points(1, 6, seed))
    problem = strayed(stored, 1e-4, seed)
    bound, swept = adjoint.solve(problem)
    exact, z = exact_values(problem), problem.values["y"].lo
    assert (np.abs(exact - z) <= bound.exact["y"]).all()
    draw = np.random.default_rng(seed)
    attacks = [adversary(swept, "y", i) for i in range(3)]
    attacks += [{name: -s for name, s in signs.items()} for signs in attacks]
    attacks += [{s.output: draw.choice([-1.0, 1.0], size=problem.values[s.output].shape) for s in problem.steps} for _ in range(20)]
    for signs in attacks:
        computed = disturbed(problem, bound.local, signs)["y"]
        assert (np.abs(computed - exact) <= bound.apart["y"]).all()
        assert (np.abs(computed - z) <= bound.outputs["y"]).all()


def test_a_walk_that_forgets_the_trajectory_is_caught() -> None:
    stored, _ = problems(perceptron([6, 9, 3], "Relu", 1), "fp32", points(1, 6, 1))
    problem = strayed(stored, 1e-4, 1)
    _, swept = adjoint.solve(problem)
    for name, noise in swept.quiet.items():
        swept.quiet[name] = 0.3 * noise
    quiet: dict[str, Array] = {}
    swept.units("y", np.arange(3), None, quiet)
    assert (np.abs(exact_values(problem) - problem.values["y"].lo).reshape(-1) > quiet["exact"]).any()


def test_the_exact_values_cost_no_second_walk_and_little_room() -> None:
    stored, exact = problems(perceptron([6, 9, 9, 3], "Tanh", 2), "fp32", points(1, 6, 2))
    bound, _ = adjoint.solve(exact)
    assert (bound.exact["y"] <= 1e-5 * bound.outputs["y"]).all()
    assert (bound.apart["y"] <= 1.01 * bound.outputs["y"]).all()
    assert stored is not exact


def test_too_dear_rows_are_left_to_the_tubes(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, exact = problems(perceptron([6, 9, 9, 3], "Relu", 2), "fp16", points(1, 6, 2))
    forward = running.solve(stored).outputs["y"]
    monkeypatch.setattr(adjoint, "OUTPUT_LIMIT", 0.0)
    found = answer([(stored, exact)], 1, Method("auto"), ["y"])
    assert np.array_equal(found.outputs["y"].rounding, forward)
    assert (answer([(stored, exact)], 1, Method("adjoint"), []).outputs["y"].rounding < forward).all()
    tubes = adjoint.solve(stored, output_limit=1.0)[0].outputs["y"]
    assert (tubes <= forward).all()
    signs = {s.output: np.ones(stored.values[s.output].shape) for s in stored.steps}
    assert (np.abs(disturbed(stored, running.solve(stored).local, signs)["y"] - stored.values["y"].lo) <= tubes).all()


def test_a_slim_pass_says_the_same_of_outputs_and_keeps_maxima() -> None:
    stored, _ = problems(perceptron([6, 9, 9, 3], "Relu", 2), "fp16", points(2, 6, 2))
    whole, slim = running.solve(stored), running.solve(stored, slim=True)
    assert np.array_equal(whole.outputs["y"], slim.outputs["y"])
    for step in stored.steps:
        assert slim.local[step.output].max() == whole.local[step.output].max()
        assert slim.tubes[step.output].max() == whole.tubes[step.output].max()
    assert slim.tubes[stored.steps[0].output].size == 1
