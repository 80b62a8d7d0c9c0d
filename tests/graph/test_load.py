"""Loading: what is refused and how, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from certify.graph.load import load
from certify.graph.model import InvalidModel, Unsupported
from tests.graph.build import dense, model_of, parsed

W = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_a_dense_layer_is_one_node_with_its_constant() -> None:
    graph = load(dense(W))
    (node,) = graph.nodes
    assert (node.op_type, node.domain, node.opset, node.inputs, node.outputs) == ("MatMul", "", 18, ("x", "W"), ("y",))
    assert node.name == node.source == "y"
    assert graph.inputs == ("x",)
    assert graph.outputs == ("y",)
    assert graph.values["y"].shape == (1, 2)
    assert graph.values["x"].constant is None
    np.testing.assert_array_equal(graph.values["W"].constant, W)
    assert graph.parameters == 6
    assert graph.source_nodes == 1
    assert graph.producers["y"] is node


def test_constants_cannot_be_written_to() -> None:
    constant = load(dense(W)).values["W"].constant
    assert constant is not None
    with pytest.raises(ValueError, match="read-only"):
        constant[0, 0] = 1.0


def test_the_hash_is_the_files(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "m.onnx"
    onnx.save(dense(W), path)
    graph = load(path)
    assert graph.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == load(path.read_bytes()).sha256
    assert graph.path == path


def test_the_networkx_graph_has_nodes_and_values() -> None:
    graph = load(parsed("g (float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) y = Add(a, b) }")).graph
    assert set(graph.edges) == {("a", "b"), ("a", "y"), ("b", "y")}
    assert graph.edges["a", "y"]["values"] == ("a",)
    assert graph.nodes["b"]["node"].op_type == "Neg"


def _broken(**changes: Any) -> onnx.ModelProto:
    model = dense(W)
    for name, value in changes.items():
        setattr(model.graph.node[0], name, value)
    return model


def _renamed(field: str, position: int, name: str) -> onnx.ModelProto:
    model = dense(W)
    getattr(model.graph.node[0], field)[position] = name
    return model


def _without(field: str) -> onnx.ModelProto:
    model = dense(W)
    del getattr(model.graph, field)[:]
    return model


def _twice(field: str) -> onnx.ModelProto:
    model = dense(W)
    items = getattr(model.graph, field)
    items.append(items[0])
    return model


STRUCTURE = {
    "no operators": (_without("node"), "no operators"),
    "no outputs": (_without("output"), "no outputs"),
    "node twice": (_twice("node"), "'y' is defined twice"),
    "input twice": (_twice("input"), "input 'x' is declared twice"),
    "initializer twice": (_twice("initializer"), "initializer 'W' is defined twice"),
    "output twice": (_twice("output"), "output is declared twice"),
    "dangling operand": (_renamed("input", 1, "V"), "'y' .MatMul. reads 'V', which nothing defines"),
    "dangling output": (_renamed("output", 0, "z"), "output 'y' is not computed"),
    "cycle": (parsed("g (float[2] x) => (float[2] y) { a = Add(x, b) b = Neg(a) y = Relu(b) }"), "a cycle, 'a' -> 'b' -> 'a'"),
    "operand missing": (parsed("g (float[2] x) => (float[2] y) { y = Add(x) }"), "'y' .Add. has 1 inputs"),
    "operand absent": (model_of([helper.make_node("Add", ["x", ""], ["y"])], {"x": [2]}, ["y"]), "input 1 .B. is required"),
    "attribute missing": (parsed("g (float[2] x) => (float[2] y) { y = Concat(x, x) }"), "attribute 'axis' is required"),
    "shapes that do not fit": (parsed("g (float[2] x, float[3] z) => (float[2] y) { y = Add(x, z) }"), r"'y' \(Add\).*x \[2\], z \[3\]"),
    "types that do not agree": (parsed("g (float[2] x, int64[2] z) => (float[2] y) { y = Add(x, z) }"), "must have one type"),
    "zero-size input": (model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 0]}, ["y"]), "'x' has no elements"),
    "empty output": (parsed("g (float[2] x) => (float[n] y) { y = Slice(x, a, a, a) }", a=np.zeros(1, np.int64)), "'y' has no elements"),
    "no opset": (onnx.ModelProto(ir_version=8, graph=dense(W).graph), "imports no opset"),
}


@pytest.mark.parametrize("case", STRUCTURE)
def test_structure_that_is_refused(case: str) -> None:
    model, message = STRUCTURE[case]
    with pytest.raises(InvalidModel, match=message):
        load(model)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"hello, world", "not an ONNX model"), (b"\x08\x07", "no graph")])
def test_files_that_are_no_models(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=f"m.onnx.*{message}"):
        load(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(dense(W).SerializeToString()[:-20])
    with pytest.raises(InvalidModel, match="truncated"):
        load(path)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="does not exist"):
        load(tmp_path / "none.onnx")
    with pytest.raises(InvalidModel, match="is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(("opset", "more"), [(6, ", and its Add is another one"), (29, "; convert")])
def test_an_opset_outside_the_covered_ones(opset: int, more: str) -> None:
    model = parsed("g (float[2] x) => (float[2] y) { n = Neg(x) y = Add(n, x) }")
    model.opset_import[0].version = opset
    with pytest.raises(Unsupported, match=f"opset {opset} is not supported, only 7 to 28{more}"):
        load(model)


def test_an_earlier_opset_is_read_where_its_operators_are_the_same() -> None:
    model = dense(W)
    model.opset_import[0].version = 6
    assert load(model).nodes[0].opset == 7
    branches = "y = If (c) <then_branch = t () => (float[2] p) { p = OPERATOR(x, x) }, else_branch = e () => (float[2] p) { p = Neg(x) }>"
    text = f"g (float[2] x, bool c) => (float[2] y) {{ {branches} }}"
    assert load(parsed(text.replace("OPERATOR(x, x)", "Abs(x)"), opset=6)).opsets[""] == 7
    with pytest.raises(Unsupported, match="its Mul is another one"):
        load(parsed(text.replace("OPERATOR", "Mul"), opset=6))


@pytest.mark.parametrize("opset", range(7, 29))
def test_every_covered_opset_loads(opset: int) -> None:
    assert load(dense(W, opset)).nodes[0].opset == opset


def test_unknown_operators_are_all_named() -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["a"]), helper.make_node("Mangle", ["a"], ["y"], domain="acme")]
    model = model_of(nodes, {"x": [2]}, ["y"])
    model.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(Unsupported, match="(?s)'a'.*Frobnicate.*'y'.*acme::Mangle"):
        load(model)


def test_a_shape_that_depends_on_data() -> None:
    with pytest.raises(Unsupported, match="'n' .NonZero.*not fixed"):
        load(parsed("g (float[2] x) => (int64[k, m] n) { n = NonZero(x) }"))


def test_a_result_beyond_all_memory() -> None:
    with pytest.raises(Unsupported, match="'c' .ConstantOfShape.*too large"):
        load(parsed("g (float[2] x) => (float y) { c = ConstantOfShape(s) y = Add(x, c) }", s=[2**20, 2**20, 2]))


def test_nodes_out_of_order_are_sorted_and_dead_ones_dropped() -> None:
    graph = load(parsed("g (float[2] x) => (float[2] y) { y = Relu(a) a = Neg(x) dead = Exp(x) }"))
    assert [node.op_type for node in graph.nodes] == ["Neg", "Relu"]
    assert "dead" not in graph.values


def test_names_are_unique() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="same"), helper.make_node("Neg", ["a"], ["y"], name="same")]
    graph = load(model_of(nodes, {"x": [2]}, ["y"]))
    assert [node.name for node in graph.nodes] == ["same", "same#2"]
    assert [node.source for node in graph.nodes] == ["same", "same"]


def test_initializers_that_old_models_list_as_inputs_are_constants() -> None:
    model = dense(W, 8)
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("W", onnx.TensorProto.FLOAT, [3, 2]))
    assert load(model).inputs == ("x",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(value: float) -> None:
    weights = W.copy()
    weights[2, 1] = value
    with pytest.raises(InvalidModel, match=r"constant 'W' holds (NaN|an infinite value) at index \[2, 1\]"):
        load(dense(weights))


def test_infinities_and_nan_that_can_be_meant_are_kept() -> None:
    """A mask may be infinite; NaN may be asked about, or not be chosen."""
    text = "g (float[2] x, bool[2] c) => (float[2] y) { y = OPERATOR }"
    infinity, nan = np.float32(-np.inf), np.float32(np.nan)
    for operator in ("Where(c, x, F)", "Add(x, F)", "Min(F, x)"):
        assert load(parsed(text.replace("OPERATOR", operator), F=infinity)).values["F"].constant == -np.inf
    assert np.isnan(np.asarray(load(parsed(text.replace("OPERATOR", "Where(c, x, F)"), F=nan)).values["F"].constant))
    for operator in ("Add(x, F)", "Mul(x, F)", "PRelu(x, F)"):
        with pytest.raises(InvalidModel, match="'F' holds NaN"):
            load(parsed(text.replace("OPERATOR", operator), F=nan))


def test_infinite_bounds_that_cannot_bind_are_dropped() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Max(x, F) y = Clip(a, F, T) }"
    graph = load(parsed(text, F=np.float32(-np.inf), T=np.float32(1)))
    assert [(node.op_type, node.inputs) for node in graph.nodes] == [("Identity", ("x",)), ("Clip", ("a", None, "T"))]


def test_low_precision_constants_keep_their_type() -> None:
    import ml_dtypes

    tensor = helper.make_tensor("F", onnx.TensorProto.BFLOAT16, [2], [1.0, 3.0])
    model = parsed("g (bfloat16[2] x) => (bfloat16[2] y) { y = Add(x, F) }")
    model.graph.initializer.append(tensor)
    constant = load(model).values["F"].constant
    assert constant is not None
    assert constant.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(constant.astype(np.float64), [1.0, 3.0])


def test_sparse_initializers_become_dense() -> None:
    model = dense(W)
    values = helper.make_tensor("W", onnx.TensorProto.FLOAT, [2], [5.0, 7.0])
    for indices, shape in (([1, 4], [2]), ([0, 1, 2, 0], [2, 2])):
        del model.graph.initializer[:], model.graph.sparse_initializer[:]
        index = helper.make_tensor("i", onnx.TensorProto.INT64, shape, indices)
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [3, 2]))
        np.testing.assert_array_equal(load(model).values["W"].constant, [[0, 5], [0, 0], [7, 0]])


def test_corrupt_files_are_refused_and_never_crash() -> None:
    """Bytes changed at random: whatever comes of it is a model, InvalidModel or Unsupported."""
    import random

    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"], kernel_shape=[3, 3], name="conv"),
        helper.make_node("Constant", [], ["s"], value_ints=[1, -1]),
        helper.make_node("Reshape", ["c", "s"], ["r"]),
        helper.make_node("ConstantOfShape", ["t"], ["k"], value=helper.make_tensor("v", 1, [1], [0.5])),
        helper.make_node("Softmax", ["r"], ["p"], axis=-1),
        helper.make_node("Add", ["p", "k"], ["y"]),
    ]
    model = model_of(nodes, {"x": ["N", 1, 5, 5]}, ["y"], {"W": np.ones((2, 1, 3, 3), np.float32), "t": np.array([1, 18])})
    content = model.SerializeToString()
    load(content)
    draw = random.Random(0)
    outcomes = set()
    for _ in range(600):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 2, 4])):
            position = draw.randrange(len(changed))
            changed[position] = draw.choice([0, 1, 255, changed[position] ^ (1 << draw.randrange(8))])
        try:
            load(bytes(changed))
            outcomes.add("model")
        except (InvalidModel, Unsupported) as refusal:
            outcomes.add(type(refusal).__name__)
    assert outcomes == {"model", "InvalidModel", "Unsupported"}
