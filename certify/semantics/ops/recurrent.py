"""RNN, LSTM, GRU: unrolled over time into products, sums and activations, whose results stay in the kernel's own format.

Source: https://onnx.ai/onnx/operators/onnx__RNN.html, onnx__LSTM.html, onnx__GRU.html. Where these leave a choice, onnxruntime's
kernels decide: `clip` bounds the sums that enter f and g, and the cell state enters h as it is; an activation takes the next of
`activation_alpha` (`activation_beta`) if it has such a parameter; behind its length a sequence's outputs are zero, and its last
state is the one at its end (the one at time 0, reversed).

Kernels that are covered: the hidden and the cell state stay in the kernel's format from step to step; the products with W and R
are formed apart (for one step or for all), or in one run, and the biases and peepholes are added whenever (families/accumulation);
a product and a sum may be one fused operation, which rounds less than both; (1 - z) a + z b may be computed as a + z (b - a). Not
covered: a hidden state that is rounded into a narrower storage format before the next step multiplies it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.accumulation import Accumulation
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.block import Block
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.writer import Parts, Writer
from certify.semantics.ops.contraction import MatrixProduct
from certify.semantics.ops.movement import integers
from certify.semantics.ops.recurrent_activations import Activation, activations

Seen = tuple[str, ...]
"""What the gates of one step multiply or add: names that only `Products` understands."""


class Products(Protocol):
    """How a step of one direction forms x W + h R of each gate."""

    def beside(self, x: str, h: str) -> Seen:
        """x, a frame of the input, and h for all gates."""
        ...

    def sums(self, seen: Seen, gate: int, *addends: str | None) -> str:
        """x W + h R + addends of a gate; None is none."""
        ...


@dataclass(frozen=True)
class Joined:
    """[x, h] [W; R] + addends in one accumulator. both: W over R, (1, inputs + hidden, hidden), one a gate."""

    writer: Writer
    both: tuple[str, ...]
    inputs: int

    def beside(self, x: str, h: str) -> Seen:
        return (self.writer.put("Concat", x, h, axis=2),)

    def sums(self, seen: Seen, gate: int, *addends: str | None) -> str:
        return accumulated(self.writer, seen[0], self.both[gate], *addends, split=self.inputs)


def accumulated(w: Writer, a: str, b: str, *addends: str | None, split: int = 0) -> str:
    return w.put("Gemm", a, b, *(c for c in addends if c is not None), domain="certify", split=split)


@dataclass(frozen=True)
class Weights:
    """What one direction adds and multiplies with, one entry a gate; None where absent.

    input, state: W and R for products that a gate forms by itself. peephole: (1, hidden).
    """

    input: tuple[str, ...]
    state: tuple[str, ...]
    input_bias: tuple[str | None, ...]
    state_bias: tuple[str | None, ...]
    peephole: tuple[str | None, ...]


@dataclass(frozen=True)
class Cell:
    """One kind of recurrent layer in one direction: how a step's sums are formed and squashed."""

    writer: Writer
    products: Products
    weights: Weights
    activations: tuple[Activation, ...]
    clip: float | None

    def sums(self, seen: Seen, gate: int, *more: str | None) -> str:
        """x W + h R + biases + more."""
        return self.products.sums(seen, gate, self.weights.input_bias[gate], self.weights.state_bias[gate], *more)

    def squashed(self, position: int, x: str, clipped: bool = True) -> str:
        """An activation of x, its operand clipped first."""
        w = self.writer
        if clipped and self.clip is not None:
            x = w.put("Min", w.put("Max", x, w.constant(-self.clip)), w.constant(self.clip))
        return self.activations[position].apply(w.put, w.constant, x)

    def beside(self, x: str, h: str) -> Seen:
        return self.products.beside(x, h)

    def blend(self, a: str, b: str, z: str) -> str:
        """(1 - z) a + z b, or a + z (b - a): the last step adds what any association rounds."""
        w = self.writer
        one = w.constant(1.0)
        kept = w.put("Mul", w.put("Sub", one, z), a)
        mixed = w.put("Add", kept, w.put("Mul", z, b))
        return w.put("Reassociated", mixed, b, a, z, one, a, domain="certify")


