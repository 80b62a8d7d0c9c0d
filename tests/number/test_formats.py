"""The formats against gfloat's and ml_dtypes' own descriptions."""

from __future__ import annotations

from dataclasses import replace

import gfloat.formats
import ml_dtypes
import numpy as np
import pytest

from certify.number.formats import FORMATS, Format, UnknownFormat, format_named, from_onnx, synthetic_format
from certify.number.rounding import round_to

GFLOAT = {
    "fp64": gfloat.formats.format_info_binary64,
    "fp32": gfloat.formats.format_info_binary32,
    "tf32": replace(gfloat.formats.format_info_bfloat16, name="tf32", k=19, precision=11, num_high_nans=1023),
    "bf16": gfloat.formats.format_info_bfloat16,
    "fp16": gfloat.formats.format_info_binary16,
    "fp8e4m3": gfloat.formats.format_info_ocp_e4m3,
    "fp8e5m2": gfloat.formats.format_info_ocp_e5m2,
    "fp8e4m3fnuz": replace(gfloat.formats.format_info_ocp_e4m3, name="e4m3fnuz", bias=8, has_nz=False, num_high_nans=0),
    "fp8e5m2fnuz": replace(gfloat.formats.format_info_ocp_e4m3, name="e5m2fnuz", precision=3, bias=16, has_nz=False, num_high_nans=0),
    "fp8e8m0": gfloat.formats.format_info_ocp_e8m0,
    "fp4e2m1": gfloat.formats.format_info_ocp_e2m1,
    "fp6e2m3": gfloat.formats.format_info_ocp_e2m3,
    "fp6e3m2": gfloat.formats.format_info_ocp_e3m2,
}


@pytest.mark.parametrize("name", FORMATS)
def test_properties_agree_with_gfloat(name: str) -> None:
    ours, theirs = FORMATS[name], GFLOAT[name]
    assert ours.precision == theirs.precision
    assert ours.max == theirs.max
    assert ours.smallest_normal == theirs.smallest_normal
    assert not theirs.has_subnormals or ours.smallest_subnormal == theirs.smallest_subnormal
    assert ours.subnormals == theirs.has_subnormals
    assert ours.unit_roundoff == theirs.eps / 2


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("bf16", ml_dtypes.bfloat16),
        ("fp8e4m3", ml_dtypes.float8_e4m3fn),
        ("fp8e5m2", ml_dtypes.float8_e5m2),
        ("fp8e4m3fnuz", ml_dtypes.float8_e4m3fnuz),
        ("fp8e5m2fnuz", ml_dtypes.float8_e5m2fnuz),
        ("fp4e2m1", ml_dtypes.float4_e2m1fn),
    ],
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
    with pytest.raises(UnknownFormat, match="fp64, fp32, tf32, bf16, fp16, fp8e4m3, fp8e5m2, fp8e4m3fnuz"):
        format_named("half")


def test_onnx_element_types_agree_with_onnx() -> None:
    from onnx import TensorProto

    known = {"FLOAT": "fp32", "FLOAT16": "fp16", "DOUBLE": "fp64", "BFLOAT16": "bf16", "FLOAT8E4M3FN": "fp8e4m3"}
    for label in ("FLOAT8E5M2", "FLOAT8E4M3FNUZ", "FLOAT8E5M2FNUZ", "FLOAT8E8M0", "FLOAT4E2M1", "FLOAT6E2M3", "FLOAT6E3M2"):
        known[label] = label.lower().replace("float", "fp")
    for label, number in TensorProto.DataType.items():
        if label in known:
            assert from_onnx(number) is FORMATS[known[label]]
        elif "COMPLEX" in label:
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


def test_every_power_of_two_of_e8m0_is_a_number() -> None:
    codes = np.arange(255, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    assert np.array_equal(codes, np.exp2(np.arange(-127.0, 128.0)))
    assert np.array_equal(round_to(codes, FORMATS["fp8e8m0"]), codes)
    assert FORMATS["fp32"].contains(FORMATS["fp8e8m0"])
