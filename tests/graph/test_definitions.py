"""Operators without a rule are read by the standard's own definition. Rules are hidden here, so that there are such operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import certify
from certify.analysis import asked
from certify.graph.load import load
from certify.graph.model import Unsupported
from tests.conformance.cases import _compare, cases
from tests.graph.build import parsed
from tests.graph.test_bodies import same

CASES = {
    "Shrink": "test_shrink_soft",
    "ThresholdedRelu": "test_thresholdedrelu",
    "MeanVarianceNormalization": "test_mvn",
    "SwiGLU": "test_swiglu",
    "CenterCropPad": "test_center_crop_pad_crop_and_pad",
    "NegativeLogLikelihoodLoss": "test_nllloss_NCd1_weight",
    "SoftmaxCrossEntropyLoss": "test_sce_mean_weight_log_prob",
    "Attention": "test_attention_4d_causal",
    "RotaryEmbedding": "test_rotary_embedding",
}
Hide = Callable[[str], Callable[[str, str, int], bool]]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Hide:
    """hide(operator): the rules of all other operators are known alone."""

    def hidden(operator: str) -> Callable[[str, str, int], bool]:
        def ruled(domain: str, name: str, opset: int) -> bool:
            return name != operator and asked.has_rule(domain, name, opset)

        monkeypatch.setattr("certify.analysis.target.has_rule", ruled)
        return ruled

    return hidden


@pytest.mark.parametrize("operator", CASES)
def test_a_definition_stands_in_for_a_rule(operator: str, hide: Hide) -> None:
    hide(operator)
    case = next(case for case in cases() if case.name == CASES[operator])
    found = certify.certify(case.model, data=case.inputs, shapes=case.open_shapes)
    assert not _compare(found, case.expected)
    assert all(np.isfinite(output.absolute_bound).all() for output in found.outputs.values())
    assert any(text.startswith(f"{operator} is computed as the ONNX standard defines it") for text in found.claim.profile.assumptions)
    assert found.validation is not None
    assert not found.validation.violations
    assert f"the claim is about the definition of {operator}" in found.validation.runtime
    assert "simulator, sequential" in found.validation.runtime


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_its_inner_results_are_stored(dtype: str, hide: Hide) -> None:
    """Each operation of the definition rounds; the kernel that the rule describes rounds at its end alone."""
    model = parsed("g (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] y) { y = MeanVarianceNormalization(x) }")
    data = {"x": np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype(np.float32)}
    fused = certify.certify(model, data=data, dtype=dtype).outputs["y"]
    hide("MeanVarianceNormalization")
    opened = certify.certify(model, data=data, dtype=dtype)
    assert opened.validation is not None
    assert not opened.validation.violations
    assert opened.outputs["y"].absolute_bound.max() > fused.absolute_bound.max()


def test_the_file_means_the_same_opened(hide: Hide) -> None:
    """Attributes given and left out, and a definition inside a branch that data choose."""
    text = """g (float[4] x, bool c) => (float[4] y, float[4] z) {
        y = Shrink<lambd = 0.25, bias = 0.5>(x)
        z = If (c) <then_branch = t () => (float[4] p) { p = Shrink(x) }, else_branch = e () => (float[4] p) { p = Neg(x) }>
    }"""
    ruled = hide("Shrink")
    x = np.float32([-1, -0.3, 0.1, 2])
    for condition in (True, False):
        assert "Shrink" in {node.op_type for node in same(parsed(text), x=x, c=condition).nodes}
        assert "Shrink" not in {node.op_type for node in same(parsed(text), ruled, x=x, c=condition).nodes}


def test_what_cannot_be_followed_is_refused_by_name(hide: Hide) -> None:
    """Without data nobody knows the size of what is cut out."""
    model = parsed("g (float[4, 4] x, int64[2] s) => (float[N, M] y) { y = CenterCropPad(x, s) }")
    with pytest.raises(
        Unsupported, match=r"no rule for ai.onnx::CenterCropPad \(opset 18\), node 'y', and its definition cannot be followed"
    ):
        load(model, ruled=hide("CenterCropPad"))


def test_random_results_are_refused_for_what_they_are(hide: Hide) -> None:
    with pytest.raises(Unsupported, match="no rule for ai.onnx::Bernoulli .* random"):
        certify.certify(parsed("g (float[2] x) => (float[2] y) { y = Bernoulli(x) }"))
