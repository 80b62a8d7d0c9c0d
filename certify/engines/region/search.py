"""Branch and bound: sub-boxes are cut in two, the worst first, until there is nothing to gain.

What is proved of the whole box is the worst of what is proved of its parts, at any time: a result is valid whenever the search stops.
What holds of a box holds of its parts, so each keeps the better of the two. Which boxes are cut, and with what result, depends on neither
clock nor processors; only how many rounds a time limit permits does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from certify.engines.region.boxes import Layout
from certify.number.upward import Array

CHUNKS = 4  # parts of as many boxes as are asked about at once, in a round, at most
FEW = 16  # boxes that are cut in eight at once
KEPT = 40_000_000  # numbers kept of all boxes together
TRUST = 2.0  # how many whole gains stand against what the first boxes teach of a column


@dataclass
class Known:
    """What is known of boxes, a row each. lo, hi: (n, columns). costs: (n, columns), what each column's width is believed to cost.

    values: (n, K), smaller is better, and never larger for a part of a box. notes: (n, M), what else is known of the box alone.
    part:   (n,), of which of the region's boxes it is a part.
    """

    lo: Array
    hi: Array
    values: Array
    costs: Array
    notes: Array
    part: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return int(self.lo.shape[0])

    def take(self, index: npt.NDArray[np.intp]) -> Known:
        return Known(*(getattr(self, part.name)[index] for part in fields(self)))

    @staticmethod
    def join(parts: Sequence[Known]) -> Known:
        return Known(*(np.concatenate([getattr(one, part.name) for one in parts]) for part in fields(Known)))


@dataclass(frozen=True)
class Asked:
    """What is asked about: lo, hi, part as in `Known`; told: what the question has learnt so far that the answer may depend on."""

    lo: Array
    hi: Array
    part: npt.NDArray[np.intp]
    told: Array


class Question(Protocol):
    """What is asked of boxes. `ask` depends on nothing but its argument."""

    @property
    def layout(self) -> Layout: ...

    @property
    def chunk(self) -> int:
        """Boxes asked about at once; fewer or more would round differently."""
        ...

    @property
    def told(self) -> Array:
        """For `Asked`."""
        ...

    @property
    def arguments(self) -> tuple[object, ...]:
        """What a question of the same kind is made of, besides the program, that answers alike."""
        ...

    def ask(self, boxes: Asked) -> Known:
        """What is proved of each of these boxes."""
        ...

    def learn(self, fresh: Known) -> None:
        """Look at boxes that were just asked about."""
        ...

    def gained(self, before: Known, left: Known, right: Known) -> Array:
        """(n,) in [0, 1]: by what share cutting each box bettered what is known of it."""
        ...

    def urgency(self, known: Known) -> Array:
        """(n,): what is to be gained by cutting each box, 0 where nothing is."""
        ...


Spread = Callable[[Question, Sequence[Asked]], Iterable[Known]]
"""spread(question, parts): what the question answers of each part, in order, wherever it is worked out."""


def alone(question: Question, parts: Sequence[Asked]) -> Iterable[Known]:
    """Here, one part after the other."""
    return map(question.ask, parts)


class Worth:
    """Along which column a box is cut: where the width is believed to cost most, times what such beliefs proved to be worth so far.

    Achterberg, Koch & Martin 2005, *Branching rules revisited*, call the latter pseudocosts.
    """

    def __init__(self, layout: Layout) -> None:
        self._root = np.maximum(layout.whole[1] - layout.whole[0], np.finfo(np.float64).tiny)
        self._gained = np.full(self._root.shape[1], TRUST)
        self._believed = np.full(self._root.shape[1], TRUST)

    def axes(self, lo: Array, hi: Array, costs: Array) -> npt.NDArray[np.intp]:
        """(n,): the column of each box; the widest, as a share of the whole box, where nothing is believed."""
        width = hi - lo
        weighted = np.where(width > 0.0, _shares(costs) * (self._gained / self._believed), -1.0)
        told = weighted.max(axis=1, keepdims=True) > 0.0
        return np.asarray(np.where(told, weighted, np.where(width > 0.0, width / self._root, -1.0)).argmax(axis=1))

    def learn(self, known: Known, axes: npt.NDArray[np.intp], gained: Array) -> None:
        """What cutting these boxes along these columns was worth."""
        believed = _shares(known.costs)[np.arange(len(known)), axes]
        for column in np.unique(axes):
            mine = axes == column
            self._gained[column] += gained[mine].sum()
            self._believed[column] += believed[mine].sum()


def _shares(costs: Array) -> Array:
    total = costs.sum(axis=1, keepdims=True)
    return costs / np.where(total > 0.0, total, 1.0)


class Search:
    """The boxes that make up the whole box, and what is known of each. ended: why no round is left, if none is."""

    def __init__(self, question: Question, spread: Spread = alone) -> None:
        self.question = question
        self._spread = spread
        self.asked = 0
        self.ended = ""
        self.worth = Worth(question.layout)
        lo, hi = question.layout.start
        self.known = self._ask(lo, hi, np.arange(lo.shape[0]))
        question.learn(self.known)
        self._urgency = self._urgent()

    def rounds(self) -> Iterator[int]:
        """Cut the most urgent boxes, round after round; gives how many boxes there are."""
        yield len(self.known)
        while self._round():
            yield len(self.known)

    def upcoming(self) -> int:
        """About how many boxes the next round asks about."""
        waiting = int(np.count_nonzero(self._urgency > 0.0))
        return min(2 * waiting, self.question.chunk * CHUNKS)

    def _urgent(self) -> Array:
        """What is to be gained by cutting each box; nothing by one that is a single number."""
        known = self.known
        return np.asarray(np.where((known.lo < known.hi).any(axis=1), self.question.urgency(known), 0.0))

    def _round(self) -> bool:
        known = self.known
        urgency = self._urgency
        room = KEPT // max(1, known.values.shape[1] + known.notes.shape[1] + 3 * known.lo.shape[1]) - len(known)
        waiting = np.flatnonzero(urgency > 0.0)
        if waiting.size == 0 or room <= 0:
            self.ended = "nothing left to gain" if waiting.size == 0 else f"{len(known)} sub-boxes are as many as are kept"
            return False
        count = int(min(max(1, self.question.chunk * CHUNKS // 2), room))
        chosen = np.sort(waiting[np.argsort(-urgency[waiting], kind="stable")[:count]])
        before = known.take(chosen)
        fresh = self._cut(before, 1 if chosen.size > FEW or self.question.chunk < 8 * FEW else 3)
        self.question.learn(fresh)
        kept = np.ones(len(known), dtype=bool)
        kept[chosen] = False
        self.known = Known.join([known.take(np.flatnonzero(kept)), fresh])
        self._urgency = self._urgent()
        return True

    def _cut(self, before: Known, times: int) -> Known:
        """The parts of boxes cut so many times over; few boxes cost hardly more time than one."""
        lo, hi, costs, parent = before.lo, before.hi, before.costs, np.arange(len(before))
        for _ in range(times):
            axes = self.worth.axes(lo, hi, costs)
            costs = costs.copy()
            costs[np.arange(axes.size), axes] *= 0.5
            lo, hi = self.question.layout.split(lo, hi, axes)
            costs, parent = np.concatenate([costs, costs]), np.concatenate([parent, parent])
        fresh = self._ask(lo, hi, before.part[parent])
        fresh.values = np.minimum(fresh.values, before.values[parent])
        if times == 1:
            half = np.arange(len(before))
            self.worth.learn(before, axes, self.question.gained(before, fresh.take(half), fresh.take(half + len(before))))
        return fresh

    def _ask(self, lo: Array, hi: Array, part: npt.NDArray[np.intp]) -> Known:
        step, told = self.question.chunk, self.question.told
        starts = range(0, lo.shape[0], step)
        asked = [Asked(lo[first : first + step], hi[first : first + step], part[first : first + step], told) for first in starts]
        self.asked += lo.shape[0]
        return Known.join(list(self._spread(self.question, asked)))
