"""Say where the error bound comes from: by cause, by layer, by node."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from certify.cli import options
from certify.cli.bits import finite
from certify.cli.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from certify.attribute import Attribution
    from certify.request import Request

SHOWN = 15  # rows that are printed of layers and of nodes
CALLED = {
    "weights": "storing weights",
    "inputs": "storing inputs",
    "accumulation": "accumulation",
    "storage": "storing results",
    "elementary": "elementary functions",
    "second order": "second order",
    "reference": "float64 reference",
}


@click.command("attribute", no_args_is_help=True)
@options.model
@options.CLAIM
@options.INPUTS
@options.engine
@options.guarantee
@options.eta
@click.option("--of", "of", panel="Output", metavar="NAME", help="Of this output alone.  [default: the one whose bound is largest]")
@options.json
@options.quiet
@options.color
def attribute_command(
    model: Path, range: dict[str, Any], shape: dict[str, Any], of: str | None,
    as_json: bool, quiet: bool, no_color: bool, **chosen: Any,
) -> int:  # fmt: skip
    """Take the largest error bound of MODEL apart: which causes, layers and nodes it comes from.

    Exit codes: 0 answered, 2 usage, model or data, 3 an operator without rule, or no finite bound.
    """
    from certify.attribute import attribution
    from certify.request import Request

    request = Request(model=model, ranges=range, shapes=shape, **chosen)
    with Progress(quiet) as progress:
        found = attribution(request, of, progress)
    if as_json:
        sys.stdout.write(json.dumps(finite(_document(request, found)), sort_keys=True, indent=1, allow_nan=False) + "\n")
    else:
        _print(found, no_color, quiet)
    return 0 if found.bound < float("inf") else 3


def _document(request: Request, found: Attribution) -> dict[str, Any]:
    claim = {"dtype": request.dtype, "accumulate": request.accumulate, "profile": request.profile_name, "summation": str(request.summation)}
    return {
        "schema": "certify-attribution/1",
        "model": request.model_path,
        "claim": claim,
        **asdict(found),
        "guarantee": str(found.guarantee),
    }


def _print(found: Attribution, no_color: bool, quiet: bool) -> None:
    from certify.report.console import opened
    from certify.report.words import above, near

    console = opened(not no_color)
    place = f"{found.output}[{', '.join(map(str, found.index))}] of case {found.case}"
    said = f"{place}: rounding at most {above(found.bound)} ({found.guarantee}), conversion {near(found.conversion)}."
    console.print(said, markup=False, style="bold")
    tables = [_table("cause", {CALLED[cause]: amount for cause, amount in found.causes.items() if amount > 0.0}, found.total)]
    if not quiet:
        if 1 < len(found.layers) < len(found.rows):
            tables.append(_table("layer", found.layers, found.total))
        tables.append(_table("node", {f"{row.name} ({row.op})": row.amount for row in found.rows}, found.total))
    for table in tables:
        console.print()
        console.print(table)
    note = "Conversion is bounded element by element here, to first order: its shares may add up to more than it is."
    console.print(f"\n{note}" if found.causes["weights"] + found.causes["inputs"] > 0.0 else "", style="dim", markup=False)


def _table(title: str, amounts: dict[str, float], total: float) -> Table:
    """The largest first, with a bar for each share."""
    from rich.table import Table
    from rich.text import Text

    from certify.report.words import near

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("share", "", title, "bound"):
        table.add_column(name, justify="right" if name in ("share", "bound") else "left", no_wrap=True, overflow="ellipsis")
    ranked = sorted(amounts.items(), key=lambda item: -item[1])
    for name, amount in ranked[:SHOWN]:
        share = amount / total if 0.0 < total < float("inf") else float(amount == total)
        table.add_row(f"{share:.1%}", "█" * round(20 * share), Text(name), near(amount))
    if len(ranked) > SHOWN:
        rest = sum(amount for _, amount in ranked[SHOWN:])
        table.add_row(f"{rest / total:.1%}" if 0.0 < total < float("inf") else "", "", Text(f"... {len(ranked) - SHOWN} more"), near(rest))
    return table
