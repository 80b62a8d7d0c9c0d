"""What an engine returns, and how strong it is."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from certify.number.upward import Array


class Guarantee(enum.IntEnum):
    """Strongest first; a result carries the weakest that entered it (mathematics: §1)."""

    PROVED = 0
    RANDOMIZED = 1
    PROBABILISTIC = 2
    FIRST_ORDER = 3
    SAMPLED = 4

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Lost:
    """Where a bound became infinite: the first step whose tube is inf, and why."""

    node: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """Bounds of |computed - z| (and |exact - z|) per value, z the trajectory in Problem.values.

    rounding[output]:  bound of |computed - z|, (cases, *shape), with beta + defects as noise.
    reference[output]: bound of |exact - z|: the same multipliers with the defects alone as noise.
    tubes[value]:      proved |computed - z| for every value.
    local[value]:      beta of the step that produced it.
    contributions[output][step output]: that step's part of the output's largest bound (sums to it), by case.
    differences: for a decision output, see `pairwise` in engines/adjoint.
    lost: where finiteness was lost, by case; None if nowhere.
    """

    guarantee: Guarantee
    engine: str
    rounding: dict[str, Array]
    reference: dict[str, Array]
    tubes: dict[str, Array]
    local: dict[str, Array]
    contributions: dict[str, dict[str, Array]] = field(default_factory=dict)
    differences: dict[str, Array] = field(default_factory=dict)
    lost: tuple[Lost | None, ...] = ()
