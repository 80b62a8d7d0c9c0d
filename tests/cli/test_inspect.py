"""`certify inspect`: the table, the JSON, and one line for what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from certify.cli import inspect
from certify.cli.main import main
from certify.graph.annotate import gamma
from tests.graph.build import parsed


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x [N, 300] -> Gemm -> Relu -> Mul -> y [N, 2], one weight beyond fp16's range and two below its normal numbers."""
    weights = np.ones((300, 2), np.float32)
    weights[0] = 1e5, 1e-6
    weights[1] = 0.0, 1e-7
    path = tmp_path / "small.onnx"
    text = "g (float[N, 300] x) => (float[N, 2] y) { h = Gemm(x, W, b) r = Relu(h) y = Mul(r, r) }"
    onnx.save(parsed(text, W=weights, b=np.float32([0.5, 0.25])), path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(inspect.inspect_command, [str(a) for a in arguments], standalone_mode=False, catch_exceptions=False)


def test_the_table(model: Path) -> None:
    lines = run(model, "--dtype", "fp16", "--accumulate", "bf16").stdout.splitlines()
    assert lines[0] == "small.onnx · opset 18 · 3 nodes · 602 parameters"
    assert lines[1] == "x 1×300 float → y 1×2 float"
    assert lines[2] == "storage fp16 · accumulator bf16"
    assert lines[4].split() == ["node", "operator", "shape", "n", "γₙ", "L∞", "L2", "params", "min", "|w|", "max", "|w|", "outside"]
    gemm, relu, mul = (line.split() for line in lines[5:8])
    assert gemm == ["h", "Gemm", "1×2", "300", "n·u", "≥", "1", "1.0e+05", "≈1.0e+05", "602", "1.0e-07", "1.0e+05", "0.5%"]
    assert relu == ["r", "Relu", "1×2", "1"]
    assert mul == ["y", "Mul", "1×2"]


def test_quiet_prints_the_facts_alone(model: Path) -> None:
    assert len(run(model, "--quiet").stdout.splitlines()) == 3


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_no_row_wraps(model: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = onnx.load(model)
    proto.graph.node[0].name = "/a/rather/long/path/of/modules/" + "x" * 90
    onnx.save(proto, model)
    monkeypatch.setattr(inspect, "WIDTH", width)
    lines = run(model, "--accumulate", "bf16").stdout.splitlines()
    table = lines[4:8]
    assert [line.split()[0][:3] for line in table] == ["nod", "…xx", "r", "y"]
    assert all(len(line) <= width for line in table)
    if width >= 100:
        assert "n·u ≥ 1" in table[1]
        assert all(len(line) <= width for line in lines)


def test_json_alone_on_standard_output(model: Path) -> None:
    result = run(model, "--json", "--dtype", "fp16", "--accumulate", "bf16")
    document = json.loads(result.stdout)
    assert document["schema"] == "certify-inspect/1"
    assert document["claim"] == {"accumulate": "bf16", "dtype": "fp16"}
    assert document["model"]["parameters"] == 602
    assert document["model"]["opset"] == 18
    assert document["inputs"] == [{"dtype": "float", "name": "x", "shape": [1, 300]}]
    gemm, relu, _ = document["nodes"]
    assert gemm["gamma"] == "inf"
    assert gemm["fan_in"] == 300
    assert gemm["spectral_kind"] == "estimate"
    assert gemm["weights"] == {
        "count": 602,
        "largest": float(np.float32(1e5)),
        "out_of_range": 3 / 602,
        "overflowing": 1,
        "smallest": float(np.float32(1e-7)),
        "underflowing": 2,
    }
    assert relu["gamma"] is relu["fan_in"] is relu["spectral"] is None
    assert json.loads(run(model, "--json").stdout)["nodes"][0]["gamma"] == gamma(300, 2.0**-24)


def test_the_same_claim_gives_the_same_bytes(model: Path) -> None:
    assert run(model, "--json").stdout == run(model, "--json").stdout


def test_a_shape_from_the_command_line(model: Path) -> None:
    assert "x 4×300 float → y 4×2 float" in run(model, "--shape", "x=4,300").stdout


def test_names_in_brackets_are_not_markup(tmp_path: Path) -> None:
    proto = parsed("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.graph.node[0].name = "layer[bold]/[0]"
    onnx.save(proto, tmp_path / "m.onnx")
    assert "layer[bold]/[0]" in run(tmp_path / "m.onnx").stdout


def test_one_line_and_an_exit_code_for_what_goes_wrong(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(code: int, *arguments: object) -> str:
        assert main(["inspect", *map(str, arguments)]) == code
        out, complaint = capsys.readouterr()
        assert out == ""
        assert complaint.count("\n") == 1
        assert "Traceback" not in complaint
        return complaint

    assert "none.onnx does not exist" in line(2, tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    assert "is not an ONNX model" in line(2, tmp_path / "text.onnx")
    assert "--shape x=4,3 contradicts the file" in line(2, model, "--shape", "x=4,3")
    assert "--dtype" in line(2, model, "--dtype", "fp12")
    onnx.save(parsed("g (float[2] x) => (float[2] y) { y = Unheard(x) }"), tmp_path / "op.onnx")
    assert "op.onnx: node 'y': there is no operator ai.onnx::Unheard" in line(3, tmp_path / "op.onnx")
