"""ONNX's own cases at nasty numbers: no bound is broken, nothing crashes, no bound is NaN. benchmarks/fuzz.md has longer runs."""

from __future__ import annotations

import numpy as np
import pytest

from certify.validate import runs
from tests.conformance.cases import cases
from tests.random_cases import Tally, claim, run

FOUND = {
    ("resize_downsample_scales_linear", "fp16"): "scales, which the standard holds in fp32, rounded into storage by the runs",
    ("resize_downsample_scales_cubic_A_n0p5_exclude_outside", "bf16"): "the same, with weights left out",
    ("simple_rnn_defaults", "fp32"): "onnxruntime's Tanh inside recurrent layers, which has an absolute error",
    ("attention_24_fullymasked_qk_matmul_output_mode3_zero_expanded", "fp16"): "a masked row, which mpmath has no number for",
    ("attention_local_window_gqa_rank4_mask_expanded", "fp32"): "the same",
}
LATER = {
    ("reduce_log_sum_exp_negative_axes_keepdims_random", "fp32"): "a kernel that does not shift by the maximum, and overflows",
    ("resize_tf_crop_and_resize", "fp16"): "a region of interest rounded into storage by the runs",
}


@pytest.mark.parametrize(("name", "dtype"), FOUND)
def test_what_was_found_stays_mended(name: str, dtype: str) -> None:
    tally = Tally()
    claim(next(case for case in cases() if case.name == f"test_{name}"), 0, dtype, tally)
    assert tally.finite == 1
    assert not tally.wrong


@pytest.mark.parametrize(("name", "dtype"), LATER)
def test_what_was_found_later_stays_mended(name: str, dtype: str) -> None:
    tally = Tally()
    claim(next(case for case in cases() if case.name == f"test_{name}"), 1, dtype, tally)
    assert not tally.wrong


def test_nothing_refutes_random_claims() -> None:
    tally = run(0, 160, Tally())
    assert not tally.wrong
    assert tally.finite > 120


def test_a_bound_that_is_too_small_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack has teeth: runs that are off by twice the bounds do not pass."""
    honest = runs.perform

    def displaced(subject: object) -> object:
        done = honest(subject)  # type: ignore[arg-type]
        for one in done.runs:
            for name, x in one.outputs.items():
                one.outputs[name] = np.asarray(x, dtype=np.float64) * (1.0 + 2.0**-4)  # type: ignore[index]
        return done

    monkeypatch.setattr("certify.validate.validation.perform", displaced)
    assert len(run(0, 20, Tally()).wrong) >= 5
