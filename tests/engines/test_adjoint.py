"""Attacks on the adjoint engine: noise inside the local bounds, chosen by an adversary, must stay inside the output bound."""

from __future__ import annotations

import numpy as np
import pytest

from certify.analysis.problem import Problem
from certify.engines import adjoint, running
from certify.engines.contract import Functional
from certify.engines.sweep import Sweep
from certify.number.upward import Array
from tests.engines.networks import perceptron, problems
from tests.graph.build import parsed


def disturbed(problem: Problem, local: dict[str, Array], signs: dict[str, Array]) -> dict[str, Array]:
    """The network run in float64 with signs * local added after every step."""
    values = {name: X.lo for name, X in problem.values.items() if name not in problem.produced}
    for step in problem.steps:
        operands = [None if name is None else values[name] for name in step.operands]
        values[step.output] = step.rule.value(*operands, **step.attributes) + signs[step.output] * local[step.output]
    return values


def adversary(sweep: Sweep, output: str, element: int) -> dict[str, Array]:
    """Signs of the output's derivative with respect to every step: the worst case to first order."""
    shape = sweep.problem.values[output].shape
    row = np.zeros(shape)
    row.reshape(-1)[element] = 1.0
    multipliers = {output: row}
    signs = {step.output: np.zeros(sweep.problem.values[step.output].shape) for step in sweep.problem.steps}
    for name in sweep.ancestors(output):
        a = multipliers.pop(name, None)
        if a is None:
            continue
        signs[name] = np.sign(a)
        linear = sweep.maps.get(name)
        if linear is not None:
            for operand, part in zip(sweep.steps[name].operands, linear.pull(a), strict=False):
                if operand is not None and part is not None:
                    multipliers[operand] = multipliers.get(operand, 0.0) + part
    return signs


def points(cases: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, size=(cases, 1, width))


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8e4m3"])
@pytest.mark.parametrize("seed", range(3))
def test_no_noise_within_the_local_bounds_leaves_the_output_bound(activation: str, dtype: str, seed: int) -> None:
    stored, _ = problems(perceptron([6, 9, 9, 5, 3], activation, seed), dtype, points(2, 6, seed))
    draw = np.random.default_rng(seed)
    for case in range(stored.cases):
        problem = stored.case(case)
        bound, sweep = adjoint.solve(problem)
        if not np.isfinite(bound.outputs["y"]).all():
            continue
        z = problem.values["y"].lo
        attacks = [adversary(sweep, "y", i) for i in range(3)]
        attacks += [{name: -s for name, s in signs.items()} for signs in attacks]
        attacks += [{s.output: draw.choice([-1.0, 1.0], size=problem.values[s.output].shape) for s in problem.steps} for _ in range(20)]
        for signs in attacks:
            reached = np.abs(disturbed(problem, bound.local, signs)["y"] - z)
            assert (reached <= bound.outputs["y"]).all()


def test_an_adversary_reaches_the_bound_of_a_linear_network() -> None:
    """Without a nonlinearity first order is everything: what the attack reaches is the bound itself, up to float64."""
    stored, _ = problems(perceptron([5, 7, 3], "Identity", 1), "bf16", points(1, 5, 1))
    bound, sweep = adjoint.solve(stored)
    for i in range(3):
        reached = np.abs(disturbed(stored, bound.local, adversary(sweep, "y", i))["y"] - stored.values["y"].lo).reshape(-1)[i]
        assert 0.999999 <= reached / bound.outputs["y"].reshape(-1)[i] <= 1.0


def test_the_attack_catches_a_forgotten_source_of_noise() -> None:
    """A lie: the first layer's rounding left out of the noise. The same attack must leave the bound."""
    stored, _ = problems(perceptron([5, 7, 3], "Identity", 1), "bf16", points(1, 5, 1))
    bound, sweep = adjoint.solve(stored)
    first = stored.steps[0].output
    sweep.noise[first] = np.zeros_like(sweep.noise[first])
    lie = sweep.units("y", np.arange(3))
    reached = [
        np.abs(disturbed(stored, bound.local, adversary(sweep, "y", i))["y"] - stored.values["y"].lo).reshape(-1)[i] for i in range(3)
    ]
    assert (np.array(reached) > lie).all()


def test_refined_bounds_do_not_explode_with_depth() -> None:
    stored, _ = problems(perceptron([8] + [16] * 8 + [3], "Relu", 2), "fp16", points(1, 8, 2))
    assert adjoint.solve(stored)[0].outputs["y"].max() < 0.2 * running.solve(stored).outputs["y"].max()


@pytest.mark.parametrize("seed", range(5))
def test_any_multipliers_give_a_valid_bound(seed: int) -> None:
    """Weak duality: the bound of a difference of two outputs holds too, and is at most the sum of the two bounds."""
    stored, _ = problems(perceptron([4, 6, 3], "Tanh", seed), "fp16", points(1, 4, seed))
    bound, sweep = adjoint.solve(stored)
    difference = sweep.bound(Functional("y", np.array([[[1.0, -1.0, 0.0]]])))[0]
    single = bound.outputs["y"].reshape(-1)
    assert difference <= (single[0] + single[1]) * (1 + 1e-12)
    draw = np.random.default_rng(seed)
    for _ in range(50):
        signs = {s.output: draw.choice([-1.0, 1.0], size=stored.values[s.output].shape) for s in stored.steps}
        moved = (disturbed(stored, bound.local, signs)["y"] - stored.values["y"].lo).reshape(-1)
        assert abs(moved[0] - moved[1]) <= difference


def test_copies_of_what_overflowed_are_unbounded_and_never_nan() -> None:
    """A copy rounds nothing: its gamma is 0, and 0 times an infinite spread is still no noise."""
    text = "g (float[1, 3] x) => (float[3] y) { a = Exp(x) b = Reshape(a, s) y = Neg(b) }"
    stored, _ = problems(parsed(text, s=np.array([3])), "fp8e4m3", np.full((1, 1, 3), 40.0))
    bound, _ = adjoint.solve(stored)
    assert (bound.outputs["y"] == np.inf).all()
