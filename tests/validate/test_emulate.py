from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from certify.number.formats import FORMATS
from certify.number.rounding import round_to
from certify.validate.emulate import Emulator
from certify.validate.runtime import ValidationUnavailable, run_onnxruntime
from tests.validate.graphs import model, perceptron, unary

NUMPY = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp8e5m2": ml_dtypes.float8_e5m2, "fp8e4m3": ml_dtypes.float8_e4m3fn}


def stored_in(name):
    return lambda declared: FORMATS[name]


def as_declared(declared):
    return declared


def arithmetic(opset=17):
    nodes = [
        helper.make_node("Mul", ["x", "c"], ["a"]),
        helper.make_node("Add", ["a", "z"], ["b"]),
        helper.make_node("Sub", ["b", "x"], ["d"]),
        helper.make_node("Div", ["d", "c"], ["q"]),
        helper.make_node("Abs", ["q"], ["p"]),
        helper.make_node("Sqrt", ["p"], ["y"]),
    ]
    return model(nodes, {"x": [None], "z": [None]}, {"y": [None]}, {"c": np.float32([1.1, -0.7, 3.3, 0.017])}, opset)


@pytest.mark.parametrize("opset", [7, 13, 17, 21, 24])
@pytest.mark.parametrize("name", list(NUMPY))
def test_basic_operations_are_bit_exact_against_native_arithmetic(name, opset):
    rng = np.random.default_rng(opset)
    dtype = NUMPY[name]
    emulator = Emulator(arithmetic(opset), stored_in(name))
    C = np.float32([1.1, -0.7, 3.3, 0.017]).astype(dtype)
    for _ in range(50):
        x, z = rng.standard_normal((2, 4)) * np.float64([1, 1, 0.01, 3])
        X, Z = (round_to(v, FORMATS[name]).astype(dtype) for v in (x, z))
        got = emulator({"x": x, "z": z})["y"]
        with np.errstate(all="ignore"):
            native = np.sqrt(np.abs((X * C + Z - X) / C))
        assert np.array_equal(got, native.astype(np.float64), equal_nan=True)


def test_fp16_matches_a_cast_pair_after_every_operator():
    """The construction that runtime-facts.md found bit-exact, on a network with matrix products and a softmax."""
    network = perceptron((6, 16, 4))
    nodes, constants = [], {}
    rounded = round_to(np.random.default_rng(5).standard_normal((1, 6)), FORMATS["fp16"])
    for tensor in network.graph.initializer:
        constants[tensor.name] = (
            round_to(np.frombuffer(tensor.raw_data, np.float32), FORMATS["fp16"]).astype(np.float32).reshape(tuple(tensor.dims))
        )
    for node in network.graph.node:
        out = node.output[0]
        nodes.append(helper.make_node(node.op_type, list(node.input), [out + "_wide"]))
        nodes.append(helper.make_node("Cast", [out + "_wide"], [out + "_half"], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", [out + "_half"], [out], to=TensorProto.FLOAT))
    twin = model(nodes, {"x": ["N", 6]}, {"y": ["N", 4]}, constants)
    emulated = Emulator(network, stored_in("fp16"))({"x": rounded})["y"]
    assert np.array_equal(emulated, run_onnxruntime(twin, {"x": rounded})["y"])
    assert not np.array_equal(emulated, run_onnxruntime(network, {"x": rounded})["y"])


def test_overflow_follows_the_format():
    x = np.array([300.0, -300.0, 500.0, 2.0])
    doubling = model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": [4]}, {"y": [4]})
    got = {name: Emulator(doubling, stored_in(name))({"x": x})["y"] for name in NUMPY}
    assert np.array_equal(got["fp8e4m3"], [np.nan, np.nan, np.nan, 4.0], equal_nan=True)
    assert got["fp8e5m2"].tolist() == [640.0, -640.0, 1024.0, 4.0]
    big = Emulator(doubling, stored_in("fp16"))({"x": np.array([4e4, -4e4, 1.0, 7e4])})["y"]
    assert big.tolist() == [np.inf, -np.inf, 2.0, np.inf]


def test_a_cast_to_fp8_saturates_unless_told_otherwise():
    x = np.array([1000.0, -1000.0, 17.5])
    for saturate, expected in ((1, [448.0, -448.0, 18.0]), (0, [np.nan, np.nan, 18.0])):
        nodes = [
            helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT8E4M3FN, saturate=saturate),
            helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
        ]
        got = Emulator(model(nodes, {"x": [3]}, {"y": [3]}, opset=19), as_declared)({"x": x})["y"]
        assert np.array_equal(got, expected, equal_nan=True)


def test_a_half_precision_island_is_rounded_though_the_runtime_would_not():
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["h", "c"], ["m"]),
        helper.make_node("Exp", ["m"], ["e"]),
        helper.make_node("Cast", ["e"], ["y"], to=TensorProto.FLOAT),
    ]
    island = model(nodes, {"x": [3]}, {"y": [3]}, {"c": np.float16([0.3, 1.7, 2.9])})
    x = np.float32([0.123, 1.234, 2.345])
    got = Emulator(island, as_declared)({"x": x})["y"]
    product = x.astype(np.float16) * np.float16([0.3, 1.7, 2.9])
    assert np.array_equal(got, np.exp(product.astype(np.float32)).astype(np.float16).astype(np.float64))


