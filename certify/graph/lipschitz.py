"""Lipschitz constants of operators, from all their data-dependent operands together to their first output.

l-infinity: max |f(x + d) - f(x)| <= L max |d| for every x. Rounded up. For a linear map L is the largest sum of absolute
weights over a row, attained wherever no padding cuts the row short. None where no finite constant holds for every x, or
none is known here. For how deviations really spread, see the engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.graph.fan_in import fan_in
from certify.graph.model import Node, Value
from certify.graph.weights import absolute_sums, conv_spectral_bound, largest_upward, spectral_norm
from certify.number.upward import inflate, up

Operands: TypeAlias = list[Value | None]

# The largest |derivative| over the reals, rounded up: 2/sqrt(pi) for erf, 1/4 for the sigmoid, (2x + 3)/6 at 3 for hardswish,
# Phi(sqrt 2) + sqrt 2 phi(sqrt 2) = 1.128904... for gelu (its tanh form 1.128993...), 1.099839... for x sigmoid(x),
# 1.088498... for mish (from mpmath, on a grid of 5e-4, which misses the maximum by less than 1e-7). The rows of softmax's
# Jacobian diag(p) - p p^T have absolute sums 2 p (1 - p) <= 1/2, those of log-softmax's 2 (1 - p) <= 2.
SLOPES: dict[str, float] = {
    **dict.fromkeys(("Abs", "Asinh", "Atan", "Celu", "Clip", "Cos", "Neg", "Relu", "Sin", "Softplus", "Softsign", "Tanh"), 1.0),
    "Erf": 1.1283791670955128,
    "Sigmoid": 0.25,
    "HardSwish": 1.5,
    "Gelu": 1.129,
    "Swish": 1.09984,
    "Mish": 1.0885,
    "Softmax": 0.5,
    "LogSoftmax": 2.0,
}
# Each element of the result is an element of the operands, or a mean, maximum, minimum or log-sum-exp of some.
PICKING = frozenset({"Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Identity", "Pad", "Reshape", "ReverseSequence", "Slice"})
PICKING |= {"SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Max", "Min", "Mean", "MaxPool", "AveragePool"}
PICKING |= {"GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceLogSumExp"}


def l_infinity(node: Node, values: Mapping[str, Value]) -> float | None:
    """The operator's l-infinity Lipschitz constant, rounded up; None if none is known."""
    if node.domain != "":
        return None
    operands: Operands = [None if name is None else values[name] for name in node.inputs]
    if node.op_type in SLOPES:
        return SLOPES[node.op_type]
    if node.op_type in PICKING:
        return 1.0
    if node.op_type in ("ReduceSum", "ReduceL1", "CumSum"):
        terms = fan_in(node, values)
        return None if terms is None else float(terms)
    rule = _RULES.get(node.op_type)
    found = None if rule is None else rule(node, operands)
    return found if found is None or np.isfinite(found) else None


def spectral(node: Node, values: Mapping[str, Value]) -> tuple[float, str] | None:
    """(l2 norm, "estimate" or "bound") of a dense or convolutional layer with constant weights; None for any other operator.

    A dense layer's norm is its largest singular value as float64 computes it, an estimate good to some 14 digits; a
    convolution's is a proved upper bound, sqrt(||T||_1 ||T||_inf).
    """
    operands: Operands = [None if name is None else values[name] for name in node.inputs]
    if node.op_type in ("MatMul", "Gemm") and node.domain == "":
        found = _weights(operands, (0, 1))
        if found is None or found.ndim < 2:
            return None
        scale = abs(float(node.attributes.get("alpha", 1.0))) if node.op_type == "Gemm" else 1.0
        return spectral_norm(found) * scale, "estimate"
    if node.op_type == "Conv" and node.domain == "":
        found = _weights(operands, (1,))
        return None if found is None else (conv_spectral_bound(found, node.attributes.get("group", 1)), "bound")
    return None


