"""The probabilistic engine: bounds that hold with probability 1 - eta if roundings have mean zero given those before them.

Azuma's inequality bounds the martingale that a functional's roundings make, over tubes which may be proved, randomized, or probabilistic
themselves (sketch/likely): docs/probabilistic.md has the proof. Where tubes do not close, what is left is the first order: linear maps and
roundings at the exact values, no remainder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem
from certify.engines.adjoint import bound_of
from certify.engines.contract import ErrorBound, Guarantee, Progress
from certify.engines.fluctuation import FirstOrder, Fluctuating, quantile
from certify.engines.sketch.counts import doubt_of_median
from certify.engines.sketch.draws import Draws, standard_normal
from certify.engines.sketch.likely import FirstOrderProposal, LikelyProposal, caps_of, sizes_of
from certify.engines.sketch.norms import PHI, NormTest, doubt_of_norm, norm_test
from certify.engines.sketch.proposal import Claim, passed
from certify.engines.sketch.solve import ATTEMPTS, RAISE, Tester
from certify.engines.sketch.verify import Verdict
from certify.engines.sweep import Sweep, sweep
from certify.number.upward import Array, add_up

MOST, FEWEST = 512, 256  # draws of either kind, in either phase
NUMBERS = 2e9  # that are drawn of either kind in a phase, about
ROUNDS = 3  # of narrowing, at most
GAIN = 0.95  # what a round of narrowing has to gain for another one


@dataclass(frozen=True, slots=True)
class Accepted:
    """Claims that passed (infinite sizes where none), what arrives at most at each step by them, and what is born at the outputs."""

    claims: dict[str, Claim]
    sizes: dict[str, Array]
    caps: dict[str, Array]
    born: dict[str, Array]


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
    search = _Search(problem, eta, seed, progress)
    made = search.accepted(LikelyProposal, Fluctuating)
    one = sweep(problem, True, 0.0, progress) if made is None else search.narrowed(made)
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
    made = _Search(problem, eta, seed, progress).accepted(FirstOrderProposal, FirstOrder) if dear else None
    for name in problem.outputs:
        if name in one.state.tubes and np.isfinite(one.state.tubes[name]).all():
            one.state.tubes[name] = _reached(one, name, made, name in dear)
    bound = bound_of(one, Guarantee.FIRST_ORDER, "probabilistic", output_limit)
    return likely(bound, problem, 0.5 * eta) or bound, one


def _reached(one: Sweep, name: str, made: Accepted | None, dear: bool) -> Array:
    """The output's tube to first order: from draws; where functionals are asked for, as much as may be."""
    shape = one.problem.values[name].shape
    if not dear:
        return np.full(shape, np.finfo(np.float64).max)
    if made is None or name not in made.caps:
        return np.full(shape, np.inf)
    return add_up(made.caps[name], made.born[name])


def draws_of(problem: Problem) -> int:
    """The fewer the larger the problem is, a power of two: how wide claims are matters less there than what they cost."""
    elements = sum(int(problem.values[step.output].lo[0].size) for step in problem.steps)
    return int(np.clip(2.0 ** np.floor(np.log2(NUMBERS / max(1, elements))), FEWEST, MOST))


