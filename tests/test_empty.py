"""Tensors without elements: known beforehand, whatever they depend on, and bounded by nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import certify
from certify.cli.main import main
from tests.graph.build import parsed

EMPTY = np.zeros((2, 0), np.float32)


def test_an_input_without_elements_is_taken_from_data_alone() -> None:
    model = parsed("g (float[2, 0] x, float[2, 1] z) => (float[2, 1] y) { s = ReduceSum(x, one) y = Add(s, z) }", one=[1])
    found = certify.certify(model, data={"x": EMPTY, "z": np.float32([[0.1], [3]])}).outputs["y"]
    assert found.reference.tolist() == [[[np.float64(np.float32(0.1))], [3]]]
    with pytest.raises(certify.InvalidModel, match="'x' has no elements: dimension 1 is declared 0"):
        certify.certify(model)


def test_data_without_rows_make_an_input_without_elements() -> None:
    """CastLike reads its second operand's type alone; a first dimension declared 0 is a batch of one otherwise."""
    model = parsed("g (float[2] x, float16[0] like) => (float16[2] y) { y = CastLike(x, like) }")
    found = certify.certify(model, data={"x": np.float32([0.1, 3]), "like": np.zeros(0, np.float16)})
    assert 0.0 < found.outputs["y"].absolute_bound.max() < 2.0**-9  # half an ulp of 3 in fp16, and float64
    assert found.validation is not None
    assert not found.validation.violations


def test_an_output_without_elements_is_bounded_beside_others(tmp_path: Path) -> None:
    model = parsed("g (float[2] x) => (float[2] y, float[0] none) { y = Exp(x) none = Slice(y, a, a, a) }", a=[0])
    for engine in ("adjoint", "running"):
        found = certify.certify(model, data={"x": np.float32([[1, 2], [3, 4]])}, engine=engine)
        assert found.outputs["none"].absolute_bound.shape == (2, 0)
        assert found.validation is not None
        assert not found.validation.violations
    onnx.save(model, tmp_path / "m.onnx")
    files = [str(tmp_path / name) for name in ("m.json", "m.npz", "m.witness")]
    assert main([str(tmp_path / "m.onnx"), *(part for file in files for part in ("-o", file))]) == 0


@pytest.mark.parametrize(("operator", "expected"), [("ReduceMax", [0, -(2**31), -np.inf]), ("ReduceMin", [1, 2**31 - 1, np.inf])])
def test_the_extremes_of_nothing_are_those_of_the_type(operator: str, expected: list[float]) -> None:
    kinds = {"bool": bool, "int32": np.int32, "float": np.float32}
    for (kind, dtype), value in zip(kinds.items(), expected, strict=True):
        model = parsed(f"g ({kind}[2, 0] x) => ({kind}[2] y) {{ y = {operator}<keepdims = 0>(x, one) }}", opset=20, one=[1])
        found = certify.certify(model, data={"x": np.zeros((2, 0), dtype)}).outputs["y"]
        assert found.reference.tolist() == [[value, value]]
        assert not found.absolute_bound.any()
