"""DynamicQuantizeLSTM against onnxruntime's kernel: what it computes lies within reference +- bound, for every attribute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import certify
from certify.errors import CertifyError
from certify.semantics.ops.dynamic_quantization import ByRange
from tests.random_claims import Claim, outcome
from tests.semantics.test_qlinear import microsoft
from tests.semantics.test_quantization import sound

TIMES, BATCH, INPUTS, HIDDEN = 4, 3, 5, 4
Arrays = dict[str, Any]


def weights(seed: int, directions: int, signed: bool, columns: bool, zeros: bool) -> Arrays:
    """Integers so small that no kernel's sum of two products saturates; zero points as onnxruntime's kernel permits."""
    rng, rows = np.random.default_rng(seed), (directions, 4 * HIDDEN) if columns else (directions,)
    held: Any = np.int8 if signed else np.uint8
    low, high = (-64, 64) if signed else (0, 256)
    data: Arrays = {
        "W": rng.integers(low, high, (directions, INPUTS, 4 * HIDDEN)).astype(held),
        "R": rng.integers(low, high, (directions, HIDDEN, 4 * HIDDEN)).astype(held),
    }
    for name in "WR":
        data[f"{name}_scale"] = rng.uniform(0.002, 0.02, rows).astype(np.float32)
        point = (128 if not signed else 0 if columns else 3) if zeros else 0
        data[f"{name}_zero_point"] = np.full(rows, point, held)
    return data


def layer(
    seed: int = 1,
    direction: str = "forward",
    lengths: Any = None,
    *,
    signed: bool = True,
    columns: bool = True,
    zeros: bool = True,
    bias: bool = True,
    states: bool = True,
    P: bool = False,
    outputs: tuple[str, ...] = ("Y", "Y_h", "Y_c"),
    **attributes: Any,
) -> tuple[Any, Arrays]:
    """A model of one layer, and its constants."""
    rng, D = np.random.default_rng(seed), 1 + (direction == "bidirectional")
    data = weights(seed, D, signed, columns, zeros)
    data["B"] = rng.normal(size=(D, 8 * HIDDEN)).astype(np.float32)
    data["initial_h"] = rng.uniform(-1.0, 1.0, (D, BATCH, HIDDEN)).astype(np.float32)
    data["initial_c"] = rng.normal(size=(D, BATCH, HIDDEN)).astype(np.float32)
    data["P"] = rng.normal(size=(D, 3 * HIDDEN)).astype(np.float32)
    if lengths is not None:
        data["lengths"] = np.asarray(lengths, np.int32)
    given = {"B": bias, "lengths": lengths is not None, "initial_h": states, "initial_c": states, "P": P}
    names = ["X", "W", "R", *(name if present else "" for name, present in given.items())]
    names += [f"{name}_{part}" for name in "WR" for part in ("scale", "zero_point")]
    node = helper.make_node(
        "DynamicQuantizeLSTM", names, list(outputs), domain="com.microsoft", hidden_size=HIDDEN, direction=direction, **attributes
    )
    X = helper.make_tensor_value_info("X", TensorProto.FLOAT, (TIMES, BATCH, INPUTS))
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name]
    graph = helper.make_graph([node], "g", [X], results, [numpy_helper.from_array(x, name) for name, x in data.items() if name in names])
    domains = [helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9), data


def sample(seed: int = 5) -> Any:
    return np.random.default_rng(seed).normal(size=(TIMES, BATCH, INPUTS)).astype(np.float32)


def broken(certificate: Any, model: Any, x: Any, threads: int = 1) -> list[str]:
    """The outputs of onnxruntime that are not within the certificate."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = []
    for info, y in zip(session.get_outputs(), session.run(None, {"X": x}), strict=True):
        out = certificate.outputs[info.name]
        if not (np.abs(y - out.reference[0]) <= out.absolute_bound[0]).all():
            found.append(info.name)
    return found


