"""What onnxruntime's rewrites put in place of ONNX's operators: products, activations, normalizations.

Source: onnxruntime's ContribOperators.md, and the schemas that it registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certify.graph.domains.contract import FLOATS, Operator, Type, as_onnx, like
from certify.graph.model import Shape, Value

_MS = "com.microsoft"
_WINDOW = "auto_pad='NOTSET' kernel_shape:ints dilations:ints strides:ints pads:ints group=1"
_SCALARS = "activation_alpha:float activation_beta:float activation_gamma:float"
_TURNS = "alpha=1.0 transA=0 transB=0"
_REAL = {"T": "float16 float double"}
_NORMALIZED = {"T": FLOATS, "V": FLOATS, "U": "float double"}


def _turned(shape: Shape, batch: int, last: int) -> Shape:
    """The shape of a factor: transBatch moves its first axis before the last one, trans swaps the last two."""
    if batch:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if last and len(shape) > 1 else shape


def _product(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """A' B' of the factors as their attributes turn them."""
    a, b = operands[:2]
    assert a is not None
    assert b is not None
    if (attributes.get("transBatchA") or attributes.get("transBatchB")) and not 2 < len(a.shape) == len(b.shape):
        raise ValueError("transBatch asks for factors of one rank, 3 or more")
    left = _turned(a.shape, attributes.get("transBatchA", 0), attributes["transA"])
    right = _turned(b.shape, attributes.get("transBatchB", 0), attributes["transB"])
    if not left or not right or left[-1] != (right[-2] if len(right) > 1 else right[0]):
        raise ValueError(f"factors {list(left)} and {list(right)} do not fit")
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    return [(a.elem_type, (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())))]


def _normalized(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Y in the scale's type; mean and inverse deviation in fp32 (fp64 for double), one a group."""
    x, scale = operands[:2]
    assert x is not None
    assert scale is not None
    rank, axis = len(x.shape), attributes["axis"]
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is none of {rank}")
    axis %= rank
    statistic = (11 if x.elem_type == 11 else 1, (*x.shape[:axis], *(1,) * (rank - axis)))
    return [(scale.elem_type, x.shape), statistic, statistic]


OPERATORS = (
    Operator(_MS, "FusedMatMul", "A:T B:T", "Y:T", f"{_TURNS} transBatchA=0 transBatchB=0", _product),
    Operator(_MS, "TransposeMatMul", "A:T B:T", "Y:T", _TURNS, _product),
    Operator(
        _MS,
        "FusedGemm",
        "A:T B:T C:T?",
        "Y:T",
        f"{_TURNS} beta=1.0 activation:string {_SCALARS}",
        as_onnx("Gemm", 13, 2, "transA transB"),
        {"T": "float16 float double uint32 uint64 int32 int64"},
    ),
    Operator(
        _MS,
        "FusedConv",
        "X:T W:T B:T? Z:T?",
        "Y:T",
        f"{_WINDOW} activation:string activation_params:floats",
        as_onnx("Conv", 11, 3, "auto_pad kernel_shape dilations strides pads group"),
        _REAL,
    ),
    Operator(_MS, "Gelu", "X:T", "Y:T", "", like(0)),
    Operator(_MS, "QuickGelu", "X:T", "Y:T", "alpha=1.702", like(0)),
    Operator(_MS, "FastGelu", "X:T bias:T?", "Y:T", "", like(0)),
    Operator(_MS, "BiasGelu", "A:T B:T", "C:T", "", like(0)),
    Operator(
        "",
        "LayerNormalization",
        "X:T Scale:V B:V?",
        "Y:V Mean:U? InvStdDev:U?",
        "axis=-1 epsilon=1e-5 stash_type=1",
        _normalized,
        _NORMALIZED,
    ),
    Operator(
        "",
        "SimplifiedLayerNormalization",
        "X:T scale:V",
        "Y:V inv_std_var:U?",
        "axis=-1 epsilon=1e-5 stash_type=1",
        _normalized,
        _NORMALIZED,
    ),
)
