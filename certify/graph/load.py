"""ONNX model -> ModelGraph: read, check, make every shape concrete, fold, drop what reaches no output."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certify.graph.infinities import mistaken_in_constant, readers
from certify.graph.inputs import concrete_inputs, tensors_of
from certify.graph.model import InvalidModel, ModelGraph, Node, Unsupported, Value, reads
from certify.graph.passes.inline_functions import domain_of, library
from certify.graph.passes.specialize import OPSETS, Frame, Ruled, Tracer, everything_ruled, schema_of
from certify.graph.structural import Decides, nothing_decides, pinned
from certify.graph.structure import legible, ordered, subgraphs
from certify.graph.tensors import FLOATING, NARROW_INTEGERS

if TYPE_CHECKING:
    import onnx


def load(
    source: str | Path | bytes | onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    data: Mapping[str, npt.NDArray[Any]] | None = None,
    decides: Decides = nothing_decides,
    ruled: Ruled = everything_ruled,
) -> ModelGraph:
    """Read a model.

    source:      a path, a file's bytes, or a parsed model (the last two cannot have external data).
    shapes:      concrete shapes of inputs whose declared shape is open, by name.
    data:        the arrays that the user feeds (first axis, or an extra leading one: cases). Their shapes fill in open
                 dimensions that `shapes` leaves, but for the first; inputs that decide the model's structure become constants.
    decides:     which operands must be known beforehand (graph.structural).
    ruled:       which operators a rule knows; the standard's definition of any other is walked instead (passes.definitions).

    Raises InvalidModel for what is no valid model, or a shape that is left open or does not fit; Unsupported for a valid model
    with an operator, type or version outside what is covered. Each message names the file, node, tensor or input.
    """
    model, path, digest = _read(source)
    where = path.name if path is not None else "the model"
    try:
        return _specialized(model, path, digest, dict(shapes or {}), data, decides, ruled)
    except (InvalidModel, Unsupported) as refusal:
        raise type(refusal)(f"{where}: {refusal}") from refusal.__cause__


def _read(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, Path | None, str]:
    """(model, path or None, sha256 of the file's bytes). Raises InvalidModel if it cannot be read or parsed."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    if isinstance(source, onnx.ModelProto):
        return source, None, hashlib.sha256(source.SerializeToString(deterministic=True)).hexdigest()
    path = None if isinstance(source, bytes) else Path(source)
    where = "the model" if path is None else str(path)
    content = source if isinstance(source, bytes) else _bytes(Path(source))
    if not content:
        raise InvalidModel(f"{where} is empty; an ONNX file is expected")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as cause:
        raise InvalidModel(f"{where} is not an ONNX model, or is corrupt or truncated") from cause
    if not model.HasField("graph"):
        raise InvalidModel(f"{where} is not an ONNX model: it holds no graph")
    return model, path, hashlib.sha256(content).hexdigest()


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise InvalidModel(f"{path} does not exist")
    if path.is_dir():
        raise InvalidModel(f"{path} is a directory; give the .onnx file in it")
    try:
        return path.read_bytes()
    except OSError as cause:
        raise InvalidModel(f"{path} cannot be read: {cause.strerror}") from cause


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    legible((entry.domain for entry in model.opset_import), "opset")
    opsets: dict[str, int] = {}
    for entry in model.opset_import:
        domain = domain_of(entry.domain)
        if opsets.setdefault(domain, entry.version) != entry.version:
            raise InvalidModel(f"it imports two opset versions of domain {domain or 'ai.onnx'!r}")
    if not opsets:
        raise InvalidModel("it imports no opset; is it an ONNX model?")
    version = opsets.get("", OPSETS[0])
    changed = _changed(model.graph.node, version) if version < OPSETS[0] else None
    if version < OPSETS[0] and changed is None:
        return opsets | {"": OPSETS[0]}
    if version not in OPSETS:
        covered = f"{OPSETS[0]} to {OPSETS[-1]}" + (f", and its {changed} is another one" if changed else "")
        raise Unsupported(f"opset {version} is not supported, only {covered}; convert the model with onnx.version_converter")
    return opsets


def _changed(nodes: Iterable[onnx.NodeProto], version: int) -> str | None:
    """An ONNX operator among the nodes and in their bodies that the first opset read defines otherwise than this earlier one."""
    import onnx

    for node in nodes:
        for body in subgraphs(node):
            if found := _changed(body.node, version):
                return found
        if domain_of(node.domain) != "":
            continue
        try:
            then, now = (onnx.defs.get_schema(node.op_type, opset, "").since_version for opset in (version, OPSETS[0]))
        except onnx.defs.SchemaError:
            return node.op_type
        if then != now:
            return node.op_type
    return None


def _specialized(
    model: onnx.ModelProto,
    path: Path | None,
    digest: str,
    shapes: dict[str, Sequence[int]],
    data: Mapping[str, npt.NDArray[Any]] | None,
    decides: Decides,
    ruled: Ruled,
) -> ModelGraph:
    graph, opsets, functions = model.graph, _opsets(model), library(model)
    if not graph.node:
        raise InvalidModel("its graph has no operators")
    if not graph.output:
        raise InvalidModel("its graph has no outputs")
    nodes = _checked(graph)
    _known_operators(nodes, opsets, functions)
    tracer = Tracer(functions, path.parent if path is not None else None, ruled)
    tracer.taken |= {name for node in graph.node for name in node.output} | {i.name for i in graph.input}
    frame = Frame({}, {}, opsets)
    tracer.constants(frame, graph.initializer, graph.sparse_initializer)
    infos = [i for i in graph.input if i.name not in frame.names]
    found = tensors_of(infos, None if data is None else {name: x.shape for name, x in data.items()})
    inputs = _entered(tracer, frame, found, model, shapes, data or {}, decides)
    tracer.walk(nodes, frame)
    outputs = tuple(name for o in graph.output for name in _delivered(tracer, frame, o.name))
    loaded = ModelGraph(tuple(tracer.nodes), tracer.values, inputs, outputs, opsets, path, digest, 0, _count(graph))
    empty = tuple(name for name, entry in found.items() if not entry)
    return _finished(replace(loaded, empty=empty, opened=tuple(tracer.opened)))


def _entered(
    tracer: Tracer,
    frame: Frame,
    found: Mapping[str, Sequence[onnx.ValueInfoProto] | None],
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    data: Mapping[str, npt.NDArray[Any]],
    decides: Decides,
) -> tuple[str, ...]:
    """Enter the inputs into the frame; the names of the tensors that are fed."""
    each = [info for entry in found.values() for info in entry or ()]
    settled = {name: x for name, x in pinned(model, data, decides).items() if name not in shapes}
    fed = {(each[int(name[1:])].name if _is_position(name, len(each)) else name): x.shape for name, x in data.items()}
    open_ = concrete_inputs([i for i in each if i.name not in settled], shapes, fed)
    for info in each:
        constant = settled.get(info.name)
        elem_type, shape = open_[info.name] if constant is None else (info.type.tensor_type.elem_type, constant.shape)
        tracer.define(info.name, elem_type, shape, constant)
    for name, entry in found.items():
        if entry is not None and [info.name for info in entry] != [name]:
            tracer.sequences[name] = tuple(info.name for info in entry)
        frame.names[name] = None if entry is None else name
    return tuple(info.name for info in each)


def _delivered(tracer: Tracer, frame: Frame, output: str) -> list[str]:
    """The tensors that an output stands for: itself, or those of a sequence, called output[0], output[1], ..."""
    found = tracer.settle(frame, output)
    if found is None:
        raise InvalidModel(f"output {output!r} is absent: an operand that was left out")
    if found not in tracer.sequences:
        return [found]
    items = []
    for position, item in enumerate(tracer.sequences[found]):
        frame.names["\0"], target = item, f"{output}[{position}]"
        tracer.alias(frame, "\0", target)
        items.append(target)
    return items


def _is_position(name: str, count: int) -> bool:
    """True for "#0", "#1", ...: data by position."""
    return name.startswith("#") and name[1:].isdecimal() and int(name[1:]) < count


def _checked(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The graph's nodes in topological order. Raises InvalidModel for names defined twice or never."""
    initializers = [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer]
    legible((*initializers, *(v.name for v in graph.input), *(v.name for v in graph.output)), "graph")
    constants: set[str] = set()
    for name in initializers:
        if name in constants:
            raise InvalidModel(f"initializer {name!r} is defined twice")
        constants.add(name)
    inputs = [i.name for i in graph.input]
    twice = next((name for name in inputs if inputs.count(name) > 1), None)
    if twice is not None:
        raise InvalidModel(f"input {twice!r} is declared twice")
    outputs = [o.name for o in graph.output]
    if len(set(outputs)) < len(outputs):
        raise InvalidModel("an output is declared twice")
    return ordered(graph.node, constants | set(inputs), outputs, "graph")


def _known_operators(nodes: Iterable[onnx.NodeProto], opsets: Mapping[str, int], functions: Mapping[tuple[str, str, str], object]) -> None:
    """Raises Unsupported listing every node whose operator nobody defines."""
    refusals = []
    for node in nodes:
        if (domain_of(node.domain), node.op_type, node.overload) not in functions:
            try:
                schema_of(node, opsets)
            except Unsupported as refusal:
                refusals.append(str(refusal))
    if refusals:
        raise Unsupported("; ".join(refusals))


def _count(graph: onnx.GraphProto) -> int:
    return len(graph.node) + sum(_count(body) for node in graph.node for body in subgraphs(node))


def _finished(graph: ModelGraph) -> ModelGraph:
    """Only what reaches an output, under unique names, with constants that can be meant."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(name for name in node.outputs if name is not None):
            kept.append(node)
            wanted.update(reads(node))
    nodes = _uniquely_named(reversed(kept))
    results = [name for node in nodes for name in node.outputs if name is not None]
    values = {name: graph.values[name] for name in dict.fromkeys([*graph.inputs, *sorted(wanted), *results])}
    if not any(values[name].size for name in graph.outputs):  # one that has none beside others is bounded by 0
        name = next(iter(graph.outputs), "")
        raise InvalidModel(f"output {name!r} has no elements: its shape is {list(values[name].shape)}")
    constants = [v for name, v in values.items() if v.constant is not None and name not in graph.inputs]
    read = readers(nodes, graph.outputs)
    for value in constants:
        _finite(value, read.get(value.name, set()))
    parameters = sum(v.size for v in constants if v.elem_type in FLOATING | NARROW_INTEGERS)
    return replace(graph, nodes=nodes, values=values, parameters=parameters)


def _uniquely_named(nodes: Iterable[Node]) -> tuple[Node, ...]:
    taken: set[str] = set()
    named = []
    for node in nodes:
        name, count = node.name, 2
        while name in taken:
            name, count = f"{node.name}#{count}", count + 1
        taken.add(name)
        named.append(node if name == node.name else replace(node, name=name))
    return tuple(named)


def _finite(value: Value, read: set[str]) -> None:
    """Raises InvalidModel for NaN or an infinity in a constant that cannot be meant, given the operators that read it."""
    constant = value.constant
    if constant is None or value.elem_type not in FLOATING:
        return
    flat = constant[(0,) * constant.ndim].reshape(1) if constant.size and not any(constant.strides) else constant.reshape(-1)
    for start in range(0, flat.size, 1 << 20):
        part = np.asarray(flat[start : start + (1 << 20)])
        with np.errstate(all="ignore"):
            part = part.astype(np.float32) if part.dtype.itemsize < 4 else part
            wrong = np.flatnonzero(mistaken_in_constant(read, part))
        if wrong.size:
            position = np.unravel_index(start + int(wrong[0]), value.shape)
            kind = "NaN" if np.isnan(part[wrong[0]]) else "an infinite value"
            advice = "every weight must be a finite number, and a mask a large finite one"
            raise InvalidModel(f"constant {value.name!r} holds {kind} at index {[int(i) for i in position]}; {advice}")
