"""A small exact machine: it computes in a low-precision format, and it bounds what it computes.

The same object is an `Arithmetic` (bounds, float64) and an emulator (exact mpmath numbers, each operation correctly
rounded, ties to even). The two halves are written apart from certify's own formats and profiles, so that the laws
check rules against something that shares no code with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, mul_up, up
from certify.semantics.contract import PartialSums

Exact = npt.NDArray[np.object_]


def exact(x: Any) -> Exact:
    """The float64 array `x` as an object array of mpf, exactly."""
    x = np.asarray(x)
    out = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        out[index] = x[index] if isinstance(x[index], mpf) else mpf(float(x[index]))
    return out


def elementwise(function: Callable[..., Any]) -> Callable[..., Exact]:
    """An oracle over object arrays from a function of mpf scalars (attributes by keyword); NaN where it has no value."""

    def oracle(*x: Exact | None, **attributes: Any) -> Exact:
        present = np.broadcast_arrays(*[a for a in x if a is not None])
        out = np.empty(present[0].shape, dtype=object)
        for index in np.ndindex(out.shape):
            scalars = iter([a[index] for a in present])
            out[index] = _real(function, [None if a is None else next(scalars) for a in x], attributes)
        return out

    return oracle


def _real(function: Callable[..., Any], scalars: list[Any], attributes: dict[str, Any]) -> mpf:
    try:
        y = function(*scalars, **attributes)
    except (ValueError, ZeroDivisionError):
        return mp.nan
    if isinstance(y, mp.mpc):
        return y.real if y.imag == 0 else mp.nan
    return mpf(y)


@dataclass(frozen=True)
class Machine:
    """precision p (hidden bit included), exponents emin..emax, an elementary function good to `ulps` of 2u relative.

    rng draws orders of summation and the elementary functions' errors (at their extremes).
    """

    precision: int
    emin: int
    emax: int
    accumulator_precision: int | None = None
    ulps: float = 1.0
    absolute: float = 0.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    # --- the bounds ---

    @property
    def max(self) -> float:
        return float((2 - 2 ** (1 - self.precision)) * 2.0**self.emax)

    @property
    def storage(self) -> Machine:
        return replace(self, accumulator_precision=None)

    @property
    def accumulator(self) -> Machine:
        return replace(self, precision=self.accumulator_precision or self.precision, accumulator_precision=None)

    @property
    def unit_roundoff(self) -> float:
        return 2.0 ** -(self.accumulator_precision or self.precision)

    @property
    def underflow(self) -> float:
        return 2.0 ** (self.emin - self.precision)

    @property
    def eta(self) -> float:
        """That of the storage format, as its record says."""
        return 2.0 ** (self.emin - self.precision)

    def _half_ulp(self, magnitude: Array, precision: int, underflow: bool = True) -> Array:
        floor = 2.0 ** (self.emin - precision) if underflow else 0.0
        with np.errstate(invalid="ignore"):
            ufp = np.where(magnitude > 0, np.exp2(np.frexp(np.where(np.isfinite(magnitude), magnitude, 1.0))[1] - 1.0), 0.0)
        bound = np.maximum(2.0**-precision * ufp, np.where(magnitude > 0, floor, 0.0))
        return np.where(magnitude > self.max, np.inf, bound)

    def round(self, magnitude: Array, quantum: Array | float = 0.0) -> Array:
        magnitude, quantum = np.asarray(magnitude, dtype=np.float64), np.asarray(quantum, dtype=np.float64)
        fits = (magnitude <= np.ldexp(quantum, self.precision)) & (quantum >= 2 * self.underflow) & (magnitude <= self.max)
        return np.where(fits, 0.0, self._half_ulp(magnitude, self.precision))

    def addition(self, magnitude: Array, smaller: Array, quantum: Array | float = 0.0) -> Array:
        born = self.round(magnitude, quantum)
        return np.where(np.isfinite(born), np.minimum(born, smaller), born)

    def scaled(self, magnitude: Array) -> Array:
        tiny = 2.0**self.emin
        born = self.round(magnitude)
        return np.where(np.isfinite(born), np.minimum(born, self.round(np.minimum(magnitude, tiny))), born)

    def delivered(self, exact: Enclosure) -> Enclosure:
        return exact.widen(np.inf)

    def sum(self, n: int, magnitude: Array, total: Array, largest: Array, nonzero: Array | None = None) -> Array:
        inner = self.accumulator_precision or self.precision
        additions = np.maximum((n if nonzero is None else nonzero) - 1.0, 0.0)
        rounded = inflate(mul_up(additions * 2.0**-inner, magnitude), 4)
        return self._stored(rounded, np.asarray(magnitude), total)

    def dot(
        self,
        n: int,
        magnitude: Array,
        total: Array,
        largest: Array,
        addend: Array | float = 0.0,
        nonzero: Array | None = None,
        partial: PartialSums | None = None,
        addends: int = 1,
    ) -> Array:
        inner = self.accumulator_precision or self.precision
        everything = add_up(magnitude, addend)
        steps = (n if nonzero is None else nonzero) + float(addends)
        rounded = add_up(mul_up(steps * 2.0**-inner, everything), steps * 2.0 ** (self.emin - inner))
        return self._stored(rounded, everything, total)

    def _stored(self, rounded: Array, everything: Array, total: Array) -> Array:
        rounded = np.where(everything + rounded > self.max, np.inf, rounded)
        if self.accumulator_precision is None:
            return rounded
        return add_up(rounded, self._half_ulp(add_up(total, rounded), self.precision))

    def accuracy(self, kernel: str) -> tuple[float, float]:
        return self.ulps * 2.0 ** (1 - self.precision), self.absolute

    def elementary(self, kernel: str, magnitude: Array) -> Array:
        relative, absolute = self.accuracy(kernel)
        before = add_up(mul_up(relative, magnitude), absolute)
        return add_up(before, self._half_ulp(up(add_up(magnitude, before)), self.precision))

    def convert(self, magnitude: Array) -> Array:
        return self.round(magnitude)

    # --- the emulation ---

    def numbers(self) -> Array:
        """Every finite value of the format, both zeros once."""
        significands = np.arange(2 ** (self.precision - 1), 2**self.precision) * 2.0 ** (1 - self.precision)
        normal = np.concatenate([significands * 2.0**e for e in range(self.emin, self.emax + 1)])
        small = np.arange(1, 2 ** (self.precision - 1)) * 2.0 ** (self.emin + 1 - self.precision)
        return np.concatenate([-normal[::-1], -small[::-1], [0.0], small, normal])

    def fl(self, x: Any, precision: int | None = None) -> Any:
        """Round exact numbers (a scalar or an object array) to the nearest, ties to even; beyond the range gives inf."""
        p = precision or self.precision
        if isinstance(x, np.ndarray):
            out = np.empty(x.shape, dtype=object)
            for index in np.ndindex(x.shape):
                out[index] = self._fl(x[index], p)
            return out
        return self._fl(x, p)

    def _fl(self, x: mpf, p: int) -> mpf:
        if x == 0 or not mp.isfinite(x):
            return x
        unit = max(int(mp.frexp(x)[1]) - p, self.emin + 1 - p)
        rounded = mp.ldexp(mp.nint(mp.ldexp(x, -unit)), unit)
        return rounded if abs(rounded) <= mpf(2) ** (self.emax + 1) * (1 - mpf(2) ** -p) else mp.sign(x) * mp.inf

    def fl_elementary(self, x: Any) -> Any:
        """An elementary kernel's delivered results, given its exact results: as wrong as `accuracy` allows."""
        relative, absolute = self.accuracy("")
        x = exact(x)
        out = np.empty(x.shape, dtype=object)
        for index in np.ndindex(x.shape):
            off = abs(x[index]) * mpf(relative) + mpf(absolute)
            out[index] = self._fl(x[index] + int(self.rng.integers(-1, 2)) * off, self.precision)
        return out

    def fl_sum(self, terms: Exact, axis: int = -1) -> Exact:
        """Add along `axis` in a random order in the accumulator, then store."""
        inner = self.accumulator_precision or self.precision
        terms = np.moveaxis(terms, axis, 0)
        out = np.empty(terms.shape[1:], dtype=object)
        for index in np.ndindex(out.shape):
            parts = list(terms[(slice(None), *index)])
            while len(parts) > 1:
                i, j = sorted(self.rng.choice(len(parts), 2, replace=False))
                last, first = parts.pop(j), parts.pop(i)
                parts.append(self._fl(first + last, inner))
            out[index] = self._fl(parts[0], self.precision) if parts else mpf(0)
        return out

    def fl_dot(self, products: Exact, axis: int = -1) -> Exact:
        """Round the exact `products` into the accumulator, add them along `axis` in a random order, then store."""
        return self.fl_sum(self.fl(products, self.accumulator_precision or self.precision), axis)


E5M2 = Machine(precision=3, emin=-14, emax=15)
E4M3 = Machine(precision=4, emin=-6, emax=7)  # with the largest significand kept: 480, unlike e4m3fn's 448
BFLOAT16 = Machine(precision=8, emin=-126, emax=127)
MIXED = Machine(precision=8, emin=-126, emax=127, accumulator_precision=11)
