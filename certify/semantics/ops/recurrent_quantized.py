"""DynamicQuantizeLSTM: LSTM whose input and hidden state the kernel quantizes by their own ranges, with quantized weights.

Source: onnxruntime's ContribOperators.md and its kernel, which is the one of LSTM but for its two products. The real function is the
LSTM with the weights that the integers stand for, unrolled as LSTM is. In each step the hidden state is quantized once for all gates,
by the range of some of its sequences (which ones depends on the number of threads), the states of sequences that are over or zeros in
their place among them; the input in each direction once for all gates, by the range of all of it or less. A state of zeros is
exact whatever its scale (semantics/ops/dynamic_quantization). Sums of both products, biases and peepholes are added in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.writer import Parts, Writer
from certify.semantics.ops.dynamic_quantization import largest_sum, product, quantized_operand, real_weights, shaped
from certify.semantics.ops.qlinear import MS
from certify.semantics.ops.recurrent import (
    LSTM_ACTIVATIONS,
    Attributes,
    Kind,
    Layer,
    Products,
    Seen,
    Weights,
    addends,
    checked,
    directions,
    lstm_step,
    unrolled,
)

_GATES = 4
_POSITIONS = {"W": (1, 7, 8), "R": (2, 9, 10)}  # matrix, scale, zero point among the operands, of which sequence_lens is none


@dataclass(frozen=True)
class Quantized:
    """A matrix of one direction: its real weights (1, inputs, 4 hidden), their scales, and the largest sum of its products of integers."""

    weights: str
    scale: str
    times: float

    def product(self, w: Writer, x: str) -> str:
        return product(w, x, quantized_operand(w, x), self.weights, self.scale, self.times)


@dataclass(frozen=True)
class Apart:
    """x W, which is what a frame is, and h R, each (1, batch, 4 hidden) and rounded by itself, then added up with the addends."""

    writer: Writer
    state: Quantized
    hidden: int

    def beside(self, x: str, h: str) -> Seen:
        w, H = self.writer, self.hidden
        both = x, self.state.product(w, h)
        return tuple(w.part(y, [2], [k * H], [(k + 1) * H]) for k in range(_GATES) for y in both)

    def sums(self, seen: Seen, gate: int, *addends: str | None) -> str:
        return self.writer.put("Sum", *seen[2 * gate : 2 * gate + 2], *(c for c in addends if c is not None), domain="certify")


def _matrices(w: Writer, layer: Layer, name: str) -> Sequence[Quantized]:
    """Of each direction, W or R."""
    e, count, (matrix, scale, zero) = w.e, len(layer.directions), _POSITIONS[name]
    rows = (count,), (count, _GATES * layer.hidden)
    if e.shapes[scale] not in rows or e.shapes[zero] not in rows:
        raise UnsupportedOperator(f"scales {list(e.shapes[scale])} and zero points {list(e.shapes[zero])} of {name}")
    if count > 1 and len(e.shapes[zero]) < len(e.shapes[scale]):
        raise UnsupportedOperator(
            f"one zero point of {name} a direction beside scales by column: onnxruntime's kernel reads the second one's behind their end"
        )
    weights, *given = (e.operands[k] for k in _POSITIONS[name])
    assert weights is not None
    shapes = [(count, 1, 1 if len(e.shapes[k]) == 1 else _GATES * layer.hidden) for k in (scale, zero)]
    scales, zeros = (shaped(w, x, shape) for x, shape in zip(given, shapes, strict=True) if x is not None)
    real = real_weights(w, weights, zeros, scales)
    held = e.constants.get(f"{name}_zero_point")
    times = largest_sum(e.constants.get(name), None if held is None else held.reshape(shapes[1]), e.shapes[matrix][1])
    return [Quantized(w.part(real, [0], [d], [d + 1]), w.part(scales, [0], [d], [d + 1]), times) for d in range(count)]


def _read(w: Writer, layer: Layer) -> Sequence[tuple[list[str], Products, Weights]]:
    """Frames of x W, which are formed for all times at once."""
    x = w.e.operands[0]
    assert x is not None
    inputs, states = _matrices(w, layer, "W"), _matrices(w, layer, "R")
    return [
        (w.pieces(W.product(w, x), 0, layer.times), Apart(w, R, layer.hidden), addends(w, layer, d))
        for d, (W, R) in enumerate(zip(inputs, states, strict=True))
    ]


def _layer(e: Expansion, gates: int, given: Attributes) -> Layer:
    """W is (directions, inputs, 4 hidden) and R (directions, hidden, 4 hidden)."""
    (times, batch, inputs), r, turns = e.shapes[0], e.shapes[2], directions(given)
    layer = checked(Layer(gates, 0, times, batch, inputs, r[1], turns), given)
    if e.shapes[1] != (len(turns), inputs, gates * layer.hidden) or r != (len(turns), layer.hidden, gates * layer.hidden):
        raise UnsupportedOperator(f"W of shape {list(e.shapes[1])} and R of shape {list(r)}")
    return layer


def lstm(e: Expansion, *, input_forget: int = 0, **attributes: Any) -> Parts:
    """LSTM with the weights that the integers stand for, unrolled; kernels quantize X and h by their ranges."""
    return unrolled(e, Kind(_GATES, 2, lstm_step(bool(input_forget)), LSTM_ACTIVATIONS, _layer, _read), Attributes(**attributes))


_OPERANDS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P", "W_scale", "W_zero_point", "R_scale", "R_zero_point")

register(Composite("DynamicQuantizeLSTM", 1, _OPERANDS, lstm, static=frozenset({"sequence_lens"}), domain=MS, outputs=3))
