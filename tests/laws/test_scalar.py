"""Values on balls, and the composites written with Max and Min."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flint import arb, ctx
from mpmath import mp, mpf

from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.families.composite import Expansion
from tests.laws.test_activations import ACTIVATIONS, hard_swish
from tests.laws.test_elementary import ROWS

CASES: dict[str, Any] = {name: (f, {}) for name, (f, _) in ROWS.items()} | ACTIVATIONS
CASES |= {"HardSwish": (hard_swish, {}), "Relu": (lambda x: max(x, mpf(0)), {}), "Abs": (abs, {})}
CASES["LeakyRelu"] = (lambda x, alpha: max(x, alpha * x), {"alpha": 0.25})
CASES |= {f"Pow {p}": (lambda x, exponent: x ** mpf(exponent), {"exponent": p}) for p in (2.0, 0.5, 1.5, -1.0)}


@pytest.mark.parametrize("row", CASES)
def test_value_on_balls_contains_the_truth(row: str) -> None:
    f, attributes = CASES[row]
    points = [0.125, 0.75, 0.99] if row != "Acosh" else [1.0, 1.5]
    points += [-0.5, -0.875] if row.split()[0] not in ("Log", "Sqrt", "Acosh", "Pow") else []
    ctx.prec = 128
    balls = lookup("certify" if row.startswith("Pow") else "", row.split()[0], 28).value(
        np.array([[arb(x) for x in points]], dtype=object), **attributes
    )[0]
    with mp.workprec(300):
        for x, ball in zip(points, balls, strict=True):
            middle, radius = (mp.ldexp(int(m), int(e)) for m, e in (part.man_exp() for part in (ball.mid(), ball.rad())))
            assert abs(f(mpf(x), **attributes) - middle) <= radius, x
            assert radius < 1e-30


def run(name: str, *x: np.ndarray, **attributes: float) -> np.ndarray:
    """Expand a composite and evaluate its primitives."""
    names = tuple(f"x{i}" for i in range(len(x)))
    expansion = Expansion("p", names, tuple(a.shape for a in x), ("y",), {}, lambda kernel: "")
    primitives, constants = lookup("", name, 28).expand(expansion, **attributes)
    values: dict[str | None, np.ndarray] = {key: np.asarray(c)[None] for key, c in constants.items()} | {
        k: a[None] for k, a in zip(names, x, strict=True)
    }
    for part in primitives:
        values[part.output] = lookup("", part.name, part.opset).value(*[values[o] for o in part.operands], **part.attributes)
    assert primitives[-1].output == "y"
    assert not primitives[-1].inner
    return values["y"][0]


def test_hard_sigmoid_expands() -> None:
    x = np.array([-4.0, -2.5, 0.0, 1.0, 3.0])
    np.testing.assert_array_equal(run("HardSigmoid", x, alpha=0.25, beta=0.5), [0.0, 0.0, 0.5, 0.75, 1.0])


def test_prelu_expands() -> None:
    x, slope = np.array([[-4.0, 2.0], [1.0, -1.0]]), np.array([0.5, -2.0])
    np.testing.assert_array_equal(run("PRelu", x, slope), [[-2.0, 2.0], [1.0, 2.0]])


@pytest.mark.parametrize(("name", "attributes"), [("Swish", {"alpha": -1.0}), ("Celu", {"alpha": 0.0})])
def test_attributes_that_are_not_covered_are_refused(name: str, attributes: dict[str, float]) -> None:
    rule = lookup("", name, 28)
    with pytest.raises(UnsupportedOperator, match="alpha"):
        rule.function(**attributes)
