"""A region's certificate: the worst of what branch and bound proved of its parts, and what the worst part looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from certify.analysis.program import Program
from certify.engines.adjoint import output_of
from certify.engines.answer import Answer, Bounds, keep_facts
from certify.engines.contract import Guarantee, Progress
from certify.engines.parallel import single_threaded_products
from certify.engines.region.batch import Batch, evaluate
from certify.engines.region.boxes import Layout, Part
from certify.engines.region.error import ErrorBounds
from certify.engines.region.limits import Limits
from certify.engines.region.map import Map, map_of
from certify.engines.region.search import Known, Search, Spread, alone
from certify.number.enclosure import Enclosure
from certify.number.upward import add_up, up

RANKED = 8  # worst sub-boxes that are listed
WORK = 2.5e8  # nominal nanoseconds of rows that a sweep of one box may take, for each second of the time limit


@dataclass(frozen=True, slots=True)
class SubBox:
    """A part of the region and the bound of the output's error in it."""

    bound: float
    part: Part


@dataclass(frozen=True, slots=True)
class Region:
    """boxes: how many sub-boxes make up the region. asked: how many were bounded on the way. ended: why no more were.

    lower: by output, about what splitting further would come down to. worst: by output, the worst sub-boxes, the very worst first.
    maps: by output, the bound over the two inputs that were cut most.
    """

    boxes: int
    asked: int
    ended: str
    lower: dict[str, float]
    worst: dict[str, list[SubBox]]
    maps: dict[str, Map]


def region_answer(
    program: Program,
    boxes: Sequence[Mapping[str, Enclosure]],
    limits: Limits,
    enough: Mapping[str, float],
    progress: Progress | None,
    spread: Spread = alone,
) -> tuple[Answer, Region]:
    """Bounds over the whole region. enough: by output, the bound at which an absolute budget is met; what is above is split on."""
    with single_threaded_products():
        work = limits.seconds * WORK
        question = ErrorBounds(program, Layout.of(program, boxes), work, np.array([enough.get(name, 0.0) for name in program.outputs]))
        search = Search(question, spread)
        ended = limits.search(search, progress, lambda: f"splitting: bound {float(search.known.values.max(initial=0.0)):.4g}")
        return _answer(question, search), _region(question, search, ended)


def _answer(question: ErrorBounds, search: Search) -> Answer:
    """As for points, with one case: the region. Of nodes it says what holds in the sub-box that is worst for the first output."""
    result = Answer("region", Guarantee.PROVED)
    upper = search.known.values.max(axis=0, initial=0.0)
    start = 0
    for k, (name, size) in enumerate(zip(question.program.outputs, question.sizes.outputs, strict=True)):
        worst = int(question.by_output(search.known.values)[:, k].argmax())
        sweep = _alone(question, search.known, worst).bounding
        shape = (1, *question.sizes.shapes[k])
        total = upper[start : start + size].reshape(shape)
        found = output_of(sweep, name, question.work)
        moved = np.abs(np.broadcast_to(sweep.centres.get(name, np.zeros(shape)), shape))
        conversion = np.minimum(add_up(found.converted, moved), total)
        rest = np.where(np.isfinite(total), np.maximum(up(total - conversion), 0.0), np.inf)
        X = question.sizes.ranges[k]
        result.outputs[name] = Bounds(X.mid, conversion, rest, X.rad, total)
        result.shares[name] = {step: float(share[0]) for step, share in found.shares.items() if share.size}
        if k == 0:
            keep_facts(result, sweep.state.tubes, sweep.state.local, sweep.problem)
            result.lost.extend(sweep.state.lost)
        start += size
    return result


def _alone(question: ErrorBounds, known: Known, row: int) -> Batch:
    box = question.layout.enclosures(known.lo[row : row + 1], known.hi[row : row + 1])
    return evaluate(question.program, box, question.work)


def _region(question: ErrorBounds, search: Search, ended: str) -> Region:
    known = search.known
    by_output = question.by_output(known.values)
    worst, maps = {}, {}
    for k, name in enumerate(question.program.outputs):
        ranked = np.argsort(-by_output[:, k], kind="stable")[:RANKED]
        parts = question.layout.parts(known.lo[ranked], known.hi[ranked])
        worst[name] = [SubBox(float(by_output[row, k]), part) for row, part in zip(ranked, parts, strict=True)]
        found = map_of(question.layout, known, by_output[:, k])
        if found is not None:
            maps[name] = found
    lower = dict(zip(question.program.outputs, map(float, question.lower), strict=True))
    return Region(len(known), search.asked, ended, lower, worst, maps)
