"""The search for the largest error: it stays in the box, finds what enumeration finds, and refutes what sampling misses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp
from onnx import ModelProto, TensorProto, helper

import certify
from certify.analysis.target import target
from certify.certificate import read
from certify.certificate.build import document
from certify.certificate.contract import Certificate
from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.profiles import profile_named
from certify.report.text import print_text
from certify.request import Request
from certify.validate import attack as attacks
from certify.validate import trial
from certify.validate.attack import Attack, arena, attack, hunt
from certify.validate.domain import Domain
from certify.validate.runtime import ValidationUnavailable
from certify.validate.trial import ball_values, distance
from tests.validate.graphs import model, perceptron

DOUBLE = int(TensorProto.DOUBLE)
HALF = int(TensorProto.FLOAT16)


def box(**ends: tuple[Any, Any]) -> dict[str, Enclosure]:
    return {name: Enclosure(np.asarray(lo, dtype=float)[None], np.asarray(hi, dtype=float)[None]) for name, (lo, hi) in ends.items()}


def attacked(
    graph: ModelProto, ends: dict[str, Enclosure], bound: float = np.inf, points: int | None = None, others: Any = (), **options: Any
) -> Attack:
    request = Request(graph, region=True, **options)
    profile = profile_named("wide", None if request.dtype is None else FORMATS[request.dtype], None, "any")
    with np.errstate(all="ignore"), target(graph, profile, {}, None, None) as found:
        shapes = {name: (1, *found.graph.values[name].shape) for name in found.graph.outputs}
        return attack(found, profile, request, [ends, *others], {name: np.full(shape, bound) for name, shape in shapes.items()}, points)


def numbers(form: Format, lo: float, hi: float) -> np.ndarray:
    """Every number of a format of 16 bits or fewer in [lo, hi]."""
    exponents = np.arange(form.emin - form.precision + 1, form.emax + 1)
    digits = np.arange(2**form.precision)
    every = np.unique(np.ldexp(digits[:, None].astype(float), exponents - form.precision + 1))
    every = np.unique(round_to(np.concatenate([-every, every]), form))
    return every[(every >= lo) & (every <= hi)]


def bumpy(element: int) -> ModelProto:
    """x * x - c x + x / 7, every result stored."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["s"]),
        helper.make_node("Mul", ["x", "c"], ["l"]),
        helper.make_node("Sub", ["s", "l"], ["d"]),
        helper.make_node("Div", ["x", "n"], ["q"]),
        helper.make_node("Add", ["d", "q"], ["y"]),
    ]
    dtype = helper.tensor_dtype_to_np_dtype(element)
    constants = {"c": np.array(0.7, dtype), "n": np.array(7.0, dtype)}
    return model(nodes, {"x": []}, {"y": []}, constants, element=element)


def test_the_largest_error_over_every_half_precision_number_is_found() -> None:
    graph, ends = bumpy(HALF), box(x=(-6.0, 5.0))
    every = numbers(FORMATS["fp16"], -6.0, 5.0)
    found = attacked(graph, ends, points=6000)
    c = float(np.float16(0.7))
    stored = every
    for_s, for_l, for_q = (round_to(x, FORMATS["fp16"]) for x in (every * every, every * c, np.float32(every) / np.float32(7.0)))
    stored = round_to(round_to(for_s - for_l, FORMATS["fp16"]) + for_q, FORMATS["fp16"])
    worst = np.abs(stored - (every * every - c * every + every / 7.0)).max()
    assert len(every) > 30_000
    assert 0.9 * worst <= found.attained["y"].error <= worst * (1.0 + 1e-9)


def test_the_largest_error_over_every_pair_of_8_bit_numbers_is_found() -> None:
    nodes = [helper.make_node("Mul", ["a", "b"], ["p"]), helper.make_node("Add", ["p", "a"], ["y"])]
    graph = model(nodes, {"a": [], "b": []}, {"y": []})
    form = FORMATS["fp8e5m2"]
    found = attacked(graph, box(a=(-3.0, 3.0), b=(0.1, 5.0)), points=8000, dtype="fp8e5m2")
    a, b = (x.ravel() for x in np.meshgrid(np.linspace(-3.0, 3.0, 1501), np.linspace(0.1, 5.0, 1501)))
    held = [round_to(x, form) for x in (a, b)]
    worst = np.abs(round_to(round_to(held[0] * held[1], form) + held[0], form) - (a * b + a)).max()
    assert found.attained["y"].error >= 0.9 * worst  # of a fine grid: conversion errors included


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_points_never_leave_the_box_or_the_format(dtype: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, np.ndarray]] = []
    original = trial.Bench.__call__

    def noted(self: Any, points: Any) -> Any:
        seen.append(dict(points))
        return original(self, points)

    monkeypatch.setattr(trial.Bench, "__call__", noted)
    nodes = [helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT), helper.make_node("Mul", ["x", "f"], ["y"])]
    graph = model(nodes, {"x": [3], "k": [3]}, {"y": [3]}, elements={"k": TensorProto.INT32})
    ends = box(x=([-1.0, 0.3, 1e-40], [0.1, 0.3000001, 1e30]), k=([-3.0, 0.5, 7.0], [4.5, 9.0, 7.0]))
    found = attacked(graph, ends, points=3000, dtype=dtype)
    for points in [*seen, found.points]:
        assert np.array_equal(points["x"].astype(np.float32).astype(float), points["x"])
        assert np.array_equal(np.rint(points["k"]), points["k"])
        for name, X in ends.items():
            assert (points[name] >= X.lo).all()
            assert (points[name] <= X.hi).all()
    assert found.tried == sum(len(points["x"]) for points in seen) - 1 == 3000  # one to see whether it runs at all
    assert not found.violations


