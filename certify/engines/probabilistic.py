"""The probabilistic engine: bounds that hold with probability 1 - eta if roundings have mean zero given those before them.

Azuma's inequality bounds the martingale that a functional's roundings make, over tubes which may be proved, randomized, or probabilistic
themselves (sketch/likely): docs/probabilistic.md has the proof. Where tubes do not close, what is left is the first order: linear maps and
roundings at the exact values, no remainder.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from certify.analysis.problem import Problem
from certify.engines.adjoint import bound_of
from certify.engines.contract import ErrorBound, Guarantee, Progress
from certify.engines.fluctuation import FirstOrder, Fluctuating, quantile
from certify.engines.sketch.counts import doubt_of_median
from certify.engines.sketch.draws import Draws, standard_normal
from certify.engines.sketch.likely import FirstOrderProposal, LikelyProposal, caps_of, sizes_of
from certify.engines.sketch.norms import PHI, doubt_of_norm, norm_test
from certify.engines.sketch.proposal import passed, settled
from certify.engines.sketch.solve import ATTEMPTS, RAISE, Tester
from certify.engines.sweep import Sweep, sweep
from certify.number.upward import Array, add_up

DRAWS = 512  # of either kind, in either phase


def output_elements(problem: Problem) -> int:
    """How many claims the outputs of a case are."""
    return sum(int(problem.values[name].lo[0].size) for name in problem.outputs)


def likely(bound: ErrorBound, problem: Problem, eta: float) -> ErrorBound | None:
    """What is known of the outputs with probability 1 - eta, if the bound's tubes hold; None where that says no more. Never more than the
    bound itself."""
    if not bound.likely:
        return None
    times = quantile(output_elements(problem), eta)
    outputs, apart = dict(bound.outputs), dict(bound.apart)
    for name, known in bound.likely.items():
        swing = add_up(times * known.deviation)
        outputs[name] = np.minimum(outputs[name], add_up(known.steady, swing))
        apart[name] = np.minimum(apart[name], add_up(known.apart, swing))
    return replace(bound, guarantee=max(Guarantee.PROBABILISTIC, bound.guarantee), outputs=outputs, apart=apart)


def solve(
    problem: Problem, eta: float, seed: tuple[int, ...], progress: Progress | None = None, output_limit: float = np.inf
) -> tuple[ErrorBound, Sweep]:
    """One case over tubes that are probabilistic themselves; as `adjoint.solve`. Infinite where they do not close.

    A quarter of eta is spent on draws that mislead, a quarter on tubes that are left, half on the outputs.
    """
    made = _accepted(problem, LikelyProposal, Fluctuating, eta, seed, progress)
    caps = {} if made is None else made[1]
    one = settled(problem, True, caps, {}, progress) if caps else sweep(problem, True, 0.0, progress)
    bound = bound_of(one, Guarantee.PROBABILISTIC, "probabilistic", output_limit)
    return likely(bound, problem, 0.5 * eta) or bound, one


def first_order(
    problem: Problem, eta: float, seed: tuple[int, ...], progress: Progress | None = None, output_limit: float = np.inf
) -> tuple[ErrorBound, Sweep]:
    """One case to first order: as `solve`, of a bound that holds but for what is of second order in the unit roundoffs."""
    one = Sweep(problem, FirstOrder(problem))
    for step in problem.steps:
        one.enter(step, 0.0)
    dear = [name for name in problem.outputs if name in one.steps and one.dear(name, output_limit)]
    made = _accepted(problem, FirstOrderProposal, FirstOrder, eta, seed, progress) if dear else None
    for name in problem.outputs:
        if name in one.state.tubes and np.isfinite(one.state.tubes[name]).all():
            one.state.tubes[name] = _reached(one, name, made, name in dear)
    bound = bound_of(one, Guarantee.FIRST_ORDER, "probabilistic", output_limit)
    return likely(bound, problem, 0.5 * eta) or bound, one


def _reached(one: Sweep, name: str, made: tuple[LikelyProposal, dict[str, Array]] | None, dear: bool) -> Array:
    """The output's tube to first order: from draws; where functionals are asked for, as much as may be."""
    shape = one.problem.values[name].shape
    if not dear:
        return np.full(shape, np.finfo(np.float64).max)
    if made is None or name not in made[1]:
        return np.full(shape, np.inf)
    return add_up(made[1][name], made[0].state.local[name])


def _accepted(
    problem: Problem, kind: type[LikelyProposal], state: type[Fluctuating], eta: float, seed: tuple[int, ...], progress: Progress | None
) -> tuple[LikelyProposal, dict[str, Array]] | None:
    """The first proposal all of whose claims pass, and what arrives at most at each step; None where none does."""
    tester = Tester(problem, 0.125 * eta, (*seed, 0), progress, DRAWS, kinds=2)
    elements, left = tester.elements, 0.125 * eta
    times = quantile(elements, 0.25 * eta)
    raised: dict[str, Array] = {}
    lifted: dict[str, Array] = {}
    for attempt in range(ATTEMPTS):
        left *= 0.5
        counts, norms = tester.next_test(), norm_test(DRAWS, left / elements, elements, tester.sources)
        made = kind(
            problem,
            state(problem),
            draws=Draws(problem, tester.proposing, (*seed, 1, attempt)),
            slack=counts.power * doubt_of_median(tester.proposing, elements),
            raised=raised,
            normal=Draws(problem, tester.proposing, (*seed, 2, attempt), standard_normal),
            quantile=times,
            paid=float(np.sqrt(tester.sources)) / PHI,
            boost=norms.power * doubt_of_norm(tester.proposing, elements),
            lifted=lifted,
        )
        passed(made, "proposing tubes", progress)
        sizes = sizes_of(made, norms, tester.chunk, (*seed, 3, attempt), progress)
        found = tester.verdict(made)
        swollen = {name: made.told[name] & (limit > made.sizes[name]) for name, limit in sizes.items()}
        swollen = {name: mask for name, mask in swollen.items() if mask.any()}
        if not found.refused and not swollen:
            return made, caps_of(made, found, sizes)
        for refused, factors in ((found.refused, raised), (swollen, lifted)):
            for name, mask in refused.items():
                before = factors.get(name, np.ones(mask.shape))
                factors[name] = np.where(mask, np.inf if attempt >= ATTEMPTS // 2 else RAISE * before, before)
    return None
