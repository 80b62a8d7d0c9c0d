"""A region's sub-boxes spread over processes.

Every process binds the model anew, as this one did, and answers what it is asked about parts of the same size in the same way; the
answers come back in order. So results do not depend, bit for bit, on how many processes there are, unless a time limit ends the search.
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from certify import memory
from certify.analysis.program import Program
from certify.analysis.target import target
from certify.engines import parallel
from certify.engines.region.search import Asked, Known, Question, alone
from certify.number.formats import format_named
from certify.profiles import profile_named
from certify.request import Request

if TYPE_CHECKING:
    import onnx

LATER = 2.0  # seconds of a search after which starting processes pays


@dataclass(frozen=True, slots=True)
class Model:
    """What a process needs to bind the model as this one did."""

    model: Path | bytes
    formats: tuple[str | None, str | None]
    profile: str
    summation: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    memory: tuple[int | None, int]  # what `memory.use` is told

    @staticmethod
    def of(request: Request, jobs: int) -> Model:
        model: Path | bytes | onnx.ModelProto = request.model
        held = model if isinstance(model, Path | bytes) else model.SerializeToString()
        formats = (request.dtype, request.accumulate)
        return Model(
            held, formats, request.profile_name, str(request.summation), tuple(request.shapes.items()), (request.memory_limit, jobs)
        )

    def program(self) -> Program:
        """The model bound."""
        dtype, accumulate = (None if name is None else format_named(name) for name in self.formats)
        profile = profile_named(self.profile, dtype, accumulate, self.summation)
        with target(self.model, profile, dict(self.shapes), None, None) as bound:
            return bound.program


class Workers:
    """`spread` for `region.search.Search`: in this process at first, in `jobs` others once that pays. Close by leaving the context."""

    def __init__(self, request: Request, jobs: int) -> None:
        self._model, self._jobs = Model.of(request, jobs), jobs
        self._started = time.monotonic()
        self._pool: ProcessPoolExecutor | None = None
        self._question: Question | None = None
        self._pickled = b""

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def __call__(self, question: Question, parts: Sequence[Asked]) -> Iterable[Known]:
        """What the question answers of each part, in order."""
        if self._jobs < 2 or len(parts) < 2 or time.monotonic() - self._started < LATER:
            return alone(question, parts)
        if question is not self._question:
            self._question, self._pickled = question, pickle.dumps((type(question), question.arguments))
        try:
            return list(self._processes().map(_answer, [self._pickled] * len(parts), parts))
        except BrokenProcessPool:
            self._jobs = 1  # a process was killed, for memory perhaps: go on alone
            return alone(question, parts)

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._jobs, context, initializer=_prepare, initargs=(self._model,))
        return self._pool


_program: Program | None = None
_questions: dict[bytes, Question] = {}


def _prepare(model: Model) -> None:
    global _program
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    np.seterr(all="ignore")
    parallel.use(1)
    memory.use(*model.memory)
    _program = model.program()


def _answer(question: bytes, part: Asked) -> Known:
    if question not in _questions:
        kind, arguments = pickle.loads(question)
        _questions.clear()
        _questions[question] = kind(_program, *arguments)
    with parallel.single_threaded_products():
        found: Known = _questions[question].ask(part)
    return found
