"""ai.onnx.preview::FlexAttention: its score_mod and prob_mod are graphs, traced in place between the parts of the attention.

The parts are operators of domain "certify" (semantics/ops/flex): FlexScores, FlexWeights, FlexWeighted, and FlexOutput, which is the
last two at once where no prob_mod comes between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certify.graph import tensors
from certify.graph.model import InvalidModel, Node, Unsupported, Value
from certify.graph.structure import label

if TYPE_CHECKING:
    import onnx

    from certify.graph.passes.specialize import Frame, Tracer

OPERATOR = ("ai.onnx.preview", "FlexAttention")
_FLOAT, _DOUBLE = 1, 11
_BITS = {1: 24, 10: 11, 11: 53, 16: 8}  # significand bits of the element types that it takes


def trace(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    """Walk the node. Raises InvalidModel or Unsupported, naming it."""
    where = f"node {label(node)!r} (FlexAttention)"
    operands = [_operand(tracer, node, frame, i, where) for i in range(3)]
    q, k, v = operands
    if any(len(x.shape) != 4 or x.elem_type != q.elem_type or x.elem_type not in _BITS for x in operands):
        raise InvalidModel(f"{where}: Q, K and V must have four axes each and one floating-point type")
    numbers = {a.name: tensors.attribute(a, None, where) for a in node.attribute if not a.HasField("g")}
    bodies = {a.name: a.g for a in node.attribute if a.HasField("g")}
    precision = int(numbers.get("softmax_precision", _DOUBLE if q.elem_type == _DOUBLE else _FLOAT))
    if precision not in _BITS:
        raise Unsupported(f"{where}: softmax_precision {precision} is not supported")
    shape = (*q.shape[:3], k.shape[2])
    parts = _Parts(tracer, node, frame, precision, shape)
    scores = parts.add("FlexScores", [q.name, k.name], q.elem_type, shape, {"scale": numbers["scale"]} if "scale" in numbers else {})
    if precision != q.elem_type:
        scores = parts.add("Cast", [scores], precision, shape, {"to": precision}, "")
    scores = parts.body(bodies, "score_mod", scores, where)
    target = tracer.target(node.output[0], frame)
    result = (*q.shape[:3], v.shape[3])
    if "prob_mod" not in bodies and _BITS[precision] >= _BITS[q.elem_type] and {precision, q.elem_type} != {10, 16}:
        parts.add("FlexOutput", [scores, v.name], q.elem_type, result, {}, target=target)
    else:
        weights = parts.add("FlexWeights", [scores], precision, shape, {})
        weights = parts.body(bodies, "prob_mod", weights, where)
        parts.add("FlexWeighted", [weights, v.name], q.elem_type, result, {}, target=target)
    frame.names[node.output[0]] = target


def _operand(tracer: Tracer, node: onnx.NodeProto, frame: Frame, position: int, where: str) -> Value:
    name = frame.names[node.input[position]] if position < len(node.input) and node.input[position] else None
    if name is None or len(node.input) != 3 or len(node.output) != 1:
        raise InvalidModel(f"{where}: it takes Q, K and V and gives Y")
    return tracer.values[name]


class _Parts:
    """Nodes of one FlexAttention, written down in order."""

    def __init__(self, tracer: Tracer, node: onnx.NodeProto, frame: Frame, precision: int, shape: tuple[int, ...]) -> None:
        self.tracer, self.frame, self.name = tracer, frame, label(node)
        self.precision, self.shape = precision, shape

    def add(
        self,
        op_type: str,
        inputs: list[str],
        elem_type: int,
        shape: tuple[int, ...],
        attributes: dict[str, Any],
        domain: str = "certify",
        target: str | None = None,
    ) -> str:
        name = target or self.tracer.fresh(f"{self.name}/{op_type}", self.frame.scope)
        output = self.tracer.define(name, elem_type, shape)
        opset = self.frame.opsets.get("", 23) if domain == "" else 1
        self.tracer.nodes.append(
            Node(f"{self.name}/{op_type}", op_type, domain, opset, tuple(inputs), (output,), attributes, self.frame.scope, self.name)
        )
        return output

    def body(self, bodies: dict[str, onnx.GraphProto], which: str, x: str, where: str) -> str:
        """x as the graph `which` changes it, if there is one. Raises InvalidModel unless type and shape stay."""
        graph = bodies.get(which)
        if graph is None:
            return x
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise InvalidModel(f"{where}: {which} must take one tensor and give one")
        scope = "/".join(part for part in (self.frame.scope, self.name, which) if part)
        found = self.tracer.body(graph, self.frame, [x], [None], scope)[0]
        value = self.tracer.values[found or x]
        if value.elem_type != self.precision or value.shape != self.shape:
            raise InvalidModel(f"{where}: {which} gives {tensors.type_name(value.elem_type)}{list(value.shape)}")
        return value.name
