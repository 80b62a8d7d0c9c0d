"""Show a model node by node: fan-in, gamma, Lipschitz constants and the range of its weights."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from certify.cli import options
from certify.cli.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from certify.graph.annotate import NodeFacts
    from certify.graph.model import ModelGraph

WIDTH = 120  # columns, where the output is no terminal


@click.command("inspect", no_args_is_help=True)
@options.model
@options.dtype
@options.accumulate
@options.shape
@options.json
@options.quiet
@options.verbose
@options.color
def inspect_command(
    model: Path, dtype: str | None, accumulate: str | None, shape: dict[str, Any], as_json: bool, quiet: bool, verbose: bool, no_color: bool
) -> int:
    """List MODEL's nodes with what is known of them before any input is.

    Exit codes: 0 listed, 2 usage or model, 3 an operator or type that is not supported.
    """
    from certify.graph.annotate import annotate
    from certify.graph.load import load
    from certify.number.formats import format_named

    storage, accumulator = (None if name is None else format_named(name) for name in (dtype, accumulate))
    with Progress(quiet) as progress:
        progress("reading the model", None)
        graph = load(model, shape)
        progress("measuring the weights", None)
        graph = annotate(graph, storage, accumulator)
    if as_json:
        sys.stdout.write(json.dumps(document(graph, dtype, accumulate), sort_keys=True, indent=1, allow_nan=False) + "\n")
    else:
        _print(graph, dtype, accumulate, quiet, no_color)
    return 0


def document(graph: ModelGraph, dtype: str | None, accumulate: str | None) -> dict[str, Any]:
    """Everything the table shows, and more, as JSON: non-finite numbers are the strings "inf" and "nan"."""
    model = {
        "path": None if graph.path is None else str(graph.path),
        "sha256": graph.sha256,
        "opset": graph.opsets.get("", 0),
        "opsets": {domain or "ai.onnx": version for domain, version in graph.opsets.items()},
        "parameters": graph.parameters,
        "nodes": len(graph.nodes),
        "nodes_in_file": graph.source_nodes,
    }
    claim = {"dtype": dtype, "accumulate": accumulate}
    nodes = [_row(graph, name) for name in graph.facts]
    return {
        "schema": "certify-inspect/1",
        "model": model,
        "claim": claim,
        "inputs": [_tensor(graph, name) for name in graph.inputs],
        "outputs": [_tensor(graph, name) for name in graph.outputs],
        "nodes": nodes,
    }


def _tensor(graph: ModelGraph, name: str) -> dict[str, Any]:
    from certify.graph.tensors import type_name

    value = graph.values[name]
    return {"name": name, "shape": list(value.shape), "dtype": type_name(value.elem_type)}


def _row(graph: ModelGraph, name: str) -> dict[str, Any]:
    node, facts = graph.node(name), graph.facts[name]
    weights = {
        "count": facts.weights,
        "largest": _number(facts.largest_weight),
        "smallest": _number(facts.smallest_weight),
        "overflowing": facts.overflowing,
        "underflowing": facts.underflowing,
        "out_of_range": _number(facts.out_of_range),
    }
    return {
        "name": name,
        "op": node.op_type,
        "domain": node.domain or "ai.onnx",
        "opset": node.opset,
        "scope": node.scope,
        "shape": list(facts.shape),
        "dtype": facts.dtype,
        "fan_in": facts.fan_in,
        "gamma": _number(facts.gamma),
        "lipschitz": _number(facts.lipschitz),
        "spectral": _number(facts.spectral),
        "spectral_kind": None if facts.spectral is None else "bound" if facts.spectral_bound else "estimate",
        "parameters": facts.parameters,
        "weights": weights,
    }


def _number(x: float | None) -> float | str | None:
    return x if x is None or math.isfinite(x) else "nan" if math.isnan(x) else "inf" if x > 0 else "-inf"


def _print(graph: ModelGraph, dtype: str | None, accumulate: str | None, quiet: bool, no_color: bool) -> None:
    from certify.report.console import opened

    console = opened(not no_color, WIDTH)
    for line in _header(graph, dtype, accumulate):
        console.print(line, markup=False)
    if quiet:
        return
    console.print()
    console.print(_table(graph, console.width))
    console.print()
    for line in LEGEND:
        console.print(line, style="dim", markup=False)


HEADER = ("node", "operator", "shape", "n", "γₙ", "L∞", "L2", "params", "min |w|", "max |w|", "outside")
LEGEND = (
    "n: terms summed for an element; γₙ = nu/(1−nu), u of the accumulator, void where n·u ≥ 1.",
    "L∞, L2: Lipschitz constants (≤ proved bound, ≈ estimate); none where unknown or left to data.",
    "|w|: non-zero weights; outside: share of weights too large for storage, or below its smallest normal.",
)


def _header(graph: ModelGraph, dtype: str | None, accumulate: str | None) -> list[str]:
    from certify.report.words import plural

    name = "model" if graph.path is None else graph.path.name
    folded = f" ({graph.source_nodes:,} in the file)" if graph.source_nodes != len(graph.nodes) else ""
    opsets = ", ".join(f"{domain or 'opset'} {version}" for domain, version in graph.opsets.items())
    tensors = {
        kind: ", ".join(f"{t['name']} {_shape(t['shape'])} {t['dtype']}" for t in (_tensor(graph, n) for n in names))
        for kind, names in (("inputs", graph.inputs), ("outputs", graph.outputs))
    }
    return [
        f"{name} · {opsets} · {plural(len(graph.nodes), 'node')}{folded} · {graph.parameters:,} parameters",
        f"{tensors['inputs'] or 'no inputs'} → {tensors['outputs']}",
        f"storage {dtype or 'as in the file'} · accumulator {accumulate or 'fp32 (fp64 for fp64)'}",
    ]


def _shape(shape: Any) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _table(graph: ModelGraph, columns: int) -> Table:
    """Numbers are never cut: the node's name gives way, which keeps its end, then the operator and the shape."""
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(node.name, node.op_type, graph.facts[node.name]) for node in graph.nodes]
    wide = [max(len(cell) for cell in column) for column in zip(HEADER, *rows, strict=True)]
    gap = 2 if columns >= WIDTH else 1
    free = columns - sum(wide[3:]) - gap * (len(wide) - 1)
    wide[2] = min(wide[2], max(10, free // 3))
    wide[1] = min(wide[1], max(8, (free - wide[2]) // 2))
    wide[0] = min(wide[0], max(8, free - wide[1] - wide[2]))
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for position, (title, width) in enumerate(zip(HEADER, wide, strict=True)):
        table.add_column(title, width=width, no_wrap=True, justify="left" if position < 3 else "right")
    for name, *others in rows:
        short = name if len(name) <= wide[0] else "…" + name[len(name) - wide[0] + 1 :]
        table.add_row(*(Text(cell, overflow="ellipsis", no_wrap=True) for cell in (short, *others)))
    return table


def _cells(name: str, op_type: str, facts: NodeFacts) -> tuple[str, ...]:
    gamma = "" if facts.gamma is None else "n·u ≥ 1" if math.isinf(facts.gamma) else _short(facts.gamma, 2)
    spectral = "" if facts.spectral is None else f"{'≤' if facts.spectral_bound else '≈'}{_short(facts.spectral)}"
    return (
        name,
        op_type,
        _shape(facts.shape),
        "" if facts.fan_in is None else str(facts.fan_in),
        gamma,
        _short(facts.lipschitz),
        spectral,
        _count(facts.parameters) if facts.parameters else "",
        _short(facts.smallest_weight),
        _short(facts.largest_weight),
        _share(facts.out_of_range),
    )


def _short(x: float | None, digits: int = 3) -> str:
    """At most seven characters."""
    if x is None:
        return ""
    return f"{x:.{digits}g}" if 1e-3 <= x < 1e4 or x == 0 else f"{x:.1e}"


def _count(n: int) -> str:
    """At most six characters."""
    for least, unit, size in ((10**9, "G", 10**9), (10**6, "M", 10**6), (10**5, "k", 10**3)):
        if n >= least:
            return f"{n / size:.1f}{unit}"
    return str(n)


def _share(x: float | None) -> str:
    if x is None:
        return ""
    return "0" if x == 0 else "<0.1%" if x < 1e-3 else f"{x:.1%}"
