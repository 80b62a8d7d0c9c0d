"""Points of a region under every conforming run, each against an exact reference of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certify.analysis.problem import Problem
from certify.analysis.program import Program
from certify.analysis.target import Target
from certify.certificate.contract import Violation
from certify.engines import running
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.request import Request
from certify.validate.compare import Comparison, Run, compare
from certify.validate.conform import is_native
from certify.validate.reference import Trajectory, exact_problem, operations, reference_for
from certify.validate.runs import Subject, perform


@dataclass(frozen=True, slots=True)
class Confirmed:
    """runs: every one that was made. observed: the largest error by output, (cases, *shape). runtime, reference: as Validation has them."""

    runs: tuple[Run, ...]
    observed: dict[str, Array]
    violations: tuple[Violation, ...]
    runtime: str
    reference: str


def subject_of(target: Target, profile: Profile, request: Request, points: Mapping[str, Array], cases: int, first: Problem) -> Subject:
    """What is run; `first` is the exact problem of one case."""
    file = target.written
    return Subject(
        str(request.model) if isinstance(request.model, Path) else request.model,
        target.program,
        profile,
        str(request.summation),
        points,
        cases,
        is_native(target.graph, profile),
        operations(first),
        request.provider,
        "disabled" if file is None else file.level,
        None if file is None else str(file.path),
    )


def confirmed(
    target: Target, profile: Profile, request: Request, points: Mapping[str, Array], cases: int, bounds: Mapping[str, Array]
) -> Confirmed:
    """Run `cases` points, (cases, *shape) by input, and compare with the bounds of the region, (1, *shape) by output."""
    program = target.exact
    first = exact_problem(program, points, 0)
    trajectory = trajectory_at(program, points, cases)
    reference = reference_for(first, lambda case: exact_problem(program, points, case), cases, trajectory)
    done = perform(subject_of(target, profile, request, points, cases, first))
    found: Comparison = compare(done.runs, reference.exact, bounds, trajectory.value)
    return Confirmed(tuple(done.runs), found.observed, (*reference.violations, *found.violations), done.text, reference.text)


def trajectory_at(program: Program, points: Mapping[str, Array], cases: int) -> Trajectory:
    """The float64 results at points of a region, each with a bound of its own error."""
    value: dict[str, list[Array]] = {}
    doubt: dict[str, list[Array]] = {}
    for case in range(cases):
        problem: Problem = exact_problem(program, points, case)
        bound = running.solve(problem, False).outputs
        for name in program.outputs:
            value.setdefault(name, []).append(problem.values[name].lo)
            doubt.setdefault(name, []).append(np.broadcast_to(bound[name], problem.values[name].shape))
    return Trajectory(
        {name: np.concatenate(x) for name, x in value.items()},
        {name: np.concatenate(x) for name, x in doubt.items()},
    )
