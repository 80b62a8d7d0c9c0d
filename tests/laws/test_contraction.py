"""Laws of MatMul and Gemm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.semantics.contract import lookup
from certify.semantics.ops import contraction  # noqa: F401 - registers the rules
from tests.laws.kit import check_rule

rng = np.random.default_rng(7)


def box(*shape: int, width: float = 0.5) -> tuple[Any, Any]:
    lo = rng.normal(size=shape)
    hi = lo + width * rng.uniform(size=shape) * rng.integers(0, 2, shape)
    return lo, hi


def matmul_oracle(A: Any, B: Any) -> Any:
    """From the definition, one element at a time."""
    left, right = (A[None, :] if A.ndim == 1 else A), (B[:, None] if B.ndim == 1 else B)
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = np.broadcast_to(left, (*batch, *left.shape[-2:]))
    right = np.broadcast_to(right, (*batch, *right.shape[-2:]))
    out = np.empty((*batch, left.shape[-2], right.shape[-1]), dtype=object)
    for index in np.ndindex(out.shape):
        *b, i, j = index
        out[index] = sum((x * y for x, y in zip(left[(*b, i)], right[(*b, slice(None), j)], strict=True)), start=mpf(0))
    out = out[..., 0, :] if A.ndim == 1 else out
    return np.asarray(out[..., 0] if B.ndim == 1 else out, dtype=object)


def matmul_kernel(machine: Any, A: Any, B: Any) -> Any:
    left, right = (A[None, :] if A.ndim == 1 else A), (B[:, None] if B.ndim == 1 else B)
    products = left[..., :, :, None] * right[..., None, :, :]
    out = machine.fl_dot(products, axis=-2)
    out = out[..., 0, :] if A.ndim == 1 else out
    return np.asarray(out[..., 0] if B.ndim == 1 else out, dtype=object)


SHAPES = [((2, 3), (3, 2)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 1, 2, 2), (3, 2, 1)), ((2, 2, 2), (2,)), ((1, 1), (1, 2))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul(shapes: Any) -> None:
    check_rule(
        lookup("", "MatMul", 13),
        [tuple(box(*s) for s in shapes)],
        [tuple(rng.integers(-3, 4, s).astype(float) for s in shapes)],
        oracle=matmul_oracle,
        kernel=matmul_kernel,
        radii=(0.0, 0.125),
    )


def test_matmul_hard_points() -> None:
    hard = [
        (np.array([[0.0, -0.0], [2.0**-1074, 2.0**-600]]), np.array([[1.0, 2.0**-600], [0.5, 2.0**-500]])),
        (np.array([[2.0**600, -(2.0**600)]]), np.array([[2.0**600], [2.0**600]])),
        (np.array([[1.0, 2.0**53, -(2.0**53)]]), np.array([[1.0], [1.0], [1.0]])),
        (np.zeros((2, 0)), np.zeros((0, 2))),
        (np.zeros((0, 2)), np.zeros((2, 2))),
    ]
    for point in hard:
        check_rule(lookup("", "MatMul", 13), [], [point], oracle=matmul_oracle, kernel=matmul_kernel, radii=(0.0, 2.0**-10))


def test_matmul_constant_weights() -> None:
    rule = lookup("", "MatMul", 13)
    A, B = box(2, 3), (rng.normal(size=(3, 2)),) * 2
    check_rule(rule, [(A, B)], oracle=matmul_oracle, kernel=matmul_kernel, constant=(1,), radii=(0.0, 0.125))


GEMM = [
    {},
    {"transA": 1},
    {"transB": 1, "alpha": 0.5, "beta": 0.25},
    {"transA": 1, "transB": 1, "alpha": float(np.float32(0.1)), "beta": float(np.float32(-1.3))},
    {"alpha": 3.0},
]


def gemm_oracle(A: Any, B: Any, C: Any = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0) -> Any:
    y = matmul_oracle(A.T if transA else A, B.T if transB else B) * mpf(alpha)
    return y if C is None else y + C * mpf(beta)


def gemm_kernel(
    machine: Any, A: Any, B: Any, C: Any = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Any:
    inner = machine.accumulator_precision or machine.precision
    A, B = (A.T if transA else A), (B.T if transB else B)
    if int(machine.rng.integers(2)):
        A, alpha = machine.fl(A * mpf(alpha), inner), 1.0
    y = matmul_inner(machine, A, B, inner)
    y = machine.fl(y * mpf(alpha), inner)
    if C is not None:
        y = machine.fl(y + machine.fl(C * mpf(beta), inner), inner)
    return machine.fl(y)


def matmul_inner(machine: Any, A: Any, B: Any, inner: int) -> Any:
    return matmul_kernel(replace(machine, precision=inner, accumulator_precision=None), A, B)


@pytest.mark.parametrize(("attributes", "c"), [*zip(GEMM, [None, (2,), (3, 1), (3, 2), None], strict=True), (GEMM[2], ())], ids=str)
def test_gemm(attributes: Any, c: Any) -> None:
    A = box(*((2, 3) if attributes.get("transA") else (3, 2)))
    B = box(*((2, 2)))
    addend = None if c is None else box(*c)
    check_rule(lookup("", "Gemm", 13), [(A, B, addend)], oracle=gemm_oracle, kernel=gemm_kernel, attributes=attributes, radii=(0.0, 0.125))