def inside(model: Any, x: Any, most: float = 0.25) -> Any:
    """The certificate at x, after onnxruntime's outputs, whatever the number of threads, have been seen to lie in it."""
    certificate = certify.certify(model, data={"X": x[None]}, validate=False)
    for threads in (1, 2, 3):
        assert broken(certificate, model, x, threads) == []
    for out in certificate.outputs.values():
        assert (out.absolute_bound <= most).all()
    return certificate


CASES: list[dict[str, Any]] = [
    *({"direction": d, "signed": signed, "columns": not signed} for d in ("reverse", "bidirectional") for signed in (True, False)),
    *({"direction": d, "lengths": [2, 4, 1], "states": d != "reverse"} for d in ("forward", "reverse", "bidirectional")),
    *({"signed": signed, "columns": columns} for signed in (True, False) for columns in (True, False)),
    {"signed": False, "zeros": False},
    {"states": False, "bias": False},
    {"states": False, "columns": False, "lengths": [1, 3, 2]},
    {"outputs": ("", "Y_h"), "lengths": [3, 1, 2], "direction": "reverse"},
    {"outputs": ("Y",), "P": True},
    {"P": True, "direction": "bidirectional"},
    {"P": True, "input_forget": 1},
    {"clip": 0.25},
    {"activations": ["HardSigmoid", "Softsign", "Relu"]},
    {"activations": ["Sigmoid", "LeakyRelu", "Affine"], "activation_alpha": [0.125, 0.5], "activation_beta": [0.25]},
]


@pytest.mark.parametrize("k", range(len(CASES)), ids=[str(given) for given in CASES])
def test_onnxruntime_stays_within(k: int) -> None:
    inside(layer(k, **CASES[k])[0], sample(k), 0.25 if CASES[k].get("zeros", True) else 1.0)


def test_the_reference_is_the_lstm_with_real_weights() -> None:
    """In float64, in the layout of LSTM, by the model of that operator."""
    model, data = layer(direction="bidirectional", signed=False, columns=False, lengths=[2, 4, 1], P=True)
    arrays = {name: data[name] for name in ("B", "lengths", "initial_h", "initial_c", "P")}
    for name in "WR":
        scale, zero = (data[f"{name}_{part}"].astype(np.float64).reshape(-1, 1, 1) for part in ("scale", "zero_point"))
        arrays[name] = ((data[name].astype(np.float64) - zero) * scale).transpose(0, 2, 1)
    arrays |= {name: x.astype(np.float64) for name, x in arrays.items() if name != "lengths"}
    names = ["X", "W", "R", "B", "lengths", "initial_h", "initial_c", "P"]
    node = helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=HIDDEN, direction="bidirectional")
    X = helper.make_tensor_value_info("X", TensorProto.DOUBLE, (TIMES, BATCH, INPUTS))
    results = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in ("Y", "Y_h", "Y_c")]
    graph = helper.make_graph([node], "g", [X], results, [numpy_helper.from_array(x, name) for name, x in arrays.items()])
    plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=9)
    x = sample()
    expected = certify.certify(plain, data={"X": x.astype(np.float64)[None]}, validate=False)
    found = certify.certify(model, data={"X": x[None]}, validate=False)
    for name, out in found.outputs.items():
        assert np.allclose(out.reference, expected.outputs[name].reference, rtol=1e-13, atol=1e-14)


def test_zeros_are_exact_and_extreme_inputs_stay_within() -> None:
    """A state of zeros, with an input of zeros, costs no more than the activations; scales that underflow cost what they lose."""
    model, _ = layer(states=False, bias=False)
    x = sample()
    assert not inside(model, 0.0 * x, 1e-5).outputs["Y"].reference.any()
    for scale in (1e-44, 1e-40, 1e-38, 1e-30):
        inside(model, (scale * x).astype(np.float32), 1e-5)
    for data in (np.abs(x), -np.abs(x), 1e4 * x, np.full_like(x, 3.0)):
        inside(model, data, np.inf)
    assert np.isinf(certify.certify(model, data={"X": 2e38 * np.sign(x)[None]}, validate=False).outputs["Y"].absolute_bound).any()


