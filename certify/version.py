"""The version, in the one place from which the package, its build and its certificates take it, and what it says more exactly."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

__version__ = "0.1.0"


@cache
def built() -> str:
    """The version and a digest of the package's own files: others may bound otherwise."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return f"{__version__} (sources {digest.hexdigest()[:8]})"
