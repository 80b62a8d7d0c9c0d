"""Which engines bound one case: the strongest guarantee first, weaker ones beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from certify.analysis.problem import Problem
from certify.engines import adjoint, probabilistic, running, sampled
from certify.engines.contract import ErrorBound, Guarantee, Progress
from certify.engines.sketch import solve as sketch
from certify.engines.sweep import Sweep
from certify.engines.sweep import sweep as sweep_of
from certify.number.upward import Array

NEXT_TO_NOTHING = 1e-3  # a doubt below this share of the rounding bound is not worth an adjoint
DEVIATING = 0.2  # share of a bound that comes from deviations, remainders, from which on tighter tubes may pay
SKETCH_LIMIT = 4e10  # nominal nanoseconds of pushes that the automatic engine spends on a case to make a bound smaller
RESCUE_LIMIT = 1e11  # and where there is no finite bound otherwise
SAMPLE_LIMIT = 2e10  # nominal nanoseconds of sampled runs that it spends
ASKED_LIMIT = 6e11  # of functionals of probabilistic tubes that were asked for by name


@dataclass(frozen=True, slots=True)
class Method:
    """How cases are bounded.

    engine:  a name; "auto": the adjoint where it is affordable, a sketch where rows for every tube are not, weaker guarantees beside it.
    eta:     the probability, over all cases, with which randomized and probabilistic bounds may fail. seed: of all draws.
    weakest: no bound is looked for that has a weaker guarantee. accepted: the one that is as good as any stronger one; None: bounds of
             the worst case are told, whatever weaker ones there are.
    """

    engine: str = "auto"
    eta: float = 1e-9
    seed: int = 0
    weakest: Guarantee = Guarantee.SAMPLED
    accepted: Guarantee | None = None

    def share(self, cases: int) -> float:
        """Of eta, for one case of so many and one of five things that a ladder rests on: functionals over proved tubes, the sketch's tubes,
        functionals over those, probabilistic tubes with theirs, and the first order."""
        return 0.2 * self.eta / cases

    @staticmethod
    def named(engine: str, eta: float, seed: int, guarantee: str) -> Method:
        """guarantee: a name of `Guarantee`, the weakest that is acceptable, or "any"."""
        if guarantee == "any":
            return Method(engine, eta, seed)
        accepted = Guarantee[guarantee.upper()]
        return Method(engine, eta, seed, accepted, accepted)


@dataclass(frozen=True, slots=True)
class Candidate:
    """bound: of |computed - z_stored|. doubt: of |exact - z_exact|; left out by simulated runs, which say nothing of it.
    sweep: None where there are no multipliers. limit: of functionals."""

    bound: ErrorBound
    doubt: dict[str, Array]
    sweep: Sweep | None
    limit: float = np.inf


@dataclass(frozen=True, slots=True)
class Case:
    """One case of so many, as the runtime holds the model (stored) and as the file does (exact)."""

    stored: Problem
    exact: Problem
    method: Method
    number: int
    cases: int
    progress: Progress | None = None

    @property
    def limit(self) -> float:
        """Of functionals, in nominal nanoseconds an output; draws bound what is dearer, where there are draws."""
        return {"auto": adjoint.OUTPUT_LIMIT, "probabilistic": ASKED_LIMIT}.get(self.method.engine, np.inf)

    @property
    def eta(self) -> float:
        """The probability that each thing that is concluded of this case may fail with."""
        return self.method.share(self.cases)

    @property
    def seed(self) -> tuple[int, int]:
        return self.method.seed, self.number

    def admits(self, guarantee: Guarantee) -> bool:
        return guarantee <= self.method.weakest


def candidates(
    stored: Problem, exact: Problem, method: Method, case: int, cases: int, progress: Progress | None = None
) -> Iterator[Candidate]:
    """What the engines find of one case of so many."""
    one = Case(stored, exact, method, case, cases, progress)
    if method.engine == "sampled":
        yield _sampled(one)
        return
    paying = True
    if method.engine != "probabilistic":
        for found in _worst_cases(one):
            yield found
            beside = _beside(one, found)
            if beside is not None:
                yield beside
            paying = _paying(one, beside or found, found.sweep)
            del found, beside  # no sweep is held beside the next one
        if method.engine != "auto":
            return
    if not one.admits(Guarantee.PROBABILISTIC) and method.engine == "auto":
        return
    if paying:
        likely = _likely(one)
        infinite = _is_infinite(likely.bound)
        yield likely
        del likely
        if infinite and one.admits(Guarantee.FIRST_ORDER):
            yield _first_order(one)
    if method.engine == "auto" and one.admits(Guarantee.SAMPLED) and sampled.nominal_work(stored) <= SAMPLE_LIMIT:
        yield _sampled(one)


def _worst_cases(one: Case) -> Iterator[Candidate]:
    """Of every conforming run: proved, randomized."""
    stored, method = one.stored, one.method
    if method.engine != "sketch":
        first = _proved(one)
        yield first
        if method.engine != "auto" or not one.admits(Guarantee.RANDOMIZED) or not _paying(one, first, first.sweep):
            return
        del first
    bound, sweep = sketch.solve(stored, one.eta, (*one.seed, 0), progress=one.progress, output_limit=one.limit)
    yield Candidate(bound, _doubt(one, bound), sweep, one.limit)


def _beside(one: Case, found: Candidate) -> Candidate | None:
    """What is known over the same tubes if roundings have mean zero."""
    if not one.admits(Guarantee.PROBABILISTIC):
        return None
    bound = probabilistic.likely(found.bound, one.stored, one.eta)
    return None if bound is None else Candidate(bound, found.doubt, None)


def _likely(one: Case) -> Candidate:
    bound, sweep = probabilistic.solve(one.stored, one.eta, (*one.seed, 1), one.progress, one.limit)
    return Candidate(bound, _doubt(one, bound), sweep, one.limit)


def _first_order(one: Case) -> Candidate:
    bound, sweep = probabilistic.first_order(one.stored, one.eta, (*one.seed, 2), one.progress, one.limit)
    return Candidate(bound, _doubt(one, bound), sweep, one.limit)


def _sampled(one: Case) -> Candidate:
    bound = sampled.solve(one.stored, (*one.seed, 3), one.progress)
    return Candidate(bound, {}, None)


def _is_infinite(bound: ErrorBound) -> bool:
    return any(not np.isfinite(x).all() for x in bound.outputs.values())


def _wanting(found: Candidate) -> bool:
    """Tighter tubes would make much of the bound: what does not come from rounding itself has a large share of it, or it is infinite.

    Where tubes were all refined that are worth it, only a bound that is not of the worst case may gain.
    """
    if _is_infinite(found.bound):
        return True
    if found.bound.guarantee < Guarantee.PROBABILISTIC and (found.sweep is None or not found.sweep.curtailed):
        return found.sweep is None
    largest = {name: float(x.max(initial=0.0)) for name, x in found.bound.outputs.items()}
    return any(float(x.max(initial=0.0)) > DEVIATING * largest[name] for name, x in found.bound.exact.items())


def _paying(one: Case, found: Candidate, sweep: Sweep | None) -> bool:
    """Tubes from draws may be worth what their pushes cost, by a sweep of the problem where there is one: more, where nothing is finite."""
    limit = RESCUE_LIMIT if _is_infinite(found.bound) else SKETCH_LIMIT
    if not _wanting(found) or sketch.nominal_work(one.stored) > limit:  # draws alone
        return False
    return sketch.nominal_work(one.stored, sweep or sweep_of(one.stored, True, 0.0)) <= limit


def _proved(one: Case) -> Candidate:
    stored, exact, limit = one.stored, one.exact, one.limit
    if one.method.engine == "running" or (one.method.engine == "auto" and not adjoint.affordable(stored)):
        return Candidate(running.solve(stored, True, one.progress, slim=True), running.solve(exact, False, slim=True).outputs, None)
    bound, sweep = adjoint.solve(stored, True, progress=one.progress, output_limit=limit)
    return Candidate(bound, _doubt(one, bound), sweep, limit)


def _doubt(one: Case, bound: ErrorBound) -> dict[str, Array]:
    """|exact - z_exact| by running error analysis where that is next to nothing, else by an adjoint: the bound's own where it speaks
    of the same problem."""
    doubt = running.solve(one.exact, False, slim=True).outputs
    for name, x in doubt.items():
        if float(x.max(initial=0.0)) <= NEXT_TO_NOTHING * float(bound.outputs[name].max(initial=0.0)):
            continue
        if one.stored is one.exact and bound.exact:
            return {name: np.minimum(x, bound.exact[name]) for name, x in doubt.items()}
        return adjoint.solve(one.exact, False, output_limit=one.limit)[0].outputs
    return doubt
