"""Functions inlined, branches taken, loops unrolled: the function that the model computes stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from certify.graph.load import load
from certify.graph.model import InvalidModel, ModelGraph, Unsupported
from certify.graph.passes import pieces
from certify.graph.passes.specialize import Ruled, everything_ruled
from tests.graph.build import parsed
from tests.graph.rebuild import to_model


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[np.ndarray[Any, Any]] = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    return found


def same(model: onnx.ModelProto, ruled: Ruled = everything_ruled, /, **feeds: Any) -> ModelGraph:
    """The loaded graph, after comparing what it computes with the model."""
    graph = load(model, ruled=ruled)
    feeds = {name: np.asarray(x) for name, x in feeds.items()}
    for expected, found, name in zip(run(model, feeds), run(to_model(graph), feeds), graph.outputs, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert graph.values[name].shape == expected.shape
    return graph


X = np.float32([1.0, -2.0, 3.0])


def test_functions_are_inlined_with_attributes_defaults_and_absent_operands() -> None:
    model = parser.parse_model("""
      <ir_version: 9, opset_import: ["" : 18, "f" : 1]>
      g (float[3] x) => (float[3] y, float[3] z) { y = f.outer(x) z = f.inner<alpha = 0.5>(x) }
      <domain: "f", opset_import: ["" : 18, "f" : 1]> outer (a) => (c) { b = f.inner<alpha = 0.25>(a) c = Clip(b, none) }
      <domain: "f", opset_import: ["" : 18]> inner <alpha> (a) => (b) { t = LeakyRelu<alpha = @alpha>(a) b = Add(t, a) }
    """)
    model.functions[0].node[1].input[1] = ""
    graph = same(model, x=X)
    assert [(n.op_type, n.scope) for n in graph.nodes] == [
        ("LeakyRelu", "y/b"),
        ("Add", "y/b"),
        ("Clip", "y"),
        ("LeakyRelu", "z"),
        ("Add", "z"),
    ]
    assert [n.attributes["alpha"] for n in graph.nodes if n.op_type == "LeakyRelu"] == [0.25, 0.5]


def test_a_functions_own_opset_reads_its_nodes() -> None:
    model = parser.parse_model("""
      <ir_version: 9, opset_import: ["" : 18, "f" : 1]> g (float[1, 3] x) => (float[1, 3] y) { y = f.sm(x) }
      <domain: "f", opset_import: ["" : 11]> sm (a) => (b) { b = Softmax(a) }
    """)
    (node,) = load(model).nodes
    assert node.opset == 11


def test_a_function_that_calls_itself_is_refused() -> None:
    model = parser.parse_model("""
      <ir_version: 9, opset_import: ["" : 18, "f" : 1]> g (float[3] x) => (float[3] y) { y = f.a(x) }
      <domain: "f", opset_import: ["" : 18, "f" : 1]> a (p) => (q) { q = f.b(p) }
      <domain: "f", opset_import: ["" : 18, "f" : 1]> b (p) => (q) { q = f.a(p) }
    """)
    with pytest.raises(InvalidModel, match="function 'a' calls itself"):
        load(model)


IF = """g (float[3] x, bool c) => (float[3] y) {
    n = Neg(x)
    y = If (CONDITION) <
        then_branch = then () => (float[3] p) { q = Mul(n, W) p = Relu(q) },
        else_branch = els () => (float[3] p) { p = Identity(x) }
    >
}"""


@pytest.mark.parametrize(("condition", "operators"), [(True, ["Neg", "Mul", "Relu"]), (False, ["Identity"])])
def test_a_constant_condition_takes_its_branch(condition: bool, operators: list[str]) -> None:
    model = parsed(IF.replace("CONDITION", "k"), W=np.float32(2), k=np.asarray(condition))
    graph = same(model, x=X, c=True)
    assert [n.op_type for n in graph.nodes] == operators
    assert graph.nodes[-1].scope == ("y/then_branch" if condition else "y/else_branch")


@pytest.mark.parametrize("condition", [True, False])
def test_a_condition_that_data_decides_chooses_between_both_branches(condition: bool) -> None:
    graph = same(parsed(IF.replace("CONDITION", "c"), W=np.float32(2)), x=X, c=condition)
    assert [(n.op_type, n.scope) for n in graph.nodes] == [
        ("Neg", ""),
        ("Mul", "y/then_branch"),
        ("Relu", "y/then_branch"),
        ("Identity", "y/else_branch"),
        ("Where", ""),
    ]
    assert graph.nodes[-1].inputs[0] == "c"


@pytest.mark.parametrize("condition", [True, False])
def test_branches_may_nest_and_give_constants_captured_values_and_sequences(condition: bool) -> None:
    text = """g (float[3] x, bool[1] c, bool d) => (float[3] y, float[3] k, float[3] same, float[N] z) {
        n = Neg(x)
        y, k, same, s = If (c) <
            then_branch = t () => (float[3] p, float[3] q, float[3] r, seq(float[3]) u) {
                p = If (d) <then_branch = tt () => (float[3] a) { a = Exp(n) }, else_branch = te () => (float[3] b) { b = Identity(x) }>
                q = Constant<value = float[3] {1, 2, 3}>()
                r = Identity(n)
                u = SequenceConstruct(x, n)
            },
            else_branch = e () => (float[3] p, float[3] q, float[3] r, seq(float[3]) u) {
                p = Mul(x, x) q = Neg(n) r = Identity(n) u = SequenceConstruct(n, x) }>
        z = ConcatFromSequence<axis = 0>(s)
    }"""
    for inner in (True, False):
        graph = same(parsed(text), x=X, c=[condition], d=inner)
        assert {n.op_type for n in graph.nodes} >= {"Where", "Reshape", "Concat"}


def test_branches_of_different_shapes_are_refused() -> None:
    text = """g (float[3] x, bool c) => (float[n] y) {
        y = If (c) <then_branch = t () => (float[3] p) { p = Neg(x) }, else_branch = e () => (float[6] p) { p = Concat<axis = 0>(x, x) }>
    }"""
    with pytest.raises(Unsupported, match=r"'y' .If.*shape \[3\] or \[6\]"):
        load(parsed(text))


LOOP = """g (float[3] x, bool c) => (float[3] y, float[N, 3] all) {
    y, all = Loop (COUNT, GOING, x) <body = b (int64 i, bool go, float[3] s) => (bool on, float[3] t, float[3] u) {
        f = Cast<to = 1>(i) u = Mul(s, x) t = Add(u, f) on = LAST
    }>
}"""


def _loop(count: str = "n", going: str = "", last: str = "Identity(go)") -> str:
    return LOOP.replace("COUNT", count).replace("GOING", going).replace("LAST", last)


def test_a_loop_of_constant_length_is_unrolled() -> None:
    graph = same(parsed(_loop(), n=4), x=X, c=True)
    assert [n.op_type for n in graph.nodes].count("Mul") == 4
    assert {n.scope for n in graph.nodes if n.op_type == "Mul"} == {f"y/body[{i}]" for i in range(4)}
    assert {n.source for n in graph.nodes if n.op_type == "Mul"} == {"u"}
    assert len({n.name for n in graph.nodes}) == len(graph.nodes)


def test_a_loop_that_stops_itself() -> None:
    graph = same(parsed(_loop(going="yes", last="Less(i, two)"), n=10, yes=np.asarray(True), two=2), x=X, c=True)
    assert graph.values["all"].shape == (3, 3)


@pytest.mark.parametrize(
    ("text", "constants", "message"),
    [
        (_loop(going="c"), {"n": 3}, "data decides when it stops, and so how long the outputs are"),
        (_loop(last="Identity(c)"), {"n": 3}, "no condition, and its body decides from data when it stops"),
        (_loop(last="Less(i, two)"), {"n": 3, "two": 2}, "no condition, and its body stops it"),
        (_loop(going="c", last="Identity(c)"), {"n": 9}, "no trip limit of at most 8"),
        (_loop(), {"n": 100000}, "more than 8 times"),
        (_loop(), {"n": 0}, "never runs"),
    ],
)
def test_loops_that_are_refused(text: str, constants: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.graph.passes.control_flow.LONGEST", 8)
    with pytest.raises(Unsupported, match=message):
        load(parsed(text, **constants))


WHILE = """g (float[3] x, float limit) => (float[3] y, int64 count) {
    zero = Constant<value = int64 {0}>()  one = Constant<value = int64 {1}>()
    size = ReduceMax<keepdims = 0>(x)
    start = Less(size, limit)
    y, count = Loop (n, start, x, zero) <body = b (int64 i, bool go, float[3] s, int64 k) => (bool on, float[3] t, int64 l) {
        t = Mul(s, two) m = ReduceMax<keepdims = 0>(t) on = Less(m, limit) l = Add(k, one)
    }>
}"""


@pytest.mark.parametrize("limit", [1.0, 5.0, 20.0, 1e6])
def test_a_loop_that_data_stop_keeps_its_states(limit: float) -> None:
    graph = same(parsed(WHILE, n=4, two=np.float32(2)), x=X, limit=np.float32(limit))
    assert [n.op_type for n in graph.nodes].count("Where") == 8


BACKWARD = ", scan_input_directions = [1], scan_output_directions = [1]"
SIDEWAYS = ", scan_input_axes = [1], scan_output_axes = [1]"


@pytest.mark.parametrize("options", ["", BACKWARD, SIDEWAYS])
def test_scan_is_unrolled(options: str) -> None:
    length = 2 if "axes" in options else 3
    width = 5 - length
    text = f"""g (float[3, 2] x, float[{width}] h) => (float[{width}] last, float[N, M] all) {{
        last, all = Scan (h, x) <num_scan_inputs = 1{options},
            body = b (float[{width}] s, float[{width}] e) => (float[{width}] t, float[{width}] u) {{ t = Add(s, e) u = Mul(t, e) }}>
    }}"""
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = same(parsed(text), x=x, h=np.ones(width, np.float32))
    assert [n.op_type for n in graph.nodes].count("Add") == length


def test_scan_of_opset_8_takes_each_row_of_a_batch() -> None:
    text = """g (float[2, 3, 2] x, float[2, 2] h) => (float[2, 2] last, float[2, 3, 2] all) {
        last, all = Scan ( , h, x) <num_scan_inputs = 1, directions = [1],
            body = b (float[2] s, float[2] e) => (float[2] t, float[2] u) { t = Add(s, e) u = Mul(t, e) }>
    }"""
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    graph = same(parsed(text, opset=8), x=x, h=np.ones((2, 2), np.float32))
    assert [n.op_type for n in graph.nodes].count("Add") == 6


@pytest.mark.parametrize("text", [IF.replace("CONDITION", "c"), WHILE])
def test_a_choice_the_wrong_way_round_is_caught(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = pieces.choice

    def swapped(tracer: Any, frame: Any, condition: str, pair: tuple[str, str], owner: str, target: str) -> str | None:
        return chosen(tracer, frame, condition, pair[::-1], owner, target)

    monkeypatch.setattr(pieces, "choice", swapped)
    branches = "CONDITION" not in text and "W)" in text
    model = parsed(text, W=np.float32(2)) if branches else parsed(text, n=4, two=np.float32(2))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        same(model, x=X, **({"c": True} if branches else {"limit": np.float32(5)}))
