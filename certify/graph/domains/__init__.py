"""Operators that onnxruntime defines and ONNX does not: each module with a tuple OPERATORS adds rows, none registered by hand."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from certify.graph.domains.contract import Operator


@cache
def operators() -> dict[tuple[str, str], Operator]:
    """Every row by (domain, name). Raises ValueError if an operator is given twice."""
    found: dict[tuple[str, str], Operator] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        for row in getattr(importlib.import_module(f"{__name__}.{module}"), "OPERATORS", ()):
            if (row.domain, row.name) in found:
                raise ValueError(f"two rows for {row.domain or 'ai.onnx'}::{row.name}")
            found[row.domain, row.name] = row
    return found
