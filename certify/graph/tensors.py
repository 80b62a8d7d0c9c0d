"""ONNX tensors and attributes as numpy arrays and Python values; external data stays on disk, memory-mapped."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certify.graph.model import InvalidModel, Unsupported

if TYPE_CHECKING:
    import onnx

FLOATING = frozenset({1, 10, 11, 16, 17, 18, 19, 20, 23, 24, 27, 28})  # TensorProto: float, float16, double, bfloat16, float8, 4, 6
NARROW_INTEGERS = frozenset({2, 3, 21, 22, 25, 26})  # uint8, int8 and the 4- and 2-bit integers, in which quantized weights are kept


def dtype_of(elem_type: int) -> np.dtype[Any]:
    """The numpy (or ml_dtypes) type of an ONNX element type. Raises Unsupported for a type that numpy cannot hold."""
    import onnx

    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, ValueError) as cause:
        raise Unsupported(f"element type {elem_type} of ONNX is not supported") from cause


@cache
def type_name(elem_type: int) -> str:
    """ONNX's own name for an element type, in lower case."""
    import onnx

    names: dict[int, str] = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    return names.get(elem_type, f"type {elem_type}")


def array(tensor: onnx.TensorProto, folder: Path | None, owner: str) -> npt.NDArray[Any]:
    """The elements of `tensor`, read-only, in the type as stored.

    `folder` is where external data may lie (None: nowhere); `owner` says in messages whose tensor it is.
    Raises InvalidModel for a size that does not match, or external data that is missing, short or outside `folder`.
    """
    import onnx

    if any(d < 0 for d in tensor.dims):
        raise InvalidModel(f"{owner}: negative dimension in shape {tuple(tensor.dims)}")
    if tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise InvalidModel(f"{owner}: the tensor has no element type")
    if tensor.HasField("segment"):
        raise Unsupported(f"{owner}: tensors stored in segments are not supported")
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    elements = _external(tensor, folder, owner) if external else _decode(tensor, owner)
    elements.flags.writeable = False
    return elements


def _decode(tensor: onnx.TensorProto, owner: str) -> npt.NDArray[Any]:
    import onnx

    dtype_of(tensor.data_type)
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as cause:
        raise InvalidModel(f"{owner}: its data does not fill its shape {tuple(tensor.dims)} ({cause}); is the file truncated?") from cause


def _external(tensor: onnx.TensorProto, folder: Path | None, owner: str) -> npt.NDArray[Any]:
    """Map the tensor's bytes. A type that packs several elements in a byte is read and unpacked instead."""
    import onnx

    entries = {entry.key: entry.value for entry in tensor.external_data}
    if folder is None:
        raise InvalidModel(f"{owner}: its data is in the external file {entries.get('location', '')!r}; give the model by its path")
    path = external_path(entries.get("location", ""), folder, owner)
    available = path.stat().st_size
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(available - offset)))
    except ValueError as cause:
        raise InvalidModel(f"{owner}: offset and length of its external data must be integers") from cause
    if offset < 0 or length < 0 or offset + length > available:
        raise InvalidModel(f"{owner}: needs bytes {offset} to {offset + length} of {path.name}, which has {available}; is it truncated?")
    dtype, shape = dtype_of(tensor.data_type), tuple(tensor.dims)
    if tensor.data_type in _PACKED:
        clone = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims)
        with path.open("rb") as file:
            file.seek(offset)
            clone.raw_data = file.read(length)
        return _decode(clone, owner)
    expected = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if length != expected:
        kind = f"{type_name(tensor.data_type)}{list(shape)}"
        raise InvalidModel(f"{owner}: {length} bytes of external data do not fill {kind}, which takes {expected}")
    if expected == 0:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


_PACKED = frozenset({21, 22, 23, 25, 26})  # uint4, int4, float4e2m1, uint2, int2


def external_path(location: str, folder: Path, owner: str) -> Path:
    """`location` inside `folder`, links resolved. Raises InvalidModel if it is missing or leads outside."""
    if not location:
        raise InvalidModel(f"{owner}: its external data names no file")
    parts = location.replace("\\", "/").split("/")
    inside = folder.resolve()
    path = Path(os.path.realpath(inside / location))
    if os.path.isabs(location) or ".." in parts or ":" in parts[0] or not path.is_relative_to(inside):
        raise InvalidModel(f"{owner}: external data {location!r} lies outside the model's folder, which is refused")
    if not path.is_file():
        raise InvalidModel(f"{owner}: its external data file {folder / location} is missing; it belongs beside the model")
    return path


def external_files(path: Path) -> list[str]:
    """Where the external data of a model file lie, relative to its folder. Raises InvalidModel as `external_path` does."""
    import onnx
    from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]

    left: list[Any] = [onnx.load(path, load_external_data=False)]
    found: set[str] = set()
    while left:
        message = left.pop()
        if isinstance(message, onnx.TensorProto):
            if message.data_location == onnx.TensorProto.EXTERNAL:
                found.update(entry.value for entry in message.external_data if entry.key == "location")
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                left += [value] if isinstance(value, Message) else value
    return [location for location in sorted(found) if external_path(location, path.parent, path.name)]


def dense(sparse: onnx.SparseTensorProto, folder: Path | None, owner: str) -> npt.NDArray[Any]:
    """The dense array of a sparse tensor (indices linear, or one row of coordinates an element)."""
    values = array(sparse.values, folder, owner)
    indices = array(sparse.indices, folder, owner)
    shape = tuple(sparse.dims)
    size = int(np.prod(shape, dtype=np.int64))
    try:
        linear = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        if linear.size != values.size or (linear.size and not 0 <= linear.min() <= linear.max() < size):
            raise ValueError("indices and values do not match the shape")
        elements = np.zeros(size, values.dtype)
        elements[linear] = values
    except (ValueError, IndexError) as cause:
        raise InvalidModel(f"{owner}: sparse tensor of shape {shape}: {cause}") from cause
    elements = elements.reshape(shape)
    elements.flags.writeable = False
    return elements


def attribute(proto: onnx.AttributeProto, folder: Path | None, owner: str) -> Any:
    """An attribute as a Python value: tensors as arrays, text decoded, repeated fields as tuples.

    Graphs are returned as the GraphProto they are: whoever traces the node replaces them.
    """
    import onnx

    kind = onnx.AttributeProto
    where = f"{owner}, attribute {proto.name!r}"
    if proto.type == kind.STRING:
        return proto.s.decode("utf-8", "replace")
    if proto.type == kind.STRINGS:
        return tuple(s.decode("utf-8", "replace") for s in proto.strings)
    if proto.type == kind.TENSOR:
        return array(proto.t, folder, where)
    if proto.type == kind.TENSORS:
        return tuple(array(t, folder, where) for t in proto.tensors)
    if proto.type == kind.SPARSE_TENSOR:
        return dense(proto.sparse_tensor, folder, where)
    try:
        value = onnx.helper.get_attribute_value(proto)
    except ValueError as cause:
        raise InvalidModel(f"{where}: {cause}") from cause
    return tuple(value) if isinstance(value, (list, tuple)) or hasattr(value, "extend") else value
