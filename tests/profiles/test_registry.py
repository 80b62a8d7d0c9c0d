"""Profiles by name: formats, conversions, premises, refusals."""

from __future__ import annotations

from itertools import product

import pytest

from certify.number.formats import FORMATS
from certify.profiles import UnknownProfile, UnsuitableProfile, profile_named, profiles
from certify.profiles.contract import Profile
from certify.semantics.contract import Arithmetic

FP64, FP32, TF32, FP16, BF16 = (FORMATS[name] for name in ("fp64", "fp32", "tf32", "fp16", "bf16"))
CONTRACTIONS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum")


def test_the_named_profiles_are_found() -> None:
    assert set(profiles()) == {"ieee", "wide", "ort-cpu", *(f"tensor-core-{a}" for a in ("v100", "a100", "ada", "h100", "b200"))}


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownProfile, match="ieee, ort-cpu, tensor-core-a100"):
        profile_named("fast", None, None, "any")


@pytest.mark.parametrize("name", profiles())
def test_every_profile_speaks_the_protocols_and_states_its_premises(name: str) -> None:
    profile: Profile = profile_named(name, None, None, "pairwise")
    assert profile.name == name
    assert profile.style("LayerNormalization") == "any"
    assert len(profile.assumptions) >= 3
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in profile.assumptions)
    assert any("in pairs of neighbours" in sentence for sentence in profile.assumptions)
    for kernel, inner in product(("MatMul", "Exp"), (False, True)):
        step = profile.arithmetic(kernel, [FP32, None, FP32], FP32, inner)
        assert isinstance(step, Arithmetic)
        assert step.storage == (profile.inner_format(FP32) if inner else FP32)


@pytest.mark.parametrize("name", ["ieee", "wide", "tensor-core-h100"])
def test_storage(name: str) -> None:
    narrowed = profile_named(name, BF16, None, "any")
    assert [narrowed.storage(f).name for f in (FP64, FP32, FP16, BF16)] == ["bf16", "bf16", "fp16", "bf16"]
    own = profile_named(name, None, None, "any")
    assert all(own.storage(f) == f for f in FORMATS.values())
    tensor_floats = profile_named(name, TF32, None, "any")
    assert [tensor_floats.storage(f).name for f in (FP64, FP32, FP16)] == ["fp32", "fp32", "fp16"]


def test_formats_of_kernels() -> None:
    wide, ieee = (profile_named(name, None, None, "any") for name in ("wide", "ieee"))
    assert [wide.inner_format(f).name for f in (FP64, FP32, FP16, BF16)] == ["fp64", "fp32", "fp32", "fp32"]
    assert [ieee.inner_format(f) for f in (FP64, FP32, FP16)] == [FP64, FP32, FP16]
    assert wide.arithmetic("MatMul", [FP16, FP16], FP16, False).accumulator == FP32
    assert ieee.arithmetic("MatMul", [FP16, FP16], FP16, False).accumulator == FP16
    narrow = profile_named("wide", FP16, FP16, "any")
    assert narrow.arithmetic("MatMul", [FP16, FP16], FP16, False).accumulator == FP16
    assert any("accumulated in fp16" in sentence for sentence in narrow.assumptions)


def test_tf32_is_rounded_on_entry_to_contractions_alone() -> None:
    for name, mode in (("wide", "nearest"), ("ieee", "nearest"), ("tensor-core-a100", "zero")):
        profile = profile_named(name, TF32, None, "any")
        for kernel in CONTRACTIONS:
            assert profile.operand_format(kernel, FP32) == (TF32, mode)
            assert profile.operand_format(kernel, FP16) is None
        assert profile.operand_format("Add", FP32) is None
        assert any("tf32" in sentence for sentence in profile.assumptions)
    assert profile_named("wide", None, None, "any").operand_format("MatMul", FP32) is None


def test_tensor_cores_take_tf32_for_fp32_unless_fp32_is_asked_for() -> None:
    assert profile_named("tensor-core-h100", None, None, "any").operand_format("Conv", FP32) == (TF32, "zero")
    assert profile_named("tensor-core-h100", FP32, None, "any").operand_format("Conv", FP32) is None
    assert profile_named("tensor-core-v100", None, None, "any").operand_format("Conv", FP32) is None


@pytest.mark.parametrize(
    ("name", "dtype", "accumulate", "reason"),
    [
        ("ort-cpu", "fp16", None, "no fp16 kernels"),
        ("tensor-core-v100", "bf16", None, "multiplies fp16"),
        ("tensor-core-a100", "fp16", "fp16", "accumulates in fp32"),
    ],
)
def test_what_a_profile_does_not_cover_is_refused(name: str, dtype: str, accumulate: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        profile_named(name, FORMATS[dtype], accumulate and FORMATS[accumulate], "any")


def test_ort_cpu_refuses_tensors_that_the_model_declares_narrow() -> None:
    with pytest.raises(UnsuitableProfile, match="bf16 tensors"):
        profile_named("ort-cpu", None, None, "any").storage(BF16)


def test_two_profiles_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.profiles import ieee, wide_accumulator

    monkeypatch.setattr(ieee, "PROFILES", wide_accumulator.PROFILES)
    profiles.cache_clear()
    with pytest.raises(ValueError, match="two profiles are called 'wide'"):
        profiles()
    monkeypatch.undo()
    profiles.cache_clear()
