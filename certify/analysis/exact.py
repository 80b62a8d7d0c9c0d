"""The arithmetic of integers and booleans: what reaches storage is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS, Format
from certify.number.upward import Array

if TYPE_CHECKING:
    from certify.semantics.contract import PartialSums


@dataclass(frozen=True, slots=True)
class ExactArithmetic:
    """Every verb returns 0. Integers up to 2^53 are float64 numbers, which is the format it names."""

    storage: Format = FORMATS["fp64"]
    accumulator: Format = FORMATS["fp64"]
    unit_roundoff: float = 0.0
    underflow: float = 0.0

    def round(self, magnitude: Array, quantum: Array | float = 0.0) -> Array:
        return np.zeros_like(magnitude)

    def addition(self, magnitude: Array, smaller: Array, quantum: Array | float = 0.0) -> Array:
        return np.zeros_like(magnitude)

    def scaled(self, magnitude: Array) -> Array:
        return np.zeros_like(magnitude)

    def delivered(self, exact: Enclosure) -> Enclosure:
        return exact

    def sum(self, n: int, magnitude: Array, total: Array, largest: Array, nonzero: Array | None = None) -> Array:
        return np.zeros_like(total)

    def dot(
        self,
        n: int,
        magnitude: Array,
        total: Array,
        largest: Array,
        addend: Array | float = 0.0,
        nonzero: Array | None = None,
        partial: PartialSums | None = None,
        addends: int = 1,
    ) -> Array:
        return np.zeros_like(total)

    def elementary(self, kernel: str, magnitude: Array) -> Array:
        return np.zeros_like(magnitude)

    def accuracy(self, kernel: str) -> tuple[float, float]:
        return 0.0, 0.0

    def convert(self, magnitude: Array) -> Array:
        return np.zeros_like(magnitude)
