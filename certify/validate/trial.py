"""One conforming execution of many points at once, and their exact results: what a search over inputs tries.

Exact results are float64's where the claim's formats are narrower; where everything is stored in fp64 they are balls, so that an
error of few ulps is seen as it is. Nothing here proves: points that a search finds are confirmed with enclosed references.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.analysis.program import Program
from certify.analysis.reference import stored_inputs
from certify.number.formats import FORMATS
from certify.number.upward import Array
from certify.semantics.families.block import Block
from certify.validate import conform
from certify.validate.balls import Ball, Undecided
from certify.validate.emulate import Emulator
from certify.validate.oracle import NO_WAY, exactly, work
from certify.validate.products import factors
from certify.validate.runs import LARGEST, Subject, proto_of
from certify.validate.runtime import ValidationUnavailable, open_runner, run_cases
from certify.validate.simulate import Simulator
from certify.validate.summation import order_named

BITS = 128  # of the balls: a double's error is seen to within 2^-70 of the result
DEAREST = 20_000  # oracle.work of one point beyond which balls are too slow to search with
SIMULATED = 200_000  # operations of a case beyond which kernels are faster than the simulator
_MOST = 1 << 22  # elements of one value over all points of a batch

Execution = Callable[[Mapping[str, Array]], Mapping[str, Any]]


class Trial:
    """Points (cases, *shape) by input and what came of them. Exact results and errors are computed when they are asked for."""

    def __init__(self, points: Mapping[str, Array], computed: Mapping[str, Array], exact: Callable[[Mapping[str, Array]], Any]) -> None:
        self.points, self.computed, self._exact = points, computed, exact

    @cached_property
    def exact(self) -> Mapping[str, Any]:
        """By output, (cases, *shape): float64, or objects (balls, and NaN where a point has no exact result)."""
        found: Mapping[str, Any] = self._exact(self.points)
        return found

    @cached_property
    def error(self) -> dict[str, Array]:
        """|computed - exact| by output; inf where the run delivers NaN or an infinity of its own, NaN where the exact result is unknown."""
        return {name: distance(self.computed[name], self.exact[name]) for name in self.computed}

    def check(self) -> None:
        """Raise ValidationUnavailable where the error cannot be computed."""
        _ = self.error


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs trials. name: of the execution, as the runs that confirm call it; seconds: what one point takes, roughly, for budgets."""

    name: str
    program: Program
    execute: Execution
    exact: Callable[[Mapping[str, Array]], Any]
    batch: int
    seconds: float

    def __call__(self, points: Mapping[str, Array]) -> Trial:
        cases = max((len(x) for x in points.values()), default=1)
        with np.errstate(all="ignore"):
            held, _ = stored_inputs(self.program, dict(points))
            outputs = {name: np.asarray(x, dtype=np.float64) for name, x in self.execute(held).items()}
        return Trial(points, {name: np.broadcast_to(x, (cases, *x.shape[1:])) for name, x in outputs.items()}, self.exact)


