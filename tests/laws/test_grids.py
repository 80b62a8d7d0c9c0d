"""Laws of AffineGrid and Col2Im."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.ops import affine_grid, folding  # noqa: F401 - registers the rules
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import E4M3, MIXED
from tests.laws.reference import runtime
from tests.laws.test_lies import Liar, steeper

rng = np.random.default_rng(8)


def positions(n: int, align_corners: int) -> list[Any]:
    return [mpf(2 * i) / (n - 1) - 1 if align_corners else mpf(2 * i + 1) / n - 1 for i in range(n)]


def grid_oracle(theta: Any, size: Any, align_corners: int, product: Any = None) -> Any:
    """Every position times theta, from the definition."""
    extents = [int(n) for n in size[2:]]
    out = np.empty((theta.shape[0], *extents, len(extents)), dtype=object)
    along = [positions(n, align_corners) for n in extents]
    for n, at in itertools.product(range(theta.shape[0]), itertools.product(*map(range, extents))):
        place = [along[k][i] for k, i in enumerate(at)][::-1]
        for k in range(len(extents)):
            terms = [*zip(theta[n, k, :-1], place, strict=True), (theta[n, k, -1], mpf(1))]
            out[(n, *at, k)] = sum(a * b for a, b in terms) if product is None else product(terms)
    return out


def grid_kernel(machine: Any, theta: Any, size: Any, align_corners: int) -> Any:
    inner = machine.accumulator
    return grid_oracle(
        theta, size, align_corners, lambda terms: machine.fl_dot(np.array([a * inner.fl(b) for a, b in terms], dtype=object)[None])[0]
    )


@pytest.mark.parametrize(("size", "align_corners"), [((1, 1, 2, 3), 0), ((1, 1, 2, 3), 1), ((1, 1, 2, 1, 2), 0)])
def test_affine_grid(size: Any, align_corners: int) -> None:
    rank = len(size) - 2
    lo = rng.normal(size=(1, rank, rank + 1))
    attributes = {"size": np.array(size), "align_corners": align_corners}
    hard = np.resize([0.0, 2.0**-1074, 2.0**400, -1.0, 1.0, 3.0], lo.shape)
    rule = lookup("", "AffineGrid", 20)
    boxes = [((lo, lo + 0.25 * rng.integers(0, 2, lo.shape)),)]
    check_rule(rule, boxes, [(hard,)], oracle=grid_oracle, kernel=grid_kernel, attributes=attributes, radii=(0.0, 2.0**-10, 1.5))


def test_affine_grid_of_one_element_with_aligned_corners_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="no two corners"):
        lookup("", "AffineGrid", 20).value(np.ones((1, 1, 2, 3)), size=np.array([1, 1, 1, 4]), align_corners=1)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("extents", [(3, 5), (2, 3, 4)])
def test_affine_grid_values(extents: tuple[int, ...], align_corners: int) -> None:
    theta, size = rng.integers(-3, 4, (2, len(extents), len(extents) + 1)).astype(float), np.array([2, 3, *extents])
    got = lookup("", "AffineGrid", 20).value(theta[None], size=size, align_corners=align_corners)[0]
    np.testing.assert_allclose(got, runtime("AffineGrid", [theta, size], {"align_corners": align_corners}, 20), atol=1e-5)


FOLDS = [
    {"image_shape": [4], "block_shape": [2]},
    {"image_shape": [5], "block_shape": [3], "strides": [2], "pads": [1, 1]},
    {"image_shape": [5], "block_shape": [2], "dilations": [2], "pads": [0, 1]},
]


def fold_terms(x: Any, image_shape: Any, block_shape: Any, strides: Any = (1,), pads: Any = (0, 0), dilations: Any = (1,)) -> Any:
    """For each element of a 1-D image the column entries that land on it."""
    (n,), (k,) = image_shape, block_shape
    out = np.empty((x.shape[0], x.shape[1] // k, n), dtype=object)
    for b, c, i in itertools.product(*map(range, out.shape)):
        landing = itertools.product(range(k), range(x.shape[2]))
        out[b, c, i] = [x[b, c * k + t, p] for t, p in landing if p * strides[0] + t * dilations[0] - pads[0] == i]
    return out


def fold(x: Any, **attributes: Any) -> Any:
    return np.frompyfunc(lambda terms: sum(terms, start=mpf(0)), 1, 1)(fold_terms(x, **attributes))


def check_fold(rule: Any, attributes: dict[str, Any]) -> None:
    def in_accumulator(machine: Any, x: Any, **_: Any) -> Any:
        add = np.frompyfunc(lambda terms: machine.fl_sum(np.array([*terms, mpf(0)], dtype=object)[None])[0], 1, 1)
        return add(fold_terms(x, **attributes))

    def in_storage(machine: Any, x: Any, **_: Any) -> Any:
        def add(terms: Any) -> Any:
            total = mpf(0)
            for t in terms:
                total = machine.fl(machine.accumulator.fl(total + t))
            return total

        return np.frompyfunc(add, 1, 1)(fold_terms(x, **attributes))

    (n,), (k,) = attributes["image_shape"], attributes["block_shape"]
    pads, step = attributes.get("pads", (0, 0)), attributes.get("strides", (1,))[0]
    count = (n + sum(pads) - ((k - 1) * attributes.get("dilations", (1,))[0] + 1)) // step + 1
    lo = rng.normal(size=(1, 2 * k, count))
    hard = np.resize([0.0, 2.0**-1074, 2.0**400, -1.0, 1.0], lo.shape)
    boxes = [((lo, lo + 0.25 * rng.integers(0, 2, lo.shape)),)]
    for kernel in (in_accumulator, in_storage):
        check_rule(rule, boxes, [(hard,)], oracle=fold, kernel=kernel, attributes=attributes, radii=(0.0, 1.5), machines=(E4M3, MIXED))


@pytest.mark.parametrize("attributes", FOLDS, ids=str)
def test_folding(attributes: dict[str, Any]) -> None:
    check_fold(lookup("", "Col2Im", 18), attributes)


@pytest.mark.parametrize(("verb", "tell"), [("linearize", steeper), ("rounding", lambda b, *_: 0.0 * b)], ids=["steeper", "rounding"])
def test_lies_about_folding_are_caught(verb: str, tell: Any) -> None:
    with pytest.raises(LawBroken):
        check_fold(Liar(lookup("", "Col2Im", 18), verb, tell), FOLDS[0])


def test_folding_values() -> None:
    x = rng.integers(-4, 5, (2, 3 * 6, 16)).astype(float)
    attributes = {"strides": [2, 1], "pads": [0, 1, 2, 0], "dilations": [1, 2]}
    sizes = [np.array([6, 7]), np.array([2, 3])]
    got = lookup("", "Col2Im", 18).value(x[None], image_shape=sizes[0], block_shape=sizes[1], **attributes)[0]
    np.testing.assert_array_equal(got, runtime("Col2Im", [x, *sizes], attributes, 18))


def test_columns_of_another_image_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="are not those of blocks"):
        lookup("", "Col2Im", 18).value(np.ones((1, 1, 4, 3)), image_shape=[4], block_shape=[3])
