"""Seeded random ONNX graphs that are valid, small and hostile: reuse, cancellation, ties, extreme constants, mixed types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

Array: TypeAlias = np.ndarray[Any, Any]
Shape: TypeAlias = tuple[int, ...]
FLOAT, FLOAT16, DOUBLE, INT64 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16), int(TensorProto.DOUBLE), int(TensorProto.INT64)
NUMPY = {FLOAT: np.float32, FLOAT16: np.float16, DOUBLE: np.float64}
OPSETS = (9, 11, 12, 13, 15, 17, 18, 20, 21, 22)
LAYERED = 1_000_000  # from this seed on, graphs are networks: layers of moderate weights, so that most bounds are finite
MODERATE = ("normal", "normal", "integers", "ties", "sparse", "near", "positive")
STYLES = ("normal", "normal", "normal", "integers", "powers", "ties", "small", "large", "subnormal", "huge", "sparse", "positive", "near")


def numbers(generator: np.random.Generator, shape: Shape, style: str, element: int = FLOAT) -> Array:
    """Numbers of the element type, all finite, in a style of `STYLES`."""
    kind = NUMPY[element]
    limits = np.finfo(kind)
    x = generator.normal(size=shape)
    match style:
        case "integers":
            x = np.round(3.0 * x)
        case "powers":
            x = np.sign(x) * 2.0 ** generator.integers(-6, 7, size=shape)
        case "ties":
            x = generator.choice([-1.0, 0.0, 0.5, 1.0, 2.0], size=shape)
        case "small":
            x = x * 2.0 ** (limits.minexp // 2)
        case "large":
            x = x * 2.0 ** (limits.maxexp // 3)
        case "subnormal":
            x = x * 4.0 * float(limits.tiny)
        case "huge":
            x = np.sign(x) * float(limits.max) * generator.uniform(0.1, 1.0, size=shape)
        case "sparse":
            x = x * (generator.random(size=shape) < 0.4)
        case "positive":
            x = np.abs(x) + 0.25
        case "near":
            x = 1.0 + x * 2.0**-10
        case _:
            pass
    return np.asarray(np.clip(x, -float(limits.max), float(limits.max)).astype(kind))


@dataclass
class Sketch:
    """A graph in the making. values: type and shape of every float tensor by name; nodes, constants in order of appearance."""

    generator: np.random.Generator
    opset: int
    styles: tuple[str, ...] = (*STYLES[:9], *STYLES[10:])
    values: dict[str, tuple[int, Shape]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def chance(self, p: float) -> bool:
        return bool(self.generator.random() < p)

    def one_of(self, *items: Any) -> Any:
        return items[int(self.generator.integers(len(items)))]

    def pick(self, *, rank: int | None = None, least: int = 0, element: int | None = None) -> str | None:
        """A float tensor, later ones likelier; None if none fits."""
        names = [
            name
            for name, (kind, shape) in self.values.items()
            if rank in (None, len(shape)) and len(shape) >= least and element in (None, kind)
        ]
        if not names:
            return None
        weights = np.arange(1.0, len(names) + 1.0)
        return str(names[int(self.generator.choice(len(names), p=weights / weights.sum()))])

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def ints(self, *numbers_: int) -> str:
        return self.constant(np.array(numbers_, dtype=np.int64))

    def weights(self, shape: Shape, element: int, style: str | None = None) -> str:
        return self.constant(numbers(self.generator, shape, style or self.one_of(*self.styles), element))

    def add(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> str:
        """The first output of a new node; its type and shape are inferred. Raises onnx's errors if it is invalid."""
        names = [f"v{len(self.nodes)}" + ("" if k == 0 else f"_{k}") for k in range(outputs)]
        node = helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes)
        for name, found in self._inferred(node).items():
            if found[0] in NUMPY:
                self.values[name] = found
        self.nodes.append(node)
        return names[0]

    def _inferred(self, node: NodeProto) -> dict[str, tuple[int, Shape]]:
        known = [
            helper.make_tensor_value_info(name, *(self.values.get(name) or self.others[name]))
            for name in dict.fromkeys(node.input)
            if name and name not in self.constants
        ]
        constants = [numpy_helper.from_array(self.constants[name], name) for name in dict.fromkeys(node.input) if name in self.constants]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
        graph = helper.make_graph([node], "one", known, outputs, constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        found = {}
        for value in shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph.output:
            tensor = value.type.tensor_type
            if not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in tensor.shape.dim):
                raise ValueError(f"{node.op_type}: shape is not inferred")
            found[value.name] = (int(tensor.elem_type), tuple(d.dim_value for d in tensor.shape.dim))
        for name, (kind, shape) in found.items():
            self.others[name] = (kind, shape)
            if int(np.prod(shape)) > 200 or 0 in shape:
                raise ValueError(f"{node.op_type}: {shape} is too large or empty")
        return found

    others: dict[str, tuple[int, Shape]] = field(default_factory=dict)

    def element(self, name: str) -> int:
        return self.values[name][0]

    def shape(self, name: str) -> Shape:
        return self.values[name][1]


Move: TypeAlias = Callable[[Sketch], None]


def random_graph(seed: int) -> tuple[ModelProto, dict[str, Array]]:
    """A model of 2 to 8 moves (a move is one node or a few) and points for its inputs, (cases, *shape) each."""
    from tests.random_moves import LAYERS, MOVES

    generator = np.random.default_rng(seed)
    sketch = Sketch(generator, int(generator.choice(OPSETS)))
    moves, styles = MOVES, STYLES
    if seed >= LAYERED:
        moves, styles, sketch.styles = LAYERS, MODERATE, MODERATE
    points: dict[str, Array] = {}
    cases = int(generator.integers(1, 4))
    element = int(generator.choice([FLOAT, FLOAT, FLOAT, FLOAT, FLOAT16, DOUBLE]))
    for k in range(int(generator.integers(1, 3))):
        shape = sketch.one_of((4,), (2, 3), (1, 5), (3, 3), (1, 2, 4), (2, 3, 2), (1, 2, 6), (1, 2, 4, 4), (1, 4, 3, 3), ())
        name = f"x{k}"
        sketch.inputs.append(name)
        sketch.values[name] = (element, shape)
        points[name] = np.stack([numbers(generator, shape, str(generator.choice(styles)), element) for _ in range(cases)])
    wanted = int(generator.integers(2, 9))
    for _ in range(100):
        before = (dict(sketch.values), len(sketch.nodes), dict(sketch.constants))
        try:
            moves[int(generator.integers(len(moves)))](sketch)
        except (ValueError, IndexError, shape_inference.InferenceError, onnx.checker.ValidationError):
            sketch.values, sketch.constants = before[0], before[2]
            del sketch.nodes[before[1] :]
            continue
        wanted -= len(sketch.nodes) > before[1]
        if wanted <= 0:
            break
    return _finished(sketch), points


def _finished(sketch: Sketch) -> ModelProto:
    """Every tensor that nobody reads is an output, and sometimes every tensor is."""
    read = {name for node in sketch.nodes for name in node.input}
    produced = [name for node in sketch.nodes for name in node.output if name in sketch.values]
    everything = sketch.chance(0.4)
    outputs = [name for name in produced if everything or name not in read]
    used = read | set(outputs)
    graph = helper.make_graph(
        sketch.nodes,
        "random",
        [helper.make_tensor_value_info(name, *sketch.values[name]) for name in sketch.inputs],
        [helper.make_tensor_value_info(name, *sketch.values[name]) for name in outputs],
        [numpy_helper.from_array(x, name) for name, x in sketch.constants.items() if name in used],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", sketch.opset)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto
