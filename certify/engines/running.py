"""Running error analysis (Wilkinson): one forward pass of r_k = modulus(X, r_parents) + beta_k + defect_k.

Proof, by induction over the topological order: computed_k - z_k = [kernel(x^) - f(x^)] + [f(x^) - f(x)] + [f(x) - z_k],
with x the trajectory and x^ the computed operands, |x^ - x| <= r. The first bracket is at most `rounding`, the second
at most `modulus`, the third at most the defect of the float64 trajectory. The exact values satisfy the same
recurrence without the first bracket, so each tube holds for exact - z as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem, Step
from certify.engines.contract import ErrorBound, Guarantee, Lost, Progress
from certify.number.enclosure import Enclosure
from certify.number.formats import Format
from certify.number.rounding import ulp
from certify.number.streamed import Streamed, slabs
from certify.number.upward import Array, add_up, down, lift
from certify.semantics.contract import Operands, Radii

_SIGNIFICAND = 2**52 - 1  # the bits of a float64 below the leading one


class _Quanta(Sequence[Array]):
    """Operand quanta, worked out only for the operands that a rule asks about."""

    def __init__(self, state: State, operands: tuple[str | None, ...]) -> None:
        self._state, self._operands = state, operands

    def __len__(self) -> int:
        return len(self._operands)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Array]: ...
    def __getitem__(self, index: int | slice) -> Array | Sequence[Array]:
        if isinstance(index, slice):
            return [self._state.quantum(name) for name in self._operands[index]]
        return self._state.quantum(self._operands[index])


def quantum_of(x: Array) -> Array:
    """The largest power of two that divides each element of `x`; 2^300 for 0, which anything divides, 0 (unknown) for infinities."""
    x = np.asarray(np.abs(x), dtype=np.float64)
    code = x.view(np.int64)
    cleared = np.where(code & _SIGNIFICAND != 0, code & (code - 1), 0)  # without the lowest bit; 0 for a power of two
    with np.errstate(invalid="ignore"):
        lowest = x - cleared.view(np.float64)
    return np.where(np.isfinite(x), np.where(x == 0.0, 2.0**300, lowest), 0.0)


def _quantum_in_slabs(x: Array) -> Array:
    found = np.empty(x.shape)
    for part in slabs(x):  # `quantum_of` takes several arrays of its own
        found[part] = quantum_of(x[part])
    return found


def _stored_quantum(storage: Format, smallest: Array, exact: Array | float) -> Array:
    """A power of two that divides every stored value of magnitude >= `smallest` whose exact result `exact` divides.

    A stored number is a multiple of the ulp of its binade and of the smallest subnormal. If the exact result is a multiple
    of q and the grid it is rounded to is finer than q, rounding keeps it; if coarser, the grid is a multiple of q.
    """
    grid = ulp(np.where(np.isfinite(smallest), smallest, 0.0), storage)
    return np.maximum(np.where(np.isfinite(grid), grid, storage.smallest_subnormal), exact)


@dataclass
class State:
    """What a forward pass knows so far about each value: tube, local rounding, quantum."""

    problem: Problem
    rounding: bool = True
    tubes: dict[str, Array] = field(default_factory=dict)
    local: dict[str, Array] = field(default_factory=dict)
    quanta: dict[str, Array] = field(default_factory=dict)
    lost: list[Lost | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tubes.update({name: lift(r) for name, r in self.problem.radii.items() if np.any(r)})
        self.lost = [None] * self.problem.cases

    @property
    def lost_at(self) -> str | None:
        """The step at which the first case's bounds became infinite."""
        return None if not self.lost or self.lost[0] is None else self.lost[0].value

    def operands(self, step: Step) -> tuple[tuple[Enclosure | None, ...], tuple[Array | None, ...]]:
        """(X, r) of a step, as rules want them."""
        X = tuple(None if name is None else self.problem.values[name] for name in step.operands)
        return X, tuple(None if name is None else self.tubes.get(name) for name in step.operands)

    def quantum(self, name: str | None) -> Array:
        """A power of two dividing every computed value of `name`, elementwise."""
        if name is None:
            return np.zeros(())
        if isinstance(X := self.problem.values[name], Streamed) and name not in self.tubes and name not in self.problem.quanta:
            return _quantum_in_slabs(X.lo)  # as large as the constant: not held
        if name not in self.quanta:
            known = self.problem.quanta.get(name)
            if known is None and name not in self.tubes and X.is_point and name not in self.problem.produced:
                known = quantum_of(X.lo)
            self.quanta[name] = np.zeros(X.shape) if known is None else known
        return self.quanta[name]

    def magnitude(self, step: Step, reached: Array) -> Array:
        """Upper bound of |f(x^)| over computed operands, given what values and tubes say."""
        return reached

    def local_rounding(self, step: Step, modulus: Array) -> Array:
        """beta: rounding error born at `step` on operands within their tubes."""
        if not self.rounding:
            return np.zeros((1,) * modulus.ndim)
        X, r = self.operands(step)
        Y = self.problem.values[step.output]
        defect = self.problem.defects.get(step.output, 0.0)
        magnitude = self.magnitude(step, add_up(Y.mag, modulus, defect))
        quanta = _Quanta(self, step.operands)
        beta = self.born(step, X, r, magnitude, quanta)
        exact = step.rule.quantum(quanta, **step.attributes)
        # What is stored is within beta of the exact result: a long sum may end up in the binade below it.
        smallest = np.maximum(down(down(down(Y.mig - modulus) - defect) - beta), 0.0)
        self.quanta[step.output] = _stored_quantum(step.arithmetic.storage, smallest, exact)
        return lift(beta)

    def born(self, step: Step, X: Operands, r: Radii, magnitude: Array, quanta: Sequence[Array]) -> Array:
        """What the step's rule says of its kernel's rounding."""
        return step.rule.rounding(X, r, step.arithmetic, magnitude, quanta, **self.problem.told(step))

    def contaminated(self, step: Step) -> npt.NDArray[np.bool_] | None:
        """Where the result may be NaN or infinite because an operand may be, (cases or 1, ...) against the result; None: nowhere.

        An infinite tube does not say "any real number": the value may have overflowed, and NaN passes through bounded
        functions, through products with 0 and through comparisons. Copies alone carry it no further than what they copy.
        """
        shape = self.problem.values[step.output].shape
        found: npt.NDArray[np.bool_] | None = None
        for name in step.operands:
            tube = None if name is None or getattr(step.rule, "copies", False) else self.tubes.get(name)
            if tube is None or not np.isinf(tube).any():
                continue
            mask = np.isinf(tube)
            if step.rule.pointwise and mask.ndim <= len(shape):
                mask = mask.reshape(mask.shape[0], *(1,) * (len(shape) - mask.ndim), *mask.shape[1:])
            else:
                mask = mask.reshape(mask.shape[0], -1).any(axis=1).reshape(-1, *(1,) * (len(shape) - 1))
            found = mask if found is None else found | mask
        return None if found is None else np.broadcast_to(found, np.broadcast_shapes(found.shape, shape))

    def record(self, step: Step, arriving: Array, beta: Array) -> None:
        """Remember the step's tube, what arrives plus what is born; none where it is zero. Note the first infinite one per case."""
        tube = np.array(np.broadcast_to(add_up(arriving, beta), self.problem.values[step.output].shape))
        if np.isnan(tube).any():
            raise ArithmeticError(f"NaN in the tube of {step.output!r} ({step.kind} {step.node!r})")
        self.local[step.output] = np.broadcast_to(beta, tube.shape)
        self.tubes.pop(step.output, None)
        if np.any(tube):
            self.tubes[step.output] = lift(tube)
        for i in np.flatnonzero(np.isinf(tube).reshape(tube.shape[0], -1).any(axis=1)):
            self._lose(step, bool(np.isinf(arriving).any()), int(i), tube.shape[0])

    def _lose(self, step: Step, arrived: bool, case: int, extent: int) -> None:
        Y = self.problem.values[step.output]
        part = step.rule.name if step.rule.name == step.kind else f"{step.rule.name} inside {step.kind}"
        given = [name for name in step.operands if name is not None and name not in self.problem.produced]
        swamped = [
            name for name in given if np.isinf(self.problem.radii.get(name, 0.0)).any() or np.isinf(self.problem.values[name].lo).any()
        ]
        if swamped:
            reason = f"{swamped[0]!r} is no number, or leaves the range of the format that it is stored in"
        elif arrived:
            widest = [float(self.tubes[name].max()) for name in step.operands if name is not None and name in self.tubes]
            reason = f"{part} is unbounded within the error of its operands (up to {max(widest, default=0.0):.3g})"
        else:
            most = float(np.max(Y.mag))
            reason = f"{part}: values up to {most:.4g}, with their error, may leave the range of {step.arithmetic.storage.name}"
        for i in [case] if extent == len(self.lost) else range(len(self.lost)):
            if self.lost[i] is None:
                self.lost[i] = Lost(step.node, step.output, reason)


