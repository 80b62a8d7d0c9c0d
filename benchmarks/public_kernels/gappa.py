"""A kernel as a Gappa script, and Gappa's best bound of it: inputs already numbers of the format, constants as stored.

Several scripts are tried, which differ in how the box is cut; each has `limit` seconds. Gappa knows no elementary function but sqrt.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence

import numpy as np

from public_kernels.expression import LEAVES, Tape, record
from public_kernels.rows import Kernel, Range

ROUNDINGS = {"fp64": "float<ieee_64,ne>", "fp32": "float<ieee_32,ne>"}
SIGNS = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}


def _number(x: float, format: str) -> str:
    stored = float(np.float32(x)) if format == "fp32" else float(x)
    return stored.hex()


def statements(tape: Tape, format: str) -> list[str]:
    """Computed values v0, v1, ... and exact ones m0, m1, ..., a leaf being both; raises KeyError for a function that Gappa has not."""
    lines: list[str] = []
    exact: list[str] = []
    for i, (operator, operands) in enumerate(tape.nodes):
        exact.append(f"v{i}" if operator in LEAVES else f"m{i}")
        if operator == "input":
            lines.append(f"v{i} = rnd({operands[0]}_);")
        elif operator == "constant":
            lines.append(f"v{i} = {_number(operands[0], format)};")
        elif operator == "Neg":
            lines += [f"v{i} = -v{operands[0]};", f"m{i} = -{exact[operands[0]]};"]
        elif operator == "Relu":  # (x + |x|) / 2, without a rounding
            v, m = f"v{operands[0]}", exact[operands[0]]
            lines += [f"v{i} = ({v} + |{v}|) * 0.5;", f"m{i} = ({m} + |{m}|) * 0.5;"]
        elif operator == "Sqrt":
            lines += [f"v{i} rnd= sqrt(v{operands[0]});", f"m{i} = sqrt({exact[operands[0]]});"]
        else:
            (left, right), sign = operands, SIGNS[operator]
            lines += [f"v{i} rnd= v{left} {sign} v{right};", f"m{i} = {exact[left]} {sign} {exact[right]};"]
    return lines


def script(tape: Tape, result: int, ranges: dict[str, Range], format: str, cut: Sequence[str]) -> str:
    names = {operands[0]: i for i, (operator, operands) in enumerate(tape.nodes) if operator == "input"}
    bounds = " /\\ ".join(f"v{names[name]} in [{_number(lo, format)}, {_number(hi, format)}]" for name, (lo, hi) in ranges.items())
    goal = f"{{ {bounds} -> |v{result} - m{result}| in ? }}"
    hints = [line.format(**{name: f"v{i}" for name, i in names.items()}) for line in cut]
    return "\n".join([f"@rnd = {ROUNDINGS[format]};", *statements(tape, format), goal, *hints, ""])


def _cuts(names: Sequence[str]) -> Iterator[list[str]]:
    """No cut; each input bisected; each cut evenly, alone and all together."""
    yield []
    yield [f"$ {{{name}}};" for name in names]
    yield [f"$ {{{name}}} in 100;" for name in names]
    if len(names) > 1:
        pieces = max(2, round(4096 ** (1 / len(names))))
        yield ["$ " + ", ".join(f"{{{name}}} in {pieces}" for name in names) + ";"]


def bound(text: str, limit: float) -> float | None:
    """What Gappa answers to the script; None if it says nothing in time."""
    try:
        done = subprocess.run(["gappa"], input=text, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return None
    found = re.search(r"in \[.*, (\S+) \{(\S+?)[,}]", done.stderr + done.stdout)
    return float(found[2]) if found else None


def best(kernel: Kernel, limit: float) -> float | None:
    """The smallest bound of all scripts; None if Gappa can't state the kernel or answers none."""
    tape, result = record(kernel.function, list(kernel.variables))
    answers = []
    for cut in _cuts(list(kernel.variables)):
        try:
            text = script(tape, result, kernel.variables, kernel.format, cut)
        except KeyError:
            return None
        answers.append(bound(text, limit))
    return min((answer for answer in answers if answer is not None), default=None)


def version() -> str:
    return subprocess.run(["gappa", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
