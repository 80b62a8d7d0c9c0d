"""Bind every node to a rule and an arithmetic: composites expanded, operands converted on entry, constants stored.

An operator that no rule covers is refused by name; all of them are listed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.analysis.constants import Constants
from certify.analysis.exact import ExactArithmetic
from certify.analysis.problem import Step
from certify.analysis.program import Program
from certify.analysis.whole import exact_in, require_whole, whole
from certify.graph.model import ModelGraph, Node
from certify.graph.refused import REFUSED
from certify.number.formats import Format, from_onnx
from certify.number.integers import INTEGERS
from certify.number.rounding import round_to
from certify.number.streamed import Shelf, slabs
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.semantics import ops
from certify.semantics.contract import Arithmetic, UnsupportedOperator, lookup
from certify.semantics.families.block import Block, Part
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.delivery import Delivery
from certify.semantics.families.movement import Movement

assert ops is not None  # importing the package fills the rule table


_STRING = 8  # ONNX's number for the type


def bind(graph: ModelGraph, profile: Profile) -> Program:
    """Raises UnsupportedOperator listing every node without a rule."""
    binder = _Binder(graph, profile)
    for node in graph.nodes:
        binder.node(node)
    for name in graph.outputs:
        binder.constant(name)
    read = {name for step in binder.steps for name in step.operands} | set(graph.outputs)
    for name in graph.inputs:  # what is a parameter alone (Resize's scales) is in no storage format
        if name not in read:
            binder.formats[name] = from_onnx(graph.values[name].elem_type)
    if binder.refused:
        refused = list(dict.fromkeys(binder.refused))
        listed = refused[0] if len(refused) == 1 else "\n  ".join([f"{len(refused)} nodes:", *refused])
        raise UnsupportedOperator(f"{'' if graph.path is None else f'{graph.path}: '}no rule for {listed}")
    declared = {name: from_onnx(graph.values[name].elem_type) for name in graph.inputs}
    return Program(
        tuple(binder.steps),
        binder.exact,
        binder.stored,
        binder.swamped,
        binder.formats,
        declared,
        tuple(graph.inputs),
        tuple(graph.outputs),
        graph.opened,
    )


def as_float(constant: Any) -> Array:
    """A constant of any ONNX element type as a float64 array with a case axis of extent 1.

    Raises UnsupportedOperator for integers that float64 does not hold.
    """
    x = np.asarray(constant)
    wide = np.asarray(x, dtype=np.float64)
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8 and (np.abs(wide) >= 2.0**53).any():
        with np.errstate(invalid="ignore"):
            beyond = np.abs(wide) >= 2.0 ** (63 if x.dtype.kind == "i" else 64)
            if ((wide.astype(x.dtype) != x) | (beyond & (wide > 0.0))).any():
                raise UnsupportedOperator("a constant holds a whole number beyond 2^53 that float64 does not hold")
    return wide[None]


def _rounded(exact: Array, storage: Format, mode: str) -> tuple[Array, npt.NDArray[np.bool_]]:
    """A constant in its storage format, and where that has no number for it: the largest one stands there."""
    rounded = np.empty_like(exact)
    for part in slabs(exact):  # rounding takes several arrays of its own
        rounded[part] = round_to(exact[part], storage, mode)
    lost = np.isnan(rounded) & np.isfinite(exact)  # one that becomes infinite is infinite: a mask of -3.4e38 in fp16
    return (np.where(lost, np.copysign(storage.max, exact), rounded) if lost.any() else rounded), lost


def _widened(constant: Any) -> Array:
    return np.asarray(constant, dtype=np.float64)[None]


def _why(element: int) -> str:
    return ": it holds strings" if element == _STRING else ""


@dataclass
class _Binder:
    graph: ModelGraph
    profile: Profile
    steps: list[Step] = field(default_factory=list)
    exact: Constants = field(init=False)
    stored: Constants = field(init=False)
    swamped: dict[str, Any] = field(default_factory=dict)
    formats: dict[str, Format | None] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    delivered: set[str] = field(default_factory=set)
    elements: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shelf = Shelf()
        self.exact, self.stored = Constants(shelf), Constants(shelf)
        for name, value in self.graph.values.items():
            declared = from_onnx(value.elem_type)
            self.elements[name] = value.elem_type
            self.formats[name] = None if declared is None else self.profile.storage(declared)
            self.shapes[name] = tuple(value.shape)

    def node(self, node: Node) -> None:
        rule = lookup(node.domain, node.op_type, node.opset)
        if node.domain == "" and self._whole(node):
            rule = lookup("certify", f"Integer{node.op_type}", node.opset) or rule
        if rule is None:
            reason = REFUSED.get((node.domain, node.op_type))
            named = f"{node.domain or 'ai.onnx'}::{node.op_type} (opset {node.opset}), node {node.name!r}"
            self.refused.append(named if reason is None else f"{named}: {reason}")
            return
        stored = next((held for name in node.outputs if name is not None and (held := self.formats.get(name)) is not None), None)
        reason = None if stored is None else self.profile.uncovered(node.op_type, node.attributes, stored)
        if reason is not None:
            self.refused.append(f"{node.domain or 'ai.onnx'}::{node.op_type}, node {node.name!r}: {reason}")
            return
        try:
            self._bind(rule, node)
        except UnsupportedOperator as refusal:
            self.refused.append(f"{node.domain or 'ai.onnx'}::{node.op_type}, node {node.name!r}: {refusal}")

    def _whole(self, node: Node) -> bool:
        """True if all results of the node are integers."""
        return all(name is None or self.elements.get(name) in INTEGERS for name in node.outputs)

    def _bind(self, rule: Any, node: Node) -> None:
        operands: list[str | None] = []
        attributes = dict(node.attributes)
        for i, name in enumerate(node.inputs):
            parameter = rule.parameters[i] if i < len(rule.parameters) else ""
            if parameter in rule.static:
                if name is not None:
                    attributes[parameter] = self._static(name, parameter)
            else:
                operands.append(name)
        names = [output for output in node.outputs if output is not None]
        for operand in operands:
            self.constant(operand)
        if isinstance(rule, Composite):
            self._expand(rule, node, operands, attributes)
            return
        for index, output in enumerate(node.outputs):
            if output is None or output not in names:
                continue
            if index >= rule.outputs:
                if self._used(output):
                    raise UnsupportedOperator(f"its output {index} ({output!r}) has no rule")
                continue
            extra = {"output": index} if rule.outputs > 1 else {}
            self._step(rule, node.op_type, operands, output, attributes | extra, node, False)

    def _used(self, output: str) -> bool:
        return output in self.graph.outputs or any(output in node.inputs for node in self.graph.nodes)

    def _static(self, name: str, parameter: str) -> Any:
        constant = self.graph.values[name].constant
        if constant is None:
            raise UnsupportedOperator(f"its {parameter!r} ({name!r}) must be a constant")
        return np.asarray(constant)

    def constant(self, name: str | None) -> None:
        """Take a constant of the graph into the program, in storage format."""
        if name is None or name in self.exact:
            return
        value = self.graph.values.get(name)
        if value is None or value.constant is None:
            return
        self._store(name, partial(as_float, value.constant), self.formats[name], "nearest")

    def _store(self, name: str, read: Callable[[], Array], storage: Format | None, mode: str) -> None:
        """Take in the constant that `read` gives, each time the same."""
        exact = read()
        self.exact.put(name, exact, read)
        self.stored.share(name, self.exact, name)
        if storage is None:
            return
        rounded, lost = _rounded(exact, storage, mode)
        if lost.any():
            self.swamped[name] = lost
        if not all(np.array_equal(rounded[part], exact[part], equal_nan=True) for part in slabs(exact)):
            del self.stored[name]
            self.stored.put(name, rounded, lambda: _rounded(read(), storage, mode)[0])

    def _expand(self, rule: Composite, node: Node, operands: list[str | None], attributes: dict[str, Any]) -> None:
        known = [parameter for parameter in rule.parameters if parameter not in rule.static]
        constants = {p: self.exact[name][0] for p, name in zip(known, operands, strict=False) if name is not None and name in self.exact}
        shapes = tuple(() if name is None else self.shapes[name] for name in operands)
        stored = {p: self.stored[name][0] for p, name in zip(known, operands, strict=False) if name is not None and name in self.exact}
        elements, results = (tuple(self.elements.get(name or "", 0) for name in names) for names in (operands, node.outputs))
        expansion = Expansion(
            self._prefix(node),
            tuple(operands),
            shapes,
            tuple(node.outputs),
            constants,
            self.profile.style,
            elements,
            results,
            stored,
            *self._held_as(node),
        )
        primitives, fresh = rule.expand(expansion, **attributes)
        first = next(output for output in node.outputs if output is not None)
        storage = self.formats[first]
        floating = next((held for output in node.outputs if output is not None and (held := self.formats[output]) is not None), None)
        inner = None if floating is None else self.profile.inner_format(floating)
        for name, constant in fresh.items():
            self.formats[name] = held = None if np.asarray(constant).dtype.kind in "iu" else inner
            self._store(name, partial(_widened, constant), held, "nearest")
            self.shapes[name] = tuple(np.shape(constant))
        for primitive in primitives:
            if primitive.output not in self.formats:
                self.elements.setdefault(primitive.output, self._type(primitive, node))
                kept = self._kept(primitive.like, storage)
                self.formats[primitive.output] = self.profile.inner_format(kept) if primitive.inner and kept is not None else kept
            found = lookup(primitive.domain, primitive.name, primitive.opset)
            if found is None:
                raise UnsupportedOperator(f"its part {primitive.name} has no rule")
            if isinstance(found, Movement) and self._moved(found, primitive):
                continue
            if isinstance(found, Block):
                self._block(found, primitive, node)
                continue
            if isinstance(found, Composite):
                part = Node(
                    primitive.output, primitive.name, primitive.domain, primitive.opset, primitive.operands, (primitive.output,), {}, ""
                )
                self._expand(found, part, list(primitive.operands), primitive.attributes)
                continue
            self._step(found, primitive.name, list(primitive.operands), primitive.output, primitive.attributes, node, primitive.inner)
        for index, output in enumerate(node.outputs):
            if output is not None and output not in self.delivered and output not in self.exact and self._used(output):
                raise UnsupportedOperator(f"its output {index} ({output!r}) has no rule{_why(self.elements.get(output, 0))}")

    def _held_as(self, node: Node) -> tuple[bool, float]:
        """Whether the node's tensors are held as the model declares; the largest unit roundoff of them."""
        named = [name for name in (*node.inputs, *node.outputs) if name in self.elements]
        declared = all(self.formats[name] == from_onnx(self.elements[name]) for name in named)
        units = [0.0 if storage is None else storage.unit_roundoff for storage in map(self.formats.get, named)]
        return declared, max(units, default=0.0)

    def _type(self, primitive: Primitive, node: Node) -> int:
        """The element type of an inner result: the node's, if it delivers what it reads first; 0 where the expansion sees to its range."""
        if isinstance(primitive.like, int) and not primitive.inner:
            return primitive.like
        found = {self.elements.get(name, 0) for name in (*node.inputs[:1], *node.outputs) if name is not None}
        return found.pop() if len(found) == 1 and primitive.like is None else 0

    def _kept(self, like: str | int | None, storage: Format | None) -> Format | None:
        """The storage format that a primitive names by `like`."""
        if like is None:
            return storage
        if isinstance(like, str):
            return self.formats[like]
        declared = from_onnx(like)
        return None if declared is None else self.profile.storage(declared)

    def _moved(self, rule: Movement, primitive: Primitive) -> bool:
        """Constants that a part only copies are copied here, exact and stored ones alike; False if some operand is none."""
        names = [name for name in primitive.operands if name is not None]
        output = primitive.output
        if rule.fills or not names or not all(name in self.exact and self.formats[name] == self.formats[output] for name in names):
            return False

        def moved(held: Constants) -> Array:
            found: Array = rule.value(*(None if name is None else held[name] for name in primitive.operands), **primitive.attributes)
            return found

        self.exact.put(output, moved(self.exact), partial(moved, self.exact))
        if all(self.stored.is_same(name, self.exact) for name in names):
            self.stored.share(output, self.exact, output)
        else:
            self.stored.put(output, moved(self.stored), partial(moved, self.stored))
        if any(name in self.swamped for name in names):
            masks = [None if x is None else self.swamped.get(x, np.zeros(self.exact[x].shape, dtype=bool)) for x in primitive.operands]
            self.swamped[output] = rule.value(*masks, **primitive.attributes)
        self.shapes[output] = tuple(self.exact[output].shape[1:])
        return True

    def _block(self, rule: Block, primitive: Primitive, node: Node) -> None:
        """One step of several primitives, each part with the arithmetic that it would have by itself; operands are converted before."""
        held = self.formats[primitive.output]
        reads: dict[str, int] = {}
        numbered: list[tuple[Any, list[str | None], dict[str, Any], Arithmetic | None]] = []
        made: dict[str, int] = {}
        for k, p in enumerate(primitive.attributes["parts"]):
            found = lookup(p.domain, p.name, p.opset)
            if found is None:
                raise UnsupportedOperator(f"its part {p.name} has no rule")
            entered = [x if x in made or i > 1 else self._convert(p.name, x, held, node) for i, x in enumerate(p.operands)]
            formats = [None if x is None else held if x in made else self.formats[x] for x in entered]
            arithmetic = None if held is None else self.profile.arithmetic(p.name, formats, held, True)
            for name in entered:
                if name is not None and name not in made:
                    reads.setdefault(name, len(reads))
            made[p.output] = k
            numbered.append((found, entered, p.attributes, arithmetic))
        place = reads | {name: len(reads) + k for name, k in made.items()}
        chain = tuple(
            Part(found, tuple(place[x] for x in entered if x is not None), attributes, arithmetic)
            for found, entered, attributes, arithmetic in numbered
        )
        self._step(rule, "Block", list(reads), primitive.output, {"chain": chain}, node, primitive.inner)

    def _prefix(self, node: Node) -> str:
        """What the node's inner names start with, so that none of them is a name of the model's own."""
        prefix = next(output for output in node.outputs if output is not None)
        while any(name.startswith(f"{prefix}/") for name in self.graph.values):
            prefix += "'"
        return prefix

    def _step(
        self, rule: Any, kernel: str, operands: Sequence[str | None], output: str, attributes: dict[str, Any], node: Node, inner: bool
    ) -> None:
        storage = self.formats[output]
        # The factors of a contraction are its first two operands; an addend goes into the accumulator as it is.
        entered = [self._convert(kernel, name, storage, node) if i < 2 else name for i, name in enumerate(operands)]
        formats = [None if name is None else self.formats[name] for name in entered]
        arithmetic: Arithmetic = ExactArithmetic() if storage is None else self.profile.arithmetic(kernel, formats, storage, inner)
        if (rule.domain, rule.name) == ("", "Mul") and entered[0] == entered[1]:
            rule, operands, entered = lookup("certify", "Square", 1), operands[:1], entered[:1]
        held = INTEGERS.get(self.elements.get(output, 0))
        integral = all(name is None or self.formats[name] is None for name in operands)
        if held is not None and (integral or rule.name.startswith("Integer")):  # the exponents of IntegerPow may be floats
            arithmetic = exact_in(held)
            if integral and not inner:
                require_whole(rule, len(operands), attributes)
            if not isinstance(rule, Delivery):  # these see to the range themselves
                rule = whole(rule, held, [INTEGERS.get(self.elements.get(name or "", 0)) for name in operands])
        if output in self.delivered or output in self.exact:
            raise ValueError(f"two steps deliver {output!r}")
        self.delivered.add(output)
        self.steps.append(Step(rule, tuple(entered), output, attributes, arithmetic, node.name, node.op_type, inner))
        if output not in self.shapes:
            self.shapes[output] = self._shape(rule, entered, attributes)

    def _shape(self, rule: Any, operands: Sequence[str | None], attributes: dict[str, Any]) -> tuple[int, ...]:
        """Shape of an inner result of an expansion, found by running the operator on ones, and on zeros for indices: 1 may be none."""
        fill = {name: float(self.formats[name] is not None) for name in operands if name is not None}
        given = [None if name is None else np.full((1, *self.shapes[name]), fill[name]) for name in operands]
        with np.errstate(all="ignore"):
            return tuple(np.asarray(rule.value(*given, **attributes)).shape[1:])

    def _convert(self, kernel: str, name: str | None, storage: Format | None, node: Node) -> str | None:
        """The operand as the kernel sees it: a converted constant, or a Convert step's output."""
        held = None if name is None else self.formats[name]
        if name is None or held is None or storage is None:
            return name
        entry = self.profile.operand_format(kernel, held)
        if entry is None:
            return name
        target, mode = entry
        converted = f"{name}@{target.name}"
        while converted in self.graph.values:
            converted += "'"
        if converted in self.formats:
            return converted
        self.formats[converted] = target
        self.shapes[converted] = self.shapes[name]
        if name in self.exact:
            self._store(converted, partial(self.stored.__getitem__, name), target, mode)  # what is stored is converted: two roundings
            del self.exact[converted]
            self.exact.share(converted, self.exact, name)
            return converted
        arithmetic = self.profile.arithmetic(kernel, [held], held, False)
        rule = lookup("certify", "Convert", 1)
        assert rule is not None
        self.steps.append(Step(rule, (name,), converted, {}, arithmetic, node.name, node.op_type))
        return converted
