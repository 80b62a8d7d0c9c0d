"""VNN-LIB 1.0 files: boxes of inputs, and for each box the outputs that would be unsafe.

A file states what must NOT happen. `read` turns it into disjunctive normal form: cases, each a box of inputs with the conjunctions
of linear inequalities of the outputs of which every one is unsafe there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from certify.graph.vnnlib.formula import Branch, Ends
from certify.graph.vnnlib.parse import Script, parse
from certify.graph.vnnlib.property import Case, Conjunction, Property
from certify.graph.vnnlib.source import Source, read_text
from certify.number.upward import Array

LARGEST_TABLE = 2**23
"""Cases times inputs, and constraints of all conjunctions together, that are still kept."""


def read(path: Path) -> Property:
    """Read a .vnnlib or .vnnlib.gz file. Raises InvalidData, or Unsupported for what is not linear; both name file and line."""
    return property_of(read_text(path), f"--vnnlib {path}")


def property_of(text: str, name: str) -> Property:
    """The property that `text` states; `name` is how messages call it. Raises InvalidData or Unsupported."""
    script = parse(Source(name, text))
    if not script.inputs:
        raise script.source.invalid("declares no input; the first is (declare-const X_0 Real)")
    cases = []
    room = LARGEST_TABLE
    for box, branches in _boxes(script):
        unsafe = []
        for branch in branches if script.mentions_outputs else ():
            unsafe.append(_conjunction(branch))
            room -= len(unsafe[-1])
            if room < 0:
                raise script.source.unsupported(f"its normal form has more than {LARGEST_TABLE:,} inequalities; split the file")
        cases.append(Case(*box, tuple(unsafe)))
    return Property(script.inputs, script.outputs, tuple(cases), name)


def _boxes(script: Script) -> list[tuple[tuple[Array, Array, Array, Array], list[Branch]]]:
    """The distinct boxes in the file's order, each with its branches; a combination that no input satisfies is none of them."""
    by_parts: dict[tuple[int, ...], list[Branch]] = {}
    for branch in script.branches:
        by_parts.setdefault(tuple(id(part) for part in branch if part.lower or part.upper), []).append(branch)
    if len(by_parts) * script.inputs > LARGEST_TABLE:
        raise script.source.unsupported(f"{len(by_parts):,} boxes of {script.inputs:,} inputs are too many; split the file")
    distinct: dict[bytes, tuple[tuple[Array, Array, Array, Array], list[Branch]]] = {}
    contradicted = None
    for branches in by_parts.values():
        lo, least = _tightest(script.inputs, [part.lower for part in branches[0]], -np.inf, np.maximum)
        hi, greatest = _tightest(script.inputs, [part.upper for part in branches[0]], np.inf, np.minimum)
        if (lo > hi).any():
            contradicted = int(np.argmax(lo > hi)) if contradicted is None else contradicted
            continue
        for end, side in ((lo, "lower"), (hi, "upper")):
            if np.isinf(end).any():
                place = int(np.argmax(np.isinf(end)))
                raise script.source.invalid(f"X_{place} has no {side} bound that float64 holds; every input needs both, in every case")
        box = (lo, hi, least, greatest)
        distinct.setdefault(b"".join(end.tobytes() for end in box), (box, []))[1].extend(branches)
    if not distinct:
        reason = "" if contradicted is None else f": the bounds of X_{contradicted} contradict each other"
        raise script.source.invalid(f"no input satisfies its assertions{reason}")
    return list(distinct.values())


def _tightest(inputs: int, bounds: Sequence[dict[int, Ends]], nothing: float, tighter: np.ufunc) -> tuple[Array, Array]:
    """(outward, inward) ends of every input."""
    outward, inward = np.full((2, inputs), nothing)
    for part in bounds:
        if part:
            index = np.fromiter(part, dtype=np.intp, count=len(part))
            ends = np.array(list(part.values()))
            outward[index] = tighter(outward[index], ends[:, 0])
            inward[index] = tighter(inward[index], ends[:, 1])
    return outward + 0.0, inward + 0.0  # one zero: boxes are compared bit by bit


def _conjunction(branch: Branch) -> Conjunction:
    """Its inequalities in the file's order, each once."""
    rows = [entry for part in branch for entry in part.rows]
    return tuple(dict.fromkeys(row for _, row in sorted(rows, key=lambda entry: entry[0])))
