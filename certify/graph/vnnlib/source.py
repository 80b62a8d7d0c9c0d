"""The text of a file: read whole, cut into tokens, and named by line where something is wrong."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certify.errors import InvalidData, Unsupported

LARGEST_FILE = 2**27
"""Bytes of text."""

_TOKENS = re.compile(r"""[()] | [^\s()";|]+ | "(?:[^"]|"")*" | \|[^|]*\| | (?P<comment>;[^\n]*) | ["|]""", re.VERBOSE)


def read_text(path: Path) -> str:
    """The text of a file, plain or compressed by gzip. Raises InvalidData."""
    where = f"--vnnlib {path}"
    try:
        with path.open("rb") as plain:
            compressed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            content = (gzip.GzipFile(fileobj=plain) if compressed else plain).read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise InvalidData(f"{where}: there is no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidData(f"{where}: damaged gzip data ({error})") from error
    except OSError as error:
        raise InvalidData(f"{where}: can't be read: {error.strerror or error}") from error
    if len(content) > LARGEST_FILE:
        raise InvalidData(f"{where}: is larger than {LARGEST_FILE >> 20} MiB of text; split it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidData(f"{where}, line {line}: not UTF-8 text, which a VNN-LIB file is") from error


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A text and how messages call it."""

    name: str
    text: str

    def tokens(self) -> Iterator[tuple[str, int]]:
        """Parentheses, symbols, numbers and strings, each with its position."""
        for match in _TOKENS.finditer(self.text):
            if match.lastgroup is None:
                yield match.group(), match.start()

    def invalid(self, message: str, position: int | None = None) -> InvalidData:
        """The error for what isn't VNN-LIB or makes no sense."""
        return InvalidData(f"{self._where(position)}: {message}")

    def unsupported(self, message: str, position: int | None = None) -> Unsupported:
        """The error for what is VNN-LIB or SMT-LIB and not read here."""
        return Unsupported(f"{self._where(position)}: {message}")

    def _where(self, position: int | None) -> str:
        return self.name if position is None else f"{self.name}, line {self.text.count(chr(10), 0, position) + 1}"
