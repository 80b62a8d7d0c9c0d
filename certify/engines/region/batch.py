"""What is proved of a batch of sub-boxes: ranges of the exact values, then bounds of the error, box by box on the case axis.

**Ranges.** Every x of a box deviates from its middle by at most its radius. So the deviation of the *exact* value at x from the float64
trajectory at the middle is what a sweep without rounding bounds, its inputs having those radii: linear relaxations walked back, which
are the mean value form where functions are smooth, and CROWN's backward bounds (Zhang et al. 2018) through Relu. They are
intersected with intervals propagated forward, step by step, and each narrows the other.

**Error.** A second sweep, linearised over these ranges, bounds |computed - exact| as mathematics, section 6, says. Constants whose
rounding into storage is known deviate by a known amount, which is carried as a centre and not paid for as noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.analysis.program import Program
from certify.analysis.reference import at_points, enclosed, given_ranges, infinite_values
from certify.analysis.relations import producers_of
from certify.engines.region.computed import RangedState
from certify.engines.region.many import BoxSweep
from certify.engines.region.slopes import slope_bounds
from certify.engines.running import State, quantum_of
from certify.number.enclosure import Enclosure, add, intersect, subtract
from certify.number.rounding import ulp
from certify.number.upward import Array, add_up, down, lift, mul_up

EVERY = 512  # elements of all steps together up to which every value's range is asked for, not only those that a remainder needs


class Errors(BoxSweep):
    """The sweep that bounds errors.

    A constant is stored as a known other number. Where the steps that read it are linear in it (`Rule.moved`), they are linearised at the
    stored constant, and what moving it does, f(x, c + D) - f(x, c) over the box, joins the step's centre and noise. Elsewhere the
    constant's deviation is its centre, and `unsure` what float64 loses of that; so it is where the constant is an output itself, of which
    no step gives an account.
    """

    def __init__(self, problem: Problem, program: Program) -> None:
        shifts = {
            name: subtract(Enclosure.point(program.stored[name]), Enclosure.point(program.exact[name]))
            for name in program.exact
            if name in problem.radii and np.isfinite(problem.radii[name]).all()
        }
        readers: dict[str, list[Step]] = {name: [] for name in shifts}
        for step in problem.steps:
            for name in dict.fromkeys(step.operands):
                if name in readers:
                    readers[name].append(step)
        known = {
            name: shift
            for name, shift in shifts.items()
            if name not in problem.outputs and all(_takes(step, name) for step in readers[name])
        }
        state = RangedState(problem, program=program)
        for name in known:
            state.tubes.pop(name, None)
            state.stored[name] = program.stored.enclosure(name)
        super().__init__(problem, state)
        self.ranged = state
        self.shifts = known
        self.unsure: dict[str, Array] = {}
        self.moved: dict[str, Enclosure] = {}
        for name, shift in shifts.items():
            if name not in known:
                self.centres[name], self.unsure[name] = shift.mid, shift.rad

    def spread(self, name: str | None) -> Array | None:
        """As the class says."""
        return self.unsure[name] if name in self.unsure else super().spread(name)

    def given_noise(self, name: str) -> Array:
        """As the class says."""
        return self.unsure[name] if name in self.unsure else super().given_noise(name)

    def _linearize(self, step: Step) -> Array:
        arriving = super()._linearize(step)
        D = [self.shifts.get(name or "") for name in step.operands]
        if all(d is None for d in D):
            return arriving
        X = tuple(None if name is None else self.problem.values[name] for name in step.operands)
        rule: Any = step.rule
        moved = rule.moved(X, D, **step.attributes)
        self.moved[step.output] = moved
        if not np.isfinite(moved.mag).all():
            self.noise[step.output] = add_up(self.noise[step.output], moved.mag)
            return add_up(arriving, moved.mag)
        before = self.centres.get(step.output, np.zeros((1,) * moved.lo.ndim))
        centre = before + moved.mid
        self.centres[step.output] = np.array(np.broadcast_to(centre, np.broadcast_shapes(centre.shape, self.noise[step.output].shape)))
        lost = mul_up(2.0**-53, np.abs(centre))  # of the sum; a subnormal sum is exact
        self.noise[step.output] = lift(add_up(self.noise[step.output], moved.rad, lost))
        return add_up(arriving, moved.mag)


def _takes(step: Step, constant: str) -> bool:
    """The step's rule says what moving this operand does, and has it once among its operands."""
    return hasattr(step.rule, "moved") and step.operands.count(constant) == 1


