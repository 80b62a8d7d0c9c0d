"""What onnxruntime's rewrites put in place of a transformer's parts: attention, rotation, normalization with what it adds.

Source: onnxruntime's ContribOperators.md, and the schemas that it registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certify.graph.domains.contract import Operator, Type, like
from certify.graph.model import Shape, Value

_MS = "com.microsoft"
_T = {"T": "float float16 bfloat16", "M": "int32"}
_SKIP = {"T": "float float16 bfloat16", "U": "float"}


def _given(operands: Sequence[Value | None], *positions: int) -> list[Value]:
    """Raises ValueError if one of them is absent."""
    found = [operands[i] for i in positions]
    present = [x for x in found if x is not None]
    if len(present) < len(found):
        raise ValueError("Q, K and V packed into one operand are not supported")
    return present


def _skip(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Y, mean and inverse deviation of each row, and the sum that was normalized."""
    x = _given(operands, 0)[0]
    statistic = (1, (*x.shape[:-1], 1))
    return [(x.elem_type, x.shape), statistic, statistic, (x.elem_type, x.shape)]


def _embedded(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Y, the number of words of each text, the sum that was normalized."""
    ids, words = _given(operands, 0, 2)
    shape = (*ids.shape, words.shape[1])
    return [(words.elem_type, shape), (6, ids.shape[:1]), (words.elem_type, shape)]


def _attention(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Y, and keys and values with those of the past."""
    x, weights = _given(operands, 0, 1)
    past, heads = operands[4], attributes["num_heads"]
    sizes = attributes.get("qkv_hidden_sizes") or (weights.shape[1] // 3,) * 3
    length = x.shape[1] + (past.shape[3] if past is not None else 0)
    present = (2, x.shape[0], heads, length, sizes[1] // heads)
    return [(x.elem_type, (*x.shape[:2], sizes[2])), (x.elem_type, present)]


def _many_headed(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Y, present keys and values, scores."""
    q, k, v = _given(operands, 0, 1, 2)
    heads = attributes["num_heads"]
    if len(q.shape) != 3 or len(k.shape) != len(v.shape) or len(k.shape) not in (3, 4):
        raise ValueError(f"Q, K and V of shapes {list(q.shape)}, {list(k.shape)}, {list(v.shape)} are not supported")
    before = operands[6].shape[2] if operands[6] is not None else 0
    length = before + (k.shape[1] if len(k.shape) == 3 else k.shape[2])
    value = v.shape[2] // heads if len(v.shape) == 3 else v.shape[3]
    sizes: list[Shape] = [(q.shape[0], heads, length, q.shape[2] // heads), (q.shape[0], heads, length, value)]
    results = [(*q.shape[:2], heads * value), *sizes, (q.shape[0], heads, q.shape[1], length)]
    return [(q.elem_type, shape) for shape in results]


def _grouped(operands: Sequence[Value | None], attributes: Mapping[str, Any]) -> list[Type | None]:
    """Y, present keys and values in a cache at least as long as the past's, scores (whose shape is not told)."""
    q, lengths = _given(operands, 0, 6)
    heads, keys = attributes["num_heads"], attributes["kv_num_heads"]
    packed = operands[1] is None
    size = q.shape[2] // (heads + 2 * keys if packed else heads)
    past = operands[3]
    if lengths.constant is None:
        return [(q.elem_type, (*q.shape[:2], heads * size)), None, None, None]
    total = int(np.ravel(lengths.constant)[0])
    cache = (q.elem_type, (q.shape[0], keys, max(total, past.shape[2] if past is not None else 0), size))
    return [(q.elem_type, (*q.shape[:2], heads * size)), cache, cache, None]


OPERATORS = (
    Operator(
        _MS,
        "SkipLayerNormalization",
        "input:T skip:T gamma:T beta:T? bias:T?",
        "output:T mean:U? inv_std_var:U? input_skip_bias_sum:T?",
        "epsilon=1e-12",
        _skip,
        _SKIP,
    ),
    Operator(
        _MS,
        "SkipSimplifiedLayerNormalization",
        "input:T skip:T gamma:T bias:T?",
        "output:T mean:U? inv_std_var:U? input_skip_bias_sum:T?",
        "epsilon=1e-12",
        _skip,
        _SKIP,
    ),
    Operator(
        _MS,
        "EmbedLayerNormalization",
        "input_ids:T1 segment_ids:T1? word_embedding:T position_embedding:T segment_embedding:T? gamma:T beta:T mask:T1? position_ids:T1?",
        "output:T mask_index:T1? embedding_sum:T?",
        "epsilon=1e-12 mask_index_type:int",
        _embedded,
        {"T": "float float16", "T1": "int32"},
    ),
    Operator(
        _MS,
        "RotaryEmbedding",
        "input:T position_ids:M cos_cache:T sin_cache:T",
        "output:T",
        "scale:float interleaved:int num_heads:int rotary_embedding_dim:int is_packed_batching:int",
        like(0),
        {"T": "float float16 bfloat16", "M": "int64"},
    ),
    Operator(
        _MS,
        "Attention",
        "input:T weights:T bias:T? mask_index:M? past:T? attention_bias:T? past_sequence_length:M?",
        "output:T present:T?",
        "num_heads:int! unidirectional=0 qkv_hidden_sizes:ints past_present_share_buffer:int do_rotary:int rotary_embedding_dim:int "
        "mask_filter_value:float scale:float",
        _attention,
        _T,
    ),
    Operator(
        _MS,
        "MultiHeadAttention",
        "query:T key:T? value:T? bias:T? key_padding_mask:M? attention_bias:T? past_key:T? past_value:T? past_sequence_length:M? "
        "cache_indirection:M?",
        "output:T present_key:T? present_value:T? qk:QK?",
        "num_heads:int! mask_filter_value:float scale:float unidirectional=0",
        _many_headed,
        _T | {"QK": "float float16 bfloat16"},
    ),
    Operator(
        _MS,
        "GroupQueryAttention",
        "query:T key:T? value:T? past_key:T_CACHE? past_value:T_CACHE? seqlens_k:M total_sequence_length:M cos_cache:T? sin_cache:T? "
        "position_ids:int64? attention_bias:T? head_sink:T? k_scale:T_KV_SCALE? v_scale:T_KV_SCALE? q_norm_weight:T? k_norm_weight:T? "
        "query_seqlens:M?",
        "output:T present_key:T_CACHE? present_value:T_CACHE? output_qk:T?",
        "num_heads:int! kv_num_heads:int! scale:float softcap:float local_window_size=-1 do_rotary:int rotary_interleaved:int "
        "smooth_softmax=-1 qk_output=0 k_quant_type='NONE' v_quant_type='NONE' kv_cache_bit_width:int causal=1 sliding_window_cache=0 "
        "qk_norm_epsilon=1e-6 q_norm_epsilon:float k_norm_epsilon:float",
        _grouped,
        {
            "T": "float16 bfloat16 float",
            "T_CACHE": "float float16 bfloat16 uint8 int8 float8e4m3fn",
            "T_KV_SCALE": "float",
            "M": "int32",
        },
    ),
)
