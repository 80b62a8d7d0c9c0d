from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from certify.engines import running
from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS
from certify.number.upward import add_up
from certify.profiles import profile_named
from certify.validate.compare import Run, compare
from certify.validate.emulate import Emulator
from certify.validate.oracle import reference_arb
from certify.validate.runtime import run_cases
from certify.validate.simulate import Simulator
from certify.validate.summation import ORDERS
from tests.validate.bound import problems, program_of
from tests.validate.graphs import model, perceptron


def one(values, lo, hi, bound):
    reference = {"y": Enclosure(np.asarray(lo, float)[None], np.asarray(hi, float)[None])}
    return compare([Run("run", {"y": np.asarray(values, float)[None]})], reference, {"y": np.asarray(bound, float)[None]})


def test_an_error_at_the_bound_is_none_beyond_it_a_violation():
    exact = one([1.5, 1.0], [1.0, 1.0], [1.0, 1.0], [0.5, 0.0])
    assert not exact.violations
    assert exact.observed["y"].tolist() == [[0.5, 0.0]]
    assert exact.max_error == {"run": 0.5}
    beyond = one([np.nextafter(1.5, 2.0), 1.0], [1.0, 1.0], [1.0, 1.0], [0.5, 0.0])
    (violation,) = beyond.violations
    assert (violation.run, violation.output, violation.case, violation.index) == ("run", "y", 0, (0,))
    assert violation.observed > violation.bound == 0.5


def test_what_the_reference_does_not_know_is_not_held_against_the_bound():
    assert not one([2.0], [0.9], [1.1], [0.9]).violations
    assert one([2.0], [0.9], [1.0], [0.9]).violations
    assert not one([0.0], [-np.inf], [np.inf], [0.0]).violations


def test_infinities_and_nan_violate_finite_bounds_alone():
    for value in (np.nan, np.inf, -np.inf):
        found = one([value, value], [0.0, 0.0], [0.0, 0.0], [1e300, np.inf])
        assert [violation.index for violation in found.violations] == [(0,)]
        assert found.violations[0].observed == np.inf
        assert found.max_error["run"] == np.inf


def test_an_infinity_that_is_the_exact_result_is_no_error():
    found = one([-np.inf, 1.0], [-np.inf, 1.0], [-np.inf, 1.0], [0.0, 0.0])
    assert not found.violations
    assert found.observed["y"].tolist() == [[0.0, 0.0]]
    for value in (np.inf, np.nan, 0.0):
        assert one([value, 1.0], [-np.inf, 1.0], [-np.inf, 1.0], [0.0, 0.0]).violations


def test_the_worst_element_of_each_case_and_run_is_reported():
    reference = {"y": Enclosure.point(np.zeros((1, 3)))}
    runs = [Run("a", {"y": np.array([[1.0, 5.0, 2.0], [0.0, 0.0, 0.0]])}), Run("b", {"y": np.array([[0.0, 0.0, 9.0], [7.0, 0.0, 0.0]])})]
    found = compare(runs, reference, {"y": np.full((1, 3), 0.5)})
    assert [(v.run, v.case, v.index, v.observed) for v in found.violations] == [
        ("a", 0, (1,), 5.0),
        ("b", 0, (2,), 9.0),
        ("b", 1, (0,), 7.0),
    ]
    assert found.observed["y"].tolist() == [[1.0, 5.0, 9.0], [7.0, 0.0, 0.0]]
    assert found.validation("here", "zero").runs == 2


def test_cases_that_a_run_does_not_cover_are_no_evidence():
    reference = {"y": Enclosure.point(np.zeros((4, 1)))}
    bounds = {"y": np.full((4, 1), 0.5)}
    short = Run("short", {"y": np.full((1, 1), 2.0)}, 2)  # the same in both cases
    found = compare([short], reference, bounds)
    assert np.array_equal(found.observed["y"], [[2.0], [2.0], [np.nan], [np.nan]], equal_nan=True)
    assert [violation.case for violation in found.violations] == [0, 1]
    assert found.max_error == {"short": 2.0}
    longer = Run("longer", {"y": np.array([[1.0], [3.0], [0.25]])}, 3)
    for runs in ([short, longer], [longer, short]):
        assert np.array_equal(compare(runs, reference, bounds).observed["y"], [[2.0], [3.0], [0.25], [np.nan]], equal_nan=True)


def test_a_run_of_another_shape_is_no_run_of_this_claim():
    with pytest.raises(ValueError, match="cannot be compared"):
        compare([Run("r", {"y": np.zeros((1, 2))})], {"y": Enclosure.point(np.zeros((1, 3)))}, {"y": np.zeros((1, 3))})


def certified(graph, inputs, profile, dtype, accumulate=None):
    """(program, held inputs, arb reference, proved total bound) of a small network."""
    program = program_of(graph, profile, dtype, accumulate)
    held, stored, exact = problems(program, inputs)
    reference = reference_arb(exact)
    rounding = running.solve(stored, True).outputs
    moved = {name: np.abs(stored.values[name].lo - exact.values[name].lo) for name in program.outputs}
    doubt = running.solve(exact, False).outputs
    return program, held, reference, {name: add_up(rounding[name], moved[name], doubt[name]) for name in program.outputs}


