"""Which runs are made for which claim, what they cover, and that a wrong bound or a wrong reference is an alarm."""

from __future__ import annotations

import json
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, save

import certify
from certify.certificate.build import document
from certify.certificate.contract import Certificate
from certify.cli.main import main
from certify.engines.answer import Answer
from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS
from certify.profiles import profile_named
from certify.profiles.arithmetic import NearestArithmetic
from certify.report.text import print_text
from certify.validate import reference, runs, validation
from certify.validate.conform import against_kernels
from tests.validate.bound import program_of
from tests.validate.graphs import model, perceptron

NATIVE = "rewrites disabled, threads 1"
THREADS = "rewrites disabled, threads 2"
BATCH = "rewrites disabled, threads 1, one batch"
ADVERSARIAL = ["simulator, sequential", "simulator, positives-first", "simulator, descending"]


def certified(graph: Any, **options: Any) -> Certificate:
    return certify.certify(graph, **{"samples": 3, "ranges": (-1, 1), **options})


def said(graph: Any, **options: Any) -> list[str]:
    """The account of the runs, entry by entry, without the runtime's name and version."""
    validated = certified(graph, **options).validation
    assert validated is not None
    assert not validated.violations
    given = validated.runtime.split("; ")
    assert validated.runs == len([entry for entry in given if not entry.startswith("not run") and entry != "nothing could be run"])
    return [entry if entry.startswith("not run") else entry.split(" CPUExecutionProvider, ")[-1] for entry in given]


def rounded(name: str) -> list[str]:
    return [f"node by node, rounded into {name}", f"node by node, rounded into {name}, one batch"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [NATIVE, THREADS, BATCH, *ADVERSARIAL]),
        ({"dtype": "fp32"}, [NATIVE, THREADS, BATCH, *ADVERSARIAL]),
        ({"profile": "ieee"}, [NATIVE, THREADS, BATCH, *ADVERSARIAL]),
        ({"profile": "ort-cpu"}, [NATIVE, THREADS, BATCH, *ADVERSARIAL]),
        ({"accumulate": "fp32"}, [NATIVE, THREADS, BATCH, *ADVERSARIAL]),
        ({"dtype": "bf16"}, [*rounded("bf16"), *ADVERSARIAL]),
        ({"dtype": "fp16"}, [*rounded("fp16"), *ADVERSARIAL]),
        ({"dtype": "fp8e5m2"}, [*rounded("fp8e5m2"), *ADVERSARIAL]),
        ({"dtype": "fp64"}, [*rounded("fp64"), *ADVERSARIAL]),
        ({"dtype": "tf32"}, [*rounded("fp32, factors converted"), *ADVERSARIAL]),
    ],
)
def test_what_conforms_is_run(options: dict[str, Any], expected: list[str]) -> None:
    assert said(perceptron(), **options) == expected


@pytest.mark.parametrize(
    ("options", "why", "simulated"),
    [
        ({"accumulate": "fp16"}, "accumulate in fp32, the claim is about fp16", ADVERSARIAL),
        ({"accumulate": "fp64"}, "accumulate in fp32, the claim is about fp64", ADVERSARIAL),
        ({"dtype": "fp16", "accumulate": "fp16"}, "accumulate in fp32, the claim is about fp16", ADVERSARIAL),
        ({"dtype": "bf16", "profile": "ieee"}, "in fp32, the claim is about bf16", ADVERSARIAL),
        ({"dtype": "fp16", "profile": "tensor-core-h100"}, "tensor-core-h100, whose Gemm the CPU does not compute", ADVERSARIAL),
        ({"summation": "sequential"}, "orders of their own, the claim is about sequential", ["simulator, sequential"]),
        ({"summation": "pairwise", "dtype": "bf16"}, "orders of their own, the claim is about pairwise", ["simulator, pairwise"]),
        ({"summation": "blocked:4"}, "orders of their own, the claim is about blocked:4", ["simulator, blocked-4"]),
    ],
)
def test_what_does_not_conform_is_not_run_and_says_why(options: dict[str, Any], why: str, simulated: list[str]) -> None:
    *ran, refused = said(perceptron(), **options)
    assert ran == simulated
    assert refused.startswith("not run: onnxruntime on the CPU: its kernels" if "tensor" not in why else "not run: onnxruntime on the CPU")
    assert why in refused


