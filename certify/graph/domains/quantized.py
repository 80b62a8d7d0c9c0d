"""onnxruntime's own quantized operators: what its quantizer writes and its rewrites leave.

Source: onnxruntime's ContribOperators.md, and the schemas that it registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certify.graph.domains.contract import Infer, Operator, Type, as_onnx
from certify.graph.model import Shape, Value

_MS = "com.microsoft"
_BYTES = "uint8 int8"
_T = {"T": _BYTES}
_UNARY = "X:T X_scale:float X_zero_point:T? Y_scale:float Y_zero_point:T?"
_BINARY = "A:T A_scale:float A_zero_point:T? B:T B_scale:float B_zero_point:T? C_scale:float C_zero_point:T?"
_WINDOW = "auto_pad='NOTSET' kernel_shape:ints dilations:ints strides:ints pads:ints group=1"
_FLOAT, _UINT8 = 1, 2


def _given(operands: Sequence[Value | None], *positions: int) -> list[Value]:
    found = [operands[i] for i in positions]
    present = [v for v in found if v is not None]
    if len(present) != len(found):
        raise ValueError("an operand is missing")
    return present


def _as_first(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    (x,) = _given(operands, 0)
    return [(x.elem_type, x.shape)]


def _elementwise(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    a, b = _given(operands, 0, 3)
    return [(a.elem_type, np.broadcast_shapes(a.shape, b.shape))]


def _concatenated(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Operands after the result's scale and zero point come in threes: a tensor, its scale, its zero point."""
    zero = _given(operands, 1)[0]
    tensors = [v for v in operands[2::3] if v is not None]
    if not tensors:
        raise ValueError("nothing to concatenate")
    axis = int(attributes["axis"]) % len(tensors[0].shape)
    shape = tuple(sum(v.shape[k] for v in tensors) if k == axis else n for k, n in enumerate(tensors[0].shape))
    return [(zero.elem_type, shape)]


