"""Dropout as far as it is not random: at inference, and in training mode with a ratio of 0. The mask is true everywhere.

Source: https://onnx.ai/onnx/operators/onnx__Dropout.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.ops.movement import integers

Expanded = tuple[list[Primitive], dict[str, Array]]


def _identity(e: Expansion) -> Expanded:
    steps = []
    result, mask = (*e.outputs, None)[:2]
    if result is not None:
        steps.append(Primitive("Identity", (e.operands[0],), result, inner=False))
    if mask is not None:
        filled = {"input": np.asarray(e.shapes[0], dtype=np.int64), "value": 1.0}
        steps.append(Primitive("ConstantOfShape", (), mask, filled, inner=False, like=e.results[1] or None))
    return steps, {}


def inference(e: Expansion, *, ratio: float = 0.5, is_test: int = 0, consumed_inputs: Any = None) -> Expanded:
    """Before opset 12 the operator knows inference alone."""
    return _identity(e)


def dropout(e: Expansion, *, ratio: Any = None, training_mode: Any = None, seed: int | None = None) -> Expanded:
    """Raises UnsupportedOperator for training with a ratio other than 0, which draws what it drops."""
    training = training_mode is not None and any(integers(training_mode))
    share = 0.5 if ratio is None else float(np.ravel(np.asarray(ratio, dtype=np.float64))[0])
    if training and share != 0.0:
        raise UnsupportedOperator(f"training with a ratio of {share:g} is random")
    return _identity(e)


register(
    Composite("Dropout", 7, ("data",), inference, outputs=2),
    Composite("Dropout", 12, ("data", "ratio", "training_mode"), dropout, static=frozenset({"ratio", "training_mode"}), outputs=2),
)
