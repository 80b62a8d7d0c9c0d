"""Bounds that hold if roundings have mean zero: two norms of a row, Azuma's inequality, runs whose roundings really have mean zero."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import cache
from itertools import pairwise, product
from typing import Any

import mpmath
import numpy as np
import pytest

from certify.analysis.problem import Problem
from certify.engines import adjoint, probabilistic
from certify.engines.contract import ErrorBound, Guarantee
from certify.engines.fluctuation import Fluctuating, quantile
from certify.engines.multipliers import gamma_bound
from certify.engines.sketch import norms
from certify.engines.sketch import solve as sketch
from certify.engines.sketch.counts import count_test
from certify.engines.sketch.draws import Draws, standard_normal
from certify.engines.sketch.likely import LikelyProposal, caps_of, sizes_of
from certify.engines.sketch.norms import NormTest, norm_test
from certify.engines.sketch.proposal import passed
from certify.engines.sketch.verify import verdict
from certify.engines.sweep import Sweep
from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to, ulp
from certify.number.upward import Array
from tests.engines.networks import perceptron, problems
from tests.engines.test_adjoint import adversary

REPETITIONS = 10_000
ETA = 1e-2


@cache
def small(
    dtype: str = "fp16", activation: str = "Tanh", widths: tuple[int, ...] = (6, 16, 16, 16, 3), seed: int = 1, profile: str = "wide"
) -> Problem:
    x = np.random.default_rng(seed).uniform(-1, 1, size=(1, 1, widths[0]))
    return problems(perceptron(list(widths), activation, seed), dtype, x, profile)[0].case(0)


def proposed(problem: Problem, draws: int = 256, boost: float = 2.0, seed: int = 0) -> LikelyProposal:
    made = LikelyProposal(
        problem,
        Fluctuating(problem),
        draws=Draws(problem, draws, (seed, 1)),
        slack=3.0,
        normal=Draws(problem, draws, (seed, 2), standard_normal),
        quantile=quantile(200, ETA),
        paid=20.0 / norms.PHI,
        boost=boost,
    )
    passed(made, "", None)
    return made


def exact_sizes(made: LikelyProposal, name: str) -> Array:
    """What a claim of this step is about: the root of the sum of (multiplier times what is drawn)^2 over everything before the step."""
    shape = made.problem.values[name].shape
    rows = np.eye(int(np.prod(shape))).reshape(-1, *shape[1:])
    total = np.zeros(rows.shape[0])
    for ancestor, a in made.multipliers(made.ancestors(name), name, rows):
        if ancestor != name and ancestor in made.strewn:
            total += (a.reshape(rows.shape[0], -1) ** 2) @ made.strewn[ancestor].reshape(-1) ** 2
    return np.sqrt(total).reshape(shape)


@pytest.mark.parametrize("claims", [1, 1000, 10**7])
@pytest.mark.parametrize("eta", [1e-2, 1e-9])
def test_the_quantile_is_azumas(claims: int, eta: float) -> None:
    with mpmath.workdps(30):
        found = mpmath.mpf(quantile(claims, eta))
        assert 2 * claims * mpmath.exp(-(found**2) / 2) <= eta
        assert 2 * claims * mpmath.exp(-((found * (1 - mpmath.mpf(1e-11))) ** 2) / 2) > eta


@pytest.mark.parametrize("draws", [64, 512])
@pytest.mark.parametrize("chance", [1e-3, 1e-17])
def test_a_limit_leaves_no_more_than_its_chance(draws: int, chance: float) -> None:
    """The quantile of chi^2 and the constants of docs/probabilistic.md, worked out anew."""
    test = norm_test(draws, chance, 1000, 10**6)
    with mpmath.workdps(40):
        phi, b = mpmath.mpf(norms.PHI), mpmath.mpf(norms.B)
        off = (2 * b * phi + 2**15 * mpmath.mpf(norms.DRAWN) * b) / (1 - 2 * phi)
        assert off <= norms.OFF <= off * mpmath.mpf("1.000001")
        large = 2 * mpmath.ncdf(-b)
        assert large * 10**6 <= norms.lapse(10**6)
        # s > R is let pass if |computed draws| <= R/factor, so if |chi| <= 1/factor + off sqrt(m)
        edge = (1 / mpmath.mpf(test.factor) + off * mpmath.sqrt(draws)) ** 2
        assert mpmath.gammainc(draws / 2, 0, edge / 2, regularized=True) + norms.lapse(draws * 10**6) <= chance
        lied = (1 / (mpmath.mpf("0.99") * test.factor) + off * mpmath.sqrt(draws)) ** 2
        assert mpmath.gammainc(draws / 2, 0, lied / 2, regularized=True) > chance


def test_more_draws_are_more_powerful_and_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        norm_test(1, 1e-17, 1000, 10)
    powers = [norm_test(m, 1e-15, 1000, 2000).power for m in (64, 256, 1024)]
    assert powers == sorted(powers, reverse=True)
    assert 1.2 < powers[-1] < 1.5


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_draws_estimate_the_exact_size(dtype: str, activation: str) -> None:
    made = proposed(small(dtype, activation), 4096, 1.0)
    assert any(told.any() for told in made.told.values())
    for name, told in made.told.items():
        assert np.allclose(made.sizes[name][told], exact_sizes(made, name)[told], rtol=0.1)
        assert (made.sizes[name][~told] >= 0.9 * exact_sizes(made, name)[~told]).all()  # worked out from what is claimed before


def test_what_is_drawn_covers_what_is_born() -> None:
    made = proposed(small())
    state = made.state
    assert isinstance(state, Fluctuating)
    for name, strewn in made.strewn.items():
        assert (strewn >= state.sigma.get(name, 0.0)).all()
        assert (made.drawn[name] >= made.quiet[name] + (state.bias[name] if name in state.sigma else state.local[name])).all()
        assert (made.norms[name] >= np.hypot(made.sizes.get(name, 0.0), strewn)).all()


def test_what_is_concluded_is_no_less_than_the_proof_asks() -> None:
    """In exact arithmetic: what pays for pushes, limits from the very draws, and the caps that tests leave."""
    made, test = proposed(small("fp16", "Tanh", (6, 24, 24, 24, 3))), norm_test(64, 1e-9, 200, 400)
    for name, least in made.least.items():
        gains = made.maps[name].magnitude([None if x is None else made.norms.get(x) for x in made.steps[name].operands])
        assert (least >= gamma_bound(made.maps[name].terms + 6) * gains * made.paid * (1.0 - 1e-12)).all()
    limits, walk = sizes_of(made, test, 64, (9,)), Draws(made.problem, 64, (9, 0), standard_normal)
    for step in made.problem.steps:
        pushed = walk.pushed(step, made.maps[step.output]) if step.output in made.maps else None
        told = made.told.get(step.output)
        if pushed is not None and told is not None and told.any():
            sums = np.array([sum((Fraction(x) ** 2 for x in column), Fraction(0)) for column in pushed.reshape(64, -1).T])
            said = limits[step.output].reshape(-1)[told.reshape(-1)]
            for square, limit in zip(sums[told.reshape(-1)], said, strict=True):
                assert 1 <= Fraction(limit) ** 2 / (square * Fraction(test.factor) ** 2) < Fraction(1000001, 1000000)
        walk.hold(step.output, pushed, made.strewn[step.output])
        walk.release(step)
    found = verdict(made, count_test(1024, 1e-9, 200, 400), 64, (1,))
    for name, cap in caps_of(made, found, limits).items():
        claim = made.claims.get(name)
        share = found.shares.get(name, np.ones(cap.shape))
        scale = made.reaches[name] if claim is None else np.where(claim.made, claim.scale * share, made.reaches[name])
        parts = (
            np.abs(made.centres.get(name, np.zeros(cap.shape))),
            scale,
            made.quiet[name],
            made.quantile * limits.get(name, made.sizes[name]),
        )
        least = sum(np.broadcast_to(x, cap.shape) for x in parts)
        assert (cap >= least * (1.0 - 1e-14)).all()
        assert (cap <= least * (1.0 + 1e-12) + 1e-300).all()


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
def test_functionals_add_up_what_they_say(activation: str) -> None:
    """The best of all sets that may be counted in whole, step by step in another way; a billionth less would be seen."""
    problem = small("bf16", activation, (6, 48, 48, 3))
    bound, sweep = adjoint.solve(problem)
    state, found = sweep.state, bound.likely["y"]
    assert isinstance(state, Fluctuating)
    for element in range(3):
        row = np.zeros(problem.values["y"].shape)
        row.reshape(-1)[element] = 1.0
        steady, sources = Fraction(0), []
        for name, a in sweep.multipliers(sweep.ancestors("y"), "y", row):
            weights, noise = [Fraction(x) for x in np.abs(a).reshape(-1)], np.broadcast_to(sweep.noise[name], a.shape).reshape(-1)
            whole = sum((w * Fraction(x) for w, x in zip(weights, noise, strict=True)), Fraction(0))
            if name not in state.sigma:
                steady += whole
                continue
            quiet, bias, sigma = (np.broadcast_to(x, a.shape).reshape(-1) for x in (sweep.quiet[name], state.bias[name], state.sigma[name]))
            rest = sum((w * (Fraction(q) + Fraction(b)) for w, q, b in zip(weights, quiet, bias, strict=True)), Fraction(0))
            sources.append((whole, rest, sum(((w * Fraction(x)) ** 2 for w, x in zip(weights, sigma, strict=True)), Fraction(0))))
        steady += abs(Fraction(float(np.ravel(sweep.centres["y"])[element]))) if "y" in sweep.centres else 0
        sets = [
            (steady + sum(source[0 if counted else 1] for source, counted in zip(sources, chosen, strict=True)),
             sum((source[2] for source, counted in zip(sources, chosen, strict=True) if not counted), Fraction(0)))
            for chosen in product((False, True), repeat=len(sources))
        ]  # fmt: skip
        said = (float(np.ravel(found.steady)[element]), float(np.ravel(found.deviation)[element]))
        below = [s for s, square in sets if Fraction(said[0]) >= s and Fraction(said[1]) ** 2 >= square]
        assert below
        assert said[0] <= float(max(below)) * (1.0 + 1e-9)


def test_a_martingale_is_no_smaller_than_what_both_parts_leave_it() -> None:
    """Of an error within 0.9, of which 0.3 may be anything, the rest may be 1.0."""
    problem = small()
    state, step = Fluctuating(problem), problem.steps[0]
    shape = problem.values[step.output].shape
    state._split(step, np.full(shape, 0.9), np.full(shape, 0.3), np.ones(shape))
    assert (state.sigma[step.output] == 1.0).all()
    state._split(step, np.full(shape, 0.9), np.zeros(shape), np.ones(shape))
    assert ((state.sigma[step.output] >= 0.9) & (state.sigma[step.output] < 0.901)).all()


def test_an_unknown_word_on_roundings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small("fp16", "Relu")
    monkeypatch.setattr(type(problem.steps[0].rule), "errors", lambda self, **attributes: "ones")
    with pytest.raises(ValueError, match="'ones' says nothing of roundings"):
        adjoint.solve(problem)


def too_small(made: LikelyProposal, test: NormTest, repetitions: int) -> float:
    """How often some limit is below what it limits."""
    exact = {name: exact_sizes(made, name) for name in made.told}
    wrong = 0
    for r in range(repetitions):
        limits = sizes_of(made, test, test.draws, (7, r))
        wrong += any((limit < exact[name])[made.told[name]].any() for name, limit in limits.items())
    return wrong / repetitions


def honest(draws: int) -> tuple[LikelyProposal, NormTest]:
    made = proposed(small())
    tests = sum(int(told.sum()) for told in made.told.values())
    return made, norm_test(draws, ETA / tests, tests, 200)


def test_limits_are_too_small_as_rarely_as_promised() -> None:
    made, test = honest(64)
    assert too_small(made, test, REPETITIONS) <= ETA


@pytest.mark.parametrize("wrong", ["factor", "draws", "union"])
def test_planted_lies_about_limits_are_seen(wrong: str) -> None:
    """A factor that is a tenth less; fewer draws than the test was worked out for; a chance for each that is that of all."""
    made, test = honest(64)
    lies = {
        "factor": dataclasses.replace(test, factor=0.9 * test.factor),
        "draws": dataclasses.replace(norm_test(256, ETA / 50, 50, 200), draws=64),
        "union": norm_test(64, 5.0 * ETA, 1, 200),
    }
    if wrong == "draws":
        lies["draws"] = dataclasses.replace(test, draws=56)
    assert too_small(made, lies[wrong], 1000) > 2.0 * ETA


def noisy(problem: Problem, sweep: Sweep, runs: int, seed: int, scale: float = 1.0) -> dict[str, Array]:
    """Deviations of runs, (runs, *shape) by value: the worst that is assumed. What may be anything is as an adversary of the first output
    chooses it; every rounding of mean zero is as large as it may be, with a random sign."""
    draw, state = np.random.default_rng(seed), sweep.state
    assert isinstance(state, Fluctuating)
    values = {name: X.lo for name, X in problem.values.items() if name not in problem.produced}
    signs = adversary(sweep, "y", 0)
    for step in problem.steps:
        operands = [None if name is None else values[name] for name in step.operands]
        y = np.asarray(step.rule.value(*operands, **step.attributes))
        y = np.broadcast_to(y, (runs, *y.shape[1:]))
        bias = state.bias[step.output] if step.output in state.sigma else state.local[step.output]
        sigma = np.broadcast_to(state.sigma.get(step.output, 0.0), problem.values[step.output].shape)
        values[step.output] = y + signs[step.output] * bias + scale * sigma * draw.choice([-1.0, 1.0], y.shape)
    return {step.output: np.abs(values[step.output] - problem.values[step.output].lo) for step in problem.steps}


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_the_worst_noise_of_mean_zero_stays_inside_but_for_eta(dtype: str, activation: str) -> None:
    problem = small(dtype, activation, (6, 256, 256, 3))
    bound, sweep = adjoint.solve(problem)
    found = probabilistic.likely(bound, problem, ETA)
    assert found is not None
    assert found.guarantee == Guarantee.PROBABILISTIC
    assert (found.outputs["y"] < bound.outputs["y"]).all()
    seen = noisy(problem, sweep, REPETITIONS, 5)["y"]
    assert np.mean((seen > found.outputs["y"]).any(axis=(1, 2))) <= ETA
    more = noisy(problem, sweep, 1000, 5, 4.0)["y"]  # as if variances were a sixteenth of what they are
    assert np.mean((more > found.outputs["y"]).any(axis=(1, 2))) > 2.0 * ETA


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_no_tube_is_left_but_for_eta(dtype: str, activation: str) -> None:
    """Tubes that hold only with probability, at every step."""
    problem = small(dtype, activation, (6, 24, 24, 24, 24, 3))
    bound, sweep = probabilistic.solve(problem, ETA, (3,))
    assert bound.guarantee == Guarantee.PROBABILISTIC
    if not np.isfinite(bound.outputs["y"]).all():
        return
    seen = noisy(problem, sweep, 2000, 6)
    left = np.zeros(2000, dtype=bool)
    for name, deviation in seen.items():
        left |= (deviation > sweep.state.tubes.get(name, 0.0)).reshape(2000, -1).any(axis=1)
    left |= (seen["y"] > bound.outputs["y"]).any(axis=(1, 2))
    assert np.mean(left) <= ETA
    narrow = {name: 0.2 * tube for name, tube in sweep.state.tubes.items()}
    assert any((seen[name] > tube).any() for name, tube in narrow.items())


def round_randomly(x: Array, format: Format, draw: np.random.Generator) -> Array:
    """Stochastic rounding: to one of the two numbers around each element, with mean zero."""
    below = round_to(x, format, "zero")
    step = np.copysign(ulp(np.abs(below), format), x)
    return np.where(draw.random(x.shape) < np.where(x == below, 0.0, (x - below) / step), below + step, below)


def stochastic(problem: Problem, runs: int, seed: int) -> Array:
    """Deviations of y of runs in which every rounding is stochastic, to one bit more than fp16 has: mean zero, and at most half an ulp.

    Sums one after another; tanh to nearest.
    """
    draw, format = np.random.default_rng(seed), dataclasses.replace(FORMATS["fp16"], precision=12)
    values = {name: X.lo for name, X in problem.values.items() if name not in problem.produced}
    for step in problem.steps:
        x = [values[name] for name in step.operands if name is not None]
        if step.kind != "Gemm":
            y = step.rule.value(*x, **step.attributes)
            values[step.output] = round_randomly(np.broadcast_to(y, (runs, *y.shape[1:])), format, draw)
            continue
        a, w, total = x[0], x[1], np.zeros((runs, *problem.values[step.output].shape[1:]))
        for k in range(w.shape[1]):
            product = np.broadcast_to(a[:, :, k, None] * w[:, None, k, :], total.shape)
            total = round_randomly(total + round_randomly(product, format, draw), format, draw)
        values[step.output] = round_randomly(total + x[2], format, draw)
    return np.abs(values["y"] - problem.values["y"].lo)


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
def test_stochastic_rounding_stays_inside(activation: str) -> None:
    """Where the assumption holds exactly; and roundings to nearest, where it does not."""
    problem = small("fp16", activation, profile="ieee")
    bound, _ = adjoint.solve(problem)
    found = probabilistic.likely(bound, problem, ETA)
    assert found is not None
    seen = stochastic(problem, 4000, 1)
    assert np.mean((seen > found.outputs["y"]).any(axis=(1, 2))) <= ETA
    assert (seen > 0.03 * found.outputs["y"]).any()


def first_order_by_hand(problem: Problem, times: float) -> Array:
    """lambda times the root of all squares, over exact linear maps at the values, plus the biases."""
    one = Sweep(problem, Fluctuating(problem, rounding=True))
    for step in problem.steps:
        one.enter(step, 0.0)
    state = one.state
    assert isinstance(state, Fluctuating)
    rows = np.eye(problem.values["y"].lo.size).reshape(-1, *problem.values["y"].shape[1:])
    steady, square = np.zeros(rows.shape[0]), np.zeros(rows.shape[0])
    for name, a in one.multipliers(one.ancestors("y"), "y", rows):
        flat = np.abs(a).reshape(rows.shape[0], -1)
        if name in state.sigma:
            steady += flat @ state.bias[name].reshape(-1)
            square += flat**2 @ np.broadcast_to(state.sigma[name], problem.values[name].shape).reshape(-1) ** 2
        elif name in state.local:
            steady += flat @ state.local[name].reshape(-1)
    return np.asarray(steady + times * np.sqrt(square))


def test_the_first_order_is_what_it_says() -> None:
    """Of a network of linear layers the remainder is nothing, so that it is the probabilistic bound."""
    problem = small("fp32", "Identity")
    first, _ = probabilistic.first_order(problem, ETA, (0,))
    assert first.guarantee == Guarantee.FIRST_ORDER
    by_hand = first_order_by_hand(problem, quantile(3, 0.5 * ETA))
    assert np.allclose(first.outputs["y"].reshape(-1), by_hand, rtol=1e-3) or (first.outputs["y"].reshape(-1) < by_hand).all()
    assert (first.outputs["y"].reshape(-1) > 0.3 * by_hand).all()


def test_the_first_order_answers_where_nothing_closes() -> None:
    problem = small("fp8e4m3", "Sigmoid", (6, 24, 24, 24, 24, 24, 3))
    bound, _ = probabilistic.solve(problem, ETA, (0,))
    first, _ = probabilistic.first_order(problem, ETA, (0,))
    assert np.isfinite(first.outputs["y"]).all()
    assert (first.outputs["y"] < bound.outputs["y"]).all()


def test_outputs_with_too_many_rows_are_answered_by_draws() -> None:
    """Both for tubes that hold and to first order: above the rows' own, within the tests' power."""
    for dtype in ("fp32", "fp16"):
        problem = small(dtype, "Tanh", (6, 24, 24, 24, 24, 3))
        for solve in (probabilistic.solve, probabilistic.first_order):
            rows, draws = (solve(problem, 1e-9, (0,), output_limit=limit)[0].outputs["y"] for limit in (np.inf, 0.0))
            assert (draws >= 0.99 * rows).all()
            assert (draws < 4.0 * rows).all()


def test_truncated_contractions_stay_worst_case() -> None:
    """On tensor cores nothing is known of a contraction but its bound; to nearest, the same network gains."""
    gains = []
    for profile in ("wide", "tensor-core-h100"):
        problem = small("fp32" if profile == "wide" else "tf32", "Relu", profile=profile)
        bound, sweep = adjoint.solve(problem)
        state = sweep.state
        assert isinstance(state, Fluctuating)
        gemms = [step for step in problem.steps if step.rule.name == "Gemm" and step.kind == "Gemm"]
        assert gemms
        for step in gemms:
            fluctuates = step.output in state.sigma
            assert fluctuates == (profile == "wide")
        found = probabilistic.likely(bound, problem, ETA)
        gains.append(1.0 if found is None else float((bound.outputs["y"] / found.outputs["y"]).max()))
    assert gains[0] > 1.5 > gains[1] >= 1.0


def test_the_same_seed_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small()
    first, _ = probabilistic.solve(problem, 1e-6, (4,))
    monkeypatch.setattr("certify.engines.parallel._limit", 1)
    again, _ = probabilistic.solve(problem, 1e-6, (4,))
    assert np.array_equal(first.outputs["y"], again.outputs["y"])


def test_what_is_refused_is_raised_and_tested_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boost that proposes far too little is doubled until fresh draws accept; every attempt spends half of what is left."""
    seen: list[Any] = []
    real = probabilistic.norm_test

    def watched(draws: int, chance: float, tests: int, numbers: int) -> NormTest:
        seen.append(chance)
        return dataclasses.replace(real(draws, chance, tests, numbers), power=0.4)

    monkeypatch.setattr(probabilistic, "norm_test", watched)
    bound, _ = probabilistic.solve(small(), 1e-6, (0,))
    seen = list(dict.fromkeys(seen))  # a proposal knows the test that it will be put to
    assert len(seen) > 1
    assert all(later == 0.5 * earlier for earlier, later in pairwise(seen))
    assert np.isfinite(bound.outputs["y"]).all()