def _weights(operands: Operands, positions: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """The constant among the operands at `positions`, if it is the only one there."""
    found = [v.constant for v in (operands[i] for i in positions) if v is not None and v.constant is not None]
    return found[0] if len(found) == 1 else None


def _variables(operands: Operands) -> list[Value]:
    return [v for v in operands if v is not None and v.constant is None]


def _matmul(node: Node, operands: Operands) -> float | None:
    found = _weights(operands, (0, 1))
    if found is None:
        return None
    second = operands[1] is not None and operands[1].constant is not None
    axis = 0 if found.ndim == 1 else (-2 if second else -1)
    return largest_upward(absolute_sums(found, (axis,)))


def _gemm(node: Node, operands: Operands) -> float | None:
    found = _weights(operands, (0, 1))
    if found is None:
        return None
    second = operands[1] is not None and operands[1].constant is not None
    flipped = bool(node.attributes.get("transB" if second else "transA", 0))
    dense = largest_upward(absolute_sums(found, (int(flipped) if second else 1 - int(flipped),)))
    addend = len(operands) > 2 and operands[2] is not None and operands[2].constant is None
    alpha, beta = (abs(float(node.attributes.get(name, 1.0))) for name in ("alpha", "beta"))
    return float(inflate(np.asarray(alpha * dense + (beta if addend else 0.0)), 2))


def _conv(node: Node, operands: Operands) -> float | None:
    found = _weights(operands, (1,))
    return None if found is None or _variables(operands)[1:] else largest_upward(absolute_sums(found, tuple(range(1, found.ndim))))


def _conv_transpose(node: Node, operands: Operands) -> float | None:
    """The taps k with k * dilation = r (mod stride) meet in one output position, for each residue r of each axis."""
    found = _weights(operands, (1,))
    if found is None or _variables(operands)[1:]:
        return None
    rank, group = found.ndim - 2, node.attributes.get("group", 1)
    strides, dilations = (node.attributes.get(name, (1,) * rank) for name in ("strides", "dilations"))
    axes = zip(found.shape[2:], strides, dilations, strict=True)
    phases = [[[k for k in range(size) if k * d % s == r] for r in range(s)] for size, s, d in axes]
    largest = 0.0
    for part in found.reshape(group, found.shape[0] // group, *found.shape[1:]):
        for taps in product(*phases):
            meeting = part[np.ix_(range(part.shape[0]), range(part.shape[1]), *taps)]
            if meeting.size:
                largest = max(largest, largest_upward(absolute_sums(meeting, (0, *range(2, meeting.ndim)))))
    return largest


def _each_adds(node: Node, operands: Operands) -> float | None:
    return float(len(_variables(operands)))


def _mul(node: Node, operands: Operands) -> float | None:
    found = _weights(operands, (0, 1))
    return None if found is None or found.dtype == object else float(np.max(np.abs(found.astype(np.float64)), initial=0.0))


def _div(node: Node, operands: Operands) -> float | None:
    divisor = operands[1]
    if divisor is None or divisor.constant is None or operands[0] is None or operands[0].constant is not None:
        return None
    smallest = np.min(np.abs(divisor.constant.astype(np.float64)), initial=np.inf)
    return None if smallest == 0 else float(up(np.asarray(1.0 / smallest)))


def _batch_norm(node: Node, operands: Operands) -> float | None:
    scale, variance = operands[1], operands[4]
    if scale is None or scale.constant is None or variance is None or variance.constant is None or node.attributes.get("training_mode"):
        return None
    spread = variance.constant.astype(np.float64) + float(node.attributes.get("epsilon", np.float32(1e-5)))
    if np.any(spread <= 0):
        return None
    return float(inflate(np.asarray(np.max(np.abs(scale.constant.astype(np.float64)) / np.sqrt(spread), initial=0.0)), 4))


def _slope_of(name: str, default: float, least: float = 1.0) -> Callable[[Node, Operands], float | None]:
    return lambda node, operands: max(least, abs(float(node.attributes.get(name, default))))


def _selu(node: Node, operands: Operands) -> float | None:
    alpha = float(node.attributes.get("alpha", 1.67326319217681884765625))
    gamma = float(node.attributes.get("gamma", 1.05070102214813232421875))
    return float(up(np.asarray(abs(gamma) * max(1.0, abs(alpha)))))


def _prelu(node: Node, operands: Operands) -> float | None:
    slope = operands[1]
    if slope is None or slope.constant is None:
        return None
    return float(np.max(np.abs(slope.constant.astype(np.float64)), initial=1.0))


def _where(node: Node, operands: Operands) -> float | None:
    return 1.0 if operands[0] is not None and operands[0].constant is not None else None


def _gather(node: Node, operands: Operands) -> float | None:
    return 1.0 if operands[1] is not None and operands[1].constant is not None else None


def _cast(node: Node, operands: Operands) -> float | None:
    """A float-to-float Cast is the identity; one to an integer jumps."""
    from certify.graph.tensors import FLOATING

    source = operands[0]
    return 1.0 if source is not None and source.elem_type in FLOATING and node.attributes.get("to") in FLOATING else None


_RULES: dict[str, Callable[[Node, Operands], float | None]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("Add", "Sub", "Sum"), _each_adds),
    "Mul": _mul,
    "Div": _div,
    "BatchNormalization": _batch_norm,
    "LeakyRelu": _slope_of("alpha", 0.01),
    "Elu": _slope_of("alpha", 1.0),
    "HardSigmoid": _slope_of("alpha", float(np.float32(0.2)), least=0.0),
    "Selu": _selu,
    "PRelu": _prelu,
    "Where": _where,
    **dict.fromkeys(("Gather", "GatherElements", "GatherND"), _gather),
    "Cast": _cast,
}
