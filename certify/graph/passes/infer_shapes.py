"""Element type and concrete shape of a node's outputs, from concrete inputs and the constants among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.graph import decided, tensors
from certify.graph.domains import operators
from certify.graph.domains.contract import Operator
from certify.graph.model import InvalidModel, Shape, Unsupported, Value
from certify.graph.refused import REFUSED
from certify.graph.structure import label
from certify.graph.tensors import type_name

if TYPE_CHECKING:
    import onnx

Type: TypeAlias = tuple[int, Shape]
LARGEST = 2**33  # elements of one result: 64 GiB as float64, the least that an analysis keeps of it
KNOWN_ELEMENTS = 4096  # constants up to this size are shown to shape inference; operands that decide a shape are far smaller


def arity(schema: onnx.defs.OpSchema, node: onnx.NodeProto) -> None:
    """Raises InvalidModel unless operands, results and required attributes are those of the operator's definition."""
    where = f"node {label(node)!r} ({node.op_type})"
    given = len(node.input)
    if not schema.min_input <= given <= schema.max_input:
        limits = f"{schema.min_input}" if schema.min_input == schema.max_input else f"{schema.min_input} to {schema.max_input}"
        raise InvalidModel(f"{where} has {given} inputs; opset {schema.since_version} defines {limits}")
    if not 0 < len(node.output) <= schema.max_output:
        raise InvalidModel(f"{where} has {len(node.output)} outputs; opset {schema.since_version} defines up to {schema.max_output}")
    single = onnx_option("Single")
    for position, formal in enumerate(schema.inputs[:given]):
        if formal.option == single and not node.input[position]:
            raise InvalidModel(f"{where}: input {position} ({formal.name}) is required but absent")
    for given_attribute in node.attribute:
        declared = schema.attributes.get(given_attribute.name)
        kind: Any = None if declared is None else declared.type
        if kind is not None and int(kind.value) != given_attribute.type:
            raise InvalidModel(f"{where}: attribute {given_attribute.name!r} is not of type {kind.name}")
    present = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in present:
            raise InvalidModel(f"{where}: attribute {name!r} is required but absent")


def onnx_option(name: str) -> Any:
    """The schema's word for single, optional or variadic operands."""
    import onnx

    return getattr(onnx.defs.OpSchema.FormalParameterOption, name)


def operand_types(schema: onnx.defs.OpSchema, node: onnx.NodeProto, operands: Sequence[Value | None]) -> None:
    """Raises InvalidModel for an operand whose element type the operator does not take, or operands that should agree."""
    bound: dict[str, tuple[int, str]] = {}
    for position, operand in enumerate(operands):
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        if operand is None:
            continue
        name = type_name(operand.elem_type)
        if formal.types and f"tensor({name})" not in formal.types:
            raise InvalidModel(f"node {label(node)!r} ({node.op_type}): input {operand.name!r} is {name}, which the operator does not take")
        if not formal.is_homogeneous or "(" in formal.type_str:
            continue
        first, owner = bound.setdefault(formal.type_str, (operand.elem_type, operand.name))
        if first != operand.elem_type:
            pair = f"{owner!r} ({type_name(first)}) and {operand.name!r} ({name})"
            raise InvalidModel(f"node {label(node)!r} ({node.op_type}): inputs {pair} must have one type")


