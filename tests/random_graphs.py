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
Given: TypeAlias = list[tuple[int, Shape | None]]
FLOAT, FLOAT16, DOUBLE, INT64 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16), int(TensorProto.DOUBLE), int(TensorProto.INT64)
NUMPY = {FLOAT: np.float32, FLOAT16: np.float16, DOUBLE: np.float64}
DOMAINS = {"ai.onnx.ml": 3}
UNKNOWN = ("SimplifiedLayerNormalization", "NonZero", "NonMaxSuppression", "Unique")  # to onnx's checker: as operators, or by their shapes
OPSETS = (9, 11, 12, 13, 15, 17, 18, 20, 21, 22)
LATER = (9, 11, 13, 16, 18, 20, 21, 22, 23, 24, 24, 26, 28)
LAYERED = 1_000_000  # from this seed on, graphs are networks: layers of moderate weights, so that most bounds are finite
TABLED = 2_000_000  # from this seed on, graphs are drawn from the whole rule table (random_rows), at nasty numbers
MODERATE = ("normal", "normal", "integers", "ties", "sparse", "near", "positive")
NASTY = (
    "normal",
    "normal",
    "normal",
    "kinks",
    "kinks",
    "ties",
    "integers",
    "zeros",
    "saturated",
    "near",
    "poles",
    "positive",
    "mixed",
    "mixed",
)
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
        case "kinks":
            x = generator.choice([-3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 2.5], size=shape)
        case "zeros":
            x = generator.choice([0.0, -0.0, 0.0, 1.0, float(limits.tiny), -float(limits.smallest_subnormal)], size=shape)
        case "saturated":
            x = x * generator.choice([10.0, 40.0, 100.0], size=shape)
        case "poles":
            x = np.sign(x) * 2.0 ** -generator.integers(0, 2 - limits.minexp // 4, size=shape)
        case "mixed":
            x = np.sign(x) * 2.0 ** generator.uniform(0.4 * limits.minexp, 0.3 * limits.maxexp, size=shape) ** generator.integers(
                0, 2, shape
            )
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

    def of(self, *kinds: int) -> str:
        """A tensor of one of the element types, of any shape. Raises ValueError if there is none."""
        return str(self.one_of(*(name for name, (kind, shape) in self.others.items() if kind in kinds and shape is not None)))

    def ints(self, *numbers_: int) -> str:
        return self.constant(np.array(numbers_, dtype=np.int64))

    def weights(self, shape: Shape, element: int, style: str | None = None) -> str:
        return self.constant(numbers(self.generator, shape, style or self.one_of(*self.styles), element))

    def add(self, op: str, inputs: list[str], outputs: int = 1, domain: str = "", gives: Given | None = None, **attributes: Any) -> str:
        """The first output of a new node; its type and shape are inferred unless given. Raises onnx's errors if it is invalid."""
        names = [f"v{len(self.nodes)}" + ("" if k == 0 else f"_{k}") for k in range(outputs if gives is None else len(gives))]
        node = helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", domain=domain, **attributes)
        results = self._inferred(node) if gives is None else dict(zip(names, gives, strict=True))
        for name, (kind, shape) in results.items():
            self.others[name] = (kind, shape)
            if kind in NUMPY and shape is not None:
                self.values[name] = (kind, shape)
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

    others: dict[str, tuple[int, Shape | None]] = field(default_factory=dict)

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
    if seed >= TABLED:
        return _tabled(generator)
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
    _grown(sketch, moves)
    return _finished(sketch), points


def _grown(sketch: Sketch, moves: tuple[Move, ...]) -> None:
    wanted = int(sketch.generator.integers(2, 9))
    for _ in range(100):
        wanted -= attempted(sketch, moves[int(sketch.generator.integers(len(moves)))])
        if wanted <= 0:
            break


def attempted(sketch: Sketch, move: Move) -> bool:
    """Whether the move added nodes; where it raises, the sketch is as it was before."""
    values, count, constants, others = dict(sketch.values), len(sketch.nodes), dict(sketch.constants), dict(sketch.others)
    try:
        move(sketch)
    except (ValueError, IndexError, shape_inference.InferenceError, onnx.checker.ValidationError):
        sketch.values, sketch.constants, sketch.others = values, constants, others
        del sketch.nodes[count:]
        return False
    return len(sketch.nodes) > count


def sketch_for(generator: np.random.Generator, opset: int) -> tuple[Sketch, dict[str, Array]]:
    """An empty sketch with inputs of floats, whole numbers and truth values, and points for them."""
    sketch = Sketch(generator, opset, NASTY)
    cases = int(generator.integers(1, 4))
    element = int(generator.choice([FLOAT, FLOAT, FLOAT, FLOAT, FLOAT16, DOUBLE]))
    points = {}
    for k in range(int(generator.integers(1, 4))):
        name, kind = f"x{k}", element
        shape = sketch.one_of(
            (4,), (2, 3), (1, 5), (4, 4), (2, 3, 4), (1, 2, 6), (1, 2, 4, 4), (1, 4, 3, 3), (1, 3, 5, 4), (1, 4), (3,), ()
        )
        if k == 2:
            kind = int(
                generator.choice([INT64, int(TensorProto.INT32), int(TensorProto.UINT8), int(TensorProto.INT8), int(TensorProto.BOOL)])
            )
            points[name] = generator.integers(0, 2 if kind == TensorProto.BOOL else 5, (cases, *shape)).astype(
                helper.tensor_dtype_to_np_dtype(kind)
            )
        else:
            points[name] = np.stack([numbers(generator, shape, str(generator.choice(NASTY)), element) for _ in range(cases)])
            sketch.values[name] = (kind, shape)
        sketch.inputs.append(name)
        sketch.others[name] = (kind, shape)
    return sketch, points


def points_for(model: ModelProto, seed: int, cases: int = 3) -> dict[str, Array]:
    """Points for the inputs of any model, in styles of `NASTY`; open dimensions are 2."""
    generator, given = np.random.default_rng(seed), {x.name for x in model.graph.initializer}
    points = {}
    for value in model.graph.input:
        if value.name in given:
            continue
        tensor = value.type.tensor_type
        shape = (cases, *(d.dim_value if d.HasField("dim_value") else 2 for d in tensor.shape.dim))
        if tensor.elem_type in NUMPY:
            drawn = [numbers(generator, shape[1:], str(generator.choice(NASTY)), tensor.elem_type) for _ in range(cases)]
            points[value.name] = np.stack(drawn)
        else:
            kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            points[value.name] = generator.integers(0, 2 if tensor.elem_type == TensorProto.BOOL else 5, shape).astype(kind)
    return points


def _tabled(generator: np.random.Generator) -> tuple[ModelProto, dict[str, Array]]:
    from tests.random_moves import MOVES
    from tests.random_rows import ROWS

    sketch, points = sketch_for(generator, int(generator.choice(LATER)))
    rows = tuple(row.move for row in ROWS if row.since <= sketch.opset)
    _grown(sketch, rows + MOVES * (len(rows) // (3 * len(MOVES)) + 1))
    return _finished(sketch), points


def _finished(sketch: Sketch) -> ModelProto:
    """Every tensor that nobody reads is an output, and sometimes every tensor is; some constants are nodes."""
    read = {name for node in sketch.nodes for name in (*node.input, *captured(node))}
    produced = [name for node in sketch.nodes for name in node.output if name in (sketch.others if _is_tabled(sketch) else sketch.values)]
    everything = sketch.chance(0.4)
    outputs = [name for name in produced if everything or name not in read]
    used = read | set(outputs)
    constants = {name: numpy_helper.from_array(x, name) for name, x in sketch.constants.items() if name in used}
    inside = {name for name in constants if _is_tabled(sketch) and sketch.chance(0.3)}
    shapes = {name: sketch.others.get(name, sketch.values.get(name)) for name in (*sketch.inputs, *outputs)}
    if _is_tabled(sketch) and all(shape and shape[0] == 1 for _, shape in shapes.values()) and sketch.chance(0.5):
        shapes = {name: (kind, ("N", *shape[1:])) for name, (kind, shape) in shapes.items()}
    graph = helper.make_graph(
        [*(helper.make_node("Constant", [], [name], value=constants[name]) for name in sorted(inside)), *sketch.nodes],
        "random",
        [helper.make_tensor_value_info(name, *shapes[name]) for name in sketch.inputs],
        [helper.make_tensor_value_info(name, *shapes[name]) for name in outputs],
        [x for name, x in constants.items() if name not in inside],
    )
    domains = {node.domain for node in sketch.nodes} - {""}
    opsets = [helper.make_opsetid("", sketch.opset), *(helper.make_opsetid(domain, DOMAINS.get(domain, 1)) for domain in sorted(domains))]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8 if sketch.opset < 23 else 11)
    if "com.microsoft" not in domains and not any(node.op_type in UNKNOWN for node in sketch.nodes):
        onnx.checker.check_model(proto)
    return proto


def _is_tabled(sketch: Sketch) -> bool:
    return sketch.styles is NASTY


def captured(node: NodeProto) -> list[str]:
    """Names that the node's bodies read from outside."""
    found = []
    for attribute in node.attribute:
        inner = {name for n in attribute.g.node for name in n.output} | {i.name for i in attribute.g.input}
        names = [name for n in attribute.g.node for name in (*n.input, *captured(n))] + [o.name for o in attribute.g.output]
        found += [name for name in names if name not in inner]
    return found
