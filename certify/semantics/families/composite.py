"""Composites: an operator that is a subgraph of primitives, with its inner results in the kernel's own format.

First order stays exact, because every primitive keeps its own linear map. `expand` may look at how the profile says
that the runtime computes the operator (`style`); it refuses (UnsupportedOperator) what it does not cover.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from certify.number.upward import Array


@dataclass(frozen=True, slots=True)
class Primitive:
    """One operation of an expansion.

    operands: names given to `expand`, or outputs of earlier primitives; None for an absent optional operand.
    output:   a fresh name (use `Expansion.name`), or one of the composite's own outputs.
    inner:    True if the result stays in the kernel's inner format instead of being rounded into storage.
    like:     whose format that is, in storage: the value of this name, or this ONNX element type (0: a real number that nothing holds or
              rounds); None is the node's first output.
    opset:    selects the primitive's rule in the default domain (or `domain`).
    """

    name: str
    operands: tuple[str | None, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)
    inner: bool = True
    domain: str = ""
    opset: int = 28
    like: str | int | None = None


@dataclass(frozen=True, slots=True)
class Expansion:
    """What `expand` may see: the node's operands, their shapes (no case axis) and how the profile computes it.

    prefix:    unique text for fresh names.
    operands:  operand names, None where absent.
    shapes:    shape of each operand, () where absent.
    outputs:   names of the node's outputs, None where unused.
    constants: known constant operands, float64 without case axis, by parameter name.
    style:     style(kernel) is the profile's word for how that kernel computes, e.g. "centred" or "uncentred".
    elements:  ONNX element type of each operand, 0 where absent or an inner result.
    results:   ONNX element type of each output, 0 where unused or an inner result.
    stored:    `constants` as the runtime holds them.
    declared:  True if the node's operands and results are held in the formats that the model declares.
    unit_roundoff: the largest of the formats in which the node's floats are stored, 0 if it has none.
    """

    prefix: str
    operands: tuple[str | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    outputs: tuple[str | None, ...]
    constants: dict[str, Array]
    style: Callable[[str], str]
    elements: tuple[int, ...] = ()
    results: tuple[int, ...] = ()
    stored: dict[str, Array] = field(default_factory=dict)
    declared: bool = True
    unit_roundoff: float = 0.0

    def name(self, part: str) -> str:
        return f"{self.prefix}/{part}"


@dataclass(frozen=True, slots=True)
class Composite:
    """A row of the rule table that expands instead of speaking the verbs itself.

    expand(expansion, **attributes) -> (primitives, constants): `constants` are exact arrays (no case axis) by fresh name, that
    primitives may use as operands; float64 is held in the inner format of the node's first output of floats, integers as integers.
    known: operands that `expand` needs as constants.
    """

    name: str
    since: int
    parameters: tuple[str, ...]
    expand: Callable[..., tuple[Sequence[Primitive], dict[str, Any]]]
    static: frozenset[str] = frozenset()
    domain: str = ""
    outputs: int = 1
    known: frozenset[str] = frozenset()
