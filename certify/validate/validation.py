"""Validation of a certificate: conforming runs against independent references. It never proves, it can only refute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from certify.analysis.target import Target
from certify.certificate.contract import Validation
from certify.data import Inputs
from certify.engines.answer import Answer
from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.request import Progress, Request, no_progress
from certify.validate.attack import attack
from certify.validate.compare import compare
from certify.validate.confirm import subject_of
from certify.validate.reference import Trajectory, exact_problem, reference_for
from certify.validate.runs import perform
from certify.validate.runtime import ValidationUnavailable


def validated(
    target: Target, profile: Profile, inputs: Inputs, found: Answer, request: Request, progress: Progress = no_progress
) -> tuple[dict[str, Array], Validation]:
    """The largest observed error by output, (cases, *shape), NaN where no run covered the case, and the account of the runs.

    A region is searched for its largest error (attack): its one case holds the largest of all.
    """
    bounds = {name: bounds.total for name, bounds in found.outputs.items()}
    if inputs.box is not None:
        return _attacked(target, profile, inputs.boxes, bounds, request, progress)
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
    target: Target,
    profile: Profile,
    boxes: Sequence[Mapping[str, Enclosure]],
    bounds: Mapping[str, Array],
    request: Request,
    progress: Progress,
) -> tuple[dict[str, Array], Validation]:
    try:
        found = attack(target, profile, request, boxes, bounds, progress=progress)
    except ValidationUnavailable as reason:
        return {}, Validation(f"nothing could be run; not run: {reason}", "none", 0)
    account = Validation(found.runtime, found.reference, found.runs, found.violations, found.tried, found.attained)
    return found.observed, account
