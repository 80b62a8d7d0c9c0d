"""Cases and a region's sub-boxes over processes: the same certificate, bit for bit, for any number of them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import certify
from certify import workers
from certify.analysis.target import Target, target
from certify.certificate.build import document
from certify.certificate.schema import encode
from certify.errors import InvalidModel
from certify.profiles import profile_named
from certify.request import Request
from certify.workers.crew import Died, Processes
from certify.workers.model import Model, Parcel
from tests.engines.networks import perceptron


def certificate_of_region(monkeypatch: pytest.MonkeyPatch, **options: Any) -> certify.Certificate:
    monkeypatch.setattr(workers, "LATER", 0.0)
    monkeypatch.setattr("certify.engines.region.sizes.CHUNK", 16)
    model = perceptron([3, 6, 2], "Relu", 3)
    given: dict[str, Any] = {"region": True, "ranges": (-1.0, 1.0), "boxes": 150, "time_limit": 600.0, "shapes": {"x": (1, 3)}}
    return certify.certify(model, dtype="bf16", validate=False, **given, **options)


def certificate_at_points(monkeypatch: pytest.MonkeyPatch, **options: Any) -> certify.Certificate:
    return certify.certify(perceptron([12, 40, 40, 4], "Tanh", 3), dtype="bf16", samples=9, budgets=["argmax"], **options)


def told(found: certify.Certificate) -> bytes:
    """The certificate without what it took, arrays included."""
    arrays = b"".join(
        x.tobytes() for out in found.outputs.values() for x in (out.absolute_bound, out.conversion, out.rounding, out.reference)
    )
    return encode(document(replace(found, timings={}, peak_memory_bytes=None))) + arrays


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many processes were at hand, whenever a unit was handed out."""
    seen: list[int] = []
    honest = Processes.submit

    def counted(self: Processes, *arguments: Any) -> Any:
        seen.append(self.jobs)
        return honest(self, *arguments)

    monkeypatch.setattr(Processes, "submit", counted)
    return seen


@pytest.mark.parametrize("asked", [certificate_at_points, certificate_of_region])
def test_any_number_of_processes_gives_the_same(asked: Any, started: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = asked(monkeypatch)
    assert not started
    for jobs in (2, 3):
        started.clear()
        assert told(asked(monkeypatch, jobs=jobs)) == told(alone)
        assert set(started) == {jobs}
    if alone.region is None:
        assert len(started) == 9
    else:
        assert alone.region.boxes >= 150


def test_progress_counts_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float | None]] = []
    certificate_at_points(monkeypatch, jobs=2, validate=False, progress=lambda stage, share: seen.append((stage, share)))
    assert [(stage, share) for stage, share in seen if "cases" in stage] == [
        (f"bounding the error: {done} of 9 cases", done / 9) for done in range(1, 10)
    ]


@pytest.mark.parametrize("asked", [certificate_at_points, certificate_of_region])
def test_a_process_that_dies_is_done_without(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = told(asked(monkeypatch))
    died: list[int] = []
    honest = Processes.result

    def result(self: Processes, submitted: Any) -> Any:
        if not died:
            assert self._pool is not None
            died.append(next(iter(self._pool._processes)))
            os.kill(died[0], signal.SIGKILL)
        try:
            return honest(self, submitted)
        except Died:
            died.append(0)
            raise

    monkeypatch.setattr(Processes, "result", result)
    assert told(asked(monkeypatch, jobs=2)) == alone
    assert len(died) > 1  # units came back undone, and were done here


PARENT = """
import time
from pathlib import Path
from certify.request import Request
from certify.workers.crew import Processes
from certify.workers.model import Model
from tests.test_workers import bound
if __name__ == "__main__":
    request = Request(Path("models/digits_mlp.onnx"))
    crew = Processes(2)
    crew.submit(Model.of(request, bound(request), None), time.sleep, 600)
    print(*crew._pool._processes, flush=True)
    time.sleep(600)
"""


def test_processes_end_with_the_one_that_started_them(root: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, script], cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert children
        assert all(map(alive, children))
        time.sleep(3.0)  # in the middle of the unit
        parent.kill()
    end = time.monotonic() + 20.0
    while any(map(alive, children)):
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """True unless the process is gone, or dead and waiting for someone to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_witness_is_collected_in_one_process(started: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = certificate_at_points(monkeypatch, jobs=2, outputs=[tmp_path / "run.witness"])
    assert found.witness
    assert not started


def bound(request: Request) -> Target:
    with target(request.model, profile_named("wide", None, None, "any"), {}, None, None) as subject:
        return subject


def test_a_model_travels_with_its_files(tmp_path: Path) -> None:
    """External data are sent along: another machine need not see the folder."""
    home, path = tmp_path / "home", tmp_path / "home" / "m.onnx"
    (home / "weights").mkdir(parents=True)
    given: dict[str, Any] = {"save_as_external_data": True, "location": "weights/w.bin", "size_threshold": 0}
    onnx.save_model(perceptron([3, 40, 2], "Relu", 3), path, **given)
    request = Request(path)
    subject = bound(request)
    parcel = pickle.loads(pickle.dumps(Parcel.of(Model.of(request, subject, None))))
    assert set(parcel.files) == {"m.onnx", "weights/w.bin"}
    home.rename(tmp_path / "gone")
    again = parcel.unpacked(tmp_path / "elsewhere").bound()
    assert again.program.exact.keys() == subject.program.exact.keys()
    assert all(np.array_equal(x, subject.program.exact[name]) for name, x in again.program.exact.items())


def test_a_file_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save_model(perceptron([3, 4, 2], "Relu", 3), path)
    request = Request(path)
    model = Model.of(request, bound(request), None)
    onnx.save_model(perceptron([3, 4, 2], "Relu", 4), path)
    with pytest.raises(InvalidModel, match="was changed"):
        model.bound()
