"""com.microsoft's Attention, MultiHeadAttention, GroupQueryAttention and RotaryEmbedding, with what kernels ops/scaled_dot covers.

Source: onnxruntime's ContribOperators.md and CPU kernels. The scale meets scores or a factor in the kernel's format, not both factors
in storage. A key that the mask excludes gets `mask_filter_value` (-10000) added to its score, one beyond the causal frontier none of the
weight; both as the CPU's kernels do. Bias and projection are added within the products or stored before.

What the CPU's kernels do not run is refused: Q, K and V packed into five axes, rotation inside Attention, shared buffers, caches of
beams, masks of (3 batch + 2) numbers, quantized caches, packed batches, and in GroupQueryAttention texts of different lengths.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.writer import Writer
from certify.semantics.ops.attention import given, operand, wanted, with_past
from certify.semantics.ops.rotary import rotated, sliced
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

_MS = "com.microsoft"
_FILTER = -10000.0


def _refuse(**what: Any) -> None:
    """Raises UnsupportedOperator naming the first of these that is given."""
    for name, value in what.items():
        if value:
            raise UnsupportedOperator(f"{name!r} is not supported")


def _alpha(scale: float) -> float | None:
    return float(scale) if scale else None


def filtered(s: Writer, bias: Bias, position: int, h: Heads, value: float) -> None:
    """Add `value` to the scores of keys that mask number `position` excludes.

    (batch): keys of each text. (2 batch): their ends, then their starts. (batch, keys), (batch, queries, keys): not 0.
    """
    name = operand(s.e, position)
    if name is None:
        return
    shape = s.e.shapes[position]
    places = s.integers(np.arange(h.columns).reshape((1, 1, 1, -1)))
    if shape == (h.batch,):
        allowed = s.whole("Less", places, s.reshape_whole(name, (h.batch, 1, 1, 1)))
    elif shape == (2 * h.batch,):
        both = s.reshape_whole(name, (2, h.batch, 1, 1, 1))
        end, start = (s.whole("Gather", both, s.integers(k), axis=0) for k in (0, 1))
        allowed = s.whole("And", s.whole("Less", places, end), s.whole("GreaterOrEqual", places, start))
    elif shape in ((h.batch, h.columns), (h.batch, h.rows, h.columns)):
        full = (h.batch, 1, 1 if len(shape) == 2 else h.rows, h.columns)
        allowed = s.whole("Greater", s.reshape_whole(name, full), s.integers(0))
    else:
        raise UnsupportedOperator(f"a mask of shape {list(shape)} for scores of shape {[h.batch, h.queries, h.rows, h.columns]}")
    added = s.step("Where", allowed, s.constant(0.0), s.constant(value))
    wide = (h.batch, 1, h.rows if len(shape) == 3 else 1, h.columns)
    if bias.added is None:
        bias.added, bias.shape = added, wide
        return
    bias.added = s.step("Add", bias.added, added)
    bias.shape = tuple(max(a, b) for a, b in zip(bias.shape, wide, strict=True))


def _delivered(s: Writer, stages: Scores, parts: dict[int, str], h: Heads, v: str, qk: int | None) -> Any:
    e = s.e
    joined_heads(s, weighted(s, stages.weights, v, h), h, e.outputs[0])
    for i, name in parts.items():
        if (present := wanted(e, i)) is not None:
            s.step("Identity", name, output=present)
    if qk is not None and (shown := wanted(e, qk)) is not None:
        s.step("Store", s.step("OrLowest", stages.masked, inner=True, domain="certify"), output=shown, domain="certify")
    return s.parts


def multi_head_attention(
    e: Expansion, *, num_heads: int, mask_filter_value: float = _FILTER, scale: float = 0.0, unidirectional: int = 0
) -> Any:
    """Y, present_key, present_value, and scores with bias and mask."""
    _refuse(past_sequence_length=operand(e, 8), cache_indirection=operand(e, 9))
    s = Writer(e)
    sizes = [shape[2] if len(shape) == 3 else num_heads * shape[3] for shape in e.shapes[:3]]
    names, shapes = [given(e, i) for i in range(3)], list(e.shapes[:3])
    if operand(e, 3) is not None:
        ends = np.cumsum([0, *sizes])
        for i, name in enumerate(names):
            if len(shapes[i]) != 3:
                raise UnsupportedOperator("a bias of keys and values that are already split into heads")
            names[i] = s.step("Add", name, sliced(s, given(e, 3), 0, int(ends[i]), int(ends[i + 1])))
    (q, q_shape), (k, k_shape), (v, v_shape) = (split_heads(s, n, shape, num_heads) for n, shape in zip(names, shapes, strict=True))
    past, past_value = operand(e, 6), operand(e, 7)
    before = 0 if past is None else e.shapes[6][2]
    k, k_shape = with_past(s, past, e.shapes[6] if past else (), k, k_shape)
    v, v_shape = with_past(s, past_value, e.shapes[7] if past_value else (), v, v_shape)
    h = heads_of(q_shape, k_shape, v_shape)
    bias = Bias()
    take_mask(s, bias, 5, "attention_bias", h, False)
    filtered(s, bias, 4, h, mask_filter_value)
    if unidirectional and h.rows > 1:
        bias.restrict(causal(h, before))
    stages = scores_of(s, q, k, h, bias, 0.0, False, alpha=_alpha(scale), root=h.size)
    return _delivered(s, stages, {1: k, 2: v}, h, v, 3)


def fused_attention(
    e: Expansion,
    *,
    num_heads: int,
    unidirectional: int = 0,
    qkv_hidden_sizes: Any = None,
    past_present_share_buffer: int = 0,
    do_rotary: int = 0,
    rotary_embedding_dim: int = 0,
    mask_filter_value: float = _FILTER,
    scale: float = 0.0,
) -> Any:
    """input W + bias, cut into Q, K and V; Y, and keys and values with those of the past in one tensor."""
    _refuse(do_rotary=do_rotary, past_present_share_buffer=past_present_share_buffer, past_sequence_length=operand(e, 6))
    s = Writer(e)
    batch, length, _ = e.shapes[0]
    sizes = tuple(qkv_hidden_sizes or ()) or (e.shapes[1][1] // 3,) * 3
    projected = s.step("RescaledMatMul", given(e, 0), given(e, 1), operand(e, 2), domain="certify")
    ends = np.cumsum([0, *sizes])
    cuts = [sliced(s, projected, 2, int(ends[i]), int(ends[i + 1])) for i in range(3)]
    split = [split_heads(s, name, (batch, length, size), num_heads) for name, size in zip(cuts, sizes, strict=True)]
    (q, q_shape), (k, k_shape), (v, v_shape) = split
    past, before = operand(e, 4), 0
    if past is not None:
        before, kept = e.shapes[4][3], (batch, num_heads, e.shapes[4][3], e.shapes[4][4])
        pasts = [s.reshape(sliced(s, past, 0, i, i + 1), kept) for i in (0, 1)]
        (k, k_shape), (v, v_shape) = (
            with_past(s, pasts[i], kept, name, shape) for i, (name, shape) in enumerate(((k, k_shape), (v, v_shape)))
        )
    h = heads_of(q_shape, k_shape, v_shape)
    bias = Bias()
    take_mask(s, bias, 5, "attention_bias", h, False)
    filtered(s, bias, 3, h, mask_filter_value)
    if unidirectional and h.rows > 1:
        bias.restrict(causal(h, before))
    stages = scores_of(s, q, k, h, bias, 0.0, False, alpha=_alpha(scale), root=h.size)
    parts = {}
    if wanted(e, 1) is not None:
        if k_shape != v_shape:
            raise UnsupportedOperator("its output 'present' of keys and values of different sizes")
        parts = {1: s.step("Concat", s.reshape(k, (1, *k_shape)), s.reshape(v, (1, *v_shape)), axis=0)}
    return _delivered(s, stages, parts, h, v, None)


def rotary_embedding(
    e: Expansion,
    *,
    interleaved: int = 0,
    rotary_embedding_dim: int = 0,
    num_heads: int = 0,
    scale: float = 1.0,
    is_packed_batching: int = 0,
) -> Any:
    """Positions by batch and place, or one number from which they count up."""
    _refuse(is_packed_batching=is_packed_batching, scale=scale != 1.0)
    s = Writer(e)
    shape, width = e.shapes[0], 2 * e.shapes[2][1]
    size = shape[3] if len(shape) == 4 else shape[2] // num_heads if num_heads else width
    split = (shape[0], shape[1], shape[2] // size, size) if len(shape) == 3 else shape
    batch, length = (shape[0], shape[1]) if len(shape) == 3 else (shape[0], shape[2])
    if rotary_embedding_dim not in (0, width) or width > size:
        raise UnsupportedOperator(f"caches for {width} rotated elements of {size}, rotary_embedding_dim {rotary_embedding_dim}")
    positions = given(e, 1)
    if int(np.prod(e.shapes[1])) == 1 and (batch, length) != (1, 1):
        counted = s.whole("Add", s.integers(np.arange(length).reshape((1, length))), s.reshape_whole(positions, (1, 1)))
        places: tuple[int, ...] = (1, length)
    else:
        counted, places = positions, (batch, length)
    caches = [s.step("Gather", given(e, i), counted, axis=0) for i in (2, 3)]
    fitted = (places[0], places[1], 1, width // 2) if len(shape) == 3 else (places[0], 1, places[1], width // 2)
    cos, sin = (s.reshape(cache, fitted) for cache in caches)
    x = given(e, 0)
    if len(shape) == 4:
        rotated(s, x, shape, cos, sin, width, bool(interleaved), e.outputs[0])
    else:
        s.reshape(rotated(s, s.reshape(x, split), split, cos, sin, width, bool(interleaved)), shape, e.outputs[0])
    return s.parts


def group_query_attention(
    e: Expansion,
    *,
    num_heads: int,
    kv_num_heads: int,
    seqlens_k: Any,
    total_sequence_length: Any,
    scale: float = 0.0,
    softcap: float = 0.0,
    local_window_size: int = -1,
    do_rotary: int = 0,
    rotary_interleaved: int = 0,
    smooth_softmax: int = -1,
    qk_output: int = 0,
    causal: int = 1,
    **more: Any,
) -> Any:
    """Y, present keys and values; a query looks at `local_window_size` keys, its own included.

    Operands: query, key, value, past_key, past_value, cos, sin, position_ids, attention_bias, and more that are refused.
    """
    _refuse(
        qk_output=qk_output,
        smooth_softmax=smooth_softmax == 1,
        output_qk=wanted(e, 3),
        bidirectional=not causal,
        sliding_window_cache=more.get("sliding_window_cache", 0),
        quantized_cache=more.get("k_quant_type", "NONE") != "NONE" or more.get("v_quant_type", "NONE") != "NONE",
        **{name: operand(e, i) for i, name in enumerate(_LATER, 9)},
    )
    s = Writer(e)
    total = int(np.ravel(total_sequence_length)[0])
    if np.any(np.ravel(seqlens_k) + 1 != total):
        raise UnsupportedOperator("texts of different lengths, or padded ones")
    batch, length, hidden = e.shapes[0]
    packed = operand(e, 1) is None
    size = hidden // (num_heads + 2 * kv_num_heads if packed else num_heads)
    if packed:
        ends = np.cumsum([0, num_heads * size, kv_num_heads * size, kv_num_heads * size])
        names = [sliced(s, given(e, 0), 2, int(ends[i]), int(ends[i + 1])) for i in range(3)]
    else:
        names = [given(e, i) for i in range(3)]
    counts = (num_heads, kv_num_heads, kv_num_heads)
    split = [split_heads(s, name, (batch, length, count * size), count) for name, count in zip(names, counts, strict=True)]
    (q, q_shape), (k, k_shape), (v, v_shape) = split
    before = total - length
    if do_rotary:
        q, k = (_turned(s, x, shape, before, rotary_interleaved) for x, shape in ((q, q_shape), (k, k_shape)))
    held = e.shapes[3][2] if operand(e, 3) is not None else 0
    if before < 0 or (before and held < before):
        raise UnsupportedOperator(f"{total} keys in all, of which {length} are new and {held} cached")
    if before:
        k, k_shape = with_past(s, sliced(s, given(e, 3), 2, 0, before), (*k_shape[:2], before, size), k, k_shape)
        v, v_shape = with_past(s, sliced(s, given(e, 4), 2, 0, before), (*v_shape[:2], before, size), v, v_shape)
    h = heads_of(q_shape, k_shape, v_shape)
    bias = Bias()
    take_mask(s, bias, 8, "attention_bias", h, False)
    bias.restrict(window(h, before, local_window_size - 1 if local_window_size > 0 else -1, 0))
    stages = scores_of(s, q, k, h, bias, softcap, False, alpha=_alpha(scale), root=size)
    spare = np.asarray([0, 0, 0, 0, 0, 0, max(held - total, 0), 0])
    presents = {i: s.step("Pad", x, pads=spare) if spare.any() else x for i, x in ((1, k), (2, v))}
    return _delivered(s, stages, presents, h, v, None)


def _turned(s: Writer, x: str, shape: tuple[int, ...], before: int, interleaved: int) -> str:
    """Rotated by position, which counts on from the past unless given."""
    width, positions = 2 * s.e.shapes[5][1], operand(s.e, 7)
    places = (1, 1, shape[2], width // 2)
    if positions is not None:
        caches = [s.step("Gather", given(s.e, i), positions, axis=0) for i in (5, 6)]
        places = (shape[0], 1, shape[2], width // 2)
    else:
        caches = [sliced(s, given(s.e, i), 0, before, before + shape[2]) for i in (5, 6)]
    cos, sin = (s.reshape(cache, places) for cache in caches)
    return rotated(s, x, shape, cos, sin, width, bool(interleaved))


_LATER = ("head_sink", "k_scale", "v_scale", "q_norm_weight", "k_norm_weight", "query_seqlens")
_GROUPED = ("query", "key", "value", "past_key", "past_value", "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache")

register(
    Composite("RotaryEmbedding", 1, ("input", "position_ids", "cos_cache", "sin_cache"), rotary_embedding, domain=_MS),
    Composite(
        "Attention",
        1,
        ("input", "weights", "bias", "mask_index", "past", "attention_bias", "past_sequence_length"),
        fused_attention,
        domain=_MS,
        outputs=2,
    ),
    Composite(
        "MultiHeadAttention",
        1,
        (
            "query",
            "key",
            "value",
            "bias",
            "key_padding_mask",
            "attention_bias",
            "past_key",
            "past_value",
            "past_sequence_length",
            "cache_indirection",
        ),
        multi_head_attention,
        domain=_MS,
        outputs=4,
    ),
    Composite(
        "GroupQueryAttention",
        1,
        (*_GROUPED, "position_ids", "attention_bias", *_LATER),
        group_query_attention,
        frozenset({"seqlens_k", "total_sequence_length"}),
        domain=_MS,
        outputs=4,
    ),
)