def advance(state: State, step: Step) -> None:
    """The running tube of one more step (recorded in `state`)."""
    X, r = state.operands(step)
    Y = state.problem.values[step.output]
    contaminated = state.contaminated(step)
    if contaminated is not None and contaminated.all():
        state.record(step, np.full(Y.shape, np.inf), np.zeros(Y.shape))
        return
    moved = any(radius is not None for radius in r)
    modulus = step.rule.modulus(X, r, **state.problem.told(step)) if moved else np.zeros((1,) * len(Y.shape))
    if contaminated is not None:
        modulus = np.where(contaminated, np.inf, modulus)
    beta = state.local_rounding(step, modulus)
    state.record(step, add_up(modulus, state.problem.defects.get(step.output, 0.0)), beta)


def solve(problem: Problem, rounding: bool = True, progress: Progress | None = None, slim: bool = False) -> ErrorBound:
    """One pass over all cases. `rounding=False` bounds |exact - z| alone (defects only).

    slim: of tubes that no later step needs, and of all local roundings, only the largest element is kept.
    """
    state = State(problem, rounding)
    last = {name: i for i, step in enumerate(problem.steps) for name in step.operands if name is not None} if slim else {}
    for i, step in enumerate(problem.steps):
        advance(state, step)
        if slim:
            state.local[step.output] = _largest(state.local[step.output])
            for name in dict.fromkeys((*step.operands, step.output)):
                if name in state.tubes and last.get(name, i) <= i and name not in problem.outputs:
                    state.tubes[name] = _largest(state.tubes[name])
        if progress is not None:
            progress("running error", (i + 1) / len(problem.steps))
    outputs = {name: full(state.tubes.get(name), problem.values[name].shape, problem.cases) for name in problem.outputs}
    return ErrorBound(Guarantee.PROVED, "running", outputs, state.tubes, state.local, lost=tuple(state.lost))


def _largest(x: Array) -> Array:
    return np.full((1,) * x.ndim, x.max(initial=0.0))


def full(tube: Array | None, shape: tuple[int, ...], cases: int) -> Array:
    """The tube as a (cases, *shape) array; zeros for None."""
    target = (cases, *shape[1:])
    return np.zeros(target) if tube is None else np.array(np.broadcast_to(tube, target))
