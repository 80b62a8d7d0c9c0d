"""The sketch: draws pushed through every map propose tubes, fresh ones test them; each part of the proof is put to the test."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest

from certify.analysis.problem import Problem
from certify.engines import adjoint, running
from certify.engines.contract import Guarantee
from certify.engines.sketch import counts
from certify.engines.sketch import solve as sketch
from certify.engines.sketch.counts import CountTest, binomial_tail, count_test, doubt_of_median, lapse
from certify.engines.sketch.draws import Draws, most_held, standard_cauchy
from certify.engines.sketch.proposal import Claim, Proposal, propose, settled
from certify.engines.sketch.verify import caps_of, verdict
from certify.number.upward import Array
from tests.engines.networks import perceptron, problems
from tests.engines.test_adjoint import adversary, disturbed

REPETITIONS = 10_000
ETA = 1e-2


@cache
def small(dtype: str = "fp16", activation: str = "Tanh", widths: tuple[int, ...] = (6, 16, 16, 16, 3), seed: int = 1) -> Problem:
    x = np.random.default_rng(seed).uniform(-1, 1, size=(1, 1, widths[0]))
    return problems(perceptron(list(widths), activation, seed), dtype, x)[0].case(0)


def exact_scales(made: Proposal, name: str) -> Array:
    """What a claim of this step is about: sum of |multiplier| times the noise drawn, over everything before the step."""
    shape = made.problem.values[name].shape
    rows = np.eye(int(np.prod(shape))).reshape(-1, *shape[1:])
    total = np.zeros(rows.shape[0])
    for ancestor, a in made.multipliers(made.ancestors(name), name, rows):
        if ancestor != name and ancestor in made.drawn:
            total += np.abs(a).reshape(rows.shape[0], -1) @ made.drawn[ancestor].reshape(-1)
    return total.reshape(shape)


def false(made: Proposal) -> bool:
    """Some claim does not hold."""
    return any((claim.made & (claim.scale < exact_scales(made, name))).any() for name, claim in made.claims.items())


@pytest.mark.parametrize(("m", "k", "p"), [(64, 40, 0.5), (64, 64, 0.3), (1024, 600, 0.5), (1024, 537, 0.397), (10, 3, 0.5), (10, 10, 0.9)])
def test_the_tail_of_a_binomial_is_not_underestimated(m: int, k: int, p: float) -> None:
    with mpmath.workdps(40):
        exact = sum(mpmath.binomial(m, i) * mpmath.mpf(p) ** i * (1 - mpmath.mpf(p)) ** (m - i) for i in range(k, m + 1))
        assert binomial_tail(m, k, p) >= exact


def test_what_rounding_may_do_to_a_draw_is_not_underestimated() -> None:
    """The constants of docs/sketch.md, and p = (2/pi) atan(c + theta) + lapse, worked out anew."""
    with mpmath.workdps(40):
        phi, t, s, b, angle = (mpmath.mpf(x) for x in (counts.PHI, counts.T, counts.S, counts.B, counts.ANGLE))
        for sources in (1, 1000, 10**7):
            most = (b * sources * phi + mpmath.mpf("1.01") * (1 + (b * sources) ** 2) * angle) / (1 - phi)
            theta = t * phi + mpmath.mpf("1.01") * (1 + s * sources) * angle + most * phi
            assert theta <= counts.theta(sources) <= theta * mpmath.mpf("1.000001")
            weighted = 2 / mpmath.pi * (1 / t + mpmath.log(1 + t * sources) / t)
            exact = weighted + 4 / mpmath.pi * mpmath.sqrt(sources / (s * sources)) + 2 * sources / (mpmath.pi * b * sources)
            assert exact <= lapse(sources) <= exact * mpmath.mpf("1.000001")
            for c in counts.LIMITS:
                assert counts.below(c, sources) >= 2 / mpmath.pi * mpmath.atan(c + theta) + exact


@pytest.mark.parametrize("count", [3, 100])
def test_weighted_means_are_as_seldom_large_as_the_lemmas_say(count: int) -> None:
    """Lemmas 2 and 3 of docs/sketch.md, with weights that are alike and weights that are not; smaller chances would be refuted."""
    for weights in (np.full(count, 1.0 / count), 0.5 ** np.arange(1, count + 1) / (1.0 - 0.5**count)):
        drawn = np.abs(standard_cauchy((7, count), (200_000, count)))
        means, squares = drawn @ weights, drawn**2 @ weights
        for t in (10.0, 100.0):
            share = float(np.mean(means > t))
            assert 0.1 / t < share <= 2.0 / np.pi * (1.0 / t + np.log1p(t * count) / t)
            assert 0.0 < float(np.mean(squares > t)) <= 4.0 / np.pi * np.sqrt(count / t)


def test_what_is_drawn_and_concluded_is_no_less_than_the_proof_asks() -> None:
    """Elementwise, in exact arithmetic: noise drawn and scales in a proposal, and the caps that a verdict gives."""
    problem = small("fp16", "Tanh", (6, 24, 24, 24, 24, 3))
    made = propose(problem, True, 256, 2.5, {}, (0,))
    found = verdict(made, count_test(1024, 1e-9, 200, 400), 64, (1,))
    assert not found.refused
    for name, drawn in made.drawn.items():
        assert (drawn >= made.noise[name]).all()
        assert (made.scales[name] >= drawn).all()
    for name, cap in caps_of(made, found).items():
        parts = (np.abs(made.centres.get(name, np.zeros(cap.shape))), made.claims[name].scale, found.shares[name], made.quiet[name], cap)
        for centre, scale, share, quiet, most in zip(*(np.broadcast_to(x, cap.shape).reshape(-1) for x in parts), strict=True):
            if np.isfinite(most):
                assert Fraction(most) >= Fraction(centre) + Fraction(scale) * Fraction(share) + Fraction(quiet)


def test_more_draws_are_more_powerful_and_too_few_are_refused() -> None:
    powers = [count_test(m, 1e-12, 1000, 2000).power for m in (64, 128, 256, 1024)]
    assert powers == sorted(powers, reverse=True)
    assert 1.5 < powers[-1] < 2.0
    assert doubt_of_median(1024, 1000) < doubt_of_median(64, 1000)
    with pytest.raises(ValueError, match="too few"):
        count_test(8, 1e-12, 1000, 2000)
    assert 0.0 < lapse(10) < lapse(10**7) < 0.03


def test_draws_are_cauchy_and_repeatable() -> None:
    drawn = np.abs(standard_cauchy((1, 2), (400, 500)))
    for x in (0.01, 0.3, 1.0, 3.0, 100.0):
        share, expected = float(np.mean(drawn <= x)), 2.0 / np.pi * np.arctan(x)
        assert abs(share - expected) < 5.0 * np.sqrt(expected * (1.0 - expected) / drawn.size)
    assert np.array_equal(drawn, np.abs(standard_cauchy((1, 2), (400, 500))))
    assert not np.array_equal(drawn, np.abs(standard_cauchy((1, 3), (400, 500))))


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_a_median_estimates_the_exact_scale(dtype: str, activation: str) -> None:
    made = propose(small(dtype, activation), True, 4096, 1.0, {}, (5,))
    assert made.claims
    for name, claim in made.claims.items():
        exact = exact_scales(made, name)
        assert np.allclose(claim.scale[claim.made], exact[claim.made], rtol=0.15)


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8e4m3"])
@pytest.mark.parametrize("seed", range(2))
def test_no_noise_leaves_the_tubes(activation: str, dtype: str, seed: int) -> None:
    """As for the adjoint engine: noise inside the local bounds, chosen by an adversary, and every tube on the way."""
    problem = small(dtype, activation, (6, 9, 9, 5, 3), seed)
    bound, sweep = sketch.solve(problem, 1e-9, (seed,))
    draw = np.random.default_rng(seed)
    if not np.isfinite(bound.outputs["y"]).all():
        return
    attacks = [adversary(sweep, "y", element) for element in range(3)]
    for _ in range(30):
        attacks.append({step.output: draw.choice([-1.0, 1.0], problem.values[step.output].shape) for step in problem.steps})
    for signs in attacks:
        values = disturbed(problem, sweep.state.local, signs)
        for step in problem.steps:
            deviation = np.abs(values[step.output] - problem.values[step.output].lo)
            assert (deviation <= sweep.state.tubes.get(step.output, 0.0)).all(), step.output
        assert (np.abs(values["y"] - problem.values["y"].lo) <= bound.outputs["y"]).all()


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_it_lies_between_the_adjoint_and_the_running_bound(dtype: str) -> None:
    problem = small(dtype, "Tanh", (6, 24, 24, 24, 24, 3), 1)
    bound, _ = sketch.solve(problem, 1e-9, (0,))
    assert bound.guarantee == Guarantee.RANDOMIZED
    assert (bound.outputs["y"] < 0.2 * running.solve(problem).outputs["y"]).all()
    assert (bound.outputs["y"] <= 1.3 * adjoint.solve(problem)[0].outputs["y"]).all()


def test_the_same_seed_gives_the_same_bytes_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small()
    first = sketch.solve(problem, 1e-9, (3,))[0].outputs["y"]
    assert np.array_equal(first, sketch.solve(problem, 1e-9, (3,))[0].outputs["y"])
    assert not np.array_equal(first, sketch.solve(problem, 1e-9, (4,))[0].outputs["y"])
    monkeypatch.setattr("certify.engines.parallel._limit", 1)
    assert np.array_equal(first, sketch.solve(problem, 1e-9, (3,))[0].outputs["y"])


def test_what_is_refused_is_raised_and_tested_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slack far too small: claims fail, are raised, and in the end given up; the bound holds all the same."""
    problem = small()
    seeds = []

    def watched(problem: Problem, rounding: bool, count: int, slack: float, *rest: Any) -> Proposal:
        raised, seed, *_ = rest
        seeds.append((seed, {name: float(factor.max()) for name, factor in raised.items()}))
        return propose(problem, rounding, count, 0.3 * slack, raised, seed)

    monkeypatch.setattr(sketch, "propose", watched)
    bound, sweep = sketch.solve(problem, 1e-9, (0,))
    assert len(seeds) > 1
    assert len({seed for seed, _ in seeds}) == len(seeds), "fresh draws for every attempt"
    assert max(seeds[-1][1].values()) > 1.0
    assert isinstance(sweep, Proposal)
    assert not false(sweep)
    assert (bound.outputs["y"] >= adjoint.solve(problem)[0].outputs["y"]).all()