def test_operands_converted_inside_a_kernel_are_left_to_the_simulator() -> None:
    """An emulated kernel that is no contraction itself takes its operands as they are: not as the claim's conversions have them."""
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik")
    weights = {"w": np.float32([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])}
    graph = model([node], {"x": [2, 3]}, {"y": [2, 2]}, weights)
    assert said(graph, dtype="tf32") == ["node by node, rounded into fp32, factors converted", *ADVERSARIAL]
    program = program_of(graph, dtype="tf32")
    profile = profile_named("wide", FORMATS["tf32"], None, "any")
    inside = replace(program, steps=tuple(replace(step, kind="Attention") for step in program.steps))
    assert against_kernels(program, profile, "any") is None
    assert against_kernels(inside, profile, "any") == "the claim converts operands inside Attention, where only the kernel could"


@pytest.mark.parametrize(("op", "attributes"), [("Gelu", {"approximate": "tanh"}), ("HardSwish", {})])
def test_what_the_runtime_expands_in_fp64_is_left_to_the_simulator(op: str, attributes: dict[str, str]) -> None:
    """It has no such kernels and expands the definitions, with constants of fp32: off by 6e-9, and by 3e-8 where alpha is 1/6."""
    for element, dtype in ((TensorProto.DOUBLE, None), (TensorProto.FLOAT, "fp64")):
        graph = model([helper.make_node(op, ["x"], ["y"], **attributes)], {"x": [3]}, {"y": [3]}, opset=20, element=element)
        *ran, refused = said(graph, **({} if dtype is None else {"dtype": dtype}))
        assert ran == ADVERSARIAL
        assert "whose constants are of fp32" in refused


def test_a_double_model_with_a_narrow_accumulator_is_not_simulated_with_double_roundings() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = model([node], {"x": [1, 2]}, {"y": [1, 1]}, {"w": np.float64([[0.1], [0.3]])}, element=TensorProto.DOUBLE)
    entries = said(graph, accumulate="fp32")
    assert entries[0] == "nothing could be run"
    assert any("rounded twice into fp32" in entry for entry in entries)
    assert said(graph)[:2] == [NATIVE, THREADS]


def test_a_half_precision_model_is_emulated_though_onnxruntime_would_take_it() -> None:
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    graph = model([node], {"x": ["N", 3]}, {"y": ["N", 3]}, element=TensorProto.FLOAT16)
    assert said(graph)[:2] == rounded("fp16")


def test_a_model_newer_than_the_runtime_runs_node_by_node() -> None:
    graph = perceptron()
    graph.ir_version = 99  # of the future: refused as a file, while every operator in it is known
    *ran, refused = said(graph)
    assert ran == [*rounded("fp32"), *ADVERSARIAL]
    assert "refuses the model" in refused


def test_models_given_by_path_bytes_and_proto_run_alike(tmp_path: Path) -> None:
    graph = perceptron()
    save(graph, tmp_path / "m.onnx")
    expected = said(graph)
    assert BATCH in expected
    assert said(str(tmp_path / "m.onnx")) == expected == said(graph.SerializeToString())


def test_one_case_or_a_closed_batch_is_no_batch() -> None:
    assert BATCH not in said(perceptron(), samples=1)
    node = helper.make_node("Relu", ["x"], ["y"])
    assert BATCH not in said(model([node], {"x": [1, 3]}, {"y": [1, 3]}))


def test_decisions_and_integers_are_compared_as_well() -> None:
    nodes = [helper.make_node("ArgMax", ["x"], ["k"], axis=-1, keepdims=0), helper.make_node("Relu", ["x"], ["y"])]
    graph = model(nodes, {"x": ["N", 4]}, {"k": ["N"], "y": ["N", 4]}, elements={"k": TensorProto.INT64})
    found = certified(graph)
    assert found.outputs["k"].observed_max == 0.0
    assert found.outputs["k"].tightness in (1.0, np.inf)


def test_rewrites_are_never_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = runs.open_runner

    def recorded(graph: Any, provider: Any = "cpu", optimization: Any = "disabled", **rest: Any) -> Any:
        opened.append(optimization)
        return original(graph, provider, optimization, **rest)

    monkeypatch.setattr(runs, "open_runner", recorded)
    said(perceptron(), profile="ort-cpu")
    assert opened == ["disabled"] * 3


