"""Inputs at which a conforming execution breaks a VNN-LIB property: searched for, tried, and confirmed by the runs of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from certify.analysis.target import Target
from certify.boxes import flat_outputs
from certify.certificate.contract import Counterexample
from certify.data import digest
from certify.engines.region.many import Indices
from certify.graph.model import ModelGraph
from certify.graph.vnnlib.property import Case
from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.request import Progress, Request, no_progress
from certify.validate.attack import SEARCHED, arena
from certify.validate.confirm import subject_of, trajectory_at
from certify.validate.domain import Domain
from certify.validate.reference import exact_problem, reference_for
from certify.validate.runs import perform
from certify.validate.runtime import ValidationUnavailable
from certify.validate.search import search
from certify.validate.trial import Bench, Trial

WORK = 1.0  # seconds of the search before anything is proved, by Bench.seconds
CONFIRMED = 4  # inputs that are run again at most, of those tried at once


class Violations:
    """Tries inputs in the bench; `found` is the first that runs of validation confirm. points: how many `search` tries."""

    def __init__(
        self,
        target: Target,
        profile: Profile,
        request: Request,
        boxes: Sequence[Mapping[str, Enclosure]],
        cases: tuple[Case, ...],
        bench: Bench,
        points: int,
    ) -> None:
        self._target, self._profile, self._request, self._boxes, self._cases = target, profile, request, boxes, cases
        self._bench, self._points = bench, points
        self.found: Counterexample | None = None
        self.tried = 0

    def search(self, progress: Progress = no_progress) -> None:
        """Look for the least margin in the boxes, at most SEARCHED of them."""
        unsafe = [i for i, case in enumerate(self._cases) if case.unsafe]
        chosen = [unsafe[i] for i in np.unique(np.linspace(0, len(unsafe) - 1, min(len(unsafe), SEARCHED)).round().astype(int))]
        for part in chosen:
            domain = Domain.of(self._boxes[part], self._target.exact.declared, self._target.program.formats)
            objective = partial(_shortfall, self._target.graph, self._cases[part])
            points = max(1, self._points // len(chosen))
            found = search(self._bench, domain, [objective], points, self._request.seed, keep=CONFIRMED, progress=progress)
            self.tried += found.tried
            best = found.best[0].rows
            if len(best) and self(domain.inputs(best), np.full(len(best), part)):
                return

    def __call__(self, inputs: Mapping[str, Array], part: Indices) -> bool:
        """Run inputs (cases, *shape), each in the box of that number; True once one is confirmed."""
        if self.found is None:
            outputs = flat_outputs(self._target.graph, self._bench(inputs).computed)
            self.tried += len(part)
            broken = [i for i in range(len(part)) if self._cases[part[i]].violated(outputs[i : i + 1])[0]]
            confirmed = (self._confirmed({name: x[i : i + 1] for name, x in inputs.items()}, int(part[i])) for i in broken[:CONFIRMED])
            self.found = next((found for found in confirmed if found is not None), None)
        return self.found is not None

    def _confirmed(self, point: Mapping[str, Array], part: int) -> Counterexample | None:
        """The run that breaks it most, with what the exact result says."""
        target, case = self._target, self._cases[part]
        first = exact_problem(target.exact, point, 0)
        done = perform(subject_of(target, self._profile, self._request, point, 1, first))
        worst = None
        for run in done.runs:
            outputs = {name: np.asarray(x, dtype=np.float64)[:1] for name, x in run.outputs.items()}
            flat = flat_outputs(target.graph, outputs)
            margin = float(case.margins(flat).hi.min())
            if case.violated(flat)[0] and (worst is None or margin < worst[0]):
                worst = margin, run.name, outputs
        if worst is None:
            return None
        reference = reference_for(first, lambda _: first, 1, trajectory_at(target.exact, point, 1)).exact
        ends = [flat_outputs(target.source, {name: getattr(X, end) for name, X in reference.items()}) for end in ("lo", "hi")]
        exact = case.enclosed(Enclosure(*ends))
        unsafe = True if case.surely(exact.hi)[0] else False if (exact.lo > 0.0).all() else None
        return Counterexample(
            part,
            {name: x[0] for name, x in point.items()},
            {name: x[0] for name, x in worst[2].items()},
            worst[0],
            (float(exact.lo.min()), float(exact.hi.min())),
            unsafe,
            worst[1],
            digest(point),
        )


def violations_of(
    target: Target,
    profile: Profile,
    request: Request,
    boxes: Sequence[Mapping[str, Enclosure]],
    cases: tuple[Case, ...],
    progress: Progress = no_progress,
) -> tuple[Violations | None, str]:
    """What the search found, to be tried on; or None, and why nothing can be run."""
    try:
        field = arena(target, profile, request, boxes[0])
    except ValidationUnavailable as reason:
        return None, f"not run: {reason}"
    if field.bench is None:
        return None, f"not run: {field.refused}"
    found = Violations(target, profile, request, boxes, cases, field.bench, field.points(WORK))
    found.search(progress)
    return found, ""


def _shortfall(graph: ModelGraph, case: Case, trial: Trial) -> Array:
    """How far below 0 the least margin of a conjunction is."""
    return np.asarray(-case.margins(flat_outputs(graph, trial.computed)).hi.min(axis=1))
