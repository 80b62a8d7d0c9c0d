"""An adversary runs the model in exact arithmetic, with the rounding errors that hurt most, against the kernel's tubes.

The honest kernel stands; with a lie planted in one of its rules the adversary gets out of a tube.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from certify.checker import kernel
from certify.checker.kernel import Dense, Ints, Largest, Linear, Mix, Pass, Step, zeros
from certify.checker.rounding import FORMATS, UNIT, Rejected, Wide

SIZE = 4
WIDE = Wide(FORMATS["bf16"])


def _weights(rng: np.random.Generator, rows: int, columns: int) -> Ints:
    return rng.integers(-255, 256, (rows, columns)).astype(object)


def _dense(name: str, x: str, W: Ints, addend: Ints | None = None) -> Step:
    columns = np.arange(W.shape[1]).reshape(-1, 1)
    return Linear(name, [(x, Dense([(W, columns, np.arange(W.shape[0]).reshape(-1, 1))], W.shape[1], W.shape[0], 8))], addend, "dot")


def _network(rng: np.random.Generator, x: Ints) -> list[Step]:
    """Two layers with a pool, a residual path and a scaling between them; the first layer's results lie near the kinks."""
    W = _weights(rng, SIZE, SIZE)
    near = np.array([int(v) << UNIT - 30 for v in rng.integers(-200, 200, SIZE)], dtype=object)
    pairs = np.array([[0, 1], [2, 3], [1, 2], [3, -1]])
    copies = np.arange(SIZE).reshape(-1, 1)
    return [
        _dense("a", "x", W, near - kernel.dot(W, x) // 256),
        Largest("b", "a", copies, True),
        _dense("c", "b", _weights(rng, SIZE, SIZE)),
        Largest("d", "c", pairs, False),
        Linear("e", [("d", Mix(zeros(SIZE, 1) - 1, copies, SIZE, 0)), ("b", Mix(zeros(SIZE, 1) + 1, copies[::-1], SIZE, 0))], None, "once"),
        Linear("f", [("e", Mix(_weights(rng, SIZE, 1), copies, SIZE, 7))], None, "once"),
        _dense("y", "f", _weights(rng, 2, SIZE)),
    ]


class _Listening(Pass):
    """Remembers what each step is allowed to err."""

    def _born(self, step: Linear, wide: Wide, magnitude: Ints, divisor: Ints) -> Ints:
        beta = super()._born(step, wide, magnitude, divisor)
        self.__dict__.setdefault("beta", {})[step.output] = beta
        return beta


def _proved(steps: list[Step], x: Ints, hints: Any, slopes: Any) -> _Listening:
    one = _Listening(WIDE, slopes, hints)
    one.given("x", x)
    for step in steps:
        one.take(step)
    return one


def _hints(steps: list[Step], first: _Listening, target: str) -> dict[str, np.ndarray[Any, Any]]:
    """Multipliers in float64: the gradient at z of the target's elements, by differences of exactly linear maps."""
    size = first.z[target].size
    reached = {target: np.eye(size)}
    found: dict[str, np.ndarray[Any, Any]] = {}
    for step in reversed(steps):
        if step.output not in reached:
            continue
        a = reached[step.output]
        if step.output != target:
            found[step.output] = a
        for name, matrix in _matrices(step, first).items():
            if name != "x":
                reached[name] = reached.get(name, 0.0) + a @ matrix
    return found


def _pulled(first: _Listening, target: str) -> dict[str, np.ndarray[Any, Any]]:
    """What a forger gives who knows the kernel's own pulls: multipliers that leave no residual."""
    size = first.z[target].size
    reached = {target: (np.eye(size, dtype=np.int64).astype(object), 0)}
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name in reversed(list(first.maps)):
        if name not in reached:
            continue
        a, e = reached[name]
        if name != target:
            found[name] = a.astype(np.float64) * 2.0**-e
        for operand, m in first.maps[name]:
            n, shift = m.pull(a)
            if operand != "x":
                earlier, before = reached.get(operand, (zeros(*n.shape), 0))
                top = max(before, e + shift)
                reached[operand] = ((earlier << top - before) + (n << top - e - shift), top)
    return found


def _matrices(step: Step, first: _Listening) -> dict[str, np.ndarray[Any, Any]]:
    """The Jacobian at z, written out independently of the kernel's maps."""
    if isinstance(step, Largest):
        z = first.z[step.operand]
        J = np.zeros((len(step.into), z.size))
        for j, candidates in enumerate(step.into):
            best = max((c for c in candidates if c >= 0), key=lambda c: z[c])
            J[j, best] = 1.0 if not step.zero or z[best] > 0 else 0.0
        return {step.operand: J}
    found = {}
    for name, m in step.maps:
        if isinstance(m, Dense):
            found[name] = m.blocks[0][0].astype(np.float64) * 2.0**-m.e
        else:
            J = np.zeros((len(m.into), m.size))
            J[np.arange(len(m.into)), m.into[:, 0]] = m.n[:, 0].astype(np.float64) * 2.0**-m.e
            found[name] = J
    return found


def _true(step: Step, x: dict[str, list[Fraction]]) -> list[Fraction]:
    """The step in rational arithmetic."""
    if isinstance(step, Largest):
        source = x[step.operand]
        return [max([source[c] for c in candidates if c >= 0] + ([Fraction(0)] if step.zero else [])) for candidates in step.into]
    y = [Fraction(0)] * step.maps[0][1].count if step.addend is None else [Fraction(int(n), 1 << UNIT) for n in step.addend]
    for name, m in step.maps:
        for j in range(m.count):
            if isinstance(m, Dense):
                y[j] += sum(Fraction(int(w), 1 << m.e) * v for w, v in zip(m.blocks[0][0][j], x[name], strict=True))
            else:
                y[j] += Fraction(int(m.n[j, 0]), 1 << m.e) * x[name][m.into[j, 0]]
    return y


def _escapes(steps: list[Step], one: _Listening, first: _Listening, rng: np.random.Generator) -> bool:
    """Errors of full size: at random, and each towards one element of one target, in both directions."""
    strategies: list[dict[str, np.ndarray[Any, Any]]] = [
        {step.output: rng.choice([-1, 1], first.z[step.output].size) for step in steps} for _ in range(6)
    ]
    for target in ("c", "y"):
        gradient = _hints(steps, first, target)
        for row in range(first.z[target].size):
            for sign in (-1, 1):
                signs = {name: np.where(a[row] * sign >= 0, 1, -1) for name, a in gradient.items()}
                strategies.append(signs | {target: np.full(first.z[target].size, sign)})
    beta: dict[str, Ints] = one.__dict__["beta"]
    exact = {"x": [Fraction(int(n), 1 << UNIT) for n in one.z["x"]]}
    for step in steps:
        exact[step.output] = _true(step, exact)
    for signs in strategies:
        x = {"x": exact["x"]}
        for step in steps:
            chosen = signs.get(step.output, np.ones(first.z[step.output].size))
            errors = beta.get(step.output, zeros(chosen.size))
            y = _true(step, x)
            x[step.output] = [v + int(s) * Fraction(int(b), 1 << UNIT) for v, s, b in zip(y, chosen, errors, strict=True)]
            tube = one.r[step.output]
            if any(abs(v - w) > Fraction(int(r), 1 << UNIT) for v, w, r in zip(x[step.output], exact[step.output], tube, strict=True)):
                return True
    return False


def _stands(networks: int = 25) -> bool:
    """No error gets out of a tube: without hints, with good ones, with zeros and with nonsense."""
    for seed in range(networks):
        rng = np.random.default_rng(seed)
        x = np.array([int(v) << UNIT - 8 for v in rng.integers(-255, 256, SIZE)], dtype=object)
        steps = _network(rng, x)
        first = _proved(steps, x, {}, {})
        rows = {target: np.arange(first.z[target].size) for target in ("c", "y")}
        good = {target: (rows[target], _hints(steps, first, target)) for target in rows}
        forged = {target: (rows[target], _pulled(first, target)) for target in rows}
        half = {target: (rows[target], {name: 0.5 * a for name, a in hint.items()}) for target, (_, hint) in good.items()}
        nothing = {target: (rows[target], {}) for target in rows}
        level = {"d": np.array([[0, 0], [0.5, 0.5], [0, 0], [0, 0]])}
        slopes = {"b": rng.random((SIZE, 1)), "d": rng.random((SIZE, 2)) * (np.array([[1, 1]] * 3 + [[1, 0]]))}
        for hints, tilt in (({}, {}), (good, {}), (half, slopes), (nothing, {}), (forged, {}), (forged, slopes), (forged, level)):
            try:
                one = _proved(steps, x, hints, tilt)
            except Rejected:
                continue
            if _escapes(steps, one, first, rng):
                return False
    return True


def test_the_honest_kernel_stands() -> None:
    assert _stands()


HONEST: dict[str, Any] = {
    "arriving": Pass._arriving,
    "refine": Pass._refine,
    "largest": Pass._largest,
    "pull": Dense.pull,
    "reach": Dense.reach,
    "mix": Mix.pull,
}


def _pull_of_half(self: Dense, a: Ints) -> tuple[Ints, int]:
    n, e = HONEST["pull"](self, a)
    return n, e + 1


def _no_remainder(self: Pass, output: str, modulus: Ints, shift: Ints, noise: Ints) -> Ints:
    return HONEST["arriving"](self, output, modulus, shift, 0 * noise)  # type: ignore[no-any-return]


def _no_centre(self: Pass, output: str, modulus: Ints, shift: Ints, noise: Ints) -> Ints:
    return HONEST["arriving"](self, output, modulus, 0 * shift, noise)  # type: ignore[no-any-return]


def _no_residual(self: Pass, target: str, rows: Any, multipliers: Any) -> None:
    """The parents' tubes count for nothing while the target is refined."""
    kept = dict(self.r)
    for name in self.r:
        if name != target:
            self.r[name] = np.minimum(kept[name], 1)
    centres = dict(self.d)
    HONEST["refine"](self, target, rows, multipliers)
    refined = self.r[target]
    self.r.update(kept)
    self.d.update(centres)
    self.r[target] = refined


LIES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "remainders forgotten": (Pass, "_arriving", _no_remainder),
    "centres forgotten": (Pass, "_arriving", _no_centre),
    "half of every pull": (Dense, "pull", _pull_of_half),
    "a scaling pulled without its sign": (Mix, "pull", lambda self, a: HONEST["mix"](Mix(np.abs(self.n), self.into, self.size, self.e), a)),
    "residuals forgotten": (Pass, "_refine", _no_residual),
    "three quarters of the weights": (Dense, "reach", lambda self, x: HONEST["reach"](self, x) * 3 // 4),
}


@pytest.mark.parametrize("lie", LIES)
def test_planted_lies_are_caught(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*LIES[lie])
    assert not _stands()
