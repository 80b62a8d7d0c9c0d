"""Every one of ONNX's own test cases is covered by a certificate, or is on the list docs/uncovered.toml with its reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import Case, cases, examine

LISTED = Path(__file__).parents[2] / "docs" / "uncovered.toml"


DOCUMENT = tomllib.loads(LISTED.read_text(encoding="utf-8"))


def listed(kind: str) -> dict[str, str]:
    """The reason by case; a case stands in one group only."""
    pairs = [(name, group["reason"]) for group in DOCUMENT[kind] for name in group["cases"]]
    assert len(dict(pairs)) == len(pairs), f"a case is listed twice under {kind}"
    return dict(pairs)


REASONS, UNBOUNDED = listed("uncovered"), listed("unbounded")
NUMERIC = tuple(case for case in cases() if case.is_numeric)


@pytest.mark.parametrize("case", NUMERIC, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    outcome = examine(case)
    assert not outcome.alarm, outcome.reason
    if case.name in REASONS:
        assert not outcome.covered, f"it is covered now: take it off {LISTED.name}"
    else:
        assert outcome.covered, f"{outcome.reason}: cover it, or list it with its reason"
        assert ("unbounded" in outcome.runs) == (case.name in UNBOUNDED), (
            f"a bound that is infinite where the result is finite: {LISTED.name}"
        )


def test_the_list_names_cases_that_exist_and_counts_them() -> None:
    names = {case.name for case in NUMERIC}
    assert not (REASONS.keys() | UNBOUNDED.keys()) - names
    assert not REASONS.keys() & UNBOUNDED.keys()
    assert DOCUMENT["numeric"] == len(NUMERIC)
    assert DOCUMENT["others"] == len(cases()) - len(NUMERIC)


def test_at_least_95_percent_are_covered() -> None:
    assert 1.0 - len(REASONS) / len(NUMERIC) >= 0.95


def test_no_public_model_uses_an_operator_without_any_case(real_models: Path) -> None:
    import onnx

    def operators(graph: Any) -> set[str]:
        return {node.op_type for node in graph.node}

    covered = set().union(*(operators(case.model.graph) for case in NUMERIC if case.name not in REASONS))
    uncovered = set().union(*(operators(case.model.graph) for case in NUMERIC if case.name in REASONS)) - covered
    for path in sorted(real_models.rglob("*.onnx")):
        used = operators(onnx.load(path, load_external_data=False).graph)
        assert not used & uncovered, f"{path.name} uses {sorted(used & uncovered)}"


def test_the_reasons_are_sentences() -> None:
    assert all(re.fullmatch(r"[A-Z].*[^.]", reason) for reason in {*REASONS.values(), *UNBOUNDED.values()})