def bench(subject: Subject, first: Problem, exact: Program) -> Bench:
    """How to try points of the subject; `first` is the exact problem at one of them, `exact` the program of the exact result.

    Raises ValidationUnavailable where no execution conforms, or none is fast enough, or balls would be needed and are too slow.
    """
    name, execute, seconds = _execution(subject)
    widest = max((X.lo[:1].size for X in first.values.values()), default=1)
    batch = int(np.clip(_MOST // max(1, widest), 8, 512))
    if _is_coarse(subject.program):
        return Bench(name, subject.program, execute, lambda points: float_values(exact, points), batch, seconds)
    units = work(first)
    if units > DEAREST:
        raise ValidationUnavailable(f"errors of fp64 are only seen in ball arithmetic, {units:,} units of work a point")
    return Bench(name, subject.program, execute, lambda points: ball_values(exact, points), min(batch, 128), seconds + 6e-7 * units)


def _execution(subject: Subject) -> tuple[str, Execution, float]:
    """The fastest conforming execution: the simulator for small models, else onnxruntime case by case."""
    kernels = conform.against_kernels(subject.program, subject.profile, subject.summation)
    simulated = conform.against_simulator(subject.program)
    if simulated is None and (subject.operations <= SIMULATED or (kernels is not None and subject.operations <= LARGEST)):
        order = "sequential" if subject.summation == "any" else subject.summation.replace(":", "-")
        simulator, chosen = Simulator(subject.program, 1 << 62), order_named(order)
        seconds = 5e-6 + 1e-7 * len(subject.program.steps) + 4e-9 * subject.operations
        return f"simulator, {order}", lambda held: simulator.run(held, chosen), seconds
    if kernels is not None:
        raise ValidationUnavailable(
            simulated or f"one case takes {subject.operations:,} operations in the simulator; onnxruntime: {kernels}"
        )
    if subject.native and not conform.converts(subject.program):
        runner = open_runner(subject.model, "cpu", subject.level)
        return "onnxruntime", lambda held: run_cases(runner, held), 2e-4 + 1e-9 * subject.operations
    emulator = Emulator(proto_of(subject.written or subject.model), subject.profile.storage, subject.profile.operand_format)
    return (
        "onnxruntime, node by node",
        lambda held: run_cases(emulator, held),
        1e-4 * len(subject.program.steps) + 1e-9 * subject.operations,
    )


def _is_coarse(program: Program) -> bool:
    """True if some value is held in a format narrower than fp64, so that float64 tells errors well enough to search by."""
    return any(held is not None and held.precision < FORMATS["fp64"].precision for held in program.formats.values())


def float_values(program: Program, points: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of the model as it stands in the file, computed in float64."""

    with np.errstate(all="ignore"):
        return _values(program, points, _in_float64)


def _in_float64(step: Step, operands: Sequence[Any]) -> Any:
    """The step's value; products of all cases in one product of matrices."""
    contraction = None if isinstance(step.rule, Block) else factors(step, operands)
    if contraction is None:
        return np.asarray(step.rule.value(*operands, **step.attributes), dtype=np.float64)
    y = contraction.shape(contraction.left @ contraction.right) * contraction.scale
    return y if contraction.addend is None else y + contraction.addend


def ball_values(program: Program, points: Mapping[str, Array]) -> dict[str, Any]:
    """The same in balls; NaN for points at which a comparison stays open. Raises ValidationUnavailable for an operator without a way."""
    import flint

    cases = max((len(x) for x in points.values()), default=1)
    try:
        with flint.ctx.workprec(BITS):
            return _values(program, points, exactly)
    except Undecided:
        if cases == 1:
            shapes = {name: x.shape for name, x in float_values(program, points).items()}
            return {name: np.full(shape, np.nan, dtype=object) for name, shape in shapes.items()}
        halves = [{name: x[part] for name, x in points.items()} for part in (slice(cases // 2), slice(cases // 2, None))]
        found = [ball_values(program, half) for half in halves]
        return {
            name: np.concatenate([np.broadcast_to(x[name], (n, *x[name].shape[1:])) for x, n in _counted(found, cases)])
            for name in found[0]
        }
    except NO_WAY as reason:
        raise ValidationUnavailable(f"an operator has no way with balls: {reason}") from reason


def _counted(found: Sequence[dict[str, Any]], cases: int) -> list[tuple[dict[str, Any], int]]:
    return list(zip(found, (cases // 2, cases - cases // 2), strict=True))


def _values(program: Program, points: Mapping[str, Array], one: Callable[..., Any]) -> dict[str, Any]:
    values = ChainMap[str, Any](dict(points), program.exact)
    uses = Counter(name for step in program.steps for name in step.operands if name)
    uses.update(program.outputs)
    for step in program.steps:
        values[step.output] = one(step, [None if name is None else values[name] for name in step.operands])
        for name in step.operands:
            if name:
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
    return {name: values[name] for name in program.outputs}


def distance(computed: Array, exact: Any) -> Array:
    """|computed - exact|, see Trial.error; in balls where `exact` holds objects, then rounded once."""
    if exact.dtype != object:
        with np.errstate(all="ignore"):
            apart = np.where(computed == exact, 0.0, np.abs(computed - exact))
        return np.where(np.isnan(exact), np.nan, np.where(np.isfinite(computed) | (computed == exact), apart, np.inf))
    import flint

    with flint.ctx.workprec(BITS):
        return np.asarray(_APART(computed, np.broadcast_to(exact, computed.shape)), dtype=np.float64)


def _apart(computed: float, exact: Any) -> float:
    ball = Ball(exact).x
    if not ball.is_finite():
        return np.nan
    return float(abs(ball - computed).mid()) if np.isfinite(computed) else np.inf


_APART = np.frompyfunc(_apart, 2, 1)
