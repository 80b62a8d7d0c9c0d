"""Floors: no value, exact or computed, lies below; and rules that heed them stay right for everything above."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from mpmath import mp, mpf

import certify
from certify.analysis.bind import bind
from certify.analysis.floors import floors_of
from certify.analysis.problem import Problem
from certify.analysis.reference import at_points
from certify.graph.load import load
from certify.number.enclosure import Enclosure
from certify.number.formats import format_named
from certify.profiles import profile_named
from certify.semantics import ops
from certify.semantics.contract import lookup
from tests.graph.build import parsed

assert ops.__path__

NORM = """net (float[1, 4] x) => (float[1, 4] y) <float[4, 4] w = {W}, float e = {{1e-6}}, float two = {{2.0}}, int64[1] last = {{1}}> {{
    h = MatMul (x, w)
    s = Pow (h, two)
    m = ReduceMean <keepdims = 1> (s, last)
    v = Add (m, e)
    r = Sqrt (v)
    y = Div (h, r)
}}"""


def net(weights: np.ndarray) -> onnx.ModelProto:
    text = NORM.format(W="{" + ", ".join(f"{w:.9g}" for w in weights.ravel()) + "}")
    return parsed(text)


def problem(model: onnx.ModelProto, dtype: str, x: np.ndarray) -> Any:
    program = bind(load(model), profile_named("wide", format_named(dtype), None, "any"))
    return program, at_points(program, program.stored, {"x": x}, {})


def test_what_is_known_of_a_norm() -> None:
    _, found = problem(net(np.eye(4)), "fp32", np.ones((1, 1, 4)))
    floors = floors_of(found)
    assert floors["x"] == 1.0
    assert (floors["h"], floors["s"], floors["m"]) == (0.0, 0.0, 0.0)
    assert 0.999e-6 < floors["v"] <= float(np.float32(1e-6))
    assert 0.999e-3 < floors["r"] <= float(np.float32(1e-6)) ** 0.5
    assert floors["y"] == 0.0


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("seed", range(4))
def test_a_norm_of_next_to_nothing_has_a_bound_that_holds(monkeypatch: pytest.MonkeyPatch, dtype: str, seed: int) -> None:
    """The products cancel, so that the tube of the mean square reaches below zero."""
    weights = np.ones((4, 4), np.float32)
    weights[:2] = 9984.0
    x = np.array([[1.0, -1.0, 2.0**-20, (seed + 1) * 2.0**-16]], np.float32)
    found = certify.certify(net(weights), dtype=dtype, data={"x": x})
    assert found.validation is not None
    assert not found.validation.violations
    bound = found.outputs["y"].absolute_bound
    assert np.isfinite(bound).all()
    monkeypatch.setattr(Problem, "floors", {})
    assert np.isinf(certify.certify(net(weights), dtype=dtype, data={"x": x}, validate=False).outputs["y"].absolute_bound).all()


@pytest.mark.parametrize("seed", range(8))
def test_no_computed_value_lies_below(seed: int) -> None:
    draw = np.random.default_rng(seed)
    program, found = problem(net(draw.normal(size=(4, 4)) * 10.0 ** draw.integers(-9, 9)), "bf16", draw.normal(size=(1, 1, 4)))
    floors, storage = floors_of(found), format_named("bf16")
    values = {name: X.lo for name, X in found.values.items() if name not in found.produced}
    from certify.number.rounding import round_to

    for step in program.steps:
        operands = [None if name is None else values[name] for name in step.operands]
        with np.errstate(all="ignore"):
            values[step.output] = round_to(step.rule.value(*operands, **step.attributes), storage)
        finite = np.isfinite(values[step.output])
        assert (values[step.output][finite] >= floors[step.output]).all(), step.output


def heeding(name: str, x: np.ndarray, r: float, floor: float, count: int = 200, **attributes: Any) -> bool:
    """Whether the rule's verbs hold for deviations of a unary function that stay above the floor."""
    rule = lookup("certify" if name == "Pow" else "", name, 28)
    X, radii = (Enclosure.point(x[None]),), (np.full((1, x.size), r),)
    told = {"floors": [floor], **attributes}
    with np.errstate(all="ignore"):
        linear = rule.linearize(X, radii, **told)
        modulus = np.broadcast_to(rule.modulus(X, radii, **told), (1, x.size))
    slope = linear.push([np.ones((1, x.size))])
    draw, f = (
        np.random.default_rng(1),
        {"Sqrt": mp.sqrt, "Log": mp.log, "Reciprocal": lambda v: 1 / v, "Pow": lambda v: v ** mpf(-0.5)}[name],
    )
    with mp.workprec(400):
        for i in range(x.size):
            low, high = max(-r, floor - x[i]), r
            for d in [low, high, *draw.uniform(low, high, count), *(low + (high - low) * 2.0 ** -draw.uniform(0, 60, 20))]:
                at = mpf(float(x[i])) + mpf(float(d))
                if at < floor or at < 0 or (at == 0 and name != "Sqrt"):
                    continue
                change = f(at) - f(mpf(float(x[i])))
                rest = change - mpf(float(slope[0, i])) * mpf(float(d)) - mpf(float(np.broadcast_to(linear.shift, (1, x.size))[0, i]))
                if abs(rest) > np.broadcast_to(linear.radius, (1, x.size))[0, i] or abs(change) > modulus[0, i]:
                    return False
    return True


@pytest.mark.parametrize("r", [1e-12, 1e-3, 0.3, 5.0])
def test_functions_that_are_singular_below_hold_above_their_floor(r: float) -> None:
    x = np.array([1e-9, 1e-4, 0.01, 0.5, 1.0, 40.0])
    assert heeding("Sqrt", np.append(x, 0.0), r, 0.0)
    for name in ("Sqrt", "Log", "Reciprocal"):
        assert heeding(name, x, r, 1e-9)
    assert heeding("Pow", x, r, 1e-9, exponent=-0.5)


def test_a_floor_that_is_too_high_is_caught() -> None:
    """The bound for x^ >= 0.3 does not hold for x^ = 0: a wrong floor would show."""
    X, radii = (Enclosure.point(np.array([[0.5]])),), (np.full((1, 1), 0.5),)
    with np.errstate(all="ignore"):
        modulus = lookup("", "Sqrt", 28).modulus(X, radii, floors=[0.3])
    assert modulus[0, 0] < 0.5**0.5


@pytest.mark.parametrize("r", [0.01, 0.3, 5.0])
def test_a_quotient_holds_above_its_divisors_floor(r: float) -> None:
    rule, draw = lookup("", "Div", 14), np.random.default_rng(2)
    a, b, floor = np.array([[3.0, -2.0, 0.0]]), np.array([[0.25, 0.1, 0.05]]), 0.04
    X, radii = (Enclosure.point(a), Enclosure.point(b)), (np.full((1, 3), 0.1), np.full((1, 3), r))
    with np.errstate(all="ignore"):
        linear, modulus = rule.linearize(X, radii, floors=[-np.inf, floor]), rule.modulus(X, radii, floors=[-np.inf, floor])
    assert np.isfinite(linear.radius).all()
    for _ in range(2000):
        d, e = draw.choice([-0.1, 0.1, 0.03], (1, 3)), np.maximum(draw.uniform(-r, r, (1, 3)), floor - b)
        change = (a + d) / (b + e) - a / b
        slack = 2.0**-45 * (1 + np.abs(change))  # float64's own
        assert (np.abs(change - linear.push([d, e])) <= linear.radius + slack).all()
        assert (np.abs(change) <= modulus + slack).all()
