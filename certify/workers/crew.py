"""Processes that work: what they all do, and those of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from certify.engines.parallel import processors
from certify.workers import units
from certify.workers.model import Model


class Died(Exception):
    """The unit's process died, and nobody is left to try it again."""


class Crew(Protocol):
    """Processes that are given units and answer in any order."""

    @property
    def ahead(self) -> int:
        """Units to hand out before the first of them is waited for; below 2 none are worth it."""
        ...

    def submit(self, model: Model, unit: Callable[..., Any], *arguments: Any) -> Any:
        """A unit of work on the model, under way. unit: a function of `workers.units`."""
        ...

    def result(self, submitted: Any) -> Any:
        """Its result, once it is there. Raises what the unit raised; Died."""
        ...

    def close(self) -> None:
        """No more units; what is under way is of no interest."""
        ...


class Processes:
    """`jobs` processes of this machine, started when they are first needed, for one model. They share its processors."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    @property
    def ahead(self) -> int:
        return 1 if self.jobs < 2 else 4 * self.jobs

    def submit(self, model: Model, unit: Callable[..., Any], *arguments: Any) -> Future[Any] | None:
        """None if a process died already: the others are ended with it."""
        try:
            return self._started(model).submit(unit, *arguments)
        except BrokenProcessPool:
            return None

    def result(self, submitted: Future[Any] | None) -> Any:
        if submitted is None:
            raise Died
        try:
            return submitted.result()
        except BrokenProcessPool as broken:
            raise Died from broken

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _started(self, model: Model) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            threads = max(1, processors() // self.jobs)
            self._pool = ProcessPoolExecutor(self.jobs, context, initializer=_prepare, initargs=(model, threads))
        return self._pool


def _prepare(model: Model, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_follow, daemon=True, name="follow").start()
    units.prepare(model, threads)


def _follow() -> None:
    """End with the parent, even in the middle of a unit."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
