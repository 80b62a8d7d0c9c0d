"""How large can the error be, anywhere in a box? The question of a plain certificate of a region."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from certify.analysis.program import Program
from certify.engines.region.batch import Batch, evaluate
from certify.engines.region.boxes import Layout
from certify.engines.region.effects import effects
from certify.engines.region.search import Asked, Known
from certify.engines.region.sizes import Sizes
from certify.number.upward import Array

ENOUGH = 1.001  # upper / lower at which splitting has nothing more to gain
THIN, CORNERS = 4, 8  # boxes in which thin ones are bounded, of those just asked about, and in how many of each one's corners
NARROW = 2.0**-20  # a thin box's width as a share of the box's: not a point, whose arithmetic may be exact by chance


class ErrorBounds:
    """Bounds of every output element's error. values: (n, elements of all outputs); the bound of the whole box is their maximum.

    work:   nominal nanoseconds of rows, a box and sweep.
    enough: by output, a bound below which nothing is to be gained (a budget); 0 where everything is.
    lower:  by output, the largest bound of a thin box seen: about what splitting comes down to.
    """

    def __init__(self, program: Program, layout: Layout, work: float = np.inf, enough: Array | None = None) -> None:
        self.program, self.layout, self.work = program, layout, work
        self.sizes = Sizes.of(program, layout.box)
        self.chunk = self.sizes.chunk
        self.lower = np.zeros(len(program.outputs))
        self.enough = np.zeros(len(program.outputs)) if enough is None else enough

    @property
    def arguments(self) -> tuple[object, ...]:
        """As `Question`."""
        return (self.layout, self.work)

    @property
    def told(self) -> Array:
        """The lower bounds, which say what output of a box is worst."""
        return self.lower

    def ask(self, boxes: Asked) -> Known:
        """Bounds of these boxes, and what each column's width is believed to cost."""
        batch, values = self._evaluated(boxes.lo, boxes.hi)
        costs = self._costs(batch, values, boxes)
        return Known(boxes.lo, boxes.hi, values, costs, np.zeros((values.shape[0], 0)), boxes.part)

    def _evaluated(self, lo: Array, hi: Array) -> tuple[Batch, Array]:
        batch = evaluate(self.program, self.layout.enclosures(lo, hi), self.work * lo.shape[0])
        return batch, np.concatenate([batch.bounds[name].reshape(lo.shape[0], -1) for name in self.program.outputs], axis=1)

    def by_output(self, values: Array) -> Array:
        """(n, outputs): the largest element of each output."""
        ends = np.cumsum([0, *self.sizes.outputs])
        return np.stack([values[:, i:j].max(axis=1, initial=0.0) for i, j in pairwise(ends)], axis=1)

    def urgency(self, known: Known) -> Array:
        """The worst ratio of upper to lower over the outputs whose bound is not yet good enough."""
        upper = self.by_output(known.values)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nan_to_num(upper / self.lower, nan=0.0, posinf=np.inf)
        open_ = (ratio > ENOUGH) & (upper > self.enough)
        return np.asarray(np.where(open_, ratio, 0.0).max(axis=1, initial=0.0))

    def learn(self, fresh: Known) -> None:
        """Bound next to nothing at the middles and at some corners of the worst boxes."""
        worst = np.sort(np.argsort(-self.urgency(fresh), kind="stable")[:THIN])
        found = self.by_output(self._evaluated(*_thin(fresh.lo[worst], fresh.hi[worst]))[1])
        found = np.minimum(found, np.tile(self.by_output(fresh.values[worst]), (found.shape[0] // max(1, worst.size), 1)))
        self.lower = np.maximum(self.lower, np.where(np.isfinite(found), found, 0.0).max(axis=0))

    def gained(self, before: Known, left: Known, right: Known) -> Array:
        """By what share the bounds of both halves, of the output that is worst, are below that of the box on average."""
        urgency = [self.urgency(known) for known in (before, left, right)]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1.0 - 0.5 * (urgency[1] + urgency[2]) / urgency[0]
        return np.clip(np.nan_to_num(share, nan=0.0, posinf=0.0, neginf=0.0), 0.0, 1.0)

    def _costs(self, batch: Batch, values: Array, boxes: Asked) -> Array:
        """What each column's width costs the worst element of the worst output."""
        rows_of, cost = np.arange(boxes.lo.shape[0]), np.zeros_like(boxes.lo)
        if not (boxes.hi > boxes.lo).any():
            return cost
        upper = self.by_output(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.nan_to_num(upper / np.where(boxes.told > 0.0, boxes.told, upper.max(axis=0)), nan=0.0, posinf=np.inf)
        chosen = relative.argmax(axis=1)
        start = 0
        for k, (name, size) in enumerate(zip(self.program.outputs, self.sizes.outputs, strict=True)):
            mine = (chosen == k) & (size > 0)
            if mine.any() and name in batch.bounding.maps:
                rows = np.zeros((rows_of.size, size))
                rows[rows_of, values[:, start : start + size].argmax(axis=1)] = mine
                cost += effects(batch.middle, batch.bounding, name, rows.reshape(-1, *self.sizes.shapes[k]), self.layout)
            start += size
        return cost


def _thin(lo: Array, hi: Array) -> tuple[Array, Array]:
    """Thin boxes in the middle and in corners of each box: all corners where there are few, else some."""
    columns = lo.shape[1]
    if 2**columns <= CORNERS:
        corners = (np.arange(2**columns)[:, None] >> np.arange(columns)) & 1 == 1
    else:
        corners = np.random.default_rng(columns).random((CORNERS, columns)) < 0.5
        corners[0], corners[1] = False, True
    width = NARROW * (hi - lo)
    first = np.clip(0.5 * lo + 0.5 * hi - 0.5 * width, lo, hi)
    lows = [first, *(np.where(corner, np.maximum(hi - width, lo), lo) for corner in corners)]
    highs = [np.minimum(first + width, hi), *(np.where(corner, hi, np.minimum(lo + width, hi)) for corner in corners)]
    return np.concatenate(lows), np.concatenate(highs)
