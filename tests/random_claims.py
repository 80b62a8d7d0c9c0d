"""Random claims about random graphs, and what may never happen to one: a violation, a crash, a NaN in what is claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto

from certify import pipeline
from certify.analysis.program import Program
from certify.analysis.reference import stored_inputs
from certify.analysis.target import target
from certify.certificate.contract import Certificate
from certify.data import inputs_for, read
from certify.errors import CertifyError, UsageError
from certify.graph.load import load
from certify.number.formats import format_named
from certify.profiles import profile_named
from certify.request import LEVELS, Level, Request, parse_summation
from certify.validate.compare import Run, compare
from certify.validate.confirm import trajectory_at
from certify.validate.conform import against_simulator, is_native
from certify.validate.reference import exact_problem, operations, reference_for
from certify.validate.runs import Subject, perform
from certify.validate.summation import order_named
from tests.hostile import Hostile
from tests.random_graphs import TABLED, random_graph

DTYPES = (None, "fp64", "fp32", "fp32", "tf32", "fp16", "fp16", "bf16", "bf16", "fp8e4m3", "fp8e5m2")
PROFILES = ("wide", "wide", "wide", "ieee", "ieee", "ort-cpu", *(f"tensor-core-{x}" for x in ("v100", "a100", "ada", "h100", "b200")))
FITTING = {  # formats that profiles have, where they have not all
    "ort-cpu": (None, "fp64", "fp32"),
    "tensor-core-v100": (None, "fp32", "fp16"),
    "tensor-core-a100": (None, "fp32", "tf32", "fp16", "bf16"),
}
SUMMATIONS = ("any", "any", "any", "pairwise", "blocked:3", "sequential")


@dataclass(frozen=True, slots=True)
class Claim:
    """What of a random graph is claimed. region: of the smallest box around its points, else of the points."""

    dtype: str | None
    accumulate: str | None
    profile: str
    summation: str
    engine: str
    region: bool
    as_run: Level | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a claim: finite, infinite (some bound is), refused (by design), or a defect with its description."""

    kind: str
    text: str = ""

    @property
    def is_defect(self) -> bool:
        return self.kind in ("violation", "nan", "crash")


def random_claim(seed: int) -> Claim:
    generator = np.random.default_rng([seed, 1])
    dtype = DTYPES[int(generator.integers(len(DTYPES)))]
    profile = PROFILES[int(generator.integers(len(PROFILES)))]
    if seed >= TABLED and dtype not in FITTING.get(profile, DTYPES):
        dtype = FITTING[profile][int(generator.integers(len(FITTING[profile])))]
    accumulate = dtype if profile in ("ieee", "wide") and generator.random() < 0.3 else None
    summation = SUMMATIONS[int(generator.integers(len(SUMMATIONS)))]
    engine = "running" if generator.random() < 0.15 else "auto"
    if seed >= TABLED and generator.random() < 0.15:
        return Claim(None, None, "ort-cpu", "any", engine, False, LEVELS[int(generator.integers(len(LEVELS)))])
    return Claim(dtype, accumulate, profile, summation, engine, bool(generator.random() < 0.25))


def attack(seed: int, engine: str | None = None) -> tuple[Claim, Outcome]:
    """Make the claim of this seed about its graph, at points or in a region, and try to refute it.

    engine: by this one, at points.
    """
    model, points = random_graph(seed)
    claim = random_claim(seed)
    claim = claim if engine is None else replace(claim, engine=engine, region=False)
    return claim, outcome(model, points, claim)


def outcome(model: ModelProto, points: Mapping[str, np.ndarray[Any, Any]], claim: Claim) -> Outcome:
    """What comes of the claim about the model. A refusal in words is none of its defects."""
    attacked = _region if claim.region else _points
    try:
        return attacked(model, points, claim)
    except UsageError as refusal:
        return Outcome("refused", str(refusal))
    except CertifyError as refusal:
        return Outcome("refused", f"{type(refusal).__name__}: {refusal}")
    except Exception as defect:  # noqa: BLE001 (reported as the defect that it is)
        import traceback

        return Outcome("crash", "".join(traceback.format_exception(defect)[-6:]))


