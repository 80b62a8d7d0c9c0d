"""Laws of Einsum, and its values against numpy's einsum."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.families.composite import Expansion
from certify.semantics.ops import einsum
from tests.laws.kit import check_rule
from tests.semantics.models import attacked, one_node

rng = np.random.default_rng(13)
RULE = lookup("", "Einsum", 11)


def box(*shape: int) -> tuple[Any, Any]:
    lo = rng.normal(size=shape)
    return lo, lo + 0.25 * rng.integers(0, 2, shape)


def terms(*x: Any, equation: str) -> Any:
    """The products that each element adds, along a last axis: loops over every label (no ellipsis)."""
    left, _, out = equation.partition("->")
    operands = left.split(",")
    sizes = {label: n for names, a in zip(operands, x, strict=True) for label, n in zip(names, a.shape, strict=True)}
    inner = [label for label in sizes if label not in out]
    result = np.full((*(sizes[label] for label in out), int(np.prod([sizes[label] for label in inner], dtype=int))), mpf(0), dtype=object)
    for place in np.ndindex(*(sizes[label] for label in out)):
        for k, summed in enumerate(itertools.product(*(range(sizes[label]) for label in inner))):
            at = dict(zip(out, place, strict=True)) | dict(zip(inner, summed, strict=True))
            product = mpf(1)
            for names, a in zip(operands, x, strict=True):
                product = product * a[tuple(at[label] for label in names)]
            result[(*place, k)] = product
    return result


def oracle(*x: Any, equation: str) -> Any:
    return np.asarray(terms(*x, equation=equation).sum(axis=-1), dtype=object)


def kernel(machine: Any, *x: Any, equation: str) -> Any:
    return np.asarray(machine.fl_dot(terms(*x, equation=equation)), dtype=object)


TWO = [
    ("ij,jk->ik", (2, 3), (3, 2)),
    ("bij,bkj->bik", (2, 2, 2), (2, 1, 2)),
    ("ij,ij->", (2, 2), (2, 2)),
    ("i,j->ji", (2,), (3,)),
    ("ii,ij->j", (2, 2), (2, 2)),
    ("ik,j->j", (2, 2), (2,)),
]
ONE = [("ij->ji", (2, 3)), ("ij->i", (2, 3)), ("ii->i", (3, 3)), ("iji->", (2, 2, 2))]


@pytest.mark.parametrize(("equation", "a", "b"), TWO)
def test_two_operands(equation: str, a: Any, b: Any) -> None:
    check_rule(RULE, [(box(*a), box(*b))], oracle=oracle, kernel=kernel, attributes={"equation": equation}, radii=(0.0, 0.125))


@pytest.mark.parametrize(("equation", "a"), ONE)
def test_one_operand(equation: str, a: Any) -> None:
    check_rule(RULE, [(box(*a),)], oracle=oracle, kernel=kernel, attributes={"equation": equation}, radii=(0.0, 0.125))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij,...jk->...ik", [(2, 3, 4), (5, 2, 4, 3)]),
        ("b...ij , bj... -> bi...", [(2, 3, 4, 5), (2, 5, 3)]),
        ("ij,jk", [(3, 4), (4, 2)]),
        ("ba,ca", [(3, 4), (2, 4)]),
        ("...", [(3, 4)]),
        ("i...->...", [(3, 4)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bij,jk->bik", [(1, 3, 4), (4, 2)]),
    ],
)
def test_values_agree_with_numpy(equation: str, shapes: Any) -> None:
    x = [rng.integers(-5, 6, s).astype(float) for s in shapes]
    got = RULE.value(*(v[None] for v in x), equation=equation)  # type: ignore[union-attr]
    np.testing.assert_array_equal(got[0], np.einsum(equation, *x))
    shape = RULE._rule(x)  # type: ignore[union-attr]
    found = shape.form.extent(*((1, *s) for s in shapes), equation=equation).shape if len(x) == 2 else got.shape
    assert found == got.shape


def test_pull_is_the_transpose_of_push_for_many_rows() -> None:
    for equation, a, b in [*TWO, ("...i,i...->...", (2, 3), (3, 1))]:
        x, y = (rng.integers(-4, 5, (1, *s)).astype(float) for s in (a, b))
        L = einsum.Einsum().linearize((Enclosure.point(x), Enclosure.point(y)), (np.ones_like(x), np.ones_like(y)), equation=equation)
        d, e = (rng.integers(-4, 5, (5, *s)).astype(float) for s in (a, b))
        z = L.push((d, e))
        w = rng.integers(-4, 5, z.shape).astype(float)
        left, right = L.pull(w)
        for i in range(5):
            assert (z[i] * w[i]).sum() == (left[i] * d[i]).sum() + (right[i] * e[i]).sum()  # type: ignore[index]


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
        ("ij,kj,kl,l->i", [(2, 3), (4, 3), (4, 2), (2,)]),
        ("...ij,...jk,k->...i", [(2, 2, 3), (2, 3, 4), (4,)]),
        ("ii,i,ij", [(3, 3), (3,), (3, 2)]),
    ],
)
def test_more_operands(equation: str, shapes: list[tuple[int, ...]]) -> None:
    """From left to right; values as numpy has them."""
    x = [rng.integers(-4, 5, shape).astype(float) for shape in shapes]
    names = [f"x{i}" for i in range(len(x))]
    e = Expansion("p", tuple(names), tuple(shapes), ("y",), {}, lambda kernel: "")
    primitives, _ = lookup("", "Einsum", 28).expand(e, equation=equation)
    values = {n: a[None] for n, a in zip(names, x, strict=True)}
    for p in primitives:
        values[p.output] = RULE.value(*(values[n] for n in p.operands if n), **p.attributes)
    np.testing.assert_array_equal(values["y"][0], np.einsum(equation, *x))
    held = dict(zip(names, (rng.normal(size=shape) for shape in shapes), strict=True))
    assert attacked(one_node("Einsum", held, {"equation": equation}, 12), held)[None] == "finite"
