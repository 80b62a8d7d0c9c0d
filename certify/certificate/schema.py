"""The certificate as a document: the JSON schema "certify/1". Additions are free, changes go through the changelog.

Non-finite numbers are the strings "inf" and "nan", keys are sorted: one claim gives one sequence of bytes, timings aside.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

SCHEMA = "certify/1"


class Tool(msgspec.Struct, frozen=True):
    name: str
    version: str


class Model(msgspec.Struct, frozen=True):
    path: str
    sha256: str
    opset: int
    parameters: int
    nodes: int


class Profile(msgspec.Struct, frozen=True):
    name: str
    assumptions: list[str]


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """`sha256` for points and VNN-LIB files, `boxes` (input to [lo, hi]) for a region or the domain that was sampled.

    `widened`: input elements for which the VNN-LIB file allows no number of their format, so that the two around count as allowed.
    """

    kind: str
    cases: int
    source: str
    sha256: str | None = None
    boxes: dict[str, list[float]] | None = None
    seed: int | None = None
    widened: int = 0


class AsRun(msgspec.Struct, frozen=True):
    """The bound is of the graph that `runtime` makes of the model at its optimization `level`, against the model's exact result."""

    runtime: str
    level: str
    nodes: int


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    dtype: str
    accumulate: str
    summation: str
    profile: Profile
    inputs: Inputs
    as_run: AsRun | None = None


class Bound(msgspec.Struct, frozen=True):
    absolute_max: float
    relative_max: float


class Unstable(msgspec.Struct, frozen=True):
    case: int
    row: int
    top: int
    runner_up: int
    margin: float
    bound: float


class Decisions(msgspec.Struct, frozen=True):
    """`stable` of `cases` decisions can't flip; `unstable` lists the others."""

    stable: int
    cases: int
    unstable: list[Unstable] = []


