"""CausalConvWithState and LinearAttention: ONNX's reference lies within the certificate, and no hostile run leaves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import certify
from certify.errors import CertifyError
from tests.random_claims import Claim, outcome

B, T, H, DK, DV = 2, 3, 2, 3, 2


def model(kind: str, feeds: dict[str, Any], order: list[str], outputs: list[str], **attributes: Any) -> Any:
    node = helper.make_node(kind, [name if name in feeds else "" for name in order], outputs, **attributes)
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name, x in feeds.items()]
    graph = helper.make_graph([node], "g", declared, [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 27)], ir_version=13)


def some(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def attention(rule: str, heads: int = H, scale: float = 0.0, past: bool = True) -> tuple[Any, dict[str, Any]]:
    feeds = {"query": some(B, T, heads * DK), "key": some(B, T, H * DK), "value": some(B, T, H * DV)}
    if past:
        feeds["past_state"] = some(B, H, DK, DV)
    if "gated" in rule:
        feeds["decay"] = -np.abs(some(B, T, H * DK))
    if "delta" in rule:
        feeds["beta"] = np.abs(some(B, T, H)) / 4
    order = ["query", "key", "value", "past_state", "decay", "beta"]
    attributes = {"q_num_heads": heads, "kv_num_heads": H, "update_rule": rule, "scale": scale}
    return model("LinearAttention", feeds, order, ["output", "present_state"], **attributes), feeds


def convolution(activation: str, kernel: int = 3) -> tuple[Any, dict[str, Any]]:
    feeds = {"input": some(B, 4, 5), "weight": some(4, 1, kernel), "bias": some(4), "past_state": some(B, 4, kernel - 1)}
    order = ["input", "weight", "bias", "past_state"]
    return model("CausalConvWithState", feeds, order, ["output", "present_state"], activation=activation), feeds


CASES = [
    *((f"{rule} {heads}", attention(rule, heads)) for rule in ("linear", "gated", "delta", "gated_delta") for heads in (H, 2 * H)),
    ("explicit scale", attention("gated_delta", scale=0.25, past=False)),
    *((activation, convolution(activation)) for activation in ("none", "silu", "swish")),
]


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_the_reference_stays_within(case: Any) -> None:
    built, feeds = case
    certificate = certify.certify(built, data={name: x[None] for name, x in feeds.items()}, validate=False)
    for name, y in zip(("output", "present_state"), ReferenceEvaluator(built).run(None, feeds), strict=True):
        out = certificate.outputs[name]
        assert out.absolute_bound.max() < 1e-4
        assert (np.abs(y.astype(np.float64) - out.reference[0]) <= out.absolute_bound[0]).all(), name


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "fp8e5m2"])
@pytest.mark.parametrize("name", ["gated_delta 4", "silu"])
def test_hostile_runs_stay_within(name: str, dtype: str) -> None:
    built, feeds = dict(CASES)[name]
    for profile in ("wide", "ieee"):
        found = outcome(built, {k: x[None] for k, x in feeds.items()}, Claim(dtype, None, profile, "any", "auto", False))
        assert found.kind in ("finite", "infinite"), found.text


def test_refused_with_a_reason() -> None:
    _, feeds = attention("gated_delta")
    order = ["query", "key", "value", "past_state", "decay", "beta"]
    attributes = {"q_num_heads": H, "kv_num_heads": H, "update_rule": "linear"}
    wrong = model("LinearAttention", feeds, order, ["output", "present_state"], **attributes)
    with pytest.raises(CertifyError, match=r"update_rule 'linear'|forbids decay"):
        certify.certify(wrong, data={name: x[None] for name, x in feeds.items()})
