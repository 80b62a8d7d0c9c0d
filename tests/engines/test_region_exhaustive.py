"""Regions of which every input can be tried: the bound holds at all of them, and one that was 1 % smaller would not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from certify.analysis.reference import at_points, stored_inputs
from certify.engines import running
from certify.engines.region import batch
from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.validate.simulate import Simulator
from certify.validate.summation import order_named
from tests.engines.test_region import program_of, searched
from tests.graph.build import parsed
from tests.profiles.test_summation import numbers

HALF = numbers(FORMATS["fp16"])
NEARLY = 0.99

# Each with constants, and ends between which no result of the last operation is a power of two (their ulp is the next binade's).
ROUNDED: dict[str, tuple[str, Mapping[str, float], float, float]] = {
    "product": ("y = Mul(x, c)", {"c": 1.37}, 1.0, 1.4),
    "sum": ("y = Add(x, c)", {"c": 100.0}, -1.0, 1.0),
    "difference": ("y = Sub(c, x)", {"c": 100.0}, -1.0, 1.0),
    "square": ("y = Mul(x, x)", {}, 1.0, 1.4),
    "quotient": ("y = Div(c, x)", {"c": 3.0}, 1.1, 1.4),
    "reciprocal": ("y = Reciprocal(x)", {}, 1.1, 1.9),
    "root": ("y = Sqrt(x)", {}, 1.1, 3.9),
    "two roundings, one at a time": ("a = Mul(x, c) y = Sub(a, x)", {"c": 0.37}, -2.0, 2.0),
    "two roundings at once": ("a = Mul(x, c) y = Add(a, d)", {"c": 0.37, "d": 3.1}, -2.0, 2.0),
    "a larger slope behind": ("a = Mul(x, c) y = Mul(a, d)", {"c": 0.37, "d": 64.0}, 1.0, 2.5),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_bounds_over_all_numbers_are_attained(name: str) -> None:
    text, constants, lo, hi = ROUNDED[name]
    model = parsed(f"g (float16[1] x) => (float16[1] y) {{ {text} }}", **{key: np.float16([value]) for key, value in constants.items()})
    with np.errstate(all="ignore"):
        _, search = searched(model, {"x": (lo, hi)}, 3000)
        points = {"x": HALF[(lo <= HALF) & (hi >= HALF)][:, None]}
        program = program_of(model, None, "ieee")
        error = np.abs(Simulator(program, 1 << 62).run(points, order_named("sequential"))["y"] - exactly(program, points)[0])
    bound = float(search.known.values.max())
    assert float(error.max()) <= bound
    assert float(error.max()) > NEARLY * bound


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8e4m3"])
def test_what_conversion_alone_does_is_bounded_by_itself(dtype: str) -> None:
    """Of constants that the format does not hold, and that nothing rounds later."""
    program = program_of(parsed("g (float[1] x) => (float[1] y) { y = Max(x, c) }", c=np.float32([0.1])), dtype)
    box = {"x": Enclosure(np.array([[-2.0]]), np.array([[-1.0]]))}
    with np.errstate(all="ignore"):
        bound = float(batch.evaluate(program, box).bounds["y"].max())
    error = abs(float(round_to(np.float64(np.float32(0.1)), FORMATS[dtype])) - float(np.float32(0.1)))
    assert error <= bound
    assert error > NEARLY * bound


def test_ranges_of_linear_graphs_are_attained_at_corners() -> None:
    program = program_of(
        parsed("g (float[2,3] x) => (float[2,3] y) { a = Mul(x, c) b = Sub(a, x) y = Add(b, c) }", c=np.float32([1.75])), None
    )
    draw = np.random.default_rng(3)
    lo = np.float32(draw.uniform(-3.0, 3.0, size=(20, 2, 3))).astype(np.float64)
    hi = lo + np.float32(draw.uniform(0.1, 3.0, size=lo.shape)).astype(np.float64)
    hi = round_to(hi, FORMATS["fp32"])
    with np.errstate(all="ignore"):
        X = batch.evaluate(program, {"x": Enclosure(lo, hi)}).ranges["y"]
    slack = (1.0 - NEARLY) * (hi - lo) * 0.75
    least, most = 0.75 * lo + 1.75, 0.75 * hi + 1.75
    assert (X.lo <= least).all()
    assert (most <= X.hi).all()
    assert (X.lo > least - slack).all()
    assert (X.hi < most + slack).all()


def exactly(program: Any, points: Mapping[str, Array]) -> tuple[Array, Array]:
    """The exact results of "y", and what the reference itself may be off by."""
    exact = at_points(program, program.exact, dict(points), {})
    return exact.values["y"].lo, running.solve(exact, False).outputs["y"]


TABLE = np.float32([[1.3, -2.7], [0.2, 5.1], [9.9, -8.8], [3.3, 0.1], [-4.4, 7.7], [6.1, 2.2]])
WHOLE: dict[str, tuple[str, Mapping[str, Any], int, int]] = {
    "Gather": ("g (int64[1] i) => (float[1,2] y) { y = Gather(c, i) }", {"c": TABLE}, 0, 5),
    "Gather, squared": ("g (int64[1] i) => (float[1,2] y) { a = Gather(c, i) y = Mul(a, a) }", {"c": TABLE}, 0, 5),
    "Cast": ("g (int64[1] i) => (float[1] y) { f = Cast<to=1>(i) y = Mul(f, f) }", {}, -3, 4),
    "Mod": ("g (int64[1] i) => (float[1] y) { m = Mod(i, c) y = Cast<to=1>(m) }", {"c": np.array([3])}, -4, 5),
    "Div": ("g (int64[1] i) => (float[1] y) { m = Div(i, c) y = Cast<to=1>(m) }", {"c": np.array([2])}, 0, 7),
    "Equal": ("g (int64[1] i) => (float[1] y) { m = Equal(i, c) y = Cast<to=1>(m) }", {"c": np.array([2])}, 0, 3),
    "OneHot": ("g (int64[1] i) => (float[1,4] y) { y = OneHot(i, d, c) }", {"d": np.array(4), "c": np.float32([0.1, 2.3])}, 0, 3),
    "Where": ("g (bool[1] i) => (float[1] y) { y = Where(i, a, b) }", {"a": np.float32([1.1]), "b": np.float32([-3.3])}, 0, 1),
    "BitShift": (
        'g (uint8[1] i) => (float[1] y) { m = BitShift<direction="LEFT">(i, c) y = Cast<to=1>(m) }',
        {"c": np.array([1], np.uint8)},
        0,
        7,
    ),
    "Not": ("g (bool[1] i) => (float[1] y) { m = Not(i) y = Cast<to=1>(m) }", {}, 0, 1),
    "Xor": ("g (bool[1] i) => (float[1] y) { m = Xor(i, c) y = Cast<to=1>(m) }", {"c": np.array([True])}, 0, 1),
    "Abs": ("g (int64[1] i) => (float[1] y) { m = Abs(i) y = Cast<to=1>(m) }", {}, -3, 4),
    "DequantizeLinear": ("g (int8[1] i) => (float[1] y) { y = DequantizeLinear(i, c) }", {"c": np.float32(0.3)}, -8, 7),
}


@pytest.mark.parametrize("name", WHOLE)
def test_no_integer_of_a_box_leaves_what_was_proved(name: str) -> None:
    """Boxes of every width, odd ones among them, whose middle is no integer."""
    text, constants, least, most = WHOLE[name]
    program = program_of(parsed(text, **constants), None)
    every = np.arange(least, most + 1.0)
    pairs = np.array([(lo, hi) for lo in every for hi in every if lo <= hi])
    held, _ = stored_inputs(program, {"i": every[:, None]})
    with np.errstate(all="ignore"):
        run = Simulator(program, 1 << 62).run(held, order_named("sequential"))["y"]
        exact, doubt = exactly(program, {"i": every[:, None]})
        found = batch.evaluate(program, {"i": Enclosure(pairs[:, :1], pairs[:, 1:])})
    X, bound = found.ranges["y"], found.bounds["y"]
    for k, (lo, hi) in enumerate(pairs):
        inside = (every >= lo) & (every <= hi)
        assert (exact[inside] + doubt[inside] >= X.lo[k]).all()
        assert (exact[inside] - doubt[inside] <= X.hi[k]).all()
        assert (np.abs(run[inside] - exact[inside]) - doubt[inside] <= bound[k]).all()
