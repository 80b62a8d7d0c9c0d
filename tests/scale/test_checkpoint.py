"""--checkpoint: a run that was stopped goes on, and gives the bytes of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import certify
from certify import pipeline
from certify.checkpoint import FORM, Checkpoint
from certify.cli.main import main
from certify.engines import answer
from certify.errors import InvalidData, InvalidModel, UsageError
from tests.scale.models import deep

SAMPLES = 4

# Real work, stopped for good once two cases are remembered.
STOPPED = """
import sys, time
from certify.checkpoint import Checkpoint
from certify.cli.main import entry

remember, done = Checkpoint.remember, []

def remembering(self, case, solved):
    remember(self, case, solved)
    done.append(case)
    if len(done) == 2:
        print("ready", flush=True)
        time.sleep(1000)

Checkpoint.remember = remembering
sys.argv[0] = "certify"
entry()
"""


def options(root: Path, *more: str) -> list[str]:
    return [str(root / "models/digits_mlp.onnx"), "--dtype", "bf16", "--samples", str(SAMPLES), "--no-validate", "--json", *more]


def without_timings(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    del found["timings"]
    return found


@pytest.mark.parametrize("engine", ["auto", "running", "sketch"])
def test_ctrl_c_then_the_same_command(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], engine: str) -> None:
    arguments, file = options(root, "--engine", engine), tmp_path / "run.checkpoint"
    main(arguments)
    whole = without_timings(capsys.readouterr().out)
    command = [sys.executable, "-c", STOPPED, *arguments, "--checkpoint", str(file)]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err.strip().endswith("interrupted")) == (130, True)
    assert os.listdir(tmp_path) == ["run.checkpoint"]

    solved, worked_out = [], []
    solve, pair_at = answer.solve, pipeline.pair_at
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "solve", lambda pair, case, *rest: (solved.append(case), solve(pair, case, *rest))[1])
        patch.setattr(pipeline, "pair_at", lambda *asked: (worked_out.append(asked), pair_at(*asked))[1])
        main([*arguments, "--checkpoint", str(file)])
        assert without_timings(capsys.readouterr().out) == whole
        assert (solved, len(worked_out)) == ([2, 3], 3)  # of the first case only what reports show of it
        main([*arguments, "--checkpoint", str(file)])  # all is known
        assert without_timings(capsys.readouterr().out) == whole
        assert solved == [2, 3]


def certified(path: Path, file: Path, **claim: Any) -> certify.Certificate:
    return certify.certify(path, **{"samples": 2, "engine": "running", "validate": False, "checkpoint": file} | claim)


def test_every_number_is_kept(tmp_path: Path) -> None:
    path, file = deep(tmp_path / "m.onnx", 2), tmp_path / "c"
    first, again = (certified(path, file, engine="adjoint", dtype="fp16") for _ in range(2))
    assert again.lost == first.lost
    assert again.nodes == first.nodes
    for name in ("reference", "absolute_bound", "conversion"):
        assert np.array_equal(getattr(first.outputs["y"], name), getattr(again.outputs["y"], name))


def test_processes_go_on_as_well(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, file = options(root), tmp_path / "c"
    main([*arguments, "--checkpoint", str(file)])
    whole, content = without_timings(capsys.readouterr().out), file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert file.stat().st_size > 1000
    main([*arguments, "--checkpoint", str(file), "--jobs", "2"])
    assert without_timings(capsys.readouterr().out) == whole
    assert file.read_bytes() == content


def test_a_record_that_was_cut_off_is_done_again(tmp_path: Path, root: Path) -> None:
    path, file = root / "models/digits_mlp.onnx", tmp_path / "c"
    certified(path, file)
    whole = file.read_bytes()
    cases = len(whole) - len(FORM) - 40 - int.from_bytes(whole[len(FORM) : len(FORM) + 8], "little")
    for cut in (1, cases // 3, cases - 20, cases):
        file.write_bytes(whole[:-cut])
        certified(path, file)
        assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [{"samples": 3}, {"seed": 1}, {"dtype": "bf16"}, {"engine": "adjoint"}, {"ranges": (0.0, 1.0)}, {"summation": "pairwise"}],
    ids=str,
)
def test_another_claim_is_refused(tmp_path: Path, root: Path, change: dict[str, Any]) -> None:
    path, file = root / "models/digits_mlp.onnx", tmp_path / "c"
    certified(path, file)
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"--checkpoint .*: is of another claim \((data|options|data, options)"):
        certified(path, file, **change)
    assert file.read_bytes() == before


def test_another_version_is_refused(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, file = root / "models/digits_mlp.onnx", tmp_path / "c"
    certified(path, file)
    monkeypatch.setattr("certify.checkpoint.built", lambda: "9.9")
    with pytest.raises(UsageError, match=r"was written by certify .*, and this is 9\.9"):
        certified(path, file)


def test_external_data_that_changed_is_another_model(tmp_path: Path) -> None:
    path, file = deep(tmp_path / "m.onnx", 1), tmp_path / "c"
    certified(path, file)
    digest = path.read_bytes()
    data = path.with_name("m.onnx.data")
    content = bytearray(data.read_bytes())
    content[1000] ^= 1
    data.write_bytes(content)
    assert path.read_bytes() == digest
    with pytest.raises(UsageError, match=r"is of another claim \(model differ\)"):
        certified(path, file)


def test_no_case_of_weights_that_changed_meanwhile_is_kept(tmp_path: Path) -> None:
    path, file = deep(tmp_path / "m.onnx", 1), tmp_path / "c"
    data = path.with_name("m.onnx.data")
    content, sizes = data.read_bytes(), []

    def meddle(stage: str, fraction: float | None) -> None:
        if stage == "running error" and not sizes:
            sizes.append(file.stat().st_size)
            data.write_bytes(content[::-1])

    with pytest.raises(InvalidModel, match="changed while it was analysed"):
        certified(path, file, progress=meddle)
    assert sizes == [file.stat().st_size]


def test_a_damaged_file_is_refused(tmp_path: Path, root: Path) -> None:
    path, file = root / "models/digits_mlp.onnx", tmp_path / "c"
    certified(path, file)
    whole = file.read_bytes()
    for place in (len(FORM) + 60, len(whole) // 2, len(whole) - 5):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(InvalidData, match="is damaged; remove it"):
            certified(path, file)
    for content in (b"", b"PK\x03\x04", FORM, FORM[:-1] + b" " + whole[len(FORM) :]):
        file.write_bytes(content)
        with pytest.raises((InvalidData, UsageError), match="is damaged|is no checkpoint of certify"):
            certified(path, file)
        assert file.read_bytes() == content


def test_where_none_can_be_written(tmp_path: Path, root: Path) -> None:
    path = root / "models/digits_mlp.onnx"
    with pytest.raises(UsageError, match=r"--checkpoint .*: there is no folder"):
        certified(path, tmp_path / "none" / "c")
    with pytest.raises(UsageError, match=r"--checkpoint .*: can't be opened for writing"):
        certified(path, tmp_path)


def test_two_runs_do_not_share_one(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "c", {"model": "m"}, 1)
    with pytest.raises(UsageError, match="another run is writing it"):
        Checkpoint(tmp_path / "c", {"model": "m"}, 1)
    first.close()
    Checkpoint(tmp_path / "c", {"model": "m"}, 1).close()


def test_what_has_no_cases_to_keep(tmp_path: Path) -> None:
    for claim in ({"region": True}, {"outputs": [tmp_path / "w.witness"]}):
        with pytest.raises(UsageError, match="--checkpoint"):
            certify.certify(onnx.ModelProto(), checkpoint=tmp_path / "c", **claim)
