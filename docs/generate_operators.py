"""Write docs/operators.md from the rule table: `python docs/generate_operators.py`."""

from __future__ import annotations

import inspect
import re
import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("operators.md")
UNCOVERED = Path(__file__).with_name("uncovered.toml")

INTRODUCTION = """\
# Operators

Written by `python docs/generate_operators.py` from the rule table; don't edit. How to add one: [adding-op.md](adding-op.md).

A model that needs any other operator is refused by name, with exit code 3; but operators whose operands are all constant are computed
while the model is loaded, and no rule is asked for. Loading also opens the file's own functions, If, Loop, Scan and sequences. An
operator without a rule that ONNX itself defines by others is read by that definition; the certificate then says so among its assumptions,
for it holds of a runtime that computes the definition, each result stored, and not of a kernel of the operator's own. Opsets {first} to
{last} are read, an earlier one where its operators are the same; the rule is the one with the greatest *since* up to the model's opset.

- *family*: what the rule is a row of; a family's page is its module in `certify/semantics/families/`. A composite is a subgraph of other
  rows. A name in italics is a rule written by hand, in the module of its kind in `certify/semantics/ops/`.
- *linear*: a deviation of the operands passes through linearly, so that an adjoint misses nothing. "in each" says so of one operand while
  the others are exact. "by parts" says that a composite is what its parts are.
- *static*: operands that must be constant.
"""

# What a row of each family is told about its operator: where its docstring may be.
FUNCTIONS = {
    "Bilinear": "form",
    "Composite": "expand",
    "Clipped": "born",
    "Delivery": "born",
    "Discrete": "value",
    "Linear": "apply",
    "Movement": "value",
    "Pointwise": "value",
    "Selection": "candidates",
    "Sized": "born",
    "Whole": "born",
}


def page() -> str:
    """The whole page."""
    from certify.graph.passes.specialize import OPSETS
    from certify.semantics import ops  # registers the rules
    from certify.semantics.contract import rules

    assert ops.__path__
    rows = [r for r in rules() if r.domain != "certify"]
    parts = [INTRODUCTION.format(first=OPSETS[0], last=OPSETS[-1])]
    for domain, found in groupby(rows, lambda rule: rule.domain):
        parts.append(f"## {domain or 'ai.onnx'}\n\n" + table(list(found)))
    inner = [r for r in rules() if r.domain == "certify"]
    parts.append(conformance())
    parts.append("## Inner steps\n\nNo model holds these; composites and profiles do.\n\n" + table(inner))
    return "\n".join(parts)


def conformance() -> str:
    """How ONNX's own test cases fare, and what is left out of them; tests/conformance holds the list to be exact."""
    document = tomllib.loads(UNCOVERED.read_text(encoding="utf-8"))
    left = sum(len(group["cases"]) for group in document["uncovered"])
    numeric = document["numeric"]
    lines = [
        "## ONNX's own test cases\n",
        f"`onnx.backend.test.case.node` makes {numeric + document['others']:,} cases, {numeric:,} of them with outputs that are numbers.",
        f"{numeric - left:,} of these ({100 * (numeric - left) / numeric:.1f} %) are certified in their own types, and the",
        "expected outputs lie within, as do those of onnxruntime where it runs the case. The others, each with its reason:\n",
    ]
    lines += [listed(group) for group in document["uncovered"]]
    lines += ["\nCovered, but by a bound that is infinite where the result is a finite number:\n"]
    lines += [listed(group) for group in document["unbounded"]]
    return "\n".join(lines) + "\n"


def listed(group: dict[str, Any]) -> str:
    """One group of cases and why they are in it."""
    names = sorted(name.removeprefix("test_") for name in group["cases"])
    return f"- {group['reason']} ({len(names)}): {', '.join(names)}."


def table(rules: list[Any]) -> str:
    """One row for each run of versions that agree on everything shown."""
    lines = ["| operator | since | family | linear | static | notes |", "|---|---|---|---|---|---|"]
    for (name, *rest), group in groupby(rules, lambda rule: (rule.name, *cells(rule))):
        since = ", ".join(str(rule.since) for rule in group)
        lines.append("| " + " | ".join([name, since, *rest]) + " |")
    return "\n".join(lines) + "\n"


def cells(rule: Any) -> tuple[str, str, str, str]:
    """family, linear, static, notes."""
    family = type(rule).__name__
    static = getattr(rule, "static", ())
    named = family if family in FUNCTIONS else f"*{family}*"
    return named, linearity(rule), ", ".join(p for p in rule.parameters if p in static), notes(rule)


def linearity(rule: Any) -> str:
    """What the flags of a rule promise; composites promise nothing themselves."""
    if type(rule).__name__ == "Composite":
        return "by parts"
    if not rule.nonlinear:
        return "yes"
    return "in each" if type(rule).__name__ == "Bilinear" else "no"


def notes(rule: Any) -> str:
    """The first paragraph that the code says about this operator, if it says more than its name."""
    family = type(rule).__name__
    subject = getattr(rule, FUNCTIONS[family]) if family in FUNCTIONS else type(rule)
    subject = subject if inspect.isfunction(subject) or inspect.isclass(subject) else type(subject)
    if not subject.__module__.startswith("certify.semantics."):
        return ""
    text = " ".join(re.split(r"\n\s*\n", inspect.getdoc(subject) or "")[0].split()).rstrip(".")
    empty = text == rule.name or text.startswith(("A row", "The rule of", f"{subject.__name__}("))
    return "" if empty else cell(text)


def cell(text: str) -> str:
    """Text that a table takes literally."""
    return re.sub(r"([|*<])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
