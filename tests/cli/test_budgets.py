"""Budgets gate a bundled model end to end: 0 within, 1 exceeded, 3 where a budget asks for a bound that can't be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certify.cli.main import main

MODEL = "models/digits_mlp.onnx"


def gate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, list[object]]]:
    """Exit code, and by budget its verdict and value."""
    code = main([MODEL, "--no-validate", "--json", *arguments])
    found = json.loads(capsys.readouterr().out)["gate"]
    assert found["exit_code"] == code
    return code, {row["spec"]: [row["verdict"], row["value"]] for row in found["budgets"]}


@pytest.fixture(autouse=True)
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr("certify.cli.progress.DELAY", 60.0)


POINTS = ("--range", "0:1", "--samples", "2")
HELD_OUT = ("--data", "models/digits_mlp.npz")


@pytest.mark.parametrize("spec", ["{}", "logits={}", "rel:{}", "logits=rel:{}"])
def test_a_budget_of_the_bound_itself_is_kept_and_any_less_exceeded(capsys: pytest.CaptureFixture[str], spec: str) -> None:
    _, found = gate(capsys, "--dtype", "bf16", *POINTS, "--budget", spec.format("1e9"))
    ((verdict, value),) = found.values()
    assert verdict == "within"
    assert isinstance(value, float)
    for limit, code, expected in ((value, 0, "within"), (value * (1 - 1e-15), 1, "exceeded")):
        budget = spec.format(repr(limit))
        assert gate(capsys, "--dtype", "bf16", *POINTS, "--budget", budget) == (code, {budget: [expected, value]})


@pytest.mark.parametrize("spec", ["1e-2", "rel:1e-2", "logits=1e-2", "logits=rel:1e-2"])
def test_no_finite_bound_is_no_answer(capsys: pytest.CaptureFixture[str], spec: str) -> None:
    """fp8e4m3 ends at 448."""
    code, found = gate(capsys, "--dtype", "fp8e4m3", "--range", "300:400", "--samples", "1", "--budget", spec)
    assert code == 3
    assert found == {spec: ["no finite bound", "inf"]}


def test_without_a_budget_an_infinite_bound_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(capsys, "--dtype", "fp8e4m3", "--range", "300:400", "--samples", "1") == (0, {})


@pytest.mark.parametrize("spec", ["argmax", "logits=argmax"])
def test_decisions_of_the_held_out_digits(capsys: pytest.CaptureFixture[str], spec: str) -> None:
    """fp16 keeps every decision, by proof; fp8 leaves some open; infinite bounds leave all without answer."""
    assert gate(capsys, "--dtype", "fp16", *HELD_OUT, "--budget", spec) == (0, {spec: ["within", 0.0]})
    code, found = gate(capsys, "--dtype", "fp8e5m2", *HELD_OUT, "--budget", spec)
    assert (code, found[spec][0]) == (1, "exceeded")
    assert 0 < float(str(found[spec][1])) <= 50
    code, found = gate(capsys, "--dtype", "fp8e4m3", "--range", "300:400", "--samples", "2", "--budget", spec)
    assert (code, found) == (3, {spec: ["no finite bound", 2.0]})


def test_every_budget_is_judged_and_the_worst_decides(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = gate(capsys, "--dtype", "bf16", *POINTS, "--budget", "1e9", "--budget", "rel:1e-9", "--budget", "logits=1e9")
    assert code == 1
    assert [verdict for verdict, _ in found.values()] == ["within", "exceeded", "within"]


def test_the_text_names_the_budget_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([MODEL, "--dtype", "bf16", "--no-validate", *POINTS, "--budget", "rel:1e-9", "--no-color"]) == 1
    out = capsys.readouterr().out
    assert "EXCEEDED" in out
    assert "rel:1e-9" in out