@pytest.mark.parametrize("summation", ["any", "sequential"])
def test_cuda_is_asked_for_and_missed_aloud(summation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "provider_missing", lambda provider: "no GPU; none at all" if provider == "cuda" else None)
    with_gpu, without = said(perceptron(), provider="cuda", summation=summation), said(perceptron(), summation=summation)
    assert "not run: CUDA: no GPU, none at all" in with_gpu
    assert [entry for entry in with_gpu if "CUDA" not in entry] == without


def test_cuda_runs_where_it_is_and_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands in for the GPU: what is tested is when it is asked."""
    original = runs.open_runner
    asked = []

    def open_runner(graph: Any, provider: str = "cpu", *rest: Any, **options: Any) -> Any:
        asked.append(provider)
        return original(graph, "cpu", *rest, **options)

    monkeypatch.setattr(runs, "open_runner", open_runner)
    monkeypatch.setattr(runs, "provider_missing", lambda provider: None)
    entries = said(perceptron(), provider="cuda")
    assert asked.count("cuda") == 2
    assert len([entry for entry in entries if "CUDAExecutionProvider" in entry]) == 2
    for options, why in (
        ({"profile": "ort-cpu"}, "measured in the CPU provider"),
        ({"dtype": "tf32"}, "tf32"),
        ({"dtype": "bf16"}, "not in the formats"),
        ({"accumulate": "fp16"}, "fp16"),
    ):
        asked.clear()
        (refused,) = [entry for entry in said(perceptron(), provider="cuda", **options) if "CUDA" in entry]
        assert why in refused
        assert "cuda" not in asked


def test_dear_runs_cover_leading_cases_and_the_others_hold_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SIMULATED", 200)  # 72 products and 19 elements a case
    found = certified(perceptron(), samples=5, accumulate="fp16")
    assert found.validation is not None
    assert found.validation.runtime.startswith("simulator, sequential (cases 0-1); simulator, positives-first (cases 0-1); ")
    output = found.outputs["y"]
    assert output.observed_error is not None
    assert output.observed_error.shape == output.absolute_bound.shape
    assert np.isnan(output.observed_error[2:]).all()
    assert not np.isnan(output.observed_error[:2]).any()
    assert output.observed_max == output.observed_error[:2].max() > 0.0
    assert output.tightness == output.absolute_bound[:2].max() / output.observed_max
    monkeypatch.setattr(runs, "LARGEST", 90)
    assert "not run: simulator: one case takes 91 operations, more than 90" in said(perceptron(), accumulate="fp16")


def test_balls_cover_leading_cases_and_float64_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def text(**options: Any) -> str:
        found = certified(perceptron(), samples=4, **options).validation
        assert found is not None
        return found.reference

    assert text().startswith("ball arithmetic end to end, radius ")
    monkeypatch.setattr(reference, "work", lambda problem: reference.BALLS // 3)
    assert "(cases 0-2), radius" in text()
    assert "float64, its own error enclosed (case 3)" in text()
    monkeypatch.setattr(reference, "BALLS", 1)
    assert text().startswith("float64, its own error enclosed (no balls: ball arithmetic end to end takes")
    assert "elements recomputed in mpmath" in text()


def test_a_region_is_attacked_at_points_with_references_of_their_own() -> None:
    found = certified(perceptron(), region=True)
    assert found.validation is not None
    assert found.validation.runs == 6
    assert not found.validation.violations
    output = found.outputs["y"]
    assert output.observed_error is not None
    assert output.observed_error.shape == output.absolute_bound.shape == (1, 1, 3)
    assert 0.0 < output.observed_error.max() < output.absolute_bound.max()


def falsified(monkeypatch: pytest.MonkeyPatch, change: Any) -> Certificate:
    original = validation.validated

    def validated(subject: Any, profile: Any, inputs: Any, found: Answer, *rest: Any) -> Any:
        change(found)
        return original(subject, profile, inputs, found, *rest)

    monkeypatch.setattr(validation, "validated", validated)
    return certified(perceptron())


def test_a_reference_that_misses_the_ball_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    def shift(found: Answer) -> None:
        bounds = found.outputs["y"]
        bounds.reference[1, 0, 2] += 2.0 * bounds.doubt[1, 0, 2] + 1e-12

    found = falsified(monkeypatch, shift)
    assert found.gate is not None
    assert (found.gate.verdict, found.gate.exit_code) == ("alarm", 4)
    assert found.validation is not None
    (violation,) = found.validation.violations  # the runs are compared with the ball, and none breaks a bound
    assert (violation.output, violation.case, violation.index, violation.run) == ("y", 1, (0, 2), "float64 trajectory")
    assert violation.observed > violation.bound
    assert "float64 trajectory" in found.gate.reasons[0]


def test_a_result_that_mpmath_refutes_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    def shift(found: Answer) -> None:
        assert found.first_exact is not None
        values = dict(found.first_exact.values)
        last = found.first_exact.steps[-1].output
        values[last] = Enclosure.point(values[last].lo + 1e-9)
        found.first_exact = replace(found.first_exact, values=values)

    found = falsified(monkeypatch, shift)
    assert found.gate is not None
    assert found.gate.exit_code == 4
    assert found.validation is not None
    assert all("against mpmath" in violation.run for violation in found.validation.violations)
    assert all(violation.observed > 5e-10 > violation.bound for violation in found.validation.violations)


def test_an_infinite_error_under_an_infinite_bound_has_no_tightness(capsys: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    graph = model([node], {"x": [1, 2]}, {"y": [1, 2]})
    found = certify.certify(graph, dtype="fp16", data={"x": np.float32([[300.0, 1.0]])})
    output = document(found).outputs[0]
    assert (output.bound.absolute_max, output.observed_max, output.tightness) == (np.inf, np.inf, None)
    print_text(document(found), color=False)
    assert "none: bound and observed error are infinite" in capsys.readouterr().out
    assert found.validation is not None
    assert not found.validation.violations


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dot products are said to round a hundredth of what they may."""
    dot = NearestArithmetic.dot
    monkeypatch.setattr(NearestArithmetic, "dot", lambda self, *given: 0.01 * dot(self, *given))


