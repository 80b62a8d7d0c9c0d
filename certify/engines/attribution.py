"""Whose error is it? One output element's bound, taken apart by step and by cause.

The bound of a functional is sum_k |a_k|.noise_k plus |<row, d>| (engines/sweep), and the noise of a step is

    beta (what its kernel rounds) + the remainder's radius + the float64 reference's own error.

beta is asked for twice: as the kernel delivers its result, and as it would leave it in its own format. The difference is what storing
costs; the rest is the kernel's: an elementary function's error, or what sums lose on the way. An operation that is rounded once, by
storing it, has nothing else. Where the bound is a probabilistic one, roundings of mean zero count by their squares: steps with q_k of
Q = sum q_k in the squares have lambda q_k / sqrt(Q) of the bound's lambda sqrt(Q).

What storing a constant or an input does to the element is |<pull of a_k to it, stored - exact>| to first order; here the bound
sum |pull of a_k| |stored - exact|, so that contributions of elements do not cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from certify.analysis.problem import Step
from certify.engines.fluctuation import Fluctuating, roundings_of
from certify.engines.multipliers import squares, unit_rows, weigh
from certify.engines.sweep import Sweep
from certify.number.upward import Array, add_up
from certify.semantics.contract import Arithmetic

Cause: TypeAlias = Literal["weights", "inputs", "accumulation", "storage", "elementary", "second order", "reference"]
CAUSES: tuple[Cause, ...] = ("weights", "inputs", "accumulation", "storage", "elementary", "second order", "reference")
SUMS, FUNCTIONS = frozenset({"sum", "dot"}), frozenset({"elementary", "accuracy"})


@dataclass(frozen=True, slots=True)
class Share:
    """What one step (or constant, or input) has of the bound, by one cause. step: the step, or the one that reads it. squared: the amount
    is what it has of the squares of the roundings of mean zero."""

    source: str
    cause: Cause
    amount: float
    step: str = ""
    squared: bool = False


class _Heard:
    """An arithmetic that remembers what it was asked for."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self._arithmetic, name)


def attributed(
    one: Sweep,
    inner: Mapping[str, Arithmetic],
    output: str,
    element: int,
    moved: Mapping[str, Array],
    inputs: frozenset[str],
    times: float | None = None,
) -> list[Share]:
    """All shares of the bound of `element`, a flat one, of an output in a finished sweep of one case. times: of a probabilistic bound,
    what its deviation is multiplied by; None: of the worst case.

    inner: by step output, its arithmetic without the store. moved: |stored - exact|, (1, *shape), of constants and inputs that storing
    moves; inputs: which of the names are inputs.
    """
    order = one.ancestors(output)
    row = unit_rows(one.problem.values[output].shape[1:], [(np.array([element]), 1.0)])(0, 1)
    middle, doubt = one.centre_of(output, row)
    shares = [Share(output, "second order", float(add_up(np.abs(middle), doubt)[0]))] if np.any(middle) else []
    for name, a in one.multipliers(order, output, row):
        step = one.steps.get(name)
        if step is None:
            shares.append(Share(name, "inputs", float(weigh(a, one.given_noise(name))[0][0])))
            continue
        shares += _of_step(one, step, a, inner, times)
        shares += _of_conversion(one, step, a, moved, inputs)
    if times is not None:
        shares = _by_squares(shares, times)
    return [share for share in shares if share.amount > 0.0]


def _by_squares(shares: list[Share], times: float) -> list[Share]:
    """Squares turned into parts of `times` the root of their sum."""
    total = sum(share.amount for share in shares if share.squared)
    scale = times / np.sqrt(total) if total > 0.0 else 0.0
    return [Share(x.source, x.cause, x.amount * scale, x.step) if x.squared else x for x in shares]


def _of_step(one: Sweep, step: Step, a: Array, inner: Mapping[str, Arithmetic], times: float | None) -> list[Share]:
    """What is born at the step. The parts of the kernel and of storing add up to the whole beta, whatever the kernel's own is."""
    name, beta = step.output, one.state.local[step.output]
    heard = _Heard(inner.get(name, step.arithmetic))
    kernel = np.minimum(_rounding(one, step, heard), beta)
    linear = one.maps.get(name)
    second = np.zeros_like(beta) if linear is None else np.broadcast_to(linear.radius, beta.shape)
    with np.errstate(invalid="ignore"):
        stored = np.where(np.isinf(beta), 0.0, beta - kernel)
    cause: Cause = "elementary" if heard.asked & FUNCTIONS else "accumulation" if heard.asked & SUMS else "storage"
    if times is not None and isinstance(one.state, Fluctuating) and name in one.state.sigma:
        return _fluctuating(one, step, a, cause, second)
    total, own, kept, remainder = (float(x[0]) for x in weigh(a, one.noise[name], kernel, stored, second))
    known = own + kept + remainder
    found = [Share(name, cause, own), Share(name, "storage", kept), Share(name, "second order", remainder)]
    return [*found, Share(name, "reference", max(0.0, total - known))] if np.isfinite(known) else found


def _fluctuating(one: Sweep, step: Step, a: Array, cause: Cause, second: Array) -> list[Share]:
    """The same, of a step with roundings of mean zero."""
    name, state = step.output, one.state
    assert isinstance(state, Fluctuating)
    _, roundings = roundings_of(step)
    Y, sigma = one.problem.values[name], state.sigma[name]
    last = np.zeros(()) if roundings is None else np.minimum(roundings.store(Y.mag), sigma)
    steady, own, remainder = (float(x[0]) for x in weigh(a, one.quiet[name], state.bias[name], second))
    whole, kept = (float(squares(a, np.broadcast_to(x, Y.shape))[0]) for x in (sigma, last))
    return [
        Share(name, cause, own),
        Share(name, cause, max(0.0, whole - kept), squared=True),
        Share(name, "storage", min(kept, whole), squared=True),
        Share(name, "second order", remainder),
        Share(name, "reference", max(0.0, steady - remainder)),
    ]


def _rounding(one: Sweep, step: Step, arithmetic: Any) -> Array:
    """beta of the step with this arithmetic, on the same operands and magnitudes."""
    X, r = one.state.operands(step)
    Y = one.problem.values[step.output]
    tube = one.state.tubes.get(step.output)
    magnitude = Y.mag if tube is None else add_up(Y.mag, tube)
    quanta = [one.state.quantum(name) for name in step.operands]
    return np.broadcast_to(step.rule.rounding(X, r, arithmetic, magnitude, quanta, **one.problem.told(step)), Y.shape)


def _of_conversion(one: Sweep, step: Step, a: Array, moved: Mapping[str, Array], inputs: frozenset[str]) -> list[Share]:
    """What storing the step's own constants and inputs does to the element, to first order."""
    names = {name for name in step.operands if name in moved}
    if not names:
        return []
    X, _ = one.state.operands(step)
    r = tuple(moved.get(name or "") for name in step.operands)
    with np.errstate(invalid="ignore", over="ignore"):
        pulled = step.rule.linearize(X, r, **one.problem.told(step)).pull(a)
    found = []
    for name, part in zip(step.operands, pulled, strict=False):
        if name in names and name is not None and part is not None:
            found.append(Share(name, "inputs" if name in inputs else "weights", float(weigh(part, moved[name])[0][0]), step.output))
    return found
