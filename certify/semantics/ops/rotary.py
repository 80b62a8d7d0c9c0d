"""RotaryEmbedding: pairs of a head's elements turned by an angle whose cosine and sine are given, as a script of primitives.

Source: https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html. Covered: products stored, kept in the kernel's format, or one of
them fused into the sum (FMA, one rounding less).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.writer import Writer


def sliced(s: Writer, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
    """x[..., start:end:step, ...] along `axis`."""
    return s.step("Slice", x, starts=np.asarray([start]), ends=np.asarray([end]), axes=np.asarray([axis]), steps=np.asarray([step]))


def rotated(
    s: Writer, x: str, shape: tuple[int, ...], cos: str, sin: str, width: int, interleaved: bool, output: str | None = None, axis: int = 3
) -> str:
    """x, four axes, its first `width` elements along the last in pairs (k, k + width/2), or (2k, 2k + 1) if interleaved.

    cos, sin: shaped to broadcast against one element of every pair.
    """
    step = 2 if interleaved else 1
    half = width // 2
    first = sliced(s, x, axis, 0, width if interleaved else half, step)
    second = sliced(s, x, axis, 1 if interleaved else half, width, step)

    def product(a: str, b: str) -> str:
        return s.step("Held", s.step("Mul", a, b), inner=True, domain="certify")

    real = s.step("Sub", product(first, cos), product(second, sin))
    imaginary = s.step("Add", product(first, sin), product(second, cos))
    if interleaved:
        pairs = [s.reshape(part, (*shape[:3], half, 1)) for part in (real, imaginary)]
        turned = s.reshape(s.step("Concat", *pairs, axis=4), (*shape[:3], width))
    else:
        turned = s.step("Concat", real, imaginary, axis=axis)
    if width < shape[3]:
        turned = s.step("Concat", turned, sliced(s, x, axis, width, shape[3]), axis=axis)
    return s.step("Identity", turned, output=output) if output else turned


def rotary_embedding(e: Expansion, *, interleaved: int = 0, rotary_embedding_dim: int = 0, num_heads: int = 0) -> Any:
    """X (batch, heads, length, size) or (batch, length, heads x size); caches by position, or by batch and place."""
    s = Writer(e)
    x, cos, sin = (e.operands[i] for i in range(3))
    positions = e.operands[3] if len(e.operands) > 3 else None
    assert x is not None
    assert cos is not None
    assert sin is not None
    given = e.shapes[0]
    if len(given) == 3 and (num_heads < 1 or given[2] % num_heads):
        raise UnsupportedOperator(f"an operand of shape {list(given)} is not {num_heads} heads")
    shape = given if len(given) == 4 else (*given[:2], num_heads, given[2] // num_heads)
    batch, length = shape[0], shape[2] if len(given) == 4 else shape[1]
    width = rotary_embedding_dim or shape[3]
    if positions is not None:
        cos, sin = (s.step("Gather", cache, positions, axis=0) for cache in (cos, sin))
    if e.shapes[1][-1] != width // 2 or e.shapes[2] != e.shapes[1] or width > shape[3]:
        raise UnsupportedOperator(f"caches of shape {list(e.shapes[1])} for {width} rotated elements of {shape[3]}")
    places = (batch, 1, length, width // 2) if len(given) == 4 else (batch, length, 1, width // 2)
    cos, sin = s.reshape(cos, places), s.reshape(sin, places)
    if len(given) == 4:
        rotated(s, x, shape, cos, sin, width, bool(interleaved), e.outputs[0])
    else:
        s.reshape(rotated(s, s.reshape(x, shape), shape, cos, sin, width, bool(interleaved)), given, e.outputs[0])
    return s.parts


register(Composite("RotaryEmbedding", 23, ("X", "cos_cache", "sin_cache", "position_ids"), rotary_embedding))
