"""com.microsoft's normalizations of sums: SkipLayerNormalization, SkipSimplifiedLayerNormalization, EmbedLayerNormalization.

The sum is stored, as CUDA's kernels do, or kept in the kernel's format, as the CPU's; its terms are added in any order. The
normalizations are those of ops/normalization. Source: onnxruntime's ContribOperators.md. Its CPU kernels give no mean and no
inverse deviation; EmbedLayerNormalization runs there in fp32 alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.writer import Writer
from certify.semantics.ops.normalization import layer_normalization, rms_normalization

_MS = "com.microsoft"
_EPSILON = float(np.float32(1e-12))


def _wanted(e: Expansion, i: int) -> str | None:
    return e.outputs[i] if i < len(e.outputs) else None


def _given(e: Expansion, i: int) -> str | None:
    return e.operands[i] if i < len(e.operands) else None


def _normalized(
    s: Writer,
    terms: list[str],
    shape: tuple[int, ...],
    parameters: tuple[str | None, ...],
    outputs: tuple[str | None, ...],
    total: str | None,
    normalization: Callable[..., Any],
    epsilon: float,
) -> Any:
    """The normalization of the sum of all terms, which is delivered in `total` as well."""
    added = s.step("Held", s.step("Sum", *terms, output=total), inner=True, domain="certify")
    shapes = (shape, *((shape[-1],) if name is not None else () for name in parameters))
    inside = replace(s.e, operands=(added, *parameters), shapes=shapes, outputs=outputs)
    primitives, constants = normalization(inside, axis=-1, epsilon=epsilon)
    return [*s.primitives, *primitives], s.constants | constants


def skip_layer_normalization(e: Expansion, *, epsilon: float = _EPSILON) -> Any:
    s = Writer(e)
    terms = [name for name in (e.operands[0], e.operands[1], _given(e, 4)) if name is not None]
    outputs = (e.outputs[0], _wanted(e, 1), _wanted(e, 2))
    return _normalized(s, terms, e.shapes[0], (e.operands[2], _given(e, 3)), outputs, _wanted(e, 3), layer_normalization, epsilon)


def skip_rms_normalization(e: Expansion, *, epsilon: float = _EPSILON) -> Any:
    if _wanted(e, 1) is not None:
        raise UnsupportedOperator("its output 'mean', which this normalization does not have")
    s = Writer(e)
    terms = [name for name in (e.operands[0], e.operands[1], _given(e, 3)) if name is not None]
    return _normalized(s, terms, e.shapes[0], (e.operands[2],), (e.outputs[0], _wanted(e, 2)), _wanted(e, 3), rms_normalization, epsilon)


def embed_layer_normalization(e: Expansion, *, epsilon: float = _EPSILON, mask_index_type: int = 0) -> Any:
    """Rows of three tables added and normalized; mask_index counts the ones of each text's mask."""
    s = Writer(e)
    ids, segments, words, places, kinds = e.operands[:5]
    mask, positions = _given(e, 7), _given(e, 8)
    shape = (*e.shapes[0], e.shapes[2][1])
    if (segments is None) != (kinds is None):
        raise UnsupportedOperator("segment_ids and segment_embedding come together")
    if positions is not None:
        place = s.step("Gather", places, positions, axis=0)
    else:
        place = s.step("Slice", places, starts=np.asarray([0]), ends=np.asarray([shape[1]]), axes=np.asarray([0]))
    terms = [s.step("Gather", words, ids, axis=0), place]
    terms += [] if segments is None else [s.step("Gather", kinds, segments, axis=0)]
    counted = _wanted(e, 1)
    if counted is not None:
        ones = s.whole("Sub", ids, ids) if mask is None else s.whole("Equal", mask, s.integers(1))
        s.whole("ReduceSum", ones, output=counted, axes=np.asarray([1]), keepdims=0)
    return _normalized(s, terms, shape, (e.operands[5], e.operands[6]), (e.outputs[0],), _wanted(e, 2), layer_normalization, epsilon)


register(
    Composite("SkipLayerNormalization", 1, ("input", "skip", "gamma", "beta", "bias"), skip_layer_normalization, domain=_MS, outputs=4),
    Composite("SkipSimplifiedLayerNormalization", 1, ("input", "skip", "gamma", "bias"), skip_rms_normalization, domain=_MS, outputs=4),
    Composite(
        "EmbedLayerNormalization",
        1,
        (
            "input_ids",
            "segment_ids",
            "word_embedding",
            "position_embedding",
            "segment_embedding",
            "gamma",
            "beta",
            "mask",
            "position_ids",
        ),
        embed_layer_normalization,
        domain=_MS,
        outputs=3,
    ),
)
