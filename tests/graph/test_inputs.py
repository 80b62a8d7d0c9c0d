"""Concrete input shapes: the file's, the user's, the data's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from onnx import helper

from certify.graph.load import load
from certify.graph.model import InvalidModel
from tests.graph.build import model_of, parsed


def shapes_of(
    declared: Mapping[str, Sequence[int | str | None] | None],
    shapes: Mapping[str, Sequence[int]] | None = None,
    data_shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, tuple[int, ...]]:
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in declared]
    graph = load(
        model_of(nodes, dict(declared), [f"{name}_out" for name in declared]),
        shapes,
        {name: np.empty(shape, np.float32) for name, shape in (data_shapes or {}).items()},
    )
    return {name: graph.values[f"{name}_out"].shape for name in declared}


def test_an_open_first_dimension_is_a_batch_of_one() -> None:
    assert shapes_of({"a": ["N", 3], "b": [None, 4], "c": [0, 4], "d": [-1, 4], "e": []}) == {
        "a": (1, 3),
        "b": (1, 4),
        "c": (1, 4),
        "d": (1, 4),
        "e": (),
    }


def test_an_open_inner_dimension_names_the_option() -> None:
    with pytest.raises(InvalidModel, match=r"'x'.*\[N, 3, h, \?\], of which dimension 2 is open.*--shape x=1,3,N,N"):
        shapes_of({"x": ["N", 3, "h", None]})


def test_no_shape_at_all() -> None:
    with pytest.raises(InvalidModel, match="'x' is declared without a shape; give it with --shape x="):
        shapes_of({"x": None})
    assert shapes_of({"x": None}, {"x": (2, 3)}) == {"x": (2, 3)}
    assert shapes_of({"x": None}, None, {"x": (8, 3)}) == {"x": (1, 3)}


def test_the_users_shape_wins_and_fixes_symbols_elsewhere() -> None:
    declared = {"ids": ["batch", "sequence"], "mask": ["batch", "sequence"]}
    assert shapes_of(declared, {"ids": (2, 7)}) == {"ids": (2, 7), "mask": (2, 7)}


def test_the_datas_shape_fills_what_is_open_but_the_first_dimension() -> None:
    assert shapes_of({"x": ["N", "s"]}, None, {"x": (8, 5)}) == {"x": (1, 5)}
    assert shapes_of({"x": ["N", "s"]}, None, {"x": (8, 1, 5)}) == {"x": (1, 5)}
    assert shapes_of({"x": ["N", "s"]}, {"x": (1, 6)}, {"x": (8, 5)}) == {"x": (1, 6)}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (1, 4)}, r"--shape x=1,4 contradicts the file, which fixes \[N, 3\]"),
        ({"x": (1, 3, 1)}, "has 3 dimensions; the file declares 2"),
        ({"x": (0, 3)}, "every dimension must be at least 1"),
        ({"z": (1, 3)}, "names 'z', which is no input"),
        ({"x": (1, 3), "y": (2, 3)}, "makes dimension 'N' both 1 and 2"),
    ],
)
def test_shapes_that_contradict(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        shapes_of({"x": ["N", 3], "y": ["N", 3]}, shapes)


def test_shapes_follow_through_shape_arithmetic() -> None:
    text = """g (float[N, a, b] x) => (float[n, m] y) {
        s = Shape(x)  last = Gather(s, minus_one)  double = Mul(last, two)  rest = Constant<value_ints = [-1]>()
        target = Concat<axis = 0>(rest, double)  y = Reshape(x, target)
    }"""
    graph = load(parsed(text, minus_one=[-1], two=[2]), {"x": (1, 4, 5)})
    assert [node.op_type for node in graph.nodes] == ["Reshape"]
    assert graph.values["y"].shape == (2, 10)
    assert graph.values["target"].constant.tolist() == [-1, 10]  # type: ignore[union-attr]
