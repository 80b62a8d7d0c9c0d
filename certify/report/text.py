"""The report on a terminal: the verdict first, then what stands behind it."""

from __future__ import annotations

from collections import Counter

from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from certify.certificate.schema import Decisions, Document, GateVerdict, Node, Output, Property, RegionDecision
from certify.report import words
from certify.report.console import opened

SHOWN = 10
BAR = 8
STYLES = {
    "certified": "green",
    "exceeded": "red",
    "violated": "red",
    "not proved": "yellow",
    "no finite bound": "yellow",
    "alarm": "bold white on red",
}
HEADLINES = {
    "certified": "✔ CERTIFIED",
    "exceeded": "✘ EXCEEDED",
    "violated": "✘ PROPERTY VIOLATED",
    "not proved": "? PROPERTY NOT PROVED",
    "no finite bound": "∞ NO FINITE BOUND",
    "alarm": "‼ ALARM: AN OBSERVED ERROR EXCEEDS ITS BOUND",
}


def print_text(document: Document, quiet: bool = False, verbose: bool = False, color: bool = True) -> None:
    """Print the report, or its verdict alone, on standard output."""
    console = opened(color, 100)
    if quiet:
        console.print(_one_line(document), soft_wrap=True)
    else:
        render(document, console, verbose)


def render(document: Document, console: Console, verbose: bool = False) -> None:
    """The whole report; `verbose` shows every node and decision instead of the first ten."""
    gate = _gate(document)
    console.print(_headline(document, gate))
    console.print(_facts(document))
    limit = None if verbose else SHOWN
    if document.property is not None:
        console.print(_property(document.property))
    for decision in document.decisions:
        console.print(_region_decision(decision))
    for output in document.outputs:
        console.print(_output(output, document, limit))
    sections = (_region(document), _budgets(gate), _lost(document), _hazards(document), _nodes(document.nodes, limit))
    for section in (*sections, _validation(document, limit)):
        if section is not None:
            console.print(section)
    console.print(_timings(document))


def _gate(document: Document) -> GateVerdict:
    return document.gate or GateVerdict([], "certified", 0)


def _one_line(document: Document) -> Text:
    gate = _gate(document)
    largest = max((output.bound.absolute_max for output in document.outputs), default=0.0)
    why = f"; {gate.reasons[0]}" if gate.reasons else ""
    line = f" {document.model.path}: {document.claim.dtype}, largest bound {words.above(largest)} ({document.guarantee}){why}"
    return Text(HEADLINES[gate.verdict], style=STYLES[gate.verdict]) + Text(line, style="default")


def _headline(document: Document, gate: GateVerdict) -> Panel:
    model = document.model
    style = STYLES[gate.verdict]
    lines = [Text(HEADLINES[gate.verdict], style=f"bold {style}".replace("bold bold", "bold"))]
    what = f"{model.path} · opset {model.opset} · {words.plural(model.nodes, 'node')} · {words.plural(model.parameters, 'parameter')}"
    lines.append(Text(what))
    if document.claim.as_run is not None:
        lines.append(Text(words.as_run(document.claim.as_run, model)))
    lines += [Text(f"{words.formats(document.claim)} · {document.guarantee}")]
    if gate.verdict == "alarm":
        lines.append(Text("Either the bound is wrong or the run breaks the profile: don't rely on this certificate.", style="bold"))
    shown = gate.reasons[:SHOWN]
    lines += [Text(f"• {reason}", style=style) for reason in shown]
    if len(gate.reasons) > len(shown):
        lines.append(Text(f"• and {len(gate.reasons) - len(shown)} more", style=style))
    return Panel(Group(*lines), border_style=style, padding=(0, 1))


