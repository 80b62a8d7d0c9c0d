"""The input set: points from a file or drawn from a domain, or the box of a region, checked against the model.

Inputs are numbers of the input tensor's own format. Rows of a batch are cases, and so is an extra leading axis.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from certify.boxes import EXACT_INTEGERS, input_boxes, inward
from certify.certificate.contract import InputFacts
from certify.errors import InvalidData, Unsupported, UsageError
from certify.graph.infinities import mistaken_in_input, readers
from certify.graph.model import ModelGraph, Value
from certify.graph.tensors import FLOATING, dtype_of, type_name
from certify.graph.vnnlib import read as read_vnnlib
from certify.graph.vnnlib.property import Property
from certify.number.enclosure import Enclosure, hull_of
from certify.number.formats import from_onnx
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.request import Range, Request

DEFAULT_RANGE: Range = (-1.0, 1.0)
# Between an input and the table that it indexes these change neither its values nor their meaning.
_TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand"})
_TABLES = frozenset({"Gather", "GatherElements"})


@dataclass(frozen=True, slots=True)
class Raw:
    """Arrays as the user gave them, by input name (or "#0", "#1", ... by position), and how messages call their source."""

    arrays: Mapping[str, npt.NDArray[Any]]
    source: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input set of a claim.

    points: by input, (cases or 1, *shape), empty for a region.
    box:    by input, (1, *shape), None for points; of a VNN-LIB file, the smallest that holds all of its boxes.
    boxes:  all boxes of a region; one for each case of `said`, what a VNN-LIB file states.
    """

    points: dict[str, Array]
    box: dict[str, Enclosure] | None
    facts: InputFacts
    boxes: tuple[dict[str, Enclosure], ...] = ()
    said: Property | None = None


def read(data: Path | Mapping[str, npt.NDArray[Any]]) -> Raw:
    """Read an .npz file, a folder of `input_*.pb` (ONNX TensorProto), or take arrays. Raises InvalidData naming file and key.

    A list of arrays is a sequence, its tensors called name[0], name[1], ...; None is an optional input that is absent.
    """
    if isinstance(data, Mapping):
        return Raw(dict(_named(data)), "data")
    if not data.exists():
        raise InvalidData(f"--data {data}: there is no such file or folder")
    return Raw(_read_folder(data) if data.is_dir() else _read_npz(data), f"--data {data}")


def _named(data: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, x in data.items():
        if isinstance(x, list) and x and all(isinstance(item, np.ndarray) for item in x):
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(x))
        elif x is not None:
            yield name, np.asarray(x)


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    key = ""
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise InvalidData(f"--data {path}: holds one array without a name; save it with numpy.savez(path, INPUT=array)")
        arrays = {}
        with content:
            for key in content.files:
                arrays[key] = content[key]
        return arrays
    except InvalidData:
        raise
    except OSError as error:
        raise InvalidData(f"--data {path}: can't be read: {error.strerror or error}") from error
    except Exception as error:  # zip, zlib and numpy each raise their own for a damaged file
        where = f"array {key!r} can't be read ({error})" if key else "not a readable .npz file"
        raise InvalidData(f"--data {path}: {where}; write it with numpy.savez") from error


