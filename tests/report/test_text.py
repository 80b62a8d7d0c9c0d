"""The report on a terminal, against golden files (CERTIFY_GOLDEN=write renews them), and its numbers, exactly."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from certify.certificate.build import document
from certify.report import text, words
from tests.report import samples

GOLDEN = Path(__file__).parent / "golden"


def rendered(name: str, verbose: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=100, no_color=True, highlight=False)
    text.render(document(samples.ALL[name]()), console, verbose)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("name", samples.ALL)
def test_golden(name: str) -> None:
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("CERTIFY_GOLDEN") == "write":
        golden.write_text(rendered(name), encoding="utf-8")
    assert rendered(name) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("certified", "CERTIFIED"), ("exceeded", "EXCEEDED"), ("no_finite_bound", "NO FINITE BOUND"), ("alarm", "ALARM")],
)
def test_the_verdict_comes_first(name: str, verdict: str) -> None:
    assert verdict in rendered(name).splitlines()[1]


def test_a_default_domain_is_said_aloud() -> None:
    assert "a default that nobody chose" in rendered("exceeded")
    assert "a default that nobody chose" not in rendered("certified")


def test_verbose_shows_every_contributing_node() -> None:
    assert rendered("certified").count("MatMul") == 9 * 2  # node and operator; the tenth row is the Gemm
    assert rendered("certified", verbose=True).count("MatMul") == 11 * 2


def test_quiet_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text.print_text(document(samples.exceeded()), quiet=True, color=False)
    assert capsys.readouterr().out == (
        "✘ EXCEEDED models/net.onnx: bf16, largest bound 9.375e-2 (proved); budget rel:1e-2: the bound is 1.633e-1\n"
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_printed_bounds_are_never_below_and_margins_never_above(x: float) -> None:
    assert Fraction(words.above(x)) >= Fraction(x) >= Fraction(words.below(x))
    assert Fraction(words.above(x)) - Fraction(words.below(x)) <= abs(Fraction(x)) / 1000


def test_numbers_without_digits() -> None:
    assert (words.above(float("inf")), words.below(-float("inf")), words.near(float("nan")), words.above(0.0)) == ("∞", "-∞", "NaN", "0")
