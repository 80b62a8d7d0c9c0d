"""CausalConvWithState and LinearAttention, as their function bodies define them.

Source: https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html, onnx__LinearAttention.html.
"""

from __future__ import annotations

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.writer import Parts, Writer


def _operand(e: Expansion, position: int) -> str | None:
    return e.operands[position] if position < len(e.operands) else None


def causal_convolution(e: Expansion, *, activation: str = "none") -> Parts:
    """A depthwise Conv over the past state and the input, then x sigmoid(x); every part may be stored, or stay in the kernel's format."""
    if activation not in ("none", "silu", "swish"):
        raise UnsupportedOperator(f"its activation is {activation!r}")
    w = Writer(e)
    (batch, channels, length), kernel = e.shapes[0], e.shapes[1][2]
    x, past = e.operands[0], _operand(e, 3)
    assert x is not None
    if kernel > 1:
        before = past or w.constant(np.zeros((batch, channels, kernel - 1)))
        w.primitives.append(Primitive("Concat", (before, x), e.name("whole"), {"axis": 2}, inner=False, like=x))
        x = e.name("whole")
    output = e.outputs[0] or e.name("output")
    attributes = {"group": channels, "kernel_shape": [kernel], "pads": [0, 0], "strides": [1], "dilations": [1]}
    summed = output if activation == "none" else e.name("summed")
    bias = _operand(e, 2)
    w.primitives.append(Primitive("Conv", (x, e.operands[1], *((bias,) if bias else ())), summed, attributes, inner=False))
    if activation != "none":
        w.primitives.append(Primitive("Sigmoid", (summed,), e.name("gate"), inner=False))
        w.put("Mul", summed, e.name("gate"), output=output)
    state = e.outputs[1] if len(e.outputs) > 1 else None
    if state is not None:
        whole = length + kernel - 1
        w.put("Slice", x, axes=np.asarray([2]), starts=np.asarray([whole - kernel + 1]), ends=np.asarray([whole]), output=state)
    return w.parts


def linear_attention(
    e: Expansion, *, q_num_heads: int, kv_num_heads: int, scale: float = 0.0, update_rule: str = "gated_delta", chunk_size: int = 64
) -> Parts:
    """Unrolled over time: the state, in the kernel's format, decays, is corrected, takes k v, and is read by q, in this order.

    Inner products are added in any order. Kernels that treat a chunk of times at once, or that decay what they read instead of the
    state, associate otherwise and are not covered.
    """
    w, H = Writer(e), kv_num_heads
    rules = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}
    past, decay, beta = (_operand(e, k) for k in (3, 4, 5))
    if update_rule not in rules or rules[update_rule] != (decay is not None, beta is not None):
        raise UnsupportedOperator(
            f"its update_rule {update_rule!r} with{'' if decay else 'out'} decay and with{'' if beta else 'out'} beta"
        )
    if H <= 0 or q_num_heads % H:
        raise UnsupportedOperator(f"{q_num_heads} query heads over {H} heads of keys and values")
    batch, times, width = e.shapes[0]
    depth, groups = width // q_num_heads, q_num_heads // H

    def heads(x: str, *shape: int) -> list[str]:
        """(batch, times, heads ...) cut into times, (batch, heads, 1, ...) each."""
        split = w.moved("Reshape", x, shape=np.asarray((batch, times, *shape)))
        return w.pieces(w.moved("Transpose", split, perm=(0, 2, 1, *range(3, len(shape) + 2))), 2, times)

    def turned(x: str) -> str:
        return w.moved("Transpose", x, perm=(0, 1, 3, 2))

    q, k, v = e.operands[:3]
    assert q is not None
    assert k is not None
    assert v is not None
    across = e.shapes[2][2] // H
    queries, keys, values = heads(q, H, groups, depth), heads(k, H, depth), heads(v, H, across)
    rates = None if beta is None else heads(beta, e.shapes[5][2], 1)
    decays = None if decay is None else heads(w.put("Exp", decay), H, e.shapes[4][2] // H)
    factor = w.constant(scale) if scale else w.put("Reciprocal", w.put("Sqrt", w.constant(float(depth))))
    state = past or w.constant(np.zeros((batch, H, depth, across)))
    read = []
    for t in range(times):
        if decays is not None:
            state = w.put("Mul", state, turned(decays[t]))
        value = values[t]
        if rates is not None:
            value = w.put("Mul", rates[t], w.put("Sub", value, w.put("MatMul", keys[t], state)))
        state = w.put("Add", state, w.put("Mul", turned(keys[t]), value))
        query = w.moved("Reshape", queries[t], shape=np.asarray((batch, H, groups, depth)))
        found = w.put("Mul", factor, w.put("MatMul", query, state))
        read.append(w.put("Reshape", found, shape=np.asarray((batch, 1, q_num_heads * across))))
    if e.outputs[0] is not None:
        w.put("Store", w.joined(read, 1), domain="certify", output=e.outputs[0])
    if len(e.outputs) > 1 and e.outputs[1] is not None:
        w.put("Store", state, domain="certify", output=e.outputs[1])
    return w.parts


register(
    Composite("CausalConvWithState", 27, ("input", "weight", "bias", "past_state"), causal_convolution, outputs=2),
    Composite("LinearAttention", 27, ("query", "key", "value", "past_state", "decay", "beta"), linear_attention, outputs=2),
)
