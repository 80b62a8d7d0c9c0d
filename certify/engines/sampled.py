"""The sampled engine: Monte-Carlo arithmetic. The model is run again and again, every rounding drawn at random.

A result that is no number of its format is moved by at most half an ulp, uniformly (Parker 1997): what is exact stays exact, and on average
a rounding errs as much as one to nearest. Roundings inside a sum are drawn together, normal with the deviation that sums of such terms
usually have (`Roundings.usual`); what else a kernel errs by is drawn from all of its bound. Over RUNS runs, the largest deviation is a
distribution-free tolerance limit (Wilks 1941): a share CONTENT of all such runs stays below it, which fails with probability
CONTENT^RUNS < 1 - CONFIDENCE over the draws. It speaks of simulated runs; nothing is proved of any kernel.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.engines.contract import ErrorBound, Guarantee, Progress
from certify.engines.fluctuation import Fluctuating, roundings_of
from certify.engines.parallel import in_order
from certify.engines.running import full
from certify.engines.sketch.draws import most_held
from certify.number.formats import Format
from certify.number.rounding import disturb_randomly
from certify.number.upward import Array

RUNS = 59
CONTENT, CONFIDENCE = 0.95, 0.95
MEMORY = 5e8  # bytes of the values of all runs that are done at once, about


@dataclass(frozen=True, slots=True)
class Law:
    """How a step's roundings are drawn. within: any error of at most this, uniformly; usual: the deviation of a normal one, either None;
    storage: what the result is rounded into at last, or None."""

    within: Array | None
    usual: Array | None
    storage: Format | None

    @property
    def silent(self) -> bool:
        """Nothing is rounded."""
        return self.within is None and self.usual is None and self.storage is None


def nominal_work(problem: Problem) -> float:
    """Nominal nanoseconds of all runs."""
    return 40.0 * RUNS * sum(int(problem.values[step.output].lo[0].size) for step in problem.steps)


def solve(problem: Problem, seed: tuple[int, ...], progress: Progress | None = None) -> ErrorBound:
    """The largest |run - z| of each output element of one case; inf where a run delivers no number."""
    laws, together = _laws(problem), _together(problem)
    starts = range(0, RUNS, together)
    largest = {name: np.zeros(problem.values[name].shape) for name in problem.outputs}

    def one(start: int) -> dict[str, Array]:
        found = _runs(problem, laws, range(start, min(start + together, RUNS)), seed)
        return {name: deviation.max(axis=0, keepdims=True) for name, deviation in found.items()}

    for done, found in enumerate(in_order(one, starts), 1):
        for name, deviation in found.items():
            largest[name] = np.maximum(largest[name], deviation)
        if progress is not None:
            progress("sampling", done / len(starts))
    outputs = {name: full(x, problem.values[name].shape, 1) for name, x in largest.items()}
    return ErrorBound(Guarantee.SAMPLED, "sampled", outputs, {}, {})


def _together(problem: Problem) -> int:
    """How many runs are done at once: by the problem alone, for products of more runs round otherwise."""
    return int(np.clip(MEMORY / (8.0 * max(1, most_held(problem))), 1, RUNS))


def _laws(problem: Problem) -> dict[str, Law]:
    """Of each step, on exact operands."""
    state, laws = Fluctuating(problem, sampling=True), {}
    for step in problem.steps:
        shape = problem.values[step.output].shape
        beta = state.local_rounding(step, np.zeros((1,) * len(shape)))
        laws[step.output] = _law(state, step, beta)
    return laws


def _law(state: Fluctuating, step: Step, beta: Array) -> Law:
    if not beta.any():
        return Law(None, None, None)
    kind, roundings = roundings_of(step)
    sigma = state.sigma.get(step.output)
    if roundings is None or sigma is None:
        return Law(beta, None, None)
    storage = step.arithmetic.storage
    if kind == "one":
        return Law(None, None, storage)
    narrow = storage if np.any(roundings.store(np.ones(1))) else None
    bias = state.bias[step.output]
    return Law(bias if bias.any() else None, state.usual.get(step.output), narrow)


def _runs(problem: Problem, laws: dict[str, Law], runs: range, seed: tuple[int, ...]) -> dict[str, Array]:
    """|run - z| of these runs, (runs, *shape) by output."""
    values: dict[str, Array] = {}
    uses = Counter(name for step in problem.steps for name in step.operands if name is not None)
    uses.update(problem.outputs)
    for place, step in enumerate(problem.steps):
        operands = [None if name is None else values.get(name, problem.values[name].lo) for name in step.operands]
        exact = all(name is None or name not in values for name in step.operands)
        law = laws[step.output]
        if not exact or not law.silent:
            y = problem.values[step.output].lo if exact else np.asarray(step.rule.value(*operands, **step.attributes), dtype=np.float64)
            values[step.output] = _disturbed(np.broadcast_to(y, (len(runs), *y.shape[1:])), law, runs, (*seed, place))
        for name in step.operands:
            if name is not None:
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
    return {name: _deviation(values.get(name, problem.values[name].lo), problem.values[name].lo) for name in problem.outputs}


def _deviation(x: Array, z: Array) -> Array:
    apart = np.where(x == z, 0.0, np.abs(x - z))
    return np.where(np.isnan(apart), np.inf, apart)


def _disturbed(y: Array, law: Law, runs: range, seed: tuple[int, ...]) -> Array:
    """(runs, *shape): each run with draws of its own, the same however many are done at once."""
    if law.silent:
        return y
    done = np.empty(y.shape)
    for i, run in enumerate(runs):
        draw: Any = np.random.default_rng((*seed, run))
        x = y[i]
        if law.within is not None:
            x = x + np.broadcast_to(law.within, y.shape)[0] * draw.uniform(-1.0, 1.0, x.shape)
        if law.usual is not None:
            x = x + np.broadcast_to(law.usual, y.shape)[0] * draw.standard_normal(x.shape)
        done[i] = x if law.storage is None else disturb_randomly(x, law.storage, draw)
    return done