class Output(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    bound: Bound
    conversion_max: float
    rounding_max: float
    per_case: list[float]
    ladder: dict[str, float]
    observed_max: float | None = None
    tightness: float | None = None
    decision: Decisions | None = None


class Condition(msgspec.Struct, frozen=True):
    median: float | None = None
    max: float | None = None


class Node(msgspec.Struct, frozen=True):
    name: str
    op: str
    fan_in: int | None = None
    lipschitz: float | None = None
    condition: Condition | None = None
    gamma: float | None = None
    tube_max: float | None = None
    local_max: float | None = None
    contribution: float | None = None
    magnitude_max: float | None = None


class Hazard(msgspec.Struct, frozen=True):
    rule: str
    severity: str
    node: str
    message: str
    evidence: dict[str, Any] = {}


class Lost(msgspec.Struct, frozen=True):
    case: int
    node: str
    reason: str


class Violation(msgspec.Struct, frozen=True):
    output: str
    case: int
    index: list[int]
    observed: float
    bound: float
    run: str = ""


class Attained(msgspec.Struct, frozen=True):
    """The largest error found and the input that attains it: nested lists by input, left out (None) where it has many elements.

    Then the same command finds it again; `sha256` is of the input (certify.data.digest, as one case).
    """

    index: list[int]
    error: float
    sha256: str
    inputs: dict[str, Any] | None = None


class Validation(msgspec.Struct, frozen=True):
    """`violations` counts them; `violated` lists them. A region: `tried` points were searched, `attained` is what was found by output."""

    runtime: str
    reference: str
    runs: int
    violations: int
    violated: list[Violation] = []
    tried: int = 0
    attained: dict[str, Attained] = {}


class BudgetVerdict(msgspec.Struct, frozen=True):
    spec: str
    value: float
    verdict: str


class GateVerdict(msgspec.Struct, frozen=True):
    budgets: list[BudgetVerdict]
    verdict: str
    exit_code: int
    reasons: list[str] = []


class Timings(msgspec.Struct, frozen=True):
    seconds: dict[str, float]
    peak_memory_bytes: int | None = None


class SubBox(msgspec.Struct, frozen=True):
    """A sub-box by input: [lo, hi] of each element, in C order; of inputs with more than 64 elements, the hull of all."""

    bound: float
    box: dict[str, list[list[float]]]


class MapAxis(msgspec.Struct, frozen=True):
    input: str
    element: int
    lo: float
    hi: float


class Map(msgspec.Struct, frozen=True):
    """The largest bound of a sub-box that meets each of the equal cells into which the axes are divided: a row over one, rows over two."""

    axes: list[MapAxis]
    bound: list[Any]


class RegionOutput(msgspec.Struct, frozen=True):
    """`lower`: about what splitting further would come down to. `worst`: sub-boxes, the very worst first."""

    output: str
    lower: float
    worst: list[SubBox]
    map: Map | None = None


class Region(msgspec.Struct, frozen=True):
    """`boxes` sub-boxes make up the region; `asked` were bounded on the way; `ended` says why no more were."""

    boxes: int
    asked: int
    ended: str
    outputs: list[RegionOutput]


class UnprovedBox(msgspec.Struct, frozen=True):
    """A sub-box as in SubBox, and lower bounds of its margins."""

    margin_reals: float
    margin_executions: float
    box: dict[str, list[list[float]]]


class Counterexample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that breaks the property. `margin` is at most 0; `exact` encloses that of the exact result, which is `unsafe` as well or not.

    `inputs` and `outputs` are there where all inputs together have 64 elements at most.
    """

    case: int
    run: str
    margin: float
    exact: list[float]
    sha256: str
    unsafe: bool | None = None
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None


class Property(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a VNN-LIB property. Margins are proved lower bounds over the region; the property is proved where they exceed 0.

    `unproved` counts the sub-boxes in which some execution may break it, of `boxes`; `worst` lists some. `tried` inputs were run.
    """

    verdict: str
    margin_reals: float
    margin_executions: float
    boxes: int
    asked: int
    ended: str
    unproved: int
    worst: list[UnprovedBox]
    tried: int
    untried: str = ""
    witness: Counterexample | None = None


class UndecidedBox(msgspec.Struct, frozen=True):
    """A sub-box as in SubBox that is not stable, and lower bounds of the winner's margin in it. `kind` as in RegionDecision."""

    kind: str
    margin_reals: float
    margin_executions: float
    box: dict[str, list[list[float]]]


class RegionDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """Decisions over a region: sub-boxes are "stable", or "rounding" may flip some, or the "reals" may not be constant there.

    `count` of sub-boxes and `share` of their volume by kind. `constant`: one winner everywhere, in every execution; `constant_reals`.
    `intervals` ([kind, lo, hi], `width` in all) merges what is not stable, where one input element varies; at most 256 are listed.
    """

    output: str
    boxes: int
    asked: int
    ended: str
    count: dict[str, int]
    share: dict[str, float]
    constant: bool
    constant_reals: bool
    worst: list[UndecidedBox]
    width: float | None = None
    intervals: list[tuple[str, float, float]] | None = None


class Document(msgspec.Struct, frozen=True):
    """The whole certificate without its arrays; reports are rendered from this alone."""

    schema: str
    tool: Tool
    model: Model
    claim: Claim
    guarantee: str
    failure_probability: float
    outputs: list[Output]
    nodes: list[Node]
    hazards: list[Hazard]
    lost: list[Lost]
    validation: Validation | None
    gate: GateVerdict | None
    timings: Timings
    region: Region | None = None
    property: Property | None = None
    decisions: list[RegionDecision] = []


def encode(document: Document) -> bytes:
    """UTF-8 JSON with sorted keys and two spaces of indentation, closed by a line feed."""
    plain = _spell_non_finite(msgspec.to_builtins(document, enc_hook=_from_numpy))
    return msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=2) + b"\n"


def _from_numpy(x: Any) -> Any:
    """What evidence may hold beside plain values: numpy's scalars and arrays."""
    return x.tolist()


def _spell_non_finite(x: Any) -> Any:
    if isinstance(x, float) and not math.isfinite(x):
        return str(x)
    if isinstance(x, dict):
        return {key: _spell_non_finite(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_spell_non_finite(value) for value in x]
    return x
