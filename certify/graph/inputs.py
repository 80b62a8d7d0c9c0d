"""Concrete shapes of a model's inputs: what the file declares, completed by the user and by the data.

An input that is a sequence stands for its tensors, which data call name[0], name[1], ...; an optional one is there if data feed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from certify.graph.model import InvalidModel, Shape, Unsupported

if TYPE_CHECKING:
    import onnx

Dimension: TypeAlias = int | str  # a symbol, "" if it is open and has no name
Declared: TypeAlias = tuple[int, list[Dimension] | None]  # element type; dimensions, None if not even their number is known


def tensors_of(infos: Sequence[onnx.ValueInfoProto], fed: Mapping[str, Shape] | None) -> dict[str, Sequence[onnx.ValueInfoProto] | None]:
    """By input name: declarations of the tensors that it stands for, one but for a sequence; None for an optional input that is absent.

    fed: shapes of the data, by name; one without elements under a sequence's own name says that the sequence has no tensors.
    Raises Unsupported for an input of another type, and where only data could tell.
    """
    found: dict[str, Sequence[onnx.ValueInfoProto] | None] = {}
    for info in infos:
        optional = info.type.HasField("optional_type")
        kind = info.type.optional_type.elem_type if optional else info.type
        if optional and fed is None:
            raise Unsupported(f"input {info.name!r} is optional: only --data can tell whether it is there")
        if kind.HasField("tensor_type"):
            found[info.name] = [_renamed(info.name, kind, None)] if not optional or info.name in (fed or {}) else None
        elif kind.HasField("sequence_type") and kind.sequence_type.elem_type.HasField("tensor_type"):
            found[info.name] = _items(info.name, kind.sequence_type.elem_type, fed or {})
            if found[info.name] is None and not optional:
                raise Unsupported(f"input {info.name!r} is a sequence; give its tensors with --data, called '{info.name}[0]', ...")
        elif kind.WhichOneof("value") is None:
            raise InvalidModel(f"input {info.name!r} is declared without a type")
        else:
            raise Unsupported(f"input {info.name!r} is a {str(kind.WhichOneof('value')).removesuffix('_type')}, which is not supported")
    return found


def _items(name: str, kind: onnx.TypeProto, fed: Mapping[str, Shape]) -> Sequence[onnx.ValueInfoProto] | None:
    """The tensors of a sequence that data feed, None if they feed none."""
    names = [item for i in range(len(fed)) if (item := f"{name}[{i}]") in fed]
    return [_renamed(item, kind, fed[item]) for item in names] if names or 0 in fed.get(name, ()) else None


def _renamed(name: str, kind: onnx.TypeProto, fed: Shape | None) -> onnx.ValueInfoProto:
    """A tensor's declaration; of a sequence's tensor, whose open dimensions are those of the data."""
    import onnx

    info = onnx.ValueInfoProto(name=name)
    info.type.CopyFrom(kind)
    if fed is not None:
        declared = [d.dim_value for d in kind.tensor_type.shape.dim] if kind.tensor_type.HasField("shape") else [0] * len(fed)
        fed = fed[1:] if len(fed) == len(declared) + 1 else fed
        shape = [d or n for d, n in zip(declared, fed, strict=False)] if len(fed) == len(declared) else declared
        info.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind.tensor_type.elem_type, shape))
    return info


def concrete_inputs(
    infos: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[int]], data_shapes: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, Shape]]:
    """(element type, shape) by input name, in the file's order.

    A user's shape wins, and fixes the symbols it meets in the other inputs too; then the data's, but for the first
    dimension; an open first dimension is a batch of one, and so is one declared 0. Raises InvalidModel, with the
    option to give, for what stays open or contradicts the file, and for an input without elements that no data feed.
    """
    declared = {info.name: _declared(info) for info in infos}
    unknown = next((name for name in shapes if name not in declared), None)
    if unknown is not None:
        raise InvalidModel(f"--shape names {unknown!r}, which is no input; its inputs are {', '.join(declared) or 'none'}")
    symbols: dict[str, int] = {}
    for name, given in shapes.items():
        _match(name, declared[name][1], tuple(given), symbols)
    result: dict[str, tuple[int, Shape]] = {}
    for name, (elem_type, dimensions) in declared.items():
        if name in shapes:
            result[name] = elem_type, tuple(shapes[name])
        else:
            result[name] = elem_type, _completed(name, dimensions, tuple(data_shapes.get(name, ())), symbols)
    return result


def _declared(info: onnx.ValueInfoProto) -> Declared:
    tensor = info.type.tensor_type
    if not tensor.elem_type:
        raise InvalidModel(f"input {info.name!r} is declared without an element type")
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    dimensions: list[Dimension] = []
    for position, d in enumerate(tensor.shape.dim):
        if d.HasField("dim_value") and (d.dim_value > 0 or (d.dim_value == 0 and position > 0)):
            dimensions.append(d.dim_value)
        else:
            dimensions.append(d.dim_param if d.dim_param not in ("?", "-1") else "")
    return tensor.elem_type, dimensions


def _match(name: str, declared: list[Dimension] | None, given: Shape, symbols: dict[str, int]) -> None:
    """Check the user's shape of one input, and note what it says about symbols."""
    text = ",".join(map(str, given))
    if any(d <= 0 for d in given):
        raise InvalidModel(f"--shape {name}={text}: every dimension must be at least 1")
    if declared is None:
        return
    if len(declared) != len(given):
        raise InvalidModel(f"--shape {name}={text} has {len(given)} dimensions; the file declares {len(declared)}: {_text(declared)}")
    for d, value in zip(declared, given, strict=True):
        if isinstance(d, int) and d != value:
            raise InvalidModel(f"--shape {name}={text} contradicts the file, which fixes {_text(declared)}")
        if isinstance(d, str) and d and symbols.setdefault(d, value) != value:
            raise InvalidModel(f"--shape {name}={text} makes dimension {d!r} both {symbols[d]} and {value}")


def _completed(name: str, declared: list[Dimension] | None, data: Shape, symbols: Mapping[str, int]) -> Shape:
    if declared is None:
        if len(data) < 1:
            raise InvalidModel(f"input {name!r} is declared without a shape; give it with --shape {name}=1,3,224,224")
        return (1, *data[1:])
    if len(data) == len(declared) + 1:
        data = data[1:]
    usable = data if len(data) == len(declared) else (0,) * len(declared)
    shape: list[int] = []
    for position, (d, fed) in enumerate(zip(declared, usable, strict=True)):
        if d == 0 and len(data) != len(declared):
            raise InvalidModel(f"input {name!r} has no elements: dimension {position} is declared 0")
        if isinstance(d, int):
            shape.append(d)
        elif d in symbols:
            shape.append(symbols[d])
        elif position == 0:
            shape.append(0 if len(data) == len(declared) and fed == 0 else 1)  # data without rows: no elements, not a batch of one
        elif fed > 0:
            shape.append(fed)
        else:
            example = ",".join(str(x) if isinstance(x, int) else "1" if i == 0 else "N" for i, x in enumerate(declared))
            open_shape = f"input {name!r} has shape {_text(declared)}, of which dimension {position} is open"
            raise InvalidModel(f"{open_shape}; give it with --shape {name}={example}")
    return tuple(shape)


def _text(dimensions: Sequence[Dimension]) -> str:
    return "[" + ", ".join(str(d) if d != "" else "?" for d in dimensions) + "]"
