"""The largest error that a search finds in a box of inputs, and the input that attains it.

One conforming execution is tried at thousands of points (search); the best of them, and points drawn at random, are then put
through every conforming run against enclosed references (confirm). What is confirmed is a lower bound of the true largest error,
and refutes the certificate where it exceeds the bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from certify.analysis.target import Target
from certify.certificate.contract import Attained, Violation
from certify.data import digest
from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.request import Progress, Request, no_progress
from certify.validate.confirm import Confirmed, confirmed, subject_of
from certify.validate.domain import Domain
from certify.validate.reference import exact_problem
from certify.validate.runtime import ValidationUnavailable
from certify.validate.search import Best, Found, Objective, element_error, largest_error, search
from certify.validate.trial import Bench, bench, distance

WORK = 3.0  # seconds that a search takes by Bench.seconds, on a machine of 2024
FEWEST, MOST = 64, 100_000  # points tried
BEST = 24  # points that are confirmed at most beside those drawn at random
SEARCHED = 32  # boxes of a union that share the search
WATCHED = 16  # elements of all outputs up to which the worst input of each one is confirmed


@dataclass(frozen=True, slots=True)
class Attack:
    """What was found in the box.

    observed:   by output, the largest confirmed error of each element, (1, *shape); NaN where no run was made.
    attained:   by output, its largest confirmed error and the input that attains it; none where nothing was run.
    tried:      points of the search; runs: of the points confirmed.
    violations: confirmed errors above the bound; their case counts the points of `points`.
    points:     every point confirmed, (cases, *shape) by input.
    runtime, reference: in words.
    """

    observed: dict[str, Array]
    attained: dict[str, Attained]
    tried: int
    runs: int
    violations: tuple[Violation, ...]
    points: dict[str, Array]
    runtime: str
    reference: str


@dataclass(frozen=True, slots=True)
class Arena:
    """The box as a domain, and the bench that tries its points; or why there is none."""

    domain: Domain
    bench: Bench | None
    refused: str = ""

    def points(self, work: float | None = None) -> int:
        """How many points are tried for so much work."""
        return 0 if self.bench is None else int(np.clip((WORK if work is None else work) / self.bench.seconds, FEWEST, MOST))


def arena(target: Target, profile: Profile, request: Request, box: Mapping[str, Enclosure]) -> Arena:
    """Raises ValidationUnavailable where the box holds no input of the model's own formats."""
    domain = Domain.of(box, target.exact.declared, target.program.formats)
    middle = domain.inputs(domain.within((0.5 * domain.lo + 0.5 * domain.hi)[None]))
    first = exact_problem(target.exact, middle, 0)
    try:
        tried = bench(subject_of(target, profile, request, middle, 1, first), first, target.exact)
        tried(middle).check()
    except ValidationUnavailable as reason:
        return Arena(domain, None, str(reason).replace("; ", ", "))
    return Arena(domain, tried)


def hunt(
    target: Target,
    profile: Profile,
    request: Request,
    box: Mapping[str, Enclosure],
    objectives: Sequence[Objective],
    points: int | None = None,
    progress: Progress = no_progress,
    keep: int = 8,
) -> tuple[list[dict[str, Array]], int]:
    """For each objective the best inputs found, best first, (cases, *shape) by input, and how many points were tried.

    They are not confirmed: `confirmed` runs them. Raises ValidationUnavailable where no execution can be tried.
    """
    field = arena(target, profile, request, box)
    if field.bench is None:
        raise ValidationUnavailable(field.refused)
    found = search(
        field.bench, field.domain, objectives, field.points() if points is None else points, request.seed, keep=keep, progress=progress
    )
    return [field.domain.inputs(best.rows) for best in found.best], found.tried


@dataclass(frozen=True)
class Sought:
    """What a search found before anything was confirmed: points (rows of the domain), the largest error of each output."""

    field: Arena
    rows: Array
    tried: int
    said: str
    largest: dict[str, float]


def attack(
    target: Target,
    profile: Profile,
    request: Request,
    boxes: Sequence[Mapping[str, Enclosure]],
    bounds: Mapping[str, Array],
    points: int | None = None,
    progress: Progress = no_progress,
) -> Attack:
    """Search boxes, and confirm what was found against the bounds, (1, *shape) by output. As `seek` and `settle`."""
    sizes = {name: x.size for name, x in bounds.items()}
    return settle(target, profile, request, seek(target, profile, request, boxes, sizes, points, progress), bounds)


def seek(
    target: Target,
    profile: Profile,
    request: Request,
    boxes: Sequence[Mapping[str, Enclosure]],
    sizes: Mapping[str, int],
    points: int | None = None,
    progress: Progress = no_progress,
) -> Sought:
    """Search boxes, (1, *shape) by input, for the largest error of each output in any of them; sizes: elements by output.

    points: how many the search tries; None: as many as take a few seconds. The request's seed decides them, and its number of
    samples are drawn besides. Raises ValidationUnavailable where a box holds no input of the model's formats.
    """
    field, domains = arena(target, profile, request, boxes[0]), _domains(target, boxes)
    drawn = drawn_from(domains, request.samples, request.seed)
    if field.bench is None:
        return Sought(field, drawn, 0, f"not run: search for the largest error: {field.refused}", {})
    found = _found(field.bench, domains, sizes, field.points() if points is None else points, request.seed, progress)
    tried, rows = sum(x.tried for x in found), _distinct([drawn, *_ranked(found)])
    said = f"search for the largest error: {tried:,} points tried in {field.bench.name}, the worst confirmed"
    names = [name for name, size in sizes.items() if size]
    largest = {name: max(float(x.best[k].scores.max(initial=0.0)) for x in found) for k, name in enumerate(names)}
    return Sought(field, rows, tried, said, largest)


