"""What is certified: a model as it stands in the file, and the graph that is run for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certify.analysis.asked import has_rule, static_operands
from certify.analysis.bind import bind
from certify.analysis.program import Program
from certify.analysis.room import require_room
from certify.graph.as_run import Written, written
from certify.graph.load import load
from certify.graph.model import InvalidModel, ModelGraph, Unsupported, reads
from certify.profiles.contract import Profile
from certify.request import Level

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Target:
    """The same graph twice, unless a runtime rewrites the model before it runs it.

    source, exact:  the file's graph and program; with its constants over the reals it defines the exact result.
    graph, program: what runs; with its constants as stored it is what the computed result is compared with first.
    written:        the runtime's own file of that graph; None: the model's own graph runs.
    mapped:         the files that weights are read from, and by what a change of one is seen.
    """

    source: ModelGraph
    exact: Program
    graph: ModelGraph
    program: Program
    written: Written | None = None
    mapped: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def require_unchanged(self) -> None:
        """Raises InvalidModel if a file that weights are read from is not what it was when it was bound."""
        try:
            same = _mapped(self.source) == self.mapped
        except OSError:
            same = False
        if not same:
            files = ", ".join(sorted(self.mapped))
            raise InvalidModel(f"the external data ({files}) changed while it was analysed; run again, on a model at rest")


@contextmanager
def target(
    model: Path | bytes | onnx.ModelProto,
    profile: Profile,
    shapes: Mapping[str, Sequence[int]],
    data: Mapping[str, npt.NDArray[Any]] | None,
    level: Level | Written | None,
) -> Iterator[Target]:
    """Read and bind; `level` is onnxruntime's optimization level, or what it wrote at one already; None to run the model's own graph.

    The file is read here before onnxruntime opens it: names of external data that lead outside its folder are refused.
    Weights are read from their file all along: InvalidModel, on leaving, if that was changed meanwhile (`require_unchanged`).
    Raises what reading and binding raise; Unsupported for onnxruntime's graph, if it cannot be read or has other inputs or outputs.
    """
    source = load(model, shapes, data, static_operands, has_rule)
    require_room(source)
    mapped = _mapped(source)
    exact = bind(source, profile)
    if level is None:
        mine = Target(source, exact, source, exact, mapped=mapped)
        yield mine
        mine.require_unchanged()
        return
    with nullcontext(level) if isinstance(level, Written) else written(model, level) as file:
        try:
            graph = _alike(source, load(file.path, shapes, data, static_operands, has_rule))
            program = bind(graph, profile)
        except (InvalidModel, Unsupported) as refusal:
            reason = str(refusal).removeprefix(f"{file.path.name}: ")
            raise Unsupported(f"--as-run: the graph that onnxruntime runs: {reason}") from refusal
        rewritten = Target(source, exact, graph, program, file, mapped)
        yield rewritten
        rewritten.require_unchanged()


def _mapped(graph: ModelGraph) -> dict[str, tuple[int, int, int]]:
    """The files that constants are mapped from, and by what a change of one is seen."""
    files = {str(x.filename) for value in graph.values.values() if isinstance(x := value.constant, np.memmap)}
    return {file: (found.st_ino, found.st_size, found.st_mtime_ns) for file in files for found in (os.stat(file),)}


def _alike(source: ModelGraph, graph: ModelGraph) -> ModelGraph:
    """`graph` with the source's inputs and outputs, in its order. An input that was a constant and is no longer read is none."""
    read = {name for node in graph.nodes for name in reads(node)} | set(graph.outputs)
    inputs = [name for name in graph.inputs if name in source.inputs or name in read]
    if set(inputs) != set(source.inputs) or set(graph.outputs) != set(source.outputs):
        raise Unsupported("it has other inputs or outputs than the model")
    for name in (*source.inputs, *source.outputs):
        mine, theirs = source.values[name], graph.values[name]
        if (mine.shape, mine.elem_type) != (theirs.shape, theirs.elem_type) or not _equal(mine.constant, theirs.constant, name in inputs):
            raise Unsupported(f"it gives {name!r} another shape, element type or value than the model")
    return replace(graph, inputs=source.inputs, outputs=source.outputs, path=None)


def _equal(mine: npt.NDArray[Any] | None, theirs: npt.NDArray[Any] | None, is_input: bool) -> bool:
    """An input that decides the structure is the same constant in both; an output may be folded in one of them alone."""
    if not is_input or (mine is None and theirs is None):
        return True
    return mine is not None and theirs is not None and bool(np.array_equal(mine, theirs))
