"""Floors: numbers below which no value lies, exact or computed by any conforming run, whatever the errors before it.

A tube says how far a computed value is from the exact one, not on which side it stays: a sum of squares near 0, with its tube, reaches
below 0, where no kernel's sum of squares ever is. One pass over the steps, in topological order: a rule's `floor` says what it
keeps of its operands' floors (signs, mostly; what rounding leaves of a positive one), and rules that are singular below
(square roots, logarithms, quotients) take them as the keyword `floors`.

Proof, by induction: inputs and constants that deviate by at most their radius lie above their least element less that radius; and each
rule's `floor` holds for every x^ above its operands' floors, for the exact result and for the kernel's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.number.enclosure import Enclosure
from certify.number.streamed import Streamed


def floors_of(problem: Problem) -> dict[str, float]:
    """The floor of every value, -inf where nothing is known."""
    found: dict[str, float] = {}
    for name, X in problem.values.items():
        if name not in problem.produced:
            found[name] = _given(X, problem.radii.get(name))
    for step in problem.steps:
        found[step.output] = _floor(step, [found.get(name or "", -math.inf) for name in step.operands], problem.values[step.output])
    return found


def _given(X: Enclosure, radius: np.ndarray | None) -> float:
    least = X.least if isinstance(X, Streamed) else float(X.lo.min(initial=math.inf))
    if radius is not None:
        least = float(np.nextafter(least - float(radius.max(initial=0.0)), -math.inf))
    return -math.inf if math.isnan(least) or least == math.inf else least


def _floor(step: Step, least: Sequence[float], Y: Enclosure) -> float:
    rule = getattr(step.rule, "floor", None)
    if rule is None or not least:
        return -math.inf
    same = len(set(step.operands)) == 1
    found = float(rule(step.arithmetic, least, same, Y, **step.attributes))
    return -math.inf if math.isnan(found) else found
