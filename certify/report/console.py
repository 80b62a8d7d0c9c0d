"""The terminal that reports are printed on."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

WIDTH = 120  # columns of tables, where the output is no terminal


def opened(color: bool, width: int = WIDTH) -> Console:
    """Standard output; so many columns wide where it is no terminal."""
    stream: Any = sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a terminal that lacks a symbol shows "?"
    console = Console(no_color=not color, highlight=False)
    if not console.is_terminal:
        console.width = width
    return console
