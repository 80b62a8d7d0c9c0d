"""What the linear, support vector and tree operators of ai.onnx.ml share: rows of features, scores, labels.

Source: https://onnx.ai/onnx/operators/index_ai_onnx_ml.html; where that is silent or contradicts itself, onnxruntime's kernels, as is said
at each place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator
from certify.semantics.families.composite import Expansion
from certify.semantics.families.writer import Writer

FLOAT = 1  # ONNX's number for the type


def rows(w: Writer, position: int = 0) -> tuple[str, int, int]:
    """The operand as (rows, features) in the kernel's format: (name, rows, features). A vector is one row."""
    x, shape = w.e.operands[position], w.e.shapes[position]
    assert x is not None
    if w.e.elements[position] != FLOAT:
        x = w.put("Store", x, domain="certify")
    if len(shape) == 1:
        return w.put("Reshape", x, shape=np.asarray((1, shape[0]))), 1, shape[0]
    if len(shape) != 2:
        raise UnsupportedOperator(f"its operand has {len(shape)} axes instead of one or two")
    return x, shape[0], shape[1]


def product(w: Writer, x: str, matrix: Any, addend: Any = None, alpha: float = 1.0) -> str:
    """alpha x matrix^T + addend, one fused product."""
    more = [] if addend is None else [w.constant(addend)]
    return w.put("Gemm", x, w.constant(matrix), *more, transB=1, alpha=alpha)


def transformed(w: Writer, scores: str, post_transform: str, output: str | None) -> None:
    """Scores of two classes or more, transformed row by row and stored."""
    if output is None:
        return
    if post_transform == "SOFTMAX":
        scores = w.put("Softmax", scores, axis=-1)
    elif post_transform == "LOGISTIC":
        scores = w.put("Sigmoid", scores)
    elif post_transform == "SOFTMAX_ZERO":
        scores = _softmax_of_nonzero(w, scores)
    elif post_transform == "PROBIT":
        raise UnsupportedOperator(
            "PROBIT: onnxruntime computes an approximation of it that is good to a few digits, and no rule covers that"
        )
    elif post_transform != "NONE":
        raise UnsupportedOperator(f"its post_transform is {post_transform!r}")
    w.put("Store", scores, domain="certify", output=output)


def _softmax_of_nonzero(w: Writer, s: str) -> str:
    """Softmax over the scores beyond 1e-7 (onnxruntime's limit); one within becomes s exp(-largest) over the same sum."""
    largest = w.put("ReduceMax", s, axes=np.asarray([1]), keepdims=1)
    counted = w.put("Greater", w.put("Abs", s), w.constant(np.float64(np.float32(1e-7))))
    powers = w.put("Exp", w.put("Sub", s, largest))
    total = w.put("ReduceSum", w.put("Where", counted, powers, w.constant(0.0)), axes=np.asarray([1]), keepdims=1)
    rest = w.put("Mul", s, w.put("Exp", w.put("Neg", largest)))
    return w.put("Div", w.put("Where", counted, powers, rest), total)


def two_sided(w: Writer, s: str, post_transform: str, complement: bool, output: str | None) -> None:
    """The scores of two classes from one, (rows, 1): sigmoid(-s), sigmoid(s); untransformed 1 - s, s (complement) or -s, s."""
    if output is None:
        return
    if post_transform == "LOGISTIC":
        pair = [w.put("Sigmoid", w.put("Neg", s)), w.put("Sigmoid", s)]
    elif post_transform == "NONE":
        pair = [w.put("Sub", w.constant(1.0), s) if complement else w.put("Neg", s), s]
    else:
        raise UnsupportedOperator(f"{post_transform} of the only score of two classes, which onnxruntime leaves out")
    w.put("Store", w.put("Concat", *pair, axis=1), domain="certify", output=output)


class Labels:
    """A classifier's label: a decision among its scores. Labels that are strings are never delivered."""

    def __init__(self, w: Writer, integers: Sequence[int] | None, strings: Sequence[Any] | None) -> None:
        given = strings if strings is not None and len(strings) else integers
        self._w, self.count = w, 0 if given is None else len(given)
        self._values = None if given is strings else np.asarray(integers, dtype=np.int64)
        output = w.e.outputs[0]
        self._output = output if self._values is not None else None

    def deliver(self, position: str) -> None:
        """The label at a position (rows,)."""
        if self._output is not None and self._values is not None:
            self._w.whole("Gather", self._w.integers(self._values), position, axis=0, output=self._output)

    def largest(self, scores: str) -> str:
        """The position of the largest score, the first of equals."""
        return self._w.whole("ArgMax", scores, axis=1, keepdims=0)

    def beyond(self, score: str, limit: float) -> str:
        """1 where the score (rows, 1) is greater than the limit, else 0."""
        return self._w.whole("Reshape", self._w.whole("Greater", score, self._w.constant(limit)), shape=np.asarray([-1]))


def score_output(e: Expansion) -> str | None:
    return e.outputs[1] if len(e.outputs) > 1 else None
