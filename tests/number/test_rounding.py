"""Rounding, exhaustively: every code of the small formats, every midpoint, and one float64 to either side."""

from __future__ import annotations

from dataclasses import replace

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest

from certify.number.formats import FORMATS, Format, synthetic_format
from certify.number.rounding import disturb_randomly, full_ulp, half_ulp, round_to, ufp, ulp
from certify.number.upward import Array

DTYPES = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8e4m3": ml_dtypes.float8_e4m3fn,
    "fp8e5m2": ml_dtypes.float8_e5m2,
    "fp8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "fp8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "fp4e2m1": ml_dtypes.float4_e2m1fn,
    "fp6e2m3": ml_dtypes.float6_e2m3fn,
    "fp6e3m2": ml_dtypes.float6_e3m2fn,
}
BITS = {"fp4e2m1": 4, "fp6e2m3": 6, "fp6e3m2": 6}
ALL = [*FORMATS.values(), FORMATS["fp16"].flushed(), FORMATS["fp8e4m3"].saturating(), synthetic_format(7)]


def positive_codes(name: str) -> Array:
    """All non-negative finite numbers of a small format in increasing order, decoded by another library."""
    dtype = np.dtype(DTYPES[name])
    unsigned = np.uint16 if dtype.itemsize == 2 else np.uint8
    with np.errstate(invalid="ignore"):  # NaN codes
        codes = np.arange(2 ** (BITS.get(name, 8 * dtype.itemsize) - 1), dtype=unsigned).view(dtype).astype(np.float64)
    return codes[np.isfinite(codes)]


def probes(numbers: Array) -> tuple[Array, Array, Array]:
    """(x, nearest, truncated): every midpoint between neighbours and one float64 to either side."""
    low, high = numbers[:-1], numbers[1:]
    middle = (low + high) / 2
    even = np.where(np.arange(low.size) % 2 == 0, low, high)  # codes are consecutive integers: even code, even significand
    beside = [np.nextafter(middle, 0), np.nextafter(middle, np.inf), np.nextafter(high, 0), np.nextafter(low, np.inf)]
    x = np.concatenate([numbers, middle, *beside])
    return x, np.concatenate([numbers, even, low, high, high, low]), np.concatenate([numbers, low, low, low, low, low])


@pytest.mark.parametrize("name", DTYPES)
def test_every_code_and_midpoint(name: str) -> None:
    format = FORMATS[name]
    x, nearest, truncated = probes(positive_codes(name))
    for sign in (1.0, -1.0):
        np.testing.assert_array_equal(round_to(sign * x, format), sign * nearest)
        np.testing.assert_array_equal(round_to(sign * x, format, "zero"), sign * truncated)


@pytest.mark.parametrize("name", DTYPES)
def test_half_ulp_and_full_ulp_hold_everywhere_and_are_attained(name: str) -> None:
    format = FORMATS[name]
    x, nearest, truncated = probes(positive_codes(name))
    order = np.argsort(x, kind="stable")
    x, nearest, truncated = x[order], nearest[order], truncated[order]
    for delivered, bound in ((nearest, half_ulp(x, format)), (truncated, full_ulp(x, format))):
        error = np.abs(delivered - x)
        worst = np.maximum.accumulate(error)  # over every probed v <= x
        assert (worst <= bound).all()
        assert (bound <= np.maximum(2.0 * worst, 0.0))[x > x[3]].all()
        powers = (np.frexp(x)[0] == 0.5) & (x > 2 * format.smallest_normal)
        assert (bound[powers] <= worst[powers] * (1 + 2.0**-30)).all()  # tight at powers of two: half of u m


@pytest.mark.parametrize("name", DTYPES)
def test_beyond_the_largest_number(name: str) -> None:
    format = FORMATS[name]
    spacing = float(ulp(format.max, format))
    tie = format.max + spacing / 2
    lost = {"inf": np.inf, "nan": np.nan, "saturate": format.max}[format.overflow]
    # Ties go to the even significand: fp8e4m3's largest is even, so that its tie comes back.
    at_tie = lost if name != "fp8e4m3" else format.max
    x = np.array([np.nextafter(tie, 0), tie, np.nextafter(tie, np.inf), 1e300, np.inf])
    np.testing.assert_array_equal(round_to(x, format), [format.max, at_tie, lost, lost, lost])
    np.testing.assert_array_equal(round_to(-x, format), -np.array([format.max, at_tie, lost, lost, lost]))
    np.testing.assert_array_equal(round_to(x, format, "zero"), [format.max] * 4 + [lost])
    np.testing.assert_array_equal(round_to(x, format.saturating()), [format.max] * 5)
    # To nearest, only half an ulp beyond the largest number overflows (IEEE 754-2019, 4.3.1): a mask of -max plus a score stays.
    assert np.isinf(half_ulp(tie, format))
    below = np.nextafter(tie, 0)
    assert below - round_to(below, format) <= half_ulp(below, format) < np.inf
    assert np.isinf(full_ulp(np.nextafter(format.max, np.inf), format))
    assert np.isfinite(half_ulp(format.max, format))


def test_nan_and_signed_zero() -> None:
    for format in ALL:
        got = round_to(np.array([0.0, -0.0, np.nan, -5e-324]), format)
        assert np.isnan(got[2])
        np.testing.assert_array_equal(np.signbit(got[[0, 1, 3]]), [False, True, True])


