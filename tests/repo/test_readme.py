"""The README's commands do what it says, word for word; installing is .ci/run's part."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from certify.cli.main import main
from certify.number.formats import FORMATS
from certify.profiles import profiles
from certify.request import DTYPES

BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(root: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall((root / "README.md").read_text(encoding="utf-8")) if kind == language]


def test_two_commands_do_all_the_setup(root: Path) -> None:
    first, second = (block.strip() for block in blocks(root, "sh")[:2])
    assert first.startswith("python -m pip install . && certify models/")
    assert second == 'python -m pip install -e ".[test]" && python -m pytest -q -n 2'
    assert second.split(" && ")[1] in (root / ".ci/run").read_text()


def test_the_first_command_certifies(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    command, *arguments = shlex.split(blocks(root, "sh")[0].split("&&")[1])
    assert command == "certify"
    assert main(arguments) == 0
    assert "CERTIFIED" in capsys.readouterr().out


def test_every_other_command_runs(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(root / "models")
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line, comments=True) for line in blocks(root, "sh")[2].splitlines()]
    assert {line[1] for line in lines} >= {"bits", "check", "inspect", "--help"}
    for command, *arguments in lines:
        assert command == "certify"
        assert main(arguments) == 0, arguments
        assert capsys.readouterr().out


def test_formats_and_profiles_are_listed(root: Path) -> None:
    """Every format that one may ask for, with its bits and its largest number."""
    text = (root / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith(("| fp", "| tf"))]
    listed = {}
    for names, bits, largest in rows:
        sizes = largest.split(", ")
        for i, name in enumerate(re.findall(r"\b(?:fp\w+|tf32|bf16)\b", re.sub(r"\(.*?\)", "", names))):
            listed[name] = (int(bits.split(", ")[i]), float(sizes[min(i, len(sizes) - 1)]))
    assert listed == {name: (FORMATS[name].precision, pytest.approx(FORMATS[name].max, rel=0.02)) for name in DTYPES}
    for name in profiles():
        assert f"`{name}`" in text or f"`-{name.removeprefix('tensor-core-')}`" in text, name


def test_exit_codes_are_listed(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d) \| ", text, re.MULTILINE) == ["0", "1", "2", "3", "4", "5"]


def test_the_python_example_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(root / "models")
    monkeypatch.chdir(tmp_path)
    exec(blocks(root, "python")[0], {})
    found = json.loads((tmp_path / "certificate.json").read_text())
    assert found["schema"] == "certify/1"
    assert found["model"]["path"] == "models/digits_mlp.onnx"


def test_the_settings_example_is_accepted(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from certify.cli import settings

    (tmp_path / "pyproject.toml").write_text(blocks(root, "toml")[0])
    monkeypatch.chdir(tmp_path)
    found = settings.defaults(["models/digits_mlp.onnx"], tmp_path)
    assert found == {"dtype": "bf16", "data": str(tmp_path / "models/digits_mlp.npz"), "budget": ["argmax"]}
