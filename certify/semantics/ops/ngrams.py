"""TfIdfVectorizer on integers: how often each n-gram of a pool occurs, and weights of that.

Source: https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html. The pool lists the 1-grams, then the 2-grams, ...; an n-gram is
found with 0 to max_skip_count elements left out between its neighbours, the same number everywhere; a 1-gram without skips alone.
Kernels count whole numbers exactly; then TF delivers the count, IDF the weight of what occurs, TFIDF their product.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.discrete import Discrete
from certify.semantics.ops.whole_numbers import numbers

_INT64 = 7

Windows: TypeAlias = list[npt.NDArray[np.intp]]


def grams(pool: tuple[int, ...], starts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The pool's n-grams in order."""
    ends = (*starts[1:], len(pool))
    return [tuple(pool[i : i + n]) for n, (a, b) in enumerate(zip(starts, ends, strict=True), 1) for i in range(a, b, n)]


def _windows(length: int, n: int, shortest: int, longest: int, skips: int) -> Windows:
    """Positions of all n-grams in a row; a 1-gram is looked for without skips alone."""
    if not shortest <= n <= longest:
        return []
    found = []
    for skip in range((skips if n > 1 else 0) + 1):
        starts = np.arange(max(length - (n - 1) * (skip + 1), 0))
        found.append(starts[:, None] + np.arange(n) * (skip + 1))
    return found


def _count(x: Enclosure, told: dict[str, Any]) -> tuple[Array, Array]:
    """Least and greatest number of occurrences, (cases, *rows, places)."""
    wanted = grams(told["pool"], told["starts"])
    low, high = (np.zeros((*x.shape[:-1], int(told["width"])), dtype=np.float64) for _ in range(2))
    for gram, place in zip(wanted, told["places"], strict=True):
        target = np.asarray(gram, dtype=np.float64)
        for window in _windows(x.shape[-1], len(gram), told["shortest"], told["longest"], told["skips"]):
            lo, hi = x.lo[..., window], x.hi[..., window]
            low[..., place] += ((lo == target) & (hi == target)).all(axis=-1).sum(axis=-1)
            high[..., place] += ((lo <= target) & (hi >= target)).all(axis=-1).sum(axis=-1)
    return low, high


def counted(x: Any, **told: Any) -> Any:
    """Occurrences of each n-gram in each row."""
    return _count(Enclosure.point(numbers(x)), told)[0]


def _counts(x: Enclosure, **told: Any) -> Enclosure:
    """An occurrence is sure where every element is one number, possible where every element may be it."""
    return Enclosure(*_count(x, told))


def _vectorized(
    expansion: Expansion,
    *,
    mode: str,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    ngram_counts: Any,
    ngram_indexes: Any,
    pool_int64s: Any = (),
    pool_strings: Any = (),
    weights: Any = None,
) -> tuple[list[Primitive], dict[str, Array]]:
    """Counts of n-grams, their weights, or the products."""
    x, y = expansion.operands[0], expansion.outputs[0]
    if len(pool_strings):
        raise UnsupportedOperator("it looks for strings, which have no rounding error")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise UnsupportedOperator(f"its mode {mode!r}")
    if y is None:
        return [], {}
    places = tuple(int(i) for i in ngram_indexes)
    if len(set(places)) < len(places):
        raise UnsupportedOperator("two n-grams that are counted in one place")
    pool, starts = tuple(int(v) for v in pool_int64s), tuple(int(v) for v in ngram_counts)
    told = {"pool": pool, "starts": starts, "places": places, "width": max(places) + 1}
    told |= {"shortest": min_gram_length, "longest": max_gram_length, "skips": max_skip_count}
    scale = np.ones(max(places) + 1)
    if weights is not None and mode != "TF":
        scale[list(places)] = np.asarray(weights, dtype=np.float64)
    counts, seen, factor, weight = (expansion.name(part) for part in ("counts", "seen", "factor", "weights"))
    steps = [Primitive("NgramCounts", (x,), counts, told, domain="certify", like=_INT64)]  # a count becomes a float in the end alone
    if mode == "TF":
        return [*steps, Primitive("Store", (counts,), y, inner=False, domain="certify")], {}
    if mode == "IDF":
        steps.append(Primitive("Truth", (counts,), seen, domain="certify", like=_INT64))
    steps.append(Primitive("Store", (counts if mode == "TFIDF" else seen,), factor, domain="certify"))
    return [*steps, Primitive("Mul", (factor, weight), y, inner=False)], {weight: scale}


register(
    Composite("TfIdfVectorizer", 9, ("X",), _vectorized),
    Discrete("NgramCounts", 1, ("X",), counted, _counts, domain="certify", pointwise=False),
)