def request_for(model: ModelProto, claim: Claim, **more: Any) -> Request:
    summation = parse_summation(claim.summation)
    return Request(model, claim.dtype, claim.accumulate, claim.profile, summation, engine=claim.engine, as_run=claim.as_run, **more)


def _points(model: ModelProto, points: Mapping[str, np.ndarray[Any, Any]], claim: Claim) -> Outcome:
    request = request_for(model, claim, data=points)
    certificate = pipeline.run(request)
    judged = _judged(certificate)
    if judged.is_defect:
        return judged
    violated = refuted(model, request, points, {name: output.absolute_bound for name, output in certificate.outputs.items()})
    return Outcome("violation", violated) if violated else judged


def _judged(certificate: Certificate) -> Outcome:
    assert certificate.gate is not None
    for name, output in certificate.outputs.items():
        for part in ("absolute_bound", "conversion", "rounding", "reference_radius"):
            if np.isnan(getattr(output, part)).any():
                return Outcome("nan", f"{part} of {name}")
    if certificate.gate.exit_code == 4:
        return Outcome("violation", "\n".join(certificate.gate.reasons))
    finite = all(np.isfinite(output.absolute_bound).all() for output in certificate.outputs.values())
    return Outcome("finite" if finite else "infinite", "; ".join(f"{x.node}: {x.reason}" for x in certificate.lost))


def _region(model: ModelProto, points: Mapping[str, np.ndarray[Any, Any]], claim: Claim) -> Outcome:
    """The box of each input spans a few of its points' numbers; drawn points, then corners, are run against its bound."""
    ranges = {name: (float(x.min()), float(np.median(x)) if x.size > 2 else float(x.max())) for name, x in points.items()}
    request = request_for(model, claim, ranges=ranges, region=True, samples=4, boxes=8, jobs=1, time_limit=1.0)
    certificate = pipeline.run(request)
    judged = _judged(certificate)
    if judged.is_defect:
        return judged
    drawn = inputs_for(load(model), replace(request, region=False, samples=6))
    generator = np.random.default_rng(7)
    corners = {}
    for name, x in drawn.points.items():
        lo, hi = drawn.facts.boxes[name]
        corners[name] = np.where(generator.random(x.shape) < 0.5, lo, hi)
        corners[name][0], corners[name][1] = lo, hi
    violated = refuted(model, request, corners, {name: output.absolute_bound for name, output in certificate.outputs.items()})
    return Outcome("violation", violated) if violated else judged


def refuted(model: ModelProto, request: Request, points: Mapping[str, Any], bounds: Mapping[str, Any]) -> str:
    """The hostile runs at the points, for a region the ordinary ones as well, that break the bounds, in words; empty if none does."""
    formats = [None if name is None else format_named(name) for name in (request.dtype, request.accumulate)]
    profile = profile_named(request.profile_name, *formats, str(request.summation))
    arrays = None if request.data is None else read(request.data).arrays
    with np.errstate(all="ignore"), target(model, profile, {}, arrays, request.as_run) as subject:
        given = points if request.region else inputs_for(subject.source, request, read(request.data)).points
        program, exact, cases = subject.program, subject.exact, max(x.shape[0] for x in given.values())
        first = exact_problem(exact, given, 0)
        reference = reference_for(first, lambda case: exact_problem(exact, given, case), cases, trajectory_at(exact, given, cases))
        runs = _hostile(program, given, str(request.summation), cases)
        if request.region:
            native = is_native(subject.graph, profile)
            runs += perform(Subject(model, program, profile, str(request.summation), given, cases, native, operations(first))).runs
    found = (*reference.violations, *compare(runs, reference.exact, bounds).violations)
    return "\n".join(f"{v.output} case {v.case} {v.index}: {v.observed!r} > {v.bound!r} ({v.run})" for v in found)


def _hostile(program: Program, points: Mapping[str, Any], summation: str, cases: int) -> list[Run]:
    if against_simulator(program) is not None:
        return []
    held, _ = stored_inputs(program, dict(points))
    order = order_named("sequential" if summation == "any" else summation.replace(":", "-"))
    runs = []
    for seed in range(3):
        simulator = Hostile(program, np.random.default_rng(seed))
        runs.append(Run(f"hostile {seed}", simulator.run(held, order), cases))
    return runs
