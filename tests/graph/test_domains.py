"""The table of the runtime's own operators, against the schemas that onnxruntime registers, and through loading."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from certify.errors import InvalidModel, Unsupported
from certify.graph.domains import operators
from certify.graph.domains.contract import Operator
from certify.graph.load import load


def registered() -> dict[tuple[str, str], Any]:
    """onnxruntime's first version of each of its operators."""
    from onnxruntime.capi import _pybind_state

    return {(s.domain, s.name): s for s in sorted(_pybind_state.get_all_operator_schema(), key=lambda s: -s.since_version)}


SCHEMAS = registered()
ROWS = sorted(operators().values(), key=lambda row: (row.domain, row.name))


def told(formals: Any, constraints: dict[str, frozenset[str]]) -> list[tuple[str, str, frozenset[str]]]:
    """(name, option, types) of each operand or result."""
    plain = [(f.name, str(f.option).split(".")[-1], getattr(f, "type_str", None) or f.typeStr) for f in formals]
    return [(name, option, constraints.get(kind, frozenset({kind}))) for name, option, kind in plain]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.domain}-{row.name}")
def test_a_row_is_what_onnxruntime_registers(row: Operator) -> None:
    theirs, ours = SCHEMAS[row.domain, row.name], row.schema
    assert theirs.since_version == 1
    allowed = {c.type_param_str: frozenset(c.allowed_type_strs) for c in theirs.type_constraints}
    claimed = {c.type_param_str: frozenset(c.allowed_type_strs) for c in ours.type_constraints}
    for mine, other in ((ours.inputs, theirs.inputs), (ours.outputs, theirs.outputs)):
        for (name, option, kinds), (their_name, their_option, their_kinds) in zip(told(mine, claimed), told(other, allowed), strict=True):
            assert (name, option) == (their_name, their_option)
            assert kinds <= their_kinds
    assert set(ours.attributes) == set(theirs.attributes)
    for name, attribute in ours.attributes.items():
        other = theirs.attributes[name]
        assert str(attribute.type).split(".")[-1] == str(other.type).split(".")[-1], name
        assert attribute.required == other.required, name
        default = onnx.AttributeProto.FromString(other._default_value) if other._default_value else onnx.AttributeProto()
        assert attribute.default_value.SerializeToString() == default.SerializeToString() or (
            attribute.default_value.type == default.type == onnx.AttributeProto.FLOAT and attribute.default_value.f == default.f
        ), name


def one(name: str, operands: dict[str, tuple[int, ...]], domain: str = "com.microsoft", **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(name, list(operands), ["y"], domain=domain, name="n", **attributes)
    inputs = [helper.make_tensor_value_info(x, 1, shape) for x, shape in operands.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_empty_tensor_value_info("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (one("FusedMatMul", {"a": (3, 2, 4), "b": (3, 5, 4)}, transB=1), (3, 2, 5)),
        (one("FusedMatMul", {"a": (2, 3, 4), "b": (3, 4, 5)}, transBatchA=1), (3, 2, 5)),
        (one("FusedMatMul", {"a": (4,), "b": (4, 5)}, alpha=0.5), (5,)),
        (one("FusedGemm", {"a": (4, 2), "b": (4, 5), "c": (5,)}, transA=1, activation="Relu"), (2, 5)),
        (
            one("FusedConv", {"x": (1, 3, 8, 8), "w": (6, 3, 3, 3), "b": (6,), "z": (1, 6, 4, 4)}, strides=[2, 2], pads=[1, 1, 1, 1]),
            (1, 6, 4, 4),
        ),
        (one("SimplifiedLayerNormalization", {"x": (2, 3), "s": (3,)}, domain=""), (2, 3)),
    ],
    ids=lambda x: x.graph.node[0].op_type if isinstance(x, onnx.ModelProto) else "",
)
def test_shapes(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    assert load(model).values["y"].shape == shape


def test_what_onnxruntime_computes_has_that_shape() -> None:
    import onnxruntime

    rng = np.random.default_rng(0)
    for a, b, turns in (
        ((3, 2, 4), (3, 5, 4), {"transB": 1}),
        ((2, 3, 4), (3, 4, 5), {"transBatchA": 1}),
        ((2, 3, 4, 6), (2, 3, 4, 5), {"transA": 1, "transBatchA": 1, "transBatchB": 1}),
    ):
        model = one("FusedMatMul", {"a": a, "b": b}, **turns)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        feeds = {"a": rng.random(a, dtype=np.float32), "b": rng.random(b, dtype=np.float32)}
        assert session.run(None, feeds)[0].shape == load(model).values["y"].shape


def test_refusals_name_the_operator() -> None:
    with pytest.raises(Unsupported, match="com.microsoft::Inverse"):
        load(one("Inverse", {"x": (3, 3)}))
    with pytest.raises(InvalidModel, match="'heads'|inputs"):
        load(one("Gelu", {"x": (3,), "z": (3,)}))
    with pytest.raises(InvalidModel, match="do not fit"):
        load(one("FusedMatMul", {"a": (2, 3), "b": (4, 5)}))
    with pytest.raises(InvalidModel, match="not of type"):
        load(one("QuickGelu", {"x": (3,)}, alpha=1))
