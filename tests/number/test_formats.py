"""The formats against gfloat's and ml_dtypes' own descriptions."""

from __future__ import annotations

from dataclasses import replace

import gfloat.formats
import ml_dtypes
import numpy as np
import pytest

from certify.number.formats import FORMATS, Format, UnknownFormat, format_named, from_onnx, synthetic_format

GFLOAT = {
    "fp64": gfloat.formats.format_info_binary64,
    "fp32": gfloat.formats.format_info_binary32,
    "tf32": replace(gfloat.formats.format_info_bfloat16, name="tf32", k=19, precision=11, num_high_nans=1023),
    "bf16": gfloat.formats.format_info_bfloat16,
    "fp16": gfloat.formats.format_info_binary16,
    "fp8e4m3": gfloat.formats.format_info_ocp_e4m3,
    "fp8e5m2": gfloat.formats.format_info_ocp_e5m2,
}


@pytest.mark.parametrize("name", FORMATS)
def test_properties_agree_with_gfloat(name: str) -> None:
    ours, theirs = FORMATS[name], GFLOAT[name]
    assert ours.precision == theirs.precision
    assert ours.max == theirs.max
    assert ours.smallest_normal == theirs.smallest_normal
    assert ours.smallest_subnormal == theirs.smallest_subnormal
    assert ours.unit_roundoff == theirs.eps / 2


@pytest.mark.parametrize(
    ("name", "dtype"), [("bf16", ml_dtypes.bfloat16), ("fp8e4m3", ml_dtypes.float8_e4m3fn), ("fp8e5m2", ml_dtypes.float8_e5m2)]
)
def test_properties_agree_with_ml_dtypes(name: str, dtype: type) -> None:
    info = ml_dtypes.finfo(dtype)
    assert FORMATS[name].max == float(info.max)
    assert FORMATS[name].smallest_subnormal == float(info.smallest_subnormal)


def test_underflow() -> None:
    half = format_named("fp16")
    assert half.eta == half.smallest_subnormal / 2
    assert half.flushed().eta == half.smallest_normal
    assert format_named("fp64").eta == np.nextafter(0.0, 1.0)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownFormat, match="fp64, fp32, tf32, bf16, fp16, fp8e4m3, fp8e5m2"):
        format_named("half")


def test_onnx_element_types_agree_with_onnx() -> None:
    from onnx import TensorProto

    known = {"FLOAT": "fp32", "FLOAT16": "fp16", "DOUBLE": "fp64", "BFLOAT16": "bf16", "FLOAT8E4M3FN": "fp8e4m3", "FLOAT8E5M2": "fp8e5m2"}
    for label, number in TensorProto.DataType.items():
        if label in known:
            assert from_onnx(number) is FORMATS[known[label]]
        elif "FLOAT" in label or "COMPLEX" in label:
            with pytest.raises(UnknownFormat):
                from_onnx(number)
        else:
            assert from_onnx(number) is None


def test_a_format_that_float64_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="precision"):
        synthetic_format(54)
    with pytest.raises(ValueError, match="exponents"):
        Format("quad", precision=53, emin=-16382, emax=16383)
    with pytest.raises(ValueError, match="overflow"):
        Format("wrapping", precision=8, emin=-14, emax=15, overflow="wrap")


def test_contains() -> None:
    assert FORMATS["fp32"].contains(FORMATS["bf16"])
    assert FORMATS["fp32"].contains(FORMATS["fp16"])
    assert not FORMATS["bf16"].contains(FORMATS["fp16"])
    assert not FORMATS["fp16"].contains(FORMATS["bf16"])
