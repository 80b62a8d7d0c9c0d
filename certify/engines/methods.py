"""Which engines bound one case: the strongest guarantee first, and a weaker one where that helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from certify.analysis.problem import Problem
from certify.engines import adjoint, running
from certify.engines.contract import ErrorBound, Progress
from certify.engines.sketch import solve as sketch
from certify.engines.sweep import Sweep
from certify.engines.sweep import sweep as sweep_of
from certify.number.upward import Array

NEXT_TO_NOTHING = 1e-3  # a doubt below this share of the rounding bound is not worth an adjoint
DEVIATING = 0.2  # share of a bound that comes from deviations, remainders, from which on tighter tubes may pay
SKETCH_LIMIT = 4e10  # nominal nanoseconds of pushes that the automatic engine spends on a case


@dataclass(frozen=True, slots=True)
class Method:
    """How cases are bounded.

    engine: "running"; "adjoint" or "sketch", whatever they cost; "auto", the adjoint where it is affordable, and a sketch where rows for
            every tube are not. eta: the probability, over all cases, with which randomized bounds may fail. seed: of their draws.
    randomized: whether such bounds are wanted at all.
    """

    engine: str = "auto"
    eta: float = 1e-9
    seed: int = 0
    randomized: bool = True


@dataclass(frozen=True, slots=True)
class Candidate:
    """bound: of |computed - z_stored|. doubt: of |exact - z_exact|. sweep: None where there are no multipliers. limit: of functionals."""

    bound: ErrorBound
    doubt: dict[str, Array]
    sweep: Sweep | None
    limit: float = np.inf


def candidates(
    stored: Problem, exact: Problem, method: Method, case: int, cases: int, progress: Progress | None = None
) -> Iterator[Candidate]:
    """What the engines find of one case of so many."""
    limit = adjoint.OUTPUT_LIMIT if method.engine == "auto" else np.inf
    if method.engine != "sketch":
        first = _proved(stored, exact, method, limit, progress)
        yield first
        if method.engine != "auto" or not method.randomized or not _wanting(first):
            return
        work = _pushing(stored, first.sweep)
        del first
        if work > SKETCH_LIMIT:
            return
    bound, sweep = sketch.solve(stored, method.eta / cases, (method.seed, case), progress=progress, output_limit=limit)
    yield Candidate(bound, _doubt(stored, exact, bound, limit), sweep, limit)


def _wanting(found: Candidate) -> bool:
    """Tubes were too dear to refine, and tighter ones would make much of the bound: what does not come from rounding itself has a large
    share of it, or it is infinite."""
    if found.sweep is None:
        return True
    if not found.sweep.curtailed:
        return False
    largest = {name: float(x.max(initial=0.0)) for name, x in found.bound.outputs.items()}
    return any(np.isinf(largest[name]) or float(x.max(initial=0.0)) > DEVIATING * largest[name] for name, x in found.bound.exact.items())


def _pushing(stored: Problem, known: Sweep | None) -> float:
    """Nominal nanoseconds of a sketch; of its draws alone where they are too many already."""
    drawing = sketch.nominal_work(stored)
    return drawing if drawing > SKETCH_LIMIT else sketch.nominal_work(stored, known or sweep_of(stored, True, 0.0))


def _proved(stored: Problem, exact: Problem, method: Method, limit: float, progress: Progress | None) -> Candidate:
    if method.engine == "running" or (method.engine == "auto" and not adjoint.affordable(stored)):
        return Candidate(running.solve(stored, True, progress, slim=True), running.solve(exact, False, slim=True).outputs, None)
    bound, sweep = adjoint.solve(stored, True, progress=progress, output_limit=limit)
    return Candidate(bound, _doubt(stored, exact, bound, limit), sweep, limit)


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
