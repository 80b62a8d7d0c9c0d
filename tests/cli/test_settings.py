"""[tool.certify] and certify.toml: options by model path, under the command line's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Program

TABLE = """
dtype = "fp16"
data = "inputs/x.npz"
budget = ["1e-1", "argmax"]
samples = 3
validate = false
output = "report.json"
"""


@pytest.mark.parametrize(("name", "header"), [("certify.toml", '["m.onnx"]'), ("pyproject.toml", '[tool.certify."m.onnx"]')])
def test_options_come_from_the_nearest_file(program: Program, tmp_path: Path, name: str, header: str) -> None:
    (tmp_path / name).write_text(header + TABLE)
    code, _, err = program("m.onnx")
    assert (code, err) == (0, "")
    request = program.request
    assert request is not None
    assert (request.dtype, request.samples, request.validate) == ("fp16", 3, False)
    assert request.data == tmp_path / "inputs/x.npz"
    assert [budget.spec for budget in request.budgets] == ["1e-1", "argmax"]
    assert (tmp_path / "report.json").is_file()


def test_the_command_line_wins(program: Program, tmp_path: Path) -> None:
    (tmp_path / "certify.toml").write_text('["m.onnx"]' + TABLE)
    assert program("m.onnx", "--dtype", "bf16", "--range", "0:1")[0] == 0
    assert program.request is not None
    assert program.request.dtype == "bf16"
    assert program.request.data is None  # --range replaces the file's choice of inputs


@pytest.mark.parametrize("jobs", [["--jobs", "2"], ["-j", "2"], ["-j2"]])
def test_processes_on_the_command_line_replace_the_cluster(program: Program, tmp_path: Path, jobs: list[str]) -> None:
    (tmp_path / "certify.toml").write_text('["m.onnx"]\nscheduler = "tcp://host:8786"')
    assert program("m.onnx")[0] == 0
    assert program.request is not None
    assert program.request.scheduler == "tcp://host:8786"
    assert program("m.onnx", *jobs)[0] == 0
    assert (program.request.scheduler, program.request.jobs) == (None, 2)


def test_other_models_are_untouched(program: Program, tmp_path: Path) -> None:
    (tmp_path / "certify.toml").write_text('["m.onnx"]' + TABLE)
    assert program("other.onnx")[0] == 0
    assert program.request is not None
    assert program.request.dtype is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('["m.onnx"]\ncolour = "red"', "colour"),
        ('["m.onnx"]\nbudget = "banana"', "banana"),
        ('["m.onnx"]\ndtype = ["fp16", "bf16"]', "dtype"),
        ('dtype = "fp16"', "dtype"),
        ("[[[", "not TOML"),
    ],
)
def test_mistakes_name_the_file_or_option(program: Program, tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "certify.toml").write_text(content)
    code, _, err = program("m.onnx")
    assert code == 2
    assert fault in err
    assert program.request is None
