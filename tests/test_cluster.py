"""A Dask cluster as the place of the work: the same certificate, bit for bit, for any number of workers, one of which may be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certify
from certify.errors import UsageError
from certify.workers.units import Case
from tests.test_workers import certificate_at_points, certificate_of_region, told

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three processes; one that dies is started again."""
    with distributed.LocalCluster(n_workers=3, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(3)
        yield client


def slowed(client: Any, unit: str) -> None:
    """Make every unit of the kind last, on the workers that are there."""

    def slow() -> None:
        from certify.workers import units

        honest = getattr(units, unit)

        def late(*arguments: Any) -> Any:
            time.sleep(0.1)
            return honest(*arguments)

        late.__module__, late.__qualname__ = "certify.workers.units", unit
        setattr(units, unit, late)

    client.run(slow)


class Assassin(threading.Thread):
    """Kills a worker once it has a unit in hand and others are done; says how many units were not done by then."""

    def __init__(self, cluster: Any, pids: dict[str, int]) -> None:
        super().__init__()
        self._cluster, self._pids = cluster, pids
        self.left = 0
        self.done = 0
        self.in_hand = 0

    def run(self) -> None:
        while not self._strike():
            time.sleep(0.01)

    def _strike(self) -> bool:
        tasks = [t for t in dict(self._cluster.scheduler.tasks).values() if str(t.key).startswith("certify-unit-")]
        self.done = sum(t.state == "memory" for t in tasks)
        self.left = sum(t.state in ("processing", "queued", "no-worker", "waiting") for t in tasks)
        victim = next((t.processing_on for t in tasks if t.state == "processing" and t.processing_on is not None), None)
        if victim is None or self.done == 0:
            return False
        self.in_hand = sum(t.processing_on is victim for t in tasks)
        os.kill(self._pids[victim.address], signal.SIGKILL)
        return True


@pytest.mark.parametrize(
    ("unit", "asked", "failures"),
    [("solved", certificate_at_points, 3), ("answered", certificate_of_region, 3), ("solved", certificate_at_points, 0)],
)
def test_a_killed_worker_loses_nothing(
    cluster: Any, client: Any, unit: str, asked: Any, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """failures: deaths of its workers that a unit may survive on the cluster; what it doesn't is done here."""
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", failures)
    solved_here: list[int] = []
    honest = Case.solved
    alone = told(asked(monkeypatch, jobs=1))
    monkeypatch.setattr(Case, "solved", lambda case, subject: solved_here.append(case.number) or honest(case, subject))
    slowed(client, unit)
    pids = client.run(os.getpid)
    assassin = Assassin(cluster, pids)
    assassin.start()
    spread = told(asked(monkeypatch, scheduler=cluster.scheduler_address))
    assassin.join(timeout=10.0)
    assert not assassin.is_alive()
    assert assassin.in_hand >= 1
    assert assassin.left >= 1
    client.wait_for_workers(3)
    assert len(set(client.run(os.getpid).values()) & set(pids.values())) == 2
    assert spread == alone
    assert bool(solved_here) == (failures == 0)


def test_a_worker_with_several_threads_takes_one_unit_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = told(certificate_at_points(monkeypatch))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=4, processes=True, dashboard_address=":0") as cluster:
        assert told(certificate_at_points(monkeypatch, scheduler=cluster.scheduler_address)) == alone


def test_the_graph_that_a_runtime_wrote_travels(cluster: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"as_run": "ort-cpu", "samples": 3, "validate": False}
    alone = told(certify.certify(root / "models/digits_cnn.onnx", **given))
    monkeypatch.setattr("certify.workers.units.solve", lambda *_: pytest.fail("solved here"))
    assert told(certify.certify(root / "models/digits_cnn.onnx", scheduler=cluster.scheduler_address, **given)) == alone


def test_another_version_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.workers.cluster.ALIKE", "certify 9.9.9 with numpy 9.9.9")
    with pytest.raises(UsageError, match=r"worker tcp://\S+ runs certify \S+ \(sources \w{8}\) with numpy \S+, not certify 9\.9\.9"):
        certificate_at_points(monkeypatch, scheduler=cluster.scheduler_address)


def test_a_worker_without_certify_is_named(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.workers.cluster.WORK", "__import__('certify.workers.of_another_version')")
    with pytest.raises(UsageError, match="a worker has no certify .*of_another_version"):
        certificate_at_points(monkeypatch, scheduler=cluster.scheduler_address)


def test_a_scheduler_that_is_not_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.workers.cluster.CONNECT", 0.5)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(UsageError, match=f"--scheduler {address}: can't be reached"):
            certificate_at_points(monkeypatch, scheduler=address)
        with pytest.raises(UsageError, match=r"--scheduler tls://.*: Dask's configuration names no certificates"):
            certificate_at_points(monkeypatch, scheduler=address.replace("tcp", "tls"))
        assert time.monotonic() - start < 10.0


SCHEDULER = """
import asyncio, distributed
async def main():
    async with distributed.Scheduler(port=0, host="127.0.0.1", dashboard=False, http_prefix="") as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()
asyncio.run(main())
"""


def test_a_scheduler_that_ends_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", SCHEDULER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        threading.Timer(1.0, process.kill).start()
        with pytest.raises(UsageError, match=f"--scheduler {address}: the connection was lost"):
            certificate_at_points(monkeypatch, scheduler=address)
    assert "Traceback" not in capfd.readouterr().err


def test_dask_that_is_not_installed_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "certify.workers.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"--scheduler: Dask is not installed; install onnx-certify\[dask\]"):
        certificate_at_points(monkeypatch, scheduler="tcp://127.0.0.1:1")
