"""What users get wrong, through the whole program: one line that names the file, node or option, the exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from certify.cli.main import main
from tests.graph.build import dense, model_of, parsed

W = np.arange(6, dtype=np.float32).reshape(3, 2)


def weight(value: float) -> onnx.ModelProto:
    w = W.copy()
    w[1, 1] = value
    return dense(w)


def external(location: str) -> onnx.ModelProto:
    model = dense(W)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


def foreign() -> onnx.ModelProto:
    model = model_of([helper.make_node("Mangle", ["x"], ["y"], domain="acme", name="mangler")], {"x": [2]}, ["y"])
    model.opset_import.append(helper.make_opsetid("acme", 1))
    return model


def without(field: str) -> onnx.ModelProto:
    model = dense(W)
    del getattr(model.graph, field)[:]
    return model


def two_refused() -> onnx.ModelProto:
    return parsed("g (float[2, 2] x) => (float y, float[2, 2] z) { y = Bernoulli(x) z = RandomNormalLike(x) }")


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], int, tuple[str, ...]]] = {
    "unknown operator": (lambda: parsed("g (float[2] x) => (float[2] y) { y = Unheard(x) }"), 3, ("ai.onnx::Unheard", "'y'")),
    "unknown domain": (foreign, 3, ("acme::Mangle", "'mangler'")),
    "no rule": (lambda: parsed("g (float[2, 2] x) => (float y) { y = Bernoulli(x) }"), 3, ("no rule for ai.onnx::Bernoulli", "'y'")),
    "open shape": (lambda: parsed("g (float[N, M] x) => (float[N, M] y) { y = Relu(x) }"), 2, ("'x'", "[N, M]", "--shape x=1,N")),
    "NaN in weights": (lambda: weight(np.nan), 2, ("'W' holds NaN at index [1, 1]",)),
    "Inf in weights": (lambda: weight(-np.inf), 2, ("'W' holds an infinite value at index [1, 1]",)),
    "external data elsewhere": (lambda: external("../w.bin"), 2, ("'W'", "'../w.bin'", "outside the model's folder")),
    "external data missing": (lambda: external("w.bin"), 2, ("'W'", "w.bin is missing")),
    "zero-size tensor": (lambda: model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 0]}, ["y"]), 2, ("'x' has no elements",)),
    "cycle": (lambda: parsed("g (float[2] x) => (float[2] y) { a = Add(x, b) b = Neg(a) y = Relu(b) }"), 2, ("cycle, 'a' -> 'b' -> 'a'",)),
    "empty graph": (lambda: without("node"), 2, ("no operators",)),
    "no outputs": (lambda: without("output"), 2, ("no outputs",)),
    "strings": (lambda: parsed("g (string[3] x) => (string[3] y) { y = Identity(x) }"), 3, ("input 'x' holds strings",)),
    "beyond all memory": (lambda: parsed("g (float[1000000, 1000000] x) => (float[N, M] y) { y = Relu(x) }"), 3, ("'y'", "too large")),
}
DATA = {
    "NaN": ({"x": np.float32([[1, np.nan, 1]])}, ("'x'", "nan in case 0 at index [0, 1]")),
    "Inf": ({"x": np.float32([[1, 1, -np.inf]])}, ("'x'", "-inf in case 0 at index [0, 2]")),
    "wrong name": ({"z": np.float32([[1, 1, 1]])}, ("'z' is no input", "'x' float[1, 3]")),
    "no input given": ({}, ("'x' is missing",)),
    "wrong shape": ({"x": np.ones((1, 4), np.float32)}, ("'x'", "[1, 4]", "expected [1, 3]")),
    "wrong type": ({"x": np.ones((1, 3))}, ("'x'", "float64", "expected float", ".astype('float32')")),
    "strings": ({"x": np.array([["a", "b", "c"]])}, ("'x'", "<U1")),
    "objects": ({"x": np.array([object()])}, ("'x' can't be read",)),
    "no cases": ({"x": np.ones((0, 3), np.float32)}, ("'x'", "has no rows")),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(dense(W), "good.onnx")
    (tmp_path / "taken").write_text("a file, not a folder")
    return tmp_path


def complaint(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """The one line on standard error of a run that ends with `code` and prints nothing else."""
    found = main(arguments)
    out, err = capsys.readouterr()
    assert (found, out) == (code, ""), err
    assert "Traceback" not in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("command", [(), ("bits", "--budget", "1"), ("inspect",)], ids=["certify", "bits", "inspect"])
@pytest.mark.parametrize("name", MODELS)
def test_models(here: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], name: str) -> None:
    build, code, faults = MODELS[name]
    (here / "bad.onnx").write_bytes(build().SerializeToString())
    if "inspect" in command and name in ("no rule", "strings"):
        assert main([*command, "bad.onnx"]) == 0  # it asks for no rule, and for no number
        return
    line = complaint(capsys, code, *command, "bad.onnx")
    assert all(fault in line for fault in faults), line
    assert "bad.onnx" in line or name == "strings"


def test_every_operator_without_a_rule_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(two_refused(), "bad.onnx")
    assert main(["bad.onnx"]) == 3
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "error: bad.onnx: no rule for 2 nodes:"
    assert [line.split(" (")[0].strip() for line in others] == ["ai.onnx::Bernoulli", "ai.onnx::RandomNormalLike"]


@pytest.mark.parametrize("name", DATA)
def test_data(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    arrays, faults = DATA[name]
    np.savez("bad.npz", **arrays)  # type: ignore[arg-type]
    line = complaint(capsys, 2, "good.onnx", "--data", "bad.npz")
    assert all(fault in line for fault in ("--data bad.npz", *faults)), line


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "not a readable .npz"), (b"text", "not a readable .npz"), (b"PK\x03\x04" + b"\0" * 40, "not a readable .npz")],
)
def test_data_that_is_no_archive(here: Path, capsys: pytest.CaptureFixture[str], content: bytes, fault: str) -> None:
    (here / "bad.npz").write_bytes(content)
    line = complaint(capsys, 2, "good.onnx", "--data", "bad.npz")
    assert fault in line
    assert "pickle" not in line  # no advice to load what may run code


def test_a_damaged_array_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("bad.npz", x=np.ones((1, 3), np.float32))
    content = bytearray((here / "bad.npz").read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 255
    (here / "bad.npz").write_bytes(content)
    assert "array 'x' can't be read" in complaint(capsys, 2, "good.onnx", "--data", "bad.npz")


@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        ("--dtype fp16 --profile ort-cpu", 2, "--profile ort-cpu"),
        ("--profile nonsense", 2, "--profile: unknown profile 'nonsense'"),
        ("--samples 0", 2, "--samples: 0"),
        ("--seed -1", 2, "--seed: -1"),
        ("--summation blocked:0", 2, "--summation: 'blocked:0'"),
        ("--budget 1e-2x", 2, "--budget 1e-2x"),
        ("--budget z=1e-2", 2, "no output 'z'"),
        ("--budget z=argmax", 2, "no output 'z'"),
        ("--range 1e39:2e39", 2, "--range x=1e+39:2e+39"),
        ("--range z=0:1", 2, "--range: 'z' is no input"),
        ("--shape x=2,3", 2, "--shape x=2,3 contradicts"),
        ("--shape z=1", 2, "--shape names 'z'"),
        ("-o taken/report.json", 2, "-o taken/report.json: there is no folder taken"),
        ("-o absent/report.json", 2, "-o absent/report.json"),
        ("-o good.onnx/", 2, "good.onnx"),
        ("--samples 1000000000000000", 3, "--samples"),
    ],
)
def test_options(here: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, fault: str) -> None:
    assert fault in complaint(capsys, code, "good.onnx", *arguments.split())


def test_an_accumulator_narrower_than_storage_is_answered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is odd, not wrong: the bound is that of the narrow accumulator, so far wider than fp32's."""
    import certify

    data = {"x": np.ones((1, 3), np.float32)}
    found = [certify.certify("good.onnx", data=data, accumulate=name, validate=False) for name in ("fp32", "fp8e4m3")]
    bounds = [certificate.outputs["y"].absolute_bound.max() for certificate in found]
    assert bounds[0] < 1e-5 < 0.1 < bounds[1]


def test_bad_bytes_end_the_real_program_cleanly(here: Path, root: Path) -> None:
    (here / "bad.onnx").write_bytes(b"\x08\x09garbage" * 9)
    command = [sys.executable, "-m", "certify", "bad.onnx"]
    done = subprocess.run(command, cwd=here, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: bad.onnx is not an ONNX model")
    assert done.stderr.count("\n") == 1


def test_nothing_is_written_when_a_run_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("bad.npz", x=np.float32([[1, np.nan, 1]]))
    before = sorted(here.iterdir())
    complaint(capsys, 2, "good.onnx", "--data", "bad.npz", "-o", "report.json", "-o", "arrays.npz")
    assert sorted(here.iterdir()) == before
