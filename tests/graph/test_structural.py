"""Inputs that decide a model's structure take their values from the data."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import certify

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(nodes: list[object], inputs: dict[str, tuple[int, list[int | str]]], output: str = "y") -> object:
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_empty_tensor_value_info(output)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


X = np.arange(6, dtype=np.float32).reshape(2, 3)
RESHAPED = model(
    [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("Exp", ["r"], ["y"])], {"x": (FLOAT, [2, 3]), "s": (INT64, [2])}
)


def test_a_shape_is_read_from_the_data() -> None:
    found = certify.certify(RESHAPED, data={"x": X, "s": np.array([3, 2])})
    assert found.outputs["y"].reference.shape == (1, 3, 2)
    assert np.isfinite(found.outputs["y"].tightness or np.nan)


def test_cases_that_agree_share_it() -> None:
    found = certify.certify(RESHAPED, data={"x": np.stack([X, X]), "s": np.array([[6, 1], [6, 1]])}, validate=False)
    assert found.outputs["y"].reference.shape == (2, 6, 1)


@pytest.mark.parametrize("data", [None, {"x": np.stack([X, X]), "s": np.array([[6, 1], [3, 2]])}])
def test_without_one_value_the_operator_is_refused(data: dict[str, np.ndarray] | None) -> None:
    with pytest.raises(certify.Unsupported, match="Reshape"):
        certify.certify(RESHAPED, data=data)


def test_what_only_computes_stays_an_input() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Expand", ["b", "s"], ["e"]),
        helper.make_node("Add", ["x", "e"], ["y"]),
    ]
    found = certify.certify(model(nodes, {"x": (FLOAT, [2, 3]), "b": (FLOAT, [])}), data={"x": X, "b": np.float32(0.1)}, dtype="fp16")
    assert found.model.parameters == 0
    assert 0 < float(found.outputs["y"].absolute_bound.max()) < 1


def test_it_is_found_inside_bodies_and_functions() -> None:
    cut = helper.make_function(
        "com.example",
        "Cut",
        ["a", "n"],
        ["c"],
        [
            helper.make_node("Constant", [], ["z"], value_ints=[0]),
            helper.make_node("Slice", ["a", "z", "n"], ["c"]),
        ],
        [helper.make_opsetid("", 18)],
    )
    outer = model([helper.make_node("Cut", ["x", "n"], ["y"], domain="com.example")], {"x": (FLOAT, [2, 3]), "n": (INT64, [1])})
    outer.functions.append(cut)  # type: ignore[attr-defined]
    outer.opset_import.append(helper.make_opsetid("com.example", 1))  # type: ignore[attr-defined]
    assert certify.certify(outer, data={"x": X, "n": np.array([1])}, validate=False).outputs["y"].reference.shape == (1, 1, 3)
