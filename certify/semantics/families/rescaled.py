"""A product whose scale a kernel puts where it likes: alpha may meet the factors, either of them, sums of products, or their total.

A part of expansions. Value, enclosure and linear map are those of the product (families/bilinear); the rounding is its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, mul_up, up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii
from certify.semantics.families import scalar
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.form import Form

_CONSTANT = 2.0**-22


def _number(alpha: float | None, root: int) -> tuple[float, float]:
    """(alpha in float64, a bound of its relative error): alpha is 1 / sqrt(root), two roundings, where it is not given."""
    if alpha is not None:
        return float(alpha), 0.0
    nearest = math.isqrt(root)
    exact = nearest * nearest == root and nearest & (nearest - 1) == 0
    return 1.0 / math.sqrt(root), 0.0 if exact else 2.0**-51


@dataclass(frozen=True, slots=True)
class Rescaled:
    """The rule over `product`, alpha A B + C with attribute alpha; its attributes:

    alpha: a number; None: 1 / sqrt(root).
    prescaled: kernels may store both factors times sqrt(alpha), or one times alpha, or times either and log2(e).
    unnormalized: partial sums may be up to `terms` times as large (weights of a softmax, divided by their sum at the end).
    """

    product: Bilinear
    name: str = "RescaledMatMul"
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("A", "B", "C")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    @property
    def form(self) -> Form:
        return self.product.form

    def value(self, *x: Any, alpha: float | None = 1.0, root: int = 1, **_: Any) -> Any:
        if x[0].dtype != object or alpha is not None:
            return self.product.value(*x, alpha=_number(alpha, root)[0])
        y = self.product.value(*x[:2], alpha=1.0)
        y = y / scalar.sqrt(y * 0 + root)
        return y if len(x) < 3 or x[2] is None else y + x[2].reshape(self.product.form.addend_shape(x[2].shape, y.ndim))

    def enclose(self, X: Operands, *, alpha: float | None = 1.0, root: int = 1, **_: Any) -> Enclosure:
        """The product's own enclosure for alpha in float64, wider by what that number is off."""
        a, off = _number(alpha, root)
        Y = self.product.enclose(X, alpha=a)
        return Y if off == 0.0 else Y.widen(mul_up(off, self._size(X, (None, None, None), a)))

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return False

    def linearize(self, X: Operands, r: Radii, *, alpha: float | None = 1.0, root: int = 1, **_: Any) -> Linearization:
        """That of the product for alpha in float64; what that number is off enters the remainder, times the whole variation."""
        a, off = _number(alpha, root)
        L = self.product.linearize(X, r, alpha=a)
        if off == 0.0 or (r[0] is None and r[1] is None):
            return L
        missed = mul_up(off, self.product.modulus((*X[:2], None), (*r[:2], None), alpha=a))
        return Linearization(L.push, L.pull, L.magnitude, L.shift, add_up(L.radius, missed), L.terms)

    def modulus(self, X: Operands, r: Radii, *, alpha: float | None = 1.0, root: int = 1, **_: Any) -> Array:
        a, off = _number(alpha, root)
        return mul_up(self.product.modulus(X, r, alpha=a), 1.0 + off)

    def _size(self, X: Operands, r: Radii, alpha: float) -> Array:
        """|alpha| sum |a_i b_i| over X +- r, an upper bound."""
        left, right = (x if radius is None else x.widen(radius) for x, radius in zip(X[:2], r[:2], strict=True) if x is not None)
        zero = Enclosure.point(np.zeros((1, *left.shape[1:])))
        return self.product.modulus((zero, right, None), (left.mag, None, None), alpha=alpha)

    def rounding(
        self,
        X: Operands,
        r: Radii,
        arithmetic: Arithmetic,
        magnitude: Array,
        quantum: Sequence[Array | float],
        *,
        alpha: float | None = 1.0,
        root: int = 1,
        prescaled: bool = False,
        unnormalized: bool = False,
    ) -> Array:
        """Twice the product's own bound (once where nothing is scaled), the roundings of the scale, and with an addend one more store.

        Scaling by a power of two changes no rounding but for underflow. Numbers scaled by s, 1 <= s < 2, round with errors at most
        twice as large before they are scaled back, since half an ulp at s x is at most twice that at x: so twice the bound of a dot
        product covers additions at whatever scale each of them happens, in blocks and with the addend in between.

        On the path of each product lie at most k roundings of the kernel's format of a scale (alpha or 1 / alpha, two of its own;
        sqrt(alpha), two and twice; its products) or of a product of numbers wider than storage: gamma_k of all products, k = 8, or
        2 where only weights are. An addend that is added later finds a sum that was stored.

        prescaled: each factor times sqrt(alpha) or alpha, a constant of storage that the standard's definition works out in fp32
        (off by kappa = u_T + 2^-22 (1 + u_T)), is stored, which at the factor's own scale is at most 2 half_ulp + underflow.
        `convert` is half_ulp, or what the kernel does to an operand on entry, and then the store comes before it:
        rho_x = kappa |x| + (1 + kappa)(1 + u_T)(2 convert(|x|) + u_T |x|) + eta_T max(1, 2 / alpha), without u_T |x| where `convert` is
        no coarser than the store, and so is the store, or changes nothing that was stored. The product moves by at most
        |alpha| (form(rho_A, |B| + rho_B) + form(|A|, rho_B)).
        """
        A, B = X[0], X[1]
        assert A is not None
        assert B is not None
        a, _ = _number(alpha, root)
        wide = tuple(x.widen(radius) for x, radius in zip((A, B), r, strict=False))
        radii: Radii = r
        u, eta, storage = arithmetic.unit_roundoff, arithmetic.underflow, arithmetic.storage
        terms = max(1, self.form.extent(A.shape, B.shape).terms)
        moved: Array = np.zeros((1,) * np.ndim(magnitude))
        scales = prescaled or unnormalized or a != 1.0
        if prescaled:
            rho = [self._stored(arithmetic, x.mag, abs(a)) for x in wide]
            moved = self.product.modulus((*wide, None), (*rho, None), alpha=a)
            radii = tuple(p if q is None else add_up(p, q) for p, q in zip(rho, r, strict=False)) + tuple(r[2:])
        C = X[2] if len(X) > 2 else None
        c = 0.0 if C is None else C.widen(r[2]).map(lambda x: x.reshape(self.form.addend_shape(x.shape, np.ndim(magnitude)))).mag
        gamma = gamma_of(8 if prescaled or a != 1.0 else 2, u)
        size = self._size(X, radii, a)
        loose = add_up(mul_up(gamma, size), mul_up(float(terms) + 2.0, eta, 1.0 + abs(a))) if scales else np.zeros(())
        arriving = add_up(magnitude, moved, loose)
        dot = self.product.rounding(X, radii, arithmetic, arriving, quantum, alpha=a)
        stored = 0.0 if C is None or storage == arithmetic.accumulator else arithmetic.round(add_up(arriving, c))
        bound = add_up((2.0 if scales else 1.0) * dot, moved, loose, stored)
        if C is not None and bool(np.any(np.isinf(bound) & (c > 0.25 * storage.max))):
            alone = self.product.rounding((*X[:2], None), (*radii[:2], None), arithmetic, size, quantum, alpha=a)
            bound = np.minimum(bound, _beside(arithmetic, terms, np.asarray(c), add_up(size, moved, loose, 2.0 * alone)))
        if unnormalized:
            bound = np.where(mul_up(size, 2.0 * terms) <= arithmetic.accumulator.max, bound, np.inf)
        return bound

    def _stored(self, arithmetic: Arithmetic, x: Array, alpha: float) -> Array:
        """rho_x."""
        store = arithmetic.storage.unit_roundoff
        kappa = store + _CONSTANT * (1.0 + store)
        under = arithmetic.storage.eta * max(1.0, 2.0 / alpha) if alpha > 0.0 else 0.0
        coarser = float(arithmetic.convert(np.full(1, 1.5))[0]) > store
        rounded = mul_up((1.0 + kappa) * (1.0 + store), add_up(mul_up(2.0, arithmetic.convert(x)), mul_up(store * coarser, x)))
        return add_up(mul_up(kappa, x), rounded, under)

    def quantum(self, quantum: Sequence[Array | float], **_: Any) -> Array | float:
        return 0.0


def _beside(arithmetic: Arithmetic, terms: int, c: Array, rest: Array) -> Array:
    """Bound where the addend is near the largest number, |c| <= max, and all else, errors included, is at most `rest`.

    While rest < u_T max / 4, less than half of half an ulp at max, no addition overflows: what is computed is at most max
    (rounding is monotone), so the next exact result at most max + rest, which rounds to max. At most terms + 2 of them and two stores
    see the addend, each off by at most u (max + rest) of its format; the rest errs by no more than it is.
    """
    storage = arithmetic.storage
    largest = add_up(storage.max, rest)
    error = add_up(mul_up(float(terms + 3), arithmetic.unit_roundoff, largest), mul_up(2.0 * storage.unit_roundoff, largest), 2.0 * rest)
    return np.where((c <= storage.max) & (rest < 0.25 * storage.unit_roundoff * storage.max), error, np.inf)


def gamma_of(k: int, u: float) -> float:
    """Upper bound of k u / (1 - k u)."""
    return float(inflate(up(np.asarray(k * u / (1.0 - k * u))), 3)) if k * u < 1.0 else np.inf
