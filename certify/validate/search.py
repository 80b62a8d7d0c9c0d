"""Search over a box for the inputs at which an objective is largest: fresh points, then populations that climb.

Every place of a population climbs by itself: it is taken by the best of its children if that is better. A place that no longer
improves is given to the best fresh point. The same seed gives the same points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from certify.number.upward import Array
from certify.request import Progress, no_progress
from certify.validate.domain import Domain
from certify.validate.trial import Bench, Trial

Objective = Callable[[Trial], Array]
"""A trial's scores, (cases,): larger is worse; NaN where nothing is known."""

PLACES = 16
_FRESH = 0.25  # share of the points that are tried before anything climbs
_PATIENCE = 25  # rounds without an improvement after which a place is given away
_STAGE = "searching the largest error"


@dataclass(slots=True)
class Best:
    """The `size` highest scores seen, best first, and their points (size, free), no point twice."""

    size: int
    rows: Array
    scores: Array = field(default_factory=lambda: np.zeros(0))

    def offer(self, rows: Array, scores: Array) -> None:
        worth = scores > (self.scores[-1] if len(self.scores) == self.size else -np.inf)
        if not worth.any():
            return
        together, values = np.concatenate([self.rows, rows[worth]]), np.concatenate([self.scores, scores[worth]])
        order = np.argsort(-values, kind="stable")[: 4 * self.size]
        _, first = np.unique(together[order], axis=0, return_index=True)
        kept = order[np.sort(first)][: self.size]
        self.rows, self.scores = together[kept], values[kept]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: for each objective its best points, for each watched one the best; and how many points were tried."""

    best: tuple[Best, ...]
    watched: tuple[Best, ...]
    tried: int


def search(
    bench: Bench,
    domain: Domain,
    objectives: Sequence[Objective],
    points: int,
    seed: int = 0,
    watched: Sequence[Objective] = (),
    keep: int = 8,
    progress: Progress = no_progress,
) -> Found:
    """Try `points` points in all, each under every objective.

    watched: objectives whose best point is kept, but for which nothing climbs.
    """
    hunt = _Hunt(bench, domain, tuple(objectives), tuple(watched), np.random.default_rng([seed, 17]), keep)
    places = max(1, min(PLACES, bench.batch // (4 * max(1, len(objectives)))))
    hunt.begin(points, places, progress)
    children = max(1, bench.batch // (places * max(1, len(objectives))))
    while hunt.tried < points and domain.free and objectives:
        hunt.round(children, points)
        progress(_STAGE, min(1.0, hunt.tried / points))
    return Found(tuple(hunt.best), tuple(hunt.seen), hunt.tried)


@dataclass(slots=True)
class _Population:
    rows: Array
    scores: Array
    idle: Array


class _Hunt:
    def __init__(
        self,
        bench: Bench,
        domain: Domain,
        objectives: tuple[Objective, ...],
        watched: tuple[Objective, ...],
        generator: np.random.Generator,
        keep: int,
    ) -> None:
        self._bench, self._domain, self._generator = bench, domain, generator
        self._objectives, self._watched = objectives, watched
        none = np.zeros((0, domain.free))
        self.best = [Best(keep, none) for _ in objectives]
        self.seen = [Best(1, none) for _ in watched]
        self._populations: list[_Population] = []
        self.tried = 0

    def begin(self, points: int, places: int, progress: Progress) -> None:
        """Fresh points, the best of which settle the populations."""
        leaders = [Best(places, np.zeros((0, self._domain.free))) for _ in self._objectives]
        wanted = min(points, max(self._bench.batch, int(_FRESH * points)))
        rows = self._domain.fresh(self._generator, wanted) if self._domain.free else np.zeros((1, 0))
        for first in range(0, len(rows), self._bench.batch):
            part = rows[first : first + self._bench.batch]
            for leader, scores in zip(leaders, self._scores(part), strict=True):
                leader.offer(part, scores)
            progress(_STAGE, min(1.0, self.tried / points))
        unknown = rows[:1], np.full(1, -np.inf)  # where nothing is known of any fresh point
        settlers = [(x.rows, x.scores) if len(x.scores) else unknown for x in leaders]
        self._populations = [_Population(here, scores, np.zeros(len(scores))) for here, scores in settlers]

    def round(self, children: int, points: int) -> None:
        """Children of every place, and a few fresh points; no more than are left to try."""
        generator, domain = self._generator, self._domain
        blocks = []
        for population in self._populations:
            parents = np.repeat(population.rows, children, axis=0)
            mates = population.rows[generator.integers(len(population.rows), size=len(parents))]
            blocks.append(domain.moved(generator, parents, mates))
        fresh = domain.fresh(generator, max(1, self._bench.batch // 8))
        rows = np.concatenate([*blocks, fresh])
        if self.tried + len(rows) > points:  # the last round: whole places no longer compare
            self._scores(rows[: points - self.tried])
            return
        scores = self._scores(rows)
        start = 0
        for k, population in enumerate(self._populations):
            own = slice(start, start + len(population.rows) * children)
            self._replace(population, rows[own], scores[k][own], children)
            self._settle(population, fresh, scores[k][-len(fresh) :])
            start = own.stop

    def _replace(self, population: _Population, rows: Array, scores: Array, children: int) -> None:
        places = np.arange(len(population.rows))
        chosen = scores.reshape(-1, children).argmax(axis=1) + places * children
        better = scores[chosen] > population.scores
        population.rows = np.where(better[:, None], rows[chosen], population.rows)
        population.scores = np.where(better, scores[chosen], population.scores)
        population.idle = np.where(better, 0, population.idle + 1)

    def _settle(self, population: _Population, fresh: Array, scores: Array) -> None:
        """The best fresh point takes the place that has been idle longest, the best place apart."""
        idle = np.where(np.arange(len(population.idle)) == population.scores.argmax(), -1, population.idle)
        place = int(idle.argmax())
        if idle[place] > _PATIENCE:
            population.rows[place], population.scores[place] = fresh[scores.argmax()], scores.max()
            population.idle[place] = 0

    def _scores(self, rows: Array) -> list[Array]:
        """Of every objective, -inf for NaN; batch by batch, and noted."""
        columns: list[list[Array]] = [[] for _ in self._objectives]
        for first in range(0, len(rows), self._bench.batch):
            part = rows[first : first + self._bench.batch]
            trial = self._bench(self._domain.inputs(part))
            for column, objective, best in zip(columns, self._objectives, self.best, strict=True):
                score = _known(objective(trial))
                column.append(score)
                best.offer(part, score)
            for objective, seen in zip(self._watched, self.seen, strict=True):
                seen.offer(part, _known(objective(trial)))
            self.tried += len(part)
        return [np.concatenate(column) for column in columns]


def _known(scores: Array) -> Array:
    return np.where(np.isnan(scores), -np.inf, scores)


def largest_error(output: str) -> Objective:
    """The largest error of any element of an output."""

    def score(trial: Trial) -> Array:
        error = trial.error[output]
        return np.asarray(np.fmax.reduce(error.reshape(len(error), -1), axis=1, initial=-np.inf))

    return score


def element_error(output: str, element: int) -> Objective:
    """The error of one element of an output, counted in C order."""
    return lambda trial: trial.error[output].reshape(len(trial.error[output]), -1)[:, element]
