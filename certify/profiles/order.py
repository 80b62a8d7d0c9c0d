"""Orders of summation, as the command line names them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """How a kernel adds up n terms.

    "any" tree; "sequential"; "pairwise": neighbours in index order, then neighbouring sums, an odd one out passing on (height
    ceil(log2 n)), an addend at last; "blocked": blocks of `block` consecutive terms in any order, then, in any order, their sums
    and an addend. Terms that are zero, padding included, keep their places. Index order is that of the inner axis of
    MatMul and Gemm, and of the kernel's array of Conv (input channel, then tap, row by row).
    """

    kind: str
    block: int = 0

    def __str__(self) -> str:
        return f"blocked:{self.block}" if self.kind == "blocked" else self.kind

    @property
    def sentence(self) -> str:
        """The premise that a certificate prints."""
        return {
            "any": "Sums and dot products are added up in any order, by any tree, with or without fused multiply-add.",
            "sequential": "Sums and dot products are added up one term after the other, with or without fused multiply-add.",
            "pairwise": "Sums and dot products are added up in pairs of neighbours in index order, then their sums so; addends come last.",
            "blocked": (
                f"Sums and dot products are added up in blocks of {self.block} terms consecutive in index order, "
                "then the block sums and the addend, both in any order."
            ),
        }[self.kind]


def order_named(text: str) -> Order:
    """The order that `text` names: any, sequential, pairwise or blocked:B. Raises ValueError, listing these."""
    kind, _, block = text.partition(":")
    if text in ("any", "sequential", "pairwise"):
        return Order(text)
    if kind == "blocked" and block.isdecimal() and int(block) > 0:
        return Order("blocked", int(block))
    raise ValueError(f"unknown order of summation {text!r}; known: any, sequential, pairwise, blocked:B with B a positive integer")
