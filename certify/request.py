"""What a user asks for: one frozen Request, and the text form of each of its options."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from certify.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import onnx

Level: TypeAlias = Literal["disabled", "basic", "extended", "all"]

DTYPES = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8e4m3", "fp8e5m2")
ENGINES = ("auto", "running", "adjoint", "sketch", "probabilistic", "sampled")
POINTWISE = ("sketch", "probabilistic", "sampled")
PROVIDERS = ("cpu", "cuda")
LEVELS: tuple[Level, ...] = ("disabled", "basic", "extended", "all")
GUARANTEES = ("any", "proved", "randomized", "probabilistic", "sampled")
SUFFIXES = (".json", ".npz", ".witness")
LEAST_MEMORY = 64_000_000
LATER_SUFFIXES = (".html", ".md", ".sarif", ".xml")

Range: TypeAlias = tuple[float, float]
Progress: TypeAlias = Callable[[str, float | None], None]
"""Called with the name of the stage under way and the fraction of it that is done (None: unknown)."""


def no_progress(stage: str, fraction: float | None) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The largest error that a user accepts. `output` None: every output; `limit` None for argmax.

    absolute: max |error| <= limit. relative: max |error| / max |y| <= limit, case by case. argmax: no decision may flip.
    """

    spec: str
    kind: Literal["absolute", "relative", "argmax"]
    limit: float | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Summation:
    """The order in which a kernel adds: `order` any, sequential, pairwise or blocked; `block` its block length."""

    order: Literal["any", "sequential", "pairwise", "blocked"] = "any"
    block: int | None = None

    def __str__(self) -> str:
        return self.order if self.block is None else f"{self.order}:{self.block}"