def _rows() -> Table:
    """A grid of label and text."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, width=11)
    grid.add_column()
    return grid


def _facts(document: Document) -> Padding:
    inputs = document.claim.inputs
    grid = _rows()
    grid.add_row("claim", Text(words.claim(document)))
    grid.add_row("guarantee", Text(f"{document.guarantee}. {words.guarantee(document)}"))
    origin = Text(words.origin(inputs))
    if warning := words.invented(inputs):
        origin.append(f"\n! {warning}", style="bold yellow")
    grid.add_row("inputs", origin)
    for i, assumption in enumerate(document.claim.profile.assumptions):
        grid.add_row("assuming" if i == 0 else "", Text(f"• {assumption}"))
    return Padding(grid, (1, 1, 0, 1))


def _output(output: Output, document: Document, limit: int | None) -> Padding:
    grid = _rows()
    bound = Text.assemble((words.above(output.bound.absolute_max), "bold"), f"   {words.relative(output)}")
    grid.add_row("bound", bound)
    grid.add_row("conversion", Text(f"{words.above(output.conversion_max)}   {words.conversion(document.claim)}"))
    grid.add_row("rounding", Text(f"{words.above(output.rounding_max)}   arithmetic"))
    validation = document.validation
    if output.observed_max is not None and validation is not None:
        grid.add_row("observed", Text(f"{words.near(output.observed_max, 4)}   largest of {words.plural(validation.runs, 'run')}"))
        grid.add_row("tightness", Text(words.tightness(output)))
        if output.name in validation.attained:
            grid.add_row("witness", Text(words.attained(validation.attained[output.name], validation.tried)))
    else:
        grid.add_row("observed", Text("nothing was run", style="dim"))
    if len(output.ladder) > 1:
        grid.add_row("ladder", Text(" · ".join(f"{name} {words.above(value)}" for name, value in output.ladder.items())))
    if output.decision is not None:
        grid.add_row("decisions", _decisions(output.decision, limit))
    title = Text.assemble(("output ", "dim"), (output.name, "bold cyan"), (f" {output.shape}", "dim"))
    return Padding(Group(title, Padding(grid, (0, 0, 0, 2))), (1, 1, 0, 1))


def _region(document: Document) -> Padding | None:
    region = document.region
    if region is None:
        return None
    grid = _rows()
    grid.add_row("region", Text(words.split(region)))
    for output in region.outputs:
        where = Text.assemble(("worst for ", "default"), (output.output, "bold cyan"), f": {words.sub_box(output.worst[0])}")
        grid.add_row("", where)
        if 0.0 < output.lower < output.worst[0].bound:
            grid.add_row("", Text(f"splitting further would leave about {words.near(output.lower)} of it", style="dim"))
    return Padding(grid, (1, 1, 0, 1))


def _region_decision(found: RegionDecision) -> Padding:
    grid = _rows()
    stable = found.count["stable"] == found.boxes
    grid.add_row("decisions", Text(words.decided(found), style="green" if stable else "yellow"))
    grid.add_row("split", Text(f"{words.plural(found.boxes, 'sub-box', 'sub-boxes')}, {words.by_kind(found)}; {found.ended}"))
    if found.intervals is not None and found.width is not None and not stable:
        grid.add_row("", Text(f"{words.plural(len(found.intervals), 'interval')} not stable, {words.near(found.width)} wide in all"))
    return Padding(grid, (1, 1, 0, 1))


def _property(found: Property) -> Padding:
    grid = _rows()
    holds = found.verdict == "holds"
    grid.add_row("property", Text(words.stated(found), style="green" if holds else "red" if found.witness else "yellow"))
    grid.add_row("margins", Text(f"{words.below(found.margin_reals)} over the reals, {words.below(found.margin_executions)} of executions"))
    grid.add_row("split", Text(f"{words.plural(found.boxes, 'sub-box', 'sub-boxes')}, {found.unproved:,} not proved; {found.ended}"))
    if found.witness is not None:
        grid.add_row("witness", Text(words.counterexample(found.witness)))
    else:
        grid.add_row("tried", Text(found.untried or f"{words.plural(found.tried, 'input')} run, none breaks it"))
    return Padding(grid, (1, 1, 0, 1))


def _decisions(decision: Decisions, limit: int | None) -> Text:
    text = Text(f"{decision.stable:,} of {decision.cases:,} stable", style="green" if decision.stable == decision.cases else "red")
    shown = decision.unstable[:limit]
    for d in shown:
        row = f", row {d.row}" if d.row else ""
        text.append(
            f"\ncase {d.case}{row}: class {d.top} before {d.runner_up} by {words.below(d.margin)}, bound {words.above(d.bound)}",
            style="default",
        )
    if len(decision.unstable) > len(shown):
        text.append(f"\nand {len(decision.unstable) - len(shown):,} more (--verbose lists them)", style="dim")
    return text


def _budgets(gate: GateVerdict) -> Padding | None:
    if not gate.budgets:
        return None
    marks = {"within": ("✔", "green"), "exceeded": ("✘", "red"), "no finite bound": ("∞", "yellow")}
    grid = _rows()
    for i, budget in enumerate(gate.budgets):
        mark, style = marks[budget.verdict]
        found = f"{budget.value:.0f} may flip" if budget.spec.endswith("argmax") else words.above(budget.value)
        text = Text.assemble((f"{mark} {budget.spec}", style), f"   {budget.verdict}: {found}")
        grid.add_row("budgets" if i == 0 else "", text)
    return Padding(grid, (1, 1, 0, 1))


def _lost(document: Document) -> Padding | None:
    if not document.lost:
        return None
    grid = _rows()
    for i, ((node, reason), n) in enumerate(Counter((lost.node, lost.reason) for lost in document.lost).most_common(SHOWN)):
        cases = words.plural(n, "case")
        grid.add_row(
            "bound lost" if i == 0 else "", Text.assemble(("at node ", "default"), (node, "bold yellow"), f" in {cases}: {reason}")
        )
    return Padding(grid, (1, 1, 0, 1))


def _hazards(document: Document) -> Padding | None:
    if not document.hazards:
        return None
    styles = {"error": "bold red", "warning": "yellow", "info": "dim"}
    grid = _rows()
    for i, hazard in enumerate(document.hazards):
        text = Text.assemble((f"{hazard.severity} {hazard.rule}", styles[hazard.severity]), f" at {hazard.node}: {hazard.message}")
        grid.add_row("hazards" if i == 0 else "", text)
    return Padding(grid, (1, 1, 0, 1))


def _nodes(nodes: list[Node], limit: int | None) -> Padding | None:
    ranked = sorted((node for node in nodes if node.contribution), key=lambda node: -(node.contribution or 0.0))
    if not ranked:
        return None
    shown = ranked[:limit]
    title = "where the error comes from" + (f" ({len(shown)} of {len(nodes)} nodes)" if len(shown) < len(nodes) else "")
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("share", justify="right", no_wrap=True, min_width=5)
    table.add_column("", no_wrap=True, width=BAR)
    table.add_column("node", overflow="fold", min_width=12)
    table.add_column("operator")
    for header in ("terms", "cond.", "born", "tube", "max |y|"):
        table.add_column(header, justify="right", no_wrap=True)
    for node in shown:
        share = node.contribution or 0.0
        condition = None if node.condition is None else node.condition.max
        numbers = (_cell(condition), _cell(node.local_max), _cell(node.tube_max), _cell(node.magnitude_max))
        fan_in = "" if node.fan_in is None else f"{node.fan_in:,}"
        table.add_row(f"{share:.1%}", Text(_bar(share), style="cyan"), escape(node.name), node.op, fan_in, *numbers)
    legend = Text("born: the node's own rounding; tube: proved deviation of its output; cond.: its worst condition number", style="dim")
    return Padding(Group(table, legend), (1, 1, 0, 1))


def _cell(x: float | None) -> str:
    return "" if x is None else words.near(x)


def _bar(share: float) -> str:
    """A bar in eighths of a character, full at a share of 1."""
    eighths = min(BAR * 8, round(share * BAR * 8))
    whole, part = divmod(eighths, 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[part].strip()


def _validation(document: Document, limit: int | None) -> Padding | None:
    validation = document.validation
    if validation is None:
        return None
    grid = _rows()
    grid.add_row("validation", Text(words.plural(validation.runs, "run")))
    for entry in validation.runtime.split("; "):
        grid.add_row("", Text(f"• {entry}", style="yellow" if entry.startswith("not run") else ""))
    for i, entry in enumerate(validation.reference.split("; ")):
        grid.add_row("against" if i == 0 else "", Text(f"• {entry}"))
    for i, v in enumerate(validation.violated[:limit]):
        where = f"{v.output}{v.index}, case {v.case}: observed {words.near(v.observed, 7)}, bound {words.near(v.bound, 7)}"
        where += f" ({v.run})" if v.run else ""
        grid.add_row("violations" if i == 0 else "", Text(where, style="bold red"))
    return Padding(grid, (1, 1, 0, 1))


def _timings(document: Document) -> Padding:
    stages = document.timings.seconds
    text = Text(f"{sum(stages.values()):.2f} s", style="dim")
    if stages:
        text.append(": " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items()))
    if document.timings.peak_memory_bytes is not None:
        text.append(f" · peak memory {document.timings.peak_memory_bytes / 2**20:,.0f} MiB")
    return Padding(text, (1, 1, 1, 1))
