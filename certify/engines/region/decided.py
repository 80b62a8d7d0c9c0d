"""Where in a region rounding may change a decision: what branch and bound proves of every argmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.analysis.program import Program
from certify.engines.contract import Progress
from certify.engines.parallel import single_threaded_products
from certify.engines.region.answer import RANKED, WORK
from certify.engines.region.boxes import Layout, Part, next_above
from certify.engines.region.deciding import UNKNOWN, Deciding
from certify.engines.region.limits import Limits
from certify.engines.region.search import Known, Search, Spread, alone
from certify.number.enclosure import Enclosure
from certify.number.upward import Array

Kind: TypeAlias = Literal["stable", "rounding", "reals"]
KINDS: tuple[Kind, ...] = ("stable", "rounding", "reals")


@dataclass(frozen=True, slots=True)
class Undecided:
    """A sub-box that is not stable, and lower bounds of the winner's margin in it."""

    kind: Kind
    margin_reals: float
    margin_executions: float
    part: Part


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers of the one input element that varies, between which no sub-box is stable; kind: the worst in it."""

    kind: Kind
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class RegionDecision:
    """The decisions of one output. boxes, asked, ended: as in `Region`.

    count, share:  by kind, how many sub-boxes, and their share of all sub-boxes' volume.
    constant:      the winner of every row is one and the same in the whole region, in every execution; reals: over the reals.
    worst:         sub-boxes that are not stable, the largest first. intervals: all of these, merged, where one element varies; else None.
    """

    boxes: int
    asked: int
    ended: str
    count: dict[Kind, int]
    share: dict[Kind, float]
    constant: bool
    constant_reals: bool
    worst: list[Undecided]
    intervals: list[Interval] | None

    @property
    def unstable(self) -> int:
        return self.boxes - self.count["stable"]

    @property
    def width(self) -> float | None:
        """Of all intervals together."""
        return None if self.intervals is None else float(sum(x.hi - x.lo for x in self.intervals))


def decide(
    program: Program,
    boxes: Sequence[Mapping[str, Enclosure]],
    names: Sequence[str],
    limits: Limits,
    progress: Progress | None = None,
    spread: Spread = alone,
) -> dict[str, RegionDecision]:
    """By output, after splitting boxes, (1, *shape) by input: the largest that is undecided first."""
    with single_threaded_products():
        question = Deciding(program, Layout.of(program, boxes), names, limits.seconds * WORK)
        search = Search(question, spread)

        def state() -> str:
            known = search.known
            return f"deciding: {question.volume(known)[question.undecided(known)].sum():.2%} undecided"

        ended = limits.search(search, progress, state)
    return {name: _decision(question, search, 2 * k, question.winners(search.known, name), ended) for k, name in enumerate(names)}


def _decision(question: Deciding, search: Search, column: int, winners: Array, ended: str) -> RegionDecision:
    known = search.known
    reals, executions = known.values[:, column], known.values[:, column + 1]
    kind = np.where(executions < 0.0, 0, np.where(reals < 0.0, 1, 2))
    volume = question.volume(known)
    same = bool((winners == winners[0]).all() and (winners != UNKNOWN).all())
    open_ = np.flatnonzero(kind > 0)
    ranked = open_[np.lexsort((executions[open_], volume[open_]))[::-1][:RANKED]]
    parts = question.layout.parts(known.lo[ranked], known.hi[ranked])
    worst = [
        Undecided(KINDS[kind[row]], float(-reals[row]) + 0.0, float(-executions[row]) + 0.0, part)
        for row, part in zip(ranked, parts, strict=True)
    ]
    return RegionDecision(
        len(known),
        search.asked,
        ended,
        {name: int((kind == n).sum()) for n, name in enumerate(KINDS)},
        {name: float(volume[kind == n].sum() / volume.sum()) for n, name in enumerate(KINDS)},
        same and not open_.size,
        same and not (kind == 2).any(),
        worst,
        _intervals(question.layout, known, kind) if known.lo.shape[1] == 1 else None,
    )


def _intervals(layout: Layout, known: Known, kind: npt.NDArray[np.intp]) -> list[Interval]:
    """Sub-boxes that are not stable, those with no number of the input's format between them as one."""
    format = layout.formats[layout.columns[0][0]]
    found: list[Interval] = []
    for row in np.argsort(known.lo[:, 0], kind="stable"):
        if kind[row] == 0:
            continue
        lo, hi, mine = float(known.lo[row, 0]), float(known.hi[row, 0]), int(kind[row])
        if found:
            last = found[-1]
            after = last.hi + 1.0 if format is None else float(next_above(np.array(last.hi), format))
            if lo <= after:
                found[-1] = Interval(KINDS[max(mine, KINDS.index(last.kind))], last.lo, max(hi, last.hi))
                continue
        found.append(Interval(KINDS[mine], lo, hi))
    return found
