"""What became of a VNN-LIB property ─▶ its place in the document."""

from __future__ import annotations

from certify.certificate import schema
from certify.certificate.contract import Counterexample, PropertyResult
from certify.certificate.region import LISTED, box


def stated(found: PropertyResult) -> schema.Property:
    """The document's account of the property."""
    proof = found.proof
    worst = [schema.UnprovedBox(x.margin_reals, x.margin_executions, box(x.part)) for x in proof.worst]
    return schema.Property(
        found.verdict,
        proof.margin_reals,
        proof.margin_executions,
        proof.boxes,
        proof.asked,
        proof.ended,
        proof.unproved,
        worst,
        found.tried,
        found.untried,
        None if found.witness is None else _witness(found.witness),
    )


def _witness(found: Counterexample) -> schema.Counterexample:
    few = sum(x.size for x in found.inputs.values()) <= LISTED
    inputs, outputs = ({name: x.tolist() for name, x in arrays.items()} if few else None for arrays in (found.inputs, found.outputs))
    return schema.Counterexample(found.case, found.run, found.margin, list(found.exact), found.sha256, found.unsafe, inputs, outputs)
