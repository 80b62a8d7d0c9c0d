"""The frozen Problem that engines solve: steps in topological order over named values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, up
from certify.semantics.contract import Arithmetic, Rule


@dataclass(frozen=True, slots=True)
class Step:
    """One primitive operation with one output.

    operands are value names (None: absent). `node` names the ONNX node it came from (a composite expands into several
    steps of one node); `kind` is that node's operator. `arithmetic` says how the kernel rounds. `inner`: the result stays in
    the kernel's own format inside a fused kernel.
    """

    rule: Rule
    operands: tuple[str | None, ...]
    output: str
    attributes: dict[str, Any]
    arithmetic: Arithmetic
    node: str
    kind: str
    inner: bool = False


@dataclass(frozen=True)
class Problem:
    """Exact values enclosed, steps bound to rules and arithmetic; nothing about engines.

    steps:     topological order.
    values:    enclosure of every value around which the analysis linearises: for points a thin float64 trajectory
               z, (cases or 1, *shape); for regions the range of the exact values.
    defects:   |f(z_parents) - z_k| per step output, 0 where absent: the float64 trajectory's own rounding.
    radii:     deviation that inputs have before any operation (regions in a narrower storage format); absent = none.
    quanta:    a power of two dividing every input or constant element.
    outputs:   the graph's outputs, by name.
    inputs:    the graph's inputs, by name.
    """

    steps: tuple[Step, ...]
    values: dict[str, Enclosure]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    defects: dict[str, Array] = field(default_factory=dict)
    radii: dict[str, Array] = field(default_factory=dict)
    quanta: dict[str, Array] = field(default_factory=dict)

    @cached_property
    def produced(self) -> frozenset[str]:
        """Names that some step computes; the others are inputs and constants."""
        return frozenset(step.output for step in self.steps)

    @cached_property
    def floors(self) -> dict[str, float]:
        """Below which no value lies, exact or computed (analysis/floors)."""
        from certify.analysis.floors import floors_of

        return floors_of(self)

    def told(self, step: Step) -> dict[str, Any]:
        """The step's attributes, with its operands' floors where its rule heeds them and some are known."""
        if not getattr(step.rule, "heeds_floor", False):
            return step.attributes
        floors = [self.floors.get(name or "", -np.inf) for name in step.operands]
        return step.attributes | {"floors": floors} if max(floors) > -np.inf else step.attributes

    @property
    def cases(self) -> int:
        return max((X.shape[0] for X in self.values.values()), default=1)

    def case(self, i: int) -> Problem:
        """The same problem at case `i` alone."""

        def pick(x: Array) -> Array:
            return x[i : i + 1] if x.shape[0] > 1 else x

        return replace(
            self,
            values={name: X if X.shape[0] == 1 else X.map(pick) for name, X in self.values.items()},
            defects={name: pick(x) for name, x in self.defects.items()},
            radii={name: pick(x) for name, x in self.radii.items()},
            quanta={name: pick(np.asarray(x)) for name, x in self.quanta.items()},
        )


def conversion(stored: Problem, exact: Problem, output: str) -> Array:
    """|z_stored - z_exact|, rounded up: how far storing constants and inputs moves the output."""
    if stored is exact:
        X = exact.values[output]
        return np.zeros((exact.cases, *X.shape[1:]))
    held, true = stored.values[output].lo, exact.values[output].lo
    with np.errstate(invalid="ignore"):
        difference = np.abs(held - true)
    return np.where(held == true, 0.0, up(difference))  # an infinity that both deliver is moved by nothing
