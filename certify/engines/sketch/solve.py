"""The sketch engine: tubes of all values at once from Cauchy draws, tested by fresh ones, then the adjoint's functionals over them.

Trejo & Kreinovich 2001, *Error estimations for indirect measurements: randomized vs. deterministic algorithms*, have the idea of Cauchy
deviates; docs/sketch.md has the proof of what is claimed here, the union over all elements included.
"""

from __future__ import annotations

import numpy as np

from certify.analysis.problem import Problem
from certify.engines.adjoint import bound_of
from certify.engines.contract import ErrorBound, Guarantee, Progress
from certify.engines.parallel import processors
from certify.engines.sketch.counts import CountTest, count_test, doubt_of_median
from certify.engines.sketch.draws import most_held
from certify.engines.sketch.proposal import Proposal, propose, settled
from certify.engines.sketch.verify import Verdict, caps_of, verdict
from certify.engines.sweep import Sweep, sweep
from certify.number.upward import Array

DRAWS = 1024
FEWEST, CHUNK = 64, 64  # draws that propose, at least; draws that are tested at a time, at most
MEMORY = 1.5e9  # bytes of draws held at a time, about
ATTEMPTS = 6
ROUNDS = 2  # of narrowing, at most
DEVIATING, GAIN = 0.05, 0.97  # a share of the bound from which on narrowing is tried, and what it has to gain to be tried again
RAISE = 2.0  # what a claim that failed is raised by
DRAW = 50.0  # nominal nanoseconds of one number drawn, pushed and ranked


def nominal_work(problem: Problem, one: Sweep | None = None) -> float:
    """Nominal nanoseconds of a sketch: of all its draws, and of its pushes where a sweep of the problem says what they cost."""
    drawn = DRAW * sum(int(problem.values[step.output].lo[0].size) for step in problem.steps)
    return 2.0 * DRAWS * (drawn + (0.0 if one is None else float(sum(one.work.values()))))


def solve(
    problem: Problem,
    eta: float,
    seed: tuple[int, ...],
    rounding: bool = True,
    progress: Progress | None = None,
    output_limit: float = np.inf,
) -> tuple[ErrorBound, Sweep]:
    """One case: bounds that hold but for a probability of at most `eta` over the draws. As `adjoint.solve`.

    Tubes that passed are narrowed by what their test saw, and where deviations still have a share of the bound, narrowed again by fresh
    draws through the maps of the narrower tubes.
    """
    tester = _Tester(problem, eta, seed, progress)
    found = _accepted(problem, rounding, tester)
    if found is None:  # has not happened
        one = sweep(problem, rounding, 0.0, progress, output_limit)
        return bound_of(one, Guarantee.PROVED, "sketch", output_limit), one
    made, caps = found
    guarantee = Guarantee.RANDOMIZED if caps else Guarantee.PROVED
    one = settled(problem, rounding, caps, made.claims, progress)
    bound = bound_of(one, guarantee, "sketch", output_limit)
    for _ in range(ROUNDS if caps else 0):
        if not _deviating(bound):
            break
        again = tester.verdict(one)
        if again.refused:
            break
        more = caps_of(one, again)
        caps = {name: np.minimum(cap, more.get(name, np.inf)) for name, cap in caps.items()}
        one = settled(problem, rounding, caps, made.claims, progress)
        bound, before = bound_of(one, guarantee, "sketch", output_limit), bound
        if not any(_largest(bound, name) < GAIN * _largest(before, name) for name in problem.outputs):
            break
    return bound, one


def _accepted(problem: Problem, rounding: bool, tester: _Tester) -> tuple[Proposal, dict[str, Array]] | None:
    """The first proposal all of whose claims pass, and what is known from then on; None where none does."""
    raised: dict[str, Array] = {}
    for attempt in range(ATTEMPTS):
        test = tester.next_test()
        slack = test.power * doubt_of_median(tester.proposing, tester.elements)
        made = propose(problem, rounding, tester.proposing, slack, raised, (*tester.seed, 2 * attempt), tester.progress)
        found = tester.verdict(made)
        if not found.refused:
            return made, caps_of(made, found)
        for name, mask in found.refused.items():
            before = raised.get(name, np.ones(mask.shape))
            raised[name] = np.where(mask, np.inf if attempt >= ATTEMPTS // 2 else RAISE * before, before)
    return None


def _deviating(bound: ErrorBound) -> bool:
    """Tighter tubes may still pay: not all of some output's bound comes from rounding itself."""
    return any(float(x.max(initial=0.0)) > DEVIATING * _largest(bound, name) for name, x in bound.exact.items())


def _largest(bound: ErrorBound, name: str) -> float:
    return float(bound.outputs[name].max(initial=0.0))


class _Tester:
    """Tests with fresh draws each time, each of which spends half of what is left of eta.

    elements: how many may have claims. proposing: how many draws of all live values fit into memory.
    """

    def __init__(self, problem: Problem, eta: float, seed: tuple[int, ...], progress: Progress | None) -> None:
        steps = sum(int(problem.values[step.output].lo[0].size) for step in problem.steps)
        held = 8.0 * max(1, most_held(problem))
        self.elements = max(1, steps)
        self._sources = max(1, 2 * steps + sum(int(problem.values[name].lo[0].size) for name in problem.radii))
        self.proposing = int(np.clip(MEMORY / held, FEWEST, DRAWS))
        self._chunk = int(np.clip(0.5 * MEMORY / held / processors(), 1, CHUNK))
        self.seed, self.progress = seed, progress
        self._left, self._tests = eta, 0

    def next_test(self) -> CountTest:
        """The test that `verdict` does next."""
        return count_test(DRAWS, 0.5 * self._left / self.elements, self.elements, self._sources)

    def verdict(self, made: Proposal) -> Verdict:
        """Of all claims, by fresh draws."""
        test = self.next_test()
        self._left *= 0.5
        self._tests += 1
        return verdict(made, test, self._chunk, (*self.seed, 2 * self._tests - 1), self.progress)
