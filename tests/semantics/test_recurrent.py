"""RNN, LSTM and GRU against onnxruntime's kernels: what these compute lies within reference +- bound, for every attribute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import certify
from certify.errors import CertifyError
from tests.random_claims import Claim, outcome

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
TIMES, BATCH, INPUTS, HIDDEN = 4, 3, 2, 3


def cell(
    kind: str, directions: int = 1, opset: int = 14, lengths: Any = None, *, states: bool = True, P: bool = False, **attributes: Any
) -> Any:
    """A model of one layer with weights, biases and, if asked for, initial states; its outputs are Y and all last states."""
    rng = np.random.default_rng(len(kind) + directions)
    G, layout = GATES[kind], attributes.get("layout", 0)
    state = (BATCH, directions, HIDDEN) if layout else (directions, BATCH, HIDDEN)
    shapes = {
        "W": (directions, G * HIDDEN, INPUTS),
        "R": (directions, G * HIDDEN, HIDDEN),
        "B": (directions, 2 * G * HIDDEN),
        "initial_h": state,
        "initial_c": state,
    }
    data = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    data["P"] = rng.normal(size=(directions, 3 * HIDDEN)).astype(np.float32)
    if lengths is not None:
        data["lengths"] = np.asarray(lengths, dtype=np.int32)
    names = ["X", "W", "R", "B", "lengths" if lengths is not None else "", *(["initial_h"] if states else [""])]
    if kind == "LSTM":
        names += [*(["initial_c"] if states else [""]), *(["P"] if P else [])]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, names, outputs, hidden_size=HIDDEN, **attributes)
    used = [numpy_helper.from_array(x, name) for name, x in data.items() if name in names]
    X = helper.make_tensor_value_info("X", TensorProto.FLOAT, (BATCH, TIMES, INPUTS) if layout else (TIMES, BATCH, INPUTS))
    graph = helper.make_graph([node], "g", [X], [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs], used)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def sample(layout: int = 0) -> Any:
    return np.random.default_rng(5).normal(size=(BATCH, TIMES, INPUTS) if layout else (TIMES, BATCH, INPUTS)).astype(np.float32)


def inside(model: Any, x: Any, runtime_model: Any = None, **options: Any) -> Any:
    """The certificate at x, after onnxruntime's outputs have been seen to lie in it."""
    import onnxruntime

    certificate = certify.certify(model, data={"X": x[None]}, validate=False, **options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for info, y in zip(session.get_outputs(), session.run(None, {"X": x}), strict=True):
        out = certificate.outputs[info.name]
        assert np.isfinite(out.absolute_bound).all()
        assert out.absolute_bound.max() < 1e-3
        assert (np.abs(y - out.reference[0]) <= out.absolute_bound[0]).all(), info.name
    return certificate


CASES: list[tuple[str, dict[str, Any]]] = [
    *(
        (kind, {"direction": d, "directions": 1 + (d == "bidirectional")})
        for kind in GATES
        for d in ("forward", "reverse", "bidirectional")
    ),
    *(
        (kind, {"lengths": [2, 4, 1], "direction": d, "directions": 1 + (d == "bidirectional")})
        for kind in GATES
        for d in ("reverse", "bidirectional")
    ),
    ("RNN", {"states": False, "opset": 7}),
    ("LSTM", {"P": True}),
    ("LSTM", {"input_forget": 1, "P": True, "opset": 7}),
    ("GRU", {"linear_before_reset": 1, "opset": 22}),
    *((kind, {"clip": 0.25}) for kind in GATES),
    ("RNN", {"activations": ["Relu"]}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.25]}),
    ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.125]}),
    ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.5]}),
    ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.5], "activation_beta": [0.5]}),
    ("RNN", {"activations": ["HardSigmoid"]}),
    ("RNN", {"activations": ["Elu"], "activation_alpha": [3.0]}),
    ("RNN", {"activations": ["Softsign"]}),
    ("RNN", {"activations": ["Softplus"]}),
    ("GRU", {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [0.3, 0.2], "activation_beta": [0.4]}),
    ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
]


@pytest.mark.parametrize(("kind", "given"), CASES, ids=[f"{kind} {given}" for kind, given in CASES])
def test_onnxruntime_stays_within(kind: str, given: dict[str, Any]) -> None:
    inside(cell(kind, **given), sample())