def total(found: ErrorBound) -> Array:
    return found.outputs["y"]


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("seed", range(3))
def test_weaker_guarantees_are_never_larger_over_the_same_tubes(dtype: str, seed: int) -> None:
    problem = small(dtype, "Tanh", (5, 12, 12, 4), seed)
    for bound, _ in (adjoint.solve(problem), sketch.solve(problem, 1e-9, (seed,))):
        likely = probabilistic.likely(bound, problem, 1e-9)
        assert likely is not None
        assert (total(likely) <= total(bound)).all()
        assert likely.guarantee >= bound.guarantee


def test_what_is_likely_is_the_sum_of_its_parts() -> None:
    """In exact arithmetic, with this very quantile."""
    problem = small("bf16", "Tanh", (6, 256, 256, 3))
    bound, _ = adjoint.solve(problem)
    found, known, times = probabilistic.likely(bound, problem, 1e-9), bound.likely["y"], Fraction(quantile(3, 1e-9))
    assert found is not None
    for kind, steady in (("outputs", known.steady), ("apart", known.apart)):
        told, whole = getattr(found, kind)["y"].reshape(-1), getattr(bound, kind)["y"].reshape(-1)
        for x, most, rest, deviation in zip(told, whole, steady.reshape(-1), known.deviation.reshape(-1), strict=True):
            assert Fraction(x) >= min(Fraction(most), Fraction(rest) + times * Fraction(deviation))
        assert (told < whole).all()


def test_every_round_of_narrowing_has_its_share_of_the_tubes() -> None:
    """2 N exp(-lambda^2 / 2) for each of the first claims and of as many rounds: a quarter of eta together."""
    problem = small()
    search = probabilistic._Search(problem, 1e-6, (0,), None)
    claims = sum(problem.values[step.output].lo[0].size for step in problem.steps) * (1 + probabilistic.ROUNDS)
    with mpmath.workdps(30):
        assert 2 * claims * mpmath.exp(-(mpmath.mpf(search.quantile) ** 2) / 2) <= mpmath.mpf(1e-6) / 4
