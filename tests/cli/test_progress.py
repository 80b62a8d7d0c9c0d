"""Progress: nothing for a second, then the stage, its share and the time that is left."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest

from certify.cli.progress import AGAIN, Progress, Remaining, spoken


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_goes_on_as_before() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    assert remaining("pushing", 0.0) is None
    clock.now = 0.5
    assert remaining("pushing", 0.1) is None  # too early to say
    clock.now = 10.0
    assert remaining("pushing", 0.25) == pytest.approx(30.0)
    clock.now = 20.0
    assert remaining("pushing", 1.0) == 0.0
    assert remaining("pushing", None) is None


def test_a_stage_that_is_met_again_in_the_next_case_counts_what_came_between() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    for case in range(4):  # 10 s of one stage and 30 s of another, four times
        clock.now = 40.0 * case
        remaining("refining", case / 4)
        clock.now += 10.0
        left = remaining("refining", (case + 1) / 4)
    assert left == 0.0
    clock.now, remaining = 0.0, Remaining(clock)
    remaining("refining", 0.0)
    clock.now = 80.0
    assert remaining("refining", 0.5) == pytest.approx(80.0)


def test_a_stage_that_begins_anew_is_estimated_anew() -> None:
    clock = Clock()
    remaining = Remaining(clock)
    remaining("proposing", 0.0)
    clock.now = 100.0
    remaining("proposing", 1.0)
    assert remaining("proposing", 0.0) is None
    clock.now = 110.0
    assert remaining("proposing", 0.5) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (600.0, "10 min"), (3590.0, "1 h 0 min"), (5000.0, "1 h 23 min")]
)
def test_spoken(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(False, clock)
    progress("refining: one", 0.0)
    assert capsys.readouterr().err == ""  # not yet a second
    progress._appear()
    clock.now = 30.0
    progress("refining: two", 0.1)
    assert capsys.readouterr().err == "refining ...\n"
    clock.now = AGAIN
    progress("refining: three", 0.2)
    assert capsys.readouterr().err == "refining ... 20 %, about 4 min left\n"
    progress("testing", 0.0)
    assert capsys.readouterr().err == "testing ...\n"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    progress = Progress(False, clock)
    progress("refining", 0.0)
    clock.now = 30.0
    progress("refining", 0.5)
    progress._appear()
    progress.__exit__(None, None, None)
    assert "50 %, about 30 s left" in terminal.getvalue()


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(True) as progress:
        assert not progress._timer.is_alive()
        progress("refining", 0.5)
    assert capsys.readouterr().err == ""
