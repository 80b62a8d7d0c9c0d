from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest
from onnx import helper

from certify.number.enclosure import Enclosure
from certify.validate.balls import Ball, Undecided, balls, enclosed, product
from certify.validate.oracle import reference_arb, spot_check, work
from certify.validate.runtime import ValidationUnavailable
from tests.validate.bound import problems, program_of
from tests.validate.graphs import model


def two_layers(seed=0):
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], alpha=0.75),
        helper.make_node("Mul", ["h", "h"], ["s"]),
        helper.make_node("MatMul", ["s", "v"], ["t"]),
        helper.make_node("ReduceSum", ["t"], ["y"], keepdims=0),
    ]
    constants = {
        "w": rng.standard_normal((5, 4)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
        "v": rng.standard_normal((4, 3)).astype(np.float32),
    }
    return model(nodes, {"x": [2, 5]}, {"y": []}, constants)


def softmax():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"], axis=-1)]
    return model(nodes, {"x": [1, 5]}, {"y": [1, 4]}, {"w": np.random.default_rng(4).standard_normal((5, 4)).astype(np.float32)})


def points(cases, *shape):
    return np.random.default_rng(cases).standard_normal((cases, *shape)).astype(np.float32).astype(np.float64)


def in_fractions(x, constants):
    """The network of `two_layers` over the rationals."""

    def rational(a):
        return [[Fraction(float(v)) for v in row] for row in np.atleast_2d(a)]

    def matmul(a, b):
        return [[sum(p * q for p, q in zip(row, column, strict=True)) for column in zip(*b, strict=True)] for row in a]

    h = matmul(rational(x), rational(constants["w"][0]))
    h = [[Fraction(3, 4) * v + c for v, c in zip(row, rational(constants["b"][0])[0], strict=True)] for row in h]
    return sum(sum(row) for row in matmul([[v * v for v in row] for row in h], rational(constants["v"][0])))


def test_balls_enclose_the_rational_result_in_neighbouring_doubles():
    program = program_of(two_layers())
    x = points(3, 2, 5)
    _, _, exact = problems(program, {"x": x})
    found = reference_arb(exact)["y"]
    assert found.shape == (3,)
    for case in range(3):
        truth = in_fractions(x[case], program.exact)
        assert Fraction(float(found.lo[case])) <= truth <= Fraction(float(found.hi[case]))
    assert (found.hi - found.lo <= 4 * np.spacing(np.abs(found.lo))).all()


def test_balls_and_float64_agree_within_the_proved_defects_of_one_step():
    program = program_of(softmax())
    _, _, exact = problems(program, {"x": points(2, 1, 5)})
    found, z = reference_arb(exact)["y"], exact.values["y"].lo
    assert found.shape == z.shape
    assert np.abs(found.mid - z).max() <= 1e-14
    assert np.abs(found.mid.sum(axis=-1) - 1.0).max() <= 1e-15


def test_too_large_a_network_is_refused_with_its_size():
    _, _, exact = problems(program_of(two_layers()), {"x": points(1, 2, 5)})
    needed = work(exact)
    assert reference_arb(exact, limit=needed)
    with pytest.raises(ValidationUnavailable, match=f"takes {needed} units of work, more than {needed - 1}"):
        reference_arb(exact, limit=needed - 1)


def test_the_float64_trajectory_survives_the_spot_check():
    for graph, shape in ((two_layers(), (2, 5)), (softmax(), (1, 5))):
        _, stored, _ = problems(program_of(graph, dtype="bf16"), {"x": points(3, *shape)})
        checked, broken = spot_check(stored, seed=1, count=100)
        assert checked == 100
        assert not broken


def test_a_defect_that_is_too_small_is_found():
    """The planted lie: the trajectory moves by half an ulp more than its defects admit."""
    _, stored, _ = problems(program_of(two_layers()), {"x": points(3, 2, 5)})
    for name in ("h", "s", "t", "y"):
        z, defect = stored.values[name].lo, stored.defects[name]
        moved = Enclosure.point(z + 2.0 * np.maximum(defect, np.spacing(np.abs(z))))
        _, broken = spot_check(replace(stored, values={**stored.values, name: moved}), seed=2, count=200)
        assert name in {mismatch.value for mismatch in broken}
        assert all(mismatch.distance > mismatch.defect for mismatch in broken)


def test_a_claim_of_exactness_is_found_out():
    _, stored, _ = problems(program_of(two_layers()), {"x": points(3, 2, 5)})
    _, broken = spot_check(replace(stored, defects={}), seed=3, count=100)
    assert {mismatch.value for mismatch in broken} >= {"h", "s", "t"}


class TestBalls:
    def test_comparisons_are_proved_or_refused(self):
        third, near = Ball(1) / 3, Ball(1) / 3 + Ball(0)
        assert third < 1
        assert not third >= 1
        assert third > 0.25
        assert Ball(2) == 2
        assert Ball(2) != 3
        with pytest.raises(Undecided):
            bool(third <= near)
        with pytest.raises(Undecided):
            bool(third == near)
        with pytest.raises(Undecided):
            float(third)
        assert float(Ball(0.1)) == 0.1
        assert int(Ball(7)) == 7
        with pytest.raises(Undecided):
            int(third)

    def test_numpy_cannot_choose_a_maximum_that_is_not_proved(self):
        x = np.array([Ball(1) / 3, Ball(2) / 6, Ball(0)], dtype=object)
        with pytest.raises(Undecided):
            np.max(x)
        assert float(np.max(balls(np.array([1.0, -2.0, 0.5])))) == 1.0

    def test_arithmetic_is_arbs(self):
        x = balls(np.array([0.5, 2.0]))
        for result, expected in (
            (1 - x, [0.5, -1.0]),
            (1 / x, [2.0, 0.5]),
            (x**2, [0.25, 4.0]),
            (-x, [-0.5, -2.0]),
            (2 + x, [2.5, 4.0]),
            (abs(-x), [0.5, 2.0]),
        ):
            assert np.array_equal(enclosed(result).lo, expected)
            assert np.array_equal(enclosed(result).hi, expected)
        with flint.ctx.workprec(256):
            root = enclosed(np.array([Ball(2).sqrt()]))
        assert np.nextafter(root.lo[0], 2.0) == root.hi[0]
        assert Fraction(float(root.lo[0])) ** 2 < 2 < Fraction(float(root.hi[0])) ** 2

    def test_matrices_are_multiplied_exactly(self):
        rng = np.random.default_rng(0)
        a, b = rng.integers(-99, 99, (3, 4)).astype(np.float64), rng.integers(-99, 99, (4, 2)).astype(np.float64)
        assert np.array_equal(enclosed(product(balls(a), balls(b))).lo, a @ b)

    def test_what_is_not_finite_is_the_whole_line(self):
        pole = enclosed(np.array([Ball(1) / Ball(0)]))
        assert (pole.lo[0], pole.hi[0]) == (-np.inf, np.inf)


def test_a_pole_is_checked_too():
    """1 / 0 and 0^-0.5 have no value: an unbounded defect is right, a finite one is found out."""
    for node in (helper.make_node("Reciprocal", ["x"], ["y"]), helper.make_node("Pow", ["x", "p"], ["y"])):
        constants = {} if len(node.input) == 1 else {"p": np.float32(-0.5)}
        program = program_of(model([node], {"x": [1]}, {"y": [1]}, constants))
        _, _, exact = problems(program, {"x": np.zeros((1, 1))})
        assert spot_check(exact) == (64, [])
        claimed = replace(exact, values={**exact.values, "y": Enclosure.point(np.ones((1, 1)))}, defects={"y": np.ones((1, 1))})
        checked, broken = spot_check(claimed, count=2)
        assert (checked, len(broken)) == (2, 2)
