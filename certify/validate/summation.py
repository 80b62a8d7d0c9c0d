"""Orders of summation, simulated to the bit: what a bound "for any order" must survive.

Terms travel as float64 arrays (n, rows): the n exact terms of each of `rows` sums. A narrow format's addition is float64's
rounded once more; for p <= 25 that is the correctly rounded sum (53 >= 2p + 2, Figueroa 1995).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.number.upward import Array

Sum: TypeAlias = Callable[[Array, Format], Array]
_Native: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Order:
    """A named order: `arrange` puts the terms (n, rows) in line, `tree` sums them, numbers of the accumulator's format, into it.

    addend_last: an addend is added to the sum (as profiles/order defines pairwise and blocked), and is else the first term.
    """

    name: str
    arrange: Callable[[Array], Array]
    tree: Sum
    addend_last: bool = False

    @property
    def in_turn(self) -> bool:
        """True if the terms are added one after another as they come, the addend first."""
        return self.arrange is as_given and self.tree is sequential and not self.addend_last

    def add(self, terms: Array, accumulator: Format, addend: Array | None = None) -> Array:
        if addend is None or not len(terms):
            return self.tree(self.arrange(terms), accumulator) if addend is None else addend
        if not self.addend_last:
            return self.tree(self.arrange(np.concatenate([addend[None], terms])), accumulator)
        return self.tree(np.stack([self.tree(self.arrange(terms), accumulator), addend]), accumulator)


def sequential(terms: Array, accumulator: Format) -> Array:
    """((t_1 + t_2) + t_3) + ..."""
    added = native(terms, accumulator)
    total = added[0].copy()
    for term in added[1:]:
        total = plus(total, term, accumulator)
    return np.asarray(total, dtype=np.float64)


def pairwise(terms: Array, accumulator: Format) -> Array:
    """A balanced tree: neighbours are added until one is left."""
    left = native(terms, accumulator)
    while len(left) > 1:
        even = len(left) // 2 * 2
        sums = plus(left[0:even:2], left[1:even:2], accumulator)
        left = np.concatenate([sums, left[even:]])
    return np.asarray(left[0], dtype=np.float64)


def blocked(size: int) -> Sum:
    """Blocks of `size` terms added in order, then the blocks' sums in order."""

    def add(terms: Array, accumulator: Format) -> Array:
        padding = -len(terms) % size
        padded = np.concatenate([terms, np.zeros((padding, *terms.shape[1:]))])
        blocks = padded.reshape(-1, size, *terms.shape[1:]).swapaxes(0, 1)
        return sequential(sequential(blocks, accumulator), accumulator)

    return add


def as_given(terms: Array) -> Array:
    return terms


def ascending(key: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Row by row in the ascending order of `key`."""

    def arrange(terms: Array) -> Array:
        return np.take_along_axis(terms, np.argsort(key(terms), axis=0, kind="stable"), axis=0)

    return arrange


ORDERS: dict[str, Order] = {
    order.name: order
    for order in (
        Order("sequential", as_given, sequential),
        Order("reversed", lambda terms: terms[::-1], sequential),
        Order("pairwise", as_given, pairwise, addend_last=True),
        Order("ascending", ascending(np.abs), sequential),
        Order("descending", ascending(lambda terms: -np.abs(terms)), sequential),
        # The partial sums climb as high as they can, and cancellation comes last.
        Order("positives-first", ascending(lambda terms: (terms < 0.0).astype(np.float64)), sequential),
    )
}


def order_named(name: str) -> Order:
    """An order by name, `blocked-B` for any B. Raises ValueError."""
    if name in ORDERS:
        return ORDERS[name]
    if name.startswith("blocked-") and name.removeprefix("blocked-").isdecimal() and int(name.removeprefix("blocked-")) > 0:
        return Order(name, as_given, blocked(int(name.removeprefix("blocked-"))), addend_last=True)
    raise ValueError(f"unknown order of summation {name!r}; known: {', '.join(ORDERS)}, blocked-B")


@dataclass(frozen=True, slots=True)
class TensorCore:
    """A matrix unit (runtime-facts: Khattak & Mikaitis 2025, MMA-Sim 2025).

    A block of `block` products and the accumulator are aligned to the largest exponent among them, truncated to
    `fraction` bits after its leading one, added exactly, and truncated into `result`.
    """

    name: str
    fraction: int
    block: int
    result: Format = FORMATS["fp32"]

    def add(self, products: Array, initial: Array) -> Array:
        """The accumulator after all products, (n, rows) exact, starting from `initial`, (rows,)."""
        total = initial
        for start in range(0, len(products), self.block):
            total = self._block(np.concatenate([total[None], products[start : start + self.block]]))
        return total

    def _block(self, terms: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            _, exponent = np.frexp(np.abs(terms).max(axis=0))
            scale = self.fraction - (exponent - 1)
            aligned = np.trunc(np.ldexp(terms, scale))
            total = np.ldexp(aligned.sum(axis=0), -scale)
            plain = terms.sum(axis=0)
        return round_to(np.where(np.isfinite(plain), total, plain), self.result, "zero")


def into(values: Array, accumulator: Format) -> Array:
    """Each term rounded into the accumulator's format, as a product is before it is added."""
    if accumulator == FORMATS["fp64"]:
        return values
    if accumulator == FORMATS["fp32"]:
        with np.errstate(over="ignore"):
            return values.astype(np.float32).astype(np.float64)
    return round_to(values, accumulator)


def native(terms: Array, accumulator: Format) -> _Native:
    """fp32 and fp64 are added by the processor's own arithmetic."""
    return terms.astype(np.float32) if accumulator == FORMATS["fp32"] else terms


def plus(a: _Native, b: _Native, accumulator: Format) -> _Native:
    """One addition of `native` numbers, rounded into the accumulator's format."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = a + b
    return total if accumulator in (FORMATS["fp32"], FORMATS["fp64"]) else round_to(total, accumulator)
