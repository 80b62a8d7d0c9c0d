"""com.microsoft.nchwc: convolutions and poolings in onnxruntime's blocked layout, as moves around ONNX's own rows.

A blocked tensor's elements stand in the order of memory (certify/graph/domains/nchwc.py), so that any other operator of the graph reads
it as it is. `Unblocked` gives it back as (N, C, H, W), the operator follows, and `Blocked` orders its result; both copy. Weights are
stored reordered, OIHWBiBo where a group's input channels fill whole blocks, else OIHWBo, which is undone before anything is computed.
Padded channels are zeros with zero weights. Which algorithm runs, and so how X and W lie, is MlasNchwcConv's decision:

- a group's input channels are b or more: X and W are blocked, in channels too;
- one input and one output channel a group (depthwise): X is blocked, W only in outputs;
- fewer than b input channels, one group: X is plain, W blocked in outputs.

Source: onnxruntime, contrib_ops/cpu/nchwc_ops.cc and mlas/lib (snchwc.cpp, reorder.cpp).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from certify.graph.domains.nchwc import block_size
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.movement import Movement
from certify.semantics.ops.fused import Parts, convolved

_DOMAIN = "com.microsoft.nchwc"


def _unblocked(x: Any, block: int) -> Any:
    """(N, C, H, W) of what lies as (N, C/b, H, W, b)."""
    cases, n, channels, h, w = x.shape
    return x.reshape(cases, n, channels // block, h, w, block).transpose(0, 1, 2, 5, 3, 4).reshape(x.shape)


def _blocked(x: Any, block: int) -> Any:
    """(N, C, H, W) as it lies in memory, (N, C/b, H, W, b)."""
    cases, n, channels, h, w = x.shape
    return x.reshape(cases, n, channels // block, block, h, w).transpose(0, 1, 2, 4, 5, 3).reshape(x.shape)


def _entering(x: Any, block: int, channels_last: int = 0) -> Any:
    """Channels first, zeros up to whole blocks, blocked."""
    x = x.transpose(0, 1, 4, 2, 3) if channels_last else x
    missing = -x.shape[2] % block
    if missing:
        x = np.concatenate([x, np.zeros((*x.shape[:2], missing, *x.shape[3:]), dtype=x.dtype)], axis=2)
    return _blocked(x, block)


def _leaving(x: Any, block: int, channels: int, channels_last: int = 0) -> Any:
    """The first channels of an unblocked tensor, last if asked for."""
    x = _unblocked(x, block)[:, :, :channels]
    return x.transpose(0, 1, 3, 4, 2) if channels_last else x


def _weights(w: Any, block: int, both: int) -> Any:
    """(O, I, KH, KW) of weights that lie as (O/b, I/b, KH, KW, b of I, b of O), or as (O/b, I, KH, KW, b) unless `both`."""
    cases, o, i, h, k = w.shape
    if both:
        return w.reshape(cases, o // block, i // block, h, k, block, block).transpose(0, 1, 6, 2, 5, 3, 4).reshape(w.shape)
    return w.reshape(cases, o // block, i, h, k, block).transpose(0, 1, 5, 2, 3, 4).reshape(w.shape)


def _repeated(x: Any, block: int, scales: tuple[int, ...]) -> Any:
    """Every element scales[2] by scales[3] times."""
    return _blocked(_unblocked(x, block).repeat(scales[2], axis=3).repeat(scales[3], axis=4), block)


def _move(name: str, source: str | None, target: str, **attributes: Any) -> Primitive:
    return Primitive(name, (source,), target, {"block": block_size(), **attributes}, inner=False, domain="certify")


def _wanted(e: Expansion) -> str:
    y = e.outputs[0]
    assert y is not None
    return y


def reorder_input(e: Expansion, *, channels_last: int = 0) -> Parts:
    """Zeros up to whole blocks of channels, then the blocked order."""
    return [_move("Entering", e.operands[0], _wanted(e), channels_last=channels_last)], {}


def reorder_output(e: Expansion, *, channels: int = 0, channels_last: int = 0) -> Parts:
    """The first `channels` of a blocked tensor, in the order that ONNX has."""
    return [_move("Leaving", e.operands[0], _wanted(e), channels=channels, channels_last=channels_last)], {}


def upsample(e: Expansion, *, scales: tuple[int, ...], mode: str = "nearest", coordinate_transformation_mode: str = "asymmetric") -> Parts:
    """Every element repeated, by whole scales, or linear between elements as Resize is."""
    if mode == "linear" and coordinate_transformation_mode in ("asymmetric", "align_corners", "half_pixel"):
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinate_transformation_mode, "scales": np.asarray(scales, float)}
        return [
            _move("Unblocked", e.operands[0], e.name("plain")),
            Primitive("Resize", (e.name("plain"),), e.name("result"), attributes, inner=False),
            _move("Blocked", e.name("result"), _wanted(e)),
        ], {}
    if mode != "nearest":
        raise UnsupportedOperator(f"its mode {mode!r} with {coordinate_transformation_mode!r}")
    return [_move("Enlarged", e.operands[0], _wanted(e), scales=tuple(int(s) for s in scales))], {}


def conv(e: Expansion, **attributes: Any) -> Parts:
    """act(conv(X, W) + B + Sum), W as it was reordered; Sum and the result blocked."""
    block, (x, w) = block_size(), e.shapes[:2]
    group = int(attributes.get("group", 1))
    inner, outer = x[1] // max(1, group), w[0] // max(1, group)
    if len(x) != 4 or len(w) != 4 or group < 1 or x[1] != inner * group or w[0] != outer * group or w[1] != inner or w[0] % block:
        raise UnsupportedOperator(f"operands {list(x)} and {list(w)} in {group} groups and blocks of {block}")
    dense, depthwise, direct = inner >= block, inner == outer == 1, inner < block and group == 1
    whole = (dense and inner % block == 0 and outer % block == 0) or (depthwise and x[1] % block == 0)
    if not (whole or (direct and not depthwise)):
        raise UnsupportedOperator(f"{inner} input and {outer} output channels in each of {group} groups, in blocks of {block}")
    entering = [_move("Unblocked", e.operands[0], e.name("plain"))] if whole else []
    weights = [_move("Weights", e.operands[1], e.name("weights"), both=int(dense))]
    summed = e.operands[3] if len(e.operands) > 3 else None
    addend = [] if summed is None else [_move("Unblocked", summed, e.name("addend"))]
    operands = (*e.operands[:2], *(e.operands[2:3] or (None,)), *([e.name("addend")] if addend else []))
    part = replace(e, operands=operands)
    first = e.name("plain") if whole else e.operands[0]
    computed, constants = convolved(part, first, e.name("weights"), e.name("result"), attributes)
    return [*entering, *weights, *addend, *computed, _move("Blocked", e.name("result"), _wanted(e))], constants


def _pooling(name: str) -> Composite:
    def pool(e: Expansion, **attributes: Any) -> Parts:
        """The pooling of every channel by itself."""
        if len(e.shapes[0]) != 4 or e.shapes[0][1] % block_size():
            raise UnsupportedOperator(f"an operand {list(e.shapes[0])}, which is not whole blocks of channels")
        if attributes.get("ceil_mode", 0) and attributes.get("count_include_pad", 0):
            raise UnsupportedOperator("ceil_mode with count_include_pad, where it counts what lies beyond the padding")
        return [
            _move("Unblocked", e.operands[0], e.name("plain")),
            Primitive(name, (e.name("plain"),), e.name("result"), attributes, inner=False),
            _move("Blocked", e.name("result"), _wanted(e)),
        ], {}

    return Composite(name, 1, ("X",), pool, domain=_DOMAIN)


register(
    *(
        Movement(name, 1, ("X",), value, domain="certify")
        for name, value in (
            ("Unblocked", _unblocked),
            ("Blocked", _blocked),
            ("Entering", _entering),
            ("Leaving", _leaving),
            ("Weights", _weights),
            ("Enlarged", _repeated),
        )
    ),
    Composite("ReorderInput", 1, ("X",), reorder_input, domain=_DOMAIN),
    Composite("ReorderOutput", 1, ("X",), reorder_output, domain=_DOMAIN),
    Composite("Upsample", 1, ("X",), upsample, domain=_DOMAIN),
    Composite("Conv", 1, ("X", "W", "B", "Sum"), conv, domain=_DOMAIN),
    *map(_pooling, ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")),
)
