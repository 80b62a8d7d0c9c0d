"""Cauchy and normal draws, pushed through linear maps, a chunk of them at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.engines.parallel import in_order
from certify.number.upward import Array
from certify.semantics.contract import Linearization

BLOCK = 1 << 15  # numbers drawn at once, which caches hold
TOGETHER = 64  # draws that one processor pushes at once; tests push no more, and are spread over processors themselves


def standard_cauchy(seed: Sequence[int], shape: tuple[int, ...]) -> Array:
    """Independent draws, the tangents of uniform angles: the same for the same numbers in `seed`."""
    generator, drawn = np.random.default_rng(list(seed)), np.empty(shape)
    flat = drawn.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        angle = flat[start : start + BLOCK]
        generator.random(out=angle)
        angle -= 0.5
        angle *= np.pi
        np.tan(angle, out=angle)
    return drawn


def standard_normal(seed: Sequence[int], shape: tuple[int, ...]) -> Array:
    """Independent draws: the same for the same numbers in `seed`."""
    return np.random.default_rng(list(seed)).standard_normal(shape)


class Draws:
    """Draws of every value that some later step reads: (draws, *shape of the value without its case axis) by name.

    seed: of everything that is drawn here; the place of a value in the problem is appended. draw: what is drawn.
    """

    def __init__(
        self,
        problem: Problem,
        count: int,
        seed: tuple[int, ...],
        draw: Callable[[Sequence[int], tuple[int, ...]], Array] = standard_cauchy,
    ) -> None:
        self.count, self._seed, self._draw = count, seed, draw
        self._place = {name: i for i, name in enumerate((*problem.radii, *(step.output for step in problem.steps)))}
        self._uses = Counter(name for step in problem.steps for name in dict.fromkeys(step.operands) if name is not None)
        self._held: dict[str, Array] = {}

    def pushed(self, step: Step, linear: Linearization) -> Array:
        """L times the draws of the step's operands, (draws, *shape)."""
        tangents = [None if name is None else self._held.get(name) for name in step.operands]
        shape = (self.count, *linear.shift.shape[1:])
        if all(tangent is None for tangent in tangents):
            return np.zeros(shape)
        if self.count <= TOGETHER:
            with np.errstate(all="ignore"):
                return np.broadcast_to(linear.push(tangents), shape)
        found = np.empty(shape)
        starts = range(0, self.count, TOGETHER)

        def one(start: int) -> Array:
            with np.errstate(all="ignore"):
                return linear.push([None if x is None else x[start : start + TOGETHER] for x in tangents])

        for start, part in zip(starts, in_order(one, starts), strict=True):
            found[start : start + TOGETHER] = part
        return found

    def hold(self, name: str, pushed: Array | None, scale: Array) -> None:
        """The value's draws: what was pushed, plus a fresh variable of this scale, (1, *shape), for each element."""
        if not self._uses[name]:
            return
        if pushed is not None and not scale.any():
            self._held[name] = pushed
            return
        drawn = self._draw((*self._seed, self._place[name]), (self.count, *scale.shape[1:]))
        drawn *= scale
        if pushed is not None:
            drawn += pushed
        self._held[name] = drawn

    def release(self, step: Step) -> None:
        """Forget what no later step reads."""
        for name in dict.fromkeys(step.operands):
            if name is not None:
                self._uses[name] -= 1
                if not self._uses[name]:
                    self._held.pop(name, None)


def most_held(problem: Problem) -> int:
    """The most elements that are held at a time, the operands and the result of a step together."""
    last = {name: i for i, step in enumerate(problem.steps) for name in step.operands if name is not None}
    size = {name: int(problem.values[name].lo[0].size) for name in (*problem.radii, *(step.output for step in problem.steps))}
    return max(_held(problem, last, size), default=0)


def _held(problem: Problem, last: dict[str, int], size: dict[str, int]) -> Iterator[int]:
    now = sum(size[name] for name in problem.radii)
    for i, step in enumerate(problem.steps):
        now += 2 * size[step.output]  # what is pushed, and what is drawn
        yield now
        now -= size[step.output] if step.output in last else 2 * size[step.output]
        now -= sum(size.get(name, 0) for name in dict.fromkeys(step.operands) if name is not None and last[name] == i)
