"""Attacks on certificates of regions: no input of a box, in any conforming run, may leave what was proved of the box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from certify.analysis.bind import bind
from certify.analysis.program import Program
from certify.analysis.reference import at_points, stored_inputs
from certify.engines import running
from certify.engines.region import batch, computed, many
from certify.engines.region.boxes import Layout, next_above, next_below
from certify.engines.region.error import ErrorBounds
from certify.engines.region.search import Search
from certify.graph.load import load
from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS, format_named
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.profiles import profile_named
from certify.validate.summation import order_named
from tests.engines.networks import perceptron
from tests.graph.build import parsed
from tests.hostile import Hostile

FP32 = FORMATS["fp32"]


def program_of(model: onnx.ModelProto, dtype: str | None, profile: str = "wide") -> Program:
    return bind(load(model), profile_named(profile, None if dtype is None else format_named(dtype), None, "any"))


def boxes_of(program: Program, shapes: Mapping[str, tuple[int, ...]], count: int, seed: int, reach: float = 2.0) -> dict[str, Enclosure]:
    """Boxes of many widths, from single numbers to half the domain, with ends in the inputs' own format."""
    draw = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        middle = draw.uniform(-reach, reach, size=(count, *shape))
        width = reach * 2.0 ** -draw.integers(0, 30, size=(count, *(1,) * len(shape))).astype(np.float64)
        width[:2] = 0.0
        storage = program.declared[name]
        assert storage is not None
        found[name] = Enclosure(round_to(middle - width, storage), round_to(middle + width, storage))
    return found


def points_in(box: Mapping[str, Enclosure], program: Program, draw: np.random.Generator) -> dict[str, Array]:
    """A point of each box: a corner, or any numbers of the format."""
    found = {}
    for name, X in box.items():
        storage = program.declared[name]
        assert storage is not None
        t = draw.random(X.shape)
        inside = np.clip(round_to(X.lo * (1.0 - t) + X.hi * t, storage), X.lo, X.hi)
        corner = np.where(draw.random(X.shape) < 0.5, X.lo, X.hi)
        found[name] = np.where(draw.random((X.shape[0], *(1,) * (X.lo.ndim - 1))) < 0.5, corner, inside)
    return found


def escapes(program: Program, box: dict[str, Enclosure], found: batch.Batch, tries: int, seed: int) -> list[str]:
    """Every point and run that leaves the ranges or the bounds."""
    draw = np.random.default_rng(seed)
    left = []
    for _ in range(tries):
        points = points_in(box, program, draw)
        exact = at_points(program, program.exact, points, {})
        doubt = running.solve(exact, False).outputs
        held, _ = stored_inputs(program, points)
        run = Hostile(program, draw).run(held, order_named("sequential"))
        for name, bound in found.bounds.items():
            z, X = exact.values[name].lo, found.ranges[name]
            if ((z + doubt[name] < X.lo) | (z - doubt[name] > X.hi)).any():
                left.append(f"{name}: the exact value leaves its range")
            if (np.abs(run[name] - z) - doubt[name] > bound).any():
                left.append(f"{name}: the error leaves its bound")
        for step in exact.steps:
            z, X = exact.values[step.output].lo, found.bounding.problem.values[step.output]
            if ((z < X.lo - 1e-9 * (1 + np.abs(z))) | (z > X.hi + 1e-9 * (1 + np.abs(z)))).any():
                left.append(f"{step.output}: a value leaves its range")
    return left


