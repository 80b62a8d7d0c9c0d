"""Two inner products and several addends in one accumulator, A B + C_1 + ... + C_k: the pre-activation of a recurrent gate.

A part of expansions. Value, enclosure and linear map are those of a product with addends (families/bilinear); what is added is the
rounding of kernels that form the two inner products apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up
from certify.semantics.contract import Arithmetic, Linearization, Operands, Radii
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.broadcast import align
from certify.semantics.families.form import Form


@dataclass(frozen=True, slots=True)
class Accumulation:
    """The rule over `product`, a matrix product with addends.

    `split`, an attribute, is how many of the products belong to the first of two inner products that kernels may form apart.
    """

    product: Bilinear
    name: str = "Gemm"
    domain: str = "certify"
    since: int = 1
    parameters: tuple[str, ...] = ("A", "B", "addends")
    static: frozenset[str] = frozenset()
    outputs: int = 1
    nonlinear: bool = True
    pointwise: bool = False

    @property
    def form(self) -> Form:
        return self.product.form

    def value(self, *x: Any, split: int = 0) -> Any:
        """A B + sum of the addends."""
        return self.product.value(*x)

    def enclose(self, X: Operands, *, split: int = 0) -> Enclosure:
        return self.product.enclose(X)

    def is_linear(self, X: Operands, r: Radii) -> bool:
        return self.product.is_linear(X, r)

    def linearize(self, X: Operands, r: Radii, *, split: int = 0) -> Linearization:
        return self.product.linearize(X, r)

    def modulus(self, X: Operands, r: Radii, *, split: int = 0) -> Array:
        return self.product.modulus(X, r)

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], *, split: int = 0
    ) -> Array:
        """The larger of two bounds, each of its own kernels.

        - All products and addends are leaves of one sum, added in whatever order the arithmetic states (families/bilinear). In any
          order this alone holds every kernel: it may form the two inner products apart or in one run, begin with an addend, add the
          addends up beforehand.
        - If an order is stated, kernels may follow it within each of two inner products, of the first `split` products and of the
          rest, the second one on top of the first and of some addends or not: dot(split) + dot(rest, an addend of all that may be
          there) + one rounding for each of the k + 2 additions that may then be left, of no sum beyond all magnitudes and errors
          before it.
        """
        whole = self.product.rounding(X, r, arithmetic, magnitude, quantum)
        operands = [x if x is None else x.mag if radius is None else add_up(x.mag, radius) for x, radius in zip(X, r, strict=True)]
        a, b = operands[:2]
        assert a is not None
        assert b is not None
        if not 0 < split < a.shape[-1]:
            return whole
        addends = [align(c, magnitude.ndim) for c in operands[2:] if c is not None]
        return np.maximum(whole, self._apart(arithmetic, (a[..., :split], b[..., :split, :]), (a[..., split:], b[..., split:, :]), addends))

    def _apart(self, arithmetic: Arithmetic, first: tuple[Array, Array], second: tuple[Array, Array], addends: Sequence[Array]) -> Array:
        """The second bound of `rounding`."""
        n, size, largest, nonzero = self.product.leaves(*first)
        off = arithmetic.dot(n, size, size, largest, 0.0, nonzero)
        base = add_up(size, off, *addends)
        n, size, largest, nonzero = self.product.leaves(*second)
        everything = add_up(size, base)
        on_top = arithmetic.dot(n, size, everything, largest, base, nonzero)
        error, everything = add_up(off, on_top), add_up(everything, on_top)
        for _ in range(len(addends) + 2):
            addition = arithmetic.sum(2, everything, everything, everything)
            error, everything = add_up(error, addition), add_up(everything, addition)
        return error

    def quantum(self, quantum: Sequence[Array | float], *, split: int = 0) -> Array | float:
        """Nothing is claimed for sums of products."""
        return 0.0
