"""Laws of products in any order and of sums scattered in any order; their kernels multiply and add by dice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.semantics import ops  # noqa: F401 - registers the rules
from certify.semantics.contract import lookup
from certify.semantics.families.product import AnyOrder
from certify.semantics.ops.scatter import element_positions, lists, slice_positions
from tests.laws.kit import LawBroken, check_rule, exact
from tests.laws.machine import E4M3, E5M2, MIXED, Exact, Machine
from tests.semantics.models import attacked, one_node

rng = np.random.default_rng(4)


def tree(machine: Machine, factors: list[Any], stored: bool) -> Any:
    """Multiply two of them at random, again and again, in the accumulator; perhaps store each product."""
    inner, parts = machine.accumulator, list(factors)
    while len(parts) > 1:
        i, j = sorted(machine.rng.choice(len(parts), 2, replace=False))
        last, first = parts.pop(j), parts.pop(i)
        product = inner.fl(first * last)
        parts.append(machine.fl(product) if stored else product)
    return machine.fl(parts[0]) if parts else mpf(1)


def product_of(x: Any) -> Any:
    total = mpf(1)
    for v in x:
        total = total * v
    return total


def along_last(function: Any, x: Exact) -> Exact:
    out = np.empty(x.shape[:-1], dtype=object)
    for index in np.ndindex(out.shape):
        out[index] = function(list(x[index]))
    return out


class OfFactors:
    """AnyOrder with its first operand worked out: the product as a function of the factors alone."""

    def __init__(self, rule: AnyOrder) -> None:
        self.rule = rule

    def bound(self, machine: Machine, x: Exact, quantum: bool) -> Any:
        y = exact(along_last(product_of, x))
        held = x.astype(np.float64)
        from certify.number.enclosure import Enclosure

        X = (Enclosure.point(np.abs(y).astype(np.float64)[None] * (1 + 2.0**-50)), Enclosure.point(held[None]))
        q = np.array([_lowest_bit(v) for v in x.flat]).reshape(1, *x.shape) if quantum else 0.0
        return self.rule.rounding(X, (None, None), machine, X[0].mag, [0.0, q])[0]


def _lowest_bit(x: mpf) -> float:
    from tests.laws.kit import _lowest_bit as lowest

    return lowest(x)


@pytest.mark.parametrize("machine", [E4M3, E5M2, MIXED], ids=["e4m3", "e5m2", "mixed"])
@pytest.mark.parametrize("name", ["Products", "StoredProducts"])
def test_any_order_of_multiplication(name: str, machine: Machine) -> None:
    """Small, large, subnormal, zero and whole factors; overflow on the way must be seen."""
    rule = OfFactors(lookup("certify", name, 1))
    finite = 0
    for scale in (0, 0, 0, 3, 6):
        for _ in range(60):
            x = np.exp2(rng.uniform(-scale - 1, scale + 1, (4, 5))) * rng.choice([-1.0, 1.0], (4, 5))
            x[0] = rng.integers(1, 4, 5)
            x[1, 2] = rng.choice([0.0, x[1, 2]])
            held = machine.fl(exact(x))
            computed = along_last(lambda v: tree(machine, v, name == "StoredProducts" and bool(rng.integers(2))), held)
            truth = along_last(product_of, held)
            for quantum in (False, True):
                bound = rule.bound(machine, held, quantum)
                for y, t, b in zip(computed.flat, truth.flat, np.ravel(bound), strict=True):
                    assert b >= 0
                    assert b == np.inf or abs(y - t) <= mpf(float(b)), (held, y, t, b)
                    finite += b < np.inf
    assert finite > 1000


def test_whole_factors_are_multiplied_exactly() -> None:
    rule = OfFactors(lookup("certify", "Products", 1))
    assert rule.bound(MIXED, exact(np.array([[3.0, 2.0, 5.0]])), True).tolist() == [0.0]
    assert rule.bound(MIXED, exact(np.array([[3.0, 2.0, 5.0]])), False)[0] > 0.0


def test_lies_about_products() -> None:
    """One multiplication forgotten, or underflow on the way: the kernel's dice find both."""
    rule: Any = lookup("certify", "Products", 1)
    with pytest.raises(AssertionError):
        _attack(replace(rule, collect=lambda x: np.multiply.reduce(x[..., 1:], axis=-1)))
    _attack(rule)


