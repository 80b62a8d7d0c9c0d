"""docs/operators.md is what the rule table says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from certify.semantics import ops
from certify.semantics.contract import rules

assert ops.__path__


@pytest.fixture(scope="module")
def generator(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_operators", root / "docs/generate_operators.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh(root: Path, generator: ModuleType) -> None:
    written = set((root / "docs/operators.md").read_text(encoding="utf-8").splitlines())
    generated = set(generator.page().splitlines())
    assert written ^ generated == set(), "run `python docs/generate_operators.py`"


def test_every_rule_is_on_it_once(generator: ModuleType) -> None:
    rows = [line.split(" | ") for line in generator.page().splitlines() if line.startswith("| ")]
    shown = [(name.removeprefix("| "), since) for name, sinces, *_ in rows if name != "| operator" for since in sinces.split(", ")]
    assert sorted(shown) == sorted((rule.name, str(rule.since)) for rule in rules())


def test_every_row_has_six_cells(generator: ModuleType) -> None:
    for line in generator.page().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 7, line
