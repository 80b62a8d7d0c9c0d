"""Refined bounds of ReLU networks on sparse inputs against runs in every order that the claim admits, adversarial ones too."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper

from certify.engines import adjoint
from certify.number.upward import Array, add_up
from certify.validate.compare import Run, compare
from certify.validate.oracle import reference_arb
from certify.validate.simulate import Simulator
from certify.validate.summation import ORDERS, order_named
from tests.validate.bound import problems, program_of
from tests.validate.graphs import model, perceptron

CLAIMS = {"any": [*ORDERS, "blocked-4"], "sequential": ["sequential", "reversed"], "pairwise": ["pairwise"], "blocked:5": ["blocked-5"]}


def convolutional(seed: int) -> ModelProto:
    """Conv, Relu, strided Conv, Relu, global mean; a third of the weights are zero."""
    generator = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return (generator.normal(size=shape) * (generator.uniform(size=shape) < 0.67)).astype(np.float32)

    constants = {"w": weight(6, 2, 3, 3), "b": weight(6), "v": weight(4, 6, 2, 2)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["k"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["k"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    return model(nodes, {"x": [1, 2, 5, 5]}, {"y": [1, 4, 1, 1]}, constants)


def sparse(shape: tuple[int, ...], seed: int) -> Array:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=shape) * (generator.uniform(size=shape) < 0.4)
    return np.asarray(x.astype(np.float32), dtype=np.float64)


@pytest.mark.parametrize("order", CLAIMS)
@pytest.mark.parametrize(
    ("profile", "dtype", "accumulate"), [("wide", "fp32", None), ("wide", "bf16", None), ("ieee", "fp16", "fp16"), ("ieee", "bf16", "bf16")]
)
def test_no_run_leaves_its_bound(profile: str, dtype: str, accumulate: str | None, order: str) -> None:
    for seed in (1, 2):
        for graph, shape in ((perceptron((40, 24, 24, 3), seed, scale=0.3), (1, 1, 40)), (convolutional(seed), (1, 1, 2, 5, 5))):
            program = program_of(graph, profile, dtype, accumulate, order)
            held, stored, exact = problems(program, {"x": sparse(shape, seed)})
            reference = reference_arb(exact)
            rounding, doubt = (adjoint.solve(problem, flag)[0].outputs["y"] for problem, flag in ((stored, True), (exact, False)))
            moved = np.abs(stored.values["y"].lo - exact.values["y"].lo)
            simulator = Simulator(program)
            runs = [Run(name, simulator.run(held, order_named(name))) for name in CLAIMS[order]]
            bounds = {"y": add_up(rounding, moved, doubt)}
            assert not compare(runs, reference, bounds).violations
            if accumulate is not None:
                assert compare(runs, reference, {"y": add_up(rounding * 0.004, moved, doubt)}).violations
