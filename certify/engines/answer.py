"""Solve case after case with one engine, and keep what a certificate needs, so that memory is that of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

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


@dataclass
class Answer:
    """What one engine found.

    shares:    by output and step, the step's part of the bound of the worst element of the worst case.
    decisions: per output, (case, Margin) for every argmax over its last axis.
    steps:     by step output. first, first_exact: the first case's problems, for what is shown of nodes and cross-checked.
    lost:      per case, where finiteness was lost.
    ladder:    per output, the largest bound by guarantee: the smallest that holds with at least that one, case by case.
    eta:       the probability with which bounds that are randomized may fail, all together; 0 if none are.
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


def answer(
    pairs: Iterable[Pair], count: int, method: Method, decide: Sequence[str], progress: Progress | None = None, keep: Keep | None = None
) -> Answer:
    """Bounds of every case. decide: outputs whose last axis is read by argmax, where there are multipliers.

    keep(case, sweep) is shown each finished case of the adjoint engine, before it is forgotten.
    """
    with single_threaded_products():
        return _answer(pairs, count, method, decide, progress, keep)


@dataclass
class _Solved:
    """One case, with one guarantee."""

    found: ErrorBound
    bounds: dict[str, Bounds]
    decisions: dict[str, list[Margin]]

    @property
    def largest(self) -> dict[str, float]:
        return {name: float(bounds.total.max(initial=0.0)) for name, bounds in self.bounds.items()}


def _answer(
    pairs: Iterable[Pair], count: int, method: Method, decide: Sequence[str], progress: Progress | None, keep: Keep | None
) -> Answer:
    result = Answer(method.engine)
    pieces: dict[str, list[Bounds]] = {}
    worst: dict[str, float] = {}
    rungs: list[dict[Guarantee, dict[str, float]]] = []
    for case, (stored, exact) in enumerate(pairs):
        found: list[_Solved] = []
        for candidate in candidates(stored, exact, method, case, count, _part(progress, case, count)):
            if keep is not None and candidate.sweep is not None:
                keep(case, candidate.sweep)
            found.append(_solved(candidate, stored, exact, decide))
            del candidate  # its sweep is not held beside the next one's
        rungs.append({solved.found.guarantee: solved.largest for solved in found})
        solved = _headline(found, method.accepted)
        result.guarantee = max(result.guarantee, solved.found.guarantee)
        result.lost.extend(solved.found.lost or (None,))
        keep_facts(result, solved.found.tubes, solved.found.local, stored)
        result.first_exact = result.first_exact or exact
        for name, margins_ in solved.decisions.items():
            result.decisions.setdefault(name, []).extend((case, margin) for margin in margins_)
        for name, largest in solved.largest.items():
            pieces.setdefault(name, []).append(solved.bounds[name])
            if largest >= worst.get(name, 0.0):
                worst[name] = largest
                shares = solved.found.contributions.get(name, {})
                result.shares[name] = {step: float(share[0]) for step, share in shares.items() if share.size}
    for name, parts in pieces.items():
        result.outputs[name] = Bounds(*(np.concatenate([getattr(part, kind) for part in parts]) for kind in Bounds.__slots__))
        result.ladder[name] = _ladder(name, rungs)
    result.eta = failure(result.guarantee, method)
    return result


def failure(guarantee: Guarantee, method: Method) -> float:
    """The probability with which bounds of that guarantee may fail; of sampled ones, what share of runs may exceed them."""
    if guarantee == Guarantee.SAMPLED:
        return 1.0 - CONTENT
    return 0.0 if guarantee == Guarantee.PROVED else method.eta


def _solved(candidate: Candidate, stored: Problem, exact: Problem, decide: Sequence[str]) -> _Solved:
    bound, sweep, doubt = candidate.bound, candidate.sweep, candidate.doubt
    bounds = {name: _bounds(stored, exact, bound, doubt, name) for name in stored.outputs}
    if sweep is None:
        return _Solved(bound, bounds, {})
    limit = 0.25 * candidate.limit
    return _Solved(bound, bounds, {name: margins(sweep, exact, name, bound.outputs[name], doubt[name], limit) for name in decide})


def _headline(found: Sequence[_Solved], accepted: Guarantee | None) -> _Solved:
    """What the certificate says: of the worst case if anything is found of it, or the smallest with at least the guarantee `accepted`."""
    wanted = Guarantee.RANDOMIZED if accepted is None else accepted
    chosen: _Solved | None = None
    for solved in sorted(found, key=lambda one: one.found.guarantee):
        if chosen is None or solved.found.guarantee <= wanted:
            chosen = _better(chosen, solved)
    assert chosen is not None
    return chosen


def _better(strong: _Solved | None, weak: _Solved) -> _Solved:
    """The weaker guarantee where it gains something for some output, with whatever the stronger one has that is smaller."""
    if strong is None:
        return weak
    if not any(weak.largest[name] < BETTER * largest for name, largest in strong.largest.items()):
        return strong
    merged = {
        name: Bounds(mine.reference, mine.conversion, *(np.minimum(getattr(mine, kind), getattr(theirs, kind)) for kind in _LEAST))
        for name, mine in weak.bounds.items()
        for theirs in (strong.bounds[name],)
    }
    told = weak if weak.found.tubes else strong  # what simulated runs alone say has no tubes
    return _Solved(replace(told.found, guarantee=weak.found.guarantee), merged, weak.decisions or strong.decisions)


_LEAST = ("rounding", "doubt", "total")


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
    unknown = doubt[name]
    total = add_up(moved, rounding, unknown)
    if stored is exact and name in bound.apart:
        total = np.minimum(total, bound.apart[name])
    return Bounds(X.mid, moved, rounding, unknown, total)


def keep_facts(result: Answer, tubes: Mapping[str, Array], local: Mapping[str, Array], problem: Problem) -> None:
    """Remember the largest of what is known of each step."""
    result.first = result.first or problem
    for step in problem.steps:
        name = step.output
        known = result.steps.get(name, StepFacts())
        tube = tubes.get(name)
        result.steps[name] = StepFacts(
            max(known.tube, 0.0 if tube is None else float(tube.max(initial=0.0))),
            max(known.local, float(local[name].max(initial=0.0))),
            max(known.magnitude, float(problem.values[name].mag.max(initial=0.0))),
        )


def _part(progress: Progress | None, case: int, cases: int) -> Progress | None:
    if progress is None:
        return None
    told: Callable[[str, float], None] = progress
    return lambda stage, share: told(stage, (case + share) / cases)
