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
    """elements: of all values of one box. outputs: of each output. shapes: of each output, no case axis."""

    elements: int
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(program: Program, box: Mapping[str, Enclosure]) -> Sizes:
        values = over_region(program, dict(box)).values
        given = [values[name].lo[0] for name in program.outputs]
        elements = sum(int(values[step.output].lo[0].size) for step in program.steps)
        return Sizes(elements, tuple(int(x.size) for x in given), tuple(x.shape for x in given))

    @property
    def chunk(self) -> int:
        """Boxes bounded at once; another number would round differently."""
        return max(1, min(CHUNK, ENTRIES // max(1, self.elements)))