def test_fp64_runs_in_double_or_says_which_node_cannot():
    x = np.array([0.1, 0.7])
    tripled = model([helper.make_node("Mul", ["x", "c"], ["y"])], {"x": [2]}, {"y": [2]}, {"c": np.float32([3.0, 0.1])})
    assert np.array_equal(Emulator(tripled, stored_in("fp64"))({"x": x})["y"], x * np.float64(np.float32([3.0, 0.1])))
    with pytest.raises(ValidationUnavailable, match=r"Erf node y: .*NOT_IMPLEMENTED"):
        Emulator(unary("Erf"), stored_in("fp64"))({"x": x})


def test_double_models_round_to_single_when_asked():
    adding = model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": [2]}, {"y": [2]}, element=TensorProto.DOUBLE)
    x = np.array([0.1, 0.7])
    assert np.array_equal(Emulator(adding, stored_in("fp32"))({"x": x})["y"], 2.0 * x.astype(np.float32).astype(np.float64))


def test_integers_and_comparisons_stay_what_they_are():
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["row"], axis=0),
        helper.make_node("ArgMax", ["row"], ["k"], axis=-1, keepdims=0),
        helper.make_node("Shape", ["row"], ["n"]),
    ]
    graph = model(
        nodes,
        {"i": [2]},
        {"k": [2], "n": [2]},
        {"table": np.float32([[1, 1.0001], [5, 4], [0, 9]])},
        elements=dict.fromkeys(("i", "k", "n"), TensorProto.INT64),
    )
    got = Emulator(graph, stored_in("bf16"))({"i": np.array([0.0, 2.0])})
    assert got["k"].tolist() == [0, 1]  # 1.0001 rounds to 1, and the first of equals wins
    assert got["n"].tolist() == [2, 2]
    assert got["k"].dtype == np.int64


def test_operands_convert_on_entry_but_the_addend_does_not():
    third = np.float32(1.0 / 3.0)
    constants = {"w": third.reshape(1, 1), "b": third.reshape(1)}
    gemm = model([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], {"x": [1, 1]}, {"y": [1, 1]}, constants)

    def tensor_float(kernel, storage):
        return (FORMATS["tf32"], "zero") if kernel == "Gemm" else None

    got = Emulator(gemm, as_declared, tensor_float)({"x": third.reshape(1, 1)})["y"]
    truncated = np.float32(round_to(third, FORMATS["tf32"], "zero"))
    assert got[0, 0] == np.float32(truncated * truncated + third) != np.float32(third * third + third)


def branch(value):
    constant = helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", TensorProto.FLOAT, [1], [value]))
    return helper.make_graph(
        [constant, helper.make_node("Mul", ["x", "k"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None])],
    )


