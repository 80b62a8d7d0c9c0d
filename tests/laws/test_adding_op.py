"""docs/adding-op.md is true: its code blocks run, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import certify.semantics.contract as contract
from certify.graph.domains import operators
from certify.semantics import ops

assert ops is not None

GUIDE = Path(__file__).parents[2] / "docs" / "adding-op.md"


def test_the_guide_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "_RULES", dict(contract._RULES))  # its example operators go again
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    assert all(len(block.strip().splitlines()) < 20 for block in blocks[-2:]), "a real operator in under twenty lines"
    scope: dict[str, object] = {}
    known = dict(operators())
    try:
        for block in blocks:
            exec(compile(block, str(GUIDE), "exec"), scope)
    finally:
        operators().clear()
        operators().update(known)
    assert contract.lookup("com.example", "Sinusoid", 1) is not None
    assert contract.lookup("com.example", "SoftShrink", 1) is not None
