"""Relations of operands: what they say holds of every point of every box, exactly, and of emulated computed values; lies are caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import certify
from certify.analysis import relations
from certify.analysis.bind import bind
from certify.analysis.reference import over_region
from certify.engines.region.batch import errors, ranges
from certify.graph.load import load
from certify.number.enclosure import Enclosure
from certify.number.formats import format_named
from certify.number.rounding import round_to
from certify.profiles import profile_named
from certify.semantics import ops
from tests.graph.build import parsed

assert ops.__path__

AXIS = "int64[1] last = {1}, float two = {2.0}, float e = {0.5}, float tiny = {0.00001}"
HEAD = f"g (float[2, 3] x, float[2, 3] c) => (float[2, 3] y) <{AXIS}>"
BODIES = {
    "square": "y = Mul (x, x)",
    "square of a square": "s = Mul (x, x) t = Identity (s) y = Mul (s, t)",
    "nothing": "y = Sub (x, x)",
    "one": "s = Exp (x) y = Div (s, s)",
    "below the maximum": "m = ReduceMax (x, last) y = Sub (x, m)",
    "above the minimum": "m = ReduceMin <keepdims = 0> (x) y = Sub (x, m)",
    "the maximum less": "m = ReduceMax (x, last) y = Sub (m, x)",
    "the larger less": "m = Max (c, x) y = Sub (m, x)",
    "softmax": "m = ReduceMax (x, last) d = Sub (x, m) p = Exp (d) s = ReduceSum (p, last) y = Div (p, s)",
    "softmax over all": "m = ReduceMax <keepdims = 0> (x) d = Sub (x, m) p = Exp (d) s = ReduceSum <keepdims = 0> (p) y = Div (p, s)",
    "misaligned": "t = Slice (x, zero, size, both) m = ReduceMax <keepdims = 0> (t, last) y = Sub (t, m)",
    "share": "a = Abs (x) b = Abs (c) s = Add (b, a) y = Div (a, s)",
    "share of a sum": "a = Abs (x) b = Add (a, e) s = Add (b, a) y = Div (a, s)",
    "share of what may be negative": "a = Abs (x) s = Add (c, a) y = Div (a, s)",
    "unit vector": "q = Mul (x, x) s = ReduceSum (q, last) t = Add (s, e) r = Sqrt (t) y = Div (x, r)",
    "rms": "q = Mul (x, x) s = ReduceMean (q, last) t = Add (e, s) r = Sqrt (t) i = Reciprocal (r) y = Mul (x, i)",
    "floored norm": "s = ReduceL2 (x, last) t = Max (s, e) y = Div (x, t)",
    "cosine": "q = Pow (x, two) p = Mul (c, c) s = Add (q, p) t = Add (s, e) r = Sqrt (t) y = Div (x, r)",
    "norm of another": "q = Mul (c, c) s = ReduceSum (q, last) t = Add (s, e) r = Sqrt (t) y = Div (x, r)",
    "variance": "q = Mul (x, x) s = ReduceMean (q, last) m = ReduceMean (x, last) t = Mul (m, m) v = Sub (s, t) y = Add (v, c)",
    "other axes": "q = Mul (x, x) s = ReduceMean <keepdims = 0> (q) m = ReduceMean (x, last) t = Mul (m, m) v = Sub (s, t) y = Add (v, c)",
}
MORE = {"zero": np.array([0, 0]), "size": np.array([2, 2]), "both": np.array([0, 1])}


def program_of(body: str, dtype: str = "fp32", text: str = "") -> Any:
    text = text or f"{HEAD} {{ {body} }}"
    model = parsed(text.replace("float[2, 3] y", "float[2, 2] y") if "Slice" in body else text, 18, **(MORE if "Slice" in body else {}))
    return bind(load(model), profile_named("wide", format_named(dtype), None, "any"))


def boxes(draw: np.random.Generator, count: int) -> dict[str, Enclosure]:
    found = {}
    for name in ("x", "c"):
        a = draw.normal(size=(count, 2, 3)) * 10.0 ** draw.integers(-3, 2, size=(count, 1, 1))
        wide = np.abs(draw.normal(size=(count, 2, 3))) * draw.choice([0.0, 0.01, 1.0, 8.0], size=(count, 2, 3))
        a = np.where(draw.random(a.shape) < 0.15, 0.0, a)
        found[name] = Enclosure(a - wide * draw.integers(0, 2, size=a.shape), a + wide)
    return found


def points(draw: np.random.Generator, box: dict[str, Enclosure]) -> dict[str, np.ndarray]:
    """Of every box one: ends, or any number between; now and then one number for all elements, where the box has it."""
    found = {}
    for name, X in box.items():
        t = draw.choice([0.0, 1.0, -1.0], size=X.shape)
        found[name] = np.clip(np.where(t < 0.0, X.lo + draw.random(X.shape) * (X.hi - X.lo), np.where(t == 0.0, X.lo, X.hi)), X.lo, X.hi)
        alike = np.clip(np.median(found[name], axis=2, keepdims=True), X.lo, X.hi)
        found[name] = np.where(draw.random((X.shape[0], 1, 1)) < 0.3, alike, found[name])
    return found


def exactly(program: Any, at: dict[str, np.ndarray]) -> dict[str, Any]:
    """Every value in 200 bits."""
    values: dict[str, Any] = {name: np.vectorize(mpf, otypes=[object])(x) for name, x in {**program.exact, **at}.items()}
    for step in program.steps:
        values[step.output] = step.rule.value(*(None if name is None else values[name] for name in step.operands), **step.attributes)
    return values


def attack(body: str, seed: int, rounds: int = 12) -> list[str]:
    """Names of values that leave their ranges at some point."""
    draw, program = np.random.default_rng(seed), program_of(body)
    box = boxes(draw, 24)
    lost = []
    with mp.workprec(200):
        for found in (over_region(program, box).values, ranges(program, box)[0].values):
            for _ in range(rounds):
                values = exactly(program, points(draw, box))
                for step in program.steps:
                    Y, y = found[step.output], values[step.output]
                    for lo, hi, v in np.nditer([np.broadcast_to(Y.lo, y.shape), np.broadcast_to(Y.hi, y.shape), y], flags=["refs_ok"]):
                        number = v.item()
                        if mp.isfinite(number) and not mpf(float(lo)) <= number <= mpf(float(hi)):
                            lost.append(step.output)
    return lost


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_point_of_every_box_lies_within(body: str) -> None:
    assert not attack(body, 1, 3)


def test_a_reduction_that_is_not_aligned_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "_aligned", lambda reduced, x: True)
    assert attack(BODIES["misaligned"], 1, 3)


def test_a_mean_over_other_groups_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "_is_variance", lambda *_: True)
    assert attack(BODIES["share"].replace("s = Add", "s = Sub"), 1, 3)
    assert attack(BODIES["other axes"], 1, 3)


ALIKE = {
    "least": (lambda self, name: np.ones(1), BODIES["share of what may be negative"]),
    "squared": (lambda self, name, x: True, BODIES["norm of another"]),
    "size": (lambda self, step: 1, BODIES["rms"].replace("(e, s)", "(tiny, s)")),
    "covers": (lambda self, large, small: np.ones(1, dtype=bool), "y = Sub (x, c)"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_lies_about_the_graph_are_caught(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lie, body = ALIKE[name]
    monkeypatch.setattr(relations.Graph, name, lie)
    assert attack(body, 1, 3)


def test_what_is_gained() -> None:
    wide = {name: Enclosure(np.full((1, 2, 3), -5.0), np.full((1, 2, 3), 5.0)) for name in ("x", "c")}

    def extremes(name: str, value: str = "y") -> tuple[float, float]:
        Y = over_region(program_of(BODIES[name]), wide).values[value]
        return float(Y.lo.min()), float(Y.hi.max())

    assert extremes("square") == (0.0, 25.0)
    assert extremes("nothing") == (0.0, 0.0)
    assert extremes("one") == (1.0, 1.0)
    assert extremes("below the maximum") == (-10.0, 0.0)
    assert extremes("above the minimum") == extremes("the maximum less") == (0.0, 10.0)
    assert extremes("the larger less") == (0.0, 10.0)
    for name in ("softmax", "softmax over all"):
        low, high = extremes(name)
        assert 0.0 <= low < 1e-4
        assert high == 1.0
        assert extremes(name, "s")[0] == 1.0
    low, high = extremes("share of a sum")
    assert low == 0.0
    assert 5.0 / 5.5 <= high < 1.0
    for name in ("unit vector", "floored norm", "cosine"):
        assert extremes(name) == (-1.0, 1.0)
    assert extremes("rms")[1] == pytest.approx(3**0.5)
    assert extremes("variance", "v") == (0.0, pytest.approx(25.0))
    assert extremes("other axes", "v")[0] < 0.0


@pytest.mark.parametrize("operator", ["Sigmoid", "Tanh", "Abs", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Softmax"])
def test_rules_that_need_no_relation(operator: str) -> None:
    """Their own ranges are as narrow."""
    wide = {name: Enclosure(np.full((1, 2, 3), -50.0), np.full((1, 2, 3), 50.0)) for name in ("x", "c")}
    program = program_of("", text=f"{HEAD.replace('float[2, 3] y', 'float y')} {{ y = {operator} (x) }}")
    Y = over_region(program, wide).values["y"]
    low, high = {
        "Sigmoid": (0.0, 1.0),
        "Tanh": (-1.0, 1.0),
        "Softmax": (0.0, 1.0),
        "Abs": (0.0, 50.0),
        "ReduceL1": (0.0, 300.0),
        "ReduceL2": (0.0, 50.0 * 6**0.5),
        "ReduceSumSquare": (0.0, 15000.0),
    }[operator]
    assert low <= float(Y.lo.min()) <= low + 1e-20
    assert float(Y.hi.max()) == pytest.approx(high, rel=1e-14)
    assert operator not in ("Sigmoid", "Tanh", "Softmax") or float(Y.hi.max()) <= high


@pytest.mark.parametrize("dtype", ["fp8e4m3", "fp16"])
@pytest.mark.parametrize("name", ["square", "nothing", "below the maximum", "above the minimum", "variance", "softmax"])
def test_computed_values_lie_within_their_ranges(dtype: str, name: str) -> None:
    """Every operation rounded to nearest, each sum in index order: an execution that the profile admits."""
    draw, program, storage = np.random.default_rng(5), program_of(BODIES[name], dtype), format_named(dtype)
    box = {name: Enclosure(*(np.sort([round_to(e, storage) for e in (X.lo, X.hi)], axis=0))) for name, X in boxes(draw, 24).items()}
    problem, _ = ranges(program, box)
    state = errors(program, problem).ranged
    for _ in range(12):
        values = dict(program.stored)
        values |= {name: round_to(x, storage) for name, x in points(draw, box).items()}
        for step in program.steps:
            with np.errstate(all="ignore"):
                y = step.rule.value(*(None if name is None else values[name] for name in step.operands), **step.attributes)
                values[step.output] = y = round_to(np.asarray(y), step.arithmetic.storage)
            Y = state.computed[step.output]
            finite = np.isfinite(y)
            assert ((Y.lo <= y) & (y <= Y.hi))[finite].all(), step.output


def test_a_computed_variance_may_be_negative() -> None:
    program, storage = program_of(BODIES["variance"], "fp16"), format_named("fp16")
    X = Enclosure(np.full((1, 2, 3), 9.0), np.full((1, 2, 3), 11.0))
    problem, _ = ranges(program, {"x": X, "c": X})
    assert float(problem.values["v"].lo.min()) == 0.0
    assert float(errors(program, problem).ranged.computed["v"].lo.min()) < 0.0
    assert storage.name == "fp16"


def test_regions_with_relations_hold_in_runs() -> None:
    text = f"{HEAD} {{ q = Mul (x, x) m = ReduceMax (q, last) d = Sub (q, m) p = Exp (d) t = ReduceSum (p, last) y = Div (p, t) }}"
    found = certify.certify(
        parsed(text.replace(", float[2, 3] c", "")), dtype="bf16", region=True, ranges={"x": (-2.0, 3.0)}, samples=100, time_limit=2.0
    )
    assert found.validation is not None
    assert not found.validation.violations
    assert np.isfinite(found.outputs["y"].absolute_bound).all()