@pytest.mark.parametrize("name", ["fp32", "fp16", "fp8e4m3", "fp64"])
def test_moves_stay_inside_for_every_format(name: str) -> None:
    form, generator = FORMATS[name], np.random.default_rng(0)
    ends = box(x=([-2.3, 0.0, 1e-7, -448.0, 0.17], [3.1, 0.0, 440.0, 448.0, 0.2]))
    domain = Domain.of(ends, {"x": form}, {"x": FORMATS["fp8e5m2"]})
    rows = domain.fresh(generator, 64)
    for _ in range(40):
        rows = domain.moved(generator, rows, rows[::-1])
        assert np.array_equal(round_to(rows, form), rows)
        assert (rows >= ends["x"].lo).all()
        assert (rows <= ends["x"].hi).all()
    assert len(np.unique(domain.ends(generator, 40), axis=0)) == 2**4


def test_a_box_without_a_number_is_refused() -> None:
    with pytest.raises(ValidationUnavailable, match="input x holds no number"):
        Domain.of(box(x=(0.1, 0.1)), {"x": FORMATS["fp16"]}, {"x": FORMATS["fp16"]})


def test_the_same_seed_finds_the_same() -> None:
    ends = box(x=(np.full((1, 6), -1.0), np.full((1, 6), 1.0)))
    one, two, other = (attacked(perceptron(), ends, points=1500, dtype="fp16", seed=seed) for seed in (3, 3, 4))
    assert one.attained["y"].error == two.attained["y"].error
    assert one.attained["y"].sha256 == two.attained["y"].sha256 != other.attained["y"].sha256
    assert all(np.array_equal(one.points[name], two.points[name]) for name in one.points)
    assert one.attained["y"].error == one.observed["y"].max()


def test_a_bound_too_small_is_refuted_that_sampling_does_not_refute() -> None:
    ends = box(x=(np.full((1, 6), -1.0), np.full((1, 6), 1.0)))
    none = attacked(perceptron(), ends, points=64, dtype="bf16")
    sampled = float(none.observed["y"].max())
    found = attacked(perceptron(), ends, bound=1.3 * sampled, dtype="bf16", points=10_000)
    drawn = attacked(perceptron(), ends, bound=1.3 * sampled, dtype="bf16", points=64)
    assert found.violations
    assert not drawn.violations
    assert all(violation.observed > violation.bound for violation in found.violations)


def test_doubles_are_searched_with_balls() -> None:
    """Errors of a few ulps are told apart that float64 would not see."""
    graph = bumpy(DOUBLE)
    found = attacked(graph, box(x=(1.0, 2.0)), points=2000)
    x = found.attained["y"].inputs["x"]
    with mp.workprec(400):
        X, c = mp.mpf(float(x)), mp.mpf(0.7)
        exact = X * X - c * X + X / 7
        computed = float(x * x - x * 0.7 + x / 7.0)
        assert found.attained["y"].error == pytest.approx(float(abs(exact - mp.mpf(computed))), rel=1e-12)
    assert found.attained["y"].error > 2.0**-53


def test_balls_agree_with_mpmath() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Sqrt", ["x"], ["r"]),
        helper.make_node("Div", ["e", "r"], ["q"]),
        helper.make_node("Relu", ["q"], ["y"]),
    ]
    graph = model(nodes, {"x": [2]}, {"y": [2]}, element=DOUBLE)
    x = np.random.default_rng(0).uniform(0.1, 3.0, (50, 2))
    x[7, 1] = -1.0  # no real root: nothing is known there, and of the rest everything
    with target(graph, profile_named("wide", None, None, "any"), {}, None, None) as subject:
        found = ball_values(subject.exact, {"x": x})["y"]
    error = distance(x, found)
    with mp.workprec(200):
        for (i, j), value in np.ndenumerate(x):
            if value < 0.0:
                assert np.isnan(error[i, j])
                continue
            expected = mp.exp(mp.mpf(value)) / mp.sqrt(mp.mpf(value))
            assert error[i, j] == pytest.approx(float(abs(expected - mp.mpf(value))), rel=1e-15)


