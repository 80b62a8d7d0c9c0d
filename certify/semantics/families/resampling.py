"""Resampling: interpolation with fixed coordinates, axis by axis. Linear in the operand; the local rounding is the matter here.

With A_k the exact maps along the axes and A'_k a kernel's, A' x - A x telescopes: with z = A_(k+1) ... A_n x exact,
sum_k |A'_1| ... |A'_(k-1)| |(A'_k - A_k) z|, each factor bounded as families/taps says. Then every product and sum rounds: in any
association (axis after axis, or all weights of a tap multiplied first) at most N roundings lie on the path of a term.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure, around
from certify.number.upward import UNIT_ROUNDOFF, Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents
from certify.semantics.families.index_map import copied, frozen, remembered
from certify.semantics.families.taps import Taps, absolute, along, spread, weighted

COORDINATE_ROUNDOFF = 2.0**-24  # kernels compute coordinates and weights in fp32 or wider
_FLAT = 64  # most taps that a kernel adds up in one sum, not axis by axis


@dataclass(frozen=True, slots=True)
class Plan:
    """axes: (array axis, taps) where something happens. fill: the constant of results outside.

    blended: (taps, axes) that kernels multiply by weights and add up even where several taps are one element, at a border or on
    an axis that keeps its extent; None if they copy.
    """

    axes: tuple[tuple[int, Taps], ...]
    fill: float
    blended: tuple[int, int] | None = None

    def flags(self, rank: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """(constant, where a kernel may see that differently), (1, results...) with extent 1 where nothing depends on an axis."""
        outside = sure = loose = np.zeros((1,) * rank, dtype=bool)
        for k, taps in self.axes:
            shape = [1] * rank
            shape[k] = -1
            outside = outside | taps.outside.reshape(shape)
            sure = sure | (taps.outside & ~taps.loose).reshape(shape)
            loose = loose | taps.loose.reshape(shape)
        return outside, loose & ~sure

    @property
    def copies(self) -> bool:
        return all(taps.copies for _, taps in self.axes)

    @property
    def terms(self) -> int:
        return math.prod(taps.most for _, taps in self.axes)

    def roundings(self) -> int:
        """N: additions, products with weights (one an axis, or of the weights first), each at most once a term."""
        added = self.terms - 1 if self.terms <= _FLAT else sum(taps.most - 1 for _, taps in self.axes)
        if self.blended is None:
            return added + len(self.axes) + 1
        taps, axes = self.blended
        return max(added, taps**axes - 1 if taps**axes <= _FLAT else axes * (taps - 1)) + max(len(self.axes), axes) + 1


@dataclass(frozen=True, slots=True)
class Resampling:
    """A row. plan: (shape, attributes) -> Plan; `copying`: the attributes say that results are copies."""

    name: str
    since: int
    parameters: tuple[str, ...]
    plan: Callable[..., Plan]
    domain: str = ""
    outputs: int = 1
    nonlinear: bool = False
    pointwise: bool = False
    infinities: ClassVar[str] = "none"

    @property
    def static(self) -> frozenset[str]:
        return frozenset(self.parameters[1:])

    def _plan(self, shape: tuple[int, ...], attributes: dict[str, Any]) -> Plan:
        key = (self.name, self.since, shape[1:], frozen(attributes))
        found: Plan = remembered(key, lambda: self.plan(shape[1:], **attributes))
        return found

    def value(self, x: Any, **attributes: Any) -> Any:
        plan = self._plan(x.shape, attributes)
        for k, taps in reversed(plan.axes):
            x = along(x, taps, k)
        outside, _ = plan.flags(x.ndim)
        return np.where(outside, plan.fill, x) if outside.any() else x

    def _map(self, x: Array, plan: Plan) -> Array:
        """The linear part: zero where results are constants."""
        for k, taps in reversed(plan.axes):
            x = weighted(x, taps, k, taps.weight)
        outside, _ = plan.flags(x.ndim)
        return np.where(outside, 0.0, x) if outside.any() else x

    def _size(self, x: Array, plan: Plan) -> Array:
        """Upper bound of |L| x for non-negative x."""
        for k, taps in reversed(plan.axes):
            x = absolute(x, taps, k, np.abs(taps.weight))
        outside, _ = plan.flags(x.ndim)
        return np.where(outside, 0.0, x) if outside.any() else x

    def _terms(self, plan: Plan) -> int:
        """Products on the longest path, with one more rounding for each axis' weight."""
        return sum(taps.most + 1 for _, taps in plan.axes) + 1

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """Copies move both ends; otherwise midpoint-radius, each axis a sum of products with weights that are rounded once."""
        x = _only(X)
        plan = self._plan(x.shape, attributes)
        if plan.copies:
            return x.map(lambda end: self.value(end, **attributes))
        return self._enclosed(x, plan, self.value(x.mid, **attributes))

    def _enclosed(self, x: Enclosure, plan: Plan, middle: Array) -> Enclosure:
        gamma = (self._terms(plan) + 6) * UNIT_ROUNDOFF
        size = self._size(np.abs(x.mid), plan)
        radius = inflate(gamma / (1.0 - gamma) * size, 4) + np.where(size > 0.0, 2.0**-1060, 0.0)
        return around(middle, radius if x.is_point else add_up(radius, self._size(x.rad, plan)))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Always."""
        return True

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """The map itself; no remainder."""
        x = _only(X)
        plan = self._plan(x.shape, attributes)
        zero = np.zeros((1, *self._shape(x.shape, plan)[1:]))
        outside, _ = plan.flags(zero.ndim)

        def push(d: Tangents) -> Array:
            return zero if d[0] is None else self._map(d[0], plan)

        def pull(a: Array) -> Sequence[Array | None]:
            if r[0] is None:
                return (None,)
            a = np.where(outside, 0.0, a) if outside.any() else a
            for k, taps in plan.axes:
                a = weighted(a, taps, k, taps.weight, back=True)
            return (a,)

        def magnitude(d: Tangents) -> Array:
            return zero if d[0] is None else self._size(d[0], plan)

        reach = sum(taps.reach() + 1 for _, taps in plan.axes) + 1
        terms = 0 if plan.copies and reach == len(plan.axes) * 2 + 1 else max(self._terms(plan), reach)
        return Linearization(push, pull, magnitude, zero, zero, terms)

    def _shape(self, shape: tuple[int, ...], plan: Plan) -> tuple[int, ...]:
        out = list(shape)
        for k, taps in plan.axes:
            out[k] = taps.results
        return tuple(out)

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """|L| r."""
        return self.linearize(X, r, **attributes).magnitude(r)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """gamma_N times the absolute sum, and what other weights than the exact ones change; see above. Then the store.

        Copies are copies: only other elements than the exact ones count. Where a kernel may deliver the constant instead of the
        interpolation, or the other way round, their distance is added. Whole numbers (no u) are only covered if copied: inf.
        """
        wide = _only(X).widen(r[0])
        plan = self._plan(wide.shape, attributes)
        off, reach = self._other_weights(wide, plan, arithmetic.unit_roundoff)
        outside, loose = plan.flags(off.ndim)
        if plan.copies and plan.blended is None:
            born = add_up(off, copied(arithmetic, np.broadcast_to(magnitude, off.shape), quantum))
        elif arithmetic.unit_roundoff == 0.0:
            return np.full(off.shape, np.inf)
        else:
            before = add_up(off, self._sums(reach, plan, arithmetic))
            within = mul_up(2.0, add_up(reach, before)) <= arithmetic.accumulator.max
            born = np.where(within, add_up(before, arithmetic.round(add_up(magnitude, before))), np.inf)
        if not (outside.any() or loose.any()):
            return born
        stored = float(np.max(arithmetic.round(np.abs(np.full(1, plan.fill)))))
        return np.where(loose, add_up(born, reach, abs(plan.fill), stored), np.where(outside, stored, born))

    def _other_weights(self, Z: Enclosure, plan: Plan, u: float) -> tuple[Array, Array]:
        """(what a kernel's weights change, upper bound of the sum of |kernel's weights| |x|)."""
        off, reach, u = np.zeros(Z.shape), Z.mag, max(u, COORDINATE_ROUNDOFF)
        for k, taps in reversed(plan.axes):
            change = taps.zero_sum(u)
            rest = np.zeros(change.shape) if taps.copies and plan.blended is None else taps.rest(u)
            most = add_up(np.abs(taps.weight), change, rest)
            off = add_up(absolute(off, taps, k, most), spread(Z, taps, k, change), absolute(Z.mag, taps, k, rest))
            reach = absolute(reach, taps, k, most)
            Z = self._enclosed(Z, Plan(((k, taps),), 0.0), weighted(Z.mid, taps, k, taps.weight))
        return off, reach

    def _sums(self, reach: Array, plan: Plan, arithmetic: Arithmetic) -> Array:
        """gamma_N reach, and eta for each product, which later weights (together at most 2 an axis) carry on."""
        N, u = plan.roundings(), arithmetic.unit_roundoff
        if N * u >= 0.5:
            return np.full(reach.shape, np.inf)
        gamma = float(inflate(np.asarray(N * u / (1.0 - N * u)), 3))
        under = 4.0 * (plan.terms + N) * 4.0 ** len(plan.axes) * arithmetic.underflow
        return np.where(reach == 0.0, 0.0, add_up(mul_up(gamma, reach), under))

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """Nothing is claimed: the attributes alone do not say whether results are copies."""
        return 0.0


def _only(X: Operands) -> Enclosure:
    if X[0] is None:
        raise ValueError("resampling needs its operand")
    return X[0]