def _pooled(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    names = "auto_pad ceil_mode count_include_pad kernel_shape pads strides"
    return _channels_first(_as_float(as_onnx("AveragePool", 19, 1, names)), (0,), attributes, operands)


def _averaged(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    return _channels_first(_as_float(as_onnx("GlobalAveragePool", 1, 1)), (0,), attributes, operands)


def _convolved(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Of the type of y_zero_point."""
    found = _channels_first(
        _as_float(as_onnx("Conv", 11, 2, "auto_pad kernel_shape dilations strides pads group")), (0, 3), attributes, operands
    )
    zero = _given(operands, 7)[0]
    return [None if found[0] is None else (zero.elem_type, found[0][1])]


def _as_float(infer: Infer) -> Infer:
    """`infer` on float tensors of the operands' shapes, its result of the first operand's type."""

    def inferred(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
        floats = [None if v is None else Value(v.name, v.shape, _FLOAT) for v in operands]
        (first,) = _given(operands, 0)
        return [None if t is None else (first.elem_type, t[1]) for t in infer(floats, attributes)]

    return inferred


def _channels_first(
    infer: Infer, tensors: tuple[int, ...], attributes: Mapping[str, Any], operands: Sequence[Value | None]
) -> list[Type | None]:
    """`infer` of some operands; with channels_last the first of them, and the result, keep their channels in the last axis."""
    given = _given(operands, *tensors)
    if not attributes["channels_last"]:
        return list(infer(given, attributes))
    x = given[0]
    turned = Value(x.name, (x.shape[0], x.shape[-1], *x.shape[1:-1]), x.elem_type)
    found = infer([turned, *given[1:]], attributes)
    return [None if t is None else (t[0], (t[1][0], *t[1][2:], t[1][1])) for t in found]


def product_shape(a: Shape, b: Shape) -> Shape:
    """Of MatMul. Raises ValueError."""
    if not a or not b or a[-1] != (b[-2] if len(b) > 1 else b[0]):
        raise ValueError(f"factors {list(a)} and {list(b)} do not fit")
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def _gemm(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """A float where no zero point of the result is given."""
    a, b = _given(operands, 0, 3)
    left = a.shape[::-1] if attributes["transA"] else a.shape
    right = b.shape[::-1] if attributes["transB"] else b.shape
    zero = operands[8]
    if len(left) != 2 or len(right) != 2:
        raise ValueError("the factors must be matrices")
    return [(_FLOAT if zero is None else zero.elem_type, product_shape(left, right))]


def _product(scale: int) -> Infer:
    """Of the first two operands, in the type of operand `scale`."""

    def infer(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
        a, b, s = _given(operands, 0, 1, scale)
        return [(s.elem_type, product_shape(a.shape, b.shape))]

    return infer


def _quantized(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    (x,), zero = _given(operands, 0), operands[2]
    return [(_UINT8 if zero is None else zero.elem_type, x.shape)]


def _dequantized(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    x, scale = _given(operands, 0, 1)
    return [(scale.elem_type, x.shape)]


def _packed(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    a, b, scales = _given(operands, 0, 1, 2)
    if not a.shape or a.shape[-1] != attributes["K"]:
        raise ValueError(f"rows of {list(a.shape[-1:])} elements, where K is {attributes['K']}")
    length, bits = int(attributes["block_size"]), int(attributes.get("bits", 4))
    blocks = int(attributes["N"]) * -(-int(attributes["K"]) // max(length, 1))
    if b.size and (length < 1 or scales.size != blocks or b.size != blocks * (length * bits // 8)):
        raise ValueError(f"{b.size} bytes and {scales.size} scales, which are not those of {blocks} blocks of {length}")
    return [(a.elem_type, (*a.shape[:-1], int(attributes["N"])))]


def _attention(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """What is passed on to the next call has a shape that is not worked out."""
    x, weight, bias = _given(operands, 0, 1, 2)
    return [(bias.elem_type, (*x.shape[:-1], weight.shape[-1] // 3)), None]


def _layer(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Of a LSTM whose matrices come transposed: X (steps, batch, input), R (directions, hidden, 4 hidden)."""
    x, _, r = _given(operands, 0, 1, 2)
    directions, hidden = r.shape[:2]
    steps, batch = x.shape[:2]
    last = (directions, batch, hidden)
    return [(x.elem_type, (steps, directions, batch, hidden)), (x.elem_type, last), (x.elem_type, last)]


def _chosen(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    condition, x, y = _given(operands, 0, 1, 4)
    return [(x.elem_type, np.broadcast_shapes(condition.shape, x.shape, y.shape))]


_NARROW = f"{_BYTES} int16 uint16 int4 uint4"
_TWO = {"T1": _BYTES, "T2": _BYTES, "T3": "float float16"}

OPERATORS = (
    Operator(_MS, "QLinearAdd", _BINARY, "C:T", "", _elementwise, _T),
    Operator(_MS, "QLinearMul", _BINARY, "C:T", "", _elementwise, _T),
    Operator(_MS, "QLinearSigmoid", _UNARY, "Y:T", "", _as_first, _T),
    Operator(_MS, "QLinearLeakyRelu", _UNARY, "Y:T", "alpha=0.01", _as_first, _T),
    Operator(
        _MS,
        "QLinearAveragePool",
        "X:T x_scale:float x_zero_point:T? y_scale:float y_zero_point:T?",
        "Y:T",
        "auto_pad='NOTSET' ceil_mode=0 channels_last=0 count_include_pad=0 kernel_shape:ints! pads:ints strides:ints",
        _pooled,
        _T,
    ),
    Operator(
        _MS,
        "QLinearGlobalAveragePool",
        "X:T x_scale:float x_zero_point:T y_scale:float y_zero_point:T",
        "Y:T",
        "channels_last=0",
        _averaged,
        _T,
    ),
    Operator(
        _MS,
        "QLinearWhere",
        "condition:B X:T x_scale:TF x_zero_point:T Y:T y_scale:TF y_zero_point:T z_scale:TF z_zero_point:T",
        "Z:T",
        "",
        _chosen,
        {"B": "bool", "TF": "float", "T": _BYTES},
    ),
    Operator(
        _MS,
        "QLinearSoftmax",
        "X:T X_scale:float x_zero_point:T? y_scale:float y_zero_point:T",
        "Y:T",
        "axis=-1 opset:int!",
        _as_first,
        _T,
    ),
    Operator(
        _MS,
        "QAttention",
        "input:T1 weight:T2 bias:T3 input_scale:T3 weight_scale:T3 mask_index:T4? input_zero_point:T1? weight_zero_point:T2? past:T3?",
        "output:T3 present:T3?",
        "do_rotary:int mask_filter_value:float num_heads:int! past_present_share_buffer:int scale:float unidirectional=0",
        _attention,
        {"T1": _BYTES, "T2": _BYTES, "T3": "float float16", "T4": "int32"},
    ),
    Operator(
        _MS,
        "DynamicQuantizeLSTM",
        "X:T W:T2 R:T2 B:T? sequence_lens:T1? initial_h:T? initial_c:T? P:T? W_scale:T W_zero_point:T2 R_scale:T R_zero_point:T2",
        "Y:T? Y_h:T? Y_c:T?",
        "activation_alpha:floats activation_beta:floats activations:strings clip:float direction='forward' hidden_size:int input_forget=0",
        _layer,
        {"T": "float", "T1": "int32", "T2": _BYTES},
    ),
    Operator(
        _MS,
        "QLinearConcat",
        "Y_scale:TF Y_zero_point:T8 inputs:TV+",
        "Y:T8",
        "axis:int!",
        _concatenated,
        {"T8": _BYTES, "TF": "float", "TV": f"{_BYTES} float"},
    ),
    Operator(
        _MS,
        "QLinearConv",
        "x:T1 x_scale:float x_zero_point:T1 w:T2 w_scale:float w_zero_point:T2 y_scale:float y_zero_point:T3 B:T4?",
        "y:T3",
        f"{_WINDOW} channels_last=0",
        _convolved,
        {"T1": _BYTES, "T2": _BYTES, "T3": _BYTES, "T4": "int32"},
    ),
    Operator(
        _MS,
        "QGemm",
        "A:TA a_scale:T a_zero_point:TA B:TB b_scale:T b_zero_point:TB C:TC? y_scale:T? y_zero_point:TYZ?",
        "Y:TY",
        "alpha=1.0 transA=0 transB=0",
        _gemm,
        {"T": "float", "TA": _BYTES, "TB": _BYTES, "TC": "int32", "TYZ": _BYTES, "TY": f"float {_BYTES}"},
    ),
    Operator(
        _MS,
        "MatMulIntegerToFloat",
        "A:T1 B:T2 a_scale:T3 b_scale:T3 a_zero_point:T1? b_zero_point:T2? bias:T3?",
        "Y:T3",
        "",
        _product(2),
        _TWO,
    ),
    Operator(
        _MS,
        "DynamicQuantizeMatMul",
        "A:T1 B:T2 b_scale:T1 b_zero_point:T2? bias:T1?",
        "Y:T1",
        "",
        _product(2),
        {"T1": "float", "T2": _BYTES},
    ),
    Operator(
        _MS, "QuantizeLinear", "x:T1 y_scale:T1 y_zero_point:T2?", "y:T2", "axis:int", _quantized, {"T1": "float float16", "T2": _NARROW}
    ),
    Operator(
        _MS,
        "DequantizeLinear",
        "x:T1 x_scale:T2 x_zero_point:T1?",
        "y:T2",
        "axis:int",
        _dequantized,
        {"T1": f"{_NARROW} int32", "T2": "float float16"},
    ),
    Operator(
        _MS,
        "MatMulNBits",
        "A:T1 B:T2 scales:T1 zero_points:T3? g_idx:T4? bias:T1?",
        "Y:T1",
        "K:int! N:int! accuracy_level=0 bits=4 block_size:int! weight_prepacked=0",
        _packed,
        {"T1": "float float16 bfloat16", "T2": "uint8", "T3": "uint8 float16 float bfloat16", "T4": "int32"},
    ),
)