def test_a_graph_too_large_for_balls_is_only_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "DEAREST", 3)
    found = attacked(bumpy(DOUBLE), box(x=(1.0, 2.0)))
    assert found.tried == 0
    assert "not run: search for the largest error: errors of fp64 are only seen in ball arithmetic" in found.runtime
    assert found.attained["y"].error > 0.0


def test_onnxruntime_is_searched_where_the_simulator_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SIMULATED", 1)
    ends = box(x=(np.full((1, 6), -1.0), np.full((1, 6), 1.0)))
    for dtype, name in ((None, "onnxruntime, the worst"), ("fp16", "onnxruntime, node by node, the worst")):
        found = attacked(perceptron(), ends, points=200, dtype=dtype)
        assert f"200 points tried in {name}" in found.runtime
        assert found.attained["y"].error > 0.0


def test_every_box_of_a_union_is_searched() -> None:
    boxes = [box(x=(lo, lo + 0.5)) for lo in (0.0, 900.0, -2.0)]
    found = attacked(bumpy(HALF), boxes[0], points=1500, others=boxes[1:])
    assert found.tried == 1500
    assert 900.0 <= found.attained["y"].inputs["x"] <= 900.5
    assert all(any(X["x"].lo[0] <= x <= X["x"].hi[0] for X in boxes) for x in found.points["x"])


def test_an_overflow_is_found() -> None:
    graph = model([helper.make_node("Mul", ["x", "x"], ["y"])], {"x": []}, {"y": []})
    found = attacked(graph, box(x=(0.0, 256.1)), points=500, dtype="fp16")
    assert found.attained["y"].error == np.inf


def test_nothing_known_is_no_crash() -> None:
    graph = model([helper.make_node("Sqrt", ["x"], ["y"])], {"x": []}, {"y": []})
    found = attacked(graph, box(x=(-2.0, -1.0)), points=2000)
    assert found.tried == 2000
    assert not found.violations


def test_a_search_for_outputs_of_a_caller_s_own() -> None:
    """Such as a property: here the least computed result of x^2 - 2 x on [-4, 3]."""
    nodes = [helper.make_node("Sub", ["x", "two"], ["d"]), helper.make_node("Mul", ["x", "d"], ["y"])]
    graph = model(nodes, {"x": []}, {"y": []}, {"two": np.array(2.0, np.float32)})
    request, profile = Request(graph, region=True), profile_named("wide", None, None, "any")
    with target(graph, profile, {}, None, None) as found:
        (best,), tried = hunt(found, profile, request, box(x=(-4.0, 3.0)), [lambda trial: -trial.computed["y"]], points=2000)
        assert arena(found, profile, request, box(x=(-4.0, 3.0))).points() == attacks.MOST
    assert tried == 2000
    assert best["x"][0] == pytest.approx(1.0, abs=1e-3)


def region(graph: ModelProto, **options: Any) -> Certificate:
    return certify.certify(graph, region=True, ranges=(-1.0, 1.0), **options)


def test_the_certificate_carries_the_witness(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.json"
    found = region(bumpy(HALF), outputs=[path])
    attained = json.loads(path.read_text())["validation"]["attained"]["y"]
    assert attained["error"] == found.outputs["y"].observed_max > 0.0
    assert found.validation is not None
    assert attained["inputs"]["x"] == found.validation.attained["y"].inputs["x"]
    again = certify.certify(bumpy(HALF), data={"x": np.array(attained["inputs"]["x"], np.float16)})
    assert again.outputs["y"].observed_max == attained["error"]
    assert read.read(path).validation == document(found).validation
    print_text(document(found), color=False)
    assert "the largest error found by search" in " ".join(capsys.readouterr().out.split())
    wide = region(model([helper.make_node("Exp", ["x"], ["y"])], {"x": [70]}, {"y": [70]}))
    written = document(wide).validation
    assert written is not None
    assert written.attained["y"].inputs is None
    print_text(document(wide), color=False)
    assert "an input with sha256" in " ".join(capsys.readouterr().out.split())


def test_a_planted_lie_about_a_region_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.profiles.arithmetic import NearestArithmetic

    dot = NearestArithmetic.dot
    monkeypatch.setattr(NearestArithmetic, "dot", lambda self, *given: 0.02 * dot(self, *given))
    found = region(perceptron(), dtype="bf16", accumulate="bf16")
    assert found.gate is not None
    assert found.gate.verdict == "alarm"
    assert replace(found, validation=None).outputs["y"].tightness is not None