def ranges(program: Program, box: Mapping[str, Enclosure], limit: float = np.inf) -> tuple[Problem, BoxSweep]:
    """The problem whose values enclose those of the exact model over each box, and the sweep that they came from.

    limit: nominal nanoseconds for rows, of all boxes together.
    """
    values, radii = given_ranges(program, dict(box))
    middles = {name: X.mid if program.declared.get(name) is not None else np.floor(X.mid) for name, X in box.items()}  # integers stay such
    reaches = {name: subtract(X, Enclosure.point(middles[name])).mag for name, X in box.items()}
    middle = at_points(program, program.exact, middles, reaches, settle=False)
    sweep = BoxSweep(middle, State(middle, rounding=False))
    every = sum(int(X.lo[0].size) for X in middle.values.values()) <= EVERY
    infinite, producers = infinite_values(values), producers_of(program.steps)
    steps = []
    for thin, step in zip(middle.steps, program.steps, strict=True):
        sweep.prepare(thin, limit)
        for name in dict.fromkeys(thin.operands):
            if name in middle.produced:
                values[name] = _narrowed(sweep, name, values[name])
        sweep.enter(thin, limit)
        step, values[step.output] = enclosed(step, values, infinite, producers)
        steps.append(step)
        _take(sweep, step.output, values[step.output])
        if step.output in sweep.state.tubes and (step.output in program.outputs or (every and not getattr(step.rule, "copies", False))):
            sweep.refine(step.output, np.ones((1,) * values[step.output].lo.ndim, dtype=bool), limit)
            values[step.output] = _narrowed(sweep, step.output, values[step.output])
            _take(sweep, step.output, values[step.output])
    return Problem(tuple(steps), values, program.outputs, program.inputs, {}, radii, _given_quanta(program, box, radii)), sweep


def _given_quanta(program: Program, box: Mapping[str, Enclosure], radii: Mapping[str, Array]) -> dict[str, Array]:
    """A power of two that divides every number which an input's element may be: those of its own format, or as they are stored."""
    quanta = {}
    for name, X in box.items():
        moved = radii.get(name)
        held = program.declared.get(name) if moved is None else program.formats[name]
        if held is not None:
            found = ulp(X.mig if moved is None else np.maximum(down(X.mig - moved), 0.0), held)
            quanta[name] = np.maximum(found, quantum_of(X.lo)) if moved is None and X.is_point else found
    return quanta


def _narrowed(sweep: BoxSweep, name: str, X: Enclosure) -> Enclosure:
    """X within what the sweep says of the value."""
    z, moved = sweep.problem.values[name], sweep.deviation(name)
    return intersect(X, z if moved is None else add(z, moved))


def _take(sweep: BoxSweep, name: str, X: Enclosure) -> None:
    """Tell the sweep how far the range X lets the value be from the trajectory."""
    tube = sweep.state.tubes.get(name)
    if tube is None:
        return
    moved = subtract(X, sweep.problem.values[name])
    sweep.state.tubes[name] = np.minimum(tube, np.where(np.isnan(moved.mag), np.inf, moved.mag))


def errors(program: Program, problem: Problem, limit: float = np.inf) -> Errors:
    """The finished sweep of |computed - exact| over the ranges of `problem`."""
    sweep = Errors(problem, program)
    for step in problem.steps:
        sweep.prepare(step, limit)
        sweep.enter(step, limit)
    return sweep


@dataclass(frozen=True)
class Batch:
    """bounds: by output, of |computed - exact|, (boxes, *shape). middle, bounding: the sweeps of the ranges and of the error."""

    bounds: dict[str, Array]
    middle: BoxSweep
    bounding: Errors

    @property
    def ranges(self) -> dict[str, Enclosure]:
        """By output, of the exact values, (boxes, *shape)."""
        return {name: self.bounding.problem.values[name] for name in self.bounds}


def evaluate(program: Program, box: Mapping[str, Enclosure], limit: float = np.inf) -> Batch:
    """What is proved of each box; `limit` in nominal nanoseconds, for each of the two sweeps and for the outputs' functionals."""
    problem, middle = ranges(program, box, limit)
    sweep = errors(program, problem, limit)
    bounds, sloped = {}, slope_bounds(sweep, program.outputs)
    for name in program.outputs:
        shape = (problem.cases, *problem.values[name].shape[1:])
        if name in sweep.state.tubes and name in sweep.maps:
            sweep.refined.pop(name, None)
            sweep.refine(name, np.ones((1,) * len(shape), dtype=bool), sweep.spent + limit)
        tube = sweep.state.tubes.get(name)
        bounds[name] = np.zeros(shape) if tube is None else np.array(np.broadcast_to(tube, shape))
        if name in sloped:
            bounds[name] = np.minimum(bounds[name], sloped[name])
    return Batch(bounds, middle, sweep)
