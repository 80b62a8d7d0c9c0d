"""docs/glossary.md explains what reports say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certify.engines.contract import Guarantee

# Figures of the JSON document that a reader may not know, and words of every message.
WORDS = """
accumulator alarm argmax assumption budget case checker condition contribution conversion decision fan-in format gamma gate
guarantee hazard kernel ladder Lipschitz local lost margin points profile reference region relative rounding stable storage
tightness tube witness
""".split()


@pytest.fixture(scope="module")
def rows(root: Path) -> list[tuple[str, str]]:
    text = (root / "docs/glossary.md").read_text(encoding="utf-8")
    found = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")][1:]
    assert all(len(row) == 2 for row in found)
    return [(word.strip(), meaning.strip()) for word, meaning in found]


def test_it_is_sorted_and_without_repetition(rows: list[tuple[str, str]]) -> None:
    words = [word.strip("`").lower() for word, _ in rows]
    assert words == sorted(set(words))


@pytest.mark.parametrize("word", WORDS)
def test_a_reports_words_are_in_it(rows: list[tuple[str, str]], word: str) -> None:
    assert any(re.search(rf"\b{word}\b", f"{name} {meaning}", re.IGNORECASE) for name, meaning in rows)


def test_every_guarantee_is_named(rows: list[tuple[str, str]]) -> None:
    meaning = dict(rows)["guarantee"]
    assert all(str(guarantee) in meaning for guarantee in Guarantee)
