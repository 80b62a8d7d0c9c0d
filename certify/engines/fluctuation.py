"""What is born at a step, in two parts: worst case, and roundings of which nothing is assumed but that each has mean zero.

With eps_1, eps_2, ... the roundings of a run in the order in which it does them, the assumption is E[eps_j | eps_1 ... eps_(j-1)] = 0
(Connolly, Higham & Mary 2021, model 4.7; elements are computed one after another). What a step adds to element i is then

    (within bias_i) + (a sum of such roundings, of no other element, each at most c_ij), sigma_i^2 = sum_j c_ij^2,

and sigma_i <= beta_i + bias_i may always be taken, beta_i the worst case of both: a sum of mean zero given all before is sub-Gaussian with
the square of its largest size as proxy as well (Hoeffding 1963, (4.16)). docs/probabilistic.md has the rest of the proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from certify.analysis.problem import Step
from certify.engines.running import State
from certify.number.upward import TINY, Array, add_up, lift
from certify.semantics.contract import Errors, Operands, Radii, Roundings


def quantile(claims: int, eta: float) -> float:
    """lambda with 2 claims exp(-lambda^2 / 2) <= eta: by Azuma's inequality |sum a eps| <= lambda sqrt(sum a^2 c^2) in all of so many
    claims, but for a probability of at most eta."""
    return math.sqrt(2.0 * (math.log(2.0 * max(claims, 1)) - math.log(eta))) * (1.0 + 1e-12)


def roundings_of(step: Step) -> tuple[Errors | None, Roundings | None]:
    """What the step's rule says of its roundings (`Rule.errors`), and its arithmetic's roundings, where both have a word on them.

    Raises ValueError for another word than those.
    """
    errors = getattr(step.rule, "errors", None)
    kind: Errors | None = None if errors is None else errors(**step.attributes)
    if kind not in (None, *get_args(Errors)):
        raise ValueError(f"{step.rule.name}: {kind!r} says nothing of roundings")
    independent = None if kind is None else getattr(step.arithmetic, "independent", None)
    return kind, None if independent is None else independent()


@dataclass
class Fluctuating(State):
    """A forward pass that also keeps both parts of each step's rounding. bias, sigma: (1, *shape) by step; a sigma of 0 is left out.

    usual: if `sampling`, by step, the deviation that a sum's roundings usually have (no bound), where sigma is that of a sum.
    """

    bias: dict[str, Array] = field(default_factory=dict)
    sigma: dict[str, Array] = field(default_factory=dict)
    usual: dict[str, Array] = field(default_factory=dict)
    sampling: bool = False

    def born(self, step: Step, X: Operands, r: Radii, magnitude: Array, quanta: Any) -> Array:
        """As `State.born`, with a note of its parts."""
        told = self.problem.told(step)
        kind, roundings = roundings_of(step)
        self.sigma.pop(step.output, None)
        if roundings is None:
            beta = step.rule.rounding(X, r, step.arithmetic, magnitude, quanta, **told)
            return self._split(step, beta, beta, None)
        beta = step.rule.rounding(X, r, roundings, magnitude, quanta, **told)
        if kind == "one":
            return self._split(step, beta, np.zeros_like(beta), beta)
        if kind == "own" and roundings.deviation is not None:
            if self.sampling:
                self.usual[step.output] = np.minimum(roundings.usual, beta)
            return self._split(step, beta, np.zeros_like(beta), roundings.deviation)
        if kind == "told":
            rule: Any = step.rule
            bias, sigma = rule.fluctuation(X, r, roundings, magnitude, **told)
            if self.sampling:
                self.usual[step.output] = np.minimum(rule.fluctuation(X, r, roundings, magnitude, usual=True, **told)[1], beta)
            return self._split(step, beta, np.minimum(bias, beta), sigma)
        if not np.any(roundings.store(np.ones(1))):
            return self._split(step, beta, beta, None)
        kernel = step.rule.rounding(X, r, roundings.unstored, magnitude, quanta, **told)
        return self._split(step, beta, np.minimum(kernel, beta), roundings.store(add_up(magnitude, kernel)))

    def _split(self, step: Step, beta: Array, bias: Array, sigma: Array | None) -> Array:
        if sigma is None:
            self.bias[step.output] = lift(beta)
            return beta
        known = np.isfinite(sigma) & np.isfinite(beta)
        self.bias[step.output] = lift(np.where(known, np.broadcast_to(bias, beta.shape), beta))
        least = np.where(known, np.minimum(sigma, add_up(beta, bias)), 0.0)
        if least.any():
            self.sigma[step.output] = lift(least)
        return beta


@dataclass
class FirstOrder(Fluctuating):
    """A forward pass that linearises at the exact values: tubes are so small that nothing is of second order, or infinite."""

    def local_rounding(self, step: Step, modulus: Array) -> Array:
        """Of a step on exact operands."""
        return super().local_rounding(step, np.zeros_like(modulus))

    def record(self, step: Step, arriving: Array, beta: Array) -> None:
        """As in `State`, of what deviates at all."""
        super().record(step, _hint(arriving), _hint(beta))
        self.local[step.output] = np.broadcast_to(beta, self.local[step.output].shape)


def _hint(x: Array) -> Array:
    return np.where(np.isfinite(x), np.where(x > 0.0, TINY, 0.0), np.inf)
