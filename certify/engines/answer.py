"""Solve case after case with one engine, and keep what a certificate needs, so that memory is that of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from certify.analysis.problem import Problem, conversion
from certify.engines import adjoint, running
from certify.engines.contract import ErrorBound, Guarantee, Lost, Progress
from certify.engines.decisions import Margin, margins
from certify.engines.parallel import single_threaded_products
from certify.engines.sweep import Sweep
from certify.number.upward import Array, add_up, up

Pair = tuple[Problem, Problem]
"""(stored, exact): one case of the model as the runtime holds it, and as it stands in the file (the same object if equal)."""

Keep = Callable[[int, Sweep], None]


NEXT_TO_NOTHING = 1e-3  # a doubt below this share of the rounding bound is not worth an adjoint


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
    """

    engine: str
    guarantee: Guarantee = Guarantee.PROVED
    outputs: dict[str, Bounds] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    decisions: dict[str, list[tuple[int, Margin]]] = field(default_factory=dict)
    steps: dict[str, StepFacts] = field(default_factory=dict)
    lost: list[Lost | None] = field(default_factory=list)
    first: Problem | None = None
    first_exact: Problem | None = None


def answer(
    pairs: Iterable[Pair], count: int, engine: str, decide: Sequence[str], progress: Progress | None = None, keep: Keep | None = None
) -> Answer:
    """Bounds of every case. decide: outputs whose last axis is read by argmax (adjoint only).

    engine: "running"; "adjoint", whatever it costs; "auto", the adjoint where it is affordable.

    keep(case, sweep) is shown each finished case of the adjoint engine, before it is forgotten.
    """
    with single_threaded_products():
        return _answer(pairs, count, engine, decide, progress, keep)


def _answer(pairs: Iterable[Pair], count: int, engine: str, decide: Sequence[str], progress: Progress | None, keep: Keep | None) -> Answer:
    result = Answer(engine)
    pieces: dict[str, list[Bounds]] = {}
    worst: dict[str, float] = {}
    for case, (stored, exact) in enumerate(pairs):
        told = _part(progress, case, count)
        if engine == "running" or (engine == "auto" and not adjoint.affordable(stored)):
            bound = running.solve(stored, True, told, slim=True)
            doubt = running.solve(exact, False, slim=True).outputs
        else:
            limit = adjoint.OUTPUT_LIMIT if engine == "auto" else np.inf
            bound, sweep = adjoint.solve(stored, True, progress=told, output_limit=limit)
            doubt = _doubt(stored, exact, bound, limit)
            if keep is not None:
                keep(case, sweep)
            for name in decide:
                result.decisions.setdefault(name, []).extend(
                    (case, margin) for margin in margins(sweep, exact, name, bound.outputs[name], doubt[name], 0.25 * limit)
                )
        result.lost.extend(bound.lost)
        keep_facts(result, bound.tubes, bound.local, stored)
        result.first_exact = result.first_exact or exact
        for name in stored.outputs:
            pieces.setdefault(name, []).append(_bounds(stored, exact, bound, doubt, name))
            largest = float(bound.outputs[name].max(initial=0.0))
            if largest >= worst.get(name, 0.0):
                worst[name] = largest
                result.shares[name] = {step: float(share[0]) for step, share in bound.contributions.get(name, {}).items() if share.size}
    for name, parts in pieces.items():
        result.outputs[name] = Bounds(*(np.concatenate([getattr(part, kind) for part in parts]) for kind in Bounds.__slots__))
    return result


def _doubt(stored: Problem, exact: Problem, bound: ErrorBound, limit: float) -> dict[str, Array]:
    """|exact - z_exact| by running error analysis where that is next to nothing, else by an adjoint: the bound's own where it speaks
    of the same problem."""
    doubt = running.solve(exact, False, slim=True).outputs
    for name, x in doubt.items():
        if float(x.max(initial=0.0)) <= NEXT_TO_NOTHING * float(bound.outputs[name].max(initial=0.0)):
            continue
        if stored is exact and bound.exact:
            return {name: np.minimum(x, bound.exact[name]) for name, x in doubt.items()}
        return adjoint.solve(exact, False, output_limit=limit)[0].outputs
    return doubt


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
