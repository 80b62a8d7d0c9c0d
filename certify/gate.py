"""Budgets ─▶ verdict and exit code."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from certify.certificate.contract import BudgetResult, Certificate, Gate, OutputResult, Verdict
from certify.engines.contract import Guarantee
from certify.errors import UsageError
from certify.report import words
from certify.request import Budget


def judge(certificate: Certificate, budgets: Sequence[Budget], weakest: str = "any") -> Gate:
    """The verdict, worst first: alarm (4), violated property, exceeded budget or
    confirmed hazard, property not proved (1), no finite bound for a budget (3), certified (0).

    `weakest` is the weakest guarantee that was accepted: bounds under a weaker one answer no budget.
    Without budgets the exit code is 0, yet an infinite bound is never called certified.
    Raises UsageError for a budget on an output that the model does not have or that is not decided by argmax.
    """
    results = tuple(_judge(budget, certificate) for budget in budgets)
    alarm = _alarms(certificate)
    exceeded = [
        _exceeded(budget, result, certificate) for budget, result in zip(budgets, results, strict=True) if result.verdict == "exceeded"
    ]
    exceeded += [f"hazard {h.rule} at node {h.node!r}: {h.message}" for h in certificate.hazards if h.severity == "error"]
    unbounded = [f"budget {result.spec}: no finite bound" for result in results if result.verdict == "no finite bound"]
    too_weak = _too_weak(certificate.guarantee, weakest)
    if too_weak:
        unbounded.insert(0, too_weak)
    infinite = [f"output {name!r} has no finite bound" for name, output in certificate.outputs.items() if _is_infinite(output)]
    broken, unproved = _stated(certificate)
    verdicts: tuple[tuple[list[str], Verdict, int], ...] = (
        (alarm, "alarm", 4),
        (broken, "violated", 1),
        (exceeded, "exceeded", 1),
        (unproved, "not proved", 1),
        (unbounded, "no finite bound", 3),
        (infinite, "no finite bound", 0),
    )
    for reasons, verdict, exit_code in verdicts:
        if reasons:
            return Gate(results, verdict, exit_code, tuple(reasons))
    return Gate(results, "certified", 0)


def check_names(budgets: Sequence[Budget], outputs: Collection[str]) -> None:
    """Find out before a long computation whether every budget names an output. Raises UsageError."""
    for budget in budgets:
        if budget.output is not None and budget.output not in outputs:
            known = ", ".join(outputs)
            raise UsageError(f"--budget {budget.spec}: the model has no output {budget.output!r}; its outputs are {known}")


def _alarms(certificate: Certificate) -> list[str]:
    if certificate.validation is None:
        return []
    return [
        f"output {v.output!r}, case {v.case}, index {list(v.index)}: observed {v.observed:.6e} exceeds the bound {v.bound:.6e}"
        + (f" ({v.run})" if v.run else "")
        for v in certificate.validation.violations
    ]


def _exceeded(budget: Budget, result: BudgetResult, certificate: Certificate) -> str:
    if budget.kind == "argmax":
        count = round(result.value)
        parts = words.plural(count, "sub-box is", "sub-boxes are") + " not stable"
        return f"budget {result.spec}: {parts if certificate.decisions else words.plural(count, 'decision') + ' may flip'}"
    said = f"budget {result.spec}: the bound is {words.above(result.value)}"
    seen = max((output.observed_max or 0.0 for output in _concerned(budget, certificate)), default=0.0)
    if budget.kind == "absolute" and budget.limit is not None and seen > budget.limit:
        return f"{said}, and a run errs by {words.near(seen)}"
    return said


def _is_infinite(output: OutputResult) -> bool:
    return not all(map(math.isfinite, output.per_case))


def _stated(certificate: Certificate) -> tuple[list[str], list[str]]:
    """Why a VNN-LIB property is broken, or not proved."""
    found = certificate.stated
    if found is None or found.verdict == "holds":
        return [], []
    proof, run = found.proof, found.witness
    if run is not None:
        also = {True: "so does the exact result", False: "the exact result does not", None: "whether the exact result does is open"}
        return [f"property violated by {run.run}, margin {words.near(run.margin)}; {also[run.unsafe]}"], []
    missing = f"margin {words.below(proof.margin_executions)} is all that is proved of executions"
    if found.verdict == "holds over the reals":
        return [], [f"property holds over the reals, margin {words.below(proof.margin_reals)}, but an execution may break it: {missing}"]
    return [], [f"property may fail, even over the reals: margin {words.below(proof.margin_reals)} is all that is proved there; {missing}"]


def _too_weak(guarantee: Guarantee, weakest: str) -> str | None:
    if weakest == "any" or guarantee <= Guarantee[weakest.upper()]:
        return None
    return f"--guarantee {weakest}: the bounds found are only {guarantee}"


def _judge(budget: Budget, certificate: Certificate) -> BudgetResult:
    if budget.kind == "argmax" and certificate.decisions:
        return _judge_region(budget, certificate)
    outputs = list(_concerned(budget, certificate))
    if budget.kind == "argmax":
        return _judge_decisions(budget, outputs)
    values = [output.relative_max if budget.kind == "relative" else max(output.per_case, default=0.0) for output in outputs]
    value = max(values, default=0.0)
    assert budget.limit is not None
    if not math.isfinite(value):
        return BudgetResult(budget.spec, value, "no finite bound")
    return BudgetResult(budget.spec, value, "within" if value <= budget.limit else "exceeded")


def _judge_decisions(budget: Budget, outputs: list[OutputResult]) -> BudgetResult:
    unstable = [d for output in outputs for d in output.decision if not d.stable]
    if not unstable:
        return BudgetResult(budget.spec, 0.0, "within")
    # A finite bound above the margin is an answer: this decision may flip. An infinite one is none.
    answered = any(math.isfinite(d.bound) for d in unstable)
    return BudgetResult(budget.spec, float(len(unstable)), "exceeded" if answered else "no finite bound")


def _judge_region(budget: Budget, certificate: Certificate) -> BudgetResult:
    """Within if every sub-box is stable; `value` counts those that are not."""
    found = [decision for name, decision in certificate.decisions.items() if budget.output in (None, name)]
    if not found:
        raise _undecided(budget)
    unstable = sum(decision.unstable for decision in found)
    return BudgetResult(budget.spec, float(unstable), "exceeded" if unstable else "within")


def _undecided(budget: Budget) -> UsageError:
    return UsageError(
        f"--budget {budget.spec}: no output here is decided by argmax; it takes a floating-point output whose last axis has"
        " two classes or more"
    )


def _concerned(budget: Budget, certificate: Certificate) -> Iterable[OutputResult]:
    """The outputs that a budget is about. Raises UsageError if there are none."""
    check_names([budget], certificate.outputs)
    found = [output for name, output in certificate.outputs.items() if budget.output in (None, name)]
    if budget.kind != "argmax":
        return found
    decided = [output for output in found if output.decision]
    if not decided:
        raise _undecided(budget)
    return decided
