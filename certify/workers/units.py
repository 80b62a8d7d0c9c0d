"""What processes are asked, one unit at a time: a region's sub-boxes, or a case. Each binds the model once."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from certify import memory
from certify.analysis.reference import pair_at
from certify.analysis.target import Target
from certify.engines import parallel
from certify.engines.answer import Solved, solve
from certify.engines.methods import Method
from certify.engines.region.search import Asked, Known, Question
from certify.number.upward import Array
from certify.workers.model import Model


@dataclass(frozen=True, slots=True)
class Case:
    """One of so many cases, and its points: by input, (1, *shape)."""

    number: int
    cases: int
    points: dict[str, Array]
    method: Method
    decide: Sequence[str]

    def solved(self, subject: Target) -> Solved:
        with np.errstate(all="ignore"), parallel.single_threaded_products():
            pair = pair_at(subject.program, subject.exact, self.points)
            return solve(pair, self.number, self.cases, self.method, self.decide)


_subject: Target | None = None
_questions: dict[bytes, Question] = {}


def prepare(model: Model, threads: int) -> None:
    """Bind the model that this process is asked about from now on, with so many threads."""
    global _subject
    _questions.clear()
    parallel.use(threads)
    memory.use(*model.memory)
    _subject = model.bound()


def solved(case: Case) -> Solved:
    """The case solved."""
    return case.solved(_bound())


def answered(question: bytes, part: Asked) -> Known:
    """What a question, pickled as its kind and its arguments, answers of a part."""
    if question not in _questions:
        kind, arguments = pickle.loads(question)
        _questions.clear()
        _questions[question] = kind(_bound().program, *arguments)
    with np.errstate(all="ignore"), parallel.single_threaded_products():
        found: Known = _questions[question].ask(part)
    return found


def _bound() -> Target:
    assert _subject is not None
    return _subject
