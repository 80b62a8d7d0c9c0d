"""The exact results that runs are compared with, and what refutes them.

Ball arithmetic end to end gives the reference of as many leading cases as its work allows; the float64 trajectory, its own
error enclosed, that of the others. Where both speak they must agree, and sampled elements of the trajectory must agree with
mpmath: a disagreement is a violation like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from certify.analysis.problem import Problem
from certify.analysis.program import Program
from certify.analysis.reference import at_points
from certify.certificate.contract import Violation
from certify.number.enclosure import Enclosure, concatenate
from certify.number.upward import Array
from certify.validate.compare import Run, compare
from certify.validate.oracle import Mismatch, reference_arb, spot_check, work
from certify.validate.products import products_of
from certify.validate.runtime import ValidationUnavailable

BALLS = 1_000_000  # work of all ball references together (oracle.work), about a second
SPOTS, FEW_SPOTS = 64, 8  # elements recomputed in mpmath; few where finding one's operands is itself slow
SLOW = 20_000_000  # operations of a case beyond which it is


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The float64 results and what they may be off by, |exact - value| <= doubt; each (cases, *shape) by output."""

    value: Mapping[str, Array]
    doubt: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Reference:
    """exact: an enclosure of every exact result, (cases, *shape). text: where it comes from. violations: what refutes the trajectory."""

    exact: dict[str, Enclosure]
    text: str
    violations: tuple[Violation, ...]


def exact_problem(program: Program, points: Mapping[str, Array], case: int) -> Problem:
    """The model as it stands in the file, at one of the points."""
    return at_points(program, program.exact, {name: x[case : case + 1] if x.shape[0] > 1 else x for name, x in points.items()}, {})


def operations(problem: Problem) -> int:
    """How many products the contractions of the problem's one case add up, and how many elements its steps deliver."""
    shapes = {name: X.shape for name, X in problem.values.items()}
    products = sum(products_of(step, [shapes[name] if name else () for name in step.operands]) for step in problem.steps)
    return products + sum(problem.values[step.output].lo.size for step in problem.steps)


def reference_for(first: Problem, problem: Callable[[int], Problem], cases: int, trajectory: Trajectory) -> Reference:
    """References of `cases` points; `first` is the problem of case 0, `problem` makes that of any other."""
    exact = {name: Enclosure.point(x).widen(trajectory.doubt[name]) for name, x in trajectory.value.items()}
    found, refused = _balls(first, problem, cases)
    covered = len(found)
    texts: list[str] = []
    violations: list[Violation] = []
    if found:
        balls = {name: concatenate([ball[name] for ball in found]) for name in exact}
        claimed = Run("float64 trajectory", {name: x[:covered] for name, x in trajectory.value.items()}, covered)
        violations += compare([claimed], balls, {name: trajectory.doubt[name][:covered] for name in exact}).violations
        exact = {name: _with_balls(X, balls[name]) for name, X in exact.items()}
        radius = max((float(ball.rad.max(initial=0.0)) for ball in balls.values()), default=0.0)
        texts.append(f"ball arithmetic end to end{_cases(0, covered, cases)}, radius {radius:.2g}")
    if covered < cases:
        lost = any(not np.isfinite(doubt[covered:]).all() for doubt in trajectory.doubt.values())
        enclosed = "float64, its own error without a bound: nothing can refute there" if lost else "float64, its own error enclosed"
        texts.append(f"{enclosed}{_cases(covered, cases, cases)}{'' if found else f' (no balls: {refused})'}")
    checked, broken = spot_check(first, count=SPOTS if operations(first) <= SLOW else FEW_SPOTS)
    texts.append(f"{checked} elements recomputed in mpmath")
    return Reference(exact, "; ".join(texts), (*violations, *map(_violation, broken)))


def _balls(first: Problem, problem: Callable[[int], Problem], cases: int) -> tuple[list[dict[str, Enclosure]], str]:
    """The exact outputs of the leading cases in ball arithmetic, and why not of the next."""
    found: list[dict[str, Enclosure]] = []
    affordable = BALLS // max(1, work(first))
    for case in range(min(cases, max(1, affordable))):
        try:
            found.append(reference_arb(first if case == 0 else problem(case), limit=BALLS))
        except ValidationUnavailable as reason:
            return found, str(reason).replace("; ", ", ")
    return found, "out of work"


def _with_balls(X: Enclosure, balls: Enclosure) -> Enclosure:
    """X, its leading cases narrowed to the balls; where they are disjoint the balls alone."""
    covered = balls.shape[0]
    lo, hi = np.maximum(X.lo[:covered], balls.lo), np.minimum(X.hi[:covered], balls.hi)
    empty = lo > hi
    lo, hi = np.where(empty, balls.lo, lo), np.where(empty, balls.hi, hi)
    return Enclosure(np.concatenate([lo, X.lo[covered:]]), np.concatenate([hi, X.hi[covered:]]))


def _violation(mismatch: Mismatch) -> Violation:
    case, *index = mismatch.index
    return Violation(
        mismatch.value, case, tuple(index), mismatch.distance, mismatch.defect, f"float64 result of node {mismatch.node!r} against mpmath"
    )


def _cases(start: int, stop: int, cases: int) -> str:
    if stop - start == cases:
        return ""
    return f" (case {start})" if stop - start == 1 else f" (cases {start}-{stop - 1})"
