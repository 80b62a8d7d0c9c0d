"""Prove a certificate again, by a small program that shares no code with the one that wrote it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from certify.cli import options
from certify.errors import CertifyError, Unsupported

if TYPE_CHECKING:
    from certify.checker import files


class NotProved(CertifyError):
    """The checker ran and could not prove the claim."""

    exit_code = 1


@click.command("check", no_args_is_help=True)
@click.argument("certificate", metavar="CERTIFICATE", type=click.Path(path_type=Path))
@options.model
@click.option(
    "--witness",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What `certify -o FILE.witness` wrote.  [default: CERTIFICATE's name, ending in .witness]",
)
@options.json
@options.quiet
@options.verbose
def check_command(certificate: Path, model: Path, witness: Path | None, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Prove the bounds of CERTIFICATE (.json) for MODEL again, in exact integer arithmetic.

    Exit codes: 0 every bound is proved, 1 some are not, or the files contradict each other, 2 a file can't be read, 3 not covered.
    """
    from certify.checker import files
    from certify.checker.rounding import Rejected
    from certify.checker.rounding import Unsupported as NotCovered
    from certify.errors import InvalidData

    found = []
    try:
        for finding in files.check(certificate, model, witness or certificate.with_suffix(".witness")):
            found.append(finding)
            if not (quiet or as_json):
                sys.stdout.write(_line(finding) + "\n")
    except files.Unreadable as reason:
        raise InvalidData(str(reason)) from None
    except NotCovered as reason:
        raise Unsupported(f"not covered by the checker: {reason}") from None
    except Rejected as reason:
        raise NotProved(f"rejected: {reason}") from None
    failed = sum(not finding.holds for finding in found)
    if as_json:
        rows = [{"output": f.output, "case": f.case, "checked": float(f.proved), "claimed": f.claimed, "holds": f.holds} for f in found]
        sys.stdout.write(json.dumps({"proved": not failed, "findings": rows}, sort_keys=True, indent=1) + "\n")
    else:
        sys.stdout.write(f"{'proved' if not failed else 'rejected'}: {len(found) - failed} of {len(found)} bounds\n")
    return 1 if failed else 0


def _line(finding: files.Finding) -> str:
    verdict = "proved" if finding.holds else "NOT PROVED: weaker than claimed"
    checked, claimed = float(finding.proved), finding.claimed
    return f"case {finding.case}, {finding.output}: checked bound {checked:.6g}, claimed {claimed:.6g}: {verdict}"
