"""Products of matrices against exact rational arithmetic, without tolerance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from certify.number.linalg import matmul_enclosure, product_midrad, product_upper
from certify.number.upward import Array

Exact = npt.NDArray[np.object_]


def exact(x: Array) -> Exact:
    return np.vectorize(Fraction, otypes=[object])(x)


def matrices(seed: int, k: int, n: int, m: int, spread: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    return tuple(np.ldexp(generator.uniform(-1, 1, shape), generator.integers(-spread, spread + 1, shape)) for shape in ((k, n), (n, m)))  # type: ignore[return-value]


@pytest.mark.parametrize(("n", "spread"), [(1, 0), (7, 5), (60, 0), (60, 40), (33, 300), (5, 600)])
def test_point_products_are_enclosed(n: int, spread: int) -> None:
    A, B = matrices(n + spread, 4, n, 5, spread)
    product = exact(A) @ exact(B)
    X = matmul_enclosure(A, None, B, None)
    M, R = product_midrad(A, None, B, None)
    for i, j in np.ndindex(product.shape):
        if np.isfinite(X.lo[i, j]):
            assert Fraction(X.lo[i, j]) <= product[i, j] <= Fraction(X.hi[i, j])
            assert abs(product[i, j] - Fraction(M[i, j])) <= Fraction(R[i, j])
    if spread < 100:
        expected = (n + 3) * 2.0**-53 * (np.abs(A) @ np.abs(B))
        assert (expected > R * (1 - 1e-9)).all()


@pytest.mark.parametrize("order", ["sequential", "reversed", "pairwise"])
def test_any_order_of_float64_stays_within_the_radius(order: str) -> None:
    generator = np.random.default_rng(3)
    terms = 2 ** generator.uniform(-3, 3, (200, 64)) * generator.choice([-1.0, 1.0], (200, 64))
    a, b = terms, generator.uniform(0.5, 1, (200, 64))
    products = a * b
    if order == "pairwise":
        computed = products
        while computed.shape[1] > 1:
            computed = computed[:, ::2] + computed[:, 1::2]
        computed = computed[:, 0]
    else:
        line = products if order == "sequential" else products[:, ::-1]
        computed = np.add.accumulate(line, axis=1)[:, -1]
    M, R = product_midrad(a[:, None, :], None, b[:, :, None], None)
    for row in range(200):
        truth = sum((Fraction(x) * Fraction(y) for x, y in zip(a[row], b[row], strict=True)), Fraction(0))
        assert abs(Fraction(float(computed[row])) - truth) <= Fraction(float(R[row, 0, 0]))
        assert abs(Fraction(float(M[row, 0, 0])) - truth) <= Fraction(float(R[row, 0, 0]))


def test_every_corner_of_two_thick_matrices_is_enclosed() -> None:
    generator = np.random.default_rng(5)
    A, B = matrices(9, 3, 4, 3, 3)
    rA, rB = generator.uniform(0, 1, A.shape) * (generator.uniform(size=A.shape) < 0.7), generator.uniform(0, 1, B.shape)
    X = matmul_enclosure(A, rA, B, rB)
    for _ in range(200):
        corner_a = exact(A) + exact(rA) * generator.choice([-1, 1], A.shape)
        corner_b = exact(B) + exact(rB) * generator.choice([-1, 1], B.shape)
        product = corner_a @ corner_b
        assert all(Fraction(X.lo[at]) <= product[at] <= Fraction(X.hi[at]) for at in np.ndindex(product.shape))


def test_upper_bounds_hold_down_to_subnormals() -> None:
    for spread in (0, 50, 480, 530):
        A, B = (np.abs(x) for x in matrices(spread, 3, 20, 3, spread))
        upper, product = product_upper(A, B), exact(A) @ exact(B)
        for at in np.ndindex(product.shape):
            assert np.isinf(upper[at]) or Fraction(upper[at]) >= product[at]
    tiny = np.full((1, 1), 5e-324)
    assert product_upper(tiny, tiny)[0, 0] > 0.0
    assert product_upper(np.zeros((1, 1)), tiny)[0, 0] == 0.0
    assert Fraction(float(matmul_enclosure(tiny, None, tiny, None).hi[0, 0])) >= Fraction(5e-324) ** 2


def test_infinities_spread_where_they_meet_something() -> None:
    A = np.array([[np.inf, 1.0], [0.0, 1.0]])
    B = np.array([[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(np.isinf(product_upper(A, B)), [[True, False], [False, False]])
    X = matmul_enclosure(np.zeros((1, 1)), None, np.ones((1, 1)), np.full((1, 1), np.inf))
    assert (X.lo[0, 0], X.hi[0, 0]) == (0.0, 0.0)  # 0 times any real number


def test_overflow_gives_the_whole_line() -> None:
    big = np.full((1, 2), 1.5e308)
    X = matmul_enclosure(big, None, np.array([[1.0], [-1.0]]), None)
    assert X.lo[0, 0] == -np.inf or X.lo[0, 0] <= 0.0 <= X.hi[0, 0]
    Y = matmul_enclosure(big, None, np.ones((2, 1)), None)
    assert (Y.lo[0, 0], Y.hi[0, 0]) == (-np.inf, np.inf)


def test_exact_zeros_stay_points_and_batches_broadcast() -> None:
    X = matmul_enclosure(np.zeros((2, 3)), None, np.ones((3, 2)), None)
    assert X.is_point
    assert matmul_enclosure(np.ones((5, 1, 2, 3)), None, np.ones((4, 3, 6)), np.ones((3, 6))).shape == (5, 4, 2, 6)
