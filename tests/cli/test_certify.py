"""`certify MODEL`: exit codes, output streams and files."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certify.certificate.contract import Certificate
from certify.errors import InvalidData, InvalidModel, Unsupported
from certify.request import Budget, Summation
from tests.cli.conftest import Program
from tests.report import samples


def fails_with(error: BaseException) -> Any:
    def answer() -> Certificate:
        raise error

    return answer


@pytest.mark.parametrize(("answer", "code"), [(samples.certified, 0), (samples.exceeded, 1), (samples.unbounded, 3), (samples.alarm, 4)])
def test_the_gate_is_the_exit_code(program: Program, answer: Any, code: int) -> None:
    program.answer = answer
    found, out, err = program("m.onnx")
    assert (found, err) == (code, "")
    assert "guarantee" in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidModel("m.onnx: not an ONNX file"), 2),
        (InvalidData("x.npz: input 'x' holds nan"), 2),
        (Unsupported("node 'n': operator Foo"), 3),
        (KeyboardInterrupt(), 130),
        (ValueError("broken"), 5),
        (MemoryError(), 3),
    ],
)
def test_errors_are_one_clear_line(program: Program, error: BaseException, code: int) -> None:
    program.answer = fails_with(error)
    found, out, err = program("m.onnx")
    assert (found, out) == (code, "")
    assert "Traceback" not in err
    assert err.strip().count("\n") == (1 if code == 5 else 0)
    assert str(error) in err


def test_an_internal_error_says_how_to_report_it(program: Program) -> None:
    program.answer = fails_with(ValueError("broken"))
    _, _, err = program("m.onnx")
    assert "internal error: ValueError: broken" in err
    assert "report it" in err
    assert "--verbose" in err


@pytest.mark.parametrize("flag", ["--verbose", "-v"])
def test_tracebacks_only_with_verbose(program: Program, flag: str) -> None:
    program.answer = fails_with(InvalidModel("m.onnx: broken"))
    code, _, err = program("m.onnx", flag)
    assert code == 2
    assert "Traceback" in err


def test_every_option_reaches_the_request(program: Program) -> None:
    code, _, err = program(
        *"m.onnx --dtype bf16 --accumulate fp16 --profile ieee --summation blocked:64 --range -2:2 --range mask=0:1".split(),
        *"--samples 3 --seed 7 --shape x=1,3,8 --shape y=2 --engine running --guarantee proved --no-validate --region".split(),
        *"--time-limit 5 --jobs 2 --boxes 99".split(),
        *"--budget 1e-2 --budget rel:1e-3 --budget y=0.5 --budget argmax -o a.json -o b.npz".split(),
    )
    assert (code, err) == (0, "")
    request = program.request
    assert request is not None
    assert (request.model, request.dtype, request.accumulate, request.profile) == (Path("m.onnx"), "bf16", "fp16", "ieee")
    assert request.summation == Summation("blocked", 64)
    assert request.ranges == {"": (-2.0, 2.0), "mask": (0.0, 1.0)}
    assert request.shapes == {"x": (1, 3, 8), "y": (2,)}
    assert (request.samples, request.seed, request.engine, request.guarantee) == (3, 7, "running", "proved")
    assert (request.validate, request.region) == (False, True)
    assert (request.time_limit, request.jobs, request.boxes) == (5.0, 2, 99)
    assert request.outputs == (Path("a.json"), Path("b.npz"))
    assert request.budgets == (
        Budget("1e-2", "absolute", 0.01),
        Budget("rel:1e-3", "relative", 0.001),
        Budget("y=0.5", "absolute", 0.5, "y"),
        Budget("argmax", "argmax"),
    )


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("--budget banana", "--budget banana"),
        ("--budget -1", "--budget -1"),
        ("--budget nan", "--budget nan"),
        ("--budget inf", "--budget inf"),
        ("--budget rel:", "--budget rel:"),
        ("--budget =1", "--budget =1"),
        ("--budget y=", "--budget y="),
        ("--range 1", "--range 1"),
        ("--range 2:1", "--range 2:1"),
        ("--range a:b", "--range a:b"),
        ("--range nan:1", "--range nan:1"),
        ("--range -inf:inf", "--range -inf:inf"),
        ("--range x=0:1 --range x=0:2", "--range"),
        ("--shape 1,2", "--shape 1,2"),
        ("--shape x=1,-2", "--shape x=1,-2"),
        ("--shape x=0", "--shape x=0"),
        ("--shape x=1,,2", "--shape x=1,,2"),
        ("--summation blocked:0", "--summation"),
        ("--time-limit 0", "--time-limit"),
        ("--time-limit nan", "--time-limit"),
        ("--jobs 0", "--jobs"),
        ("--scheduler host:8786", "--scheduler"),
        ("--scheduler http://host:8786", "--scheduler"),
        ("--scheduler tcp://host", "--scheduler"),
        ("--scheduler tcp://host:8786 --jobs 2", "--scheduler and --jobs"),
        ("--scheduler tcp://host:8786 -o a.witness", "a.witness"),
        ("--boxes 0", "--boxes"),
        ("--summation random", "--summation"),
        ("--samples 0", "--samples"),
        ("--samples many", "--samples"),
        ("--seed -1", "--seed"),
        ("--dtype int8", "--dtype"),
        ("--accumulate fp128", "--accumulate"),
        ("--engine magic", "--engine"),
        ("--guarantee sworn", "--guarantee"),
        ("--data a.npz --range 0:1", "--data"),
        ("--data a.npz --region", "--region"),
        ("--vnnlib a.vnnlib --range 0:1", "--vnnlib"),
        ("-o out.pdf", "out.pdf"),
        ("-o out", "out"),
        ("-o nowhere/out.json", "nowhere"),
        ("-o .", "-o ."),
        ("--nonsense", "--nonsense"),
        ("extra.onnx", "extra.onnx"),
    ],
)
def test_nonsense_is_refused_before_anything_runs(program: Program, arguments: str, fault: str) -> None:
    code, out, err = program("m.onnx", *arguments.split())
    assert (code, out) == (2, "")
    assert fault in err
    assert err.count("\n") == 1
    assert program.request is None


@pytest.mark.parametrize("suffix", ["html", "md", "sarif", "xml"])
def test_reports_of_later_versions_say_so(program: Program, suffix: str) -> None:
    code, _, err = program("m.onnx", "-o", f"out.{suffix}")
    assert code == 2
    assert "not available in this version" in err


def test_a_read_only_folder_is_found_before_the_run(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    # The superuser may write anywhere, so the mode of the folder alone would show nothing here.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != folder.name)
    code, _, err = program("m.onnx", "-o", "locked/out.json")
    assert code == 2
    assert "locked is read-only" in err
    assert program.request is None


def test_a_file_that_fails_to_be_written_leaves_the_old_one(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = program("m.onnx", "-o", "out.json")
    assert code == 2
    assert "out.json: can't be written: No space left on device" in err
    assert (tmp_path / "out.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_files_by_suffix(program: Program, tmp_path: Path) -> None:
    code, _, _ = program("m.onnx", "-o", "a.json", "-o", "b.npz")
    assert code == 0
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == "certify/1"
    with np.load(tmp_path / "b.npz") as arrays:
        assert sorted(arrays) == [f"{kind}/logits" for kind in ("absolute_bound", "conversion", "observed_error", "reference")]
        assert np.array_equal(arrays["absolute_bound/logits"], samples.output().absolute_bound)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.npz"]


def test_json_is_alone_on_standard_output(program: Program) -> None:
    code, out, err = program("m.onnx", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["outputs"][0]["name"] == "logits"


def test_quiet_prints_the_verdict_alone(program: Program) -> None:
    _, out, _ = program("m.onnx", "--quiet")
    assert out.count("\n") == 1
    assert "CERTIFIED" in out


def test_no_color_is_plain_text(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, colored, _ = program("m.onnx")
    _, plain, _ = program("m.onnx", "--no-color")
    assert "\x1b[32m" in colored
    assert "\x1b[32m" not in plain


def test_progress_appears_on_standard_error_after_a_second(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.cli.progress.DELAY", 0.05)

    def slow() -> Certificate:
        time.sleep(0.3)
        return samples.certified()

    program.answer = slow
    _, out, err = program("m.onnx", "--json")
    assert err == "reading the model ...\n"
    json.loads(out)
    assert program("m.onnx", "--quiet")[2] == ""


def test_a_misspelt_command_is_not_taken_for_a_model(program: Program) -> None:
    code, _, err = program("bots")
    assert code == 2
    assert "neither a model file nor a command" in err


def test_the_model_may_come_after_the_options(program: Program) -> None:
    assert program("--dtype", "bf16", "m.onnx")[0] == 0
    assert program.request is not None
    assert program.request.dtype == "bf16"


def test_without_arguments_the_help_is_shown(program: Program) -> None:
    code, out, err = program()
    assert code == 2
    assert "Usage" in out + err


def test_help_lists_options_and_commands(program: Program) -> None:
    from certify.cli.main import commands

    code, out, _ = program("--help")
    assert code == 0
    options = "dtype accumulate profile summation data range samples seed region vnnlib shape engine guarantee budget no-validate"
    for option in [*options.split(), "output", "json", "quiet", "verbose", "no-color"]:
        assert f"--{option}" in out
    for command in commands():
        assert f"certify {command}" in out


def test_output_that_nobody_reads_is_no_error(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program.answer = fails_with(BrokenPipeError())
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert program("m.onnx")[0] == 0
