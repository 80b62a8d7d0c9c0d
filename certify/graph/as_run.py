"""The graph that onnxruntime really runs: it loads the model at an optimization level, and writes what it made of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certify.graph.model import Unsupported
from certify.request import Level

if TYPE_CHECKING:
    import onnx

LEVELS: dict[Level, str] = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_SILENT = 4  # onnxruntime's log severity that still prints: none of ours
_EMBEDDED = 1 << 20  # bytes; larger weights are written beside the graph, since one file holds 2 GiB at most


@dataclass(frozen=True, slots=True)
class Written:
    """What onnxruntime wrote. `runtime` names it with its version."""

    path: Path
    runtime: str
    level: Level


@contextmanager
def written(model: Path | bytes | onnx.ModelProto, level: Level) -> Iterator[Written]:
    """The model's graph as the CPU provider runs it at `level`, in a private folder that lasts as long as the context.

    Raises Unsupported with onnxruntime's reason.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="certify-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "graph.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
        options.log_severity_level = _SILENT
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(_EMBEDDED))
        onnxruntime.set_default_logger_severity(_SILENT)
        try:
            onnxruntime.InferenceSession(_source(model), options, providers=["CPUExecutionProvider"])
        except Exception as refusal:  # onnxruntime's exceptions share no base class of their own
            reason = (str(refusal).strip().splitlines() or [type(refusal).__name__])[0]
            raise Unsupported(f"--as-run: onnxruntime refuses the model: {reason}") from refusal
        yield Written(path, f"onnxruntime {onnxruntime.__version__}", level)


def _source(model: Any) -> str | bytes:
    """A path lets onnxruntime find external weights by itself."""
    if isinstance(model, Path | bytes):
        return model if isinstance(model, bytes) else str(model)
    serialized: bytes = model.SerializeToString()
    return serialized
