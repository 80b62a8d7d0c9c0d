"""`certify bits`: the answer, its tables, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from certify.cli.main import main
from tests.engines.networks import perceptron


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("certify.cli.progress.DELAY", 60.0)
    onnx.save(perceptron([6, 8, 3], "Tanh", 0), "small.onnx")
    return "small.onnx"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["bits", *arguments])
    return code, *capsys.readouterr()


def test_the_answer_and_its_tables(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, model, "--samples", "2", "--budget", "1e-2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("9 bits of precision keep the largest error within 0.01: proved to be at most ")
    assert "(with 8: " in lines[0]
    assert lines[1].startswith("First order: error <= (")
    assert lines[3].split() == ["format", "bits", "first", "order", "proved", "bound", "within", "budget"]
    rows = {line.split()[0]: line.split() for line in lines[4:11]}
    assert [row[1] for row in rows.values()] == ["53", "24", "11", "8", "11", "4", "3"]
    assert (rows["fp32"][-1], rows["bf16"][-1]) == ("yes", "no")
    assert lines[13].split() == ["gemm0", "Gemm", "6", "kappa", "u_acc", "+", "u_store"]
    assert lines[14].split()[:2] == ["act0", "Tanh"]
    assert lines[14].split()[-3:] == ["u_acc", "+", "u_store"]
    assert all(len(line) <= 120 for line in lines)


def test_quiet_prints_the_answer_alone(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, model, "--samples", "1", "--budget", "1e-2", "--quiet")
    assert code == 0
    assert out.count("\n") == 1


def test_json_is_alone_on_standard_output(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, model, "--samples", "1", "--budget", "1e-2", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["schema"], found["model"], found["budget"]) == ("certify-bits/1", "small.onnx", 0.01)
    assert found["bound"] <= 0.01 < found["below"]
    assert [row["name"] for row in found["formats"]] == ["fp64", "fp32", "tf32", "bf16", "fp16", "fp8e4m3", "fp8e5m2"]
    assert found["formulas"][0] == {"node": "gemm0", "op": "Gemm", "step": "Gemm", "text": "6*kappa*u_acc + u_store"}
    assert out == run(capsys, model, "--samples", "1", "--budget", "1e-2", "--json")[1]


def test_unbounded_formats_are_the_string_inf(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(perceptron([6, 8, 3], "Relu", 0), model)
    code, out, _ = run(capsys, model, "--samples", "1", "--range", "1000:2000", "--budget", "1e3", "--json")
    assert code == 0
    assert {row["name"]: row["bound"] for row in json.loads(out)["formats"]}["fp8e4m3"] == "inf"


def test_an_impossible_budget_is_exit_1(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, model, "--samples", "1", "--budget", "1e-30", "--quiet")
    assert (code, err) == (1, "")
    assert out.startswith("No precision is proved to keep the error within 1e-30: with 53 bits the bound is ")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("", "--budget"),
        ("--budget argmax", "--budget"),
        ("--budget rel:1e-3", "--budget"),
        ("--budget y=1e-3", "--budget"),
        ("--budget 1e-3 --budget 1e-2", "--budget"),
        ("--budget nan", "--budget nan"),
        ("--budget 1e-3 --region", "--region"),
        ("--budget 1e-3 --vnnlib x.vnnlib", "--vnnlib"),
        ("--budget 1e-3 --profile ort-cpu", "--profile ort-cpu"),
        ("--budget 1e-3 --profile nonsense", "--profile"),
        ("--budget 1e-3 --data absent.npz", "absent.npz"),
        ("--budget 1e-3 --dtype bf16", "--dtype"),
        ("--budget 1e-3 --samples 0", "--samples"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(model: str, capsys: pytest.CaptureFixture[str], arguments: str, fault: str) -> None:
    code, out, err = run(capsys, model, *arguments.split())
    assert (code, out) == (2, "")
    assert fault in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
