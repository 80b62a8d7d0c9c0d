"""Solve case after case with one engine, and keep what a certificate needs, so that memory is that of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol

import numpy as np

from certify.analysis.problem import Problem, conversion
from certify.engines.contract import ErrorBound, Guarantee, Lost, Progress
from certify.engines.decisions import Margin, margins
from certify.engines.methods import Candidate, Method, candidates
from certify.engines.parallel import single_threaded_products
from certify.engines.sampled import CONTENT
from certify.engines.sweep import Sweep
from certify.number.upward import Array, add_up, up

Pair = tuple[Problem, Problem]
"""(stored, exact): one case of the model as the runtime holds it, and as it stands in the file (the same object if equal)."""

Keep = Callable[[int, Sweep], None]


BETTER = 0.99  # a weaker guarantee is taken for a bound that is less than this share of the stronger one's


@dataclass(frozen=True, slots=True)
class StepFacts:
    """Largest values over cases and elements, of one step: its tube, the rounding born there, the magnitude of its result."""

    tube: float = 0.0
    local: float = 0.0
    magnitude: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """One output, (cases, *shape) each.

    reference:  z_exact, the trajectory around which everything is said (the middle of the range for a region).
    conversion: |z_stored - z_exact|. rounding: |computed - z_stored|. doubt: |exact - z_exact|.
    total:      |computed - exact|: their sum, rounded up. Over a region: conversion and rounding are parts of one bound, which
                `total` is, and doubt is how far the exact values reach from the middle of their range.
    """

    reference: Array
    conversion: Array
    rounding: Array
    doubt: Array
    total: Array

    @property
    def largest(self) -> float:
        return float(self.total.max(initial=0.0))


@dataclass
class Answer:
    """What one engine found.

    shares:    by output and step, the step's part of the bound of the worst element of the worst case.
    decisions: per output, (case, Margin) for every argmax over its last axis.
    steps:     by step output. first, first_exact: the first case's problems, for what is shown of nodes and cross-checked.
    lost:      per case, where finiteness was lost.
    ladder:    per output, the largest bound by guarantee: the smallest that holds with at least that one, case by case.
    eta:       the probability with which bounds may fail, all together (`failure`).
    """

    engine: str
    guarantee: Guarantee = Guarantee.PROVED
    outputs: dict[str, Bounds] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    decisions: dict[str, list[tuple[int, Margin]]] = field(default_factory=dict)
    steps: dict[str, StepFacts] = field(default_factory=dict)
    lost: list[Lost | None] = field(default_factory=list)
    ladder: dict[str, dict[Guarantee, float]] = field(default_factory=dict)
    eta: float = 0.0
    first: Problem | None = None
    first_exact: Problem | None = None


@dataclass(frozen=True, slots=True)
class Solved:
    """All that a certificate keeps of one case. It holds on to no part of the model, so that it can be sent between processes.

    guarantee: of the bounds. bounds, decisions: by output. shares: by output and step, of its worst element. steps: by step output.
    rungs:     by guarantee, the largest bound by output.
    """

    guarantee: Guarantee
    bounds: dict[str, Bounds]
    decisions: dict[str, list[Margin]]
    lost: tuple[Lost | None, ...]
    shares: dict[str, dict[str, float]]
    steps: dict[str, StepFacts]
    rungs: dict[Guarantee, dict[str, float]]


class Recall(Protocol):
    """Cases that an earlier run solved, and where those go that this one solves."""

    def remembered(self, case: int) -> Solved | None: ...

    def remember(self, case: int, solved: Solved) -> None: ...


def answer(
    pairs: Iterable[Pair],
    count: int,
    method: Method,
    decide: Sequence[str],
    progress: Progress | None = None,
    keep: Keep | None = None,
    recall: Recall | None = None,
) -> Answer:
    """Bounds of every case. decide: outputs whose last axis is read by argmax, where there are multipliers.

    keep(case, sweep) is shown each finished case of the adjoint engine, before it is forgotten. recall: what is known of cases beforehand.
    """
    with single_threaded_products():
        left = iter(pairs)
        first = next(left, None)
        if first is None:
            return Answer(method.engine)

        def solved(case: int, pair: Pair) -> Solved:
            known = None if recall is None else recall.remembered(case)
            if known is None:
                known = solve(pair, case, count, method, decide, _part(progress, case, count), keep)
                if recall is not None:
                    recall.remember(case, known)
            return known

        return gather((solved(case, pair) for case, pair in enumerate(chain([first], left))), method, first)


def solve(
    pair: Pair, case: int, cases: int, method: Method, decide: Sequence[str], progress: Progress | None = None, keep: Keep | None = None
) -> Solved:
    """Bounds of one case of so many, as `answer` has them."""
    stored, exact = pair
    found: list[_Found] = []
    for candidate in candidates(stored, exact, method, case, cases, progress):
        if keep is not None and candidate.sweep is not None:
            keep(case, candidate.sweep)
        found.append(_found(candidate, stored, exact, decide))
        del candidate  # its sweep is not held beside the next one's
    found.sort(key=lambda one: one.bound.guarantee)
    best = _headline(found, method.accepted)
    bound, rungs = best.bound, _rungs(found)
    shares = {
        name: {step: float(share[0]) for step, share in bound.contributions.get(name, {}).items() if share.size} for name in best.bounds
    }
    return Solved(
        bound.guarantee, best.bounds, best.decisions, bound.lost or (None,), shares, _facts(bound.tubes, bound.local, stored), rungs
    )


def gather(solved: Iterable[Solved], method: Method, first: Pair) -> Answer:
    """The answer that cases make up, in their order. first: the pair of the first."""
    result = Answer(method.engine, first=first[0], first_exact=first[1])
    pieces: dict[str, list[Bounds]] = {}
    worst: dict[str, float] = {}
    rungs: list[dict[Guarantee, dict[str, float]]] = []
    for case, found in enumerate(solved):
        rungs.append(found.rungs)
        result.guarantee = max(result.guarantee, found.guarantee)
        result.lost.extend(found.lost)
        _keep_largest(result.steps, found.steps)
        for name, margins_ in found.decisions.items():
            result.decisions.setdefault(name, []).extend((case, margin) for margin in margins_)
        for name, bounds in found.bounds.items():
            pieces.setdefault(name, []).append(bounds)
            if bounds.largest >= worst.get(name, 0.0):
                worst[name], result.shares[name] = bounds.largest, found.shares[name]
    for name, parts in pieces.items():
        result.outputs[name] = Bounds(*(np.concatenate([getattr(part, kind) for part in parts]) for kind in Bounds.__slots__))
        result.ladder[name] = _ladder(name, rungs)
    result.eta = failure(result.guarantee, method.eta)
    return result


def failure(guarantee: Guarantee, eta: float) -> float:
    """The probability with which bounds of that guarantee may fail; of sampled ones, the share of runs that may exceed them."""
    if guarantee == Guarantee.SAMPLED:
        return 1.0 - CONTENT
    return 0.0 if guarantee == Guarantee.PROVED else eta


@dataclass
class _Found:
    """One case, with one guarantee."""

    bound: ErrorBound
    bounds: dict[str, Bounds]
    decisions: dict[str, list[Margin]]

    @property
    def largest(self) -> dict[str, float]:
        return {name: bounds.largest for name, bounds in self.bounds.items()}


def _found(candidate: Candidate, stored: Problem, exact: Problem, decide: Sequence[str]) -> _Found:
    bound, sweep, doubt = candidate.bound, candidate.sweep, candidate.doubt
    bounds = {name: _bounds(stored, exact, bound, doubt, name) for name in stored.outputs}
    if sweep is None:
        return _Found(bound, bounds, {})
    limit = 0.25 * candidate.limit
    return _Found(bound, bounds, {name: margins(sweep, exact, name, bound.outputs[name], doubt[name], limit) for name in decide})


def _headline(found: Sequence[_Found], accepted: Guarantee | None) -> _Found:
    """What the certificate says, of what was found, the strongest first: of the worst case, if anything is known of that, or the smallest
    that has at least the guarantee `accepted`."""
    best = found[0]
    for weak in found[1:]:
        if weak.bound.guarantee <= (Guarantee.RANDOMIZED if accepted is None else accepted):
            best = _better(best, weak)
    return best


def _better(strong: _Found, weak: _Found) -> _Found:
    """The weaker guarantee where it gains something for some output, with whatever the stronger one has that is smaller."""
    if not any(weak.largest[name] < BETTER * largest for name, largest in strong.largest.items()):
        return strong
    merged = {
        name: Bounds(mine.reference, mine.conversion, *(np.minimum(getattr(mine, kind), getattr(theirs, kind)) for kind in _LEAST))
        for name, mine in weak.bounds.items()
        for theirs in (strong.bounds[name],)
    }
    told = weak.bound if weak.bound.tubes else strong.bound  # simulated runs have no tubes
    return _Found(replace(told, guarantee=weak.bound.guarantee), merged, weak.decisions or strong.decisions)


_LEAST = ("rounding", "doubt", "total")


def _rungs(found: Sequence[_Found]) -> dict[Guarantee, dict[str, float]]:
    """By guarantee and output, the largest of what is smallest, element by element, with at least that guarantee."""
    rungs: dict[Guarantee, dict[str, float]] = {}
    least: dict[str, Array] = {}
    for one in found:
        for name, bounds in one.bounds.items():
            least[name] = np.minimum(least[name], bounds.total) if name in least else bounds.total
        rungs[one.bound.guarantee] = {name: float(x.max(initial=0.0)) for name, x in least.items()}
    return rungs


def _ladder(name: str, rungs: Sequence[dict[Guarantee, dict[str, float]]]) -> dict[Guarantee, float]:
    """By guarantee, the largest over cases of the smallest bound that holds with at least that one, where every case has one."""
    found = {}
    for g in sorted({guarantee for case in rungs for guarantee in case}):
        each = [[bounds[name] for guarantee, bounds in case.items() if guarantee <= g] for case in rungs]
        if all(each):
            found[g] = max(map(min, each), default=0.0)
    return found


def _bounds(stored: Problem, exact: Problem, bound: ErrorBound, doubt: dict[str, Array], name: str) -> Bounds:
    X = exact.values[name]
    moved, rounding = conversion(stored, exact, name), bound.outputs[name]
    if not X.is_point:  # a region: the values enclose the exact ones, which the bound is about; the reference is their middle
        moved = bound.converted.get(name, moved)
        with np.errstate(invalid="ignore"):
            rest = np.where(np.isfinite(rounding), np.maximum(up(rounding - moved), 0.0), np.inf)
        return Bounds(X.mid, moved, rest, X.rad, rounding)
    if name not in doubt:
        return Bounds(X.mid, moved, rounding, np.full(rounding.shape, np.inf), add_up(moved, rounding))
    unknown = doubt[name]
    total = add_up(moved, rounding, unknown)
    if stored is exact and name in bound.apart:
        total = np.minimum(total, bound.apart[name])
    return Bounds(X.mid, moved, rounding, unknown, total)


def keep_facts(result: Answer, tubes: Mapping[str, Array], local: Mapping[str, Array], problem: Problem) -> None:
    """Remember the largest of what is known of each step."""
    result.first = result.first or problem
    _keep_largest(result.steps, _facts(tubes, local, problem))


def _facts(tubes: Mapping[str, Array], local: Mapping[str, Array], problem: Problem) -> dict[str, StepFacts]:
    found = {}
    for step in problem.steps:
        name = step.output
        tube = 0.0 if (x := tubes.get(name)) is None else float(x.max(initial=0.0))
        born = 0.0 if (x := local.get(name)) is None else float(x.max(initial=0.0))
        found[name] = StepFacts(tube, born, float(problem.values[name].mag.max(initial=0.0)))
    return found


def _keep_largest(known: dict[str, StepFacts], fresh: Mapping[str, StepFacts]) -> None:
    for name, facts in fresh.items():
        before = known.get(name, StepFacts())
        known[name] = StepFacts(*(max(getattr(before, kind), getattr(facts, kind)) for kind in StepFacts.__slots__))


def _part(progress: Progress | None, case: int, cases: int) -> Progress | None:
    if progress is None:
        return None
    told: Callable[[str, float], None] = progress
    return lambda stage, share: told(stage, (case + share) / cases)