MODELS: dict[str, tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]] = {
    "relu": (perceptron([3, 8, 8, 2], "Relu", 1), {"x": (1, 3)}),
    "tanh": (perceptron([3, 6, 6, 2], "Tanh", 2), {"x": (1, 3)}),
    "sigmoid": (perceptron([2, 7, 3], "Sigmoid", 3), {"x": (1, 2)}),
    "products": (
        parsed("g (float[3] x, float[3] w) => (float[3] y) { a = Mul(x, w) b = Mul(a, x) c = Sub(b, w) d = Add(c, a) y = Mul(d, d) }"),
        {"x": (3,), "w": (3,)},
    ),
    "quotient": (
        parsed("g (float[3] x) => (float[3] y) { a = Mul(x, x) b = Add(a, c) d = Div(x, b) y = Sub(x, d) }", c=np.float32([1.5])),
        {"x": (3,)},
    ),
    "root": (
        parsed(
            "g (float[3] x) => (float[3] y) { a = Mul(x, x) b = Add(a, c) d = Sqrt(b) e = Neg(a) f = Exp(e) y = Mul(d, f) }",
            c=np.float32([0.5]),
        ),
        {"x": (3,)},
    ),
    "softmax": (parsed("g (float[1,4] x) => (float[1,4] y) { a = Mul(x, c) y = Softmax(a) }", c=np.float32([0.5])), {"x": (1, 4)}),
    "pooled": (parsed("g (float[1,1,4] x) => (float[1,1,3] y) { y = MaxPool<kernel_shape=[2]>(x) }"), {"x": (1, 1, 4)}),
    "twice": (parsed("g (float[2] x) => (float[2] y) { a = Mul(x, c) y = Mul(a, x) }", c=np.float32([0.125])), {"x": (2,)}),
}


@pytest.mark.parametrize("dtype", [None, "bf16", "fp16", "fp8e4m3"])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_leaves_what_was_proved(name: str, dtype: str | None) -> None:
    model, shapes = MODELS[name]
    program = program_of(model, dtype)
    box = boxes_of(program, shapes, 40, 5)
    with np.errstate(all="ignore"):
        found = batch.evaluate(program, box)
        assert escapes(program, box, found, 12, 7) == []
    assert np.isfinite(found.bounds["y"]).any()


def lies(monkeypatch: pytest.MonkeyPatch, name: str, dtype: str) -> list[str]:
    model, shapes = MODELS[name]
    program = program_of(model, dtype)
    box = boxes_of(program, shapes, 60, 5)
    with np.errstate(all="ignore"):
        return escapes(program, box, batch.evaluate(program, box), 20, 7)


def test_narrower_ranges_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = batch.BoxSweep.deviation

    def shrunk(self: many.BoxSweep, name: str) -> Enclosure | None:
        E = honest(self, name)
        return None if E is None else Enclosure(0.99 * E.lo, 0.99 * E.hi)

    monkeypatch.setattr(batch.BoxSweep, "deviation", shrunk)
    assert lies(monkeypatch, "relu", "fp16")


def test_a_forgotten_move_of_constants_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch.Errors, "_linearize", many.BoxSweep._linearize)
    assert lies(monkeypatch, "twice", "fp8e4m3") or lies(monkeypatch, "relu", "fp8e4m3")


def test_forgotten_rounding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computed.RangedState, "magnitude", lambda self, step, reached: 0.25 * reached)
    assert lies(monkeypatch, "products", "bf16")


