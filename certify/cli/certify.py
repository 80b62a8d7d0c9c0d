"""Certify a model: bound the error of every output, and judge it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import rich_click as click

from certify.cli import interrupt, options
from certify.cli.progress import Progress
from certify.version import __version__


class _Certify(click.RichCommand):
    """The default command; its help also lists the others."""

    def get_help(self, ctx: click.Context) -> str:
        from certify.cli.main import commands

        found = commands()
        width = max(map(len, found), default=0)
        lines = [f"   certify {name:<{width}}  {summary}" for name, summary in found.items()]
        return "\n".join([super().get_help(ctx), *([" Other commands (certify COMMAND --help):", *lines] if lines else [])])


@click.command(cls=_Certify)
@options.model
@options.CLAIM
@options.as_run
@options.INPUTS
@options.ANALYSIS
@options.OUTPUT
@click.version_option(__version__, prog_name="certify")
def certify_command(
    model: Path, range: dict[str, Any], shape: dict[str, Any], budget: tuple[Any, ...], output: tuple[Path, ...],
    as_json: bool, quiet: bool, verbose: bool, no_color: bool, **chosen: Any,
) -> int:  # fmt: skip
    """Bound the rounding error of MODEL's outputs against exact arithmetic.

    Exit codes: 0 certified, 1 a budget is exceeded, 2 usage, model or data, 3 no answer, 4 soundness alarm, 5 internal error.
    """
    from certify.files import check_writable
    from certify.request import Request

    request = Request(model=model, ranges=range, shapes=shape, budgets=budget, outputs=output, **chosen)
    for path in output:
        check_writable(path)
    from certify import pipeline

    with Progress(quiet) as progress:
        certificate = pipeline.run(request, progress, interrupt.stop)
        for path in output:
            certificate.save(path)
    from certify.certificate.build import document
    from certify.certificate.schema import encode
    from certify.report.text import HEADLINES, print_text

    if as_json:
        sys.stdout.write(encode(document(certificate)).decode())
        if certificate.gate is not None and certificate.gate.verdict == "alarm":
            sys.stderr.write(f"{HEADLINES['alarm']}: {certificate.gate.reasons[0]}\n")
    else:
        print_text(document(certificate), quiet=quiet, verbose=verbose, color=not no_color)
    return certificate.gate.exit_code if certificate.gate is not None else 0
