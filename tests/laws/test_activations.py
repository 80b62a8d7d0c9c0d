"""Every activation row keeps the laws; what the rows know of their functions is checked against mpmath's derivatives."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.semantics.contract import lookup
from certify.semantics.families.critical import Curve
from tests.laws.kit import elementwise, exact
from tests.laws.test_elementary import ROWS, check

FLOAT_ALPHA = float(np.float32(0.01))


def sigmoid(x: mpf) -> mpf:
    return 1 / (1 + mp.exp(-x))


def gelu(x: mpf, approximate: str = "none") -> mpf:
    if approximate == "none":
        return x / 2 * mp.erfc(-x / mp.sqrt(2))
    return x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mpf(44715) / 1000000 * x**3)))


def elu(x: mpf, alpha: float = 1.0) -> mpf:
    return x if x > 0 else alpha * mp.expm1(x)


def selu(x: mpf) -> mpf:
    return mpf(float(np.float32(1.05070102214813232))) * elu(x, float(np.float32(1.67326319217681884)))


def celu(x: mpf, alpha: float = 1.0) -> mpf:
    return x if x > 0 else alpha * mp.expm1(x / alpha)


def softplus(x: mpf) -> mpf:
    return max(x, 0) + mp.log1p(mp.exp(-abs(x)))


def hard_swish(x: mpf) -> mpf:
    return x * max(mpf(0), min(mpf(1), x / 6 + mpf(1) / 2))


def swish(x: mpf, alpha: float = 1.0) -> mpf:
    return x * sigmoid(alpha * x)


def mish(x: mpf) -> mpf:
    return x * mp.tanh(softplus(x))


ACTIVATIONS: dict[str, Any] = {
    "Sigmoid": (sigmoid, {}),
    "Softplus": (softplus, {}),
    "Gelu": (gelu, {}),
    "Gelu tanh": (gelu, {"approximate": "tanh"}),
    "Swish": (swish, {}),
    "Swish 1.702": (swish, {"alpha": 1.702}),
    "Mish": (mish, {}),
    "Elu": (elu, {}),
    "Elu 0.5": (elu, {"alpha": 0.5}),
    "Elu -0.5": (elu, {"alpha": -0.5}),
    "Selu": (selu, {}),
    "Celu": (celu, {"alpha": 0.25}),
    "Softsign": (lambda x: x / (1 + abs(x)), {}),
}


@pytest.mark.parametrize("row", ACTIVATIONS)
def test_smooth_activation(row: str) -> None:
    f, attributes = ACTIVATIONS[row]
    check(row.split()[0], f, (-1e30, 1e30), attributes=attributes)


def test_relu() -> None:
    check("Relu", lambda x: max(x, mpf(0)), kernel=lambda machine, x: machine.fl(np.maximum(x, mpf(0))))


@pytest.mark.parametrize("alpha", [FLOAT_ALPHA, 0.25, 1.5, -0.5])
def test_leaky_relu(alpha: float) -> None:
    def kernel(machine: Any, x: Any, alpha: float) -> Any:
        slope = machine.fl(mpf(alpha))
        return np.array([v if v >= 0 else machine.fl(slope * v) for v in x.flat], dtype=object).reshape(x.shape)

    check("LeakyRelu", lambda x, alpha: x if x >= 0 else alpha * x, kernel=kernel, attributes={"alpha": alpha})


def test_hard_swish() -> None:
    check("HardSwish", hard_swish, (-1e30, 1e30), kinks=(-3.0, 0.0, 3.0))


# --- the rows' knowledge, apart from the laws ---

POINTS = np.concatenate([np.linspace(-8, 8, 41), np.geomspace(1e-9, 600, 15), -np.geomspace(1e-9, 600, 15)])


def knowledge() -> list[Any]:
    cases = [(name, f, {}, domain) for name, (f, domain) in ROWS.items()]
    return cases + [(row.split()[0], f, attributes, (-np.inf, np.inf)) for row, (f, attributes) in ACTIVATIONS.items()]


@pytest.mark.parametrize(("name", "f", "attributes", "domain"), knowledge(), ids=lambda v: v if isinstance(v, str) else "")
def test_curves_are_what_they_claim(name: str, f: Any, attributes: dict[str, Any], domain: tuple[float, float]) -> None:
    """Values and the first two derivatives (numerical ones of the independent f) lie within each curve's margins and limits."""
    phi = lookup("", name, 28).function(**attributes)
    low, high = domain
    x = POINTS[(low < POINTS) & (high > POINTS)]
    x = x[~np.isin(x, [kink.at for kink in phi.kinks])]
    if name == "Acosh":
        x = x[x > 1.01]
    with mp.workprec(800):
        for order, curve in enumerate((phi.value, phi.slope, phi.bend)):
            if curve is None:
                continue
            truth = elementwise(lambda v, order=order: mp.diff(lambda t: f(t, **attributes), v, order, h=mp.ldexp(1, -200)))(exact(x))
            Y = curve.at(x)
            bad = x[((exact(Y.lo) > truth) | (truth > exact(Y.hi))).astype(bool)]
            assert not bad.size, (order, bad)


@pytest.mark.parametrize(("name", "f", "attributes", "domain"), knowledge(), ids=lambda v: v if isinstance(v, str) else "")
def test_curves_turn_only_where_they_claim(name: str, f: Any, attributes: dict[str, Any], domain: tuple[float, float]) -> None:
    """Between the turns and kinks a curve is monotone: its range over a segment is that of its ends and inner turns."""
    phi = lookup("", name, 28).function(**attributes)
    low, high = (-1.5, 1.5) if name == "Tan" else (max(domain[0], -30.0), min(domain[1], 30.0))
    x = np.sort(np.concatenate([np.linspace(low, high, 2001), np.linspace(max(low, -4.0), min(high, 4.0), 1001)]))
    x = x[np.isfinite(phi.slope.f(x))]
    for curve in (phi.value, phi.slope, phi.bend):
        if curve is not None:
            edges = sorted({x[0], x[-1], *(kink.at for kink in phi.kinks if x[0] < kink.at < x[-1])})
            for left, right in pairwise(edges):
                _monotone_between_turns(curve, x[(x > left) & (x < right)])


def _monotone_between_turns(curve: Curve, x: np.ndarray) -> None:
    Y = curve.at(x)
    turns = curve.turns(x[:-1]) if callable(curve.turns) else curve.turns
    crossed = np.zeros(x.size - 1, dtype=bool)
    for t in turns:
        crossed |= (x[:-1] <= t) & (t <= x[1:])
    rises, falls = Y.lo[1:] > Y.hi[:-1], Y.hi[1:] < Y.lo[:-1]
    piece = np.cumsum(crossed)
    for k in np.unique(piece):
        inner = (piece == k) & ~crossed
        assert not (rises[inner].any() and falls[inner].any()), (k, x[:-1][inner])
