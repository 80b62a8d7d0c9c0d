"""Say how many bits of precision a budget needs, and which formats have them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich_click as click

from certify.cli import options
from certify.cli.progress import Progress
from certify.errors import UsageError


@click.command("bits", no_args_is_help=True)
@options.model
@options.accumulate
@options.profile
@options.summation
@options.INPUTS
@options.budget
@options.json
@options.quiet
@options.color
def bits_command(
    model: Path, range: dict[str, Any], shape: dict[str, Any], budget: tuple[Any, ...],
    as_json: bool, quiet: bool, no_color: bool, **chosen: Any,
) -> int:  # fmt: skip
    """Find the least precision whose *proved* bound keeps MODEL's largest absolute error within --budget.

    Exit codes: 0 answered, 1 not even 53 bits suffice, 2 usage, model or data, 3 no answer.
    """
    from certify.request import Request

    limits = [one for one in budget if one.kind == "absolute" and one.output is None]
    if len(limits) != 1 or len(budget) != 1:
        raise UsageError("bits: give exactly one --budget, a largest absolute error such as --budget 1e-3")
    limit = float(limits[0].limit)
    request = Request(model=model, ranges=range, shapes=shape, **chosen)
    from certify.precision import precision_for

    with Progress(quiet) as progress:
        answer = precision_for(request, limit, progress)
    if as_json:
        sys.stdout.write(json.dumps(_finite(asdict(answer)), sort_keys=True, indent=1) + "\n")
    else:
        _print(answer, no_color, quiet)
    return 0 if answer.precision is not None else 1


def _finite(x: Any) -> Any:
    """Non-finite numbers as the strings "inf" and "nan"."""
    if isinstance(x, dict):
        return {key: _finite(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_finite(value) for value in x]
    return str(x) if isinstance(x, float) and x - x != 0.0 else x


def _print(answer: Any, no_color: bool, quiet: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(no_color=no_color, highlight=False)
    if answer.precision is None:
        console.print(f"No precision up to 53 bits is proved to keep the error within {answer.budget:g}.")
    else:
        console.print(f"[bold]{answer.precision} bits[/bold] of precision keep the largest error within {answer.budget:g} (proved).")
    if quiet:
        return
    console.print(
        f"First order: error <~ {answer.store:.3g} u_store + {answer.accumulate:.3g} u_acc + {answer.convert:.3g} u_store (constants), u = 2^-p."
    )
    table = Table("format", "bits", "first order", "proved bound", "within budget")
    for row in answer.formats:
        table.add_row(row.name, str(row.precision), f"{row.estimate:.3g}", f"{row.bound:.3g}", "yes" if row.within else "no")
    console.print(table)
    formulas = Table("node", "operator", "relative first-order error of one step")
    for row in answer.formulas[:20]:
        formulas.add_row(row.node, row.op, row.text)
    console.print(formulas)
    if len(answer.formulas) > 20:
        console.print(f"... and {len(answer.formulas) - 20} more steps (--json lists them all)")