@dataclass(frozen=True, slots=True)
class Request:
    """Every option of `certify MODEL`, parsed and valid one by one; what depends on the model is checked with it.

    model:    a path, or the bytes of a model, or a ModelProto.
    dtype, accumulate: format names; None means the model's own, and what the profile says.
    profile:  None means wide, and ort-cpu with `as_run`.
    as_run:   onnxruntime's optimization level, to certify the graph that it makes of the model; None: the model's own graph.
    data:     a file or folder, or arrays by input name (see certify.data); None: sample.
    ranges:   by input name; the key "" holds the range of every input that has none of its own.
    guarantee: the weakest acceptable.
    provider: where validation runs the model besides the CPU; no bound depends on it.
    outputs:  files to write, format by suffix.
    time_limit: seconds after which a region is split no further. boxes: sub-boxes after which it is not either, None for no such limit.
    jobs:     processes for sub-boxes or cases; None: as many as there are processors for a region, one for points.
    scheduler: address of a Dask scheduler, whose workers take the place of these processes; None: there is none.
    eta:      the probability with which bounds that are not proved may fail.
    memory_limit: bytes that the analysis may hold; None: three quarters of what is available at the start.
    checkpoint: a file that solved cases are kept in, and taken from.
    """

    model: Path | bytes | onnx.ModelProto
    dtype: str | None = None
    accumulate: str | None = None
    profile: str | None = None
    summation: Summation = Summation()
    data: Path | Mapping[str, np.ndarray[Any, Any]] | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    samples: int = 8
    seed: int = 0
    region: bool = False
    vnnlib: Path | None = None
    as_run: Level | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    engine: str = "auto"
    guarantee: str = "any"
    budgets: tuple[Budget, ...] = ()
    validate: bool = True
    provider: Literal["cpu", "cuda"] = "cpu"
    outputs: tuple[Path, ...] = ()
    time_limit: float = 60.0
    jobs: int | None = None
    scheduler: str | None = None
    boxes: int | None = None
    eta: float = 1e-9
    memory_limit: int | None = None
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for a value out of bounds or for options that exclude each other."""
        for option, value, names in (
            ("--dtype", self.dtype, DTYPES),
            ("--accumulate", self.accumulate, DTYPES),
            ("--engine", self.engine, ENGINES),
            ("--guarantee", self.guarantee, GUARANTEES),
            ("--provider", self.provider, PROVIDERS),
        ):
            if value is not None and value not in names:
                raise UsageError(f"{option}: {value!r} is none of {', '.join(names)}")
        if self.samples < 1:
            raise UsageError(f"--samples: {self.samples} points are none; give 1 or more")
        if self.seed < 0:
            raise UsageError(f"--seed: {self.seed} is negative; give 0 or more")
        if not self.time_limit > 0.0:
            raise UsageError(f"--time-limit: {self.time_limit:g} seconds are none; give more than 0")
        if self.memory_limit is not None and self.memory_limit < LEAST_MEMORY:
            raise UsageError(f"--memory-limit: {self.memory_limit} bytes are too few to do anything in; give 64MB or more")
        if not 1e-300 <= self.eta <= 0.1:
            raise UsageError(f"--eta: {self.eta:g} is no probability of failing that can be kept; give one from 1e-300 to 0.1")
        if self.engine in POINTWISE and (self.region or self.vnnlib):
            raise UsageError(f"--engine {self.engine} certifies points, not regions; give points with --data, or let them be drawn")
        for option, number in (("--jobs", self.jobs), ("--boxes", self.boxes)):
            if number is not None and number < 1:
                raise UsageError(f"{option}: {number} is too few; give 1 or more")
        if self.scheduler is not None:
            self._check_scheduler(self.scheduler)
        if self.data is not None and (self.ranges or self.region or self.vnnlib):
            other = "--range" if self.ranges else "--region" if self.region else "--vnnlib"
            raise UsageError(f"--data and {other} exclude each other: one names points, the other a domain; drop one of them")
        if self.vnnlib is not None and self.ranges:
            raise UsageError("--vnnlib and --range exclude each other: the file already gives the input boxes; drop one of them")
        if self.as_run is not None:
            self._check_as_run()
        if self.checkpoint is not None and (self.region or self.vnnlib):
            raise UsageError("--checkpoint keeps the cases of points; a region has a bound whenever it is stopped: leave it out")
        for path in self.outputs:
            if check_suffix(path) == ".witness" and self.checkpoint is not None:
                raise UsageError(f"-o {path}: a witness is collected in one run, without --checkpoint; drop one of them")
            if check_suffix(path) == ".witness" and (self.region or self.vnnlib):
                raise UsageError(f"-o {path}: a witness is of points, not of a region; leave it out, or give points with --data")

    def _check_scheduler(self, address: str) -> None:
        if not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", address):
            raise UsageError(f"--scheduler: {address!r} is no address such as tcp://host:8786 or tls://host:8786")
        if self.jobs is not None:
            raise UsageError("--scheduler and --jobs exclude each other: work goes to a cluster or to processes here; drop one of them")
        for path in self.outputs:
            if check_suffix(path) == ".witness":
                raise UsageError(f"-o {path}: a witness is collected in this process, without --scheduler; drop one of them")

    def _check_as_run(self) -> None:
        if self.region or self.vnnlib:
            raise UsageError("--as-run certifies points, not regions; give points with --data, or let them be drawn")
        if self.profile not in (None, "ort-cpu"):
            raise UsageError(f"--as-run implies --profile ort-cpu, which is not {self.profile}; drop one of them")
        for option, given in (("--dtype", self.dtype), ("--accumulate", self.accumulate)):
            if given is not None:
                raise UsageError(
                    f"--as-run and {option} exclude each other: onnxruntime runs the model in its own formats; drop one of them"
                )
        if self.summation != Summation():
            raise UsageError("--as-run and --summation exclude each other: onnxruntime adds up in orders of its own; drop one of them")
        witness = next((path for path in self.outputs if check_suffix(path) == ".witness"), None)
        if witness is not None:
            raise UsageError(f"-o {witness}: a witness is of the model's own graph, not of the one that --as-run certifies; leave it out")

    @property
    def profile_name(self) -> str:
        """The profile given, or implied."""
        return self.profile or ("wide" if self.as_run is None else "ort-cpu")

    @property
    def model_path(self) -> str:
        """How reports call the model: its path as given, or what stands for it."""
        return str(self.model) if isinstance(self.model, Path) else "<memory>"


def check_suffix(path: Path) -> str:
    """The suffix of a report file. Raises UsageError if no report has it."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    if suffix in LATER_SUFFIXES:
        raise UsageError(f"-o {path}: {suffix} reports are not available in this version; choose {', '.join(SUFFIXES)}")
    raise UsageError(f"-o {path}: no report has the suffix {suffix or '(none)'!r}; choose {', '.join(SUFFIXES)}")


