"""The mean of nothing is no number."""

from __future__ import annotations

import numpy as np
import onnx.parser

import certify


def test_the_mean_of_nothing_has_no_bound() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[1, 2] x) => (float[1, 1] y) <int64[1] s = {0}, int64[1] a = {1}> { p = Slice(x, s, s, a)  y = ReduceMean<axes = [1]>(p) }
    """
    for engine in ("adjoint", "running"):
        found = certify.certify(onnx.parser.parse_model(text), data={"x": np.ones((1, 2), np.float32)}, engine=engine, validate=False)
        assert found.outputs["y"].absolute_bound.tolist() == [[[np.inf]]]
