"""Runs against the reference: the error observed, and every bound that it breaks.

A reference is an enclosure of the exact result. The observed error is measured from its middle; a violation is claimed only
where the run provably lies farther from every number of the enclosure than the bound allows, without any tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.certificate.contract import Validation, Violation
from certify.number.enclosure import Enclosure, subtract
from certify.number.upward import Array


@dataclass(frozen=True, slots=True)
class Run:
    """One run's outputs, (cases or 1, *shape), and how the certificate names it. cases: how many leading ones it covers, None for all."""

    name: str
    outputs: Mapping[str, npt.NDArray[Any]]
    cases: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """observed[output]: the largest error of any run, (cases, *shape), NaN where no run covers the case.

    max_error[run]: over all outputs and the cases that the run covers.
    violations: the worst element of each case, output and run that breaks its bound.
    """

    observed: dict[str, Array]
    max_error: dict[str, float]
    violations: tuple[Violation, ...]

    def validation(self, runtime: str, reference: str) -> Validation:
        """As the certificate holds it; `runtime` and `reference` say what ran, what could not, and why."""
        return Validation(runtime, reference, len(self.max_error), self.violations)


def compare(
    runs: Sequence[Run],
    reference: Mapping[str, Enclosure],
    bounds: Mapping[str, Array],
    middles: Mapping[str, Array] | None = None,
) -> Comparison:
    """The runs' errors; reference and bounds by output, (cases or 1, *shape).

    middles: what errors are measured from where the reference is unbounded and has no middle of its own: likely exact results.

    A NaN or an infinity is an infinite error: a violation where the bound is finite, none where it is not. The one exception
    is an infinity where the reference is that very infinity (a mask that an output shows): no error.
    """
    observed: dict[str, Array] = {}
    max_error: dict[str, float] = {}
    violations: list[Violation] = []
    for run in runs:
        largest = 0.0
        for output, values in run.outputs.items():
            x = np.asarray(values, dtype=np.float64)
            X, bound, x = _aligned(reference[output], bounds[output], x, run.cases)
            likely = X.mid if middles is None else np.broadcast_to(middles[output][: x.shape[0]], x.shape)
            difference = _error(x, X, likely)
            observed[output] = _joined(observed.get(output), difference)
            largest = max(largest, float(difference.max(initial=0.0)))
            violations.extend(_violations(run.name, output, _least_distance(x, X), bound))
        max_error[run.name] = largest
    for output, seen in observed.items():
        cases = max(reference[output].shape[0], bounds[output].shape[0])
        if seen.shape[0] < cases:
            observed[output] = np.concatenate([seen, np.full((cases - seen.shape[0], *seen.shape[1:]), np.nan)])
    return Comparison(observed, max_error, tuple(violations))


def _aligned(X: Enclosure, bound: Array, x: Array, covered: int | None) -> tuple[Enclosure, Array, Array]:
    """All with the cases that the run covers. Raises ValueError where its shape is not the reference's."""
    if x.shape[1:] != X.shape[1:]:
        raise ValueError(f"a run of shape {x.shape[1:]} cannot be compared with a reference of shape {X.shape[1:]}")
    cases = max(x.shape[0], X.shape[0], bound.shape[0]) if covered is None else covered

    def align(v: Array) -> Array:
        return np.broadcast_to(v[:cases], (cases, *x.shape[1:]))

    return X.map(align), align(bound), align(x)


def _joined(seen: Array | None, difference: Array) -> Array:
    """The larger of two runs' errors, case by case; the longer one where only it covers the case."""
    if seen is None:
        return difference
    short, long = sorted((seen, difference), key=len)
    return np.concatenate([np.maximum(short, long[: len(short)]), long[len(short) :]])


def _error(x: Array, X: Enclosure, likely: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(x - np.where(np.isinf(X.lo) | np.isinf(X.hi), likely, X.mid))
    difference = np.where(np.isnan(difference), np.inf, difference)
    return np.where(np.isinf(x) & (X.lo == x) & (X.hi == x), 0.0, np.where(np.isfinite(x), difference, np.inf))


def _least_distance(x: Array, X: Enclosure) -> Array:
    """A lower bound of |x - y| over every y in X, exact where float64 subtracts exactly; inf where x is not finite and not an end of X."""
    at = Enclosure.point(np.where(np.isfinite(x), x, 0.0))
    beyond = np.maximum(subtract(at, Enclosure.point(X.hi)).lo, subtract(Enclosure.point(X.lo), at).lo)
    within = np.isinf(x) & ((X.lo == x) | (X.hi == x))  # it may be that very infinity
    return np.where(within, 0.0, np.where(np.isfinite(x), np.maximum(beyond, 0.0), np.inf))


def _violations(run: str, output: str, distance: Array, bound: Array) -> list[Violation]:
    found = []
    for case in range(distance.shape[0]):
        broken = np.where(distance[case] > bound[case], distance[case], -1.0)
        if broken.size and broken.max() >= 0.0:
            index = tuple(int(i) for i in np.unravel_index(int(broken.argmax()), broken.shape))
            found.append(Violation(output, case, index, float(distance[case][index]), float(bound[case][index]), run))
    return found
