"""Cases and a region's sub-boxes spread over processes, on this machine or on a Dask cluster.

Every process binds the model anew, as this one did, and answers what it is asked about a case, or about parts of the same size, in the same
way; the answers come back in order. So results do not depend, bit for bit, on how many processes there are, unless a time limit ends
the search of a region.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import numpy.typing as npt

from certify.analysis.reference import pair_at
from certify.analysis.target import Target
from certify.engines.answer import Answer, Recall, Solved, gather
from certify.engines.methods import Method
from certify.engines.parallel import processors, single_threaded_products
from certify.engines.region.search import Asked, Known, Question, alone
from certify.number.upward import Array
from certify.request import Progress, Request
from certify.workers import units
from certify.workers.crew import Crew, Died, Processes
from certify.workers.model import Model
from certify.workers.units import Case

LATER = 2.0  # seconds of a search after which spreading it pays

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@contextmanager
def crew_for(request: Request) -> Iterator[Crew]:
    """The cluster that is asked for, or processes of this machine. Raises UsageError if the cluster is not to be had."""
    crew: Crew = Processes(_jobs(request))
    if request.scheduler is not None:
        from certify.workers.cluster import Cluster  # imports distributed

        crew = Cluster(request.scheduler)
    with closing(crew):
        yield crew


def _jobs(request: Request) -> int:
    """Processes: for a region as many as there are processors; for points one unless asked for more, since each needs memory of its own."""
    if request.region or request.vnnlib is not None:
        return request.jobs or processors()
    return 1 if wants_witness(request) else request.jobs or 1


def wants_witness(request: Request) -> bool:
    """True if a witness is to be written, which is shown each case as it is solved, in this process."""
    return any(path.suffix.lower() == ".witness" for path in request.outputs)


class Workers:
    """Spreads work on one model over a crew, and does here what a process died of. It is a `region.search.Spread`."""

    def __init__(self, crew: Crew, request: Request, subject: Target, data: Mapping[str, npt.NDArray[Any]] | None) -> None:
        self._crew, self._subject = crew, subject
        self._model = Model.of(request, subject, data, 1 if request.scheduler else _jobs(request))
        self._started = time.monotonic()
        self._question: Question | None = None
        self._pickled = b""

    def __call__(self, question: Question, parts: Sequence[Asked]) -> Iterable[Known]:
        """What the question answers of each part, in order: here at first, in other processes once that pays."""
        if self._crew.ahead < 2 or len(parts) < 2 or time.monotonic() - self._started < LATER:
            return alone(question, parts)
        if question is not self._question:
            self._question, self._pickled = question, pickle.dumps((type(question), question.arguments))
        return list(self._each(units.answered, ((self._pickled, part) for part in parts), lambda _, part: question.ask(part)))

    def pay(self, cases: int) -> bool:
        """True if there are enough cases, and processes, to spread them."""
        return self._crew.ahead >= 2 and cases >= 2

    def answer(
        self, points: Sequence[dict[str, Array]], method: Method, decide: Sequence[str], progress: Progress, recall: Recall | None = None
    ) -> Answer:
        """As `engines.answer.answer`, of one case and more. points: of each case, by input, (1, *shape)."""
        with single_threaded_products():
            first = pair_at(self._subject.program, self._subject.exact, points[0])
            return gather(self._solved(points, method, decide, progress, recall), method, first)

    def _solved(
        self, points: Sequence[dict[str, Array]], method: Method, decide: Sequence[str], progress: Progress, recall: Recall | None
    ) -> Iterator[Solved]:
        count = len(points)
        known = [None if recall is None else recall.remembered(number) for number in range(count)]
        asked = (Case(number, count, mine, method, decide) for number, mine in enumerate(points) if known[number] is None)
        found = self._each(units.solved, ((case,) for case in asked), lambda case: case.solved(self._subject))
        for number in range(count):
            solved = known[number]
            if solved is None:
                solved = next(found)
                if recall is not None:
                    recall.remember(number, solved)
            progress(f"bounding the error: {number + 1:,} of {count:,} cases", (number + 1) / count)
            yield solved

    def _each(self, unit: Callable[..., Result], asked: Iterable[tuple[Any, ...]], here: Callable[..., Result]) -> Iterator[Result]:
        """unit(*arguments) of each, in order; here(*arguments) where it dies."""
        waiting: deque[tuple[tuple[Any, ...], Any]] = deque()
        for arguments in asked:
            waiting.append((arguments, self._crew.submit(self._model, unit, *arguments)))
            if len(waiting) >= self._crew.ahead:
                yield self._taken(here, *waiting.popleft())
        while waiting:
            yield self._taken(here, *waiting.popleft())

    def _taken(self, here: Callable[..., Result], arguments: tuple[Any, ...], submitted: Any) -> Result:
        try:
            found: Result = self._crew.result(submitted)
        except Died:  # for memory perhaps, which is all of this process's now
            return here(*arguments)
        return found
