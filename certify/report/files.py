"""Which report writes which file: by suffix."""

from __future__ import annotations

from pathlib import Path

from certify import files
from certify.certificate.build import document
from certify.certificate.contract import Certificate
from certify.certificate.schema import encode
from certify.report import npz
from certify.request import check_suffix


def save(certificate: Certificate, path: Path) -> None:
    """Write the report that `path`'s suffix names, whole or not at all. Raises UsageError."""
    suffix = check_suffix(path)
    files.check_writable(path)
    files.write(path, npz.encode(certificate) if suffix == ".npz" else encode(document(certificate)))
