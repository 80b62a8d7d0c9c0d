"""Linear models and support vector machines of ai.onnx.ml.

Kernels that are covered: inner products in any order, in the kernel's format or a wider one; e.g. onnxruntime, which adds the
votes of support vectors in double. Scores and labels are those of onnxruntime where ONNX leaves them open.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.writer import Parts, Writer
from certify.semantics.ops.ml_scores import FLOAT, Labels, product, rows, score_output, transformed, two_sided

Floats = Sequence[float]


def _matrix(values: Floats, columns: int) -> Any:
    if not len(values) or len(values) % columns:
        raise UnsupportedOperator(f"{len(values)} coefficients for {columns} features")
    return np.asarray(values, dtype=np.float64).reshape(-1, columns)


def linear_regressor(
    e: Expansion, *, coefficients: Floats = (), intercepts: Floats | None = None, targets: int = 1, post_transform: str = "NONE"
) -> Parts:
    """x coefficients^T + intercepts."""
    w = Writer(e, like=FLOAT)
    x, _, features = rows(w)
    scores = product(w, x, _matrix(coefficients, features), None if not intercepts else np.asarray(intercepts, dtype=np.float64))
    if targets == 1 and post_transform != "NONE":
        raise UnsupportedOperator(f"{post_transform} of a single target, which onnxruntime leaves out")
    transformed(w, scores, post_transform, e.outputs[0])
    return w.parts


def linear_classifier(
    e: Expansion,
    *,
    coefficients: Floats,
    intercepts: Floats | None = None,
    multi_class: int = 0,
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[Any] | None = None,
    post_transform: str = "NONE",
) -> Parts:
    """x coefficients^T + intercepts; the label is that of the largest score, of a single one > 0 the second."""
    w = Writer(e, like=FLOAT)
    x, _, features = rows(w)
    matrix = _matrix(coefficients, features)
    labels = Labels(w, classlabels_ints, classlabels_strings)
    scores = product(w, x, matrix, None if not intercepts else np.asarray(intercepts, dtype=np.float64))
    if len(matrix) == 1 and labels.count == 2:
        labels.deliver(labels.beyond(scores, 0.0))
        two_sided(w, scores, post_transform, True, score_output(e))
    elif len(matrix) == labels.count > 1:
        labels.deliver(labels.largest(scores))
        transformed(w, scores, post_transform, score_output(e))
    else:
        raise UnsupportedOperator(f"{len(matrix)} rows of coefficients for {labels.count} labels")
    return w.parts


def _kernel(w: Writer, x: str, vectors: Any, kind: str, params: Floats) -> str:
    """The kernel of every row with every support vector, (rows, vectors)."""
    gamma, bias, degree = (float(v) for v in (params if len(params) else (0.0, 0.0, 0.0)))
    if kind == "LINEAR":
        return product(w, x, vectors)
    if kind == "RBF":
        shift = w.put("Sub", w.put("Unsqueeze", x, axes=np.asarray([1])), w.constant(vectors[None]))
        distance = w.put("ReduceSum", w.put("Mul", shift, shift), axes=np.asarray([2]), keepdims=0)
        return w.put("Exp", w.put("Mul", distance, w.constant(-gamma)))
    if kind not in ("POLY", "SIGMOID"):
        raise UnsupportedOperator(f"its kernel_type is {kind!r}")
    inner = product(w, x, vectors, np.asarray([bias]), gamma)
    return w.put("Tanh", inner) if kind == "SIGMOID" else w.put("Pow", inner, w.constant(degree))


def svm_regressor(
    e: Expansion,
    *,
    coefficients: Floats,
    rho: Floats,
    kernel_type: str = "LINEAR",
    kernel_params: Floats = (),
    n_supports: int = 0,
    one_class: int = 0,
    support_vectors: Floats = (),
    post_transform: str = "NONE",
) -> Parts:
    """kernel(x, vectors) coefficients^T + rho; its sign, +-1, if one_class."""
    w = Writer(e, like=FLOAT)
    if post_transform != "NONE":
        raise UnsupportedOperator(f"{post_transform} of a support vector regression, which onnxruntime leaves out")
    x, _, features = rows(w)
    if n_supports:
        x = _kernel(w, x, _matrix(support_vectors, features), kernel_type, kernel_params)
        features = n_supports
    y = product(w, x, _matrix(coefficients, features), np.asarray(rho[:1], dtype=np.float64))
    if one_class:
        y = w.put("Where", w.put("Greater", y, w.constant(0.0)), w.constant(1.0), w.constant(-1.0))
    transformed(w, y, "NONE", e.outputs[0])
    return w.parts


def svm_classifier(
    e: Expansion,
    *,
    coefficients: Floats,
    rho: Floats,
    kernel_type: str = "LINEAR",
    kernel_params: Floats = (),
    support_vectors: Floats = (),
    vectors_per_class: Sequence[int] = (),
    prob_a: Floats = (),
    prob_b: Floats = (),
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[Any] | None = None,
    post_transform: str = "NONE",
) -> Parts:
    """A score for each pair of classes, and the class with most votes; without support vectors a linear score a class."""
    w = Writer(e, like=FLOAT)
    x, _, features = rows(w)
    labels = Labels(w, classlabels_ints, classlabels_strings)
    if len(prob_a) or len(prob_b):
        raise UnsupportedOperator("its probabilities, which come from an iteration that stops when it is within 0.005")
    if not sum(vectors_per_class):
        scores = product(w, x, _matrix(coefficients, features), np.asarray(rho[:1], dtype=np.float64))
        labels.deliver(_linear_choice(w, labels, scores, min(coefficients) >= 0.0))
        transformed(w, scores, post_transform, score_output(e))
        return w.parts
    counts = [int(n) for n in vectors_per_class]
    if len(counts) != labels.count or labels.count < 2:
        raise UnsupportedOperator(f"vectors of {len(counts)} classes for {labels.count} labels")
    kernel = _kernel(w, x, _matrix(support_vectors, features), kernel_type, kernel_params)
    pairs = list(combinations(range(len(counts)), 2))
    matrix = _pairwise(_matrix(coefficients, sum(counts)), counts, pairs)
    scores = product(w, kernel, matrix, np.asarray(rho[: len(pairs)], dtype=np.float64))
    labels.deliver(_most_votes(w, scores, pairs, len(counts)))
    if len(pairs) == 1:
        two_sided(w, scores, post_transform, False, score_output(e))
    else:
        transformed(w, scores, post_transform, score_output(e))
    return w.parts


def _linear_choice(w: Writer, labels: Labels, scores: str, positive: bool) -> str:
    """The largest score's position; of two, the second whenever the largest is > 0 (>= 0.5 if all coefficients are positive)."""
    largest = labels.largest(scores)
    if labels.count != 2:
        return largest
    top = w.put("ReduceMax", scores, axes=np.asarray([1]), keepdims=0)
    second = w.whole("GreaterOrEqual", top, w.constant(0.5)) if positive else w.whole("Greater", top, w.constant(0.0))
    return w.whole("Max", largest, second)