@pytest.mark.parametrize(
    ("profile", "dtype"), [("ieee", "fp16"), ("ieee", "bf16"), ("wide", "bf16"), ("wide", "fp8e4m3"), ("ort-cpu", "fp32")]
)
def test_conforming_runs_stay_within(profile: str, dtype: str) -> None:
    model, _ = layer(lengths=[4, 2, 3], P=True)
    certificate = certify.certify(model, data={"X": sample()[None]}, profile=profile, dtype=dtype)
    for name in ("Y", "Y_h", "Y_c"):
        sound(certificate, name)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_hostile_runs_stay_within(dtype: str) -> None:
    model, _ = layer(lengths=[2, 4, 3])
    points = {"X": np.stack([sample(), 3 * sample()])}
    for profile, region in (("ieee", False), ("wide", True)):
        found = outcome(model, points, Claim(dtype, None, profile, "any", "auto", region))
        assert found.kind in ("finite", "infinite"), found.text


def test_a_region_holds_its_points() -> None:
    model, _ = layer(states=False)
    region = certify.certify(model, ranges={"X": (-1.0, 1.0)}, region=True, boxes=8, samples=2)
    assert region.gate is not None
    assert region.gate.exit_code == 0, region.gate.reasons
    point = certify.certify(model, data={"X": np.clip(sample(), -1, 1)[None]}, validate=False)
    for name, out in region.outputs.items():
        assert (point.outputs[name].absolute_bound <= out.absolute_bound * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("given", "changed", "reason"),
    [
        ({"lengths": [0, 2, 4]}, {}, "sequence_lens"),
        ({"direction": "bidirectional"}, {"R_zero_point": np.zeros(2, np.int8)}, "one zero point of R a direction"),
        ({}, {"W_scale": np.ones((1, 3), np.float32)}, r"scales \[1, 3\]"),
        ({}, {"R": np.zeros((1, HIDDEN, 3), np.int8)}, "R of shape"),
        ({"activations": ["Sine", "Tanh", "Tanh"]}, {}, "its activation 'Sine'"),
    ],
)
def test_refused_with_a_reason(given: dict[str, Any], changed: Arrays, reason: str) -> None:
    model, _ = layer(**given)
    for stored in model.graph.initializer:
        if stored.name in changed:
            stored.CopyFrom(numpy_helper.from_array(changed[stored.name], stored.name))
    with pytest.raises(CertifyError, match=reason):
        certify.certify(model, data={"X": sample()[None]}, validate=False)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_kernel_that_quantizes_breaks_a_claim_that_forgets_it(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack sees the state's quantization, and a bound of three tenths of it, as violations."""
    honest = ByRange.rounding
    monkeypatch.setattr(ByRange, "rounding", lambda *x, **attributes: share * honest(*x, **attributes))
    found = []
    for seed in range(3):
        model, _ = layer(seed, columns=False)
        certificate = certify.certify(model, data={"X": sample(seed)[None]}, validate=False)
        found += broken(certificate, model, sample(seed))
    assert found


def test_a_product_with_zeros_is_exact() -> None:
    """DynamicQuantizeMatMul has the same parts."""
    rng = np.random.default_rng(3)
    constants: Arrays = {"b": rng.integers(-64, 64, (6, 4)).astype(np.int8), "s": np.array(0.03, np.float32), "z": np.array(2, np.int8)}
    x = rng.normal(size=(3, 6)).astype(np.float32)
    for data in (0.0 * x, x, np.abs(x), (1e-42 * x).astype(np.float32)):
        model = microsoft("DynamicQuantizeMatMul", {"x": data}, constants, {"y": TensorProto.FLOAT})
        output = sound(certify.certify(model, data={"x": data}))
        assert data.any() or not output.absolute_bound.any()
    region = certify.certify(model, ranges={"x": (0.0, 1.0)}, region=True, boxes=8, samples=2)
    assert np.isfinite(sound(region).absolute_bound).all()