@pytest.mark.parametrize("kind", GATES)
def test_batch_first_is_time_first_transposed(kind: str) -> None:
    """onnxruntime has no kernel for layout 1."""
    x = sample()
    first = certify.certify(cell(kind, 2, direction="bidirectional", states=False), data={"X": x[None]}, validate=False)
    model = cell(kind, 2, direction="bidirectional", states=False, layout=1)
    second = certify.certify(model, data={"X": x.transpose(1, 0, 2)[None]}, validate=False)
    for name, out in first.outputs.items():
        perm = (0, 3, 1, 2, 4) if name == "Y" else (0, 2, 1, 3)
        for part in ("reference", "absolute_bound"):
            assert np.allclose(getattr(out, part).transpose(perm), getattr(second.outputs[name], part), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("RNN", {"activations": ["ThresholdedRelu"]}, "no common default"),
        ("RNN", {"activations": ["Sine"]}, "its activation 'Sine'"),
        ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.1, 0.2]}, "2 values of activation_alpha"),
        ("GRU", {"activations": ["Sigmoid"]}, "1 activations for 1 directions"),
        ("LSTM", {"lengths": [0, 2, 4]}, "sequence_lens"),
    ],
)
def test_refused_with_a_reason(kind: str, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(CertifyError, match=reason):
        certify.certify(cell(kind, **given), data={"X": sample()[None]}, validate=False)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "fp8e5m2", "tf32"])
@pytest.mark.parametrize("kind", GATES)
def test_conforming_runs_stay_within(kind: str, dtype: str) -> None:
    certificate = certify.certify(cell(kind, 2, direction="bidirectional"), data={"X": np.stack([sample(), -2 * sample()])}, dtype=dtype)
    assert certificate.gate is not None
    assert certificate.gate.exit_code != 4, certificate.gate.reasons


def test_a_region_holds_its_points() -> None:
    model, x = cell("GRU", linear_before_reset=1), sample()
    region = certify.certify(model, ranges={"X": (-1.0, 1.0)}, region=True, boxes=8, samples=2)
    assert region.gate is not None
    assert region.gate.exit_code != 4, region.gate.reasons
    point = certify.certify(model, data={"X": np.clip(x, -1, 1)[None]}, validate=False)
    for name, out in region.outputs.items():
        assert (point.outputs[name].absolute_bound <= out.absolute_bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("profile", ["ieee", "ort-cpu", "tensor-core-h100"])
@pytest.mark.parametrize("summation", ["any", "pairwise", "blocked:2"])
def test_profiles(profile: str, summation: str) -> None:
    if summation != "any" and profile.startswith("tensor"):
        pytest.skip("these state their own order")
    certificate = certify.certify(cell("LSTM", P=True), data={"X": sample()[None]}, profile=profile, summation=summation)
    assert certificate.gate is not None
    assert certificate.gate.exit_code != 4, certificate.gate.reasons


def test_weights_are_cut_once_and_stay_constants() -> None:
    """Whatever is cut from W, R, B is stored as they are, and no step cuts it."""
    from certify.analysis.bind import bind
    from certify.graph.load import load
    from certify.number.formats import format_named
    from certify.profiles import profile_named

    program = bind(load(cell("LSTM", P=True)), profile_named("wide", format_named("bf16"), None, "any"))
    cut = [step for step in program.steps if step.rule.name in ("Slice", "Transpose")]
    assert all(name not in program.exact for step in cut for name in step.operands)
    blocks = [step for step in program.steps if step.rule.name == "Block"]
    factors = {name for step in blocks for name in step.operands if name in program.exact and program.exact[name].shape[2] > BATCH}
    assert len(factors) == GATES["LSTM"]
    for name in factors:
        assert program.formats[name] == format_named("bf16")
        assert not np.array_equal(program.stored[name], program.exact[name])


def test_a_long_sequence_keeps_its_bound() -> None:
    """Tubes are refined at the states, once a step: the bound of step 60 is that of step 6, not a power of it."""
    rng = np.random.default_rng(3)
    bounds = []
    for times in (6, 60):
        data = {name: rng.uniform(-0.2, 0.2, shape).astype(np.float32) for name, shape in (("W", (1, 64, 8)), ("R", (1, 64, 16)))}
        node = helper.make_node("LSTM", ["X", "W", "R"], ["", "Y_h"], hidden_size=16)
        X = helper.make_tensor_value_info("X", TensorProto.FLOAT, (times, 1, 8))
        Y = helper.make_tensor_value_info("Y_h", TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "g", [X], [Y], [numpy_helper.from_array(x, name) for name, x in data.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=9)
        x = rng.normal(size=(1, times, 1, 8)).astype(np.float32)
        bounds.append(certify.certify(model, data={"X": x}, validate=False).outputs["Y_h"].absolute_bound.max())
    assert bounds[1] < 3 * bounds[0]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp8e4m3"])
@pytest.mark.parametrize("kind", GATES)
def test_hostile_runs_stay_within(kind: str, dtype: str) -> None:
    """Elementary functions as wrong as they may be, sums in bad orders, inside of blocks as well; at points and in a box."""
    model = cell(kind, lengths=[2, 4, 3], **({"linear_before_reset": 1} if kind == "GRU" else {}))
    points = {"X": np.stack([sample(), 3 * sample()])}
    for profile, region in (("ieee", False), ("wide", True)):
        found = outcome(model, points, Claim(dtype, None, profile, "any", "auto", region))
        assert found.kind in ("finite", "infinite"), found.text
