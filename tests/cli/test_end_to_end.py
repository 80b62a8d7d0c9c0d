"""The whole program on a bundled model: what users get wrong, and what they get."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from certify.cli.main import main


@pytest.fixture
def here(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").symlink_to(root / "models")
    content = (root / "models/digits_mlp.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("absent.onnx", "absent.onnx"),
        ("cut.onnx", "cut.onnx"),
        ("text.onnx", "text.onnx"),
        ("empty.onnx", "empty.onnx"),
        ("./models", "models"),
        ("models/digits_mlp.onnx --profile nonsense", "--profile"),
        ("models/digits_mlp.onnx --profile ort-cpu --dtype bf16", "--profile ort-cpu"),
        ("models/digits_mlp.onnx --range y=0:1", "'y' is no input"),
        ("models/digits_mlp.onnx --shape y=1", "'y', which is no input"),
        ("models/digits_mlp.onnx --shape x=1,65", "--shape x=1,65"),
        ("models/digits_mlp.onnx --data absent.npz", "absent.npz"),
        ("models/digits_mlp.onnx --data models/digits_cnn.npz", "expected [1, 64]"),
        ("models/digits_mlp.onnx --data models/digits_mlp.labels.npz", "'labels' is no input"),
        ("models/digits_mlp.onnx --samples 1 --no-validate --budget y=1", "no output 'y'"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_2(here: Path, capsys: pytest.CaptureFixture[str], arguments: str, fault: str) -> None:
    code = main(arguments.split())
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert fault in err
    assert "Traceback" not in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_same_claim_gives_the_same_bytes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "models/digits_mlp.onnx --dtype fp16 --samples 2 --seed 3 --range 0:1 --json".split()
    found = []
    for _ in range(2):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        found.append(text[: text.index('"timings"')])
        json.loads(text)
    assert found[0] == found[1]


def test_arrays_and_document_agree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "models/digits_mlp.onnx --dtype bf16 --data models/digits_mlp.npz --budget argmax -o c.json -o c.npz --quiet"
    assert main(command.split()) == 0
    output = json.loads((here / "c.json").read_text())["outputs"][0]
    with np.load(here / "c.npz") as arrays:
        assert output["bound"]["absolute_max"] == arrays["absolute_bound/logits"].max()
        assert output["observed_max"] == arrays["observed_error/logits"].max()
        assert np.all(arrays["observed_error/logits"] <= arrays["absolute_bound/logits"])
        assert arrays["reference/logits"].shape == (50, 1, 10)


def test_an_unreachable_budget_is_exit_1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("models/digits_mlp.onnx --dtype bf16 --samples 1 --no-validate --budget 1e-9".split()) == 1
    assert "EXCEEDED" in capsys.readouterr().out
