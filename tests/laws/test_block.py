"""A block keeps its promises as one rule, whatever its parts: their maps, remainders and roundings are strung together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp

from certify.number.enclosure import Enclosure
from certify.semantics import ops
from certify.semantics.contract import Linearization, lookup
from certify.semantics.families.block import Chain, Part
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import E4M3, E5M2, Exact, Machine, elementwise
from tests.laws.test_lies import Liar

assert ops is not None
RULE: Any = lookup("certify", "Block", 1)
tanh, sigmoid = elementwise(mp.tanh), elementwise(lambda v: 1 / (1 + mp.exp(-v)))


def part(name: str, *operands: int, domain: str = "", **attributes: Any) -> Part:
    rule: Any = lookup(domain, name, 28)
    return Part(rule, operands, attributes)


# operands z, a, b: tanh(a) + sigmoid(z) (b - a)
BLEND: Chain = (part("Tanh", 1), part("Sigmoid", 0), part("Sub", 2, 1), part("Mul", 4, 5), part("Add", 3, 6))
# operands h, W, bias, c: c sigmoid(h W + bias), the product being a head
GATE: Chain = (part("Gemm", 0, 1, 2, domain="certify"), part("Sigmoid", 4), part("Mul", 5, 3))


def blend(z: Exact, a: Exact, b: Exact, chain: Any = None) -> Exact:
    return np.asarray(tanh(a) + sigmoid(z) * (b - a), dtype=object)


def gate(h: Exact, W: Exact, bias: Exact, c: Exact, chain: Any = None) -> Exact:
    return np.asarray(c * sigmoid(h @ W + bias), dtype=object)


def blended(machine: Machine, z: Exact, a: Exact, b: Exact, chain: Any = None) -> Exact:
    part_ = machine.fl(machine.fl_elementary(sigmoid(z)) * machine.fl(b - a))
    return np.asarray(machine.fl(machine.fl_elementary(tanh(a)) + part_), dtype=object)


def gated(machine: Machine, h: Exact, W: Exact, bias: Exact, c: Exact, chain: Any = None) -> Exact:
    products = machine.fl(h[0, 0, :, None] * W[0])
    total = machine.fl_sum(np.concatenate([products, bias.reshape(1, -1)]), 0)[None, None]
    return np.asarray(machine.fl(machine.fl_elementary(sigmoid(total)) * c), dtype=object)


Z, A, B = np.array([0.5, -2.0, 0.0]), np.array([1.0, -0.25, 3.0]), np.array([-1.0, 0.5, 2.0])
H, W = np.array([[[1.0, -0.5]]]), np.array([[[1.0, 0.25, 0.0], [-3.0, 2.0, 0.5]]])
BIAS, C = np.array([[0.125, -4.0, 1.0]]), np.array([[[3.0, 0.5, -1.0]]])
RADII = (0.0, 2.0**-40, 2.0**-10, 0.125, 1.5)
CASES: dict[str, dict[str, Any]] = {
    "blend": {
        "boxes": [((Z, Z + 0.5), (A, A), (B - 0.25, B)), ((Z, Z), (A, A + 1.0), (B, B))],
        "hard_points": [(Z, A, B), (0.0 * Z, -0.0 * A, 5e-324 + 0.0 * B), (Z + 700.0, 1e3 * A, 1e30 * B)],
        "smooth": [(Z, A, B)],
        "oracle": blend,
        "attributes": {"chain": BLEND},
        "kernel": blended,
    },
    "gate": {
        "boxes": [((H, H + 0.25), (W, W), (BIAS, BIAS + 0.5), (C - 0.5, C)), ((H, H), (W - 0.125, W), (BIAS, BIAS), (C, C))],
        "hard_points": [(H, W, BIAS, C), (0.0 * H, W, BIAS, -0.0 * C), (1e3 * H, W, 1e3 * BIAS, 1e-3 * C)],
        "smooth": [(H, W, BIAS, C)],
        "oracle": gate,
        "attributes": {"chain": GATE},
        "kernel": gated,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_promises(name: str) -> None:
    check_rule(RULE, radii=RADII, machines=(E5M2, E4M3), **CASES[name])


def without_head(L: Linearization, *_: Any) -> Linearization:
    """push forgets that the product moves."""
    return replace(L, push=lambda d: L.push([None, *d[1:]]))


LIES: list[tuple[str, str, str, Callable[..., Any], str]] = [
    ("gate", "the head does not move", "linearize", without_head, "<push d, a>"),
    ("gate", "remainder short", "linearize", lambda L, *_: replace(L, radius=0.9 * L.radius), "(remainder|modulus <=)"),
    ("blend", "remainder short", "linearize", lambda L, *_: replace(L, radius=0.9 * L.radius), "(remainder|modulus <=)"),
    ("blend", "modulus short", "modulus", lambda m, *_: 0.5 * m, "modulus >="),
    ("gate", "rounding of the last part alone", "rounding", lambda b, *_: 0.2 * b, "rounding"),
]


@pytest.mark.parametrize(("name", "what", "verb", "tell", "law"), LIES, ids=[f"{lie[0]}: {lie[1]}" for lie in LIES])
def test_lies_are_caught(name: str, what: str, verb: str, tell: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=f"^{law}"):
        check_rule(Liar(RULE, verb, tell), radii=(0.0, 0.125, 1.5), machines=(E4M3,), **CASES[name])


def test_heads_come_first() -> None:
    chain = (part("Tanh", 0), part("Gemm", 2, 1, domain="certify"))
    X = tuple(Enclosure.point(x[None]) for x in (H, W))
    with pytest.raises(ValueError, match="heads"):
        RULE.linearize(X, (np.ones((1, *H.shape)), None), chain=chain)
