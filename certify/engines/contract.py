"""What an engine returns, and how strong it is."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from certify.number.upward import Array

Progress = Callable[[str, float], None]
"""progress(stage, share done in [0, 1])."""


class Guarantee(enum.IntEnum):
    """Strongest first; a result carries the weakest that entered it (mathematics, section 1)."""

    PROVED = 0
    RANDOMIZED = 1
    PROBABILISTIC = 2
    FIRST_ORDER = 3
    SAMPLED = 4

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Lost:
    """Where a bound became infinite: the first step whose tube is infinite, and why."""

    node: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Likely:
    """|computed - z| <= steady + |M| and |computed - exact| <= apart + |M|, M a martingale with increments that are bounded by numbers
    whose squares add up to at most deviation^2. (1, *shape) each."""

    steady: Array
    apart: Array
    deviation: Array


@dataclass(frozen=True, slots=True)
class Functional:
    """A linear functional of one output: `rows` is (R, *shape of the value), `value` its name.

    The engines bound |<row, computed - z>| for each row.
    """

    value: str
    rows: Array


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """Bounds of |computed - z| and of |exact - z| alike, z the trajectory in Problem.values.

    outputs:       bound per output element, (cases, *shape).
    tubes:         proved radius of every step output, (cases or 1, *shape).
    local:         rounding born at the step (beta), same shapes.
    contributions: contributions[output][step output] is that step's part, per case, of the bound of the output's worst
                   element (they sum to it up to rounding); empty if the engine cannot tell.
    converted:     the part of `outputs` that constants and inputs which deviate from the start have (regions), same shapes.
    lost:          where finiteness was lost, by case; None if nowhere.
    exact, apart:  bounds of |exact - z| and of |computed - exact|, both of this very problem; empty if the engine cannot tell.
    likely:        what is known of roundings of mean zero, by output; empty if the engine cannot tell.
    """

    guarantee: Guarantee
    engine: str
    outputs: dict[str, Array]
    tubes: dict[str, Array]
    local: dict[str, Array]
    contributions: dict[str, dict[str, Array]] = field(default_factory=dict)
    converted: dict[str, Array] = field(default_factory=dict)
    lost: tuple[Lost | None, ...] = ()
    exact: dict[str, Array] = field(default_factory=dict)
    apart: dict[str, Array] = field(default_factory=dict)
    likely: dict[str, Likely] = field(default_factory=dict)
