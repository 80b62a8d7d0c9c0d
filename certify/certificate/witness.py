"""What a checker needs to re-prove a certificate: the points, and of each case the slopes and multipliers that the proof used.

None of it has to be trusted (certify/checker/kernel.py): the multipliers may be anything, better ones prove smaller bounds.
Arrays by key: `input/NAME` (cases or 1, *shape), `slopes/CASE/NAME` (elements, candidates) of Relu and maxima, `rows/CASE/TARGET`,
the elements of TARGET that were refined, and `multipliers/CASE/TARGET/NAME`, (rows, elements of NAME); names percent-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Step
from certify.engines.functionals import ROW_ELEMENTS
from certify.engines.multipliers import unit_rows
from certify.engines.sweep import Sweep
from certify.number.upward import Array
from certify.semantics.contract import Linearization

Stored = npt.NDArray[Any]


class Witness:
    """Collects the hints of one case after the other; `arrays` is what is written."""

    def __init__(self, points: Mapping[str, Array]) -> None:
        self.arrays: dict[str, Stored] = {_key("input", name): x for name, x in points.items()}

    def add(self, case: int, sweep: Sweep) -> None:
        """The hints of a finished case, whose tubes are final."""
        for step in sweep.problem.steps:
            linear = sweep.maps.get(step.output)
            if linear is not None and step.operands[0] is not None and not step.rule.is_linear(*sweep.state.operands(step)):
                found = _slopes(step, linear, sweep)
                if found is not None:
                    self.arrays[_key("slopes", case, step.output)] = found
        wanted = {name: np.flatnonzero(known) for name, known in sweep.refined.items()}
        for name in sweep.problem.outputs:
            if name in sweep.maps:
                wanted[name] = np.arange(sweep.problem.values[name].lo[0].size)
        for target, rows in wanted.items():
            if rows.size:
                self.arrays[_key("rows", case, target)] = rows
                for name, a in _multipliers(sweep, target, rows).items():
                    self.arrays[_key("multipliers", case, target, name)] = a


def _key(kind: str, *parts: str | int) -> str:
    return "/".join([kind, *(quote(str(part), safe="") for part in parts)])


def _multipliers(sweep: Sweep, target: str, rows: npt.NDArray[np.intp]) -> dict[str, Array]:
    """The pulled-back multipliers of each step that the target depends on, flat; without the target's own unit rows."""
    unit = unit_rows(sweep.problem.values[target].shape[1:], [(rows, 1.0)])(0, rows.size)
    walked = sweep.multipliers(sweep.ancestors(target), target, unit)
    return {name: a.reshape(rows.size, -1) for name, a in walked if name != target and name in sweep.steps}


def _slopes(step: Step, linear: Linearization, sweep: Sweep) -> Array | None:
    """The slope of a Relu's operand, or of each candidate of a maximum, read off the linear map; None for other steps."""
    shape = sweep.problem.values[step.output].shape[1:]
    size = int(np.prod(shape))
    if step.rule.name == "Relu":
        part = linear.pull(np.ones((1, *shape)))[0]
        return None if part is None else part.reshape(-1, 1)
    source = getattr(step.rule, "source", None)
    if source is None or len(step.operands) != 1:
        return None
    operand = sweep.problem.values[step.operands[0] or ""].shape[1:]
    into = source([operand], step.attributes).reshape(size, -1)
    slopes = np.zeros(into.shape)
    block = max(1, ROW_ELEMENTS // max(1, size, int(np.prod(operand))))
    for start in range(0, size, block):
        chosen = np.arange(start, min(start + block, size))
        part = linear.pull(unit_rows(shape, [(chosen, 1.0)])(0, chosen.size))[0]
        if part is None:
            return None
        flat = part.reshape(chosen.size, -1)
        slopes[chosen] = np.where(into[chosen] < 0, 0.0, flat[np.arange(chosen.size)[:, None], into[chosen]])
    return slopes
