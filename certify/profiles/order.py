"""Orders of summation, as the command line names them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """How a kernel adds up: "any" tree, "sequential", "pairwise" (height ceil(log2 n)), "blocked" (blocks of `block` terms)."""

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
            "pairwise": "Sums and dot products of n terms are added up by a tree of height ceil(log2 n).",
            "blocked": f"Sums and dot products are added up in blocks of {self.block} terms, then the block sums, both in any order.",
        }[self.kind]


def order_named(text: str) -> Order:
    """The order that `text` names: any, sequential, pairwise or blocked:B. Raises ValueError, listing these."""
    kind, _, block = text.partition(":")
    if text in ("any", "sequential", "pairwise"):
        return Order(text)
    if kind == "blocked" and block.isdecimal() and int(block) > 0:
        return Order("blocked", int(block))
    raise ValueError(f"unknown order of summation {text!r}; known: any, sequential, pairwise, blocked:B with B a positive integer")
