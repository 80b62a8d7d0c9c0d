"""Validation of a certificate: conforming runs against independent references. It never proves, it can only refute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from certify.analysis.target import Target
from certify.certificate.contract import Validation
from certify.data import Inputs
from certify.engines.answer import Answer
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.request import Progress, Request
from certify.validate.attack import Sought, seek, settle
from certify.validate.compare import compare
from certify.validate.confirm import subject_of
from certify.validate.reference import Trajectory, exact_problem, reference_for
from certify.validate.runs import perform
from certify.validate.runtime import ValidationUnavailable


def searched(target: Target, profile: Profile, inputs: Inputs, request: Request, progress: Progress) -> Sought | None:
    """What a search for the largest error in the region finds; None where no point of it can be had."""
    sizes = {name: int(np.prod(target.graph.values[name].shape)) for name in target.program.outputs}
    try:
        return seek(target, profile, request, inputs.boxes, sizes, progress=progress)
    except ValidationUnavailable:
        return None


def validated(
    target: Target, profile: Profile, inputs: Inputs, found: Answer, request: Request, sought: Sought | None = None
) -> tuple[dict[str, Array], Validation]:
    """The largest observed error by output, (cases, *shape), NaN where no run covered the case, and the account of the runs.

    A region's one case holds the largest error of all that `searched` found in it (attack).
    """
    bounds = {name: bounds.total for name, bounds in found.outputs.items()}
    if inputs.box is not None:
        return _attacked(target, profile, sought, bounds, request)
    program, points, cases = target.exact, inputs.points, inputs.facts.cases
    trajectory = Trajectory(
        {name: bounds.reference for name, bounds in found.outputs.items()},
        {name: bounds.doubt for name, bounds in found.outputs.items()},
    )
    first = found.first_exact or exact_problem(program, points, 0)
    reference = reference_for(first, lambda case: exact_problem(program, points, case), cases, trajectory)
    done = perform(subject_of(target, profile, request, points, cases, first))
    comparison = compare(done.runs, reference.exact, bounds, trajectory.value)
    violations = (*reference.violations, *comparison.violations)
    return comparison.observed, Validation(done.text, reference.text, len(done.runs), violations)


def _attacked(
    target: Target, profile: Profile, sought: Sought | None, bounds: Mapping[str, Array], request: Request
) -> tuple[dict[str, Array], Validation]:
    if sought is None:
        return {}, Validation("nothing could be run; not run: the box holds no input of the model's own formats", "none", 0)
    try:
        found = settle(target, profile, request, sought, bounds)
    except ValidationUnavailable as reason:
        return {}, Validation(f"nothing could be run; not run: {reason}", "none", 0)
    account = Validation(found.runtime, found.reference, found.runs, found.violations, found.tried, found.attained)
    return found.observed, account
