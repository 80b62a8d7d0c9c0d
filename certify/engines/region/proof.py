"""What branch and bound proves of a property over the whole region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from certify.analysis.program import Program
from certify.engines.contract import Progress
from certify.engines.parallel import single_threaded_products
from certify.engines.region.answer import RANKED, WORK
from certify.engines.region.boxes import Layout, Part
from certify.engines.region.limits import Limits
from certify.engines.region.search import Search, Spread, alone
from certify.engines.region.statement import EXECUTIONS, REALS, Statement, Try
from certify.graph.vnnlib.property import Case
from certify.number.enclosure import Enclosure
from certify.number.upward import Array


@dataclass(frozen=True, slots=True)
class Unproved:
    """A sub-box in which some execution may break the property, and lower bounds of its margins."""

    margin_reals: float
    margin_executions: float
    part: Part


@dataclass(frozen=True, slots=True)
class Proof:
    """Margins are lower bounds over the whole region, in units of the file's inequalities: above 0, the property is proved.

    boxes, asked, ended: as in `Region`. unproved: how many sub-boxes, and the worst of them.
    """

    margin_reals: float
    margin_executions: float
    boxes: int
    asked: int
    ended: str
    unproved: int
    worst: list[Unproved]


def prove(
    program: Program,
    boxes: Sequence[Mapping[str, Enclosure]],
    cases: tuple[Case, ...],
    limits: Limits,
    progress: Progress | None = None,
    spread: Spread = alone,
    attempt: Try | None = None,
) -> Proof:
    """Split boxes, (1, *shape) by input, until every part is proved safe for executions, a run breaks the property, or time is over."""
    with single_threaded_products():
        layout = Layout.of(program, boxes)
        question = Statement(program, layout, cases, limits.seconds * WORK, attempt)
        search = Search(question, spread)
        ended = limits.search(search, progress, lambda: f"proving: margin {_margin(search.known.values, EXECUTIONS):.4g}")
    known = search.known
    deficit = known.values[:, EXECUTIONS]
    open_ = np.flatnonzero(deficit >= 0.0)
    ranked = open_[np.argsort(-deficit[open_], kind="stable")[:RANKED]]
    parts = layout.parts(known.lo[ranked], known.hi[ranked])
    worst = [
        Unproved(float(-known.values[row, REALS]) + 0.0, float(-deficit[row]) + 0.0, part) for row, part in zip(ranked, parts, strict=True)
    ]
    reals, executions = (_margin(known.values, column) for column in (REALS, EXECUTIONS))
    ended = "a run broke the property" if question.violated else ended
    return Proof(reals, executions, len(known), search.asked, ended, int(open_.size), worst)


def _margin(values: Array, column: int) -> float:
    return float(-values[:, column].max(initial=-np.inf)) + 0.0
