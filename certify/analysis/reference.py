"""The reference: a float64 trajectory whose own errors are enclosed, or the ranges of a region.

At points the analysis linearises around z, z_k = mid enclose_k(z_parents). Its defect, |f_k(z_parents) - z_k| <= rad, is
one more local error, so that the tubes of (rounding + defects) hold for computed - z and those of the defects alone
for exact - z (mathematics, end of section 5).

An input or a constant may hold NaN, which is no number that deviates from anything: it stands as 0 with an infinite radius, so that what
is computed from it has no bound, and neither does what is copied. But the steps that say whether a known operand is NaN, compare
it or copy it are computed beforehand, on the very operand that a run has, and are no steps of the problem then.

Two trajectories: of the model as it stands in the file, and of the model whose constants and inputs are rounded into
storage. Their difference is the conversion error, computed instead of bounded.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from certify.analysis.constants import Constants
from certify.analysis.guarded import Guarded
from certify.analysis.problem import Problem, Step
from certify.analysis.program import Program
from certify.analysis.relations import producers_of, related
from certify.errors import InvalidModel
from certify.number.enclosure import Enclosure
from certify.number.rounding import half_ulp, round_to
from certify.number.streamed import Streamed
from certify.number.upward import Array, up


def stored_inputs(program: Program, inputs: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs as the runtime holds them, and inf radii where they overflow its format."""
    stored, radii = {}, {}
    for name, x in inputs.items():
        storage = program.formats[name]
        rounded = x if storage is None else round_to(x, storage)
        lost = ~np.isfinite(rounded) & np.isfinite(x)
        if storage is not None and lost.any():
            rounded = np.where(lost, np.copysign(storage.max, x), rounded)
            radii[name] = np.where(lost, np.inf, 0.0)
        stored[name] = x if np.array_equal(rounded, x, equal_nan=True) else rounded
    return stored, radii


def at_points(program: Program, constants: Constants, inputs: dict[str, Array], radii: dict[str, Array], settle: bool = True) -> Problem:
    """The problem around the float64 trajectory of `constants` and `inputs`, (cases, *shape) each; all steps of it if not to `settle`."""
    given = constants.held | inputs
    known, steps = _settled(program, given, constants) if settle else (given, program.steps)
    numbers, radii = _numbers(known, radii)
    values: dict[str, Enclosure] = {name: Enclosure.point(x) for name, x in numbers.items()} | constants.streamed
    defects: dict[str, Array] = {}
    infinite = infinite_values(values)
    done = []
    for step in steps:
        step, Y = enclosed(step, values, infinite)
        done.append(step)
        z = Y.mid
        values[step.output] = Enclosure.point(z)
        defect = Y.rad
        if np.any(defect):
            defects[step.output] = defect
    for name, lost in program.swamped.items():
        if constants is program.stored:
            radii = radii | {name: np.where(lost, np.inf, radii.get(name, 0.0))}
    return Problem(tuple(done), values, program.outputs, program.inputs, defects, radii)


def pair_at(program: Program, source: Program, points: dict[str, Array]) -> tuple[Problem, Problem]:
    """(stored, exact) at these inputs: the same object where storing changes neither constants nor inputs.

    source: the model's own program; another one than `program` where that is of a graph that a runtime made of it. Nothing else ties the
    two problems: |computed - z_stored| is bounded on the steps that run, |exact - z_exact| on the model's own, and |z_stored - z_exact| is
    a difference of two float64 numbers, each of which is what the bound beside it is about.
    """
    held, radii = stored_inputs(program, points)
    exact = at_points(source, source.exact, points, {})
    same = program is source and not radii and not program.converts_constants and all(held[name] is points[name] for name in held)
    return (exact if same else at_points(program, program.stored, held, radii)), exact


