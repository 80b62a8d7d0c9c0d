"""What engines found ─▶ the certificate's results per output and per node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from certify.analysis.problem import Problem, Step
from certify.certificate.contract import Decision, LostBound, NodeResult, OutputResult
from certify.engines.answer import Answer
from certify.graph.model import ModelGraph
from certify.number.upward import Array


def output_results(found: Answer, observed: Mapping[str, Array]) -> dict[str, OutputResult]:
    """One result per output; `observed` is the largest error of the validation runs, (cases, *shape)."""
    results = {}
    for name, bounds in found.outputs.items():
        rungs = found.ladder.get(name) or {found.guarantee: float(bounds.total.max(initial=0.0))}
        results[name] = OutputResult(
            name=name,
            shape=bounds.total.shape[1:],
            reference=bounds.reference,
            absolute_bound=bounds.total,
            conversion=bounds.conversion,
            rounding=bounds.rounding,
            reference_radius=bounds.doubt,
            observed_error=observed.get(name),
            decision=tuple(_decision(case, margin) for case, margin in found.decisions.get(name, [])),
            ladder={str(guarantee): bound for guarantee, bound in rungs.items()},
        )
    return results


def _decision(case: int, margin: Any) -> Decision:
    return Decision(case, margin.top, margin.runner_up, margin.margin, margin.bound, margin.stable, margin.row)


def node_results(graph: ModelGraph, found: Answer) -> tuple[NodeResult, ...]:
    """One row per ONNX node, in graph order; several steps of a composite count together."""
    stored = found.first
    if stored is None:
        return ()
    steps: dict[str, list[Step]] = {}
    for step in stored.steps:
        steps.setdefault(step.node, []).append(step)
    first = next(iter(stored.outputs), "")
    shares = found.shares.get(first, {})
    total = sum(share for share in shares.values() if np.isfinite(share)) or 1.0
    unbounded = any(np.isinf(share) for share in shares.values())
    results = []
    for node in graph.nodes:
        mine = steps.get(node.name, [])
        facts = [found.steps[step.output] for step in mine if step.output in found.steps]
        share = sum(shares.get(step.output, 0.0) for step in mine)
        attributes: Any = graph.facts.get(node.name)
        condition = condition_numbers(stored, mine)
        results.append(
            NodeResult(
                name=node.name,
                op=node.op_type,
                fan_in=getattr(attributes, "fan_in", None),
                lipschitz=getattr(attributes, "lipschitz", None),
                condition_median=None if condition is None else condition[0],
                condition_max=None if condition is None else condition[1],
                gamma=getattr(attributes, "gamma", None),
                tube_max=facts[-1].tube if facts else None,
                local_max=max(fact.local for fact in facts) if facts else None,
                contribution=None if not shares else (float(np.isinf(share)) if unbounded else share / total),
                magnitude_max=facts[-1].magnitude if facts else None,
            )
        )
    return tuple(results)


def condition_numbers(stored: Problem, steps: list[Step]) -> tuple[float, float] | None:
    """Median and maximum of kappa = sum |a_i b_i| / |sum a_i b_i| over the elements of the node's inner products."""
    for step in steps:
        condition = getattr(step.rule, "condition", None)
        if condition is not None:
            kappa = condition(tuple(None if name is None else stored.values[name] for name in step.operands), **step.attributes)
            kappa = kappa[~np.isnan(kappa)]
            if kappa.size:
                return float(np.median(kappa)), float(np.max(kappa))
    return None


def lost_bounds(found: Answer) -> tuple[LostBound, ...]:
    """The first node of each case at which finiteness was lost."""
    return tuple(LostBound(lost.node, lost.reason, case) for case, lost in enumerate(found.lost) if lost is not None)
