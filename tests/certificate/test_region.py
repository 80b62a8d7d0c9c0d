"""Relative bounds over a region speak of the smallest |y| in it, not of the middle."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

import certify


def test_relative_to_the_smallest_output_of_the_region() -> None:
    y = [helper.make_node("Add", ["x", "c"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    constant = onnx.numpy_helper.from_array(np.array([[0.25]], np.float32), "c")
    model = helper.make_model(helper.make_graph(y, "g", ends[:1], ends[1:], [constant]), opset_imports=[helper.make_opsetid("", 17)])
    found = certify.certify(model, dtype="bf16", ranges=(0.25, 8.0), region=True, boxes=8, validate=False).outputs["y"]
    bound = float(found.absolute_bound.max())
    assert 0.0 < bound < np.inf
    assert found.relative_max >= bound / 0.5
    assert found.reference - found.reference_radius <= 0.5
    assert found.reference + found.reference_radius >= 8.25
