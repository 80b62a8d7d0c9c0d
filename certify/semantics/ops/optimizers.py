"""One step of an optimizer, ai.onnx.preview.training: Adam, Adagrad, Momentum.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/#ai-onnx-preview-training. Covers kernels that
compute each operation of the schema's pseudo code as it stands; the count of steps T must be known. Gradient is refused: it stands for
a derivative of the graph, which no kernel computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive

Expanded = tuple[list[Primitive], dict[str, Array]]
_DOMAIN = "ai.onnx.preview.training"


class _Step:
    """Writes an expansion down; results are named after what they are."""

    def __init__(self, e: Expansion, states: int) -> None:
        self.e, self.steps = e, list[Primitive]()
        self.constants: dict[str, Array] = {}
        operands = e.operands[1:]  # T is static
        count, left = divmod(len(operands), states)
        if left or len(e.outputs) > (states - 1) * count:
            raise UnsupportedOperator(f"{len(operands)} tensors, which is no multiple of {states}")
        self.count, self.groups = count, [operands[k * count : (k + 1) * count] for k in range(states)]
        self.rate = self("Reshape", (e.operands[0],), "rate", shape=np.zeros(0, dtype=np.int64), allowzero=1)

    def __call__(self, kind: str, operands: Sequence[str | None], part: str, **attributes: Any) -> str:
        name = self.e.name(part)
        self.steps.append(Primitive(kind, tuple(operands), name, attributes))
        return name

    def number(self, part: str, value: float) -> str:
        self.constants[self.e.name(part)] = np.asarray(value, dtype=np.float64)
        return self.e.name(part)

    def regularized(self, i: int, coefficient: float) -> str:
        """coefficient * X + G."""
        x, gradient = self.groups[0][i], self.groups[1][i]
        assert gradient is not None
        if coefficient == 0.0:
            return gradient
        product = self("Mul", (self.number("norm_coefficient", coefficient), x), f"penalty {i}")
        return self("Add", (product, gradient), f"gradient {i}")

    def deliver(self, i: int, state: int, kind: str, operands: Sequence[str | None]) -> str:
        """The new value of a state, stored; other steps read what is stored."""
        output = state * self.count + i
        name = (self.e.outputs[output] if output < len(self.e.outputs) else None) or self.e.name(f"new {state} {i}")
        self.steps.append(Primitive(kind, tuple(operands), name, inner=False))
        return name

    def blend(self, i: int, part: str, weights: tuple[str, str], old: str | None, new: str) -> tuple[str, str]:
        """The two products whose sum is weights[0] * old + weights[1] * new."""
        return self("Mul", (weights[0], old), f"old {part} {i}"), self("Mul", (weights[1], new), f"new {part} {i}")

    @property
    def done(self) -> Expanded:
        return self.steps, self.constants


def _count(T: Any) -> int:
    return int(np.ravel(np.asarray(T, dtype=object))[0])


_ALPHA, _BETA, _EPSILON = (float(np.float32(v)) for v in (0.9, 0.999, 1e-6))


def adam(
    e: Expansion,
    *,
    T: Any,
    alpha: float = _ALPHA,
    beta: float = _BETA,
    epsilon: float = _EPSILON,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> Expanded:
    """V' = alpha V + (1 - alpha) G, H' = beta H + (1 - beta) G G, X' = X - R' V' / (sqrt H' + epsilon).

    G + norm_coefficient X stands for G.
    """
    step = _Step(e, 4)
    one = step.number("one", 1.0)
    numbers = {name: step.number(name, value) for name, value in (("alpha", alpha), ("beta", beta), ("epsilon", epsilon))}
    rest = {name: step("Sub", (one, numbers[name]), f"1 - {name}") for name in ("alpha", "beta")}
    rate = step.rate
    if _count(T) > 0:
        times = step.number("T", float(_count(T)))
        shares = {name: step("Sub", (one, step("Pow", (numbers[name], times), f"{name}^T")), f"1 - {name}^T") for name in ("alpha", "beta")}
        root = step("Sqrt", (shares["beta"],), "root")
        rate = step("Div", (step("Mul", (rate, root), "scaled rate"), shares["alpha"]), "adjusted rate")
    for i in range(step.count):
        x, _, momentum, squares = (group[i] for group in step.groups)
        gradient = step.regularized(i, norm_coefficient)
        v = step.deliver(i, 1, "Add", step.blend(i, "V", (numbers["alpha"], rest["alpha"]), momentum, gradient))
        old = step("Mul", (numbers["beta"], squares), f"old H {i}")
        new = step("Mul", (step("Mul", (rest["beta"], gradient), f"part of H {i}"), gradient), f"new H {i}")
        h = step.deliver(i, 2, "Add", (old, new))
        below = step("Add", (step("Sqrt", (h,), f"root of H {i}"), numbers["epsilon"]), f"divisor {i}")
        move = step("Div", (step("Mul", (rate, v), f"rate V {i}"), below), f"move {i}")
        if norm_coefficient_post == 0.0:
            step.deliver(i, 0, "Sub", (x, move))  # times 1, which is exact
            continue
        kept = step("Sub", (one, step.number("norm_coefficient_post", norm_coefficient_post)), f"kept {i}")
        step.deliver(i, 0, "Mul", (kept, step("Sub", (x, move), f"moved {i}")))
    return step.done


def adagrad(e: Expansion, *, T: Any, decay_factor: float = 0.0, epsilon: float = _EPSILON, norm_coefficient: float = 0.0) -> Expanded:
    """H' = H + G G, X' = X - R / (1 + T decay_factor) G / (sqrt H' + epsilon), with G + norm_coefficient X for G."""
    step = _Step(e, 3)
    product = step("Mul", (step.number("T", float(_count(T))), step.number("decay_factor", decay_factor)), "decay")
    rate = step("Div", (step.rate, step("Add", (step.number("one", 1.0), product), "1 + decay")), "adjusted rate")
    for i in range(step.count):
        x, _, squares = (group[i] for group in step.groups)
        gradient = step.regularized(i, norm_coefficient)
        h = step.deliver(i, 1, "Add", (squares, step("Mul", (gradient, gradient), f"square {i}")))
        below = step("Add", (step("Sqrt", (h,), f"root of H {i}"), step.number("epsilon", epsilon)), f"divisor {i}")
        step.deliver(i, 0, "Sub", (x, step("Div", (step("Mul", (rate, gradient), f"rate G {i}"), below), f"move {i}")))
    return step.done


def momentum(e: Expansion, *, T: Any, alpha: float, beta: float, mode: str, norm_coefficient: float) -> Expanded:
    """V' = alpha V + beta G (beta = 1 for T = 0), X' = X - R V', or X - R (G + alpha V') for "nesterov".

    G + norm_coefficient X stands for G.
    """
    if mode not in ("standard", "nesterov"):
        raise UnsupportedOperator(f"mode {mode!r}")
    step = _Step(e, 3)
    numbers = step.number("alpha", alpha), step.number("beta", beta if _count(T) > 0 else 1.0)
    for i in range(step.count):
        x, _, old = (group[i] for group in step.groups)
        gradient = step.regularized(i, norm_coefficient)
        v = step.deliver(i, 1, "Add", step.blend(i, "V", numbers, old, gradient))
        if mode == "nesterov":
            v = step("Add", (gradient, step("Mul", (numbers[0], v), f"alpha V {i}")), f"direction {i}")
        step.deliver(i, 0, "Sub", (x, step("Mul", (step.rate, v), f"move {i}")))
    return step.done


def _refused(e: Expansion, **attributes: Any) -> Expanded:
    raise UnsupportedOperator("it stands for a derivative of the graph, which is no operation of a kernel")


_INPUTS = ("R", "T", "inputs")
register(
    Composite("Adam", 1, _INPUTS, adam, static=frozenset({"T"}), domain=_DOMAIN, outputs=1 << 16),
    Composite("Adagrad", 1, _INPUTS, adagrad, static=frozenset({"T"}), domain=_DOMAIN, outputs=1 << 16),
    Composite("Momentum", 1, _INPUTS, momentum, static=frozenset({"T"}), domain=_DOMAIN, outputs=1 << 16),
    Composite("Gradient", 1, ("Inputs",), _refused, domain=_DOMAIN, outputs=1 << 16),
)