def test_branches_are_followed_and_rounded_inside():
    zero = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    compare = helper.make_node("Greater", ["s", "nought"], ["c"])
    choose = helper.make_node("If", ["c"], ["y"], then_branch=branch(0.1), else_branch=branch(0.3))
    graph = model([zero, compare, choose], {"x": [1]}, {"y": [1]}, {"nought": np.float32(0)})
    emulator = Emulator(graph, stored_in("bf16"))
    for x, factor in ((1.5, 0.1), (-1.5, 0.3)):
        expected = np.float32(x).astype(ml_dtypes.bfloat16) * np.float32(factor).astype(ml_dtypes.bfloat16)
        assert emulator({"x": np.array([x])})["y"][0] == np.float64(expected)


def looping():
    number = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "step"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Mul", ["next", "next"], ["square"]),
        ],
        "body",
        [number("i", TensorProto.INT64, []), number("go", TensorProto.BOOL, []), number("state", TensorProto.FLOAT, [1])],
        [number("on", TensorProto.BOOL, []), number("next", TensorProto.FLOAT, [1]), number("square", TensorProto.FLOAT, [1])],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["last", "y"], body=body)
    return model([node], {"x": [1]}, {"y": [None, 1]}, {"n": np.array(5, np.int64), "step": np.float32([0.3])})


def test_loops_round_in_every_turn():
    state, squares = np.float16([0.1]), []
    for _ in range(5):
        state = state + np.float16([0.3])
        squares.append(state * state)
    got = Emulator(looping(), stored_in("fp16"))({"x": np.float64(np.float16([0.1]))})["y"]
    assert np.array_equal(got, np.stack(squares).astype(np.float64))


def test_scans_match_the_runtime_in_both_directions():
    number = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "row"], ["t"]), helper.make_node("Neg", ["t"], ["out"])],
        "body",
        [number("s", TensorProto.FLOAT, [2]), number("row", TensorProto.FLOAT, [2])],
        [number("t", TensorProto.FLOAT, [2]), number("out", TensorProto.FLOAT, [2])],
    )
    x = np.float32([[1, 2], [3, 5], [7, 11]])
    for back in (0, 1):
        node = helper.make_node(
            "Scan", ["s0", "x"], ["s1", "y"], body=body, num_scan_inputs=1, scan_input_directions=[back], scan_output_axes=[1]
        )
        graph = model([node], {"x": [3, 2]}, {"s1": [2], "y": [2, 3]}, {"s0": np.float32([0.5, 0.25])})
        plain, emulated = run_onnxruntime(graph, {"x": x}), Emulator(graph, as_declared)({"x": x})
        assert all(np.array_equal(plain[name], emulated[name]) for name in ("s1", "y"))


def test_local_functions_are_inlined():
    graph = model([helper.make_node("Twice", ["x"], ["y"], domain="local")], {"x": [1]}, {"y": [1]})
    graph.opset_import.append(helper.make_opsetid("local", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    graph.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    assert Emulator(graph, stored_in("fp16"))({"x": np.array([0.1])})["y"][0] == 2 * np.float64(np.float16(0.1))


def test_refusals_name_the_node():
    unknown = model([helper.make_node("Nonsense", ["x"], ["y"], name="odd", domain="nowhere")], {"x": [1]}, {"y": [1]})
    unknown.opset_import.append(helper.make_opsetid("nowhere", 1))
    with pytest.raises(ValidationUnavailable, match="Nonsense node odd: "):
        Emulator(unknown, stored_in("fp16"))({"x": np.zeros(1)})
    with pytest.raises(ValidationUnavailable, match="no value for input x"):
        Emulator(unary("Relu"), stored_in("fp16"))({})


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 19, 21, 22, 23, 24, 25, 26, 27, 28])
def test_opsets_beyond_the_runtime_run_by_their_definitions(opset):
    x = np.array([-1.5, 0.25, 3.0])
    assert Emulator(unary("Relu", opset), stored_in("fp16"))({"x": x})["y"].tolist() == [0.0, 0.25, 3.0]
