"""Which inputs decide the structure of a model: shapes, axes, trip counts and whatever else an operator must know beforehand.

Data give such inputs their values, as long as every case gives the same, and the model is read as if they were constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.graph.passes.inline_functions import domain_of
from certify.graph.structure import needs, subgraphs
from certify.graph.tensors import dtype_of

if TYPE_CHECKING:
    import onnx

Decides: TypeAlias = Callable[[str, str, int], frozenset[int]]
"""(domain, operator, opset) -> positions of the operands that must be known beforehand."""

# Operators that loading itself opens.
_OPENED = {
    "If": {0},
    "Loop": {0, 1},
    "SequenceAt": {1},
    "SequenceErase": {1},
    "SequenceInsert": {2},
    "SplitToSequence": {1},
}
_SHAPES = frozenset({"Shape", "Size"})  # what they read decides nothing: its shape is known


def nothing_decides(domain: str, name: str, opset: int) -> frozenset[int]:
    """No operand of any operator must be known."""
    return frozenset()


def structural(model: onnx.ModelProto, decides: Decides) -> set[str]:
    """Names of the graph's inputs from which an operand that must be known can be reached.

    More than these may be named (a body's formal inputs stand for everything that its node reads), which is harmless: a value
    that data fix is what the model is certified at anyway.
    """
    opsets = {domain_of(entry.domain): entry.version for entry in model.opset_import}
    nodes = list(_all_nodes(model.graph.node))
    called = {(domain_of(f.domain), f.name) for f in model.functions}
    wanted: set[str] = set()
    for node in nodes:
        key = (domain_of(node.domain), node.op_type)
        positions = _OPENED.get(key[1], set()) if key[0] == "" else set()
        positions = set(range(len(node.input))) if key in called else positions | decides(*key, opsets.get(key[0], 1))
        wanted.update(name for i, name in enumerate(node.input) if i in positions and name)
        for body in subgraphs(node):
            if wanted.intersection(i.name for i in body.input):
                wanted.update(needs(node))
    for node in reversed(nodes):
        if node.op_type not in _SHAPES and wanted.intersection(node.output):
            wanted.update(needs(node))
    return wanted.intersection(i.name for i in model.graph.input)


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """Nodes, those of bodies before the node that holds them."""
    for node in nodes:
        for body in subgraphs(node):
            yield from _all_nodes(body.node)
        yield node


def pinned(model: onnx.ModelProto, arrays: Mapping[str, npt.NDArray[Any]], decides: Decides) -> dict[str, npt.NDArray[Any]]:
    """The values that data give to structural inputs, where all cases agree; without their axis of cases."""
    if not arrays:
        return {}
    constants = {t.name for t in model.graph.initializer}
    wanted = structural(model, decides) - constants
    found: dict[str, npt.NDArray[Any]] = {}
    for position, info in enumerate(i for i in model.graph.input if i.name not in constants):
        fed = arrays.get(info.name, arrays.get(f"#{position}"))
        tensor = info.type.tensor_type
        if info.name not in wanted or fed is None or not tensor.HasField("shape") or tensor.elem_type == 8:
            continue
        value = _agreed(np.asarray(fed), [d.dim_value for d in tensor.shape.dim])
        if value is not None and value.dtype == dtype_of(tensor.elem_type):
            found[info.name] = value
    return found


def _agreed(fed: npt.NDArray[Any], declared: list[int]) -> npt.NDArray[Any] | None:
    """The one value of all cases, None where they differ or the array does not fit; cases are an extra axis, or rows of a batch of one."""
    cases = fed[None] if fed.ndim == len(declared) else fed
    if fed.ndim == len(declared) > 0 and declared[0] == 1 and fed.shape[0] != 1:
        cases = fed[:, None]
    if (
        cases.ndim != len(declared) + 1
        or cases.shape[0] == 0
        or any(d not in (0, n) for d, n in zip(declared, cases.shape[1:], strict=True))
    ):
        return None
    value = np.array(cases[0])
    if not bool((cases == value).all()):
        return None
    value.flags.writeable = False
    return value
