"""Which engines bound a case, how what they find is merged, and the ladder of guarantees."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import certify
from certify.cli.main import main
from certify.engines import adjoint, methods
from certify.engines.answer import _ladder
from certify.engines.contract import Guarantee
from tests.engines.networks import perceptron

NETWORK = perceptron([6, 24, 24, 24, 24, 3], "Tanh", 1)
X = np.random.default_rng(0).uniform(-1, 1, (3, 1, 6)).astype(np.float32)


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows for tubes are not affordable: the adjoint keeps running tubes."""
    monkeypatch.setattr(adjoint, "solve", functools.partial(adjoint.solve, work_limit=0.0))


def certified(**options: Any) -> certify.Certificate:
    return certify.certify(NETWORK, dtype="bf16", data={"x": X}, **options)


@pytest.mark.usefixtures("dear")
def test_the_automatic_engine_sketches_where_rows_are_dear() -> None:
    found = certified(seed=5, eta=1e-6)
    assert found.guarantee == Guarantee.RANDOMIZED
    assert found.failure_probability == 1e-6
    assert found.gate is not None
    assert found.gate.verdict == "certified"
    ladder = found.outputs["y"].ladder
    assert list(ladder)[:3] == ["proved", "randomized", "probabilistic"]
    assert ladder["proved"] > 1.5 * ladder["randomized"]
    assert ladder["randomized"] == found.outputs["y"].absolute_bound.max()
    assert found.outputs["y"].observed_max is not None
    assert found.outputs["y"].observed_max <= ladder["randomized"]
    same = certified(seed=5, eta=1e-6).outputs["y"].absolute_bound
    assert np.array_equal(same, found.outputs["y"].absolute_bound)


@pytest.mark.usefixtures("dear")
def test_proved_alone_is_proved(tmp_path: Path) -> None:
    for options in ({"guarantee": "proved"}, {"outputs": [tmp_path / "a.witness"]}):
        found = certified(**options)
        assert found.guarantee == Guarantee.PROVED
        assert found.failure_probability == 0.0
        assert list(found.outputs["y"].ladder) == ["proved"]


def test_a_guarantee_that_some_case_lacks_is_no_rung() -> None:
    """By the sketch alone, a case without claims is proved and the others are randomized: nothing is proved of all."""
    half = {Guarantee.PROVED: {"y": 1.0}}
    other = {Guarantee.RANDOMIZED: {"y": 2.0}}
    assert _ladder("y", [half, other]) == {Guarantee.RANDOMIZED: 2.0}
    assert _ladder("y", [half, half | {Guarantee.RANDOMIZED: {"y": 0.5}}]) == {Guarantee.PROVED: 1.0, Guarantee.RANDOMIZED: 1.0}


def test_where_rows_are_cheap_tubes_are_not_drawn() -> None:
    found = certified()
    assert list(found.outputs["y"].ladder) == ["proved", "probabilistic", "sampled"]
    assert found.guarantee == Guarantee.PROVED
    assert found.outputs["y"].absolute_bound.max() == found.outputs["y"].ladder["proved"]


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid"])
def test_no_rung_of_the_ladder_is_above_a_stronger_one_or_below_what_was_observed(dtype: str, activation: str) -> None:
    """But for sampled runs, which are not of this very run."""
    for seed in range(2):
        network = perceptron([6, 40, 40, 3], activation, seed)
        output = certify.certify(network, dtype=dtype, data={"x": X}, seed=seed).outputs["y"]
        rungs = list(output.ladder.values())
        assert rungs == sorted(rungs, reverse=True)
        assert output.observed_max is not None
        assert all(bound >= output.observed_max for name, bound in output.ladder.items() if name != "sampled")
        assert output.ladder["sampled"] >= 0.2 * output.observed_max


@pytest.mark.parametrize("guarantee", ["probabilistic", "sampled"])
def test_a_guarantee_that_is_accepted_is_what_budgets_are_judged_by(guarantee: str) -> None:
    plain = certified()
    limit = 0.5 * (plain.outputs["y"].ladder["proved"] + plain.outputs["y"].ladder[guarantee])
    refused, accepted = certified(budgets=[f"{limit}"]), certified(budgets=[f"{limit}"], guarantee=guarantee)
    assert refused.gate is not None
    assert accepted.gate is not None
    assert (refused.gate.exit_code, accepted.gate.exit_code) == (1, 0)
    assert str(accepted.guarantee) == guarantee
    assert accepted.outputs["y"].absolute_bound.max() == pytest.approx(plain.outputs["y"].ladder[guarantee])
    assert accepted.failure_probability == (1e-9 if guarantee == "probabilistic" else pytest.approx(0.05))