def linear_network():
    rng = np.random.default_rng(11)
    weights = {name: rng.standard_normal((12, 12)).astype(np.float32) / 3.0 for name in ("u", "v")}
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["h"]),
        helper.make_node("Mul", ["h", "h"], ["s"]),
        helper.make_node("MatMul", ["s", "v"], ["y"]),
    ]
    return model(nodes, {"x": [2, 12]}, {"y": [2, 12]}, weights)


def inputs(*shape):
    return {"x": np.random.default_rng(12).standard_normal((4, *shape)).astype(np.float32).astype(np.float64)}


@pytest.mark.parametrize(
    ("profile", "dtype", "accumulate"),
    [
        ("wide", "fp32", None),
        ("wide", "bf16", None),
        ("wide", "fp16", "fp16"),
        ("ieee", "bf16", None),
        ("wide", "tf32", None),
        ("tensor-core-h100", "fp16", None),
    ],
)
def test_proved_bounds_survive_every_order_and_a_hundredth_of_them_does_not(profile, dtype, accumulate):
    program, held, reference, bounds = certified(linear_network(), inputs(2, 12), profile, dtype, accumulate)
    simulator = Simulator(program)
    runs = [Run(order.name, simulator.run(held, order)) for order in ORDERS.values()]
    assert not compare(runs, reference, bounds).violations
    planted = compare(runs, reference, {name: bound * 0.01 for name, bound in bounds.items()})
    assert {violation.run for violation in planted.violations} == set(ORDERS)


def test_an_emulated_network_survives_its_bound_and_refutes_a_planted_one():
    graph = perceptron((6, 8, 3))
    _, held, reference, bounds = certified(graph, inputs(1, 6), "wide", "fp16")
    run = Run("fp16", run_cases(Emulator(graph, lambda f: FORMATS["fp16"]), held))
    found = compare([run], reference, bounds)
    assert not found.violations
    assert 0.0 < found.max_error["fp16"] < float(bounds["y"].max())
    planted = compare([run], reference, {"y": bounds["y"] * 0.01})
    assert planted.violations
    assert planted.violations[0].observed > planted.violations[0].bound


def test_an_addend_that_is_not_converted_on_entry_is_covered():
    """Converted, the addend's error would cancel those of the weights; tensor cores take it in fp32."""
    weights = {"w": np.full((4, 1), 1 + 2.0**-11 - 2.0**-20, np.float32), "b": np.float32([4 + 2.0**-9 + 2.0**-18])}
    graph = model([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], {"x": [1, 4]}, {"y": [1, 1]}, weights)
    for profile in ("wide", "tensor-core-a100"):
        program, held, reference, bounds = certified(graph, {"x": np.ones((1, 1, 4))}, profile, "tf32")
        chosen = profile_named(profile, FORMATS["tf32"], None, "any")
        runs = [Run("simulated", Simulator(program).run(held, ORDERS["sequential"]))]
        runs.append(Run("emulated", run_cases(Emulator(graph, chosen.storage, chosen.operand_format), held)))
        found = compare(runs, reference, bounds)
        assert not found.violations
        assert found.max_error["emulated"] > 2.0**-10


def test_a_bound_for_a_tree_is_caught_by_an_adversarial_order():
    """A bound proved for pairwise summation and claimed for any order: the orders that it is not about refute it."""
    terms = np.concatenate([[256.0], np.full(511, 0.5)])
    graph = model([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], {"x": [512]}, {"y": []})
    program = program_of(graph, "ieee", "bf16", None, "pairwise")
    held, stored, exact = problems(program, {"x": terms[None]})
    reference, bounds = reference_arb(exact), running.solve(stored, True).outputs
    runs = [Run(name, Simulator(program).run(held, ORDERS[name])) for name in ORDERS]
    assert {violation.run for violation in compare(runs, reference, bounds).violations} >= {"sequential", "descending"}
    anywhere = program_of(graph, "ieee", "bf16")
    _, stored, _ = problems(anywhere, {"x": terms[None]})
    assert not compare(runs, reference, running.solve(stored, True).outputs).violations


def test_without_a_bounded_reference_errors_are_those_from_the_likely_result() -> None:
    whole = Enclosure(np.array([[-np.inf, -np.inf, 1.0]]), np.array([[np.inf, 3.0, 2.0]]))
    run = Run("run", {"y": np.array([[5.0, 2.5, 1.0]])})
    found = compare([run], {"y": whole}, {"y": np.full((1, 3), np.inf)}, {"y": np.array([[4.0, 2.0, 9.0]])})
    assert np.array_equal(found.observed["y"], [[1.0, 0.5, 0.5]])
    assert not found.violations