def test_what_is_infinite_is_never_claimed() -> None:
    """exp overflows fp8 somewhere: what reads it is lost, and so says the bound."""
    problem = small("fp8e4m3", "Tanh", (6, 9, 3), 1)
    name = problem.steps[1].output
    made = propose(problem, True, 256, 2.0, {}, (0,))
    assert name in made.scales
    made.state.tubes[name] = np.full(problem.values[name].shape, np.inf)
    again = Proposal(problem, made.state, draws=Draws(problem, 256, (1,)), slack=2.0)
    again.scales[name] = made.state.tubes[name]
    again.enter(problem.steps[2])
    assert np.isinf(again.state.tubes[problem.steps[2].output]).all()
    assert problem.steps[2].output not in again.claims


def test_memory_is_that_of_the_widest_place() -> None:
    problem = small("fp16", "Relu", (4, 6, 5, 3))
    assert 0 < most_held(problem) <= 2 * sum(x.lo.size for x in problem.values.values())


# The chance of a false claim, put to the test by repetition: at most ETA over all claims together.


def planted(made: Proposal, factor: float) -> Proposal:
    """The same maps and noise, with claims at this multiple of the exact scales."""
    claims = {name: Claim(factor * exact_scales(made, name), np.ones_like(claim.made)) for name, claim in made.claims.items()}
    return dataclasses.replace(made, claims=claims)


