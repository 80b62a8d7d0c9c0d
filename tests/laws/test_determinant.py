"""Laws of Det; kernels factorize with partial pivoting or expand by minors, by dice."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.semantics import ops  # noqa: F401 - registers the rules
from certify.semantics.contract import UnsupportedOperator, lookup
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import E4M3, E5M2, MIXED, Exact, Machine
from tests.laws.test_lies import Liar, steeper
from tests.semantics.models import attacked, one_node

rng = np.random.default_rng(3)


def oracle(x: Exact) -> Exact:
    """The sum over all permutations."""
    n = x.shape[-1]
    out = np.empty(x.shape[:-2], dtype=object)
    for index in np.ndindex(out.shape):
        total = mpf(0)
        for p in itertools.permutations(range(n)):
            inversions = sum(p[i] > p[j] for i, j in itertools.combinations(range(n), 2))
            product = mpf(-1) ** inversions
            for i in range(n):
                product = product * x[(*index, i, p[i])]
            total = total + product
        out[index] = total
    return out


def pivoted(fl: Any, a: Exact) -> Any:
    n, a, sign = len(a), a.copy(), 1
    for k in range(n):
        p = max(range(k, n), key=lambda i: abs(a[i, k]))
        if a[p, k] == 0:
            continue
        if p != k:
            a[[k, p]], sign = a[[p, k]], -sign
        for i in range(k + 1, n):
            factor = fl(a[i, k] / a[k, k])
            for j in range(k + 1, n):
                a[i, j] = fl(a[i, j] - fl(factor * a[k, j]))
    product = mpf(sign)
    for k in range(n):
        product = fl(product * a[k, k])
    return product


def by_minors(fl: Any, a: Exact) -> Any:
    if len(a) == 1:
        return a[0, 0]
    total = mpf(0)
    for j in range(len(a)):
        minor = by_minors(fl, np.delete(a[1:], j, axis=1))
        total = fl(total + (-1) ** j * fl(a[0, j] * minor))
    return total


def kernel(machine: Machine, x: Exact) -> Exact:
    way = pivoted if int(machine.rng.integers(2)) else by_minors
    out = np.empty(x.shape[:-2], dtype=object)
    for index in np.ndindex(out.shape):
        out[index] = machine.fl(way(machine.accumulator.fl, x[index]))
    return out


def check_det(rule: Any, n: int) -> None:
    x = rng.normal(size=(2, n, n))
    singular = np.ones((2, n, n))
    hard = np.where(np.eye(n) > 0, 2.0**-3, 0.0) * np.ones((2, n, n))
    check_rule(
        rule,
        [((x, x + 0.25 * rng.integers(0, 2, x.shape)),), ((x, x),)],
        [(singular,), (hard,), (np.zeros((2, n, n)),)],
        oracle=oracle,
        kernel=kernel,
        machines=(E4M3, E5M2, MIXED),
        radii=(0.0, 2.0**-40, 2.0**-10, 0.125),
        smooth=[(x,)],
        shapes=False,
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_laws(n: int) -> None:
    check_det(lookup("", "Det", 22), n)


@pytest.mark.parametrize(
    ("verb", "tell", "law"),
    [
        ("linearize", steeper, "remainder"),
        ("modulus", lambda m, *_: 0.5 * m, "modulus >="),
        ("enclose", lambda Y, *_: Y[..., ::-1], "float64 value"),
        ("rounding", lambda b, *_: 0.01 * b, "rounding"),
    ],
)
def test_lies(verb: str, tell: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=f"^{law}"):
        check_det(Liar(lookup("", "Det", 22), verb, tell), 2)


def test_larger_matrices() -> None:
    x = rng.normal(size=(1, 6, 6))
    got = lookup("", "Det", 11).value(x[None])[0]
    np.testing.assert_allclose(got, np.linalg.det(x), rtol=1e-12)
    assert attacked(one_node("Det", {"x": x}, {}, 22), {"x": x})[None] == "finite"
    attacked(one_node("Det", {"x": x[:, :3, :3]}, {}, 11), {"x": x[:, :3, :3]}, region=True)
    with pytest.raises(UnsupportedOperator, match="9 x 9"):
        lookup("", "Det", 22).value(np.ones((1, 9, 9)))