@pytest.mark.parametrize(("mode", "theirs"), [("nearest", gfloat.RoundMode.TiesToEven), ("zero", gfloat.RoundMode.TowardZero)])
@pytest.mark.parametrize(
    ("name", "info"),
    [
        ("fp32", gfloat.formats.format_info_binary32),
        ("tf32", replace(gfloat.formats.format_info_bfloat16, name="tf32", k=19, precision=11, num_high_nans=1023)),
        ("bf16", gfloat.formats.format_info_bfloat16),
        ("fp16", gfloat.formats.format_info_binary16),
        ("fp8e4m3", gfloat.formats.format_info_ocp_e4m3),
        ("fp8e5m2", gfloat.formats.format_info_ocp_e5m2),
    ],
)
def test_sampled_values_agree_with_gfloat(name: str, info: gfloat.FormatInfo, mode: str, theirs: gfloat.RoundMode) -> None:
    format, generator = FORMATS[name], np.random.default_rng(0)
    numbers = np.ldexp(generator.uniform(-2, 2, 1500), generator.integers(format.emin - format.precision - 2, format.emax + 1, 1500))
    codes = round_to(numbers, format)
    codes = codes[np.isfinite(codes)]
    middle = codes + np.copysign(ulp(codes, format) / 2, codes)
    x = np.concatenate([numbers, middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf * np.sign(middle))])
    x = x[np.abs(x) <= format.max]
    expected = np.array([gfloat.round_float(info, float(value), theirs) for value in x])
    np.testing.assert_array_equal(round_to(x, format, mode), expected)


def test_fp32_agrees_with_the_processor() -> None:
    generator = np.random.default_rng(1)
    bits = generator.integers(0, 2**31 - 2**23, 300_000).astype(np.uint32)
    x, *_ = probes(np.sort(np.unique(bits)).view(np.float32).astype(np.float64))
    with np.errstate(over="ignore"):
        expected = x.astype(np.float32).astype(np.float64)
    for format in (FORMATS["fp32"], synthetic_format(24)):  # the second is rounded as every other format is
        np.testing.assert_array_equal(round_to(x, format), expected)
    np.testing.assert_array_equal(round_to(x, FORMATS["fp64"]), x)


def test_fp64_subnormals_survive() -> None:
    x = np.array([5e-324, 1e-310, 2.0**-1022, np.finfo(np.float64).max])
    for mode in ("nearest", "zero"):
        np.testing.assert_array_equal(round_to(x, FORMATS["fp64"], mode), x)


def test_rounding_twice_through_fp32_differs() -> None:
    for name in DTYPES:
        format = FORMATS[name]
        x = np.nextafter(1.0 + format.unit_roundoff, 2.0)  # just above a tie; fp32 sees the tie itself
        assert round_to(x, format) == 1.0 + 2 * format.unit_roundoff
        assert round_to(round_to(x, FORMATS["fp32"]), format) == 1.0


def test_flushed_subnormals_become_signed_zeros() -> None:
    format: Format = FORMATS["fp16"].flushed()
    low = format.smallest_normal
    just_below = low * (1 - 2.0**-13)  # rounds up to the smallest normal number
    x = np.array([low, -low, low / 2, -low / 2, just_below])
    got = round_to(x, format)
    np.testing.assert_array_equal(got, [low, -low, 0.0, -0.0, low])
    assert np.signbit(got[3])
    assert (np.abs(got - x) <= half_ulp(np.abs(x), format)).all()
    assert (np.abs(round_to(x, format, "zero") - x) <= full_ulp(np.abs(x), format)).all()


def test_ufp_at_the_edges() -> None:
    x = np.array([0.0, 5e-324, 2.0**-1022, 0.75, 1.0, np.nextafter(1.0, 0), -3.0, np.finfo(np.float64).max, np.inf])
    np.testing.assert_array_equal(ufp(x), [0.0, 5e-324, 2.0**-1022, 0.5, 1.0, 0.5, 2.0, 2.0**1023, np.inf])


def test_bounds_are_monotone_and_never_nan() -> None:
    m = np.concatenate([[0.0], np.ldexp(1.0, np.arange(-1074, 1024)), [np.finfo(np.float64).max, np.inf]])
    m = np.sort(np.concatenate([m, np.nextafter(m[:-2], np.inf), np.nextafter(m[1:], 0)]))
    for format in ALL:
        for bound in (half_ulp(m, format), full_ulp(m, format)):
            assert not np.isnan(bound).any()
            assert (bound[1:] >= bound[:-1]).all()


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="mode"):
        round_to(1.0, FORMATS["fp16"], "up")
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match="magnitude"):
            half_ulp(np.array([wrong]), FORMATS["fp16"])


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp8e4m3", "fp8e5m2"])
def test_random_disturbances_are_those_of_half_an_ulp(name: str) -> None:
    """At midpoints and a quarter to either side: within half an ulp, with mean zero and a twelfth of its square; numbers stay."""
    format, numbers, draw = FORMATS[name], positive_codes(name), np.random.default_rng(1)
    low, high = numbers[1:-1], numbers[2:]
    for share in (0.25, 0.5, 0.75):
        x = low + share * (high - low)
        for sign in (1.0, -1.0):
            moved = (np.stack([disturb_randomly(sign * x, format, draw) for _ in range(100)]) - sign * x) / (high - low)
            assert (np.abs(moved) <= 0.5).all()
            assert abs(float(moved.mean())) < 5.0 * np.sqrt(1.0 / 12.0 / moved.size)
            assert abs(float((moved**2).mean()) * 12.0 - 1.0) < 5.0 / np.sqrt(moved.size)
    np.testing.assert_array_equal(disturb_randomly(numbers, format, draw), numbers)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e300])
    np.testing.assert_array_equal(disturb_randomly(special, format, draw), round_to(special, format))
