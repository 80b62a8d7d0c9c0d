"""The model as steps bound to rules and arithmetic, before any input is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.analysis.constants import Constants
from certify.analysis.problem import Step
from certify.number.formats import Format


@dataclass(frozen=True, slots=True)
class Program:
    """The model as steps, with its constants both exactly as stored in the file and as the runtime holds them.

    steps:    topological order.
    exact:    constants over the reals, (1, *shape) float64; they may hold infinities and NaN.
    stored:   the same rounded into the format that the reading step uses; the same object where nothing changes.
    swamped:  constants with elements that become NaN in their format (fp8e4m3): name -> boolean mask (1, *shape).
    formats:  format of every value as it is held (None: integers and booleans).
    declared: format in which the model declares its inputs.
    opened:   operators whose definitions stand in their place.
    """

    steps: tuple[Step, ...]
    exact: Constants
    stored: Constants
    swamped: dict[str, np.ndarray[Any, np.dtype[np.bool_]]]
    formats: dict[str, Format | None]
    declared: dict[str, Format | None]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opened: tuple[str, ...]

    @property
    def converts_constants(self) -> bool:
        """True if some constant changes when it is stored."""
        return any(self.converts(name) for name in self.exact)

    def converts(self, name: str) -> bool:
        """True if this constant changes when it is stored."""
        return not self.stored.is_same(name, self.exact)
