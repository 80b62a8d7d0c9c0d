"""Whether a model can be analysed within the memory limit at all, said before anything is computed."""

from __future__ import annotations

from certify import memory
from certify.graph.model import ModelGraph, Node, Unsupported, reads
from certify.number.streamed import LARGE

COPIES = 3  # arrays of float64, at least, of a layer's weights while they are stored or multiplied
KEPT = 3  # arrays of float64, at least, of every value of a case: the value, its tube, the rounding born there


def require_room(graph: ModelGraph) -> None:
    """Raises Unsupported, naming the node and what it needs, where the largest layer does not fit beside the values of one case.

    What is asked for is the least that any engine needs; `memory.check` sees what is really held.
    """
    if not graph.nodes:
        return
    values = 8 * KEPT * sum(value.size for value in graph.values.values() if value.constant is None)
    largest = max(graph.nodes, key=lambda node: _weights(graph, node))
    weights = 8 * COPIES * _weights(graph, largest)
    needed, limit = memory.held() + values + weights, memory.limit()
    if needed > limit:
        asked = f"node {largest.name!r} ({largest.op_type}) needs {memory.size(weights)} for its weights"
        beside = f"beside {memory.size(values)} for the values of a case"
        raise Unsupported(
            f"--memory-limit: {memory.size(limit)} are too little: {asked}, {beside}; give {memory.size(1.1 * needed)} or more"
        )


def _weights(graph: ModelGraph, node: Node) -> int:
    """Elements of the large constants that the node reads."""
    read = [graph.values[name] for name in dict.fromkeys(reads(node))]
    return sum(value.size for value in read if value.constant is not None and value.size >= LARGE)
