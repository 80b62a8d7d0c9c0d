"""Which report writes which file: by suffix."""

from __future__ import annotations

from pathlib import Path

from certify import files
from certify.certificate.build import document
from certify.certificate.contract import Certificate
from certify.certificate.schema import encode
from certify.errors import UsageError
from certify.report import npz
from certify.request import check_suffix


def save(certificate: Certificate, path: Path) -> None:
    """Write the report that `path`'s suffix names, whole or not at all. Raises UsageError."""
    suffix = check_suffix(path)
    files.check_writable(path)
    files.write(path, _content(certificate, suffix, path))


def _content(certificate: Certificate, suffix: str, path: Path) -> bytes:
    if suffix == ".json":
        return encode(document(certificate))
    if suffix == ".npz":
        return npz.encode(certificate)
    if certificate.witness is None:
        raise UsageError(f"-o {path}: the certificate was made without a witness; name the file when certifying: outputs=[{str(path)!r}]")
    return npz.pack(certificate.witness)