def test_where_nothing_closes_the_next_guarantees_stand_beside_infinity() -> None:
    deep = perceptron([6, *[24] * 12, 3], "Sigmoid", 2)
    found = certify.certify(deep, dtype="fp8e4m3", data={"x": X[:1]})
    ladder = found.outputs["y"].ladder
    assert found.guarantee <= Guarantee.RANDOMIZED
    assert ladder["sampled"] < np.inf
    strong = [bound for name, bound in ladder.items() if name in ("proved", "randomized")]
    if np.inf in strong:
        assert found.lost
        assert "first order" in ladder or ladder["probabilistic"] < np.inf


@pytest.mark.usefixtures("dear")
def test_a_ladder_spends_no_more_than_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever engines ran, on all cases together."""
    spent: list[float] = []

    def counted(module: Any, name: str, place: int) -> None:
        real = getattr(module, name)

        def told(*given: Any, **named: Any) -> Any:
            spent.append(given[place])
            return real(*given, **named)

        monkeypatch.setattr(module, name, told)

    monkeypatch.setattr(methods, "_wanting", lambda found: True)
    counted(methods.sketch, "solve", 1)
    counted(methods.probabilistic, "solve", 1)
    counted(methods.probabilistic, "first_order", 1)
    beside = methods._beside

    def also(one: methods.Case, found: methods.Candidate) -> methods.Candidate | None:
        spent.append(one.eta)
        return beside(one, found)

    monkeypatch.setattr(methods, "_beside", also)
    certified(eta=1e-6)
    assert len(spent) >= 4 * len(X)
    assert sum(spent) <= 1e-6


@pytest.mark.parametrize("engine", ["probabilistic", "sampled"])
def test_the_weaker_engines_by_name(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = tmp_path / "net.onnx", tmp_path / "x.npz"
    onnx.save(NETWORK, model)
    np.savez(data, x=X)
    words = [str(model), "--dtype", "fp16", "--data", str(data), "--engine", engine, "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["guarantee"] == engine
    assert list(document["outputs"][0]["ladder"]) == [engine]
    assert document["validation"]["violations"] == 0
    assert main([*words[:-1], "--guarantee", "proved"]) == 3
    assert f"the bounds found are only {engine}" in capsys.readouterr().out


@pytest.mark.usefixtures("dear")
def test_draws_that_cost_too_much_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "SKETCH_LIMIT", 1.0)
    monkeypatch.setattr(methods, "RESCUE_LIMIT", 1.0)
    assert certified().guarantee == Guarantee.PROVED


def test_the_sketch_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = tmp_path / "net.onnx", tmp_path / "x.npz"
    onnx.save(NETWORK, model)
    np.savez(data, x=X)
    words = [str(model), "--dtype", "fp16", "--data", str(data), "--engine", "sketch", "--eta", "1e-7", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["guarantee"], document["failure_probability"]) == ("randomized", 1e-7)
    ladder = document["outputs"][0]["ladder"]
    assert ladder["randomized"] == document["outputs"][0]["bound"]["absolute_max"]
    assert set(ladder) == {"randomized", "probabilistic"}
    assert main([*words[:-1], "--guarantee", "proved"]) == 3
    assert "the bounds found are only randomized" in capsys.readouterr().out
    assert main([*words[:-1], "--budget", "1"]) == 0
    assert "which has probability at most 1e-07" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--engine", "sketch", "--region"], "--engine sketch certifies points"),
        (["--engine", "probabilistic", "--region"], "--engine probabilistic certifies points"),
        (["--engine", "sampled", "--region"], "--engine sampled certifies points"),
        (["--eta", "0"], "--eta: 0 is no probability"),
        (["--eta", "0.5"], "--eta: 0.5 is no probability"),
        (["--eta", "nan"], "--eta: nan is no probability"),
    ],
)
def test_options_that_make_no_sense(options: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "net.onnx"
    onnx.save(NETWORK, model)
    assert main([str(model), *options]) == 2
    assert named in " ".join(capsys.readouterr().err.split())