def infer(
    schema: onnx.defs.OpSchema,
    node: onnx.NodeProto,
    operands: Sequence[Value | None],
    known: Mapping[str, npt.NDArray[Any]],
    opsets: Mapping[str, int],
) -> list[Type | None]:
    """(element type, shape) of each output, None where the node leaves it out.

    `operands` are in the order of node.input; `known` maps operand names (as in `node`) to constants.
    Raises InvalidModel if shapes or types do not fit, Unsupported if a shape depends on data.
    """
    operand_types(schema, node, operands)
    row = operators().get((schema.domain, node.op_type))
    own = row is not None and row.schema is schema
    types = _by_table(row, node, operands) if row is not None and own else _by_schema(schema, node, operands, known, opsets)
    if not own and any(t is None and name for t, name in zip(types, node.output, strict=True)):
        ours = _OURS.get((node.domain, node.op_type))
        types = ours(node, operands) if ours else _by_model(node, operands, known, opsets)
    for name, found in zip(node.output, types, strict=True):
        if name and found is not None and prod(found[1]) > LARGEST:
            raise Unsupported(f"node {label(node)!r} ({node.op_type}): its output {name!r} of shape {list(found[1])} is too large")
        if name and found is None:
            where = f"node {label(node)!r} ({node.op_type})"
            if reason := REFUSED.get((node.domain, node.op_type)):
                raise Unsupported(f"{where}: {reason}")
            raise Unsupported(f"{where}: the shape of its output {name!r} is not fixed by its inputs' shapes; such nodes are not supported")
    return [found if name else None for name, found in zip(node.output, types, strict=True)]


def _refusal(node: onnx.NodeProto, operands: Sequence[Value | None], cause: Exception) -> InvalidModel:
    shapes = ", ".join("absent" if v is None else f"{v.name} {list(v.shape)}" for v in operands)
    reason = str(cause).split("\n")[0].replace("[ShapeInferenceError] ", "").replace("[TypeInferenceError] ", "").strip()
    return InvalidModel(f"node {label(node)!r} ({node.op_type}): {reason or 'its inputs do not fit'}; inputs: {shapes}")


def _shown(constant: npt.NDArray[Any] | None) -> bool:
    return constant is not None and constant.size <= KNOWN_ELEMENTS and constant.dtype != object


def _protos(
    node: onnx.NodeProto, operands: Sequence[Value | None], known: Mapping[str, npt.NDArray[Any]]
) -> tuple[dict[str, onnx.TypeProto], dict[str, onnx.TensorProto]]:
    import onnx

    types = {
        name: onnx.helper.make_tensor_type_proto(value.elem_type, value.shape)
        for name, value in zip(node.input, operands, strict=True)
        if value is not None
    }
    small = {name: np.asarray(known[name]) for name in types if _shown(known.get(name))}
    data = {name: onnx.numpy_helper.from_array(elements, name) for name, elements in small.items()}
    return types, data


def _by_schema(
    schema: onnx.defs.OpSchema,
    node: onnx.NodeProto,
    operands: Sequence[Value | None],
    known: Mapping[str, npt.NDArray[Any]],
    opsets: Mapping[str, int],
) -> list[Type | None]:
    import onnx

    types, data = _protos(node, operands, known)
    node = _told(node)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imports)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as cause:
        raise _refusal(node, operands, cause) from cause
    return [concrete(found[name]) if name in found else None for name in node.output]


def _told(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with the attribute that inference takes for 0 where it is absent, though its default is 1: STFT's `onesided`."""
    import onnx

    if node.domain or node.op_type != "STFT" or any(attribute.name == "onesided" for attribute in node.attribute):
        return node
    told = onnx.NodeProto()
    told.CopyFrom(node)
    told.attribute.append(onnx.helper.make_attribute("onesided", 1))
    return told


def _by_table(row: Operator, node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    """What the table of the runtime's own operators says."""
    try:
        return row.infer_types(operands, {a.name: tensors.attribute(a, None, "") for a in node.attribute}, len(node.output))
    except ValueError as cause:
        raise _refusal(node, operands, cause) from cause


def _by_model(
    node: onnx.NodeProto, operands: Sequence[Value | None], known: Mapping[str, npt.NDArray[Any]], opsets: Mapping[str, int]
) -> list[Type | None]:
    """The same question asked of the whole-model pass, which also opens operators that are defined as functions."""
    import onnx

    types, data = _protos(node, operands, known)
    helper = onnx.helper
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_value_info(name, t) for name, t in types.items() if name not in data],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        list(data.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()])
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as cause:
        raise _refusal(node, operands, cause) from cause
    found = {info.name: info.type for info in inferred.graph.output}
    return [concrete(found[name]) if name in found else None for name in node.output]


