"""Binding: refusals list every node, constants are stored as the runtime holds them, operands are converted on entry."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from certify.analysis.bind import bind
from certify.analysis.program import Program
from certify.graph.load import load
from certify.number.formats import FORMATS, format_named
from certify.number.rounding import round_to
from certify.profiles import profile_named
from certify.semantics.contract import UnsupportedOperator


def program(text: str, dtype: str | None = None) -> Program:
    graph = load(onnx.parser.parse_model(text))
    return bind(graph, profile_named("wide", None if dtype is None else format_named(dtype), None, "any"))


GEMM = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {0.1, 70000.0}, float[1] b = {0.3}> { y = Gemm(x, w, b) }
"""


def test_every_node_without_a_rule_is_named_at_once() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, 2] x) => (float[N, 2] y) { a = ThresholdedRelu(x)  b = Bernoulli(a)  y = RandomNormalLike(b) }
    """
    with pytest.raises(UnsupportedOperator) as refusal:
        program(text)
    assert "Bernoulli" in str(refusal.value)
    assert "RandomNormalLike" in str(refusal.value)


def test_a_truncated_root_of_integers_is_refused() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (int32[N, 2] x) => (int32[N, 1] y) { y = ReduceL2 <axes = [1]> (x) }
    """
    with pytest.raises(UnsupportedOperator, match="truncated"):
        program(text)


def test_constants_are_rounded_once_into_storage_and_overflow_is_marked() -> None:
    found = program(GEMM, "fp16")
    half = FORMATS["fp16"]
    assert found.stored["w"].reshape(-1)[0] == round_to(np.float32(0.1), half)
    assert found.exact["w"].reshape(-1)[0] == np.float32(0.1)
    assert np.isinf(found.stored["w"].reshape(-1)[1])
    assert not found.swamped
    assert program(GEMM, "fp8e4m3").swamped["w"].reshape(-1).tolist() == [False, True]  # no infinity there: NaN
    assert found.converts_constants


def test_nothing_changes_in_the_models_own_format() -> None:
    found = program(GEMM)
    assert not found.converts_constants
    assert all(found.stored[name] is found.exact[name] for name in found.exact)


def test_tf32_rounds_the_factors_at_nodes_of_their_own_and_leaves_the_addend() -> None:
    found = program(GEMM, "tf32")
    assert [step.rule.name for step in found.steps] == ["Convert", "Gemm"]
    x, w, b = found.steps[1].operands
    assert (x, w, b) == ("x@tf32", "w@tf32", "b")
    assert found.stored["w@tf32"].reshape(-1)[0] == round_to(np.float32(0.1), FORMATS["tf32"])
    assert found.stored["b"] is found.exact["b"]


@pytest.mark.parametrize("kind", ["float", "int32"])
def test_a_product_of_a_value_with_itself_is_a_square(kind: str) -> None:
    """Of the same node and the same arithmetic; other products, and quotients, stay what they are."""
    text = f"""
    <ir_version: 9, opset_import: ["" : 17]>
    g ({kind}[N, 2] x, {kind}[N, 2] w) => ({kind}[N, 2] y) {{ a = Mul(x, x)  b = Mul(x, w)  c = Identity(x)  d = Mul(c, x)
    e = Add(a, b)  y = Add(e, d) }}
    """
    found = {step.output: step for step in program(text, "bf16" if kind == "float" else None).steps}
    assert [(found[name].rule.name, found[name].kind) for name in "abd"] == [("Square", "Mul"), ("Mul", "Mul"), ("Mul", "Mul")]
    assert found["a"].operands == ("x",)
    assert found["a"].arithmetic == found["b"].arithmetic
    x = np.array([[[-3.0, 5.0]]])
    assert found["a"].rule.value(x, **found["a"].attributes).tolist() == [[[9.0, 25.0]]]


COMPOSITES = {
    "LayerNormalization": "y = LayerNormalization(x, s, b)",
    "InstanceNormalization": "y = InstanceNormalization(x, s, b)",
    "GroupNormalization": "y = GroupNormalization <num_groups = 1> (x, s, b)",
}


@pytest.mark.parametrize("kind", COMPOSITES)
def test_no_inner_result_of_a_composite_takes_the_name_of_another_value(kind: str) -> None:
    """Neither of a part of the composite itself, nor of a value that the model calls like one."""
    plain = profile_named("wide", None, None, "any")
    names = [step.output for step in bind(load(composite(kind, "other")), plain).steps]
    assert len(set(names)) == len(names)
    inner = next(name for name in names if name.endswith("/root"))
    named = bind(load(composite(kind, inner)), plain)
    assert len({step.output for step in named.steps}) == len(named.steps) == len(names)
    assert [step.rule.name for step in named.steps if step.output == inner] == ["Neg"]


def composite(kind: str, other: str) -> onnx.ModelProto:
    text = f"""
    <ir_version: 9, opset_import: ["" : 21]>
    g (float[N, 2, 2] x) => (float[N, 2, 2] y, float[N, 2, 2] z) <float[2] s = {{1.0, 2.0}}, float[2] b = {{0.5, 0.25}}>
    {{ renamed = Neg(x)  {COMPOSITES[kind]}  z = Abs(renamed) }}
    """
    model = onnx.parser.parse_model(text)
    model.graph.node[0].output[0] = model.graph.node[2].input[0] = other
    return model