def _pairwise(matrix: Any, counts: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Any:
    """One row a pair (i, j): of class i's vectors the coefficients of row j - 1, of class j's those of row i."""
    ends = np.cumsum(counts)
    spans = [slice(end - n, end) for end, n in zip(ends, counts, strict=True)]
    out = np.zeros((len(pairs), int(ends[-1])))
    for row, (i, j) in zip(out, pairs, strict=True):
        row[spans[i]], row[spans[j]] = matrix[j - 1, spans[i]], matrix[i, spans[j]]
    return out


def _most_votes(w: Writer, scores: str, pairs: Sequence[tuple[int, int]], classes: int) -> str:
    """A pair's score > 0 votes for its first class, else for its second; the first of the classes with most votes."""
    first = w.whole("Greater", scores, w.constant(0.0))
    turned, base = np.zeros((len(pairs), classes)), np.zeros(classes)
    for p, (i, j) in enumerate(pairs):
        turned[p, i], turned[p, j] = 1, -1
        base[j] += 1
    votes = w.whole("Add", w.whole("MatMul", first, w.integers(turned)), w.integers(base))
    return w.whole("ArgMax", votes, axis=1, keepdims=0)


_ML = "ai.onnx.ml"

register(
    Composite("LinearRegressor", 1, ("X",), linear_regressor, domain=_ML),
    Composite("LinearClassifier", 1, ("X",), linear_classifier, domain=_ML, outputs=2),
    Composite("SVMRegressor", 1, ("X",), svm_regressor, domain=_ML),
    Composite("SVMClassifier", 1, ("X",), svm_classifier, domain=_ML, outputs=2),
)
