"""Cases that are solved, in a file, so that a run that was stopped goes on where it was.

The file is a line that names its form, then records: length (8 bytes, little endian), SHA-256 of the content, content (MessagePack). The
first record says of which claim the file is, each other one holds a case. A record that is cut off at the end, by a run that was ended
while it wrote, is dropped; nothing else that is out of order is accepted. Nothing in the file is executed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from certify import files
from certify.engines.answer import Solved
from certify.errors import InvalidData, UsageError
from certify.graph.model import ModelGraph
from certify.version import built

FORM = b"certify-checkpoint/1\n"
_LENGTH = struct.Struct("<Q")
_HEAD = _LENGTH.size + hashlib.sha256().digest_size


class Claim(msgspec.Struct, frozen=True):
    """What results depend on, by part: the digest of each. cases: how many there are."""

    version: str
    cases: int
    parts: dict[str, str]


class _Case(msgspec.Struct, frozen=True):
    case: int
    solved: Solved


class Checkpoint:
    """The solved cases of one claim. Close it when the last one is remembered. check: raises if what was solved is not what is claimed.

    Raises UsageError for a file that can't be written, is of another claim or is in use; InvalidData for one that is damaged.
    """

    def __init__(self, path: Path, parts: Mapping[str, str], cases: int, check: Callable[[], None] = lambda: None) -> None:
        self._path, self._check = path, check
        claim = Claim(built(), cases, dict(parts))
        self._file = self._opened(claim)
        self._solved: dict[int, Solved] = {}
        try:
            self._read(claim)
        except BaseException:
            self._file.close()
            raise

    def remembered(self, case: int) -> Solved | None:
        """What an earlier run found of the case."""
        return self._solved.get(case)

    def remember(self, case: int, solved: Solved) -> None:
        """Write a solved case, for good once this returns."""
        self._check()
        try:
            self._file.write(_record(_Case(case, solved)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(f"can't be written: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the file, which another run may take up then."""
        self._file.close()

    def _refused(self, reason: str) -> UsageError:
        return UsageError(f"--checkpoint {self._path}: {reason}")

    def _opened(self, claim: Claim) -> IO[bytes]:
        try:
            if not self._path.exists():
                if not self._path.parent.is_dir():
                    raise self._refused(f"there is no folder {self._path.parent}; create it first")
                files.write(self._path, FORM + _record(claim), "--checkpoint")
            file = self._path.open("r+b")
        except OSError as error:
            raise self._refused(f"can't be opened for writing: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise self._refused("another run is writing it; wait for that, or give another file") from None
        except OSError:  # a file system without locks
            pass
        return file

    def _read(self, claim: Claim) -> None:
        if self._file.read(len(FORM)) != FORM:
            raise self._refused("is no checkpoint of certify; give another file")
        records = self._records()
        first = next(records, None)
        if first is None:
            raise self._damaged()
        self._compare(claim, self._decoded(first, Claim))
        for content in records:
            found = self._decoded(content, _Case)
            if not 0 <= found.case < claim.cases:
                raise self._damaged()
            self._solved[found.case] = found.solved
        self._file.truncate()  # a record that was cut off

    def _records(self) -> Iterator[bytes]:
        """The content of each whole record; the file is left at the end of the last one."""
        while True:
            start = self._file.tell()
            head = self._file.read(_HEAD)
            left = os.fstat(self._file.fileno()).st_size - start - _HEAD
            if len(head) < _HEAD or left < _LENGTH.unpack_from(head)[0]:
                self._file.seek(start)
                return
            content = self._file.read(_LENGTH.unpack_from(head)[0])
            if hashlib.sha256(content).digest() != head[_LENGTH.size :]:
                raise self._damaged()
            yield content

    def _decoded(self, content: bytes, kind: Any) -> Any:
        try:
            return msgspec.msgpack.decode(content, type=kind, dec_hook=_array)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise self._damaged() from error

    def _damaged(self) -> InvalidData:
        return InvalidData(f"--checkpoint {self._path}: is damaged; remove it, and the run begins anew")

    def _compare(self, mine: Claim, found: Claim) -> None:
        if found.version != mine.version:
            raise self._refused(f"was written by certify {found.version}, and this is {mine.version}; give another file, or remove it")
        other = [part for part in mine.parts if found.parts.get(part) != mine.parts[part]]
        if other or found.cases != mine.cases:
            raise self._refused(f"is of another claim ({', '.join(other) or 'cases'} differ); give another file, or remove it")


def _record(content: Claim | _Case) -> bytes:
    encoded = msgspec.msgpack.encode(content, enc_hook=_plain)
    return _LENGTH.pack(len(encoded)) + hashlib.sha256(encoded).digest() + encoded


def _plain(x: Any) -> Any:
    """An array as its shape and bytes, a number of numpy as Python's."""
    if isinstance(x, np.ndarray):
        return x.shape, np.ascontiguousarray(x, dtype="<f8").tobytes()
    if isinstance(x, np.generic):
        return x.item()
    raise NotImplementedError(f"a checkpoint holds no {type(x).__name__}")


def _array(kind: Any, x: Any) -> npt.NDArray[np.float64]:
    shape, content = x
    return np.frombuffer(content, dtype="<f8").reshape(shape).astype(np.float64)


def model_digest(*graphs: ModelGraph) -> str:
    """Of the files, and of all constants that they make, external data included."""
    found = hashlib.sha256()
    for graph in graphs:
        found.update(graph.sha256.encode())
        for name, value in graph.values.items():
            if value.constant is not None:
                _take(found, name, value.constant)
        for node in graph.nodes:
            for name, attribute in node.attributes.items():
                for x in attribute if isinstance(attribute, tuple) else (attribute,):
                    if isinstance(x, np.ndarray):
                        _take(found, f"{node.name} {name}", x)
    return found.hexdigest()


def arrays_digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Of arrays by name."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        _take(found, name, arrays[name])
    return found.hexdigest()


def _take(found: Any, name: str, x: npt.NDArray[Any]) -> None:
    found.update(f"{name} {x.dtype} {x.shape} ".encode())
    if x.dtype == object:  # strings
        found.update(repr(x.tolist()).encode())
        return
    for part in x if x.ndim > 1 else (x,):  # a row at a time: the whole may be mapped
        found.update(np.ascontiguousarray(part).tobytes())
