"""A loaded model: frozen nodes in topological order over named values of concrete shape and element type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.errors import InvalidModel as InvalidModel
from certify.errors import Unsupported as Unsupported

if TYPE_CHECKING:
    import networkx

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor that flows through the graph.

    shape:     concrete.
    elem_type: the number of ONNX's TensorProto.DataType (1 is float, 10 float16, 16 bfloat16, ...).
    constant:  its elements in the type as stored (ml_dtypes for bfloat16, float8 and 4-bit types; a read-only
               memory map for external data; possibly a broadcast view), or None if it depends on the inputs.
    """

    name: str
    shape: Shape
    elem_type: int
    constant: npt.NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator.

    name:       unique in the model; the operator's own name, or its first output's if it has none.
    source:     that name as the file says it (an unrolled loop has several nodes of one source).
    domain:     "" for ai.onnx.
    opset:      the version of `domain` under which the node is to be read.
    inputs:     value names; None for an absent optional operand. Trailing absent ones are dropped.
    outputs:    value names; None for an output that the node does not give.
    attributes: the ONNX attributes that the file gives, defaults not filled in: int, float, str, numpy arrays for
                tensors, tuples for repeated fields.
    scope:      path of function calls and bodies around the node, "" at top level; e.g. "If_3/then_branch".
    """

    name: str
    op_type: str
    domain: str
    opset: int
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""
    source: str = ""


@dataclass(frozen=True, eq=False)
class ModelGraph:
    """A whole model.

    nodes:        in topological order; every one reaches an output, and none has only constant-folded results.
    values:       every input, constant and result by name.
    inputs:       names of what the user feeds, in the file's order; an initializer is never one.
    empty:        inputs of the file that stand for no tensor: sequences without any, optional values that are absent.
    outputs:      names in the file's order; one may be an input or a constant.
    opsets:       version by domain, "" for ai.onnx.
    path, sha256: of the file; None and the hash of the bytes if it did not come from one.
    parameters:   elements of the constants of floating-point or 8-bit (and narrower) type that nodes read.
    source_nodes: operators in the file, before functions were inlined and constants folded.
    opened:       operators whose definitions stand in their place, because no rule knows them.
    facts:        what `certify.graph.annotate` found, by node name.
    """

    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opsets: Mapping[str, int] = field(default_factory=dict)
    path: Path | None = None
    sha256: str = ""
    parameters: int = 0
    source_nodes: int = 0
    empty: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that computes each value."""
        return {name: node for node in self.nodes for name in node.outputs if name is not None}

    @cached_property
    def graph(self) -> networkx.DiGraph:
        """Nodes by name with attribute `node` (and `facts`); an edge carries `values`, what flows along it. Frozen."""
        import networkx

        graph: networkx.DiGraph = networkx.DiGraph()
        for node in self.nodes:
            graph.add_node(node.name, node=node, **({"facts": self.facts[node.name]} if node.name in self.facts else {}))
        for node in self.nodes:
            for name in dict.fromkeys(reads(node)):
                producer = self.producers.get(name)
                if producer is None:
                    continue
                known = graph.get_edge_data(producer.name, node.name, {}).get("values", ())
                graph.add_edge(producer.name, node.name, values=(*known, name))
        networkx.freeze(graph)  # type: ignore[no-untyped-call]
        return graph

    def node(self, name: str) -> Node:
        """The node called `name`. Raises KeyError."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}


def reads(node: Node) -> tuple[str, ...]:
    """The values that a node reads."""
    return tuple(name for name in node.inputs if name is not None)
