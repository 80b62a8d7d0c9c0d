"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. The classes may be a constant or an input; as
long as each is one whole number the losses of the samples are copies, times a weight.
"""

from __future__ import annotations

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.ops.thresholds import BOOL, zeros

Expanded = tuple[list[Primitive], dict[str, Array]]
_INT64 = 7  # onnx.TensorProto.INT64


class _Loss:
    """The steps from log-probabilities to the delivered loss; names of parts end up in the expansion's."""

    def __init__(self, e: Expansion, scores: str | None, reduction: str, ignore_index: int | None) -> None:
        self.e, self.scores, self.reduction, self.ignore = e, scores, reduction, ignore_index
        self.classes = e.operands[1]
        self.weight = e.operands[2] if len(e.operands) > 2 else None
        self.shape = e.shapes[1]
        self.steps: list[Primitive] = []
        self.constants: dict[str, Array] = {}

    def _step(
        self, kind: str, operands: tuple[str | None, ...], part: str, like: int | None = None, inner: bool = True, **more: object
    ) -> str:
        name = self.e.name(part)
        self.steps.append(Primitive(kind, operands, name, dict(more), inner=inner and like is None, like=like))
        return name

    def expand(self) -> Expanded:
        """Each sample's loss, 0 if ignored; then as `reduction` says. Raises UnsupportedOperator for an unknown reduction.

        An ignored class is looked up as 0, since it may be none of the classes. The mean divides by the sum of the weights of the
        samples that count, and by their number where there are no weights.
        """
        samples = self._samples()
        y = self.e.outputs[0]
        if y is None:
            return self.steps, self.constants
        if self.reduction == "none":
            self.steps.append(Primitive("Identity", (samples,), y, inner=False))
        elif self.reduction == "sum":
            self.steps.append(Primitive("ReduceSum", (samples,), y, {"keepdims": 0}, inner=False))
        elif self.reduction == "mean" and self.weight is None and self.ignore is None:
            self.steps.append(Primitive("ReduceMean", (samples,), y, {"keepdims": 0}, inner=False))
        elif self.reduction == "mean":
            total = self._step("ReduceSum", (samples,), "sum of losses", keepdims=0)
            divisor = self._step("ReduceSum", (self._weights(),), "sum of weights", keepdims=0)
            self.steps.append(Primitive("Div", (total, divisor), y, inner=False))
        else:
            raise UnsupportedOperator(f"reduction {self.reduction!r}")
        return self.steps, self.constants

    def _samples(self) -> str:
        picked = self.classes
        if self.ignore is not None:
            ignored = self._whole("ignored class", float(self.ignore))
            self._step("Equal", (self.classes, ignored), "ignored", like=BOOL)
            picked = self._step("Where", (self.e.name("ignored"), self._whole("first class", 0.0), self.classes), "class", like=_INT64)
        column = (self.shape[0], 1, *self.shape[1:])
        index = self._step("Reshape", (picked,), "column", like=_INT64, shape=np.asarray(column), allowzero=1)
        taken = self._step("GatherElements", (self.scores, index), "scores", inner=False, axis=1)
        flat = self._step("Reshape", (taken,), "samples", inner=False, shape=np.asarray(self.shape, dtype=np.int64), allowzero=1)
        loss = self._step("Neg", (flat,), "losses", inner=False)
        if self.weight is not None:
            self._step("Gather", (self.weight, picked), "weights", inner=False, axis=0)
            loss = self._step("Mul", (loss, self.e.name("weights")), "weighted", inner=False)
        return loss if self.ignore is None else self._counted(loss, "counted losses")

    def _weights(self) -> str:
        if self.weight is None:
            self.steps.append(zeros(self.e, self.shape, "no weights"))
            self.constants[self.e.name("one")] = np.ones(())
            weights = self._step("Add", (self.e.name("no weights"), self.e.name("one")), "weights", inner=False)
        else:
            weights = self.e.name("weights")
        return weights if self.ignore is None else self._counted(weights, "counted weights")

    def _counted(self, values: str, part: str) -> str:
        """Zero for samples that are ignored."""
        self.steps.append(zeros(self.e, (), f"zero of {part}"))
        return self._step("Where", (self.e.name("ignored"), self.e.name(f"zero of {part}"), values), part, inner=False)

    def _whole(self, part: str, value: float) -> str:
        """A whole number of its own, not held in a float format."""
        name = self.e.name(part)
        filled = {"input": np.zeros(0, dtype=np.int64), "value": value}
        self.steps.append(Primitive("ConstantOfShape", (), name, filled, inner=False, like=_INT64))
        return name


def negative_log_likelihood(e: Expansion, *, reduction: str = "mean", ignore_index: int | None = None) -> Expanded:
    """-input[class] weight[class] for each sample, reduced. Kernels may add in any order."""
    return _Loss(e, e.operands[0], reduction, ignore_index).expand()


def softmax_cross_entropy(e: Expansion, *, reduction: str = "mean", ignore_index: int | None = None) -> Expanded:
    """The same of LogSoftmax along the classes, which is the second output. It is stored before a loss reads it, or not."""
    probabilities = (e.outputs[1] if len(e.outputs) > 1 else None) or e.name("log probabilities")
    steps, constants = _Loss(e, probabilities, reduction, ignore_index).expand()
    return [Primitive("LogSoftmax", (e.operands[0],), probabilities, {"axis": 1}, inner=False), *steps], constants


register(
    *(Composite("NegativeLogLikelihoodLoss", since, ("input", "target", "weight"), negative_log_likelihood) for since in (12, 13, 22)),
    *(Composite("SoftmaxCrossEntropyLoss", since, ("scores", "labels", "weights"), softmax_cross_entropy, outputs=2) for since in (12, 13)),
)