@pytest.mark.parametrize("options", [["--dtype", "fp16"], ["--accumulate", "fp16"]])
def test_a_planted_lie_exits_4_with_the_loudest_message(
    planted: None, capsys: pytest.CaptureFixture[str], root: Path, options: list[str]
) -> None:
    command = [str(root / "models/digits_mlp.onnx"), "--samples", "3", "--range", "0:1", *options]
    assert main(command) == 4
    out = capsys.readouterr().out
    assert out.splitlines()[1].split("│")[1].strip() == "‼ ALARM: AN OBSERVED ERROR EXCEEDS ITS BOUND"
    assert "don't rely on this certificate" in out
    assert "simulator" in out
    assert main([*command, "--budget", "1e6", "--quiet"]) == 4
    assert capsys.readouterr().out.startswith("‼ ALARM")
    assert main([*command, "--json"]) == 4
    out, err = capsys.readouterr()
    assert json.loads(out)["gate"]["verdict"] == "alarm"
    assert json.loads(out)["validation"]["violations"] > 0
    assert err.startswith("‼ ALARM: AN OBSERVED ERROR EXCEEDS ITS BOUND: output 'logits'")
    assert main([*command, "--no-validate"]) == 0


def test_the_provider_reaches_the_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def run(request: Any, progress: Any, stop: Any = None) -> Certificate:
        asked.append(request.provider)
        raise certify.InvalidModel("enough")

    instead: Any = types.ModuleType("certify.pipeline")
    instead.run = run
    monkeypatch.setitem(sys.modules, "certify.pipeline", instead)
    monkeypatch.setattr(certify, "pipeline", instead, raising=False)
    for option in ([], ["--provider", "cpu"], ["--provider", "cuda"]):
        assert main(["m.onnx", *option]) == 2
    assert asked == ["cpu", "cpu", "cuda"]
    assert main(["m.onnx", "--provider", "tpu"]) == 2
    assert "--provider" in capsys.readouterr().err
    with pytest.raises(certify.UsageError, match="--provider: 'tpu' is none of cpu, cuda"):
        certify.certify(ModelProto(), provider="tpu")  # type: ignore[arg-type]


def test_validating_takes_seconds(real_models: Path) -> None:
    path = real_models / "vnncomp_mnistfc" / "mnist-net_256x2.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    start = time.process_time()
    found = certified(str(path), samples=20, ranges=(0, 1))
    assert time.process_time() - start < 8.0  # about 2 on an idle processor
    assert found.validation is not None
    assert found.validation.runs == 5
