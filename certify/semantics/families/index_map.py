"""Copies: which input element each output element copies (an index map), the transpose of that, and what a copy costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.number.upward import Array
from certify.semantics.contract import Arithmetic

Indices: TypeAlias = npt.NDArray[np.intp]


def rows_of(x: Any) -> Any:
    """x as (rows, elements of a row), also where either is empty."""
    return x.reshape((x.shape[0], math.prod(x.shape[1:])))


class IndexMap:
    """Output element j copies input element source[j]; -1 copies nothing. pull is the scatter-add of that map.

    source: (rows, n); more than one row if the map differs from case to case. size: number of input elements.
    """

    def __init__(self, source: Indices, size: int) -> None:
        self.rows, self.length = source.shape
        self.size = size
        if self.rows > 1:  # one long map over all cases
            offset = np.arange(self.rows, dtype=np.intp)[:, None] * size
            source = np.where(source < 0, -1, source + offset)
        flat = source.reshape(-1)
        total = self.rows * size
        self.is_identity = flat.size == total and bool(np.array_equal(flat, np.arange(total)))
        self.terms = 1
        self._gather: Indices | None = None  # permutation: where each input element went
        self._targets = self._order = self._starts = np.empty(0, dtype=np.intp)
        if not self.is_identity:
            self._prepare(flat, total)

    def _prepare(self, flat: Indices, total: int) -> None:
        copied = np.flatnonzero(flat >= 0)
        counts = np.bincount(flat[copied], minlength=total)
        self.terms = int(max(1, counts.max(initial=0)))
        if self.terms == 1 and copied.size == total:
            self._gather = np.empty(total, dtype=np.intp)
            self._gather[flat[copied]] = copied
            return
        self._targets = np.flatnonzero(counts)
        if self.terms == 1:
            self._order = np.empty(total, dtype=np.intp)
            self._order[flat[copied]] = copied
            self._order = self._order[self._targets]
            return
        self._order = copied[np.argsort(flat[copied], kind="stable")]
        present = counts[self._targets]
        self._starts = np.concatenate(([0], np.cumsum(present)[:-1])).astype(np.intp)
        self._even = int(present[0]) if bool((present == present[0]).all()) else 0

    def pull(self, a: Array) -> Array:
        """The transposed map: (R, n) multipliers to (R, size)."""
        if self.is_identity:
            return a
        if self.rows > 1:
            a = np.broadcast_to(a, (self.rows, self.length)).reshape(1, -1)
        if self._gather is not None:
            result = np.take(a, self._gather, axis=1)
        else:
            result = np.zeros((a.shape[0], self.rows * self.size))
            if self._targets.size:
                result[:, self._targets] = self._collected(np.take(a, self._order, axis=1))
        return result if self.rows == 1 else result.reshape(self.rows, self.size)

    def _collected(self, sorted_a: Array) -> Array:
        if self.terms == 1:
            return sorted_a
        if self._even:
            return np.asarray(sorted_a.reshape(sorted_a.shape[0], self._targets.size, self._even).sum(axis=2))
        return np.asarray(np.add.reduceat(sorted_a, self._starts, axis=1))


@dataclass(frozen=True, slots=True)
class _Request:
    """A cache key with the way to build what it stands for."""

    key: Hashable
    build: Callable[[], Any] = field(compare=False)


@lru_cache(maxsize=64)
def _built(request: _Request) -> Any:
    return request.build()


def remembered(key: Hashable, build: Callable[[], Any]) -> Any:
    """build(), or what it returned for the same key not long ago."""
    return _built(_Request(key, build))


def frozen(value: Any) -> Hashable:
    """An attribute (number, text, list, array or dictionary of such) as a cache key."""
    if isinstance(value, dict):
        return tuple((k, frozen(value[k])) for k in sorted(value))
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, list | tuple):
        return tuple(frozen(v) for v in value)
    return value  # type: ignore[no-any-return]


def copied(arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    """Error of delivering copies of operands: 0 if storage holds every number of the operands' formats, else one rounding.

    Adding up a single term is such a copy: the arithmetic says, for the term 1, whether that is free for these formats.
    """
    one = np.ones(1)
    if not np.any(arithmetic.sum(1, one, one, one)):
        return np.zeros_like(np.asarray(magnitude, dtype=np.float64))
    return arithmetic.round(magnitude, min((float(np.min(q)) for q in quantum if np.size(q)), default=0.0))
