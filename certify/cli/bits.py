"""Say how many bits of precision a budget needs, and which formats have them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from certify.cli import options
from certify.cli.progress import Progress
from certify.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from certify.precision import Precision
    from certify.request import Request

SHOWN = 20  # steps whose formulas are printed


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

    Exit codes: 0 answered, 1 not even 53 bits suffice, 2 usage, model or data, 3 an operator without rule.
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
        sys.stdout.write(json.dumps(finite(_document(request, answer)), sort_keys=True, indent=1, allow_nan=False) + "\n")
    else:
        _print(answer, no_color, quiet)
    return 0 if answer.precision is not None else 1


def _document(request: Request, answer: Precision) -> dict[str, Any]:
    """Everything that is printed, and more, as JSON."""
    claim = {"accumulate": request.accumulate, "profile": request.profile_name, "summation": str(request.summation)}
    return {"schema": "certify-bits/1", "model": request.model_path, "claim": claim, **asdict(answer)}


def finite(x: Any) -> Any:
    """Non-finite numbers as the strings "inf" and "nan"."""
    if isinstance(x, dict):
        return {key: finite(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [finite(value) for value in x]
    return str(x) if isinstance(x, float) and x - x != 0.0 else x


def _print(answer: Precision, no_color: bool, quiet: bool) -> None:
    from certify.report.console import opened
    from certify.report.words import near, plural

    console = opened(not no_color)
    console.print(_verdict(answer), markup=False, style="bold")
    if quiet:
        return
    held = f"({near(answer.store)} for results + {near(answer.convert)} for weights and inputs) u_store"
    console.print(f"First order: error <= {held} + {near(answer.accumulate)} u_acc, where u = 2^-bits.", markup=False)
    console.print()
    console.print(_formats(answer))
    console.print()
    console.print(_formulas(answer))
    if len(answer.formulas) > SHOWN:
        console.print(f"... and {plural(len(answer.formulas) - SHOWN, 'more step')}; --json lists them all", markup=False)
    console.print("kappa: sum of the terms' magnitudes over the magnitude of their sum.", style="dim", markup=False)


def _verdict(answer: Precision) -> str:
    from certify.report.words import above, below, plural

    if answer.precision is None:
        return f"No precision is proved to keep the error within {answer.budget:g}: with 53 bits the bound is {above(answer.bound)}."
    less = "" if answer.below is None else f" (with {answer.precision - 1}: {below(answer.below)})"
    bits = f"{plural(answer.precision, 'bit')} of precision {'keeps' if answer.precision == 1 else 'keep'}"
    return f"{bits} the largest error within {answer.budget:g}: proved to be at most {above(answer.bound)}{less}."


def _formats(answer: Precision) -> Table:
    from rich.table import Table

    from certify.report.words import above, near

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in ("format", "bits", "first order", "proved bound", "within budget"):
        table.add_column(title, justify="left" if title in ("format", "within budget") else "right")
    for row in answer.formats:
        table.add_row(row.name, str(row.precision), near(row.estimate), above(row.bound), "yes" if row.within else "no")
    return table


def _formulas(answer: Precision) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in ("node", "operator", "relative error of the step, first order"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for row in answer.formulas[:SHOWN]:
        op = row.op if row.step == row.op else f"{row.op}: {row.step}"
        table.add_row(*map(Text, (row.node, op, row.text.replace("*", " "))))
    return table
