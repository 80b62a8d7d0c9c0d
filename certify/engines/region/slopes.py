"""Adjoints with intervals of slopes: no remainder, at the price of intervals that meet one another on the way.

**Theorem.** x^ computed operands of step k, x exact ones: e_k = [kernel(x^) - f(x^)] + [f(x^) - f(x)], the first bracket within beta_k.
For a functional c of value t, walk back from a_t = c: by the mean value theorem on the scalar function a_k.f between x and x^ there is a
matrix S_k, made of slopes within X +- r, with a_k.(f(x^) - f(x)) = a_k.(S_k e_parents), and a_parents gains S_k^T a_k. Summed over all
steps, every e but the given ones cancels:

    c.e_t = sum_k a_k.(within beta_k) + sum over inputs and constants a.e.

S_k and a_k depend on x and on the run, but rules enclose S_k^T a_k for all of them (`slopes` in semantics/contract): with D_k the interval
that holds a_k, |c.e_t| <= sum_k mag(D_k).beta_k + ... . A constant that is stored as a known other number is linearised at as in
`batch.Errors`: its step's equation gains the interval `moved`, and what these add up to is a sum of intervals, signs and all. Where a rule
tells no slopes, the walk ends: |e_k| is within the step's tube.

Against the linear map at the middle (engines/sweep), a remainder radius(X) tube(parents) becomes a wider D: less where errors that went
different ways cancel in the multiplier but not in tubes, more where the same value meets itself in D. Engines take the smaller bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from certify.engines.multipliers import weigh
from certify.number.enclosure import Enclosure, add
from certify.number.multipliers import dot, summed
from certify.number.upward import Array, add_up
from certify.semantics.contract import SlopePull

if TYPE_CHECKING:
    from certify.engines.region.batch import Errors

ELEMENTS, ROWS = 128, 16  # of all steps together, and of one output, up to which slopes are asked: in larger networks they won nothing
TRIFLE = 0.01  # a share of the bound that is not worth them


class Slopes:
    """Bounds from a finished sweep of errors."""

    def __init__(self, sweep: Errors) -> None:
        self.sweep = sweep
        self._pulls: dict[str, SlopePull | None] = {}

    def bounds(self, name: str) -> Array:
        """Of |e| for every element of the value, (boxes, *shape); inf where no slope is known."""
        boxes, shape = self.sweep.problem.cases, self.sweep.problem.values[name].shape[1:]
        found = np.empty((boxes, int(np.prod(shape))))
        for i in range(found.shape[1]):
            unit = np.zeros(found.shape[1])
            unit[i] = 1.0
            row = np.broadcast_to(unit.reshape(1, *shape), (boxes, *shape))
            found[:, i] = self.enclose(name, row).mag if self._worth(name, row) else np.inf
        return found.reshape(boxes, *shape)

    def _worth(self, name: str, rows: Array) -> bool:
        """Whether remainders are more than a trifle of the bound in some box: they are all that slopes can save."""
        silent: dict[str, Array] = {}
        order = self.sweep.ancestors(name)
        whole = self.sweep.walk(order, self.sweep.underflow(order), name, rows, {}, silent)
        return not bool((silent["exact"] <= TRIFLE * whole).all())

    def enclose(self, name: str, rows: Array) -> Enclosure:
        """Of <row, e> of the value in each box, rows (boxes, *shape)."""
        sweep = self.sweep
        reached = {name: Enclosure.point(rows)}
        middle, spread = Enclosure.point(np.zeros(rows.shape[0])), np.zeros(rows.shape[0])
        for step in sweep.ancestors(name):
            a = reached.pop(step, None)
            if a is None:
                continue
            pull = self._pull(step)
            if pull is None:
                spread = add_up(spread, _weighed(a, sweep.state.tubes.get(step)))
                continue
            spread = add_up(spread, _weighed(a, sweep.state.local[step]))
            if step in sweep.moved:
                middle = add(middle, dot(a, sweep.moved[step]))
            for operand, part in zip(sweep.steps[step].operands, pull(a), strict=True):
                if operand is not None and part is not None and operand in sweep.state.tubes:
                    reached[operand] = summed([reached[operand], part]) if operand in reached else part
        for given, a in reached.items():
            if given in sweep.unsure:
                middle = add(middle, dot(a, Enclosure.point(sweep.centres[given]).widen(sweep.unsure[given])))
            else:
                spread = add_up(spread, _weighed(a, sweep.given_noise(given)))
        return middle.widen(spread)

    def _pull(self, name: str) -> SlopePull | None:
        """The step's slopes; None where an operand or the result has no finite tube: then f may not be a number on the way."""
        if name not in self._pulls:
            step, tubes = self.sweep.steps[name], self.sweep.state.tubes
            slopes = getattr(step.rule, "slopes", None)
            met = [tubes[value] for value in (name, *step.operands) if value in tubes]
            self._pulls[name] = None
            if slopes is not None and name in self.sweep.maps and all(np.isfinite(tube).all() for tube in met):
                X, r = self.sweep.state.operands(step)
                self._pulls[name] = slopes(X, r, **self.sweep.problem.told(step))
        return self._pulls[name]


def _weighed(a: Enclosure, noise: Array | None) -> Array:
    """Upper bound of sum mag(a) noise of each box."""
    return np.zeros(a.shape[0]) if noise is None else weigh(a.mag, noise)[0]


def slope_bounds(sweep: Errors, names: tuple[str, ...]) -> dict[str, Array]:
    """Bounds of these values, of those for which they are affordable."""
    sizes = {step.output: int(sweep.problem.values[step.output].lo[0].size) for step in sweep.problem.steps}
    if sum(sizes.values()) > ELEMENTS:
        return {}
    slopes = Slopes(sweep)
    return {name: slopes.bounds(name) for name in names if name in sweep.maps and sizes[name] <= ROWS}
