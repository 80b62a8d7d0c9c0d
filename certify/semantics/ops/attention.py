"""Softmax, LogSoftmax, and the standard's Attention.

Softmax: before opset 13 all axes from `axis` (1) on form one group; since then one axis (-1).
Attention: https://onnx.ai/onnx/operators/onnx__Attention.html, all of it but `softmax_precision` narrower than the operands. What
kernels are covered stands in ops/scaled_dot. The standard (its erratum to opset 23) and onnxruntime agree on queries none of whose
keys is allowed: 0; where all of a query's scores are near the lowest number, any weights within [0, 1] are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.softmax import Softmax
from certify.semantics.families.writer import Writer
from certify.semantics.ops.scaled_dot import (
    Bias,
    Heads,
    Scores,
    causal,
    heads_of,
    joined_heads,
    scores_of,
    split_heads,
    take_mask,
    weighted,
    window,
)

_PRECISION = {1: 24, 10: 11, 11: 53, 16: 8}  # significand bits of the element types that softmax_precision names


def operand(e: Expansion, i: int) -> str | None:
    return e.operands[i] if i < len(e.operands) else None


def wanted(e: Expansion, i: int) -> str | None:
    return e.outputs[i] if i < len(e.outputs) else None


def with_past(s: Writer, past: str | None, past_shape: tuple[int, ...], x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The cache with what is new behind it along the keys' axis."""
    if past is None:
        return x, shape
    return s.step("Concat", past, x, axis=2), (*shape[:2], past_shape[2] + shape[2], shape[3])


def _no_narrower(precision: int, element: int) -> None:
    bits = _PRECISION.get(precision)
    if bits is None:
        raise UnsupportedOperator(f"softmax_precision {precision}")
    if bits < _PRECISION.get(element, 0) or {precision, element} == {10, 16}:
        raise UnsupportedOperator("softmax_precision narrower than the operands is not supported")


def attention(
    e: Expansion,
    *,
    padded: bool,
    scale: float | None = None,
    is_causal: int = 0,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    softmax_precision: int | None = None,
    softcap: float = 0.0,
    qk_matmul_output_mode: int = 0,
    left_window_size: int = -1,
    right_window_size: int = -1,
    nonpad_kv_seqlen: Any = None,
) -> Any:
    """Y, present_key, present_value, qk_matmul_output."""
    if softmax_precision is not None:
        _no_narrower(softmax_precision, e.elements[0])
    s = Writer(e)
    q, q_shape = split_heads(s, given(e, 0), e.shapes[0], q_num_heads)
    k, k_shape = split_heads(s, given(e, 1), e.shapes[1], kv_num_heads)
    v, v_shape = split_heads(s, given(e, 2), e.shapes[2], kv_num_heads)
    past, past_value = operand(e, 4), operand(e, 5)
    if (past is None) != (past_value is None) or (past is not None and nonpad_kv_seqlen is not None):
        raise UnsupportedOperator("past_key and past_value come together, and not with nonpad_kv_seqlen")
    before = 0 if past is None else e.shapes[4][2]
    k, k_shape = with_past(s, past, e.shapes[4] if past else (), k, k_shape)
    v, v_shape = with_past(s, past_value, e.shapes[5] if past else (), v, v_shape)
    h = heads_of(q_shape, k_shape, v_shape)
    bias = Bias()
    take_mask(s, bias, 3, "attn_mask", h, padded)
    offset: Any = before
    if nonpad_kv_seqlen is not None:
        valid = np.ravel(nonpad_kv_seqlen).astype(np.int64)
        bias.restrict(np.arange(h.columns).reshape((1, 1, 1, -1)) < valid.reshape((-1, 1, 1, 1)))
        offset = valid - h.rows
    if is_causal:
        bias.restrict(causal(h, offset))
    if left_window_size >= 0 or right_window_size >= 0:
        bias.restrict(window(h, offset, left_window_size, right_window_size))
    shown = wanted(e, 3)
    apart = shown is not None and qk_matmul_output_mode < 2
    stages = scores_of(s, q, k, h, bias, softcap, apart, alpha=scale, root=h.size, prescaled=True)
    _outputs(s, stages, v, h, k, qk_matmul_output_mode)
    return s.parts


def given(e: Expansion, i: int) -> str:
    name = operand(e, i)
    assert name is not None
    return name


def _outputs(s: Writer, stages: Scores, v: str, h: Heads, k: str, mode: int) -> None:
    e = s.e
    if len(e.shapes[0]) == 4:
        weighted(s, stages.weights, v, h, wanted(e, 0))
    else:
        joined_heads(s, weighted(s, stages.weights, v, h), h, wanted(e, 0))
    for i, name in ((1, k), (2, v)):
        present = wanted(e, i)
        if present is not None:
            s.step("Identity", name, output=present)
    shown = wanted(e, 3)
    if shown is None:
        return
    if mode not in (0, 1, 2, 3):
        raise UnsupportedOperator(f"qk_matmul_output_mode {mode}")
    stage = (stages.raw, stages.capped, stages.masked, stages.weights)[mode]
    s.step("Store", s.step("OrLowest", stage, inner=True, domain="certify") if mode == 2 else stage, output=shown, domain="certify")


_STATIC = frozenset({"nonpad_kv_seqlen"})
_OPERANDS = ("Q", "K", "V", "attn_mask", "past_key", "past_value")

register(
    Softmax("Softmax", 1, logarithm=False, flattened=True),
    Softmax("Softmax", 13, logarithm=False, flattened=False),
    Softmax("LogSoftmax", 1, logarithm=True, flattened=True),
    Softmax("LogSoftmax", 13, logarithm=True, flattened=False),
    Composite("Attention", 23, _OPERANDS, partial(attention, padded=False), outputs=4),
    Composite("Attention", 24, (*_OPERANDS, "nonpad_kv_seqlen"), partial(attention, padded=True), _STATIC, outputs=4),
)
