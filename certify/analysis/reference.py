"""The reference: a float64 trajectory whose own errors are enclosed, or the ranges of a region.

At points the analysis linearises around z, z_k = mid enclose_k(z_parents). Its defect, |f_k(z_parents) - z_k| <= rad, is
one more local error, so that the tubes of (rounding + defects) hold for computed - z and those of the defects alone
for exact - z (mathematics, end of section 5).

Two trajectories: of the model as it stands in the file, and of the model whose constants and inputs are rounded into
storage. Their difference is the conversion error, computed instead of bounded.
"""

from __future__ import annotations

import numpy as np

from certify.analysis.bind import Program
from certify.analysis.problem import Problem, Step
from certify.number.enclosure import Enclosure
from certify.number.rounding import half_ulp, round_to
from certify.number.upward import Array, up


def stored_inputs(program: Program, inputs: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs as the runtime holds them, and inf radii where they overflow its format."""
    stored, radii = {}, {}
    for name, x in inputs.items():
        storage = program.formats[name]
        rounded = x if storage is None else round_to(x, storage)
        lost = ~np.isfinite(rounded)
        if storage is not None and lost.any():
            rounded = np.where(lost, np.copysign(storage.max, x), rounded)
            radii[name] = np.where(lost, np.inf, 0.0)
        stored[name] = x if np.array_equal(rounded, x) else rounded
    return stored, radii


def at_points(program: Program, constants: dict[str, Array], inputs: dict[str, Array], radii: dict[str, Array]) -> Problem:
    """The problem around the float64 trajectory of `constants` and `inputs`, (cases, *shape) each."""
    values = {name: Enclosure.point(x) for name, x in (constants | inputs).items()}
    defects: dict[str, Array] = {}
    infinite = _infinite(values)
    for step in program.steps:
        Y = _enclosed(step, values, infinite, True)
        z = Y.mid
        values[step.output] = Enclosure.point(z)
        defect = Y.rad
        if np.any(defect):
            defects[step.output] = defect
    for name, lost in program.swamped.items():
        if constants is program.stored:
            radii = radii | {name: np.where(lost, np.inf, 0.0)}
    return Problem(program.steps, values, program.outputs, program.inputs, defects, radii)


def over_region(program: Program, box: dict[str, Enclosure]) -> Problem:
    """The problem whose values are the ranges of the exact model over the box, by interval propagation.

    Constants and inputs that storage rounds deviate from the start: by their known rounding, and by half an ulp.
    """
    values = {name: Enclosure.point(x) for name, x in program.exact.items()} | dict(box)
    radii: dict[str, Array] = {}
    for name, exact in program.exact.items():
        if program.stored[name] is not exact:
            radii[name] = up(np.abs(program.stored[name] - exact))
        if name in program.swamped:
            radii[name] = np.where(program.swamped[name], np.inf, radii.get(name, np.zeros_like(exact)))
    for name, X in box.items():
        storage = program.formats[name]
        declared = program.declared.get(name)
        if storage is not None and declared is not None and not storage.contains(declared):
            radii[name] = np.array(np.broadcast_to(half_ulp(X.mag, storage), X.shape))
    infinite = _infinite(values)
    for step in program.steps:
        values[step.output] = _enclosed(step, values, infinite, False)
    return Problem(program.steps, values, program.outputs, program.inputs, {}, radii)


def _infinite(values: dict[str, Enclosure]) -> set[str]:
    return {name for name, X in values.items() if np.isinf(X.lo).any() or np.isinf(X.hi).any()}


def _enclosed(step: Step, values: dict[str, Enclosure], infinite: set[str], points: bool) -> Enclosure:
    """The step's enclosure; the whole line where a rule that has no word on infinities meets a number that may really be one.

    `infinite` names the values that may hold one, and grows. (Elsewhere an infinite end means an unknown finite number.)
    """
    Y = step.rule.enclose(tuple(None if name is None else values[name] for name in step.operands), **step.attributes)
    if not infinite.intersection(step.operands):
        return Y
    word = getattr(step.rule, "infinities", "none")
    if word == "none" or (word == "points" and not points):
        return Enclosure(np.full(Y.shape, -np.inf), np.full(Y.shape, np.inf))
    if np.isinf(Y.lo).any() or np.isinf(Y.hi).any():
        infinite.add(step.output)
    return Y