State = tuple[str, ...]
Step = Callable[[Cell, str, State], State]


def rnn_step(cell: Cell, x: str, state: State) -> State:
    """h = f(x W + h R + b)."""
    both = cell.beside(x, state[0])
    start = len(cell.writer.primitives)
    cell.squashed(0, cell.sums(both, 0))
    return (cell.writer.fused(start),)


def lstm_step(input_forget: bool) -> Step:
    """i, o, f = f(...), c' = f c + i g(...), h = o h(c'); peepholes let i and f see c, and o see c'; f = 1 - i
    with input_forget. Gates in ONNX's order i o f c."""

    def step(cell: Cell, x: str, state: State) -> State:
        w = cell.writer
        h, c = state
        both = cell.beside(x, h)

        def peeked(gate: int, seen: str) -> str | None:
            p = cell.weights.peephole[gate]
            return None if p is None else w.put("Mul", p, seen)

        look, glance = peeked(0, c), None if input_forget else peeked(2, c)
        start = len(w.primitives)
        i, g = cell.squashed(0, cell.sums(both, 0, look)), cell.squashed(1, cell.sums(both, 3))
        if input_forget:
            cell.blend(c, g, i)
        else:
            w.put("Add", w.put("Mul", cell.squashed(0, cell.sums(both, 2, glance)), c), w.put("Mul", i, g))
        c = w.fused(start)
        look = peeked(1, c)
        start = len(w.primitives)
        w.put("Mul", cell.squashed(0, cell.sums(both, 1, look)), cell.squashed(2, c, clipped=False))
        return w.fused(start), c

    return step


def gru_step(linear_before_reset: bool) -> Step:
    """z, r = f(...); the candidate is g(x W + (r h) R + b), or g(x W + r (h R + b)); h = (1 - z) candidate + z h. Order z r h."""

    def step(cell: Cell, x: str, state: State) -> State:
        w, h = cell.writer, state[0]
        both = cell.beside(x, h)
        seen = accumulated(w, h, cell.weights.state[2], cell.weights.state_bias[2]) if linear_before_reset else h
        start = len(w.primitives)
        w.put("Mul", cell.squashed(0, cell.sums(both, 1)), seen)
        seen = w.fused(start)
        if not linear_before_reset:
            inputs = cell.beside(x, seen)
        start = len(w.primitives)
        candidate = (
            accumulated(w, x, cell.weights.input[2], cell.weights.input_bias[2], seen) if linear_before_reset else cell.sums(inputs, 2)
        )
        cell.blend(cell.squashed(1, candidate), h, cell.squashed(0, cell.sums(both, 0)))
        return (w.fused(start),)

    return step


@dataclass(frozen=True)
class Layer:
    """Shapes of a node: layout 0 has time first, layout 1 the batch."""

    gates: int
    layout: int
    times: int
    batch: int
    inputs: int
    hidden: int
    directions: tuple[bool, ...]  # reversed or not

    @property
    def frame(self) -> tuple[int, int, int]:
        """The shape of a state, and of a slice of time."""
        return (self.batch, 1, self.hidden) if self.layout else (1, self.batch, self.hidden)


