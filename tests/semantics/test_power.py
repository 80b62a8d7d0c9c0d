"""Pow by constant exponents is a function of x for each of them; by any other it is exp(y log x) for x > 0."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import certify
from tests.semantics.models import attacked, one_node

BODIES = {
    "square": ("y = Pow(x, p)", "float p = {2.0}"),
    "long exponent": ("y = Pow(x, p)", "float p = {2.2}"),
    "many exponents": ("y = Pow(x, p)", "float[4] p = {2.2, 0.3, -1.7, 0}"),
    "variable exponent": ("e = Mul(x, p)  y = Pow(x, e)", "float p = {0.7}"),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_runs_stay_within_the_bound(body: str, dtype: str) -> None:
    nodes, constant = BODIES[body]
    model = onnx.parser.parse_model(f"""
    <ir_version: 8, opset_import: ["" : 15]>
    g (float[N, 4] x) => (float[N, 4] y) <{constant}> {{ {nodes} }}
    """)
    x = np.array([[0.1, 0.9, 2.5, 7.3], [1.0, 3.0, 0.5, 3.5]], dtype=np.float32)
    certificate = certify.certify(model, dtype=dtype, data={"x": x})
    out = certificate.outputs["y"]
    assert certificate.validation is not None
    assert not certificate.validation.violations
    assert np.isfinite(out.absolute_bound).all()
    theirs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    if dtype == "fp32":
        assert (np.abs(theirs - out.reference[:, 0]) <= out.absolute_bound[:, 0]).all()


def test_a_negative_base_with_a_long_exponent_has_no_bound() -> None:
    model = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 15]>
    g (float[N, 1] x) => (float[N, 1] y) <float p = {2.2}> { y = Pow(x, p) }
    """)
    certificate = certify.certify(model, data={"x": np.array([[-1.5]], dtype=np.float32)})
    assert np.isinf(certificate.outputs["y"].absolute_bound).all()


EXPONENTS = np.array([[3.0, -2.0, 0.5, 7.0], [0.0, 2.0, -1.0, 9.0]], dtype=np.float32)
BASES = np.array([[-1.5, -2.0, 4.0, -0.5], [0.0, -3.0, 2.0, 1.25]])


def test_exponents_of_every_kind() -> None:
    """Negative bases by whole exponents, beside roots of positive ones; exponents that bf16 rounds, and ones that data give."""
    model = one_node("Pow", {"x": BASES}, {}, 15, {"p": EXPONENTS})
    assert attacked(model, {"x": BASES})[None] == "finite"
    positive = np.abs(BASES) + 0.5
    for p in (np.array([1.0 / 3.0, 2.7], dtype=np.float32)[:1], np.array(21.0, dtype=np.float32), np.array([2], dtype=np.int64)):
        assert attacked(one_node("Pow", {"x": positive}, {}, 15, {"p": p}), {"x": positive})[None] == "finite"
    attacked(one_node("Pow", {"x": positive, "p": EXPONENTS}, {}, 15), {"x": positive, "p": EXPONENTS})
    attacked(model, {"x": BASES}, region=True)


def test_broadcast_by_the_exponent() -> None:
    x = np.array([1.5, -2.0])
    model = one_node("Pow", {"x": x}, {}, 13, {"p": np.full((3, 1), 2.0, dtype=np.float32)})
    assert attacked(model, {"x": x})[None] == "finite"


def test_powers_of_integers() -> None:
    """What is cast to integers and raised: exact while it fits, truncated, and unbounded where it may not fit."""
    for exponent, kind in (([3, 0, 2], "finite"), ([40, 41, 42], "infinite"), ([-1, 2, 2], "finite")):
        model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 15]>
        g (float[3] x) => (int64[3] y) <int64[3] p = {{{", ".join(map(str, exponent))}}}> {{ i = Cast<to = 7>(x)  y = Pow(i, p) }}
        """)
        assert attacked(model, {"x": np.array([-3.2, 2.5, 5.0])})[None] == kind
