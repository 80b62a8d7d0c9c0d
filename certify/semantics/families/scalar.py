"""Elementary functions on float64 arrays and on object arrays of exact numbers or balls (mpmath, python-flint) alike.

float64 arrays go to numpy and scipy; the elements of object arrays to their own method (`arb.exp`) or to mpmath.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


def is_object(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == object


def _of_element(name: str, v: Any) -> Any:
    method = getattr(v, name, None)
    if callable(method):
        return method()
    from mpmath import mp

    return getattr(mp, name)(v)


def each(function: Callable[..., Any], *x: Any) -> Any:
    """`function` of each element of object arrays (and plain numbers), as an object array."""
    return np.asarray(np.frompyfunc(function, len(x), 1)(*x), dtype=object)


def first_largest(x: Any) -> Any:
    """The position of the first of the largest along the last axis.

    Objects compare one by one: numpy's argmax goes on after a comparison that raises, and may return as if nothing had happened.
    """
    if not is_object(x):
        return np.argmax(x, axis=-1)
    best = np.zeros(x.shape[:-1], dtype=np.intp)
    for place in np.ndindex(best.shape):
        row = x[place]
        for k in range(1, len(row)):
            if row[k] > row[best[place]]:
                best[place] = k
    return best


def _function(name: str, ufunc: Callable[..., Any]) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        if is_object(x):
            return each(partial(_of_element, name), x)
        with np.errstate(all="ignore"):
            return ufunc(x)

    return function


def _special(name: str) -> Callable[..., Any]:
    def ufunc(x: Any) -> Any:
        from scipy import special

        return getattr(special, name)(x)

    return ufunc


exp, log, log1p, sqrt = _function("exp", np.exp), _function("log", np.log), _function("log1p", np.log1p), _function("sqrt", np.sqrt)
sin, cos, tan, atan = _function("sin", np.sin), _function("cos", np.cos), _function("tan", np.tan), _function("atan", np.arctan)
sinh, cosh, tanh = _function("sinh", np.sinh), _function("cosh", np.cosh), _function("tanh", np.tanh)
asinh, acosh, atanh = _function("asinh", np.arcsinh), _function("acosh", np.arccosh), _function("atanh", np.arctanh)
asin, acos, expm1 = _function("asin", np.arcsin), _function("acos", np.arccos), _function("expm1", np.expm1)
erf, erfc = _function("erf", _special("erf")), _function("erfc", _special("erfc"))
_expit = _special("expit")


def sigmoid(x: Any) -> Any:
    if is_object(x):
        return 1 / (1 + exp(-x))
    return _expit(x)


def pi(x: Any) -> Any:
    """pi as a number of the kind that the array x holds."""
    if not is_object(x) or not x.size:
        return np.pi
    kind = type(x.flat[0])
    if hasattr(kind, "pi"):
        return kind.pi()
    from mpmath import mp

    return +mp.pi


def maximum(x: Any, y: Any) -> Any:
    if is_object(x) or is_object(y):
        return each(_larger, x, y)
    return np.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    if is_object(x) or is_object(y):
        return each(_smaller, x, y)
    return np.minimum(x, y)


def _larger(a: Any, b: Any) -> Any:
    kind = type(a) if hasattr(a, "max") else type(b)
    return kind(a).max(kind(b)) if hasattr(kind, "max") else max(a, b)


def _smaller(a: Any, b: Any) -> Any:
    kind = type(a) if hasattr(a, "min") else type(b)
    return kind(a).min(kind(b)) if hasattr(kind, "min") else min(a, b)