def concrete(proto: onnx.TypeProto) -> Type | None:
    """(element type, shape), or None if it is not a tensor of known shape."""
    tensor = proto.tensor_type
    if not proto.HasField("tensor_type") or not tensor.elem_type or not tensor.HasField("shape"):
        return None
    if not all(d.HasField("dim_value") and d.dim_value >= 0 for d in tensor.shape.dim):
        return None
    return tensor.elem_type, tuple(d.dim_value for d in tensor.shape.dim)


def _dropout(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    """The mask, which inference does not use, has the data's shape; before opset 10 it has its type too."""
    first = operands[0]
    return [None if first is None else (first.elem_type, first.shape)] * len(node.output)


def _labels(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    """A classifier's label and its score for each class."""
    lists = {a.name: len(a.ints) or len(a.strings) for a in node.attribute if a.name.startswith("classlabels")}
    rows, text = _rows(operands[0]), any(a.name.startswith("classlabels_str") and a.strings for a in node.attribute)
    both: list[Type | None] = [(8 if text else 7, (rows,)), (1, (rows, max(lists.values(), default=1)))]
    return both[: len(node.output)]


def _targets(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    """A regressor's results, one a target."""
    return [(1, (_rows(operands[0]), next((a.i for a in node.attribute if a.name in ("n_targets", "targets")), 1)))]


def _votes(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    """A support vector classifier's label, and a score for each pair of three classes or more unless it gives probabilities."""
    label, scores = [*_labels(node, operands), None][:2]
    named = {a.name: a for a in node.attribute}
    paired = "vectors_per_class" in named and any(named["vectors_per_class"].ints) and not ("prob_a" in named and named["prob_a"].floats)
    if scores is not None and paired and scores[1][1] > 2:
        scores = (1, (scores[1][0], scores[1][1] * (scores[1][1] - 1) // 2))
    return [label, scores][: len(node.output)]


def _features(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    """As many features as its dimensions say, by default those of its operands."""
    wanted = next((list(a.ints) for a in node.attribute if a.name == "inputdimensions"), [])
    widths = [1 if v is None else prod(v.shape[1:]) if len(v.shape) > 1 else v.shape[0] for v in operands]
    return [(1, (_rows(operands[0]), sum(wanted) if len(wanted) == len(widths) else sum(widths)))]


def _rows(operand: Value | None) -> int:
    return operand.shape[0] if operand is not None and len(operand.shape) > 1 else 1


def _like_first(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    first = operands[0]
    return [(first.elem_type, first.shape) if first is not None else None] + [None] * (len(node.output) - 1)


def _float_like_first(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    first = operands[0]
    return [(1, first.shape) if first is not None else None] + [None] * (len(node.output) - 1)


def _known(node: onnx.NodeProto, operands: Sequence[Value | None], count: int = 1) -> list[Any] | None:
    """The first operands' elements (None where absent); None unless all that are there are constants."""
    given = [*operands, None, None, None, None][:count]
    return None if any(v is not None and v.constant is None for v in given) else [None if v is None else v.constant for v in given]


def _attribute(node: onnx.NodeProto, name: str, default: int | None) -> int | None:
    return next((a.i for a in node.attribute if a.name == name), default)


def _axis(node: onnx.NodeProto, rank: int) -> int | None:
    """The attribute `axis`, counted from the front; None where absent."""
    axis = _attribute(node, "axis", None)
    if axis is not None and not -rank <= axis < rank:
        raise InvalidModel(f"node {label(node)!r} ({node.op_type}): axis {axis} is outside rank {rank}")
    return axis if axis is None else axis % rank


def _compressed(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    x, condition = operands[0], operands[1]
    if x is None or condition is None or condition.constant is None:
        return [None]
    axis = _axis(node, len(x.shape))
    extent = x.size if axis is None else x.shape[axis]
    count = int(np.count_nonzero(np.ravel(condition.constant)[:extent]))
    return [(x.elem_type, (count,) if axis is None else (*x.shape[:axis], count, *x.shape[axis + 1 :]))]


def _unpooled(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    x, shape = operands[0], operands[2] if len(operands) > 2 else None
    if x is None or shape is None or shape.constant is None:
        return [None]
    return [(x.elem_type, tuple(int(n) for n in np.ravel(shape.constant)))]


def _nonzero(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    found = _known(node, operands)
    return [None] if found is None else [(7, decided.nonzero(found[0]).shape)]


def _unique(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    x, found = operands[0], _known(node, operands)
    if x is None or found is None:
        return [None] * len(node.output)
    axis = _axis(node, len(x.shape))
    first, inverse, counts = decided.unique(_comparable(found[0]), axis, True)
    shape = (first.size,) if axis is None else (*x.shape[:axis], first.size, *x.shape[axis + 1 :])
    types: list[Type | None] = [(x.elem_type, shape), (7, first.shape), (7, inverse.shape), (7, counts.shape)]
    return types[: len(node.output)]


def _comparable(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return x if x.dtype.kind in "iub" else np.asarray(x, dtype=np.float64)


def _suppressed(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    found = _known(node, operands, 5)
    if found is None:
        return [None]
    boxes, scores = (np.asarray(x, dtype=np.float64) for x in found[:2])
    limit, overlap, least = (None if x is None else float(np.ravel(x)[0]) for x in found[2:])
    center = bool(_attribute(node, "center_point_box", 0))
    try:
        rows = decided.selected(boxes, scores, int(limit or 0), overlap or 0.0, least, center, 0.0)
    except decided.Undecided as reason:
        raise Unsupported(f"node {label(node)!r} ({node.op_type}): {reason}") from reason
    return [(7, rows.shape)]


def _counted(node: onnx.NodeProto, operands: Sequence[Value | None]) -> list[Type | None]:
    """Range over types for which inference does not count."""
    found, first = _known(node, operands, 3), operands[0]
    if found is None or first is None:
        return [None]
    start, limit, delta = (float(np.ravel(x)[0]) for x in found)
    if not np.isfinite([start, limit, delta]).all() or delta == 0.0:
        raise InvalidModel(f"node {label(node)!r} (Range): no range leads from {start} to {limit} by {delta}")
    return [(first.elem_type, (max(int(np.ceil((limit - start) / delta)), 0),))]


# Operators whose definition comes without shape inference, though their shape is plain.
_OURS: dict[tuple[str, str], Callable[[onnx.NodeProto, Sequence[Value | None]], list[Type | None]]] = {
    ("", "Compress"): _compressed,
    ("", "Dropout"): _dropout,
    ("", "GroupNormalization"): _like_first,
    ("", "MeanVarianceNormalization"): _like_first,
    ("", "MaxUnpool"): _unpooled,
    ("", "NonMaxSuppression"): _suppressed,
    ("", "NonZero"): _nonzero,
    ("", "Range"): _counted,
    ("", "Unique"): _unique,
    ("ai.onnx.ml", "Binarizer"): _like_first,
    ("ai.onnx.ml", "FeatureVectorizer"): _features,
    ("ai.onnx.ml", "Imputer"): _like_first,
    ("ai.onnx.ml", "LinearClassifier"): _labels,
    ("ai.onnx.ml", "LinearRegressor"): _targets,
    ("ai.onnx.ml", "Normalizer"): _float_like_first,
    ("ai.onnx.ml", "SVMClassifier"): _votes,
    ("ai.onnx.ml", "SVMRegressor"): _targets,
    ("ai.onnx.ml", "Scaler"): _float_like_first,
    ("ai.onnx.ml", "TreeEnsembleClassifier"): _labels,
    ("ai.onnx.ml", "TreeEnsembleRegressor"): _targets,
}
