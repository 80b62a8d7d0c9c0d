"""How many bits does a budget need? The first-order formula proposes, the proved bound decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from certify.analysis.asked import has_rule, static_operands
from certify.analysis.bind import bind
from certify.analysis.problem import Problem
from certify.analysis.program import Program
from certify.data import Inputs, inputs_for, read
from certify.engines.answer import answer
from certify.engines.methods import Method
from certify.engines.sweep import sweep
from certify.engines.symbolic import Coefficients, coefficients, formula, perturbed
from certify.errors import UsageError
from certify.graph.load import load
from certify.graph.model import ModelGraph
from certify.number.formats import FORMATS, Format, format_named, synthetic_format
from certify.pipeline import problems
from certify.profiles import profile_named
from certify.profiles.contract import Profile
from certify.request import DTYPES, Progress, Request, no_progress

WIDEST = 53


@dataclass(frozen=True, slots=True)
class FormatAnswer:
    """One named format: its first-order estimate, its proved bound, whether that is within the budget."""

    name: str
    precision: int
    estimate: float
    bound: float
    within: bool


@dataclass(frozen=True, slots=True)
class NodeFormula:
    """The relative first-order error of one step as a formula in u_store, u_acc, kappa.

    node, op: of the model; step: the rule, where a composite expands into several.
    """

    node: str
    op: str
    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Precision:
    """The answer for the largest absolute error of any output element of any case.

    precision: p <= 53 for which the bound is *proved* within the budget, while that of p - 1 is not; None if not even 53 bits are.
               The format has p bits and fp32's exponents (fp64's beyond 24 bits); kernels accumulate as the profile says.
    bound, below: the proved bounds of p (of 53 if none suffices) and of p - 1 bits (None for p = 1).
    store, accumulate, convert: coefficients of the first-order bound store u_store + accumulate u_acc + convert u_store.
    """

    budget: float
    precision: int | None
    bound: float
    below: float | None
    store: float
    accumulate: float
    convert: float
    formats: tuple[FormatAnswer, ...]
    formulas: tuple[NodeFormula, ...]


def precision_for(request: Request, budget: float, progress: Progress = no_progress) -> Precision:
    """Raises the errors of `certify.errors`; regions are not answered yet (UsageError)."""
    if request.region or request.vnnlib is not None:
        raise UsageError("bits: answers at points, not for regions; drop --region and --vnnlib")
    raw = None if request.data is None else read(request.data)
    graph = load(request.model, request.shapes, None if raw is None else raw.arrays, static_operands, has_rule)
    inputs = inputs_for(graph, request, raw)
    proved = _Prover(graph, inputs, request)
    own = proved.program(None)
    exact = [problem for _, problem in problems(own, inputs)]
    stored = frozenset(name for name, format in own.formats.items() if format is not None)
    progress("first order", 0.1)
    first = _largest(exact, stored)
    shown = []
    for i, name in enumerate(DTYPES):
        format = FORMATS[name]
        bound = proved.bound(format)
        shown.append(FormatAnswer(name, format.precision, _estimate(first, proved, format), bound, bound <= budget))
        progress("formats", 0.1 + 0.4 * (i + 1) / len(DTYPES))
    guess = next((p for p in range(1, WIDEST) if _estimate(first, proved, synthetic_format(p)) <= budget), WIDEST)
    least = _least(lambda p: proved.bound(synthetic_format(p)) <= budget, guess)
    answered = least or WIDEST
    below = proved.bound(synthetic_format(answered - 1)) if answered > 1 else None
    formulas = tuple(NodeFormula(step.node, step.kind, step.rule.name, str(formula(exact[0], step))) for step in exact[0].steps)
    return Precision(
        budget,
        least,
        proved.bound(synthetic_format(answered)),
        below,
        float(first.store),
        float(first.accumulate),
        float(first.convert),
        tuple(shown),
        tuple(row for row in formulas if row.text != "0"),
    )


def _estimate(first: Coefficients, proved: _Prover, storage: Format) -> float:
    return float(first.bound(storage, proved.accumulator(storage)))


def _least(holds: Callable[[int], bool], guess: int) -> int | None:
    """Least p in 1..53 with holds(p), found upward and downward from `guess`: every p from it to the guess was proved."""
    p = guess
    while p <= WIDEST and not holds(p):
        p += 1
    if p > WIDEST:
        return None
    while p > 1 and holds(p - 1):
        p -= 1
    return p


@dataclass(frozen=True, slots=True)
class _Prover:
    graph: ModelGraph
    inputs: Inputs
    request: Request
    known: dict[Format, float] = field(default_factory=dict)

    def profile(self, storage: Format | None) -> Profile:
        accumulator = None if self.request.accumulate is None else format_named(self.request.accumulate)
        return profile_named(self.request.profile_name, storage, accumulator, str(self.request.summation))

    def accumulator(self, storage: Format) -> Format:
        """The format in which kernels add, for results kept in `storage`."""
        if self.request.accumulate is not None:
            return format_named(self.request.accumulate)
        return self.profile(storage).inner_format(storage)

    def program(self, storage: Format | None) -> Program:
        return bind(self.graph, self.profile(storage))

    def bound(self, storage: Format) -> float:
        """The proved bound of the largest absolute error over outputs, cases and elements."""
        if storage not in self.known:
            found = answer(problems(self.program(storage), self.inputs), self.inputs.facts.cases, Method("adjoint"), [])
            self.known[storage] = max((float(bounds.total.max(initial=0.0)) for bounds in found.outputs.values()), default=0.0)
        return self.known[storage]


def _largest(exact: list[Problem], stored: frozenset[str]) -> Coefficients:
    """The largest coefficients of any output element of any case; zero where no output depends on a rounding."""
    found = []
    for problem in exact:
        swept = sweep(perturbed(problem, stored))
        found += [coefficients(swept, name, stored) for name in problem.outputs if name in swept.steps and name in swept.state.tubes]
    parts = [[c.store for c in found], [c.accumulate for c in found], [c.convert for c in found]]
    return Coefficients(*(np.asarray(max((float(x.max(initial=0.0)) for x in part), default=0.0)) for part in parts))