def _numbers(known: dict[str, Array], radii: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Known arrays and their radii, with 0 and an infinite radius for NaN."""
    numbers, reach = dict(known), dict(radii)
    for name, x in known.items():
        absent = np.isnan(x)
        if absent.any():
            numbers[name] = np.where(absent, 0.0, x)
            reach[name] = np.where(absent, np.inf, radii.get(name, 0.0))
    return numbers, reach


def _settled(program: Program, known: dict[str, Array], constants: Constants) -> tuple[dict[str, Array], tuple[Step, ...]]:
    """All that is known without rounding where NaN is among it, and the steps that are left to do.

    A rule that `settles` gives on known operands what every kernel gives; copies do so in their operands' own format.
    """
    if not any(np.isnan(x).any() for x in known.values()):
        return known, program.steps
    computed = dict(known)
    found, left = ChainMap(computed, constants), []
    for step in program.steps:
        names = [name for name in step.operands if name is not None]
        formats = {program.formats[name] for name in names} - {None, program.formats[step.output]}
        settles = getattr(step.rule, "settles", False) and (program.formats[step.output] is None or not formats)
        if settles and all(name in found for name in names) and any(np.isnan(computed.get(name, 0.0)).any() for name in names):
            operands = [None if name is None else found[name] for name in step.operands]
            computed[step.output] = np.asarray(step.rule.value(*operands, **step.attributes), dtype=np.float64)
        else:
            left.append(step)
    return computed, tuple(left)


def over_region(program: Program, box: dict[str, Enclosure]) -> Problem:
    """The problem whose values are the ranges of the exact model over the box, by interval propagation."""
    values, radii = given_ranges(program, box)
    infinite = infinite_values(values)
    producers = producers_of(program.steps)
    steps = []
    for step in program.steps:
        step, values[step.output] = enclosed(step, values, infinite, producers)
        steps.append(step)
    return Problem(tuple(steps), values, program.outputs, program.inputs, {}, radii)


def given_ranges(program: Program, box: dict[str, Enclosure]) -> tuple[dict[str, Enclosure], dict[str, Array]]:
    """Ranges of constants and inputs, and how far those deviate from the start that storage rounds: by their known rounding, and by
    half an ulp."""
    numbers, radii = _numbers(program.exact.held, {})
    values = {name: Enclosure.point(x) for name, x in numbers.items()} | program.exact.streamed | dict(box)
    for name in program.exact:
        if program.converts(name):
            radii[name] = _moved(program.stored[name], values[name].lo, radii.get(name))
        if name in program.swamped:
            radii[name] = np.where(program.swamped[name], np.inf, radii.get(name, np.zeros(values[name].shape)))
    for name, X in box.items():
        storage = program.formats[name]
        declared = program.declared.get(name)
        if storage is not None and declared is not None and not storage.contains(declared):
            radii[name] = np.array(np.broadcast_to(half_ulp(X.mag, storage), X.shape))
    return values, radii


def _moved(stored: Array, exact: Array, radius: Array | None) -> Array:
    """|stored - exact|, rounded up; inf where either is no number, and 0 where both are the same infinity."""
    with np.errstate(invalid="ignore"):
        moved = np.where(stored == exact, 0.0, up(np.abs(stored - exact)))
    moved = np.where(np.isnan(moved), np.inf, moved)
    return moved if radius is None else np.maximum(moved, radius)


def infinite_values(values: dict[str, Enclosure]) -> set[str]:
    """The names of those that may hold an infinity."""
    return {name for name, X in values.items() if not isinstance(X, Streamed) and (np.isinf(X.lo).any() or np.isinf(X.hi).any())}


def enclosed(
    step: Step, values: dict[str, Enclosure], infinite: set[str], producers: Mapping[str, Step] | None = None
) -> tuple[Step, Enclosure]:
    """The step and its enclosure; guarded where its rule has no word on infinities and meets a number that may really be one.

    producers: for ranges, the step of every value, which tells how operands are related (analysis/relations); None at points.
    `infinite` names the values that may hold one, and grows. (Elsewhere an infinite end means an unknown finite number.)
    Raises InvalidModel, naming the node, where it indexes what is not there.
    """
    met = bool(infinite.intersection(step.operands))
    word = getattr(step.rule, "infinities", "none")
    speaks = word == "always" or (word == "points" and producers is None)
    rule: Any = step.rule if speaks or not met else Guarded(step.rule)
    step = replace(step, rule=rule)
    try:
        Y = step.rule.enclose(tuple(None if name is None else values[name] for name in step.operands), **step.attributes)
    except IndexError as outside:
        raise InvalidModel(f"node {step.node!r} ({step.kind}): {outside}; no run gets past it here") from outside
    if met and speaks and (np.isinf(Y.lo).any() or np.isinf(Y.hi).any()):
        infinite.add(step.output)
    return step, Y if producers is None or infinite else related(step, producers, values, Y)
