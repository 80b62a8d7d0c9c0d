"""A certificate file ─▶ its document."""

from __future__ import annotations

from pathlib import Path

import msgspec

from certify.certificate.schema import SCHEMA, Document
from certify.errors import InvalidData


def read(path: Path) -> Document:
    """The document in a .json certificate. Raises InvalidData for an unreadable file, another schema or a missing field."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InvalidData(f"{path}: can't be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidData(f"{path}: not a JSON certificate: {error}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found is None:
        raise InvalidData(f"{path}: not a certificate: it names no schema; expected {SCHEMA!r}")
    if found != SCHEMA:
        raise InvalidData(f"{path}: schema {found!r} is not known to this version, which reads {SCHEMA!r}; certify the model again")
    try:
        # Lax conversion, because non-finite numbers are spelled as strings.
        return msgspec.convert(content, Document, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidData(f"{path}: damaged certificate: {error}") from error
