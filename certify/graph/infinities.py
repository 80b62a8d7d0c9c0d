"""Where a constant or an input may hold an infinity or NaN: what operators read it tells a mask from a mistake.

An infinity is a number that copies, comparisons and some sums and maxima know what to do with; the analysis gives no bound to what
any other operator makes of it. NaN means something to IsNaN, to casts, to comparisons and where it is not chosen.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from certify.graph.model import Node
from certify.graph.passes.fold_constants import MOVEMENT

_NAN = MOVEMENT | {"Cast", "CastLike", "IsNaN", "IsInf", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
_MASKED = _NAN | {"Add", "Sum", "Max", "Min", "Clip", "Relu", "Cast", "Softmax", "LogSoftmax", "Attention", "MultiHeadAttention"}
_MASKED |= {"ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool", "TopK", "ArgMax", "ArgMin", "Neg", "Abs", "Sign"}
# These multiply: with an infinite factor their result is no number, or infinite.
_WEIGHING = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "DeformConv", "RNN", "LSTM", "GRU", "PRelu"})
_WEIGHING |= {"FusedMatMul", "FusedGemm", "FusedConv", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"}
_WEIGHING |= {f"{kind}Normalization" for kind in ("Batch", "Layer", "Instance", "Group", "RMS", "SkipLayer", "SimplifiedLayer")}

Elements = npt.NDArray[np.bool_]


def mistaken_in_constant(readers: set[str], x: npt.NDArray[np.floating]) -> Elements:
    """True at elements that no constant that these operators read can mean: a weight is finite."""
    return _mistaken(bool(readers & _WEIGHING), bool(readers - _NAN), x)


def mistaken_in_input(readers: set[str], x: npt.NDArray[np.floating]) -> Elements:
    """The same for an input: an infinity is the mark of a mask, or itself what is asked about, by some operator."""
    return _mistaken(not readers or bool(readers - _MASKED), bool(readers - _NAN), x)


def _mistaken(finite: bool, number: bool, x: npt.NDArray[np.floating]) -> Elements:
    return np.asarray(~np.isfinite(x) if finite else np.isnan(x) if number else np.zeros(x.shape, dtype=bool))


def readers(nodes: Iterable[Node], outputs: Iterable[str] = ()) -> dict[str, set[str]]:
    """The operators that read each value; an output of the model is read as if by an addition."""
    found: dict[str, set[str]] = {name: {"Add"} for name in outputs}
    for node in nodes:
        for name in node.inputs:
            if name is not None:
                found.setdefault(name, set()).add(node.op_type)
    return found
