"""Options by model path from certify.toml or from [tool.certify] in pyproject.toml; the command line wins.

    [tool.certify."models/digits_mlp.onnx"]
    dtype = "bf16"
    data = "models/digits_mlp.npz"
    budget = ["1e-1", "argmax"]

Keys are the long options' names; paths are relative to the file's folder, and so is the model's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from certify.errors import UsageError

CLAIM = frozenset({"dtype", "accumulate", "profile", "summation"})
INPUTS = frozenset({"data", "range", "samples", "seed", "region", "vnnlib", "shape"})
PLACE = frozenset({"jobs", "scheduler"})
LIMITS = frozenset({"time-limit", "boxes", "memory-limit"})
ANALYSIS = frozenset({"as-run", "engine", "guarantee", "budget", "validate", "provider", "eta", "checkpoint"})
KEYS = CLAIM | INPUTS | ANALYSIS | PLACE | LIMITS | {"output"}
REPEATABLE = frozenset({"range", "shape", "budget", "output"})
PATHS = frozenset({"data", "vnnlib", "output", "checkpoint"})
# One of these on the command line replaces the file's whole choice of inputs; so do jobs and scheduler each other.
DOMAIN = frozenset({"data", "range", "region", "vnnlib"})


def defaults(arguments: Sequence[str], folder: Path) -> dict[str, Any] | None:
    """The options that the nearest settings file, upward from `folder`, gives to the model among `arguments`; None without.

    Raises UsageError, naming file and key, for a file that can't be parsed or a key that is no option.
    """
    found = _nearest(folder)
    if found is None:
        return None
    path, tables = found
    for model, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {model!r} stands outside a table; options go in a table named by the model's path")
        target = (path.parent / model).resolve()
        if any(not a.startswith("-") and (folder / a).resolve() == target for a in arguments):
            return _options(path, model, table, _given(arguments))
    return None


def _given(arguments: Sequence[str]) -> set[str]:
    """Long names of the options on the command line that a choice may hang on."""
    long = {a.lstrip("-").split("=")[0] for a in arguments if a.startswith("--")}
    return long | {"jobs" for a in arguments if a.startswith("-j")}


def _nearest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    for parent in (folder, *folder.parents):
        for path in (parent / "certify.toml", parent / "pyproject.toml"):
            if path.is_file():
                try:
                    content = tomllib.loads(path.read_text(encoding="utf-8"))
                except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                    raise UsageError(f"{path}: not TOML: {error}") from error
                tables = content if path.name == "certify.toml" else content.get("tool", {}).get("certify")
                if tables is not None:
                    return path, tables
    return None


def _options(path: Path, model: str, table: dict[str, Any], given: set[str]) -> dict[str, Any]:
    options = {}
    for key, value in table.items():
        if key not in KEYS:
            raise UsageError(f"{path}: {model!r} has no option {key!r}; options are {', '.join(sorted(KEYS))}")
        if any(key in choice and given & choice for choice in (DOMAIN, PLACE)):
            continue
        values = value if isinstance(value, list) else [value]
        if key not in REPEATABLE and len(values) != 1:
            raise UsageError(f"{path}: {model!r}: {key} takes one value")
        if key in PATHS:
            values = [str(path.parent / str(v)) for v in values]
        elif key in REPEATABLE:
            values = [str(v) for v in values]
        options[key.replace("-", "_")] = values if key in REPEATABLE else values[0]
    return options
