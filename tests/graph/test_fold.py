"""Folding constants: movement and integers are, float arithmetic is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.graph.load import load
from certify.graph.model import InvalidModel
from certify.graph.passes.fold_constants import cast, exact_float, structural_integers
from tests.graph.build import parsed

SHAPE = "g (float[2, 3] x) => (float[2, 3] y) "


def operators(text: str, **constants: Any) -> list[str]:
    return [node.op_type for node in load(parsed(SHAPE + text, **constants)).nodes]


def test_movement_of_weights_is_folded() -> None:
    graph = load(parsed(SHAPE + "{ t = Transpose(W) r = Reshape(t, s) y = Add(x, r) }", W=np.arange(6.0, dtype=np.float32), s=[2, 3]))
    assert [node.op_type for node in graph.nodes] == ["Add"]
    np.testing.assert_array_equal(graph.values["r"].constant, np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("operator", ["Add", "Mul", "Sub", "Div"])
def test_float_arithmetic_on_weights_stays(operator: str) -> None:
    w = np.full((2, 3), 0.1, np.float32)
    assert operators(f"{{ v = {operator}(W, W) y = Add(x, v) }}", W=w) == [operator, "Add"]


def test_rounding_casts_stay_and_exact_ones_do_not() -> None:
    whole, tenth = np.ones((2, 3)), np.full((2, 3), 0.1)
    assert operators("{ v = Cast<to = 1>(W) y = Add(x, v) }", W=whole) == ["Add"]
    assert operators("{ v = Cast<to = 1>(W) y = Add(x, v) }", W=tenth) == ["Cast", "Add"]
    assert operators("{ v = Cast<to = 1>(W) y = Add(x, v) }", W=np.full((2, 3), 2**24 + 1)) == ["Cast", "Add"]


def test_cast_like_reads_the_type_alone() -> None:
    assert operators("{ v = CastLike(W, x) y = Add(x, v) }", W=np.ones((2, 3))) == ["Add"]
    (cast_node, _) = load(parsed(SHAPE + "{ v = CastLike(W, x) y = Add(x, v) }", W=np.full((2, 3), 0.1))).nodes
    assert (cast_node.op_type, cast_node.inputs, cast_node.attributes) == ("Cast", ("W",), {"to": 1})


def test_a_comparison_of_floats_stays_because_a_narrower_format_may_decide_otherwise() -> None:
    constants = {"A": np.float32(1.0001), "B": np.float32(1.0)}
    assert operators("{ c = Greater(A, B) y = Where(c, x, x) }", **constants) == ["Greater", "Where"]


def test_sizes_computed_in_floats_are_structure() -> None:
    text = """{ s = Shape(x) f = Cast<to = 1>(s) h = Mul(f, half) d = Div(h, half) g = Floor(d) i = Cast<to = 7>(g)
                r = Reshape(x, i) y = Neg(r) }"""
    assert operators(text, half=np.float32(0.5)) == ["Reshape", "Neg"]


def test_sizes_computed_with_rounding_are_not() -> None:
    from certify.graph.model import Unsupported

    text = "{ s = Shape(x) f = Cast<to = 1>(s) h = Mul(f, third) i = Cast<to = 7>(h) r = Expand(one, i) y = Add(x, r) }"
    with pytest.raises(Unsupported, match="'r' .Expand."):
        load(parsed(SHAPE + text, third=np.float32(1 / 3), one=np.float32(1)))


def test_one_element_repeated_stays_one_element_in_memory() -> None:
    text = "g (float[1000000] x) => (float[1000000] y) { c = ConstantOfShape(s) r = Reshape(c, t) u = Squeeze(r) y = Add(x, u) }"
    constant = load(parsed(text, s=[1000, 1000], t=[1, 1000000])).values["u"].constant
    assert constant is not None
    assert constant.strides == (0,)


def test_random_numbers_are_never_folded() -> None:
    assert "RandomUniform" in operators("{ r = RandomUniform<shape = [2, 3]>() y = Add(x, r) }")


def test_integer_division_is_toward_zero_and_by_zero_is_refused() -> None:
    text = "g (float[4] x) => (float[4] y, int64[3] q) { q = Div(a, b) y = Neg(x) }"
    graph = load(parsed(text, a=[-7, 7, -6], b=[2, -2, 2]))
    assert graph.values["q"].constant.tolist() == [-3, -3, -3]  # type: ignore[union-attr]
    assert graph.outputs == ("y", "q")
    with pytest.raises(InvalidModel, match="'q' .Div. cannot be applied.*division by zero"):
        load(parsed(text, a=[1, 1, 1], b=[1, 0, 1]))


def test_an_index_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(InvalidModel, match="'i' .Gather."):
        load(parsed(SHAPE + "{ s = Shape(x) i = Gather(s, five) f = Cast<to = 1>(i) y = Add(x, f) }", five=5))


FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=4)


@given(FLOATS, FLOATS, st.sampled_from(["Add", "Sub", "Mul", "Div"]))
def test_exact_results_are_the_rationals_own(a: list[float], b: list[float], operator: str) -> None:
    from fractions import Fraction

    n = min(len(a), len(b))
    found = exact_float(operator, [np.asarray(a[:n], np.float32), np.asarray(b[:n], np.float32)])
    if found is None:
        return
    for x, y, z in zip(a, b, found, strict=False):
        p, q = Fraction(float(np.float32(x))), Fraction(float(np.float32(y)))
        exact = {"Add": p + q, "Sub": p - q, "Mul": p * q, "Div": p / q if q else Fraction(0)}[operator]
        assert Fraction(float(z)) == exact


def test_exact_results_are_found_where_there_are_some() -> None:
    six, four = np.float32([6.0]), np.float32([4.0])
    found = {op: exact_float(op, [six, four]) for op in ("Add", "Sub", "Mul", "Div")}
    assert {op: x.tolist() for op, x in found.items() if x is not None} == {"Add": [10], "Sub": [2], "Mul": [24], "Div": [1.5]}
    assert exact_float("Div", [six, np.float32([7.0])]) is None
    assert exact_float("Add", [np.float32([1.0]), np.float32([2.0**-30])]) is None


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=4))
def test_a_cast_that_is_folded_changed_nothing(whole: list[int]) -> None:
    converted = cast(np.asarray(whole, np.int64), 1)
    if converted is not None:
        assert [int(x) for x in converted] == whole


def test_structural_integers_truncate_toward_zero_and_stay_in_range() -> None:
    found = structural_integers(np.float32([2.9, -2.9]), 7)
    assert found is not None
    assert found.tolist() == [2, -2]
    assert structural_integers(np.float32([300.0]), 3) is None
    assert structural_integers(np.float32([np.inf]), 7) is None
    assert structural_integers(np.zeros(65, np.float32), 7) is None
