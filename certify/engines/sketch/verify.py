"""The second phase: fresh draws, with every linear map and all noise fixed by the first, put each claim to the count test.

What is tested was decided before these draws: a claim that is false, all claims before it being true, is accepted with at most the
test's chance. The same draws say more. If all claims are true, let g be the largest share of a claim that would be false: any smaller one
that passes makes g pass, which has at most the test's chance. So each claim is narrowed to the least share that passes, at no further risk.

Counting is additive, so draws come in chunks, each walked through the whole problem by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from certify.engines.contract import Progress
from certify.engines.parallel import in_order
from certify.engines.sketch.counts import SHARES, CountTest
from certify.engines.sketch.draws import Draws
from certify.engines.sketch.proposal import Proposal
from certify.number.upward import Array

Counts = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """By step, (1, *shape). refused: the claims that are not accepted; steps without any are left out. shares: what is left of the
    others, 1 where nothing is claimed."""

    refused: dict[str, npt.NDArray[np.bool_]]
    shares: dict[str, Array]


def verdict(made: Proposal, test: CountTest, chunk: int, seed: tuple[int, ...], progress: Progress | None = None) -> Verdict:
    """What the draws of this seed make of all claims."""
    starts = range(0, test.draws, chunk)
    counts: Counts = {name: np.zeros((len(SHARES), *claim.made.shape[1:]), dtype=np.int64) for name, claim in made.claims.items()}

    def counted(start: int) -> Counts:
        return _counted(made, test, min(chunk, test.draws - start), (*seed, start))

    for done, found in enumerate(in_order(counted, starts), 1):
        for name, count in found.items():
            counts[name] += count
        if progress is not None:
            progress("testing tubes", done / len(starts))
    refused = {name: made.claims[name].made & (count[:1] < test.least) for name, count in counts.items()}
    shares = {name: np.where(made.claims[name].made, _least(count >= test.least), 1.0) for name, count in counts.items()}
    return Verdict({name: mask for name, mask in refused.items() if mask.any()}, shares)


def _least(passes: npt.NDArray[np.bool_]) -> Array:
    """(1, *shape): the least of SHARES, (shares, *shape), that passes; 1 if none does."""
    shares = np.reshape(SHARES, (-1, *(1,) * (passes.ndim - 1)))
    return np.asarray(np.where(passes, shares, 1.0).min(axis=0, keepdims=True))


def _counted(made: Proposal, test: CountTest, draws: int, seed: tuple[int, ...]) -> Counts:
    """How many of so many draws are small enough for each share of each claim."""
    walk = Draws(made.problem, draws, seed)
    counts: Counts = {}
    for name in made.problem.radii:
        if name in made.drawn:
            walk.hold(name, None, made.drawn[name])
    for step in made.problem.steps:
        name, linear = step.output, made.maps.get(step.output)
        pushed: Array | None = None if linear is None else walk.pushed(step, linear)
        if name in made.claims and pushed is not None:
            size, limit = np.abs(pushed), test.limit * (1.0 - 2.0**-50) * made.claims[name].scale[0]
            counts[name] = np.stack([np.count_nonzero(size <= share * limit, axis=0) for share in SHARES])
        if name in made.drawn:
            walk.hold(name, pushed, made.drawn[name])
        walk.release(step)
    return counts


def caps_of(made: Proposal, found: Verdict) -> dict[str, Array]:
    """What arrives at most at each step with claims, (1, *shape), infinite where nothing is claimed."""
    caps = {}
    for name, claim in made.claims.items():
        narrowed = made.arriving(name, claim.scale * found.shares[name] * (1.0 + 2.0**-50), made.quiet[name])
        caps[name] = np.where(claim.made, narrowed, np.inf)
    return caps
