"""BatchNormalization at inference: y = scale (x - mean) / sqrt(var + epsilon) + B, an affine map of x.

Source: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure, add, divide, multiply, subtract
from certify.number.upward import Array, add_up, down, inflate, mul_up, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii, Tangents, UnsupportedOperator, register

_ROUNDINGS = 8  # see BatchNormalization.rounding


def _columns(c: Any, rank: int) -> Any:
    """A per-channel parameter (c, C) as (c, 1, C, 1, ...), to meet an operand of `rank` axes."""
    return c.reshape(c.shape[0], 1, c.shape[1], *(1,) * (rank - 3))


def _refuse_training(attributes: dict[str, Any]) -> None:
    if attributes.get("training_mode", 0):
        raise UnsupportedOperator("training_mode=1 normalizes by the batch itself")


def _sum_with_epsilon(variance: Enclosure, attributes: dict[str, Any]) -> Enclosure:
    return add(variance, Enclosure.point(np.full((1,) * len(variance.shape), float(attributes.get("epsilon", 1e-5)))))


@dataclass(frozen=True, slots=True)
class BatchNormalization:
    """Parameters are exactly known constants; where storing them moves them (r), that is remainder. x is what is analysed.

    L is s' = scale / sqrt(var + epsilon) per channel. push multiplies by its float64 value, four roundings away from
    exact (sum, root, quotient, product): terms = 4 pays for them.

    With parameters within r of theirs, s the slope and t = x - mean: the result is s^ (x + d - mean^) + B^, hence
    f^ - f - s d = (s^ - s)(t + d - (mean^ - mean)) - s (mean^ - mean) + (B^ - B), each factor enclosed.
    """

    since: int
    name: str = "BatchNormalization"
    domain: str = ""
    parameters: tuple[str, ...] = ("X", "scale", "B", "input_mean", "input_var")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    def value(self, *x: Any, **attributes: Any) -> Any:
        _refuse_training(attributes)
        data, (scale, bias, mean, variance) = x[0], (_columns(v, x[0].ndim) for v in x[1:])
        return scale * (data - mean) / np.sqrt(variance + float(attributes.get("epsilon", 1e-5))) + bias

    def _parameters(self, X: Operands) -> tuple[Enclosure, list[Enclosure]]:
        """x, and scale, B, mean, var in columns. Raises UnsupportedOperator if one of these is not exactly known."""
        x = X[0]
        if x is None or any(v is None for v in X[1:]):
            raise ValueError("BatchNormalization needs five operands")
        columns = [v.map(lambda c: _columns(c, len(x.shape))) for v in X[1:] if v is not None]
        if not all(v.is_point for v in columns):
            raise UnsupportedOperator("its parameters must be constants")
        return x, columns

    def _slope(self, scale: Enclosure, variance: Enclosure, attributes: dict[str, Any]) -> Enclosure:
        """Encloses s'. Raises UnsupportedOperator where the variance is not positive."""
        total = _sum_with_epsilon(variance, attributes)
        if bool(np.any(total.lo <= 0.0)):
            raise UnsupportedOperator("var + epsilon is not positive")
        return divide(scale, Enclosure(down(np.sqrt(total.lo)), up(np.sqrt(total.hi))))

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """s' (x - mean) + B in interval arithmetic; every quantity occurs once."""
        _refuse_training(attributes)
        x, (scale, bias, mean, variance) = self._parameters(X)
        return add(multiply(self._slope(scale, variance, attributes), subtract(x, mean)), bias)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """Unless the parameters deviate."""
        return all(radius is None for radius in r[1:])

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """s' d; the remainder is what deviating parameters do."""
        _refuse_training(attributes)
        x, (scale, _, _, variance) = self._parameters(X)
        slope = self._slope(scale, variance, attributes).mag
        signed = scale.lo / np.sqrt(variance.lo + float(attributes.get("epsilon", 1e-5)))
        zero = np.zeros((1, *x.shape[1:]))

        def push(d: Tangents) -> Array:
            return zero if d[0] is None else np.asarray(d[0] * signed)

        def pull(a: Array) -> Sequence[Array | None]:
            return (None if r[0] is None else a * signed, None, None, None, None)

        def magnitude(d: Tangents) -> Array:
            return zero if d[0] is None else mul_up(slope, d[0])

        return Linearization(push, pull, magnitude, zero, self._moved(X, r, attributes), 4)

    def _moved(self, X: Operands, r: Radii, attributes: dict[str, Any]) -> Array:
        """The remainder of deviating parameters (see the class), 0 without any; inf where var + epsilon may not be positive."""
        x, (scale, bias, mean, variance) = self._parameters(X)
        zero = np.zeros((1, *x.shape[1:]))
        if self.is_linear(X, r):
            return zero
        radii = [
            np.zeros(p.shape) if q is None else _columns(q, len(x.shape)) for p, q in zip((scale, bias, mean, variance), r[1:], strict=True)
        ]
        total = _sum_with_epsilon(variance.widen(radii[3]), attributes)
        lost = ~(total.lo > 0.0)
        total = Enclosure(np.where(lost, 1.0, total.lo), np.where(lost, 1.0, total.hi))
        moved = divide(scale.widen(radii[0]), Enclosure(down(np.sqrt(total.lo)), up(np.sqrt(total.hi))))
        slope = self._slope(scale, variance, attributes)
        turned = subtract(moved, slope).mag
        reach = add_up(subtract(x, mean).mag, zero if r[0] is None else r[0], radii[2])
        return np.where(lost, np.inf, add_up(mul_up(turned, reach), mul_up(slope.mag, radii[2]), radii[1]))

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """|s'| r and the remainder."""
        linear = self.linearize(X, r, **attributes)
        return add_up(linear.magnitude(r), linear.radius)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """Covers scale (x - mean) / sqrt(var + eps) + B in any association, and the folded x s' + (B - mean s').

        Roundings, all in the kernel's format: s' meets at most five (eps stored, var + eps, root, reciprocal, product; the
        first two count half under the root, so four would do), x s' or (x - mean) s' two more (the difference or the
        product, the last addition), mean s' three more (product, B - ., last addition), B two. Each is a factor 1 + t or
        1 / (1 + t), |t| <= u, so with k = 8 the error is at most gamma_k (|x s'| + |mean s'| + |B|) (Higham, Lemma 3.1). Underflow,
        eta each: in s' (times |x| + |mean|), in 1/sqrt (also times |scale|), in products and differences (times |s'|, |scale| or
        1), and relative eta / (var + eps) under the root. A wider kernel format adds the store.
        """
        x, held = self._parameters(X)
        moved = [q if q is None else _columns(q, len(x.shape)) for q in r[1:]]
        scale, bias, mean, variance = (p.widen(q) for p, q in zip(held, moved, strict=True))
        u, eta = arithmetic.unit_roundoff, arithmetic.underflow
        if bool(np.any(_sum_with_epsilon(variance, attributes).lo <= 0.0)):
            return np.full(magnitude.shape, np.inf)
        slope = self._slope(scale, variance, attributes).mag
        size = x.mag if r[0] is None else add_up(x.mag, r[0])
        reach = add_up(size, mean.mag)
        terms = add_up(mul_up(slope, reach), bias.mag)
        total = _sum_with_epsilon(variance, attributes)
        under_root = up(np.asarray(eta / total.lo))
        gamma = _ROUNDINGS * u / (1.0 - _ROUNDINGS * u) if _ROUNDINGS * u < 1.0 else np.inf
        relative = np.where(under_root < 0.5, inflate(gamma + (1.0 + gamma) * 2.0 * under_root, 8), np.inf)
        grown = up(1.0 + relative)
        floor = mul_up(eta * grown, add_up(mul_up(1.0 + scale.mag, add_up(reach, 1.0)), slope, 6.0)) if eta > 0.0 else np.zeros(())
        before = add_up(mul_up(relative, terms), floor) if u > 0.0 else np.zeros_like(terms)
        stored = arithmetic.round(add_up(magnitude, before))
        largest = np.maximum(np.maximum(inflate(terms * grown, 2), inflate(reach * grown, 2)), np.maximum(total.hi, slope))
        inverse = up(1.0 / down(np.sqrt(total.lo)))
        safe = np.maximum(largest, inflate(inverse * grown, 2)) <= arithmetic.accumulator.max
        result = before if arithmetic.accumulator == arithmetic.storage else add_up(before, stored)
        return np.where(safe & np.isfinite(stored), result, np.inf)

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """Nothing is known of a product with s'."""
        return 0.0


register(BatchNormalization(6))  # from opset 7 on batch_training.py chooses when it serves
