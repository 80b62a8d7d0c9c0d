"""Fan-in: how many terms an operator adds up for one element of its result. The n of gamma_n."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, gcd, prod
from typing import TypeAlias

from certify.graph.model import Node, Shape, Value

Shapes: TypeAlias = tuple[Shape | None, ...]


def fan_in(node: Node, values: Mapping[str, Value]) -> int | None:
    """Terms per element of the first output; None for an operator that adds nothing up."""
    rule = _RULES.get(node.op_type) if node.domain in ("", "com.microsoft", "com.microsoft.nchwc") else None
    shapes = tuple(None if name is None else values[name].shape for name in node.inputs)
    output = next((values[name].shape for name in node.outputs if name is not None), ())
    return None if rule is None or not shapes or shapes[0] is None else rule(node, shapes, output)


def _shape(shapes: Shapes, position: int) -> Shape:
    found = shapes[position] if position < len(shapes) else None
    return () if found is None else found


def _matmul(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return _shape(shapes, 0)[-1] if not node.attributes.get("transA") else _shape(shapes, 0)[-2]


def _gemm(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return _shape(shapes, 0)[0 if node.attributes.get("transA") else 1]


def _fused_matmul(node: Node, shapes: Shapes, output: Shape) -> int | None:
    """trans swaps the last two axes, after transBatch has moved the first one before the last."""
    shape = _shape(shapes, 0)
    last = not node.attributes.get("transA") or len(shape) < 2
    return shape[-1 if last else 0 if node.attributes.get("transBatchA") else -2]


def _conv_at(position: int) -> Callable[[Node, Shapes, Shape], int | None]:
    return lambda node, shapes, output: prod(_shape(shapes, position)[1:])


def _conv_transpose(node: Node, shapes: Shapes, output: Shape) -> int | None:
    """Input channels of a group times the kernel taps that meet in one output position."""
    weights = _shape(shapes, 1)
    rank = len(weights) - 2
    strides: tuple[int, ...] = node.attributes.get("strides", (1,) * rank)
    dilations: tuple[int, ...] = node.attributes.get("dilations", (1,) * rank)
    taps = [ceil(k / (s // gcd(s, d))) for k, s, d in zip(weights[2:], strides, dilations, strict=True)]
    return weights[0] // int(node.attributes.get("group", 1)) * prod(taps)


def _reduce(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return prod(_shape(shapes, 0)) // max(1, prod(output))


def _pool(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return prod(int(k) for k in node.attributes.get("kernel_shape", ()))


def _softmax(node: Node, shapes: Shapes, output: Shape) -> int | None:
    shape = _shape(shapes, 0)
    if node.opset < 13:
        return prod(shape[node.attributes.get("axis", 1) :])
    return shape[node.attributes.get("axis", -1)] if shape else 1


def _from_axis(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return prod(_shape(shapes, 0)[node.attributes.get("axis", -1) :])


def _spatial(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return prod(_shape(shapes, 0)[2:])


def _group_norm(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return prod(_shape(shapes, 0)[1:]) // int(node.attributes.get("num_groups", 1))


def _recurrent(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return _shape(shapes, 1)[-1] + _shape(shapes, 2)[-1]


def _operands(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return len(shapes)


def _scan_axis(node: Node, shapes: Shapes, output: Shape) -> int | None:
    return max(_shape(shapes, 0), default=1)


def _einsum(node: Node, shapes: Shapes, output: Shape) -> int | None:
    """Extents of the indices that do not appear in the result."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    terms, _, result = equation.partition("->")
    extents: dict[str, int] = {}
    for term, shape in zip(terms.split(","), shapes, strict=True):
        letters, sizes = term, shape or ()
        if "..." in term:
            before, after = term.split("...")
            letters, sizes = before + after, (*sizes[: len(before)], *sizes[len(sizes) - len(after) :])
        for letter, size in zip(letters, sizes, strict=True):
            extents[letter] = max(size, extents.get(letter, 1))
    if "->" not in equation:
        result = "".join(letter for letter in extents if terms.count(letter) == 1)
    return prod(size for letter, size in extents.items() if letter not in result)


_RULES: dict[str, Callable[[Node, Shapes, Shape], int | None]] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul"), _fused_matmul),
    **dict.fromkeys(("Gemm", "FusedGemm"), _gemm),
    **dict.fromkeys(("Conv", "ConvInteger", "DeformConv", "FusedConv"), _conv_at(1)),
    "QLinearConv": _conv_at(3),
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"), _reduce),
    **dict.fromkeys(("AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "InstanceNormalization"), _spatial),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _from_axis),
    "GroupNormalization": _group_norm,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Sum", "Mean"), _operands),
    "CumSum": _scan_axis,
    "LRN": lambda node, shapes, output: node.attributes.get("size"),
    "Einsum": _einsum,
}
