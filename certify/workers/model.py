"""What a process needs to bind the model as this one did, and the same with its files, for another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.analysis.target import Target, target
from certify.errors import InvalidModel
from certify.graph.as_run import Written
from certify.graph.tensors import external_files
from certify.number.formats import format_named
from certify.profiles import profile_named
from certify.request import Request


@dataclass(frozen=True, slots=True)
class Model:
    """sha256: of the model's file. data: what the user feeds, by input, whose shapes and values may decide the model's structure.

    written: the graph that a runtime made of the model, if that is certified. memory: the limit that is given, and how many share it.
    """

    model: Path | bytes
    sha256: str
    formats: tuple[str | None, str | None]
    profile: str
    summation: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    data: Mapping[str, npt.NDArray[Any]] | None
    written: Written | None
    memory: tuple[int | None, int]

    @staticmethod
    def of(request: Request, subject: Target, data: Mapping[str, npt.NDArray[Any]] | None, processes: int = 1) -> Model:
        model = request.model
        held = model if isinstance(model, Path | bytes) else model.SerializeToString(deterministic=True)
        formats = (request.dtype, request.accumulate)
        claim = (request.profile_name, str(request.summation), tuple(request.shapes.items()))
        return Model(held, subject.source.sha256, formats, *claim, data, subject.written, (request.memory_limit, processes))

    def bound(self) -> Target:
        """The model bound. Raises InvalidModel if its file is no longer what it was."""
        dtype, accumulate = (None if name is None else format_named(name) for name in self.formats)
        profile = profile_named(self.profile, dtype, accumulate, self.summation)
        with np.errstate(all="ignore"), target(self.model, profile, dict(self.shapes), self.data, self.written) as subject:
            if subject.source.sha256 != self.sha256:
                raise InvalidModel("the model's file was changed while it was being certified")
            return subject


@dataclass(frozen=True, slots=True)
class Parcel:
    """A model with the content of its files, external data among them: by path in the folder of the model, and of the written graph."""

    model: Model
    files: Mapping[str, bytes]
    written: Mapping[str, bytes]

    @staticmethod
    def of(model: Model) -> Parcel:
        return Parcel(
            model,
            {} if isinstance(model.model, bytes) else _contents(model.model),
            {} if model.written is None else _contents(model.written.path),
        )

    def unpacked(self, folder: Path) -> Model:
        """The model, its files laid down in the folder."""
        model, written = self.model.model, self.model.written
        if isinstance(model, Path):
            model = _laid(self.files, folder / "model") / model.name
        if written is not None:
            written = replace(written, path=_laid(self.written, folder / "written") / written.path.name)
        return replace(self.model, model=model, written=written)


def _contents(path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes()} | {name: (path.parent / name).read_bytes() for name in external_files(path)}


def _laid(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
