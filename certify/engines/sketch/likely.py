"""Tubes that hold with high probability if roundings have mean zero: two kinds of draws, of what may be anything and of what fluctuates.

w = e - d satisfies w_k = L_k w_parents + (within q_k) + (a sum of roundings with variance proxies sigma_k^2), q_k without those roundings
(engines/fluctuation). Hence L_k w_parents is at most

    s'_k + |M_k|,   s'_k = sum_j |A_kj| q_j,   M_k a martingale with squared increments of at most n'_k^2 = sum_j (A_kj sigma_j)^2 together,

as long as no tube is left before. Cauchy draws of scales q tell s' (engines/sketch/proposal), normal draws of deviations sigma tell n':
pushed like those, they are normal with deviation n'_k. A claim about n' is tested by the sum of squares of fresh draws (norms). With all
claims true, and Azuma's inequality for each of the stopped martingales, no tube is left: docs/probabilistic.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Step
from certify.engines.contract import Progress
from certify.engines.fluctuation import Fluctuating
from certify.engines.multipliers import gamma_bound, times
from certify.engines.parallel import in_order
from certify.engines.sketch.draws import Draws, standard_normal
from certify.engines.sketch.norms import NormTest
from certify.engines.sketch.proposal import FLOOR, WORTH, Proposal
from certify.engines.sketch.verify import Verdict
from certify.number.upward import Array, add_up, inflate


@dataclass
class LikelyProposal(Proposal):
    """A proposal whose `claims` are about what may be anything; its tubes hold with the `quantile` times `sizes` for what fluctuates.

    normal:  draws that estimates of sizes are made of. paid: 1 / PHI times the root of how many numbers are drawn.
    boost:   what estimates are multiplied by; lifted: by step, a factor more.
    sizes:   of what is pushed, its deviation as claimed, or as known without draws; norms: of every value with its own roundings.
    strewn:  the deviations that are drawn. least: what a limit is not below. told: by step, where the size is a claim.
    earlier: without draws, the sizes that are claimed again, infinite where none is.
    """

    normal: Draws | None = None
    quantile: float = 0.0
    paid: float = 0.0
    boost: float = 2.0
    lifted: dict[str, Array] = field(default_factory=dict)
    sizes: dict[str, Array] = field(default_factory=dict)
    norms: dict[str, Array] = field(default_factory=dict)
    strewn: dict[str, Array] = field(default_factory=dict)
    least: dict[str, Array] = field(default_factory=dict)
    told: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    reaches: dict[str, Array] = field(default_factory=dict)
    earlier: dict[str, Array] = field(default_factory=dict)

    def worst(self, name: str) -> Array:
        """Without the roundings of mean zero."""
        state = self.state
        if not isinstance(state, Fluctuating) or name not in state.sigma:
            return self.noise[name]
        return add_up(self.quiet[name], state.bias[name])

    def arriving(self, name: str, scale: Array, quiet: Array) -> Array:
        """As in `Proposal`, and what fluctuates."""
        return add_up(super().arriving(name, scale, quiet), times(np.asarray(self.quantile), self.sizes[name]))

    def _pushed(self, step: Step, lost: npt.NDArray[np.bool_]) -> tuple[Array | None, Array, Array]:
        """As in `Proposal`; the normal draws are pushed on the way."""
        found = super()._pushed(step, lost)
        self.reaches[step.output] = found[1]
        linear, name = self.maps[step.output], step.output
        gain = linear.magnitude([None if operand is None else self.norms.get(operand) for operand in step.operands])
        gain = np.where(np.isnan(gain) | lost, np.inf, np.broadcast_to(gain, lost.shape))
        self._held = None if self.normal is None else self.normal.pushed(step, linear)
        least = np.maximum(times(np.asarray(self.paid), times(gamma_bound(linear.terms + 6), gain)), FLOOR)
        self.least[name] = least = np.where(gain > 0.0, least, 0.0)
        self.sizes[name], self.told[name] = gain, np.zeros(lost.shape, dtype=bool)
        alone = linear.terms == 0 or (step.rule.pointwise and sum(operand in self.norms for operand in set(step.operands)) == 1)
        if not alone:  # else the norms before say all
            claim = np.maximum(self._estimate(name), least)
            self.told[name] = claim < WORTH * gain
            self.sizes[name] = np.where(self.told[name], claim, gain)
        return found

    def _estimate(self, name: str) -> Array:
        """The size to claim."""
        if self._held is None:
            return self.earlier.get(name, np.full((), np.inf))
        estimate = root_mean_square(self._held) * (self.boost * self.lifted.get(name, np.ones(())))
        return np.where(np.isnan(estimate), np.inf, estimate)

    @property
    def claimed(self) -> dict[str, Array]:
        """By step, the sizes that are claims, infinite elsewhere."""
        return {name: np.where(told, self.sizes[name], np.inf) for name, told in self.told.items()}

    def _draw(self, name: str, pushed: Array | None, scale: Array, noise: Array) -> None:
        """As in `Proposal`, and normal draws of the roundings."""
        super()._draw(name, pushed, scale, noise)
        state, shape = self.state, noise.shape
        known = name in self.maps
        size = np.broadcast_to(self.sizes[name] if known else np.zeros(()), shape)
        sigma = np.zeros(shape)
        if isinstance(state, Fluctuating) and name in state.sigma:
            sigma = np.array(np.broadcast_to(state.sigma[name], shape))
        copied = known and self.maps[name].terms == 0 and not sigma.any()
        drawn = np.maximum(sigma, np.broadcast_to(self.least[name], shape)) if known and not copied else sigma
        finite = np.isfinite(drawn) & np.isfinite(size)
        drawn = np.where(finite, np.where(drawn > 0.0, np.maximum(drawn, FLOOR), 0.0), 0.0)
        self.strewn[name] = drawn
        with np.errstate(over="ignore"):
            self.norms[name] = np.where(finite, inflate(np.hypot(size, drawn), 4), np.inf)
        if self.normal is not None:
            self.normal.hold(name, self._held if known else None, drawn)

    def _release(self, step: Step) -> None:
        super()._release(step)
        if self.normal is not None:
            self.normal.release(step)


@dataclass
class FirstOrderProposal(LikelyProposal):
    """Over a `FirstOrder` state, whose tubes say nothing of what arrives."""

    def tighter(self, running: Array, claimed: Array) -> Array:
        """As claimed."""
        return claimed


def root_mean_square(pushed: Array) -> Array:
    """(1, *shape)"""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.mean(pushed**2, axis=0)))[None]


def caps_of(made: LikelyProposal, found: Verdict, sizes: Mapping[str, Array]) -> dict[str, Array]:
    """What arrives at most at each step that draws reach, (1, *shape), by what the tests left of all claims."""
    caps = {}
    for name, scale in made.reaches.items():
        claim = made.claims.get(name)
        if claim is not None:
            scale = np.where(claim.made, claim.scale * found.shares.get(name, 1.0) * (1.0 + 2.0**-50), scale)
        made.sizes[name] = sizes.get(name, made.sizes[name])
        caps[name] = made.arriving(name, scale, made.quiet[name])
    return caps


def sizes_of(made: LikelyProposal, test: NormTest, chunk: int, seed: tuple[int, ...], progress: Progress | None = None) -> dict[str, Array]:
    """By step, upper limits of the deviations that `sizes` claims, from fresh draws of this seed, (1, *shape)."""
    starts = range(0, test.draws, chunk)
    total: dict[str, Array] = {}

    def summed(start: int) -> Mapping[str, Array]:
        return _squares(made, min(chunk, test.draws - start), (*seed, start))

    for done, found in enumerate(in_order(summed, starts), 1):
        for name, squares in found.items():
            total[name] = total[name] + squares if name in total else squares
        if progress is not None:
            progress("testing fluctuations", done / len(starts))
    return {name: _limit(made, name, squares, test) for name, squares in total.items()}


def _limit(made: LikelyProposal, name: str, squares: Array, test: NormTest) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        limit = inflate(np.sqrt(inflate(squares, test.draws + 8)) * test.factor, 4)
    limit = np.maximum(np.where(np.isnan(limit), np.inf, limit), made.least[name])
    return np.where(made.told[name], limit, made.sizes[name])


def _squares(made: LikelyProposal, draws: int, seed: tuple[int, ...]) -> dict[str, Array]:
    """Of so many draws of each step's pushed value, the sum of squares."""
    walk = Draws(made.problem, draws, seed, standard_normal)
    found: dict[str, Array] = {}
    for name in made.problem.radii:
        if name in made.strewn:
            walk.hold(name, None, made.strewn[name])
    for step in made.problem.steps:
        name, linear = step.output, made.maps.get(step.output)
        pushed: Array | None = None if linear is None else walk.pushed(step, linear)
        if pushed is not None and made.told[name].any():
            with np.errstate(over="ignore", invalid="ignore"):
                found[name] = np.einsum("m...,m...->...", pushed, pushed)[None]
        if name in made.strewn:
            walk.hold(name, pushed, made.strewn[name])
        walk.release(step)
    return found
