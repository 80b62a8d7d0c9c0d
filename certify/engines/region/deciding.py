"""Is the argmax over an output's last axis the same all over a box: of the exact values, and in every conforming execution?

With t the winner at the box's middle, it is if the lower end of y_t - y_j over the box (functionals) is above 0 for every other class
j. A box whose exact winner is proved constant, and is proved to be every execution's too, is *stable*. Where only the former is
proved *rounding* may flip the decision; elsewhere the *reals* themselves may not be constant.

A box's deficit is the largest of -(lower end of y_t - y_j) over its rows and rivals, for executions at least that of the reals. Cutting
it can make a part stable only where the upper end of each difference is above what executions lose of it: where it is not, other boxes
are cut first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from certify.analysis.program import Program
from certify.engines.region.batch import Batch, evaluate
from certify.engines.region.boxes import Layout
from certify.engines.region.effects import slopes
from certify.engines.region.functionals import functionals
from certify.engines.region.search import Asked, Known
from certify.engines.region.sizes import Sizes
from certify.number.upward import Array

UNKNOWN = -1.0  # the winner of a row in a box where it is not proved
HOPELESS, CONSTANT = 1 / 16, 1 / 256  # what volume counts where no part can become stable, and where the reals are constant besides
WAITS = 1 / 4  # a share of what is most urgent, below which a box waits


class Deciding:
    """values: (n, 2 outputs), the deficits of the reals, then of executions, of each output.

    notes: of each output the winner of each row, then whether a part can become stable.

    names: the outputs asked about. work: as in `ErrorBounds`.
    """

    def __init__(self, program: Program, layout: Layout, names: Sequence[str], work: float = np.inf) -> None:
        self.program, self.layout, self.names, self.work = program, layout, tuple(names), work
        self.sizes = Sizes.of(program, layout.box)
        self.chunk = self.sizes.chunk
        shapes = dict(zip(program.outputs, self.sizes.shapes, strict=True))
        self.shapes = {name: (int(np.prod(shapes[name][:-1])), shapes[name][-1]) for name in self.names}

    @property
    def told(self) -> Array:
        """Nothing."""
        return np.zeros(0)

    @property
    def arguments(self) -> tuple[object, ...]:
        """As `Question`."""
        return (self.layout, self.names, self.work)

    def ask(self, boxes: Asked) -> Known:
        """Deficits, winners, and what each column's width costs the difference that is worst."""
        count = boxes.lo.shape[0]
        batch = evaluate(self.program, self.layout.enclosures(boxes.lo, boxes.hi), self.work * count)
        values, notes, costs = [], [], np.zeros_like(boxes.lo)
        for name in self.names:
            deficits, noted, worst = self._output(batch, name, count)
            values.append(deficits)
            notes.append(noted)
            if name in batch.middle.maps and name in batch.middle.state.tubes:
                costs += slopes(batch.middle, name, worst, self.layout)
        return Known(boxes.lo, boxes.hi, np.concatenate(values, axis=1), costs, np.concatenate(notes, axis=1), boxes.part)

    def _output(self, batch: Batch, name: str, count: int) -> tuple[Array, Array, Array]:
        """Deficits (n, 2), what is noted (n, rows + 1), and the row of the worst difference (n, *shape)."""
        rows, classes = self.shapes[name]
        shape = batch.bounding.problem.values[name].lo.shape[1:]
        z = batch.middle.problem.values[name].mid.reshape(-1, rows, classes)
        top = np.broadcast_to(z.argmax(axis=2), (count, rows))
        box, row, rival = np.nonzero(np.arange(classes) != top[:, :, None])
        triples, index = np.unique(np.stack([row, top[box, row], rival], axis=1), axis=0, return_inverse=True)
        each = np.zeros((len(triples), rows, classes))
        every = np.arange(len(triples))
        each[every, triples[:, 0], triples[:, 1]] = 1.0
        each[every, triples[:, 0], triples[:, 2]] = -1.0
        found = functionals(batch, name, box, index.reshape(-1), each.reshape(-1, *shape))
        reals = -found.exact.lo.reshape(count, rows, classes - 1)
        executions = np.maximum(-found.computed.lo.reshape(count, rows, classes - 1), reals)
        lost = np.nan_to_num(executions - reals, nan=np.inf)
        hope = found.exact.hi.reshape(lost.shape) > lost
        winners = np.where(reals.max(axis=2) < 0.0, top, UNKNOWN)
        flat = executions.reshape(count, -1)
        worst = flat.argmax(axis=1)
        chosen = index.reshape(count, -1)[np.arange(count), worst]
        deficits = np.stack([reals.reshape(count, -1).max(axis=1), flat.max(axis=1)], axis=1)
        noted = np.concatenate([winners, hope.reshape(count, -1).all(axis=1, keepdims=True)], axis=1)
        return deficits, noted, each[chosen].reshape(-1, *shape)

    def winners(self, known: Known, name: str) -> Array:
        """(n, rows) of this output."""
        start = sum(self.shapes[other][0] + 1 for other in self.names[: self.names.index(name)])
        return known.notes[:, start : start + self.shapes[name][0]]

    def undecided(self, known: Known) -> npt.NDArray[np.bool_]:
        """(n,): whether some execution may decide otherwise than the reals, or these may not be constant."""
        return np.asarray((known.values[:, 1::2] >= 0.0).any(axis=1))

    def volume(self, known: Known) -> Array:
        """(n,): the share of the smallest box that holds all, by columns of both; never 0."""
        whole = self.layout.whole[1] - self.layout.whole[0]
        with np.errstate(divide="ignore"):
            size = np.log2((known.hi - known.lo) / np.maximum(whole, np.finfo(np.float64).tiny)).sum(axis=1)
        return np.asarray(np.exp2(np.maximum(size, -1000.0)))

    def learn(self, fresh: Known) -> None:
        """Nothing is learnt."""

    def urgency(self, known: Known) -> Array:
        """The volume of what is undecided, less of it where cutting makes no part stable; what is far smaller than the largest waits."""
        reals, executions = known.values[:, 0::2], known.values[:, 1::2]
        hope = known.notes[:, np.cumsum([self.shapes[name][0] + 1 for name in self.names]) - 1] > 0.0
        weight = np.where(hope, 1.0, np.where(reals >= 0.0, HOPELESS, CONSTANT))
        found = self.volume(known) * np.where(executions >= 0.0, weight, 0.0).max(axis=1)
        return np.where(found >= WAITS * found.max(initial=0.0), found, 0.0)

    def gained(self, before: Known, left: Known, right: Known) -> Array:
        """What share of the box's volume was decided."""
        left_over = [np.where(self.undecided(part), self.volume(part), 0.0) for part in (left, right)]
        return np.asarray(np.clip(1.0 - (left_over[0] + left_over[1]) / self.volume(before), 0.0, 1.0))