def _attack(rule: AnyOrder) -> None:
    for _ in range(400):
        held = E4M3.fl(exact(np.exp2(rng.uniform(-0.5, 0.5, (8, 2)))))
        bound = OfFactors(rule).bound(E4M3, held, False)
        computed, truth = along_last(lambda v: tree(E4M3, v, False), held), along_last(product_of, held)
        assert all(abs(y - t) <= mpf(float(b)) for y, t, b in zip(computed.flat, truth.flat, np.ravel(bound), strict=True))


POSITIONS = np.array([4, 0, 4, 4, 2])


def scattered(data: Exact, updates: Exact, positions: Any) -> Exact:
    out = data.copy().reshape(-1)
    for p, u in zip(positions, updates.reshape(-1), strict=True):
        out[p] = out[p] + u
    return out.reshape(data.shape)


def scattering(machine: Machine, data: Exact, updates: Exact, positions: Any) -> Exact:
    """In the accumulator and stored once, or stored after each addition; in any order."""
    fl = machine.accumulator.fl if int(machine.rng.integers(2)) else machine.fl
    out = data.copy().reshape(-1)
    flat = updates.reshape(-1)
    for i in machine.rng.permutation(len(positions)):
        out[positions[i]] = fl(out[positions[i]] + flat[i])
    return machine.fl(out.reshape(data.shape))


def check_scatter(rule: Any) -> None:
    data, updates = rng.normal(size=(2, 3)), rng.normal(size=5)
    hard = (np.array([[1.0, 2.0**-1074, -0.0], [0.0, 3.0, 0.5]]), np.array([1.0, -1.0, 2.0**40, -(2.0**40), 0.25]))
    check_rule(
        rule,
        [((data, data + 0.5), (updates, updates + 0.25))],
        [hard, (data, updates)],
        oracle=scattered,
        kernel=scattering,
        attributes={"positions": POSITIONS},
    )


def test_scattered_sums() -> None:
    rule: Any = lookup("certify", "ScatterSum", 1)
    check_scatter(rule)
    with pytest.raises(LawBroken, match="^rounding"):
        check_scatter(replace(rule, kernel=lambda arithmetic, sizes, positions: arithmetic.round(sizes.magnitude)))
    with pytest.raises(LawBroken, match="^<push d, a>"):
        check_scatter(replace(rule, transpose=lambda a, shapes, positions: [a, a.reshape(a.shape[0], -1)[:, positions[::-1]]]))


def test_positions() -> None:
    """Against onnx's own definition, by scattering numbers."""
    data = np.arange(12).reshape(3, 4)
    index = rng.integers(-4, 4, (3, 2))
    flat = element_positions(index, data.shape, -1)
    assert flat.tolist() == [r * 4 + int(index[r, c]) % 4 for r in range(3) for c in range(2)]
    assert slice_positions(np.array([[2], [-3]]), (3, 4)).tolist() == [8, 9, 10, 11, 0, 1, 2, 3]
    assert lists(np.array([1, 0, 1]), 3).tolist() == [[0, 4, -1], [1, 3, 5], [2, -1, -1]]


X = rng.uniform(0.5, 1.5, (2, 3, 3))
INDEX = rng.integers(-3, 3, (2, 3, 4))
UPDATES = rng.normal(size=(2, 3, 4))


@pytest.mark.parametrize("region", [False, True])
def test_models(region: bool) -> None:
    attacked(one_node("ReduceProd", {"x": X}, {"keepdims": 0}, 18, {"axes": np.array([0, 2])}), {"x": X}, region=region)
    for exclusive, reverse in ((0, 0), (1, 0), (0, 1), (1, 1)):
        model = one_node("CumProd", {"x": X}, {"exclusive": exclusive, "reverse": reverse}, 26, {"axis": np.array(-1)})
        attacked(model, {"x": X}, region=region)
    for reduction in ("add", "mul", "max", "min"):
        model = one_node(
            "ScatterElements", {"x": X, "u": UPDATES}, {"axis": 2, "reduction": reduction}, 18, {"i": INDEX}, order=("x", "i", "u")
        )
        attacked(model, {"x": X, "u": UPDATES}, region=region)
        tuples = {"i": np.array([[0, 1], [1, -1], [0, 1]])}
        u = UPDATES.reshape(-1)[:9].reshape(3, 3)
        model = one_node("ScatterND", {"x": X, "u": u}, {"reduction": reduction}, 18, tuples, order=("x", "i", "u"))
        assert attacked(model, {"x": X, "u": u}, region=region)[None] == "finite"
