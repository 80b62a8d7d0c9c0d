"""onnxruntime's blocked layout, com.microsoft.nchwc: channels padded to a multiple of the block, which is innermost in memory.

A blocked tensor is declared (N, C, H, W), and its elements are those of its memory in that order: (N, C/b, H, W, b) read row by row.
That is what every other operator sees of it. The block's size b is the processor's, and stands nowhere in the file: a saved graph
means what the onnxruntime of this host makes of it.
Source: onnxruntime's nchwc schemas, contrib_ops/cpu/nchwc_ops.cc, mlas/lib/reorder.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from certify.graph.domains.contract import Operator, Type, as_onnx
from certify.graph.model import Unsupported, Value

_DOMAIN = "com.microsoft.nchwc"
_WINDOW = "auto_pad='NOTSET' dilations:ints strides:ints pads:ints"
_READ = "auto_pad kernel_shape dilations strides pads"
_FLOAT = {"T": "float"}


@cache
def block_size() -> int:
    """The host's block: to how many channels onnxruntime pads four. Raises Unsupported where it has no such layout."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    node = helper.make_node("ReorderInput", ["x"], ["y"], domain=_DOMAIN)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, 1, 1]) for name in "xy")
    imports = [helper.make_opsetid("", 13), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(helper.make_graph([node], "block", [x], [y]), opset_imports=imports, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return int(session.run(None, {"x": np.zeros((1, 4, 1, 1), np.float32)})[0].shape[1])
    except Exception as refusal:  # onnxruntime's exceptions share no base class of their own
        raise Unsupported("this host's onnxruntime has no blocked (NCHWc) layout, in which the model is written") from refusal


def _blocked(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Channels padded to whole blocks."""
    x = operands[0]
    assert x is not None
    if len(x.shape) != 4:
        raise ValueError("a blocked tensor has four axes")
    n, *middle, last = x.shape
    channels, space = (last, tuple(middle)) if attributes["channels_last"] else (middle[0], (*middle[1:], last))
    if channels % 4:
        raise ValueError("channels in fours are reordered, others are not")
    block = block_size()
    return [(x.elem_type, (n, -(-channels // block) * block, *space))]


def _plain(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """The first `channels` of them."""
    x = operands[0]
    assert x is not None
    channels, block = attributes["channels"], block_size()
    if len(x.shape) != 4 or x.shape[1] % block or not 0 <= x.shape[1] - channels < block:
        raise ValueError(f"no whole blocks of {block} channels hold {channels}")
    n, _, h, w = x.shape
    return [(x.elem_type, (n, h, w, channels) if attributes["channels_last"] else (n, channels, h, w))]


def _enlarged(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Every axis by its scale."""
    x, scales = operands[0], attributes.get("scales", ())
    assert x is not None
    if len(x.shape) != 4 or len(scales) != 4 or tuple(scales[:2]) != (1, 1) or min(scales) < 1:
        raise ValueError("scales of four axes are asked for, 1 for batch and channels")
    return [(x.elem_type, tuple(n * s for n, s in zip(x.shape, scales, strict=True)))]


def _pool(name: str) -> Operator:
    average = name == "AveragePool"
    own = "count_include_pad=0" if average else "storage_order=0"
    infer = as_onnx(name, 19 if average else 12, 1, f"{_READ} ceil_mode")
    return Operator(
        _DOMAIN, name, "X:T", "Y:T", f"{_WINDOW} kernel_shape:ints! ceil_mode=0 {own}", lambda x, a: list(infer(x, a))[:1], _FLOAT
    )


OPERATORS = (
    Operator(_DOMAIN, "ReorderInput", "X:T", "Y:T", "channels_last=0", _blocked, _FLOAT),
    Operator(_DOMAIN, "ReorderOutput", "X:T", "Y:T", "channels=0 channels_last=0", _plain, _FLOAT),
    Operator(
        _DOMAIN,
        "Conv",
        "X:T W:T B:T? Sum:T?",
        "Y:T",
        f"{_WINDOW} kernel_shape:ints group=1 activation:string activation_params:floats",
        as_onnx("Conv", 11, 3, f"{_READ} group"),
        _FLOAT,
    ),
    _pool("MaxPool"),
    _pool("AveragePool"),
    *(Operator(_DOMAIN, name, "X:T", "Y:T", "", as_onnx(name, 1, 1), _FLOAT) for name in ("GlobalMaxPool", "GlobalAveragePool")),
    Operator(
        _DOMAIN,
        "Upsample",
        "X:T",
        "Y:T",
        "scales:ints mode='nearest' coordinate_transformation_mode='asymmetric'",
        _enlarged,
        _FLOAT,
    ),
)
