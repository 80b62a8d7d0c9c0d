"""The structure of one ONNX graph: every name defined once and before use, no cycles; nodes in topological order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from certify.graph.model import InvalidModel

if TYPE_CHECKING:
    import onnx


def label(node: onnx.NodeProto) -> str:
    """The node's name, or its first output's if it has none."""
    return node.name or next((name for name in node.output if name), "") or f"unnamed {node.op_type}"


def legible(names: Iterable[str | bytes], where: str) -> None:
    """Raises InvalidModel for a name that is not UTF-8 (protobuf then hands out its bytes)."""
    for name in names:
        if not isinstance(name, str):
            raise InvalidModel(f"{where}: the name {name!r} is not text; the file is corrupt")


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies that a node carries as attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured(graph: onnx.GraphProto) -> set[str]:
    """Names that a body reads from the graph around it."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    free = {o.name for o in graph.output}
    for node in graph.node:
        free |= needs(node)
    return free - own


def needs(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, in its operands and from within its bodies."""
    names = {name for name in node.input if name}
    for body in subgraphs(node):
        names |= captured(body)
    return names


def ordered(nodes: Sequence[onnx.NodeProto], known: set[str], outputs: Sequence[str], where: str) -> list[onnx.NodeProto]:
    """`nodes` in a topological order, the file's own wherever that is one.

    `known`: names defined outside of `nodes`. Raises InvalidModel for a name that is defined twice or never, and for a cycle.
    """
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        legible((node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)), where)
        if not node.op_type:
            raise InvalidModel(f"{where}: node {label(node)!r} has no operator")
        for name in node.output:
            if name and (name in producer or name in known):
                raise InvalidModel(f"{where}: {name!r} is defined twice, the second time by node {label(node)!r} ({node.op_type})")
            if name:
                producer[name] = index
    for name in outputs:
        if name not in producer and name not in known:
            raise InvalidModel(f"{where}: output {name!r} is not computed by any node")
    return [nodes[index] for index in _sorted(nodes, producer, known, where)]


def _sorted(nodes: Sequence[onnx.NodeProto], producer: dict[str, int], known: set[str], where: str) -> list[int]:
    waiting: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        names = needs(node)
        for name in sorted(names - known):
            if name not in producer:
                raise InvalidModel(f"{where}: node {label(node)!r} ({node.op_type}) reads {name!r}, which nothing defines")
        waiting.append({producer[name] for name in names if name in producer})
        for source in waiting[index]:
            readers.setdefault(source, []).append(index)
    ready = [index for index, sources in enumerate(waiting) if not sources]
    heapify(ready)
    order: list[int] = []
    while ready:
        index = heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            waiting[reader].discard(index)
            if not waiting[reader]:
                heappush(ready, reader)
    if len(order) < len(nodes):
        loop = " -> ".join(repr(label(nodes[i])) for i in _cycle(waiting))
        raise InvalidModel(f"{where}: the graph has a cycle, {loop}")
    return order


def _cycle(waiting: list[set[int]]) -> list[int]:
    """Some cycle, first node repeated: every node that still waits does so for another one that waits."""
    index = next(i for i, sources in enumerate(waiting) if sources)
    path: list[int] = []
    while index not in path:
        path.append(index)
        index = min(waiting[index])
    return [*path[path.index(index) :], index][::-1]
