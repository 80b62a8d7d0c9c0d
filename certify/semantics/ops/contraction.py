"""Contractions: MatMul, Gemm. Each is a bilinear form behind the case axis (families/bilinear).

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import register
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.broadcast import Shape, align, aligned_shape, broadcast_shape, collect, spread_count
from certify.semantics.families.form import Extent

_EXACT_LARGEST = 8  # inner lengths up to which the largest product is found exactly


def _last_two_swapped(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _multiply(A: Any, B: Any) -> Any:
    """A @ B for (cases, *batch, M, K) and (cases, *batch, K, N) of equal rank; one large product where B does not vary."""
    if all(extent == 1 for extent in B.shape[:-2]):
        rows = np.ascontiguousarray(A).reshape(math.prod(A.shape[:-1]), A.shape[-1])
        return np.matmul(rows, B.reshape(B.shape[-2:])).reshape(*A.shape[:-1], B.shape[-1])
    return np.matmul(A, B)


def _largest_product(A: Array, B: Array) -> Array:
    """max_k A[..., i, k] B[..., k, j] for short inner axes, else (max_k A[..., i, k]) (max_k B[..., k, j])."""
    inner = A.shape[-1]
    if 0 < inner <= _EXACT_LARGEST:
        result = A[..., :, 0, None] * B[..., None, 0, :]
        for k in range(1, inner):
            result = np.maximum(result, A[..., :, k, None] * B[..., None, k, :])
        return np.asarray(result)
    return np.asarray(A.max(axis=-1, initial=0.0)[..., None] * B.max(axis=-2, initial=0.0)[..., None, :])


class MatrixProduct:
    """MatMul: the last two axes are matrices, the others broadcast; a vector is a row on the left, a column on the right."""

    def _matrices(self, A: Any, B: Any) -> tuple[Any, Any]:
        A = A[:, None, :] if A.ndim == 2 else A
        B = B[:, :, None] if B.ndim == 2 else B
        rank = max(A.ndim, B.ndim)
        return align(A, rank), align(B, rank)

    def _trimmed(self, y: Any, A_rank: int, B_rank: int) -> Any:
        y = y[..., 0] if B_rank == 2 else y
        return y if A_rank > 2 else y[..., 0] if B_rank == 2 else y[..., 0, :]

    def _restored(self, a: Array, A_rank: int, B_rank: int) -> Array:
        a = a[..., None] if B_rank == 2 else a
        return a if A_rank > 2 else a[..., None, :]

    def apply(self, A: Any, B: Any, **_: Any) -> Any:
        return self._trimmed(_multiply(*self._matrices(A, B)), A.ndim, B.ndim)

    def left(self, a: Array, B: Array, shape: Shape, **_: Any) -> Array:
        full = self._restored(a, len(shape), B.ndim)
        matrix = align(B[:, :, None] if B.ndim == 2 else B, full.ndim)
        return collect(_multiply(full, _last_two_swapped(matrix)), _matrix_shape(shape, row=True)).reshape(a.shape[0], *shape[1:])

    def right(self, a: Array, A: Array, shape: Shape, **_: Any) -> Array:
        full = self._restored(a, A.ndim, len(shape))
        matrix = align(A[:, None, :] if A.ndim == 2 else A, full.ndim)
        return collect(np.matmul(_last_two_swapped(matrix), full), _matrix_shape(shape, row=False)).reshape(a.shape[0], *shape[1:])

    def matrices(self, A: Any, B: Any, **_: Any) -> tuple[Any, Any, Callable[[Array], Array]]:
        return *self._matrices(A, B), lambda y: np.asarray(self._trimmed(y, A.ndim, B.ndim))

    def largest(self, A: Array, B: Array, **_: Any) -> Array:
        return np.asarray(self._trimmed(_largest_product(*self._matrices(A, B)), A.ndim, B.ndim))

    def extent(self, A: Shape, B: Shape, **_: Any) -> Extent:
        left, right = _matrix_shape(A, row=True), _matrix_shape(B, row=False)
        if left[-1] != right[-2]:
            raise ValueError(f"inner lengths {left[-1]} and {right[-2]} differ")
        rank = max(len(left), len(right))
        left, right = aligned_shape(left, rank), aligned_shape(right, rank)
        batch = broadcast_shape([left[:-2], right[:-2]])
        shape = batch + (() if len(A) == 2 else (left[-2],)) + (() if len(B) == 2 else (right[-1],))
        return Extent(shape, left[-1], right[-1] * spread_count(left[:-2], batch), left[-2] * spread_count(right[:-2], batch))

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        return aligned_shape(C, rank)


def _matrix_shape(shape: Shape, row: bool) -> Shape:
    if len(shape) > 2:
        return shape
    return (shape[0], 1, shape[1]) if row else (shape[0], shape[1], 1)


class GeneralProduct:
    """Gemm: A' B' with A' = A or A^T, B' = B or B^T, both matrices; C broadcasts against the result."""

    _product = MatrixProduct()

    def _turned(self, A: Any, B: Any, attributes: dict[str, Any]) -> tuple[Any, Any]:
        return (
            _last_two_swapped(A) if attributes.get("transA", 0) else A,
            _last_two_swapped(B) if attributes.get("transB", 0) else B,
        )

    def apply(self, A: Any, B: Any, **attributes: Any) -> Any:
        return self._product.apply(*self._turned(A, B, attributes))

    def left(self, a: Array, B: Array, shape: Shape, **attributes: Any) -> Array:
        _, B = self._turned(B, B, attributes | {"transA": 0})
        if not attributes.get("transA", 0):
            return self._product.left(a, B, shape)
        return np.asarray(_last_two_swapped(self._product.left(a, B, (shape[0], shape[2], shape[1]))))

    def right(self, a: Array, A: Array, shape: Shape, **attributes: Any) -> Array:
        A, _ = self._turned(A, A, attributes | {"transB": 0})
        if not attributes.get("transB", 0):
            return self._product.right(a, A, shape)
        return np.asarray(_last_two_swapped(self._product.right(a, A, (shape[0], shape[2], shape[1]))))

    def matrices(self, A: Any, B: Any, **attributes: Any) -> tuple[Any, Any, Callable[[Array], Array]]:
        return self._product.matrices(*self._turned(A, B, attributes))

    def largest(self, A: Array, B: Array, **attributes: Any) -> Array:
        return self._product.largest(*self._turned(A, B, attributes))

    def extent(self, A: Shape, B: Shape, **attributes: Any) -> Extent:
        A = (A[0], A[2], A[1]) if attributes.get("transA", 0) else A
        B = (B[0], B[2], B[1]) if attributes.get("transB", 0) else B
        return self._product.extent(A, B)

    def addend_shape(self, C: Shape, rank: int) -> Shape:
        return aligned_shape(C, rank)


def _gemm_scale(attributes: dict[str, Any]) -> tuple[float, float]:
    return float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))


register(
    *(Bilinear("MatMul", since, ("A", "B"), MatrixProduct()) for since in (1, 9, 13)),
    *(Bilinear("Gemm", since, ("A", "B", "C"), GeneralProduct(), scale=_gemm_scale) for since in (7, 9, 11, 13)),
)
