"""Symbolic analysis: the first-order bound as a function of the unit roundoffs.

Per output element, to first order in u (second-order terms and underflow dropped, so a heuristic and never a proof),

    |computed - exact| <~ c_store u_store + c_acc u_acc + c_convert u_store,

with c = sum_k |a_k| . (coefficient of u in beta_k); the multipliers a_k come from the adjoint (section 5.6 of the mathematics).
c_convert weighs the worst rounding of constants and inputs, u |W| and u |x|, which a certificate computes exactly instead.

Per node, the formula that people know (Higham, *Accuracy and Stability*, sections 3.1 and 3.3): n u_acc kappa + u_store for a dot
product of n terms with condition number kappa, ulps u_acc + u_store for an elementary function, relative to |y|.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.engines.running import State
from certify.engines.sweep import Sweep
from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS, Format
from certify.number.upward import Array
from certify.semantics.contract import PartialSums

if TYPE_CHECKING:
    import sympy

NOTHING = 2.0**-400  # what the adjoint charges for multipliers that underflow is no coefficient
SMALL = 2.0**-40  # a unit roundoff small enough that a coefficient is a difference quotient


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The first-order bound of every element of one output, (cases, *shape): c_store u_store + c_acc u_acc + c_convert u_store."""

    store: Array
    accumulate: Array
    convert: Array

    def bound(self, storage: Format, accumulator: Format) -> Array:
        """First-order bound in these formats; an underflow or overflow is not seen."""
        held = (self.store + self.convert) * storage.unit_roundoff
        return np.asarray(held + self.accumulate * accumulator.unit_roundoff)


@dataclass(slots=True)
class Verbs:
    """An arithmetic that rounds with given small unit roundoffs, first order only, and remembers what it was asked.

    u_store: of the delivered result; u_acc: inside the kernel. Accuracies of elementary functions are those of `real`,
    in units of its own roundoff.
    """

    step: Step
    u_store: float
    u_acc: float
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    underflow: float = 0.0

    def __post_init__(self) -> None:
        if self.step.inner:
            self.u_store = self.u_acc

    @property
    def storage(self) -> Format:
        return FORMATS["fp64"]

    @property
    def accumulator(self) -> Format:
        return FORMATS["fp64"]

    @property
    def unit_roundoff(self) -> float:
        return self.u_acc

    def round(self, magnitude: Array, quantum: Array | float = 0.0) -> Array:
        self.asked.append(("round", 1, ""))
        return self.u_store * magnitude

    def sum(self, n: int, magnitude: Array, total: Array, largest: Array, nonzero: Array | None = None) -> Array:
        one = np.ones(1)
        if n == 1 and not np.any(self.step.arithmetic.sum(1, one, one, one)):
            return np.zeros_like(magnitude)  # a copy that the real arithmetic delivers as it is
        self.asked.append(("sum", n, ""))
        return self.u_acc * (n - 1) * magnitude + self.u_store * total

    def dot(
        self,
        n: int,
        magnitude: Array,
        total: Array,
        largest: Array,
        addend: Array | float = 0.0,
        nonzero: Array | None = None,
        partial: PartialSums | None = None,
        addends: int = 1,
    ) -> Array:
        self.asked.append(("dot", n, ""))
        return self.u_acc * (n + addends - 1) * (magnitude + addend) + self.u_store * total

    def addition(self, magnitude: Array, smaller: Array, quantum: Array | float = 0.0) -> Array:
        return self.round(magnitude, quantum)

    def scaled(self, magnitude: Array) -> Array:
        return self.u_store * magnitude

    def delivered(self, exact: Enclosure) -> Enclosure:
        return exact

    def elementary(self, kernel: str, magnitude: Array) -> Array:
        self.asked.append(("elementary", 1, kernel))
        return (self.accuracy(kernel)[0] + self.u_store) * magnitude

    def accuracy(self, kernel: str) -> tuple[float, float]:
        real = self.step.arithmetic
        return self.u_acc * real.accuracy(kernel)[0] / max(real.unit_roundoff, 2.0**-60), 0.0

    def convert(self, magnitude: Array) -> Array:
        self.asked.append(("convert", 1, ""))
        return self.u_store * magnitude


