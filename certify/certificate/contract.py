"""The certificate in memory: what the pipeline fills, budgets are judged on and reports are written from.

Arrays are float64, (cases, *shape of the output). Bounds are non-negative, rounded up, and may be inf; never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from certify.engines.contract import Guarantee
from certify.engines.region.answer import Region
from certify.engines.region.decided import RegionDecision
from certify.engines.region.proof import Proof
from certify.number.upward import Array


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was certified. `parameters` counts the elements of all constants, `nodes` the ONNX operators."""

    path: str
    sha256: str
    opset: int
    parameters: int
    nodes: int


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """How the runtime is said to round, and each premise of that by name."""

    name: str
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The input set of the claim.

    source:  "data", "sampled", "default" (sampled from the declared default domain: nobody chose it), "range" or "vnnlib".
    boxes:   by input: the domain that was sampled, or that the region claim covers; of a VNN-LIB file, what all of its boxes lie in.
    sha256:  of the points, or of a VNN-LIB file's boxes, lower and upper ends (see certify.data.digest); None for another region.
    widened: how many bounds of a VNN-LIB file no number of the input's format obeys, and hold its two neighbours instead.
    """

    kind: Literal["points", "region"]
    cases: int
    source: Literal["data", "sampled", "default", "range", "vnnlib"]
    sha256: str | None = None
    boxes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seed: int | None = None
    widened: int = 0


@dataclass(frozen=True, slots=True)
class AsRunFacts:
    """The runtime that rewrote the model before it ran it, with its version; its optimization level; operators of its graph."""

    runtime: str
    level: str
    nodes: int


@dataclass(frozen=True, slots=True)
class Claim:
    """For these inputs, in these formats, under this profile: |computed - exact| <= bound."""

    dtype: str
    accumulate: str
    profile: ProfileFacts
    inputs: InputFacts
    summation: str = "any"
    as_run: AsRunFacts | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """One argmax over the last axis. `stable`: no conforming run can change it.

    margin: least exact difference between the winner and the runner-up; bound: of that difference's error.
    row:    which of the case's rows, the last axis apart, in C order.
    """

    case: int
    top: int
    runner_up: int
    margin: float
    bound: float
    stable: bool
    row: int = 0


@dataclass(frozen=True, slots=True)
class OutputResult:
    """One output of the model.

    reference:        the trajectory y~ around which the bounds hold; |exact - y~| <= reference_radius.
    absolute_bound:   >= |computed - exact|, conversion and rounding together, under the certificate's guarantee.
    conversion:       |exact result with rounded constants and inputs - exact result|, or its bound.
    rounding:         bound of what arithmetic adds.
    observed_error:   largest |computed - exact| of the validation runs, NaN where none covered the case; None if there were none.
    decision:         one per case and row for an output that is read by argmax; else empty.
    ladder:           the largest absolute bound by guarantee, of every engine that ran.
    """

    name: str
    shape: tuple[int, ...]
    reference: Array
    absolute_bound: Array
    conversion: Array
    rounding: Array
    reference_radius: Array
    observed_error: Array | None = None
    decision: tuple[Decision, ...] = ()
    ladder: Mapping[str, float] = field(default_factory=dict)

    @property
    def per_case(self) -> list[float]:
        """The largest absolute bound of each case; 0 for an output without elements."""
        return [float(b.max(initial=0.0)) for b in self.absolute_bound]

    @property
    def relative_max(self) -> float:
        """Upper bound of max over cases of ||error||_inf / ||y||_inf; 0 where both are 0, inf where only y may be."""
        largest = 0.0
        for case, bound in enumerate(self.per_case):
            radius = self.reference_radius[case if self.reference_radius.shape[0] > 1 else 0]
            # |y_i| >= |y~_i| - radius_i; one rounding each, undone by one step.
            least = float(np.nextafter(np.abs(self.reference[case]) - radius, -np.inf).max(initial=0.0))
            if bound > 0.0:
                largest = max(largest, float(np.nextafter(bound / least, np.inf)) if 0.0 < least < np.inf else np.inf)
        return largest

    @property
    def tightness(self) -> float | None:
        """Largest bound / largest observed error, over the cases that some run covered.

        1 if both are 0; inf if only the observed error is 0, or only the bound infinite. None without runs, and where both are
        infinite: then a run overflowed, and no number says how far from that the bound is.
        """
        observed = self.observed_max
        if self.observed_error is None or observed is None:
            return None
        covered = ~np.isnan(np.broadcast_to(self.observed_error, self.absolute_bound.shape))
        bound = float(self.absolute_bound[covered].max(initial=0.0))
        if observed > 0.0:
            return None if np.isinf(bound) and np.isinf(observed) else bound / observed
        return 1.0 if bound == 0.0 else float("inf")

    @property
    def observed_max(self) -> float | None:
        """The largest observed error of the cases that some run covered; None without runs."""
        return None if self.observed_error is None else float(np.fmax.reduce(self.observed_error, axis=None, initial=0.0))


@dataclass(frozen=True, slots=True)
class NodeResult:
    """One ONNX node's part in the error. Statistics are over cases and elements.

    name, op, fan_in (terms that one element adds up), lipschitz, gamma (gamma_n in the accumulator's format);
    condition_median, condition_max: of its inner products; tube_max: proved deviation of its output;
    local_max: rounding born there; contribution: its share, 0 to 1, of the output's largest bound.
    None: not defined for this operator.
    """

    name: str
    op: str
    fan_in: int | None = None
    lipschitz: float | None = None
    condition_median: float | None = None
    condition_max: float | None = None
    gamma: float | None = None
    tube_max: float | None = None
    local_max: float | None = None
    contribution: float | None = None
    magnitude_max: float | None = None


@dataclass(frozen=True, slots=True)
class Hazard:
    """A numerical defect. `evidence` holds either an `interval` [lo, hi] or a `witness` that was run."""

    rule: str
    severity: Literal["error", "warning", "info"]
    node: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LostBound:
    """Where a bound became infinite: the first node of the case, and why."""

    node: str
    reason: str
    case: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """An observed error above its bound: either the bound or the run breaks the claim. `index` is within the case."""

    output: str
    case: int
    index: tuple[int, ...]
    observed: float
    bound: float
    run: str = ""


@dataclass(frozen=True, slots=True)
class Attained:
    """The largest error of an output that a search over a region found, at which of its elements, and the input that attains it.

    inputs: by input, of the model's own shape. sha256: of these (certify.data.digest, as one case).
    """

    output: str
    index: tuple[int, ...]
    error: float
    inputs: Mapping[str, Array]
    sha256: str


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A conforming run that breaks a VNN-LIB property.

    case:    the file's box, in its normal form. inputs, outputs: by name, of the model's own shapes; run: which execution it was.
    margin:  upper end of the least over the conjunctions of the largest c.y - b, at most 0; exact: that of the exact result, enclosed.
    unsafe:  whether the exact result is unsafe as well, None where its enclosure does not tell.
    """

    case: int
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    margin: float
    exact: tuple[float, float]
    unsafe: bool | None
    run: str
    sha256: str


Stated = Literal["holds", "holds over the reals", "may fail", "violated"]


@dataclass(frozen=True, slots=True)
class PropertyResult:
    """What is known of a VNN-LIB property: `proof` of every input of its boxes, `witness` of one that breaks it.

    tried: inputs that were run to break it. untried: why none were; empty if some were.
    """

    proof: Proof
    witness: Counterexample | None = None
    tried: int = 0
    untried: str = ""

    @property
    def verdict(self) -> Stated:
        """holds: in every conforming execution; over the reals: proved there alone; may fail: neither; violated: a run broke it."""
        if self.witness is not None:
            return "violated"
        if self.proof.margin_executions > 0.0:
            return "holds"
        return "holds over the reals" if self.proof.margin_reals > 0.0 else "may fail"


@dataclass(frozen=True, slots=True)
class Validation:
    """The empirical runs: on what, against which reference, how many, and what refutes a bound.

    runtime:   every run with the cases it covers, and what could not be run with its reason, joined by "; ".
    reference: where the exact results come from, likewise.
    tried:     points that a search over a region tried; 0 for points.
    attained:  what it found, by output.
    """

    runtime: str
    reference: str
    runs: int
    violations: tuple[Violation, ...] = ()
    tried: int = 0
    attained: Mapping[str, Attained] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """A budget and what was found: the error (or for argmax the number of decisions that may flip) and the verdict."""

    spec: str
    value: float
    verdict: Literal["within", "exceeded", "no finite bound"]


Verdict = Literal["certified", "exceeded", "violated", "not proved", "no finite bound", "alarm"]


@dataclass(frozen=True, slots=True)
class Gate:
    """Budgets judged; `reasons` says in words what decided, worst first."""

    budgets: tuple[BudgetResult, ...]
    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """All that is claimed and found. `gate` is None until budgets were judged (certify.gate.judge).

    region:  how a region was split, and what its worst parts are; None for points.
    decisions: by output that is read by argmax, where in a region rounding may change it.
    stated:  what became of a VNN-LIB file's property; None without one.
    witness: what `certify check` needs to prove the bounds again, by key (certificate.witness); None unless asked for.
    """

    model: ModelFacts
    claim: Claim
    guarantee: Guarantee
    outputs: Mapping[str, OutputResult]
    failure_probability: float = 0.0
    nodes: tuple[NodeResult, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    lost: tuple[LostBound, ...] = ()
    validation: Validation | None = None
    gate: Gate | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    witness: Mapping[str, np.ndarray[Any, Any]] | None = None
    region: Region | None = None
    stated: PropertyResult | None = None
    decisions: Mapping[str, RegionDecision] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write a report, its format by suffix (.json, .npz, .witness), aside and then renamed.

        Raises UsageError for another suffix or where the file can't be written.
        """
        from certify.report.files import save

        save(self, Path(path))
