"""Running a model in onnxruntime as it is, one case at a time and in one batch (mathematics: §7).

Feeds are arrays of the model's own shapes, in float64 or the input's own type; a value that the input's type cannot
hold is refused, because the claim is about numbers of that type. Whatever keeps a run from being made is raised as
`ValidationUnavailable` with its reason: a run that was not made refutes nothing, and the certificate says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from certify.graph.as_run import LEVELS
from certify.request import Level

if TYPE_CHECKING:
    from onnx import ModelProto

AnyArray: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = Mapping[str, AnyArray]
Runner: TypeAlias = Callable[[Feeds], dict[str, AnyArray]]
Model: TypeAlias = "ModelProto | Path | str | bytes"
Provider: TypeAlias = Literal["cpu", "cuda"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TYPES: dict[str, npt.DTypeLike] = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
}  # fmt: skip
_FATAL = 4  # onnxruntime's log severity that still prints: none of ours


class ValidationUnavailable(Exception):
    """A run that cannot be made; the message says why."""


def provider_missing(provider: Provider) -> str | None:
    """Why `provider` cannot be used here, or None if onnxruntime offers it."""
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    if _PROVIDERS[provider] in offered:
        return None
    return f"onnxruntime {onnxruntime.__version__} here has no {_PROVIDERS[provider]}; it offers {', '.join(offered)}"


def runtime_name(provider: Provider = "cpu", optimization: Level = "disabled", threads: int = 1) -> str:
    """The runtime as the certificate names it."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} {_PROVIDERS[provider]}, rewrites {optimization}, threads {threads}"


def run_onnxruntime(
    model: Model,
    feeds: Feeds,
    provider: Provider = "cpu",
    optimization: Level = "disabled",
    threads: int = 1,
    tf32: bool = False,
) -> dict[str, AnyArray]:
    """Outputs by name of one run; symbolic dimensions are fixed to the shapes fed.

    Raises ValidationUnavailable with the runtime's reason.
    """
    shapes = {name: np.shape(x) for name, x in feeds.items()}
    return open_runner(model, provider, optimization, threads, tf32, shapes)(feeds)


def open_runner(
    model: Model,
    provider: Provider = "cpu",
    optimization: Level = "disabled",
    threads: int = 1,
    tf32: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Runner:
    """A session as a function from feeds to outputs. A path lets onnxruntime find external weights by itself.

    `shapes` fixes symbolic dimensions, which rewrites at "all" look at. On CUDA, TF32 is off unless claimed, and
    convolution algorithms are cuDNN's default: its search may pick Winograd or FFT, which no profile covers.
    Raises ValidationUnavailable.
    """
    import onnxruntime

    reason = provider_missing(provider)
    if reason is not None:
        raise ValidationUnavailable(reason)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[optimization])
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = _FATAL
    for name, extent in _symbolic_extents(model, shapes or {}).items():
        options.add_free_dimension_override_by_name(name, extent)
    chosen: list[Any] = [_PROVIDERS["cpu"]]
    if provider == "cuda":
        chosen.insert(0, (_PROVIDERS["cuda"], {"use_tf32": str(int(tf32)), "cudnn_conv_algo_search": "DEFAULT"}))
    session = open_session(_source(model), options, chosen)
    started = session.get_providers()
    if _PROVIDERS[provider] not in started:
        raise ValidationUnavailable(f"onnxruntime could not start {_PROVIDERS[provider]}; it fell back to {', '.join(started)}")
    return lambda feeds: _run(session, feeds)


def open_session(source: str | bytes, options: Any, providers: list[Any]) -> Any:
    """An InferenceSession, its refusals as ValidationUnavailable and its log silenced."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        return onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as refusal:  # onnxruntime's exceptions share no base class of their own
        raise ValidationUnavailable(f"onnxruntime refuses the model: {first_line(refusal)}") from refusal


def first_line(refusal: BaseException) -> str:
    """The runtime's own words, without what follows the first line."""
    return (str(refusal).strip().splitlines() or [type(refusal).__name__])[0]


def run_cases(run: Runner, inputs: Feeds) -> dict[str, AnyArray]:
    """Each case by itself: inputs (cases or 1, *shape) to outputs (cases, *shape).

    Raises ValidationUnavailable where a run does, or where an output's shape depends on the case.
    """
    cases = max((len(x) for x in inputs.values()), default=1)
    rows = [run({name: x[i] if len(x) > 1 else x[0] for name, x in inputs.items()}) for i in range(cases)]
    for name in rows[0]:
        if len({row[name].shape for row in rows}) > 1:
            raise ValidationUnavailable(f"the shape of output {name} depends on the case")
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def run_batched(run: Runner, inputs: Feeds, singles: Feeds) -> dict[str, AnyArray]:
    """All cases in one batch along the first dimension: inputs (cases, batch, ...) to outputs (cases, batch, ...), as in `singles`, where
    each case ran by itself.

    Whether that dimension is a batch is tried out: no case may change by a bit when the other cases become copies of it (the batch keeps
    its size, so the kernels keep their order of summation); a case that comes out as it does by itself needs no such trial, but case 0
    has one anyway. Nor may it matter beyond rounding where in the batch a copy stands, or whether there are others.
    Raises ValidationUnavailable where cases do influence each other.
    """
    cases = max((len(x) for x in inputs.values()), default=1)
    full = {name: np.broadcast_to(x, (cases, *x.shape[1:])) for name, x in inputs.items()}
    together = _split(run({name: _join(x) for name, x in full.items()}), cases)
    for i in range(cases):
        if i and all(_same(x[i], singles[name][i]) for name, x in together.items()):
            continue
        alone = _split(run({name: _join(np.broadcast_to(x[i : i + 1], x.shape)) for name, x in full.items()}), cases)
        for name, x in together.items():
            if not _same(x[i], alone[name][i]):
                raise ValidationUnavailable(f"the first dimension is no batch: output {name} of one case changes with the other cases")
            single = singles[name][i : i + 1]
            if x.shape[1:] != single.shape[1:] or _spread(np.concatenate([single, alone[name]])):
                raise ValidationUnavailable(
                    f"the first dimension is no batch: output {name} of one case changes with its place or their number"
                )
    return together


