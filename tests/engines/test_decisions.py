"""An argmax called stable must survive every attack; one at a tie must not be called stable."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from certify.analysis.problem import Problem
from certify.engines import adjoint
from certify.engines.answer import Answer, answer
from certify.engines.methods import Method
from tests.engines.networks import perceptron, problems
from tests.engines.test_adjoint import adversary, disturbed, points


def answered(stored: Problem, exact: Problem) -> Answer:
    pairs = [(stored.case(i), exact.case(i)) for i in range(stored.cases)]
    return answer(pairs, len(pairs), Method("adjoint"), ["y"])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_stable_decision_survives_the_worst_noise(dtype: str, seed: int) -> None:
    stored, exact = problems(perceptron([6, 12, 8, 4], "Relu", seed), dtype, points(6, 6, seed))
    found = answered(stored, exact)
    for case, margin in found.decisions["y"]:
        if not margin.stable:
            continue
        problem = stored.case(case)
        bound, sweep = adjoint.solve(problem)
        assert int(np.argmax(exact.case(case).values["y"].lo)) == margin.top
        for element in range(4):
            signs = adversary(sweep, "y", element)
            for sign in (1.0, -1.0):
                moved = disturbed(problem, bound.local, {name: sign * s for name, s in signs.items()})["y"]
                assert int(np.argmax(moved)) == margin.top


def test_the_difference_is_bounded_more_tightly_than_its_parts() -> None:
    stored, exact = problems(perceptron([6, 12, 8, 2], "Relu", 0), "bf16", points(1, 6, 0))
    found = answered(stored, exact)
    ((_, margin),) = found.decisions["y"]
    assert margin.bound < found.outputs["y"].rounding.sum()


def test_equal_logits_are_never_stable() -> None:
    node = helper.make_node("Concat", ["x", "x"], ["y"], "twice", axis=1)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name, width in (("x", 1), ("y", 2)))
    model = helper.make_model(helper.make_graph([node], "tie", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    stored, exact = problems(model, "fp16", points(3, 1, 0))
    found = answered(stored, exact)
    assert [margin.stable for _, margin in found.decisions["y"]] == [False] * 3


def test_a_margin_far_above_the_bound_is_stable_and_a_flip_by_conversion_is_not() -> None:
    node = helper.make_node("Identity", ["x"], ["y"], "same")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("x", "y"))
    model = helper.make_model(helper.make_graph([node], "same", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    clear, flipped = [1.0, 0.5], [1.0 + 2.0**-20, 1.0]  # the second becomes a tie in fp16
    stored, exact = problems(model, "fp16", np.array([[clear], [flipped]]))
    found = answered(stored, exact)
    assert [margin.stable for _, margin in found.decisions["y"]] == [True, False]
