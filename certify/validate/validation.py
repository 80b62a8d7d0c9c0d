"""Validation of a certificate: conforming runs against independent references. It never proves, it can only refute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from certify.analysis.problem import Problem
from certify.analysis.program import Program
from certify.analysis.target import Target
from certify.certificate.contract import Validation
from certify.data import Inputs, drawn_from
from certify.engines import running
from certify.engines.answer import Answer
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.request import Request
from certify.validate.compare import compare
from certify.validate.conform import is_native
from certify.validate.reference import Trajectory, exact_problem, operations, reference_for
from certify.validate.runs import Subject, perform


def validated(target: Target, profile: Profile, inputs: Inputs, found: Answer, request: Request) -> tuple[dict[str, Array], Validation]:
    """The largest observed error by output, (cases, *shape), NaN where no run covered the case, and the account of the runs.

    A region is attacked at points drawn from it, each against its own reference: its one case holds the largest error of all.
    """
    program, file = target.exact, target.written
    if inputs.box is None:
        points, cases = inputs.points, inputs.facts.cases
        trajectory = Trajectory(
            {name: bounds.reference for name, bounds in found.outputs.items()},
            {name: bounds.doubt for name, bounds in found.outputs.items()},
        )
        first = found.first_exact or exact_problem(program, points, 0)
    else:
        points, cases = drawn_from(target.source, inputs.boxes, request.samples, request.seed), request.samples
        first = exact_problem(program, points, 0)
        trajectory = _trajectory(program, points, cases)
    reference = reference_for(first, lambda case: exact_problem(program, points, case), cases, trajectory)
    subject = Subject(
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
    done = perform(subject)
    comparison = compare(done.runs, reference.exact, {name: bounds.total for name, bounds in found.outputs.items()}, trajectory.value)
    observed = comparison.observed
    if inputs.box is not None:
        observed = {name: np.fmax.reduce(x, axis=0, keepdims=True) for name, x in observed.items()}
    violations = (*reference.violations, *comparison.violations)
    return observed, Validation(done.text, reference.text, len(done.runs), violations)


def _trajectory(program: Program, points: Mapping[str, Array], cases: int) -> Trajectory:
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
