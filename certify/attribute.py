"""Where the largest error bound of a model comes from: by cause, by layer, by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.analysis.bind import bind
from certify.analysis.problem import Problem
from certify.analysis.program import Program
from certify.analysis.reference import stored_inputs
from certify.analysis.target import target
from certify.data import inputs_for, read
from certify.engines.attribution import CAUSES, Cause, Share, attributed
from certify.engines.contract import Guarantee
from certify.engines.fluctuation import quantile
from certify.engines.methods import Method, candidates
from certify.engines.parallel import single_threaded_products
from certify.engines.probabilistic import output_elements
from certify.engines.sweep import Sweep
from certify.errors import UsageError
from certify.number.formats import Format, format_named
from certify.number.upward import Array
from certify.pipeline import problems
from certify.profiles import profile_named
from certify.profiles.contract import Profile
from certify.request import Progress, Request, no_progress


@dataclass(frozen=True, slots=True)
class Row:
    """A node, a constant or an input: what it has of the bound, in all and by cause."""

    name: str
    op: str
    amount: float
    causes: dict[Cause, float]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The bound of the element whose rounding bound is largest, taken apart.

    bound:  of rounding. conversion: what storing constants and inputs really moves it by, which `causes` bounds element by element, so
            that their sum may be larger. total: of all shares.
    rows:   nodes, constants and inputs, the largest first.
    layers: by the scope that nodes' names state, constants with the nodes that read them.
    """

    output: str
    case: int
    index: tuple[int, ...]
    guarantee: Guarantee
    failure_probability: float
    bound: float
    conversion: float
    total: float
    causes: dict[Cause, float]
    layers: dict[str, float]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Unstored:
    """A profile whose every kernel leaves its result in its own format."""

    profile: Profile

    def __getattr__(self, name: str) -> Any:
        return getattr(self.profile, name)

    def arithmetic(self, kernel: str, operands: Sequence[Format | None], output: Format, inner: bool) -> Any:
        return self.profile.arithmetic(kernel, operands, output, True)


@dataclass(frozen=True, slots=True)
class _Found:
    """The worst element so far, and its shares."""

    output: str
    case: int
    index: tuple[int, ...]
    guarantee: Guarantee
    bound: float
    conversion: float
    shares: list[Share]


def attribution(request: Request, output: str | None = None, progress: Progress = no_progress) -> Attribution:
    """Of one output, or of all. Raises the errors of `certify.errors`; regions and unknown outputs are a UsageError, and so is a model
    whose bound has no multipliers (a running bound)."""
    if request.region or request.vnnlib is not None or request.as_run is not None:
        raise UsageError("attribute: answers at points of the model's own graph; drop --region, --vnnlib and --as-run")
    raw = None if request.data is None else read(request.data)
    storage, accumulator = (None if name is None else format_named(name) for name in (request.dtype, request.accumulate))
    profile = profile_named(request.profile_name, storage, accumulator, str(request.summation))
    unstored: Any = _Unstored(profile)
    with target(request.model, profile, request.shapes, None if raw is None else raw.arrays, None) as subject:
        program, inputs = subject.program, inputs_for(subject.source, request, raw)
        inner = {step.output: step.arithmetic for step in bind(subject.graph, unstored).steps}
    wanted = [name for name in program.outputs if output in (None, name)]
    if not wanted:
        raise UsageError(f"--of {output}: the model has no such output; its outputs are {', '.join(program.outputs)}")
    method = Method.named(request.engine, request.eta, request.seed, request.guarantee)
    worst: _Found | None = None
    with np.errstate(all="ignore"), single_threaded_products():
        for case, (stored, exact) in enumerate(problems(program, inputs)):
            progress("attributing", case / inputs.facts.cases)
            points = {name: x[case : case + 1] if x.shape[0] > 1 else x for name, x in inputs.points.items()}
            worst = _case(stored, exact, method, case, inputs.facts.cases, wanted, inner, _moved(program, points), worst)
    if worst is None:
        raise UsageError("attribute: no output has a bound with multipliers to take apart; choose --engine adjoint or sketch")
    nodes = {step.output: (step.node, step.kind) for step in program.steps}
    return _gathered(worst, nodes, frozenset(inputs.points), request.eta)


