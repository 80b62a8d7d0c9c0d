"""Ranges of computed values: rounding is monotone, so that the ends of a range are rounded like any number between them.

A tube alone says of x in [0, 1] that its computed value is at most 1 + r, and of x + y that it is at most 2 + 2 r, a number of the next
binade, where a rounding costs twice as much. But what is rounded to nearest from [0, 1] stays in [0, 1].

Proof. x^ lies in C, the enclosure of computed operands (induction), so f(x^) in enclose(C). A kernel that is one basic operation
delivers fl(f(x^)), which lies between fl(lo) and fl(hi). What values and tubes say holds as well, and alone of any other kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Step
from certify.analysis.program import Program
from certify.analysis.relations import producers_of, related_computed
from certify.engines.running import State, quantum_of
from certify.number.enclosure import Enclosure, intersect
from certify.number.upward import Array


@dataclass
class RangedState(State):
    """A forward pass that also encloses computed values, where ranges are given.

    computed: by name, (boxes or 1, *shape). exact: of the exact result on computed operands. stored: constants that are linearised at.
    """

    program: Program | None = None
    computed: dict[str, Enclosure] = field(default_factory=dict)
    exact: dict[str, Enclosure] = field(default_factory=dict)
    stored: dict[str, Enclosure] = field(default_factory=dict)

    def operands(self, step: Step) -> tuple[tuple[Enclosure | None, ...], tuple[Array | None, ...]]:
        """As for points, with constants as they are stored where that is told (`stored`)."""
        X, r = super().operands(step)
        return tuple(self.stored.get(name or "", x) for name, x in zip(step.operands, X, strict=True)), r

    def quantum(self, name: str | None) -> Array:
        """Of constants, that of what is stored."""
        assert self.program is not None
        if name is not None and name in self.program.stored and name not in self.quanta:
            self.quanta[name] = quantum_of(self.program.stored[name])
        return super().quantum(name)

    def of(self, name: str) -> Enclosure:
        """The enclosure of a value that is computed, stored or given."""
        if name not in self.computed:
            X = self.problem.values[name]
            assert self.program is not None
            if name in self.program.stored and not np.isnan(self.program.stored.held.get(name, np.zeros(()))).any():
                self.computed[name] = self.program.stored.enclosure(name)
            else:
                self.computed[name] = X.widen(self.tubes.get(name))
        return self.computed[name]

    @cached_property
    def producers(self) -> dict[str, Step]:
        """The step of every value."""
        return producers_of(self.problem.steps)

    def _copied(self, name: str) -> npt.NDArray[np.bool_]:
        """In which boxes the step that computes the value errs by nothing, (boxes or 1,)."""
        local = self.local.get(name)
        return np.zeros(1, dtype=bool) if local is None else np.asarray(~local.reshape(local.shape[0], -1).any(axis=1))

    def magnitude(self, step: Step, reached: Array) -> Array:
        """The smaller of what values and tubes say and of the range over computed operands, which it notes."""
        if not getattr(step.rule, "basic", False):
            return reached
        Y = step.rule.enclose(tuple(None if name is None else self.of(name) for name in step.operands), **step.attributes)
        Y = related_computed(step, self.producers, self.of, self._copied, Y)
        self.exact[step.output] = Y
        return np.minimum(reached, Y.mag)

    def record(self, step: Step, arriving: Array, beta: Array) -> None:
        """Also the range of what is computed."""
        super().record(step, arriving, beta)
        tube = self.tubes.get(step.output)
        found = self.problem.values[step.output].widen(tube)
        Y = self.exact.get(step.output)
        if Y is not None and np.isfinite(beta).all():
            found = intersect(found, step.arithmetic.delivered(Y))
        self.computed[step.output] = found