def _factors(w: Writer, layer: Layer, d: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The slices of W and R of direction d, one a gate, cut once."""
    H, (W, R) = layer.hidden, w.e.operands[1:3]
    assert W is not None
    assert R is not None

    def turned(x: str, gate: int) -> str:
        return w.moved("Transpose", w.part(x, [0, 1], [d, gate * H], [d + 1, (gate + 1) * H]), perm=(0, 2, 1))

    return tuple(turned(W, k) for k in range(layer.gates)), tuple(turned(R, k) for k in range(layer.gates))


def addends(w: Writer, layer: Layer, d: int, inputs: tuple[str, ...] = (), states: tuple[str, ...] = ()) -> Weights:
    """The slices of B and P of direction d, cut once, beside those of W and R."""
    H, G, B, P = layer.hidden, layer.gates, operand(w.e, "B"), operand(w.e, "P")

    def cut(x: str | None, k: int) -> str | None:
        return None if x is None else w.part(x, [0, 1], [d, k * H], [d + 1, (k + 1) * H])

    return Weights(
        inputs,
        states,
        tuple(cut(B, k) for k in range(G)),
        tuple(cut(B, G + k) for k in range(G)),
        (*(cut(P, k) for k in range(3)), None),
    )


def joined(w: Writer, layer: Layer) -> Sequence[tuple[list[str], Products, Weights]]:
    """Frames of X, products and weights of each direction."""
    x = w.e.operands[0]
    assert x is not None
    frames, found = w.pieces(x, layer.layout, layer.times), []
    for d in range(len(layer.directions)):
        inputs, states = _factors(w, layer, d)
        both = tuple(w.moved("Concat", a, b, axis=1) for a, b in zip(inputs, states, strict=True))
        found.append((frames, Joined(w, both, layer.inputs), addends(w, layer, d, inputs, states)))
    return found


def operand(e: Expansion, name: str) -> str | None:
    """An optional operand by its name: sequence_lens is no operand here."""
    position = {"B": 3, "initial_h": 4, "initial_c": 5, "P": 6}[name]
    return e.operands[position] if position < len(e.operands) else None


def directions(given: Attributes) -> tuple[bool, ...]:
    turns = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if given.direction not in turns:
        raise UnsupportedOperator(f"its direction is {given.direction!r}")
    return turns[given.direction]


def checked(layer: Layer, given: Attributes) -> Layer:
    if given.hidden_size not in (None, layer.hidden):
        raise UnsupportedOperator(f"its hidden_size is {given.hidden_size}, but R has {layer.hidden}")
    if not layer.times:
        raise UnsupportedOperator("its sequence has no elements")
    return layer


def _layer(e: Expansion, gates: int, given: Attributes) -> Layer:
    layout = given.layout
    x, r = e.shapes[0], e.shapes[2]
    times, batch = (x[1], x[0]) if layout else (x[0], x[1])
    return checked(Layer(gates, layout, times, batch, x[2], r[2], directions(given)), given)


def _lengths(layer: Layer, sequence_lens: Any) -> list[int]:
    lengths = [layer.times] * layer.batch if sequence_lens is None else list(integers(sequence_lens))
    if len(lengths) != layer.batch or not all(0 < n <= layer.times for n in lengths):
        raise UnsupportedOperator(f"sequence_lens {lengths} of sequences of {layer.times} (a length of 0 has no last state)")
    return lengths


@dataclass(frozen=True)
class Attributes:
    """ONNX's attributes that the three operators share, and their lengths."""

    activations: Sequence[str] | None = None
    activation_alpha: Sequence[float] = ()
    activation_beta: Sequence[float] = ()
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None
    layout: int = 0
    sequence_lens: Any = None


@dataclass(frozen=True)
class Kind:
    """An operator: how many gates and states, one step, a direction's activations, and how it reads its operands.

    read: frames of X, products and weights of each direction.
    """

    gates: int
    states: int
    step: Step
    default: tuple[str, ...]
    layer: Callable[[Expansion, int, Attributes], Layer] = _layer
    read: Callable[[Writer, Layer], Sequence[tuple[list[str], Products, Weights]]] = joined


def unrolled(e: Expansion, kind: Kind, given: Attributes) -> Parts:
    """Each direction by itself, then its outputs side by side."""
    w = Writer(e)
    layer, each = kind.layer(e, kind.gates, given), len(kind.default)
    lengths = _lengths(layer, given.sequence_lens)
    chosen = activations(given.activations or kind.default * len(layer.directions), given.activation_alpha, given.activation_beta)
    if len(chosen) != each * len(layer.directions):
        raise UnsupportedOperator(f"{len(chosen)} activations for {len(layer.directions)} directions")
    sequences, lasts = [], []
    for d, (frames, products, weights) in enumerate(kind.read(w, layer)):
        cell = Cell(w, products, weights, chosen[d * each : (d + 1) * each], given.clip)
        state = tuple(_initial(w, layer, ("initial_h", "initial_c")[k], d) for k in range(kind.states))
        steps: list[str] = [""] * layer.times
        for t in reversed(range(layer.times)) if layer.directions[d] else range(layer.times):
            new = kind.step(cell, frames[t], state)
            steps[t], state = _within(w, layer, [t < n for n in lengths], new, state)
        sequences.append(steps)
        lasts.append(state)
    _deliver(w, layer, sequences, lasts)
    return w.parts


def _initial(w: Writer, layer: Layer, name: str, d: int) -> str:
    given = operand(w.e, name)
    if given is None:
        return w.constant(np.zeros(layer.frame))
    return given if len(layer.directions) == 1 else w.part(given, [layer.layout], [d], [d + 1])


def _within(w: Writer, layer: Layer, live: Sequence[bool], new: State, old: State) -> tuple[str, State]:
    """Output and state: sequences that are over (or not begun, reversed) deliver 0 and keep their state."""
    if all(live):
        return new[0], new
    mask = w.constant(np.asarray(live).reshape((layer.batch, 1, 1) if layer.layout else (1, layer.batch, 1)))
    zero = w.constant(0.0)
    return w.put("Where", mask, new[0], zero), tuple(w.put("Where", mask, a, b) for a, b in zip(new, old, strict=True))


def _deliver(w: Writer, layer: Layer, sequences: Sequence[Sequence[str]], lasts: Sequence[State]) -> None:
    """Y, Y_h, Y_c, as far as they are wanted, stored."""
    outputs, count = w.e.outputs, len(layer.directions)
    if outputs and outputs[0] is not None:
        T, N, H = layer.times, layer.batch, layer.hidden
        shape = (N, T, 1, H) if layer.layout else (T, 1, N, H)
        wide = [w.put("Reshape", w.joined(steps, layer.layout), shape=np.asarray(shape), allowzero=1) for steps in sequences]
        w.put("Store", w.joined(wide, 1 + layer.layout), domain="certify", output=outputs[0])
    for k, name in enumerate(outputs[1:]):
        if name is not None:
            w.put("Store", w.joined([lasts[d][k] for d in range(count)], layer.layout), domain="certify", output=name)


LSTM_ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")


def rnn(e: Expansion, **attributes: Any) -> Parts:
    """Unrolled over time; states stay in the kernel's format from step to step."""
    return unrolled(e, Kind(1, 1, rnn_step, ("Tanh",)), Attributes(**attributes))


def lstm(e: Expansion, *, input_forget: int = 0, **attributes: Any) -> Parts:
    """Unrolled over time; states stay in the kernel's format from step to step; the cell state is not clipped."""
    return unrolled(e, Kind(4, 2, lstm_step(bool(input_forget)), LSTM_ACTIVATIONS), Attributes(**attributes))


def gru(e: Expansion, *, linear_before_reset: int = 0, **attributes: Any) -> Parts:
    """Unrolled over time; states stay in the kernel's format from step to step."""
    return unrolled(e, Kind(3, 1, gru_step(bool(linear_before_reset)), ("Sigmoid", "Tanh")), Attributes(**attributes))


_OPERANDS = ("X", "W", "R", "B", "sequence_lens", "initial_h")
_STATIC = frozenset({"sequence_lens"})

register(
    Block(),
    Accumulation(Bilinear("MatMul", 1, ("A", "B", "addends"), MatrixProduct())),
    Composite("RNN", 7, _OPERANDS, rnn, static=_STATIC, outputs=2),
    Composite("LSTM", 7, (*_OPERANDS, "initial_c", "P"), lstm, static=_STATIC, outputs=3),
    Composite("GRU", 7, _OPERANDS, gru, static=_STATIC, outputs=2),
)