def test_a_slope_forgotten_in_rows_of_chosen_boxes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that meet the map of a box that is not theirs."""
    honest = many.BoxSweep._enclosed

    def mixed(self: Any, name: str, order: Any, lost: float, rows: Array, cases: Any) -> Enclosure:
        return honest(self, name, order, lost, rows, None if cases is None else np.roll(cases, 1))

    monkeypatch.setattr(many.BoxSweep, "_enclosed", mixed)
    assert lies(monkeypatch, "relu", "fp16") or lies(monkeypatch, "products", "fp16")


def test_neighbours_of_every_number() -> None:
    every = np.unique(np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64))
    every = every[np.isfinite(every)]
    assert np.array_equal(next_above(every[:-1], FORMATS["fp16"]), every[1:])
    assert np.array_equal(next_below(every[1:], FORMATS["fp16"]), every[:-1])


def test_parts_hold_every_number_of_the_box() -> None:
    """Cut down to single numbers, an fp16 box is each of its numbers once."""
    model = parsed("g (float16[1] x) => (float16[1] y) { y = Mul(x, x) }")
    program = program_of(model, None)
    layout = Layout.of(program, [{"x": Enclosure(np.array([[-0.0009765625]]), np.array([[0.00341796875]]))}])
    lo, hi = layout.whole
    while (lo < hi).any():
        lo, hi = layout.split(lo, hi, np.zeros(lo.shape[0], dtype=np.intp))
        lo, hi = (np.unique(np.stack([lo[:, 0], hi[:, 0]], axis=1), axis=0)[:, i : i + 1] for i in (0, 1))
    every = np.unique(np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64))
    assert np.array_equal(lo[:, 0], every[(every >= -0.0009765625) & (every <= 0.00341796875)])


def test_integers_are_cut_between_integers() -> None:
    model = parsed("g (int64[1] i) => (float[1] y) { y = Cast<to=1>(i) }")
    program = program_of(model, None)
    layout = Layout.of(program, [{"i": Enclosure(np.array([[-3.0]]), np.array([[4.0]]))}])
    lo, hi = layout.split(*layout.whole, np.zeros(1, dtype=np.intp))
    assert np.stack([lo[:, 0], hi[:, 0]], axis=1).tolist() == [[-3.0, 0.0], [1.0, 4.0]]


def searched(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], boxes: int) -> tuple[ErrorBounds, Search]:
    program = program_of(model, None, "ieee")
    graph = load(model)
    box = {
        name: Enclosure(np.full((1, *graph.values[name].shape), lo), np.full((1, *graph.values[name].shape), hi))
        for name, (lo, hi) in ranges.items()
    }
    question = ErrorBounds(program, Layout.of(program, [box]))
    search = Search(question)
    for count in search.rounds():
        if count >= boxes:
            break
    return question, search


DOPPLER = """g (double t, double u, double v) => (double y) {
    a = Mul(c, t) s = Add(b, a) n = Neg(s) m = Mul(n, v) p = Add(s, u) d = Mul(p, p) y = Div(m, d) }"""


def test_splitting_reaches_what_other_tools_prove() -> None:
    """doppler1: FPTaylor's best 8.02e-14 and Gappa's 1.29e-13 for inputs that are numbers already (see benchmarks/kernels.md)."""
    with np.errstate(all="ignore"):
        question, search = searched(
            parsed(DOPPLER, c=np.float64(0.6), b=np.float64(331.4)), {"t": (-30.0, 50.0), "u": (-100.0, 100.0), "v": (20.0, 20000.0)}, 3000
        )
    upper = float(search.known.values.max())
    assert upper <= 8.02e-14
    assert upper <= 1.002 * float(question.lower[0])
    assert search.ended == "nothing left to gain"


def test_a_square_around_zero_has_no_slope_and_is_cut_all_the_same() -> None:
    """At the middle of the box sqrt(x + y^2) does not move with y, to first order: yet y is what its error comes from."""
    model = parsed("g (float x, float y) => (float z) { a = Mul(y, y) b = Add(x, a) z = Sqrt(b) }")
    _, search = searched(model, {"x": (0.125, 10.0), "y": (-5.0, 5.0)}, 1)
    whole = float(search.known.values.max())
    assert whole < 5e-6
    _, search = searched(model, {"x": (0.125, 10.0), "y": (-5.0, 5.0)}, 400)
    assert float(search.known.values.max()) < 5e-7


def test_a_part_is_never_worse_than_the_whole() -> None:
    with np.errstate(all="ignore"):
        question, search = searched(perceptron([2, 6, 6, 1], "Relu", 4), {"x": (-1.0, 1.0)}, 200)
        whole = question.ask(search_whole(question)).values.max()
    assert (search.known.values <= whole).all()
    assert float(search.known.values.max()) < 0.9 * whole


def search_whole(question: ErrorBounds) -> Any:
    from certify.engines.region.search import Asked

    return Asked(*question.layout.start, np.zeros(1, dtype=np.intp), question.told)


def test_the_parts_cover_the_box() -> None:
    with np.errstate(all="ignore"):
        _, search = searched(perceptron([2, 5, 1], "Tanh", 4), {"x": (-1.0, 1.0)}, 100)
    draw = np.random.default_rng(0)
    points = round_to(draw.uniform(-1.0, 1.0, size=(2000, 1, 2)), FP32)[:, 0]
    held = ((search.known.lo <= points[:, None]) & (points[:, None] <= search.known.hi)).all(axis=2)
    assert held.any(axis=1).all()


def test_models_without_inputs_that_vary() -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    with np.errstate(all="ignore"):
        _, search = searched(model, {"x": (0.5, 0.5)}, 10)
    assert len(search.known) == 1
    assert search.known.values.max() == 0.0