def parse_number(text: str, option: str) -> float:
    """A finite decimal number. Raises UsageError naming `option`."""
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise UsageError(f"{option}: {text!r} is not finite")
    return value


def parse_range(text: str) -> tuple[str, Range]:
    """`LO:HI` or `NAME=LO:HI`, as (name or "", (lo, hi)). Raises UsageError."""
    name, interval = _split_name(text, f"--range {text}")
    ends = interval.split(":")
    if len(ends) != 2:
        raise UsageError(f"--range {text}: expected LO:HI or NAME=LO:HI, such as -1:1 or x=0:255")
    lo, hi = (parse_number(end, f"--range {text}") for end in ends)
    return name, check_range(lo, hi, f"--range {text}")


def check_range(lo: float, hi: float, option: str) -> Range:
    """(lo, hi) as floats. Raises UsageError unless both are finite and lo <= hi."""
    if not (math.isfinite(lo) and math.isfinite(hi)):
        raise UsageError(f"{option}: {lo}:{hi} is not finite")
    if lo > hi:
        raise UsageError(f"{option}: {lo:g} is greater than {hi:g}; write LO:HI with LO <= HI")
    return float(lo), float(hi)


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`NAME=1,3,224,224`. Raises UsageError unless every dimension is a whole number >= 1."""
    name, dimensions = _split_name(text, f"--shape {text}")
    if not name:
        raise UsageError(f"--shape {text}: expected NAME=1,3,224,224")
    if not re.fullmatch(r"\d{1,18}(,\d{1,18})*", dimensions):
        raise UsageError(f"--shape {text}: {dimensions!r} is not a list of whole numbers such as 1,3,224,224")
    shape = tuple(int(d) for d in dimensions.split(","))
    if min(shape) < 1:
        raise UsageError(f"--shape {text}: a dimension is 0; every dimension is 1 or more")
    return name, shape


def parse_budget(text: str) -> Budget:
    """`1e-2`, `rel:1e-3`, `argmax`, each also as `NAME=...` for one output. Raises UsageError."""
    name, limit = _split_name(text, f"--budget {text}")
    output = name or None
    if limit == "argmax":
        return Budget(text, "argmax", output=output)
    kind: Literal["absolute", "relative"] = "relative" if limit.startswith("rel:") else "absolute"
    try:
        value = parse_number(limit.removeprefix("rel:"), f"--budget {text}")
    except UsageError as error:
        raise UsageError(f"{error}; expected 1e-2, rel:1e-3, NAME=1e-2 or argmax") from None
    if value < 0:
        raise UsageError(f"--budget {text}: an error is never negative; give 0 or more")
    return Budget(text, kind, value, output)


def parse_as_run(text: str) -> Level:
    """The level of `ort-cpu` (onnxruntime's default, all) or `ort-cpu:LEVEL`. Raises UsageError."""
    for level in LEVELS:
        if text == f"ort-cpu:{level}" or (text == "ort-cpu" and level == "all"):
            return level
    raise UsageError(f"--as-run: {text!r} is none of ort-cpu, {', '.join(f'ort-cpu:{level}' for level in LEVELS)}")


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: str) -> int:
    """Bytes: `4GB`, `512MB`, `1.5GiB`, `800000000`. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([kmgt]i?|)b?", text.strip().lower())
    if found is None:
        raise UsageError(f"--memory-limit: {text!r} is no size; give one such as 4GB, 512MB or 1.5GiB")
    return int(Decimal(found[1]) * _UNITS[found[2]])


def parse_summation(text: str) -> Summation:
    """`any`, `sequential`, `pairwise` or `blocked:B`. Raises UsageError."""
    match text:
        case "any" | "sequential" | "pairwise":
            return Summation(text)
    if re.fullmatch(r"blocked:\d{1,9}", text) and int(text[8:]) >= 1:
        return Summation("blocked", int(text[8:]))
    raise UsageError(f"--summation: {text!r} is none of any, sequential, pairwise, blocked:B (B a whole number, 1 or more)")


def _split_name(text: str, option: str) -> tuple[str, str]:
    """`NAME=VALUE` at the last equals sign (names may hold some), or ("", VALUE). Raises UsageError on an empty part."""
    name, equals, value = text.rpartition("=")
    if not value or (equals and not name):
        raise UsageError(f"{option}: expected VALUE or NAME=VALUE, and neither may be empty")
    return name, value
