"""Files that are whole or not there: written aside, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

from certify.errors import UsageError

_aside: set[Path] = set()


def write(path: Path, content: bytes, option: str = "-o") -> None:
    """Write `content` to `path`, or leave what was there. Raises UsageError, naming the file, if it can't be written."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    _aside.add(aside)
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError as error:
        raise UsageError(f"{option} {path}: can't be written: {error.strerror}; choose a file in a folder that you can write to") from error
    finally:
        aside.unlink(missing_ok=True)
        _aside.discard(aside)


def check_writable(path: Path) -> None:
    """Find out before a long computation whether `write` will succeed. Raises UsageError, naming the file or folder."""
    if path.is_dir():
        raise UsageError(f"-o {path}: is a folder; name a file in it, such as {path / 'certificate.json'}")
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"-o {path}: the folder {path.parent} is read-only; choose a file in a folder that you can write to")


def abandon() -> None:
    """Remove what is being written, from another thread, as the program is about to end."""
    for aside in list(_aside):
        aside.unlink(missing_ok=True)
