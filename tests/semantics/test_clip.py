"""Clip in every form expands into Max and Min: values as onnxruntime's, deviations never grow."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from certify.analysis.bind import bind
from certify.analysis.reference import at_points
from certify.engines import adjoint
from certify.graph.load import load
from certify.number.formats import format_named
from certify.number.rounding import half_ulp
from certify.profiles import profile_named

FORMS = {
    "attributes": ("6", "y = Clip <min = -0.25, max = 0.5> (h)"),
    "minimum": ("9", "y = Clip <min = -0.25> (h)"),
    "inputs": ("13", "low = Constant <value_float = -0.25> ()  high = Constant <value_float = 0.5> ()  y = Clip(h, low, high)"),
    "maximum": ("13", "high = Constant <value_float = 0.5> ()  y = Clip(h, , high)"),
    "neither": ("13", "y = Clip(h)"),
}


@pytest.mark.parametrize("form", FORMS)
def test_clip(form: str) -> None:
    opset, body = FORMS[form]
    opset = max(opset, "7", key=int)
    text = f"""
    <ir_version: 8, opset_import: ["" : {opset}]>
    g (float[1, 6] x) => (float[1, 6] y) <float[1] third = {{0.3333333}}> {{ h = Mul(x, third)  {body} }}
    """
    model = onnx.parser.parse_model(text)
    x = np.array([[-3.0, -0.75, -0.7, 0.2, 1.5, 3.0]], dtype=np.float32)
    graph = load(model)
    program = bind(graph, profile_named("wide", format_named("bf16"), None, "any"))
    problem = at_points(program, program.exact, {"x": x[None].astype(np.float64)}, {})
    theirs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(problem.values["y"].lo[0], theirs, rtol=1e-6)  # values, not bounds
    bound, sweep = adjoint.solve(problem)
    # Bounds that are attributes are fp32 numbers: delivering one into bf16 may cost half an ulp of the result, twice.
    copied = half_ulp(np.abs(problem.values["y"].lo) + 0.01, format_named("bf16")) if form in ("attributes", "minimum") else 0.0
    assert (bound.outputs["y"] <= sweep.state.tubes["h"] * (1 + 2.0**-40) + 2.001 * copied).all()  # tightness, not soundness
    clipped = (problem.values["y"].lo == -0.25) | (problem.values["y"].lo == 0.5)
    inside = np.abs(problem.values["h"].lo) + sweep.state.tubes["h"] < 0.25
    assert (bound.outputs["y"][inside] > 0.0).all()
    far = clipped & (np.abs(problem.values["h"].lo) > 0.6)
    assert (bound.outputs["y"][far] <= 2.001 * np.broadcast_to(copied, far.shape)[far]).all()
