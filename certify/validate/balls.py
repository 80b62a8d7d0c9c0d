"""Arrays of arb balls on which a comparison is either proved or refused.

python-flint answers False to every comparison that a ball's radius leaves open, both ways round. A rule that chooses by
comparing would then choose wrongly without anyone noticing; a `Ball` raises `Undecided` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, arb_mat

from certify.number.enclosure import Enclosure
from certify.number.upward import Array


class Undecided(Exception):
    """A comparison of overlapping balls: more bits may decide it."""


class Ball:
    """A real number within an arb ball; arithmetic and functions are arb's own."""

    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        kind = type(x)
        self.x: Any = x if kind is arb else x.x if kind is Ball else arb(_number(x))

    @staticmethod
    def pi() -> Ball:
        return Ball(arb.pi())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)  # numpy asks every element for its array protocols
        function = getattr(self.x, name)
        return lambda *arguments: Ball(function(*(Ball(v).x for v in arguments)))

    def max(self, other: Any) -> Ball:
        return Ball(self.x.max(Ball(other).x))

    def min(self, other: Any) -> Ball:
        return Ball(self.x.min(Ball(other).x))

    def __neg__(self) -> Ball:
        return Ball(-self.x)

    def __pos__(self) -> Ball:
        return self

    def __abs__(self) -> Ball:
        return Ball(abs(self.x))

    def __add__(self, other: Any) -> Ball:
        return Ball(self.x + Ball(other).x)

    def __sub__(self, other: Any) -> Ball:
        return Ball(self.x - Ball(other).x)

    def __mul__(self, other: Any) -> Ball:
        return Ball(self.x * Ball(other).x)

    def __truediv__(self, other: Any) -> Ball:
        return Ball(self.x / Ball(other).x)

    def __pow__(self, other: Any) -> Ball:
        return Ball(self.x ** (other if isinstance(other, int) else Ball(other).x))

    def __rsub__(self, other: Any) -> Ball:
        return Ball(other) - self

    def __rtruediv__(self, other: Any) -> Ball:
        return Ball(other) / self

    def __rpow__(self, other: Any) -> Ball:
        return Ball(other) ** self

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Any) -> bool:
        return _proved(self.x < Ball(other).x, self.x >= Ball(other).x)

    def __le__(self, other: Any) -> bool:
        return _proved(self.x <= Ball(other).x, self.x > Ball(other).x)

    def __gt__(self, other: Any) -> bool:
        return not self <= other

    def __ge__(self, other: Any) -> bool:
        return not self < other

    def __eq__(self, other: Any) -> bool:
        return _proved(self.x == Ball(other).x, self.x != Ball(other).x)

    def __ne__(self, other: Any) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return self != 0

    def __int__(self) -> int:
        found = self.x.unique_fmpz()
        if found is None or not self.x.is_exact():
            raise Undecided("a ball is no single integer")
        return int(found)

    def __float__(self) -> float:
        value = float(self.x.mid())
        if not self.x.is_exact() or not self.x == value:
            raise Undecided("a ball is no single float64")
        return value

    __hash__ = None  # type: ignore[assignment]


def _number(x: Any) -> Any:
    """numpy's scalars as Python's, which arb takes exactly."""
    return x.item() if isinstance(x, np.generic) else x


def _proved(holds: bool, fails: bool) -> bool:
    if holds or fails:
        return bool(holds)
    raise Undecided("two balls overlap")


_BALLS = np.frompyfunc(Ball, 1, 1)


def balls(x: Array) -> Any:
    """A float64 array as exact balls."""
    return np.asarray(_BALLS(x), dtype=object)


def product(left: Any, right: Any) -> Any:
    """The exact matrix product of two matrices of balls or of float64 numbers, as balls, by arb's own matrices."""
    m, n = left.shape
    p = right.shape[1]
    entries = (arb_mat(m, n, _entries(left)) * arb_mat(n, p, _entries(right))).entries()
    out = np.empty(m * p, dtype=object)
    out[:] = [Ball(v) for v in entries]
    return out.reshape(m, p)


def _entries(matrix: Any) -> list[Any]:
    return [Ball(v).x for v in matrix.reshape(-1)] if matrix.dtype == object else matrix.reshape(-1).tolist()


def enclosed(x: Any) -> Enclosure:
    """An array of balls (or numbers) as float64 intervals, rounded outward; the whole line where a ball is not finite."""
    ends = [_ends(v) for v in np.ravel(x)]
    lo = np.array([end[0] for end in ends]).reshape(x.shape)
    hi = np.array([end[1] for end in ends]).reshape(x.shape)
    return Enclosure(lo, lo) if np.array_equal(lo, hi) else Enclosure(lo, hi)


def _ends(v: Any) -> tuple[float, float]:
    ball = Ball(v).x
    if not ball.is_finite():
        return -np.inf, np.inf
    middle = float(ball.mid())
    if ball.is_exact() and ball == middle:
        return middle, middle
    lower, upper = ball.lower(), ball.upper()
    lo, hi = float(lower), float(upper)  # rounded to nearest: a step outward where that went inward
    return (lo if arb(lo) <= lower else float(np.nextafter(lo, -np.inf))), (hi if arb(hi) >= upper else float(np.nextafter(hi, np.inf)))
