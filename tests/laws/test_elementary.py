"""Every elementary row keeps the laws, against mpmath's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp

from certify.semantics import ops
from certify.semantics.contract import lookup
from tests.laws.kit import check_rule, elementwise

assert ops is not None

TINY = [0.0, -0.0, 5e-324, -5e-324, 2.5e-308]
HUGE = [1e300, -1e300, np.finfo(np.float64).max]
PLAIN = [1e-12, -3.7, -1.0, -0.3, 0.2, 2.5, 31.0]
LO = np.array([-4.0, -0.5, 0.0, 1.0, -0.001, 3.0])
HI = np.array([-3.0, 0.25, 5.0, 1.001, 0.002, 40.0])


def inside(lo: float, hi: float, *values: list[float]) -> np.ndarray:
    x = np.array([v for some in values for v in some])
    return x[(x >= lo) & (x <= hi)]


def rounded(f: Callable[..., Any]) -> Callable[..., Any]:
    """A library kernel: the exact result, as wrong as its accuracy allows, then stored."""
    oracle = elementwise(f)
    return lambda machine, *x, **attributes: machine.fl_elementary(oracle(*x, **attributes))


def check(name: str, f: Callable[..., Any], domain: tuple[float, float] = (-np.inf, np.inf), kinks: tuple[float, ...] = (0.0,),
          kernel: Any = None, smooth: bool = True, opset: int = 28, attributes: dict[str, Any] | None = None,
          space: str = "") -> None:  # fmt: skip
    points = [inside(*domain, some) for some in (TINY, PLAIN, HUGE)]
    low, high = domain
    ok = (low <= LO) & (high >= HI)
    calm = inside(*domain, PLAIN)
    calm = calm[(np.abs(calm) < 8) & (np.abs(calm) > 0.1)]
    check_rule(
        lookup(space, name, opset),
        [((LO[ok], HI[ok]),)],
        [(x,) for x in points if x.size],
        oracle=elementwise(f),
        radii=(0.0, 2.0**-30, 2.0**-8, 1.5),
        kernel=kernel or rounded(f),
        kinks=kinks,
        smooth=[(calm,)] if smooth else (),
        exact_push=True,
        attributes=attributes,
    )


ROWS: dict[str, tuple[Any, tuple[float, float]]] = {
    "Exp": (mp.exp, (-1e300, 700.0)),
    "Log": (mp.log, (1e-300, np.inf)),
    "Sqrt": (mp.sqrt, (0.0, np.inf)),
    "Sin": (mp.sin, (-1e7, 1e7)),
    "Cos": (mp.cos, (-1e7, 1e7)),
    "Tan": (mp.tan, (-1e7, 1e7)),
    "Asin": (mp.asin, (-0.9999, 0.9999)),
    "Acos": (mp.acos, (-0.9999, 0.9999)),
    "Atan": (mp.atan, (-np.inf, np.inf)),
    "Sinh": (mp.sinh, (-700.0, 700.0)),
    "Cosh": (mp.cosh, (-700.0, 700.0)),
    "Asinh": (mp.asinh, (-np.inf, np.inf)),
    "Acosh": (mp.acosh, (1.0, np.inf)),
    "Atanh": (mp.atanh, (-0.9999, 0.9999)),
    "Tanh": (mp.tanh, (-np.inf, np.inf)),
    "Erf": (mp.erf, (-np.inf, np.inf)),
}


@pytest.mark.parametrize("name", ROWS)
def test_elementary(name: str) -> None:
    f, domain = ROWS[name]
    check(name, f, domain, smooth=name not in ("Sqrt", "Acosh"))


def test_neg() -> None:
    check("Neg", lambda x: -x, kernel=lambda machine, x: machine.fl(-x))


def test_abs() -> None:
    check("Abs", abs, kernel=lambda machine, x: machine.fl(abs(x)), smooth=False)


def test_reciprocal() -> None:
    check("Reciprocal", lambda x: 1 / x, (0.1, 1e300))
    check("Reciprocal", lambda x: 1 / x, (-1e300, -0.1))
    check("Reciprocal", lambda x: 1 / x, smooth=False)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, 4.0, 0.5, 1.5, -0.5, -2.0, -3.0])
def test_power(p: float) -> None:
    domain = (-1e60, 1e60) if p == int(p) and p >= 0 else (0.2, 1e60) if p < 0 else (0.0, 1e60)
    oracle = lambda x, exponent: x ** mp.mpf(p) if p else mp.mpf(1)  # noqa: E731
    check("Pow", oracle, domain, smooth=p < 0 or p > 1.5, attributes={"exponent": p}, space="certify")
