"""The adjoint engine: tubes refined by a sweep (engines/sweep.py), then one functional for each element of the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from certify.analysis.problem import Problem
from certify.engines.contract import ErrorBound, Guarantee, Likely, Progress
from certify.engines.running import full
from certify.engines.sweep import ELEMENT, WORK_LIMIT, Sweep, largest_output, sweep
from certify.number.upward import Array, add_up

OUTPUT_LIMIT = 4e10  # nominal nanoseconds spent on an output's functionals, where the engine is chosen automatically


def affordable(problem: Problem) -> bool:
    """False where the outputs' functionals surely exceed OUTPUT_LIMIT: more elements to walk through than that has time for."""
    elements = sum(int(problem.values[step.output].lo[0].size) for step in problem.steps)
    return largest_output(problem) * elements * ELEMENT <= OUTPUT_LIMIT


def solve(
    problem: Problem,
    rounding: bool = True,
    work_limit: float = WORK_LIMIT,
    progress: Progress | None = None,
    output_limit: float = np.inf,
) -> tuple[ErrorBound, Sweep]:
    """One case: refined tubes, then one functional per output element, attributed to the steps.

    Outputs whose functionals take more than `output_limit` nominal nanoseconds keep their tubes.
    """
    one = sweep(problem, rounding, work_limit, progress, output_limit)
    return bound_of(one, Guarantee.PROVED, "adjoint", output_limit), one


def bound_of(one: Sweep, guarantee: Guarantee, engine: str, limit: float) -> ErrorBound:
    """The functionals of all outputs over a finished sweep's tubes, which hold with this guarantee; limit as in `solve`."""
    found = {name: output_of(one, name, limit) for name in one.problem.outputs}
    state = one.state
    return ErrorBound(
        guarantee,
        engine,
        {name: output.bound for name, output in found.items()},
        state.tubes,
        state.local,
        {name: output.shares for name, output in found.items()},
        {name: output.converted for name, output in found.items()},
        tuple(state.lost),
        {name: output.exact for name, output in found.items()},
        {name: output.apart for name, output in found.items()},
        {name: output.likely for name, output in found.items() if output.likely is not None},
    )


@dataclass(frozen=True, slots=True)
class OutputBounds:
    """bound, exact, apart: of |computed - z|, |exact - z|, |computed - exact|. shares: of the worst element, by step or deviating
    constant; converted: what deviating constants and inputs have of the bound; likely: as in `ErrorBound`."""

    bound: Array
    exact: Array
    apart: Array
    shares: dict[str, Array]
    converted: Array
    likely: Likely | None = None


def output_of(one: Sweep, name: str, limit: float) -> OutputBounds:
    """The functionals of a value in a finished sweep of one case; its tube where they are dear."""
    X = one.problem.values[name]
    tube = one.state.tubes.get(name)
    dear = one.dear(name, limit)
    if tube is None or name not in one.steps or (dear and np.isfinite(tube).all()):
        whole = full(tube, X.shape, 1)
        return OutputBounds(whole, whole, 2.0 * whole, {}, whole)
    if np.isinf(tube).all():  # infinite noise meets every row: nothing to gain
        lost = {one.state.lost_at: np.array([np.inf])} if one.state.lost_at else {}
        return OutputBounds(np.array(tube), np.array(tube), np.array(tube), lost, np.zeros(X.shape))
    shares: dict[str, Array] = {}
    quiet: dict[str, Array] = {}
    bound = one.units(name, np.arange(int(np.prod(X.shape[1:]))), shares, quiet)
    flat = np.broadcast_to(tube, X.shape).reshape(-1)
    bound = np.minimum(bound, flat)
    exact, apart = (np.minimum(quiet.get(kind, bound), most * bound) for kind, most in (("exact", 1.0), ("apart", 2.0)))
    converted = add_up(np.zeros_like(bound), *(share for source, share in shares.items() if source in one.problem.radii))
    worst = slice(0, 0) if bound.size == 0 else slice(int(np.argmax(bound)), int(np.argmax(bound)) + 1)
    of_worst = {step: share[worst] for step, share in shares.items()}
    converted = np.minimum(converted, bound).reshape(X.shape)
    kinds = [quiet[kind].reshape(X.shape) for kind in ("steady", "steady apart", "deviation") if kind in quiet]
    likely = Likely(*kinds) if kinds else None
    return OutputBounds(bound.reshape(X.shape), exact.reshape(X.shape), apart.reshape(X.shape), of_worst, converted, likely)
