"""The sketch engine: tubes of all values at once from Cauchy draws, tested by fresh ones, then the adjoint's functionals over them.

Trejo & Kreinovich 2001, *Error estimations for indirect measurements: randomized vs. deterministic algorithms*, have the idea of Cauchy
deviates; docs/sketch.md has the proof of what is claimed here, the union over all elements included.
"""

from __future__ import annotations

import numpy as np

from certify import memory
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
MEMORY = 1.5e9  # bytes of draws held at a time, about; less where the memory limit says so
ATTEMPTS = 6
ROUNDS = 2  # of narrowing, at most
DEVIATING, GAIN = 0.05, 0.97  # a share of the bound from which on narrowing is tried, and what it has to gain to be tried again
LOOKED = 32  # elements of each output by which that is judged
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
    tester = Tester(problem, eta, seed, progress)
    found = _accepted(problem, rounding, tester)
    if found is None:  # has not happened
        one = sweep(problem, rounding, 0.0, progress, output_limit)
        return bound_of(one, Guarantee.PROVED, "sketch", output_limit), one
    made, caps = found
    one = _narrowed(problem, rounding, made, caps, tester) if caps else made
    return bound_of(one, Guarantee.RANDOMIZED if caps else Guarantee.PROVED, "sketch", output_limit), one


def _narrowed(problem: Problem, rounding: bool, made: Proposal, caps: dict[str, Array], tester: Tester) -> Proposal:
    """The pass over the narrowed tubes, narrowed again as long as that gains for some output."""
    one = settled(problem, rounding, caps, made.claims, tester.progress)
    looked = _look(one)
    for _ in range(ROUNDS):
        if not any(exact > DEVIATING * bound for bound, exact in looked):
            break
        again = tester.verdict(one)
        if again.refused:
            break
        more = caps_of(one, again)
        caps = {name: np.minimum(cap, more.get(name, np.inf)) for name, cap in caps.items()}
        one = settled(problem, rounding, caps, made.claims, tester.progress)
        before, looked = looked, _look(one)
        if not any(now < GAIN * then for (now, _), (then, _) in zip(looked, before, strict=True)):
            break
    return one


def _look(one: Sweep) -> list[tuple[float, float]]:
    """For each output with multipliers the largest bounds of |computed - z| and of |exact - z|, the part that deviations have, among
    the elements whose tubes are widest."""
    found = []
    for name in one.problem.outputs:
        tube = one.state.tubes.get(name)
        if tube is not None and name in one.steps and np.isfinite(tube).all():
            quiet: dict[str, Array] = {}
            bound = one.units(name, np.sort(np.argsort(-tube.reshape(-1), kind="stable")[:LOOKED]), quiet=quiet)
            found.append((float(bound.max(initial=0.0)), float(quiet["exact"].max(initial=0.0))))
    return found


def _accepted(problem: Problem, rounding: bool, tester: Tester) -> tuple[Proposal, dict[str, Array]] | None:
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


class Tester:
    """Tests with fresh draws each time, each of which spends half of what is left of eta.

    elements: how many may have claims. proposing: how many draws of all live values fit into memory, `draws` at most.
    """

    def __init__(
        self, problem: Problem, eta: float, seed: tuple[int, ...], progress: Progress | None, draws: int = DRAWS, kinds: int = 1
    ) -> None:
        steps = sum(int(problem.values[step.output].lo[0].size) for step in problem.steps)
        held = 8.0 * kinds * max(1, most_held(problem))
        self.elements, self.draws = max(1, steps), draws
        self.sources = max(1, 2 * steps + sum(int(problem.values[name].lo[0].size) for name in problem.radii))
        allowed = memory.for_draws(MEMORY)
        self.proposing = int(np.clip(allowed / held, FEWEST, draws))
        self.chunk = int(np.clip(0.5 * allowed / held / processors(), 1, CHUNK))
        self.seed, self.progress = seed, progress
        self._left, self._tests = eta, 0

    def next_test(self) -> CountTest:
        """The test that `verdict` does next."""
        return count_test(self.draws, 0.5 * self._left / self.elements, self.elements, self.sources)

    def verdict(self, made: Proposal) -> Verdict:
        """Of all claims, by fresh draws."""
        test = self.next_test()
        self._left *= 0.5
        self._tests += 1
        return verdict(made, test, self.chunk, (*self.seed, 2 * self._tests - 1), self.progress)
