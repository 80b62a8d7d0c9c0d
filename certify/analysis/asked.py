"""What loading asks the rule table."""

from __future__ import annotations

from certify.graph.passes.definitions import deciding_operands
from certify.graph.refused import REFUSED
from certify.semantics import ops
from certify.semantics.contract import lookup

assert ops.__path__  # importing the package fills the rule table
REWRITTEN = frozenset({"CastLike"})  # loading itself makes them another operator


def static_operands(domain: str, name: str, opset: int) -> frozenset[int]:
    """Positions of the operands that the rule of this operator, or else its definition, must know beforehand."""
    rule = lookup(domain, name, opset)
    if rule is None:
        return deciding_operands(domain, name, opset)
    known = rule.static | getattr(rule, "known", frozenset())
    return frozenset(i for i, p in enumerate(rule.parameters) if p in known)


def has_rule(domain: str, name: str, opset: int) -> bool:
    """True if the rule table knows the operator, or it is refused for what it is."""
    return name in REWRITTEN or (domain, name) in REFUSED or lookup(domain, name, opset) is not None
