"""A power of two that is said to divide a computed value must divide what a conforming kernel computes, not just the exact result."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import certify
from certify.engines.running import quantum_of


def test_the_quantum_of_a_number_is_its_lowest_bit() -> None:
    bits = np.random.default_rng(0).integers(-(2**63), 2**63, 2000, dtype=np.int64)
    bits[::4] &= ~np.int64(0x7FF << 52)  # subnormal
    bits[::3] &= ~np.int64(2**40 - 1)
    x = np.append(bits.view(np.float64), [1.0, -6.0, 2.0**-1074, 3.0 * 2.0**-1074, 2.0**-1022, 2.0**1023])
    x = x[np.isfinite(x) & (x != 0.0)]
    for number, quantum in zip(x, quantum_of(x), strict=True):
        odd = Fraction(float(number)) / Fraction(float(quantum))
        assert odd.denominator == 1
        assert odd.numerator % 2
    np.testing.assert_array_equal(quantum_of(np.array([0.0, -0.0, np.inf, -np.inf, np.nan])), [2.0**300, 2.0**300, 0.0, 0.0, 0.0])


def test_a_dot_product_may_fall_into_the_binade_below_its_exact_result() -> None:
    """The exact result is just above 1, the computed one just below: its last place is worth half as much, and adding c rounds."""
    x = np.array([[float.fromhex("0x1.31febp+0"), float.fromhex("0x1.51b684p-2")]], dtype=np.float32)
    w = np.array([[float.fromhex("0x1.27b724p+0")], [float.fromhex("-0x1.2788a4p+0")]], dtype=np.float32)
    c = np.float32(0.5 + 2.0**-23)
    products = (x[0] * w[:, 0]).astype(np.float32)
    y = np.float32(products[0] + products[1])
    exact_y = float(np.sum(x[0].astype(np.float64) * w[:, 0].astype(np.float64)))
    assert y < 1.0 < exact_y
    z = np.float32(y + c)
    born = abs(float(z) - (float(y) + float(c)))
    assert born > 0.0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="dot"), helper.make_node("Add", ["y", "c"], ["z"], name="add")],
        "dot",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.array([[c]]), "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    for engine in ("adjoint", "running"):
        certificate = certify.certify(model, data={"x": x}, engine=engine, validate=False)
        add = next(node for node in certificate.nodes if node.name == "add")
        assert add.local_max is not None
        assert add.local_max >= born


def test_what_arrives_may_fall_into_the_binade_below_though_no_rounding_is_born() -> None:
    """|a| rounds nothing, however far a is off: a is just above 1, computed just below, and adding c to it rounds."""
    x = np.array([[float.fromhex("0x1.560bc4p+19"), float.fromhex("0x1.5b2f8cp+19")]], dtype=np.float32)
    w = np.array([[float.fromhex("0x1.03d8ep+0")], [-1.0]], dtype=np.float32)
    k, c = np.float32(float.fromhex("0x1.faea2ep-1")), np.float32(0.5 + 2.0**-23)
    a = np.float32((np.float32(x[0, 0] * w[0, 0]) - x[0, 1]) * k)
    exact_a = float(np.sum(x[0].astype(np.float64) * w[:, 0].astype(np.float64))) * float(k)
    assert a < 1.0 < exact_a
    born = abs(float(np.float32(a + c)) - (float(a) + float(c)))
    assert born > 0.0
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["d"], name="dot"),
        helper.make_node("Mul", ["d", "k"], ["a"], name="mul"),
        helper.make_node("Abs", ["a"], ["b"], name="abs"),
        helper.make_node("Add", ["b", "c"], ["z"], name="add"),
    ]
    constants = [numpy_helper.from_array(v, name) for v, name in ((w, "w"), (np.array([k]), "k"), (np.array([c]), "c"))]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 1])]
    model = helper.make_model(helper.make_graph(nodes, "swept", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 13)])
    for engine in ("adjoint", "running"):
        certificate = certify.certify(model, data={"x": x}, engine=engine, validate=False)
        add = next(node for node in certificate.nodes if node.name == "add")
        assert add.local_max is not None
        assert add.local_max >= born