def _read_folder(folder: Path) -> dict[str, npt.NDArray[Any]]:
    import onnx
    from google.protobuf.message import DecodeError

    paths = sorted(folder.glob("input_*.pb"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise InvalidData(f"--data {folder}: the folder holds no input_*.pb")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for path in paths:
        tensor = onnx.TensorProto()
        try:
            tensor.ParseFromString(path.read_bytes())
            name = tensor.name or f"#{path.stem.removeprefix('input_')}"
            if name in arrays:
                raise InvalidData(f"--data {path}: a second tensor for input {name!r}")
            arrays[name] = onnx.numpy_helper.to_array(tensor)
        except OSError as error:
            raise InvalidData(f"--data {path}: can't be read: {error.strerror}") from error
        except (DecodeError, ValueError, TypeError, KeyError) as error:
            raise InvalidData(f"--data {path}: not an ONNX tensor ({error})") from error
    return arrays


def inputs_for(graph: ModelGraph, request: Request, raw: Raw | None = None) -> Inputs:
    """The request's input set for this model; `raw` if the request's data was already read.

    Raises InvalidData naming file, input and what was expected, UsageError naming the option, or Unsupported for strings.
    """
    for name in graph.inputs:
        if type_name(graph.values[name].elem_type) == "string":
            raise Unsupported(f"input {name!r} holds strings; only numbers are supported")
    if request.vnnlib is not None:
        return _stated(graph, read_vnnlib(request.vnnlib))
    if request.data is not None:
        points = _points(graph, raw or read(request.data))
        return Inputs(points, None, InputFacts("points", _cases(points), "data", digest(points)))
    domain = _domain(graph, request.ranges)
    chosen = "" in request.ranges or all(name in request.ranges for name in graph.inputs)
    if request.region:
        box = {}
        for name, (lo, hi) in domain.items():
            shape = (1, *graph.values[name].shape)
            box[name] = Enclosure(np.full(shape, lo), np.full(shape, hi))
        return Inputs({}, box, InputFacts("region", 1, "range" if chosen else "default", None, domain), (box,))
    points = {}
    for i, (name, (lo, hi)) in enumerate(domain.items()):
        value = graph.values[name]
        points[name] = _draw(value, lo, hi, (request.samples, *value.shape), np.random.default_rng([request.seed, i]))
    source: Literal["sampled", "default"] = "sampled" if chosen else "default"
    return Inputs(points, None, InputFacts("points", request.samples, source, digest(points), domain, request.seed))


def _stated(graph: ModelGraph, said: Property) -> Inputs:
    """The boxes of a VNN-LIB file."""
    boxes, widened = input_boxes(graph, said)
    box = hull_of(boxes)
    domain = {name: (float(X.lo.min()), float(X.hi.max())) for name, X in box.items() if X.lo.size}
    for name, (lo, hi) in domain.items():
        table = table_size(graph, name)
        if table is not None and (lo < -table or hi > table - 1):
            raise InvalidData(f"{said.source}: input {name!r} may be {lo:g} to {hi:g}, outside the table of {table} rows that it indexes")
    every = {name: np.concatenate([np.stack([b[name].lo, b[name].hi]) for b in boxes], axis=1) for name in box}
    return Inputs({}, box, InputFacts("region", 1, "vnnlib", digest(every), domain, widened=widened), boxes, said)


def digest(points: Mapping[str, Array]) -> str:
    """SHA-256 of the points: for each input by name, its name, shape and float64 elements in C order, little-endian."""
    state = hashlib.sha256()
    for name in sorted(points):
        x = points[name]
        state.update(f"{name}\0{','.join(map(str, x.shape))}\0".encode())
        state.update(np.ascontiguousarray(x, dtype="<f8").tobytes())
    return state.hexdigest()


def _cases(points: Mapping[str, Array]) -> int:
    return max((x.shape[0] for x in points.values()), default=1)


def _points(graph: ModelGraph, raw: Raw) -> dict[str, Array]:
    """The arrays as float64 cases, one per input, in the model's order. Raises InvalidData."""
    positions = {f"#{i}": name for i, name in enumerate(graph.inputs)}
    arrays = {positions.get(name, name): x for name, x in raw.arrays.items() if name not in graph.empty}
    expected = ", ".join(map(_describe, (graph.values[name] for name in graph.inputs))) or "none"
    if unknown := [name for name in arrays if name not in graph.inputs]:
        raise InvalidData(f"{raw.source}: {_names(unknown)} no input of the model; its inputs are {expected}")
    if missing := [name for name in graph.inputs if name not in arrays]:
        raise InvalidData(f"{raw.source}: {_names(missing)} missing; the model's inputs are {expected}")
    points = {}
    for name in graph.inputs:
        value, where = graph.values[name], f"{raw.source}: input {name!r}"
        points[name] = _checked_values(graph, value, _as_cases(_typed(arrays[name], value, where), value, where), where)
    counts = {name: x.shape[0] for name, x in points.items() if x.shape[0] != 1}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name!r} {n}" for name, n in counts.items())
        raise InvalidData(f"{raw.source}: inputs disagree on the number of cases: {found}; give as many rows of each (or 1)")
    return points


def _names(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return f"{', '.join(listed)} {'is' if len(listed) == 1 else 'are'}"


def _describe(value: Value) -> str:
    return f"{value.name!r} {type_name(value.elem_type)}{list(value.shape)}"


def _typed(x: npt.NDArray[Any], value: Value, where: str) -> npt.NDArray[Any]:
    """`x` in the input's element type, without changing any number. Raises InvalidData for another type.

    Formats that numpy has not (bfloat16, float8, ...) may come as raw bits of their size, or as wider floats.
    """
    dtype = dtype_of(value.elem_type)
    if x.dtype.newbyteorder("=") == dtype:
        return x
    if dtype.isbuiltin != 1:
        if x.dtype.kind == "V" and x.dtype.itemsize == dtype.itemsize and x.dtype.names is None:
            return x.view(dtype)
        if x.dtype.kind == "f":
            with np.errstate(all="ignore"):
                exact = np.array_equal(x.astype(dtype).astype(np.float64), x.astype(np.float64), equal_nan=True)
            if exact:
                return x
            raise InvalidData(f"{where}: holds {x.dtype} numbers that are not {type_name(value.elem_type)} numbers; round them first")
    raise InvalidData(f"{where}: has element type {x.dtype}, expected {type_name(value.elem_type)}; convert with .astype({str(dtype)!r})")


def _as_cases(x: npt.NDArray[Any], value: Value, where: str) -> npt.NDArray[Any]:
    """(cases, *shape): from an extra leading axis, or from rows where the model's first dimension is a batch of one."""
    shape = value.shape
    if x.ndim == len(shape) + 1 and x.shape[1:] == shape:
        cases = x
    elif x.shape == shape:
        cases = x[np.newaxis]
    elif shape and shape[0] == 1 and x.ndim == len(shape) and x.shape[1:] == shape[1:]:
        cases = x[:, np.newaxis]
    else:
        rows = f" or {['rows', *shape[1:]]}" if shape and shape[0] == 1 else ""
        forms = f"{list(shape)}{rows} or {['cases', *shape]}".replace("'", "")
        raise InvalidData(f"{where}: has shape {list(x.shape)}, expected {forms}")
    if cases.shape[0] == 0:
        raise InvalidData(f"{where}: has no rows; give at least one case")
    return cases


def _checked_values(graph: ModelGraph, value: Value, cases: npt.NDArray[Any], where: str) -> Array:
    """The cases as float64. Raises InvalidData for NaN and Inf that can't be meant, integers beyond 2^53, indices outside their table."""
    x = np.asarray(cases, dtype=np.float64)
    if not np.isfinite(x).all():
        wrong = mistaken_in_input(readers(graph.nodes, graph.outputs).get(value.name, set()), x)
        if wrong.any():
            raise InvalidData(f"{where}: holds {_at(x, wrong)}; bounds exist for finite inputs only")
    lost = (np.abs(x) >= EXACT_INTEGERS) & ~_held(x, cases)
    if value.elem_type not in FLOATING and lost.any():
        raise InvalidData(f"{where}: holds {_at(x, lost)}; integers beyond 2^53 that float64 does not hold are not supported")
    table = table_size(graph, value.name)
    if table is not None:
        outside = (x < -table) | (x >= table)
        if outside.any():
            raise InvalidData(f"{where}: holds {_at(x, outside)}, outside the table of {table} rows that it indexes")
    return x


def _held(x: Array, integers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where the integers are the float64 numbers `x` exactly; the greatest of 64 bits is never one."""
    if integers.dtype.kind not in "iu":
        return np.zeros(x.shape, dtype=bool)
    inside = x < 2.0 ** (8 * integers.dtype.itemsize - (integers.dtype.kind == "i"))
    return np.asarray(inside & (np.where(inside, x, 0.0).astype(integers.dtype) == integers))


def _at(x: Array, wrong: npt.NDArray[np.bool_]) -> str:
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{x[index]:g} in case {index[0]} at index {list(index[1:])}"


def table_size(graph: ModelGraph, name: str) -> int | None:
    """Rows of the smallest table that the integer input `name` indexes (Gather, GatherElements); None if it indexes none."""
    if graph.values[name].elem_type in FLOATING:
        return None
    same, sizes = {name}, []
    for node in graph.nodes:
        if node.op_type in _TRANSPARENT and node.inputs[0] in same:
            same.update(output for output in node.outputs if output is not None)
        elif node.op_type in _TABLES and node.inputs[1] in same and node.inputs[0] is not None:
            sizes.append(graph.values[node.inputs[0]].shape[int(node.attributes.get("axis", 0))])
    return min(sizes, default=None)


def _domain(graph: ModelGraph, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The interval of each input, its ends numbers of the input's own type. Raises UsageError naming the option."""
    if unknown := [name for name in ranges if name and name not in graph.inputs]:
        raise UsageError(f"--range: {_names(unknown)} no input of the model; its inputs are {', '.join(graph.inputs) or 'none'}")
    tables = {name: table_size(graph, name) for name in graph.inputs}
    # A range for all inputs means the measured quantities, unless indices are all there is.
    for_all = ranges.get("")
    indices_alone = None not in tables.values()
    domain = {}
    for name, table in tables.items():
        given = ranges.get(name, for_all if table is None or indices_alone else None)
        lo, hi = given or (DEFAULT_RANGE if table is None else (0.0, table - 1.0))
        if table is not None and (lo < -table or hi > table - 1):
            raise UsageError(f"--range {name}={lo:g}:{hi:g}: outside the table of {table} rows that the input indexes")
        first, last = map(float, inward(graph.values[name].elem_type, np.array(lo), np.array(hi)))
        if first > last:
            kind = type_name(graph.values[name].elem_type)
            raise UsageError(f"--range {name}={lo:g}:{hi:g}: no {kind} number lies in it, which is the type of the input; widen it")
        domain[name] = (first, last)
    return domain


def _draw(value: Value, lo: Array | float, hi: Array | float, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Uniform draws, rounded into the input's format without leaving [lo, hi]."""
    storage = from_onnx(value.elem_type)
    if storage is None:
        return generator.integers(np.int64(lo), np.int64(hi), size=shape, endpoint=True).astype(np.float64)
    fraction = generator.random(shape)
    return np.clip(round_to(lo * (1.0 - fraction) + hi * fraction, storage), lo, hi)
