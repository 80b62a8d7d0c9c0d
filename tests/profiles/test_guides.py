"""The guides' code blocks run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ["adding-format.md", "adding-profile.md"]


def blocks(guide: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / guide).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("guide", GUIDES)
def test_code_blocks_run(guide: str) -> None:
    found = blocks(guide)
    assert len(found) >= 2
    for block in found:
        exec(compile(block, guide, "exec"), {"__name__": "guide"})
