"""A region's sub-boxes over processes: the same certificate, bit for bit, for any number of them."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pytest

import certify
from certify import workers
from certify.certificate.build import document
from certify.certificate.schema import encode
from tests.engines.networks import perceptron


def certificate(jobs: int, monkeypatch: pytest.MonkeyPatch) -> certify.Certificate:
    monkeypatch.setattr(workers, "LATER", 0.0)
    monkeypatch.setattr("certify.engines.region.sizes.CHUNK", 16)
    model = perceptron([3, 6, 2], "Relu", 3)
    return certify.certify(
        model, dtype="bf16", region=True, ranges=(-1.0, 1.0), boxes=150, time_limit=600.0, jobs=jobs, validate=False, shapes={"x": (1, 3)}
    )


def told(found: certify.Certificate) -> bytes:
    from dataclasses import replace

    return encode(document(replace(found, timings={}, peak_memory_bytes=None)))


def test_any_number_of_processes_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    honest = workers.Workers._processes

    def counted(self: workers.Workers) -> Any:
        started.append(self._jobs)
        return honest(self)

    monkeypatch.setattr(workers.Workers, "_processes", counted)
    alone = certificate(1, monkeypatch)
    assert not started
    spread = certificate(2, monkeypatch)
    assert set(started) == {2}
    assert told(alone) == told(spread)
    assert np.array_equal(alone.outputs["y"].absolute_bound, spread.outputs["y"].absolute_bound)
    assert alone.region is not None
    assert alone.region.boxes >= 150


def test_a_process_that_dies_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead:
        def map(self, *_: Any) -> Any:
            raise BrokenProcessPool("killed")

    monkeypatch.setattr(workers.Workers, "_processes", lambda self: Dead())
    assert told(certificate(2, monkeypatch)) == told(certificate(1, monkeypatch))
