"""The certificate in memory ─▶ its document."""

from __future__ import annotations

from certify.certificate import schema
from certify.certificate.contract import Attained, Certificate, Claim, Gate, NodeResult, OutputResult, Validation
from certify.certificate.region import decision, region
from certify.certificate.stated import stated
from certify.number.upward import Array
from certify.version import __version__

WITNESSED = 64  # elements up to which an input that attains an error is written down


def document(certificate: Certificate) -> schema.Document:
    """The document of schema "certify/1": every array reduced to its maxima, deterministically."""
    facts = certificate.model
    return schema.Document(
        schema=schema.SCHEMA,
        tool=schema.Tool(name="certify", version=__version__),
        model=schema.Model(facts.path, facts.sha256, facts.opset, facts.parameters, facts.nodes),
        claim=_claim(certificate.claim),
        guarantee=str(certificate.guarantee),
        failure_probability=float(certificate.failure_probability),
        outputs=[_output(output) for output in certificate.outputs.values()],
        nodes=[_node(node) for node in certificate.nodes],
        hazards=[schema.Hazard(h.rule, h.severity, h.node, h.message, dict(h.evidence)) for h in certificate.hazards],
        lost=[schema.Lost(lost.case, lost.node, lost.reason) for lost in certificate.lost],
        validation=_validation(certificate.validation),
        gate=_gate(certificate.gate),
        timings=schema.Timings({stage: float(s) for stage, s in certificate.timings.items()}, certificate.peak_memory_bytes),
        region=None if certificate.region is None else region(certificate.region),
        property=None if certificate.stated is None else stated(certificate.stated),
        decisions=[decision(name, found) for name, found in certificate.decisions.items()],
    )


def _claim(claim: Claim) -> schema.Claim:
    inputs = claim.inputs
    boxes = {name: [float(lo), float(hi)] for name, (lo, hi) in inputs.boxes.items()} or None
    run = claim.as_run
    return schema.Claim(
        dtype=claim.dtype,
        accumulate=claim.accumulate,
        summation=claim.summation,
        profile=schema.Profile(claim.profile.name, list(claim.profile.assumptions)),
        inputs=schema.Inputs(inputs.kind, inputs.cases, inputs.source, inputs.sha256, boxes, inputs.seed, inputs.widened),
        as_run=None if run is None else schema.AsRun(run.runtime, run.level, run.nodes),
    )


def _largest(x: Array) -> float:
    return float(x.max(initial=0.0))


def _output(output: OutputResult) -> schema.Output:
    unstable = [
        schema.Unstable(d.case, d.row, d.top, d.runner_up, float(d.margin), float(d.bound)) for d in output.decision if not d.stable
    ]
    decided = len(output.decision)
    return schema.Output(
        name=output.name,
        shape=list(output.shape),
        bound=schema.Bound(_largest(output.absolute_bound), output.relative_max),
        conversion_max=_largest(output.conversion),
        rounding_max=_largest(output.rounding),
        per_case=output.per_case,
        ladder={guarantee: float(bound) for guarantee, bound in output.ladder.items()},
        observed_max=_number(output.observed_max),
        tightness=output.tightness,
        decision=schema.Decisions(decided - len(unstable), decided, unstable) if decided else None,
    )


def _number(x: float | None) -> float | None:
    return None if x is None else float(x)


def _node(node: NodeResult) -> schema.Node:
    known = node.condition_median is not None or node.condition_max is not None
    return schema.Node(
        name=node.name,
        op=node.op,
        fan_in=None if node.fan_in is None else int(node.fan_in),
        lipschitz=_number(node.lipschitz),
        condition=schema.Condition(_number(node.condition_median), _number(node.condition_max)) if known else None,
        gamma=_number(node.gamma),
        tube_max=_number(node.tube_max),
        local_max=_number(node.local_max),
        contribution=_number(node.contribution),
        magnitude_max=_number(node.magnitude_max),
    )


def _validation(validation: Validation | None) -> schema.Validation | None:
    if validation is None:
        return None
    violated = [schema.Violation(v.output, v.case, list(v.index), float(v.observed), float(v.bound), v.run) for v in validation.violations]
    attained = {name: _attained(found) for name, found in validation.attained.items()}
    return schema.Validation(validation.runtime, validation.reference, validation.runs, len(violated), violated, validation.tried, attained)


def _attained(found: Attained) -> schema.Attained:
    few = sum(x.size for x in found.inputs.values()) <= WITNESSED
    inputs = {name: x.tolist() for name, x in found.inputs.items()} if few else None
    return schema.Attained(list(found.index), float(found.error), found.sha256, inputs)


def _gate(gate: Gate | None) -> schema.GateVerdict | None:
    if gate is None:
        return None
    budgets = [schema.BudgetVerdict(b.spec, float(b.value), b.verdict) for b in gate.budgets]
    return schema.GateVerdict(budgets, gate.verdict, gate.exit_code, list(gate.reasons))