def passes(made: Proposal, test: CountTest, seed: tuple[int, ...]) -> bool:
    """Some claim does."""
    refused = verdict(made, test, test.draws, seed).refused
    return any((claim.made & ~refused.get(name, np.zeros_like(claim.made))).any() for name, claim in made.claims.items())


def accepted(made: Proposal, test: CountTest, repetitions: int) -> float:
    """The share of repetitions in which some claim passes."""
    return sum(passes(made, test, (1, r)) for r in range(repetitions)) / repetitions


def honest(draws: int) -> tuple[Proposal, CountTest]:
    made = planted(propose(small(), True, 256, 2.0, {}, (0,)), 0.999)
    tests = sum(int(claim.made.sum()) for claim in made.claims.values())
    return made, count_test(draws, ETA / tests, tests, 200)


def test_a_scale_that_is_claimed_too_small_passes_as_rarely_as_promised() -> None:
    made, test = honest(128)
    assert accepted(made, test, REPETITIONS) <= ETA


@pytest.mark.parametrize("wrong", ["quantile", "draws", "count", "union"])
def test_planted_lies_about_the_test_are_seen(wrong: str) -> None:
    """A limit for which `least` was not worked out; a quarter of the draws that the test was worked out for; a smaller count; a chance
    for each claim that is that of all."""
    made, test = honest(128)
    lies = {
        "quantile": dataclasses.replace(test, limit=1.4 * test.limit),
        "draws": dataclasses.replace(test, draws=test.draws // 4, least=test.least // 4),
        "count": dataclasses.replace(test, least=round(0.8 * test.least)),
        "union": count_test(128, 5.0 * ETA, 1, 200),
    }
    assert accepted(made, lies[wrong], 1000) > 2.0 * ETA


def test_attempts_that_spend_nothing_are_seen() -> None:
    """The same false claim, tried again until it passes: a hundred attempts are wrong far more often than one may be."""
    made, _ = honest(128)
    rows = np.arange(made.claims["y"].scale.size).reshape(made.claims["y"].scale.shape)
    made.claims = {"y": Claim(made.claims["y"].scale, rows == 0)}
    test, chance = count_test(128, 10.0 * ETA, 1, 200), 10.0 * ETA
    once = [passes(made, test, (2, r, 0)) for r in range(2000)]
    again = [any(passes(made, test, (2, r, k)) for k in range(100)) for r in range(100)]
    assert np.mean(once) <= chance
    assert np.mean(again) > 2.0 * chance


def pushes(made: Proposal, target: str, count: int, seed: tuple[int, ...]) -> Array:
    """The draws that the second phase counts at `target`, (count, *shape)."""
    walk = Draws(made.problem, count, seed)
    for step in made.problem.steps:
        linear = made.maps.get(step.output)
        pushed = None if linear is None else walk.pushed(step, linear)
        if step.output == target and pushed is not None:
            return pushed
        if step.output in made.drawn:
            walk.hold(step.output, pushed, made.drawn[step.output])
        walk.release(step)
    raise AssertionError(target)


def test_phases_that_share_their_draws_are_seen() -> None:
    """The least scale that the testing draws themselves accept passes always, and where it is false, fresh draws would have said so."""
    made = propose(small(), True, 256, 2.0, {}, (0,))
    test, scales = count_test(64, 0.2, 1, 200), exact_scales(made, "y")
    rows = np.arange(scales.size).reshape(scales.shape)
    shared = fresh = wrong = 0
    for r in range(2000):
        fitted = np.sort(np.abs(pushes(made, "y", 64, (3, r, 0))), axis=0)[test.least - 1][None] / test.limit * (1.0 + 1e-9)
        for element in np.flatnonzero(fitted < scales):
            made.claims = {"y": Claim(fitted, rows == element)}
            wrong += 1
            shared += not verdict(made, test, 64, (3, r)).refused
            fresh += not verdict(made, test, 64, (4, r)).refused
    assert wrong > 100
    assert shared == wrong
    assert fresh <= 0.2 * wrong


def coverage(repetitions: int, slack: float) -> float:
    """How often all claims pass though one is false, both phases anew each time."""
    problem, wrong = small("fp16", "Tanh", (4, 10, 10, 10, 3)), 0
    test = count_test(64, ETA / 20, 20, 200)
    for r in range(repetitions):
        made = propose(problem, True, 64, slack, {}, (0, r, 0))
        wrong += not verdict(made, test, test.draws, (1, r)).refused and false(made)
    return wrong / repetitions


@pytest.mark.parametrize("slack", [1.3, 4.0])
def test_all_claims_that_pass_hold_but_for_eta(slack: float) -> None:
    """With a slack that makes most proposals false, and with one that lets many pass."""
    assert coverage(500, slack) <= ETA


def narrowed_below(test: CountTest, repetitions: int) -> float:
    """How often some claim, all true, is narrowed below what it is about."""
    made = planted(propose(small(), True, 256, 2.0, {}, (0,)), 3.0)
    wrong = 0
    for r in range(repetitions):
        shares = verdict(made, test, test.draws, (5, r)).shares
        wrong += any((shares[name] * 3.0 < 1.0).any() for name in made.claims)
    return wrong / repetitions


def test_claims_are_narrowed_no_further_than_what_they_are_about() -> None:
    """Nor by choosing among many shares: what passes at a smaller one passes at every larger one."""
    _, test = honest(128)
    assert narrowed_below(test, 2000) <= ETA
    assert narrowed_below(dataclasses.replace(test, least=round(0.72 * test.least)), 300) > 3.0 * ETA


def test_narrowing_gains_and_holds() -> None:
    """Tubes that were claimed lie inside the proposed ones, and above what rows say over the very same tubes."""
    problem = small("fp16", "Tanh", (6, 24, 24, 24, 24, 3))
    made = propose(problem, True, 1024, 2.5, {}, (0,))
    found = verdict(made, count_test(1024, 1e-9, 200, 400), 64, (1,))
    assert not found.refused
    assert min(float(share.min()) for share in found.shares.values()) < 0.8
    caps = caps_of(made, found)
    one = settled(problem, True, caps, made.claims)
    for name in made.claims:
        assert (one.state.tubes[name] <= made.state.tubes[name]).all(), name
        assert (rows_of(one, name) <= one.state.tubes[name].reshape(-1)).all(), name
    lied = settled(problem, True, {name: 0.3 * cap for name, cap in caps.items()}, made.claims)
    assert any((rows_of(lied, name) > lied.state.tubes[name].reshape(-1)).any() for name in made.claims)


def rows_of(one: Proposal, name: str) -> Array:
    """Bounds of every element by rows."""
    return one.units(name, np.arange(one.state.tubes[name].size))
