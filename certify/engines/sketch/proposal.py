"""The first phase: one forward pass that proposes a tube for every value, from the median of draws.

At step k, with d the deterministic centre (engines/sweep), w = e - d satisfies w_k = L_k w_parents + (within b_k). The draws satisfy
T_k = L_k T_parents + b_k C_k, with C_k standard Cauchy and independent: elementwise, L_k T_parents is Cauchy of scale

    s'_k = sum over ancestors j of |(L_k ... L_(j+1))| b_j,     and T_k of scale s_k = s'_k + b_k >= |w_k|.

A *claim* is s'_k <= S_k. S_k is the larger of an estimate times a slack and of what pays for the push's own rounding (docs/sketch.md);
it is only made where it is clearly below |L_k| (the scales before), which needs no draws. If all claims hold, then

    |e_k| <= |d_k| + S_k + noise_k,   by induction, L_k and b_k having been worked out on the tubes before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from certify.analysis.problem import Problem, Step
from certify.engines.contract import Progress
from certify.engines.fluctuation import Fluctuating
from certify.engines.multipliers import gamma_bound, times
from certify.engines.sketch.counts import PHI, SHARES
from certify.engines.sketch.draws import Draws
from certify.engines.sweep import Sweep
from certify.number.upward import Array, add_up, lift

SHARE = PHI / 3.0  # of the noise drawn, at most, that the rounding of a push has
FLOOR = 1e-290  # drawn at least, wherever anything deviates: pays for what underflows in a push
WORTH = 0.9  # a claim says less than this share of what is known without it


@dataclass(frozen=True, slots=True)
class Claim:
    """That the scale of what is pushed is at most `scale` where `made`; (1, *shape) each."""

    scale: Array
    made: npt.NDArray[np.bool_]


@dataclass
class Proposal(Sweep):
    """A sweep whose tubes hold if all `claims` do. scales: of the draws of every value, if they do. drawn: the noise that is drawn.

    draws:  what estimates are made of. slack: what these are multiplied by; raised: by step, a factor more.
    before: without draws, the claims that are made again; the tubes need none of them then.
    caps:   by step, what is known of what arrives, whatever is claimed here.
    """

    draws: Draws | None = None
    slack: float = 2.0
    raised: dict[str, Array] = field(default_factory=dict)
    before: dict[str, Claim] = field(default_factory=dict)
    caps: dict[str, Array] = field(default_factory=dict)
    scales: dict[str, Array] = field(default_factory=dict)
    drawn: dict[str, Array] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)

    def begin(self) -> None:
        """Draw what inputs and constants deviate by before any operation."""
        for name, radius in self.problem.radii.items():
            if name in self.state.tubes:
                self._draw(name, None, np.zeros((1, 1)), lift(np.array(np.broadcast_to(radius, self.problem.values[name].shape))))

    def enter(self, step: Step, limit: float = 0.0) -> None:
        """As in `Sweep`, the tube of what arrives from draws instead of rows."""
        contaminated = self.state.contaminated(step)
        if contaminated is not None and contaminated.all():
            super().enter(step, limit)
            self.scales[step.output] = self.noise[step.output]
            self._release(step)
            return
        shape = self.problem.values[step.output].shape
        arriving = np.broadcast_to(self._linearize(step), shape)
        lost = np.zeros(shape, dtype=bool) if contaminated is None else np.broadcast_to(contaminated, shape)
        quiet = np.where(lost, np.inf, self.noise[step.output])
        pushed, scale, rounded = None, np.zeros(shape), np.zeros(shape)
        if step.output in self.maps:
            pushed, scale, rounded = self._pushed(step, lost)
            arriving = arriving if self.draws is None else self.tighter(arriving, self.arriving(step.output, scale, quiet))
        arriving = np.where(lost, np.inf, np.minimum(arriving, self.caps.get(step.output, np.inf)))
        beta = self.state.local_rounding(step, arriving)
        self.quiet[step.output] = quiet
        self.noise[step.output] = lift(add_up(quiet, beta))
        self.state.record(step, arriving, beta)
        if step.output in self.state.tubes:
            noise = np.broadcast_to(self.worst(step.output), shape)
            copied = step.output in self.maps and self.maps[step.output].terms == 0 and not noise.any()
            self._draw(step.output, pushed, np.where(lost, np.inf, scale), noise if copied else np.maximum(noise, rounded))
        self._release(step)

    def tighter(self, running: Array, claimed: Array) -> Array:
        """What arrives, of two bounds."""
        return np.minimum(running, claimed)

    def worst(self, name: str) -> Array:
        """The noise of a step that is drawn: what of it may be anything within its bounds."""
        return self.noise[name]

    def arriving(self, name: str, scale: Array, quiet: Array) -> Array:
        """What arrives at most where the scale of what is pushed is at most this."""
        return add_up(np.abs(self.centres.get(name, np.zeros(()))), scale, quiet)

    def _release(self, step: Step) -> None:
        if self.draws is not None:
            self.draws.release(step)

    def _pushed(self, step: Step, lost: npt.NDArray[np.bool_]) -> tuple[Array | None, Array, Array]:
        """The draws pushed, the scale that is claimed or known of them, and the noise that pays for their rounding."""
        linear, shape = self.maps[step.output], lost.shape
        with np.errstate(invalid="ignore"):
            gain = linear.magnitude([None if name is None else self.scales.get(name) for name in step.operands])
        gain = np.where(np.isnan(gain), np.inf, np.broadcast_to(gain, shape))
        pushed = None if self.draws is None else self.draws.pushed(step, linear)
        rounded = times(np.asarray(1.0 / SHARE), times(gamma_bound(linear.terms + 6), gain))
        moving = {name for name in step.operands if name in self.scales}
        if linear.terms == 0 or (step.rule.pointwise and len(moving) == 1):  # the scales before say all
            return pushed, gain, rounded
        if pushed is None:
            known = self.before.get(step.output, Claim(np.zeros(shape), np.zeros(shape, dtype=bool)))
            estimate, wanted = known.scale, known.made
        else:
            estimate, wanted = median(pushed) * (self.slack * self.raised.get(step.output, np.ones(()))), np.ones(shape, dtype=bool)
        scale = np.broadcast_to(np.maximum(estimate, np.maximum(rounded, FLOOR) / SHARES[-1]), shape)
        made = np.isfinite(gain) & ~lost & (scale < WORTH * gain) & wanted
        if made.any():
            self.claims[step.output] = Claim(scale, made)
        return pushed, np.where(made, scale, gain), rounded

    def _draw(self, name: str, pushed: Array | None, scale: Array, noise: Array) -> None:
        """What is infinite is not drawn: whatever reads it is lost as well, or a copy, of which nothing is claimed.

        Where a copy has no noise, nothing is drawn and nothing rounded.
        """
        finite = np.isfinite(noise) & np.isfinite(scale)
        drawn = np.where(finite, np.maximum(noise, FLOOR), 0.0) if noise.any() else np.zeros(noise.shape)
        self.scales[name] = np.where(finite, add_up(scale, drawn), np.inf)
        self.drawn[name] = drawn
        if self.draws is not None:
            self.draws.hold(name, pushed, drawn)


def median(pushed: Array) -> Array:
    """(1, *shape): the element in the middle of |draws|, the upper one of two; infinite where draws are no numbers."""
    size = np.abs(pushed)
    middle = np.partition(size, size.shape[0] // 2, axis=0)[size.shape[0] // 2][None]
    return np.where(np.isnan(middle), np.inf, middle)


def propose(
    problem: Problem,
    rounding: bool,
    count: int,
    slack: float,
    raised: dict[str, Array],
    seed: tuple[int, ...],
    progress: Progress | None = None,
) -> Proposal:
    """The pass over one case, with so many draws; slack and raised as in `Proposal`."""
    made = Proposal(problem, Fluctuating(problem, rounding), draws=Draws(problem, count, seed), slack=slack, raised=raised)
    return passed(made, "proposing tubes", progress)


def settled(
    problem: Problem, rounding: bool, caps: dict[str, Array], before: dict[str, Claim], progress: Progress | None = None
) -> Proposal:
    """The pass over one case without draws, with what is known of what arrives; `before` as in `Proposal`."""
    return passed(Proposal(problem, Fluctuating(problem, rounding), before=before, caps=caps), "narrowing tubes", progress)


def passed(made: Proposal, stage: str, progress: Progress | None) -> Proposal:
    """The same, after its one pass."""
    made.begin()
    for i, step in enumerate(made.problem.steps):
        made.enter(step)
        if progress is not None:
            progress(stage, (i + 1) / len(made.problem.steps))
    return made
