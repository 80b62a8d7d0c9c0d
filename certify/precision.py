"""How many bits does a budget need? The first-order formula proposes, the proved bound decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from certify.analysis.bind import Program, bind
from certify.analysis.problem import Problem
from certify.data import Inputs, inputs_for, read
from certify.engines import adjoint
from certify.engines.answer import answer
from certify.engines.symbolic import Coefficients, coefficients, formula
from certify.errors import InvalidData, UsageError
from certify.graph.load import load
from certify.graph.model import ModelGraph
from certify.number.formats import FORMATS, Format, format_named, synthetic_format
from certify.pipeline import problems
from certify.profiles import profile_named
from certify.request import Progress, Request, no_progress

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
    """The relative first-order error of a node as a formula in u_store, u_acc, kappa."""

    node: str
    op: str
    text: str


@dataclass(frozen=True, slots=True)
class Precision:
    """The answer for the largest absolute error of any output element of any case.

    precision: least p for which the bound of a format with p bits and fp32's exponents is *proved* within the budget;
               None if not even 53 bits are.
    store, accumulate, convert: coefficients of the first-order bound store u_store + accumulate u_acc + convert u_store.
    """

    budget: float
    precision: int | None
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
    graph = load(request.model, request.shapes, None if raw is None else raw.shapes)
    inputs = inputs_for(graph, request, raw)
    proved = _Prover(graph, inputs, request)
    pairs = list(problems(proved.program(None), inputs))
    first = _first_order(pairs)
    exact = pairs[0][1]
    progress("first order", 0.1)
    shown = []
    for i, (name, format) in enumerate(FORMATS.items()):
        accumulator = _accumulator(request, format)
        estimate = max(float(c.bound(format, accumulator).max(initial=0.0)) for c in first)
        bound = proved.bound(format)
        shown.append(FormatAnswer(name, format.precision, estimate, bound, bound <= budget))
        progress("formats", 0.1 + 0.4 * (i + 1) / len(FORMATS))
    guess = max((c.precision(budget) or WIDEST for c in first), default=1)
    least = _least(lambda p: proved.bound(synthetic_format(p)) <= budget, guess)
    formulas = tuple(NodeFormula(step.node, step.kind, str(formula(exact, step))) for step in exact.steps)
    return Precision(
        budget,
        least,
        max(float(c.store.max(initial=0.0)) for c in first),
        max(float(c.accumulate.max(initial=0.0)) for c in first),
        max(float(c.convert.max(initial=0.0)) for c in first),
        tuple(shown),
        tuple(row for row in formulas if row.text != "0"),
    )


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


def _accumulator(request: Request, storage: Format) -> Format:
    if request.accumulate is not None:
        return format_named(request.accumulate)
    return FORMATS["fp32"] if storage.precision <= 24 else FORMATS["fp64"]


@dataclass(frozen=True, slots=True)
class _Prover:
    graph: ModelGraph
    inputs: Inputs
    request: Request

    def program(self, storage: Format | None) -> Program:
        accumulator = None if self.request.accumulate is None else format_named(self.request.accumulate)
        return bind(self.graph, profile_named(self.request.profile, storage, accumulator, str(self.request.summation)))

    def bound(self, storage: Format) -> float:
        """The proved bound of the largest absolute error over outputs, cases and elements."""
        found = answer(problems(self.program(storage), self.inputs), self.inputs.facts.cases, "adjoint", [])
        return max((float(bounds.total.max(initial=0.0)) for bounds in found.outputs.values()), default=0.0)


def _first_order(pairs: list[tuple[Problem, Problem]]) -> list[Coefficients]:
    found: list[Coefficients] = []
    for _, one in pairs:
        sweep = adjoint.sweep(one)
        found.extend(coefficients(sweep, name) for name in one.outputs if name in sweep.steps and name in sweep.state.tubes)
    if not found:
        raise InvalidData("bits: no output depends on any rounding, so every format is exact")
    return found
