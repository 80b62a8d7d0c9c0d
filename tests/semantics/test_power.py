"""Pow: one short constant exponent is a function of x; any other, constant or not, is exp(y log x) for x > 0."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import certify

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
