"""How large a model's values are, and so how many boxes are bounded at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from certify.analysis.program import Program
from certify.analysis.reference import over_region
from certify.number.enclosure import Enclosure

CHUNK, ENTRIES = 1024, 1 << 21  # boxes bounded at once, and float64 entries of all their values, at most


@dataclass(frozen=True, slots=True)
class Sizes:
    """elements: of all values of one box. outputs: of each output. shapes: of each output, no case axis. ranges: by intervals, of each."""

    elements: int
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    ranges: tuple[Enclosure, ...]

    @staticmethod
    def of(program: Program, box: Mapping[str, Enclosure]) -> Sizes:
        values = over_region(program, dict(box)).values
        given = tuple(values[name] for name in program.outputs)
        elements = sum(int(values[step.output].lo[0].size) for step in program.steps)
        return Sizes(elements, tuple(int(X.lo[0].size) for X in given), tuple(X.shape[1:] for X in given), given)

    @property
    def chunk(self) -> int:
        """Boxes bounded at once; another number would round differently."""
        return max(1, min(CHUNK, ENTRIES // max(1, self.elements)))
