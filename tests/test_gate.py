"""Budgets ─▶ verdict and exit code, worst first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from certify.certificate.contract import Certificate, Hazard
from certify.engines.contract import Guarantee
from certify.errors import UsageError
from certify.gate import check_names, judge
from certify.request import parse_budget
from tests.report import samples


def judged(certificate: Certificate, *budgets: str, weakest: str = "any") -> tuple[str, int, list[str]]:
    gate = judge(replace(certificate, gate=None), [parse_budget(budget) for budget in budgets], weakest)
    return gate.verdict, gate.exit_code, [result.verdict for result in gate.budgets]


def test_no_budget_certifies_a_finite_bound() -> None:
    assert judged(samples.certified()) == ("certified", 0, [])


def test_an_infinite_bound_is_never_called_certified() -> None:
    assert judged(samples.unbounded()) == ("no finite bound", 0, [])
    assert judged(samples.unbounded(), "1e30") == ("no finite bound", 3, ["no finite bound"])
    assert judged(samples.unbounded(), "rel:1e30") == ("no finite bound", 3, ["no finite bound"])


@pytest.mark.parametrize(
    ("budget", "verdict"),
    [
        ("0.09375", "within"),  # the bound itself
        (repr(float(np.nextafter(0.09375, 0.0))), "exceeded"),
        ("0", "exceeded"),
        ("logits=0.1", "within"),
        ("logits=0.09", "exceeded"),
        ("rel:0.164", "within"),
        ("rel:0.163", "exceeded"),
        ("logits=rel:0.164", "within"),
        ("argmax", "exceeded"),
        ("logits=argmax", "exceeded"),
    ],
)
def test_one_budget(budget: str, verdict: str) -> None:
    expected = ("certified", 0) if verdict == "within" else ("exceeded", 1)
    assert judged(samples.certified(), budget) == (*expected, [verdict])


def test_what_a_run_showed_stands_beside_a_broken_budget() -> None:
    """The largest observed error of these samples is 0.01171875."""
    given = [parse_budget(budget) for budget in ("0.0117", "0.0118")]
    gate = judge(replace(samples.certified(), gate=None), given)
    assert gate.reasons[0].endswith("the bound is 9.375e-2, and a run errs by 1.17e-2")
    assert gate.reasons[1].endswith("the bound is 9.375e-2")


def test_every_budget_counts() -> None:
    assert judged(samples.certified(), "1", "0.01") == ("exceeded", 1, ["within", "exceeded"])


def test_stable_decisions_pass() -> None:
    certificate = samples.certified()
    stable = replace(samples.output(), decision=samples.output().decision[:1])
    assert judged(replace(certificate, outputs={"logits": stable}), "argmax") == ("certified", 0, ["within"])


def test_a_decision_without_finite_bound_is_no_answer() -> None:
    certificate = samples.certified()
    lost = tuple(replace(d, bound=float("inf"), stable=False) for d in samples.output().decision)
    outputs = {"logits": replace(samples.output(), decision=lost)}
    assert judged(replace(certificate, outputs=outputs), "argmax") == ("no finite bound", 3, ["no finite bound"])
    both = {"logits": replace(samples.output(), decision=(*lost, samples.output().decision[1]))}
    assert judged(replace(certificate, outputs=both), "argmax")[:2] == ("exceeded", 1)


def test_an_alarm_outranks_everything() -> None:
    verdict, code, _ = judged(samples.alarm(), "1e-9", "argmax")
    assert (verdict, code) == ("alarm", 4)


def test_a_confirmed_hazard_fails_and_a_warning_does_not() -> None:
    warning = Hazard("overflow", "warning", "n", "may overflow")
    assert judged(replace(samples.certified(), hazards=(warning,)))[1] == 0
    assert judged(replace(samples.certified(), hazards=(replace(warning, severity="error"),)))[:2] == ("exceeded", 1)


@pytest.mark.parametrize("guarantee", list(Guarantee))
@pytest.mark.parametrize("weakest", ["proved", "randomized", "probabilistic", "sampled", "any"])
def test_a_weaker_guarantee_than_asked_for_is_no_answer(guarantee: Guarantee, weakest: str) -> None:
    accepted = weakest == "any" or guarantee <= Guarantee[weakest.upper()]
    expected = ("certified", 0) if accepted else ("no finite bound", 3)
    assert judged(replace(samples.certified(), guarantee=guarantee), "1", weakest=weakest)[:2] == expected


def test_budgets_on_what_is_not_there() -> None:
    with pytest.raises(UsageError, match="no output 'probs'; its outputs are logits"):
        judged(samples.certified(), "probs=1")
    with pytest.raises(UsageError, match="probs"):
        check_names([parse_budget("probs=argmax")], ["logits"])
    undecided = {"logits": replace(samples.output(), decision=())}
    with pytest.raises(UsageError, match="argmax"):
        judged(replace(samples.certified(), outputs=undecided), "argmax")
