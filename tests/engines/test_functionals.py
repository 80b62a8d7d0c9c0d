"""Functionals of outputs over boxes, against exact rationals and simulated executions at points of the boxes; and lies, all caught."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from certify.analysis.bind import bind
from certify.analysis.reference import stored_inputs
from certify.engines.region import functionals as module
from certify.engines.region.batch import evaluate
from certify.engines.region.functionals import functionals
from certify.engines.region.many import BoxSweep
from certify.graph.load import load
from certify.number.enclosure import Enclosure
from certify.number.formats import format_named
from certify.profiles import profile_named
from certify.validate.simulate import Simulator
from certify.validate.summation import order_named
from tests.engines.networks import perceptron

ORDERS = ("sequential", "descending", "positives-first")


def attacked(dtype: str, seed: int, width: float = 0.1) -> list[str]:
    """What lies outside its enclosure: functionals of exact results, and of executions, at random points and corners of 8 boxes."""
    model = perceptron([3, 6, 6, 4], "Relu", seed)
    graph = load(model)
    program = bind(graph, profile_named("wide", format_named(dtype), None, "any"))
    draw = np.random.default_rng(seed)
    centre = draw.uniform(-1, 1, (8, 1, 3))
    lo, hi = ((centre + sign * draw.uniform(0, width, centre.shape)).astype(np.float32).astype(np.float64) for sign in (-1, 1))
    rows = np.concatenate([draw.integers(-2, 3, (3, 1, 4)).astype(float), np.eye(4)[:1, None] - np.eye(4)[1:2, None]])
    cases, index = (x.reshape(-1) for x in np.meshgrid(np.arange(8), np.arange(len(rows)), indexing="ij"))
    batch = evaluate(program, {"x": Enclosure(lo, hi)})
    found = functionals(batch, "y", cases, index, rows)
    weights = [numpy_helper.to_array(x) for x in model.graph.initializer]
    wrong = []
    for trial in range(12):
        share = draw.integers(0, 2, lo.shape) if trial % 2 else draw.random(lo.shape)
        x = np.clip((lo + share * (hi - lo)).astype(np.float32).astype(np.float64), lo, hi)
        exact = _exact(x[:, 0], weights)
        held, _ = stored_inputs(program, {"x": x})
        runs = [Simulator(program).run(held, order_named(order))["y"][:, 0] for order in ORDERS]
        for i, (case, row) in enumerate(zip(cases, index, strict=True)):
            c = [Fraction(v) for v in rows[row, 0]]
            if not found.exact.lo[i] <= sum(a * b for a, b in zip(c, exact[case], strict=True)) <= found.exact.hi[i]:
                wrong.append("exact")
            for y in runs:
                if not found.computed.lo[i] <= sum(a * Fraction(b) for a, b in zip(c, y[case], strict=True)) <= found.computed.hi[i]:
                    wrong.append("computed")
    return wrong


def _exact(x: np.ndarray, weights: list[np.ndarray]) -> Any:
    exactly = np.vectorize(lambda v: Fraction(float(v)), otypes=[object])
    value = exactly(x)
    for layer in range(0, len(weights), 2):
        value = value.dot(exactly(weights[layer])) + exactly(weights[layer + 1])
        value = value if layer == len(weights) - 2 else np.maximum(value, Fraction(0))
    return value


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_functionals_hold(dtype: str) -> None:
    assert not [fault for seed in range(3) for fault in attacked(dtype, seed)]
    assert not attacked(dtype, 3, width=0.0)


def test_lies_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    true = BoxSweep.pairs
    nothing = Enclosure.point(np.zeros(32))

    def of_errors(sweep: BoxSweep, *given: Any) -> Enclosure:  # roundings forgotten
        return nothing if sweep.state.rounding else true(sweep, *given)

    def of_ranges(sweep: BoxSweep, *given: Any) -> Enclosure:  # half of the deviation from the middle forgotten
        found = true(sweep, *given)
        return found if sweep.state.rounding else found.map(lambda x: 0.5 * x)

    def turned(sweep: BoxSweep, name: str, cases: Any, index: Any, rows: Any) -> Enclosure:  # of another box
        return true(sweep, name, (cases + 1) % 8, index, rows)

    for lie, width, side in ((of_errors, 0.0, "computed"), (of_ranges, 0.1, "exact"), (turned, 0.1, "exact")):
        monkeypatch.setattr(BoxSweep, "pairs", lie)
        assert side in attacked("bf16", 0, width)
    monkeypatch.setattr(BoxSweep, "pairs", true)
    dot = module._dot
    monkeypatch.setattr(module, "_dot", lambda rows, *rest: dot(np.abs(rows), *rest))  # the row's signs forgotten
    assert attacked("bf16", 0)