def perturbed(problem: Problem, stored: Collection[str]) -> Problem:
    """The problem whose inputs among `stored` deviate by SMALL |x|, so that a sweep has linear maps all the way from them."""
    return replace(problem, radii={name: SMALL * problem.values[name].mag for name in problem.inputs if name in stored})


def coefficients(sweep: Sweep, output: str, stored: Collection[str]) -> Coefficients:
    """c_store, c_acc, c_convert of one case of a `perturbed` problem, by three adjoint walks over the same linear maps.

    stored: names of the inputs and constants that are rounded into storage (integers are not).
    """
    X = sweep.problem.values[output]
    found = []
    for u_store, u_acc, convert in ((SMALL, 0.0, False), (0.0, SMALL, False), (0.0, 0.0, True)):
        if convert:
            noise = {step.output: _conversion(sweep, step, stored) for step in sweep.problem.steps}
        else:
            noise = {step.output: _noise(sweep, step, u_store, u_acc) for step in sweep.problem.steps}
        bound = _weighed(sweep, output, noise, convert).reshape(X.shape)
        found.append(np.where(bound < NOTHING, 0.0, bound) / SMALL)
    return Coefficients(*found)


def _weighed(sweep: Sweep, output: str, noise: dict[str, Array], inputs: bool) -> Array:
    """The sweep's bound of every element under another noise, with the inputs' own deviation or without."""
    radii = sweep.problem.radii
    problem = sweep.problem if inputs else replace(sweep.problem, radii={name: np.zeros_like(r) for name, r in radii.items()})
    elements = np.arange(int(np.prod(problem.values[output].shape[1:])))
    return replace(sweep, problem=problem, noise=noise, centres={}).units(output, elements)


def _noise(sweep: Sweep, step: Step, u_store: float, u_acc: float) -> Array:
    X, _ = sweep.state.operands(step)
    Y = sweep.problem.values[step.output]
    if u_store == u_acc == 0.0 or _is_integer(step):
        return np.zeros(Y.shape)
    beta = step.rule.rounding(X, (None,) * len(X), Verbs(step, u_store, u_acc), Y.mag, [0.0] * len(X), **step.attributes)
    return np.asarray(np.broadcast_to(beta, Y.shape))


def _is_integer(step: Step) -> bool:
    return step.arithmetic.unit_roundoff == 0.0


def _conversion(sweep: Sweep, step: Step, stored: Collection[str]) -> Array:
    """First-order effect on the step's result of rounding its constant operands: |L| SMALL |W|."""
    X, _ = sweep.state.operands(step)
    Y = sweep.problem.values[step.output]
    constants = [i for i, name in enumerate(step.operands) if name in stored and _is_constant(sweep.problem, name)]
    if not constants or _is_integer(step):
        return np.zeros(Y.shape)
    moved = tuple(SMALL * X[i].mag if i in constants and X[i] is not None else None for i in range(len(X)))  # type: ignore[union-attr]
    return np.asarray(np.broadcast_to(step.rule.linearize(X, moved, **step.attributes).magnitude(moved), Y.shape))


def _is_constant(problem: Problem, name: str | None) -> bool:
    return name not in problem.produced and name not in problem.inputs


def formula(problem: Problem, step: Step) -> sympy.Expr:
    """The relative first-order error of one step, |delta y| / |y|, in u_store, u_acc, n, kappa and Lipschitz-free terms."""
    import sympy

    X, _ = State(problem).operands(step)
    recorder = Verbs(step, SMALL, SMALL)
    if not _is_integer(step):
        step.rule.rounding(X, (None,) * len(X), recorder, problem.values[step.output].mag, [0.0] * len(X), **step.attributes)
    u_store, u_acc = sympy.symbols("u_store u_acc", positive=True)
    kappa = sympy.Symbol("kappa", positive=True)
    last = u_acc if step.inner else u_store
    total: sympy.Expr = sympy.Integer(0)
    for verb, n, kernel in recorder.asked:
        match verb:
            case "dot":
                total += n * kappa * u_acc + last
            case "sum":
                total += (n - 1) * kappa * u_acc + last
            case "elementary":
                ulps = sympy.nsimplify(round(recorder.accuracy(kernel)[0] / SMALL, 6))
                total += ulps * u_acc + last
            case _:
                total += last
    return sympy.expand(total)
