"""The options that commands share. Text becomes values in certify.request, whose errors name the option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from certify import request
from certify.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def _compose(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(f: F) -> F:
        for decorator in reversed(decorators):
            f = decorator(f)
        return f

    return decorate


def _each(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A click callback that parses every occurrence of a repeatable option, or the one of another."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is None:
            return None
        return tuple(parse(v) for v in value) if parameter.multiple else parse(value)

    return callback


def _by_name(parse: Callable[[str], tuple[str, Any]], option: str) -> Callable[[click.Context, click.Parameter, Any], dict[str, Any]]:
    """A click callback that collects NAME=VALUE options; a name given twice is an error, not a guess."""

    def callback(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Any]:
        collected: dict[str, Any] = {}
        for name, parsed in (parse(v) for v in value):
            if name in collected:
                raise UsageError(f"{option}: given twice for {name or 'all inputs'}; keep one")
            collected[name] = parsed
        return collected

    return callback


def _path(text: str) -> Path:
    return Path(text)


model = click.argument("model", metavar="MODEL", callback=_each(_path))

dtype = click.option(
    "--dtype", panel="Claim", type=click.Choice(request.DTYPES), metavar="FORMAT",
    help=f"Storage format: {', '.join(request.DTYPES)}.  [default: the model's own]",
)  # fmt: skip
accumulate = click.option(
    "--accumulate", panel="Claim", type=click.Choice(request.DTYPES), metavar="FORMAT",
    help="Accumulator format.  [default: what --profile says]",
)  # fmt: skip
profile = click.option(
    "--profile", panel="Claim", metavar="NAME",
    help="How the runtime rounds; wide accumulates in fp32 (fp64 for fp64), in any order of summation.  [default: wide]",
)  # fmt: skip
summation = click.option(
    "--summation", panel="Claim", default="any", show_default=True, metavar="ORDER", callback=_each(request.parse_summation),
    help="any, sequential, pairwise or blocked:B.",
)  # fmt: skip
as_run = click.option(
    "--as-run", panel="Claim", metavar="ort-cpu[:LEVEL]", callback=_each(request.parse_as_run),
    help=f"Certify the graph that onnxruntime runs: {', '.join(request.LEVELS)}.  [default level: all]",
)  # fmt: skip

data = click.option(
    "--data", panel="Inputs", metavar="PATH", callback=_each(_path), help="Inputs: .npz by input name, or a folder of input_*.pb."
)
ranges = click.option(
    "--range", "range", panel="Inputs", multiple=True, metavar="[NAME=]LO:HI", callback=_by_name(request.parse_range, "--range"),
    help="Domain of sampled inputs; repeatable.  [default: -1:1; integers: the table they index]",
)  # fmt: skip
samples = click.option(
    "--samples", panel="Inputs", default=8, show_default=True, metavar="N", type=int, help="Points to draw without --data."
)
seed = click.option("--seed", panel="Inputs", default=0, show_default=True, metavar="N", type=int, help="Of the draws.")
region = click.option("--region", panel="Inputs", is_flag=True, help="Certify every input in the range, not samples.")
vnnlib = click.option("--vnnlib", panel="Inputs", metavar="FILE", callback=_each(_path), help="Certify the input boxes of a VNN-LIB file.")
shape = click.option(
    "--shape", panel="Inputs", multiple=True, metavar="NAME=1,3,224,224", callback=_by_name(request.parse_shape, "--shape"),
    help="For symbolic dimensions; repeatable.",
)  # fmt: skip

engine = click.option(
    "--engine", panel="Analysis", type=click.Choice(request.ENGINES), default="auto", show_default=True, metavar="NAME",
    help=f"How bounds are computed: {', '.join(request.ENGINES)}.",
)  # fmt: skip
guarantee = click.option(
    "--guarantee", panel="Analysis", type=click.Choice(request.GUARANTEES), default="any", show_default=True,
    metavar="NAME", help=f"The weakest that budgets accept: {', '.join(request.GUARANTEES)} (all are reported, worst cases judged).",
)  # fmt: skip
eta = click.option(
    "--eta", panel="Analysis", default=1e-9, show_default=True, metavar="P", type=float,
    help="With what probability bounds that are not proved may fail.",
)  # fmt: skip
budget = click.option(
    "--budget", panel="Analysis", multiple=True, metavar="[NAME=]LIMIT", callback=_each(request.parse_budget),
    help="1e-2 (largest absolute error), rel:1e-3, or argmax (no decision may flip); repeatable.",
)  # fmt: skip
validate = click.option(
    "--validate/--no-validate", panel="Analysis", default=True, help="Run the model and compare with the bounds.  [default: validate]"
)
provider = click.option(
    "--provider", panel="Analysis", type=click.Choice(request.PROVIDERS), default="cpu", show_default=True, metavar="NAME",
    help="cpu, or cuda to validate on onnxruntime's CUDA provider as well, if it is there.",
)  # fmt: skip

time_limit = click.option(
    "--time-limit", panel="Analysis", default=60.0, show_default=True, metavar="SECONDS", type=float,
    help="A region is split no longer than this; its bound is valid whenever that stops.",
)  # fmt: skip
boxes = click.option("--boxes", panel="Analysis", metavar="N", type=int, help="A region is split into about so many sub-boxes at most.")
jobs = click.option(
    "-j", "--jobs", panel="Analysis", metavar="N", type=int,
    help="Processes for a region's sub-boxes, or for points, a case at a time in each: memory is that of N.  "
    "[default: one a processor; points: 1]",
)  # fmt: skip
scheduler = click.option(
    "--scheduler", panel="Analysis", metavar="ADDRESS", help="A Dask cluster for the same, instead: tcp://HOST:PORT or tls://HOST:PORT."
)

memory_limit = click.option(
    "--memory-limit", panel="Analysis", metavar="SIZE", callback=_each(request.parse_size),
    help="What the analysis may hold, such as 4GB or 512MB.  [default: 3/4 of what is available]",
)  # fmt: skip

checkpoint = click.option(
    "--checkpoint", panel="Analysis", metavar="FILE", callback=_each(_path),
    help="Keep solved cases in this file, and take from it those that an earlier run of the same command solved.",
)  # fmt: skip

output = click.option(
    "-o", "--output", panel="Output", multiple=True, metavar="FILE", callback=_each(_path),
    help=f"Write a report, format by suffix ({' '.join(request.SUFFIXES)}); repeatable.",
)  # fmt: skip
json = click.option("--json", "as_json", panel="Output", is_flag=True, help="Print JSON on standard output, and nothing else.")
quiet = click.option("-q", "--quiet", panel="Output", is_flag=True, help="Print the verdict alone.")
verbose = click.option("-v", "--verbose", panel="Output", is_flag=True, help="All nodes and decisions; tracebacks of errors.")
color = click.option("--no-color", panel="Output", is_flag=True, help="Plain text.")

INPUTS = _compose(data, ranges, samples, seed, region, vnnlib, shape)
CLAIM = _compose(dtype, accumulate, profile, summation)
ANALYSIS = _compose(engine, guarantee, eta, budget, time_limit, boxes, jobs, scheduler, memory_limit, checkpoint, validate, provider)
OUTPUT = _compose(output, json, quiet, verbose, color)