def settle(target: Target, profile: Profile, request: Request, sought: Sought, bounds: Mapping[str, Array]) -> Attack:
    """Confirm what a search found, by every conforming run, against the bounds, (1, *shape) by output."""
    field, confirm = sought.field, sought.field.domain.inputs(sought.rows)
    checked = confirmed(target, profile, request, confirm, len(sought.rows), bounds)
    seen = checked.observed if field.bench is None else _measured(field.bench, confirm, checked)
    return Attack(
        {name: np.fmax.reduce(x, axis=0, keepdims=True) for name, x in seen.items()},
        {name: _attained(name, x, confirm) for name, x in seen.items() if x.size and not np.isnan(x).all()},
        sought.tried,
        len(checked.runs),
        checked.violations,
        confirm,
        f"{checked.runtime}; {sought.said}",
        checked.reference,
    )


def _domains(target: Target, boxes: Sequence[Mapping[str, Enclosure]]) -> list[Domain]:
    """At most SEARCHED of the boxes, spread over all of them."""
    chosen = np.unique(np.linspace(0, len(boxes) - 1, min(len(boxes), SEARCHED)).round().astype(int))
    return [Domain.of(boxes[i], target.exact.declared, target.program.formats) for i in chosen]


def drawn_from(domains: Sequence[Domain], count: int, seed: int) -> Array:
    """Points uniform in domains that are spread over all of them."""
    generator = np.random.default_rng([seed, 0])
    chosen = np.linspace(0, len(domains) - 1, count).round().astype(int)
    return np.concatenate([domains[i].uniform(generator, 1) for i in chosen])


def _found(
    tried: Bench, domains: Sequence[Domain], sizes: Mapping[str, int], points: int, seed: int, progress: Progress
) -> tuple[Found, ...]:
    """What each domain's share of the points finds."""
    sizes = {name: size for name, size in sizes.items() if size}
    elements = [(name, k) for name, size in sizes.items() for k in range(size)] if sum(sizes.values()) <= WATCHED else []
    objectives = [largest_error(name) for name in sizes]
    watched = [element_error(name, k) for name, k in elements]
    share = max(1, points // len(domains))
    return tuple(search(tried, domain, objectives, share, seed, watched, progress=progress) for domain in domains)


def _ranked(found: Sequence[Found]) -> list[Array]:
    """The best point of every objective, then the second best of every one, and so on, up to BEST; and those watched."""
    best = [_joined([x.best[k] for x in found]) for k in range(len(found[0].best))]
    watched = [_joined([x.watched[k] for x in found]) for k in range(len(found[0].watched))]
    most = max((len(x.rows) for x in best), default=0)
    ranked = [x.rows[k : k + 1] for k in range(most) for x in best if k < len(x.rows)]
    return [*ranked[: max(BEST - len(watched), len(best))], *(x.rows for x in watched)]


def _joined(parts: Sequence[Best]) -> Best:
    joined = Best(parts[0].size, parts[0].rows[:0])
    for part in parts:
        joined.offer(part.rows, part.scores)
    return joined


def _distinct(blocks: Sequence[Array]) -> Array:
    rows = np.concatenate(blocks)
    if not rows.shape[1]:
        return rows[:1]
    _, first = np.unique(rows, axis=0, return_index=True)
    return rows[np.sort(first)]


def _measured(tried: Bench, points: Mapping[str, Array], checked: Confirmed) -> dict[str, Array]:
    """The observed errors; finer than float64 where the bench has balls, whose results an enclosure rounds to float64."""
    exact = tried.exact(points)
    seen = dict(checked.observed)
    for name, values in exact.items():
        if values.dtype == object:
            each = [distance(np.asarray(run.outputs[name], dtype=np.float64), values[: run.cases]) for run in checked.runs]
            errors = partial(np.pad, constant_values=np.nan)
            whole = [errors(x, [(0, len(seen[name]) - len(x)), *[(0, 0)] * (x.ndim - 1)]) for x in each]
            seen[name] = np.where(np.isnan(seen[name]), np.nan, np.fmax.reduce(whole, axis=0)) if whole else seen[name]
    return seen


def _attained(output: str, errors: Array, points: Mapping[str, Array]) -> Attained:
    place = np.unravel_index(int(np.nanargmax(errors)), errors.shape)
    case, index = int(place[0]), tuple(int(i) for i in place[1:])
    inputs = {name: x[case : case + 1] for name, x in points.items()}
    return Attained(output, index, float(errors[place]), {name: x[0] for name, x in inputs.items()}, digest(inputs))