def _case(
    stored: Problem,
    exact: Problem,
    method: Method,
    case: int,
    cases: int,
    wanted: list[str],
    inner: dict[str, Any],
    moved: dict[str, Array],
    worst: _Found | None,
) -> _Found | None:
    """The worst element of the case, or `worst`, whichever is worse."""
    best: tuple[Sweep, Guarantee, dict[str, Array]] | None = None
    bound, name = np.inf, ""
    sweep: Sweep | None = None
    for candidate in candidates(stored, exact, method, case, cases):
        sweep = candidate.sweep or sweep  # a weaker guarantee over the same tubes has none of its own
        if sweep is None or candidate.bound.guarantee > (method.accepted or Guarantee.RANDOMIZED):
            continue
        largest = {name: float(candidate.bound.outputs[name].max(initial=0.0)) for name in wanted}
        first = max(wanted, key=largest.__getitem__)
        if best is None or largest[first] < bound:
            best, bound, name = (sweep, candidate.bound.guarantee, candidate.bound.outputs), largest[first], first
    if best is None:
        return worst
    sweep, guarantee, bounds = best
    if (worst is not None and bound <= worst.bound) or name not in sweep.steps:
        return worst
    element = int(bounds[name].argmax())
    times = quantile(output_elements(stored), method.share(cases)) if guarantee >= Guarantee.PROBABILISTIC else None
    shares = attributed(sweep, inner, name, element, moved, frozenset(stored.inputs), times)
    held, true = (problem.values[name].lo.reshape(-1)[element] for problem in (stored, exact))
    place = tuple(int(i) for i in np.unravel_index(element, bounds[name].shape[1:]))
    return _Found(name, case, place, guarantee, bound, abs(float(held - true)), shares)


def _moved(program: Program, points: dict[str, Array]) -> dict[str, Array]:
    """|stored - exact| of what storing moves; 0 where it makes an infinity of a number, which no first order describes."""
    held, _ = stored_inputs(program, points)
    pairs = {name: (program.stored[name], program.exact[name]) for name in program.exact if program.converts(name)}
    pairs |= {name: (held[name], points[name]) for name in points}
    moved = {name: np.abs(a - b) for name, (a, b) in pairs.items() if a is not b}
    return {name: np.where(np.isfinite(x), x, 0.0) for name, x in moved.items()}


def _gathered(found: _Found, nodes: dict[str, tuple[str, str]], inputs: frozenset[str], eta: float) -> Attribution:
    rows: dict[str, dict[Cause, float]] = {}
    ops: dict[str, str] = {}
    layers: dict[str, float] = {}
    for share in found.shares:
        layer = layer_of(nodes.get(share.step or share.source, (share.source, ""))[0])
        layers[layer] = layers.get(layer, 0.0) + share.amount
        name, op = nodes.get(share.source, (share.source, "input" if share.source in inputs else "constant"))
        ops[name] = op
        causes = rows.setdefault(name, {})
        causes[share.cause] = causes.get(share.cause, 0.0) + share.amount
    listed = [Row(name, ops[name], sum(causes.values()), causes) for name, causes in rows.items()]
    listed.sort(key=lambda row: (-row.amount, row.name))
    total = sum(row.amount for row in listed)
    causes = {cause: sum(row.causes.get(cause, 0.0) for row in listed) for cause in CAUSES}
    return Attribution(
        found.output,
        found.case,
        found.index,
        found.guarantee,
        0.0 if found.guarantee == Guarantee.PROVED else eta,
        found.bound,
        found.conversion,
        total,
        causes,
        dict(sorted(layers.items(), key=lambda item: -item[1])),
        tuple(listed),
    )


def layer_of(name: str) -> str:
    """The scope that a name states: what stands before its last "/", or its last "."; the name itself where it states none."""
    inside = name.strip("/")
    for mark in ("/", "."):
        if mark in inside:
            return inside.rsplit(mark, 1)[0]
    return inside