class _Search:
    """For tubes that hold but for half of eta: a quarter for draws of either kind that mislead, a quarter for tubes that are left."""

    def __init__(self, problem: Problem, eta: float, seed: tuple[int, ...], progress: Progress | None) -> None:
        self.problem, self.seed, self.progress = problem, seed, progress
        self.draws = draws_of(problem)
        self.tester = Tester(problem, 0.125 * eta, (*seed, 0), progress, self.draws, kinds=2)
        self.quantile = quantile((1 + ROUNDS) * self.tester.elements, 0.25 * eta)  # each round has martingales of its own
        self.paid = float(np.sqrt(self.tester.sources)) / PHI
        self._left, self._tests = 0.125 * eta, 0

    def accepted(self, kind: type[LikelyProposal], state: type[Fluctuating]) -> Accepted | None:
        """The first proposal all of whose claims pass, and what arrives at most at each step; None where none does."""
        raised: dict[str, Array] = {}
        lifted: dict[str, Array] = {}
        for attempt in range(ATTEMPTS):
            made = self._proposed(kind, state(self.problem), attempt, raised, lifted)
            found, sizes, swollen = self._tested(made)
            if not found.refused and not swollen:
                born = {name: made.state.local[name] for name in self.problem.outputs if name in made.state.local}
                return Accepted(made.claims, made.claimed, caps_of(made, found, sizes), born)
            for refused, factors in ((found.refused, raised), (swollen, lifted)):
                for name, mask in refused.items():
                    before = factors.get(name, np.ones(mask.shape))
                    factors[name] = np.where(mask, np.inf if attempt >= ATTEMPTS // 2 else RAISE * before, before)
        return None

    def narrowed(self, made: Accepted) -> LikelyProposal:
        """The pass over what was accepted, whose claims are put to fresh draws through its maps as long as that narrows tubes by much."""
        caps = made.caps
        one = self._settled(made, caps)
        for _ in range(ROUNDS):
            before = _widths(one)
            found, sizes, swollen = self._tested(one)
            if found.refused or swollen:
                break
            more = caps_of(one, found, sizes)
            del one  # its arrays are not held beside the next one's
            caps = {name: np.minimum(cap, more.get(name, np.inf)) for name, cap in caps.items()}
            one = self._settled(made, caps)
            if not any(now < GAIN * then for now, then in zip(_widths(one), before, strict=True)):
                break
        return one

    def _proposed(
        self, kind: type[LikelyProposal], state: Fluctuating, attempt: int, raised: dict[str, Array], lifted: dict[str, Array]
    ) -> LikelyProposal:
        tester, seed = self.tester, self.seed
        counts, norms = tester.next_test(), self._next_test()
        made = kind(
            self.problem,
            state,
            draws=Draws(self.problem, tester.proposing, (*seed, 1, attempt)),
            slack=counts.power * doubt_of_median(tester.proposing, tester.elements),
            raised=raised,
            normal=Draws(self.problem, tester.proposing, (*seed, 2, attempt), standard_normal),
            quantile=self.quantile,
            paid=self.paid,
            boost=norms.power * doubt_of_norm(tester.proposing, tester.elements),
            lifted=lifted,
        )
        passed(made, "proposing tubes", self.progress)
        return made

    def _settled(self, made: Accepted, caps: dict[str, Array]) -> LikelyProposal:
        state = Fluctuating(self.problem)
        one = LikelyProposal(self.problem, state, before=made.claims, earlier=made.sizes, caps=caps, quantile=self.quantile, paid=self.paid)
        passed(one, "narrowing tubes", self.progress)
        return one

    def _next_test(self) -> NormTest:
        """Of sizes, with half of what is left."""
        tester = self.tester
        return norm_test(self.draws, 0.5 * self._left / tester.elements, tester.elements, tester.sources)

    def _tested(self, made: LikelyProposal) -> tuple[Verdict, dict[str, Array], dict[str, npt.NDArray[np.bool_]]]:
        """By fresh draws: of scales, the limits of sizes, and where these are above what is claimed."""
        test = self._next_test()
        self._left *= 0.5
        self._tests += 1
        sizes = sizes_of(made, test, self.tester.chunk, (*self.seed, 3, self._tests), self.progress)
        swollen = {name: made.told[name] & (limit > made.sizes[name]) for name, limit in sizes.items()}
        return self.tester.verdict(made), sizes, {name: mask for name, mask in swollen.items() if mask.any()}


def _widths(one: Sweep) -> list[float]:
    """The sum of each output's tube."""
    return [float(one.state.tubes[name].sum()) if name in one.state.tubes else 0.0 for name in one.problem.outputs]