def _same(x: AnyArray, y: AnyArray) -> bool:
    return np.array_equal(x, y, equal_nan=x.dtype.kind == "f")


def _spread(x: AnyArray) -> bool:
    """Whether copies differ by more than a 64th of the largest finite element."""
    y = x.astype(np.float64)
    with np.errstate(all="ignore"):
        near = np.abs(y - y[:1]) <= np.max(np.abs(y), initial=0.0, where=np.isfinite(y)) / 64
    return not bool((near | (y == y[:1]) | (np.isnan(y) & np.isnan(y[:1]))).all())


def batch_dimension(model: ModelProto) -> str | None:
    """The symbolic dimension that every input and output has first, or None."""
    given = {x.name for x in model.graph.initializer}
    values = [x for x in model.graph.input if x.name not in given] + list(model.graph.output)
    names = {_first_dimension(x) for x in values}
    return names.pop() if len(names) == 1 else None


def _first_dimension(value: Any) -> str | None:
    dims = value.type.tensor_type.shape.dim
    return (dims[0].dim_param or None) if len(dims) else None


def _join(x: AnyArray) -> AnyArray:
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _split(outputs: dict[str, AnyArray], cases: int) -> dict[str, AnyArray]:
    for name, x in outputs.items():
        if x.ndim == 0 or x.shape[0] % cases:
            raise ValidationUnavailable(f"output {name} of shape {x.shape} does not split into {cases} cases")
    return {name: x.reshape(cases, x.shape[0] // cases, *x.shape[1:]) for name, x in outputs.items()}


def _source(model: Model) -> str | bytes:
    if isinstance(model, (str, bytes)):
        return model
    if isinstance(model, Path):
        return str(model)
    try:
        message: bytes = model.SerializeToString()
        return message
    except Exception as refusal:  # protobuf's limit of 2 GiB, in words that depend on its implementation
        raise ValidationUnavailable(f"the model does not fit into one message, give its path: {first_line(refusal)}") from refusal


def _symbolic_extents(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    if not shapes:
        return {}
    import onnx

    if isinstance(model, (str, Path)):
        model = onnx.load(model, load_external_data=False)
    elif isinstance(model, bytes):
        model = onnx.load_from_string(model)
    extents: dict[str, int] = {}
    for value in model.graph.input:
        for dim, extent in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if dim.dim_param and extents.setdefault(dim.dim_param, extent) != extent:
                raise ValidationUnavailable(f"dimension {dim.dim_param} is fed as {extents[dim.dim_param]} and as {extent}")
    return extents


def _run(session: Any, feeds: Feeds) -> dict[str, AnyArray]:
    import onnxruntime

    wanted = session.get_inputs()
    missing = [x.name for x in wanted if x.name not in feeds]
    if missing:
        raise ValidationUnavailable(f"no value for input {', '.join(missing)}")
    values = {x.name: _ort_value(x.name, x.type, np.asarray(feeds[x.name])) for x in wanted}
    names = [x.name for x in session.get_outputs()]
    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL
    try:
        results = session.run_with_ort_values(names, values, options)
    except Exception as refusal:  # see open_session
        raise ValidationUnavailable(f"onnxruntime failed: {first_line(refusal)}") from refusal
    return {name: _array(name, x) for name, x in zip(names, results, strict=True)}


def _ort_value(name: str, kind: str, x: AnyArray) -> Any:
    import onnxruntime

    element = kind.removeprefix("tensor(").removesuffix(")")
    if element == "bfloat16":  # numpy has no such type: its bits travel as uint16, in truth the upper half of a float32
        words = np.asarray(_exactly(name, kind, x, np.float32), order="C").view(np.uint32)
        if (words & 0xFFFF).any():
            raise ValidationUnavailable(f"input {name} holds values that {kind} cannot hold")
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(np.asarray(words >> 16, dtype=np.uint16), 16)
    if element not in _TYPES:
        raise ValidationUnavailable(f"input {name} is a {kind}, which cannot be fed from numbers")
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(_exactly(name, kind, x, _TYPES[element]), order="C"))


def _exactly(name: str, kind: str, x: AnyArray, dtype: npt.DTypeLike) -> AnyArray:
    with np.errstate(invalid="ignore", over="ignore"):
        fed = x.astype(dtype)
    if not np.array_equal(fed.astype(x.dtype), x, equal_nan=x.dtype.kind == "f"):
        raise ValidationUnavailable(f"input {name} holds values that {kind} cannot hold")
    return fed


def _array(name: str, value: Any) -> AnyArray:
    if not value.is_tensor():
        raise ValidationUnavailable(f"output {name} is a {value.data_type()}, not a tensor")
    if value.data_type() != "tensor(bfloat16)":
        try:
            return np.asarray(value.numpy())
        except RuntimeError as refusal:  # types that numpy has not: 4 bits, 2 bits, float8
            raise ValidationUnavailable(f"output {name} is a {value.data_type()}, which does not come out as numbers") from refusal
    import ctypes

    shape = tuple(value.shape())
    count = int(np.prod(shape))
    words = np.frombuffer(ctypes.string_at(value.data_ptr(), 2 * count), dtype=np.uint16).astype(np.uint32) << 16
    return words.view(np.float32).reshape(shape)
