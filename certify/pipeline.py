"""The whole way from a request to a certificate, top to bottom."""

from __future__ import annotations

import hashlib
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from certify import memory
from certify.analysis.problem import Problem
from certify.analysis.program import Program
from certify.analysis.reference import over_region, pair_at
from certify.analysis.target import Target, target
from certify.certificate.assemble import lost_bounds, node_results, output_results
from certify.certificate.contract import AsRunFacts, Certificate, Claim, InputFacts, ModelFacts, ProfileFacts, PropertyResult, Validation
from certify.certificate.witness import Witness
from certify.checkpoint import Checkpoint, arrays_digest, model_digest
from certify.data import Inputs, inputs_for, read
from certify.engines.answer import Answer, answer
from certify.engines.methods import Method
from certify.engines.region.answer import Region, region_answer
from certify.engines.region.decided import RegionDecision
from certify.engines.region.decided import decide as region_decisions
from certify.engines.region.limits import Limits, Stop, never
from certify.engines.region.proof import prove
from certify.engines.region.search import Spread
from certify.engines.sketch.solve import MEMORY as DRAWN
from certify.gate import check_names, judge
from certify.graph.annotate import annotate
from certify.graph.model import ModelGraph
from certify.number.formats import Format, format_named
from certify.number.upward import Array
from certify.profiles import profile_named
from certify.profiles.contract import Profile
from certify.request import Progress, Request, no_progress
from certify.workers import Workers, crew_for, wants_witness

if TYPE_CHECKING:
    from certify.validate.attack import Sought

HOST = "The reference is computed in IEEE float64, whose elementary functions on this host are within 8 ulp (16 for softmax's)."
REWRITTEN = (
    "{} on this kind of processor rewrites the model at level {} into the graph analysed here, and runs convolutions as inner products."
)
READ = 1024  # elements of an output up to which its decisions over a region are looked at without a budget that names them


def run(request: Request, progress: Progress = no_progress, stop: Stop = never) -> Certificate:
    """Certify. Raises the errors of `certify.errors`, each naming what is at fault.

    stop: asked while a region is split; once it says True the bound so far is the certificate's.
    """
    with np.errstate(all="ignore"), ExitStack() as files:  # infinities are values here, and NaN is looked for where it may arise
        return _run(request, progress, stop, files)


def _run(request: Request, progress: Progress, stop: Stop, files: ExitStack) -> Certificate:
    memory.use(request.memory_limit)
    progress = _within_memory(progress)
    clock = _Clock(progress)
    crew = files.enter_context(crew_for(request))
    with clock("reading the model"):
        raw = None if request.data is None else read(request.data)
        arrays = None if raw is None else raw.arrays
        profile = profile_named(request.profile_name, _format(request.dtype), _format(request.accumulate), str(request.summation))
        subject = files.enter_context(target(request.model, profile, request.shapes, arrays, request.as_run))
        check_names(request.budgets, subject.program.outputs)
    with clock("reading the inputs"):
        inputs = inputs_for(subject.source, request, raw)
    sought: Sought | None = None
    if request.validate and inputs.box is not None:
        with clock("searching the largest error"):
            from certify.validate.validation import searched  # imports onnx and python-flint

            sought = searched(subject, profile, inputs, request, progress)
        progress = _beside(progress, sought)
    with clock("bounding the error"):
        decide = _decision_outputs(subject.graph, subject.program, request)
        witness = Witness(inputs.points) if wants_witness(request) else None
        limits = Limits(request.time_limit, request.boxes, stop)
        with closing(crew):
            spread = Workers(crew, request, subject, arrays)
            stated = _stated(subject, profile, inputs, request, limits, progress, spread)
            decisions = _decided(subject, inputs, request, decide, limits, progress, spread)
            seen = {} if sought is None else sought.largest
            found, region = _bounded(subject, inputs, request, decide, witness, limits, seen, progress, spread)
    observed: dict[str, Array] = {}
    validation: Validation | None = None
    if request.validate:
        with clock("validating"):
            from certify.validate.validation import validated  # imports onnx and python-flint

            observed, validation = validated(subject, profile, inputs, found, request, sought)
    certificate = Certificate(
        model=_model_facts(subject.source, request),
        claim=_claim(subject, profile, inputs.facts, request),
        guarantee=found.guarantee,
        failure_probability=found.eta,
        outputs=output_results(found, observed),
        nodes=node_results(annotate(subject.graph, _format(request.dtype), _format(request.accumulate), norms=False), found),
        lost=lost_bounds(found),
        validation=validation,
        witness=None if witness is None else witness.arrays,
        region=region,
        stated=stated,
        decisions=decisions,
    )
    certificate = replace(certificate, timings=clock.seconds, peak_memory_bytes=_peak_memory())
    return replace(certificate, gate=judge(certificate, request.budgets, request.guarantee))


def _within_memory(progress: Progress) -> Progress:
    """Progress that looks at the memory held whenever it is told something."""

    def told(stage: str, fraction: float | None) -> None:
        memory.check(stage)
        progress(stage, fraction)

    return told


def _beside(progress: Progress, sought: Sought | None) -> Progress:
    """Progress that names the largest error found beside what it tells."""
    if sought is None or not sought.largest:
        return progress
    largest = max(sought.largest.values())
    return lambda stage, fraction: progress(f"{stage}, error found {largest:.4g}" if ":" in stage else stage, fraction)


def _bounded(
    subject: Target,
    inputs: Inputs,
    request: Request,
    decide: list[str],
    witness: Witness | None,
    limits: Limits,
    seen: Mapping[str, float],
    progress: Progress,
    spread: Workers,
) -> tuple[Answer, Region | None]:
    """seen: by output, the largest error that a search found in the region."""
    if inputs.box is None or request.engine == "running":
        keep = None if witness is None else witness.add
        method = Method.named(request.engine, request.eta, request.seed, request.guarantee if keep is None else "proved")
        decide = decide if inputs.box is None else []
        with _checkpoint(subject, inputs, method, decide, request) as recall:
            if inputs.box is None and keep is None and spread.pay(inputs.facts.cases):
                return spread.answer(_points(inputs), method, decide, progress, recall), None
            pairs = problems(
                subject.program, inputs, subject.exact, lambda case: recall is not None and recall.remembered(case) is not None
            )
            return answer(pairs, inputs.facts.cases, method, decide, progress, keep, recall), None
    enough = {name: limit for name in subject.program.outputs if (limit := _enough(request, name, seen.get(name, 0.0))) is not None}
    return region_answer(subject.program, inputs.boxes, limits.share(1.0), enough, progress, spread)


@contextmanager
def _checkpoint(subject: Target, inputs: Inputs, method: Method, decide: list[str], request: Request) -> Iterator[Checkpoint | None]:
    """That of all that the bounds of cases depend on; None where none is asked for."""
    if request.checkpoint is None:
        yield None
        return
    chosen = (
        request.dtype,
        request.accumulate,
        request.profile_name,
        str(request.summation),
        request.as_run,
        sorted(request.shapes.items()),
    )
    options = (chosen, method, memory.for_draws(DRAWN), decide)
    parts = {
        "model": model_digest(subject.source, subject.graph),
        "data": arrays_digest(inputs.points),
        "options": hashlib.sha256(repr(options).encode()).hexdigest(),
    }
    with closing(Checkpoint(request.checkpoint, parts, inputs.facts.cases, subject.require_unchanged)) as recall:
        yield recall


def _decided(
    subject: Target,
    inputs: Inputs,
    request: Request,
    names: list[str],
    limits: Limits,
    progress: Progress,
    spread: Spread,
) -> dict[str, RegionDecision]:
    """Where in a region rounding may change a decision: in half of the time that is left if a budget asks, else in a twentieth."""
    if inputs.box is None or not names:
        return {}
    asked = any(budget.kind == "argmax" for budget in request.budgets)
    return region_decisions(subject.program, inputs.boxes, names, limits.share(0.5 if asked else 0.05), progress, spread)


def _stated(
    subject: Target,
    profile: Profile,
    inputs: Inputs,
    request: Request,
    limits: Limits,
    progress: Progress,
    spread: Spread,
) -> PropertyResult | None:
    """The property of a VNN-LIB file, in at most half of the time; None where nothing is said of outputs."""
    said = inputs.said
    if said is None or not any(case.unsafe for case in said.cases):
        return None
    limits, violations, untried = limits.share(0.5), None, "nothing was run: --no-validate"
    if request.validate:
        from certify.validate.violate import violations_of  # imports onnx and python-flint

        violations, untried = violations_of(subject, profile, request, inputs.boxes, said.cases, progress)
    proof = prove(subject.program, inputs.boxes, said.cases, limits, progress, spread, violations)
    if violations is None:
        return PropertyResult(proof, untried=untried)
    return PropertyResult(proof, violations.found, violations.tried)


def _enough(request: Request, output: str, seen: float) -> float | None:
    """The bound with which every budget of the output is decided; None where that is no absolute number.

    A budget below an error that was seen is broken, whatever the bound: no splitting decides it any more.
    """
    concerned = [budget for budget in request.budgets if budget.output in (None, output)]
    if not concerned or any(budget.kind != "absolute" for budget in concerned):
        return None
    return min((budget.limit for budget in concerned if budget.limit is not None and budget.limit >= seen), default=math.inf)


@dataclass
class _Clock:
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.progress(stage, None)
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _format(name: str | None) -> Format | None:
    return None if name is None else format_named(name)


def problems(
    program: Program, inputs: Inputs, source: Program | None = None, known: Callable[[int], bool] = lambda case: False
) -> Iterator[tuple[Problem, Problem]]:
    """(stored, exact) case by case, as `pair_at` has them; of a region once.

    source: the model's own program, where `program` is of a graph that a runtime made of it. known: cases of which nothing has to be worked
    out; the first one's problems stand for theirs.
    """
    source = program if source is None else source
    if inputs.box is not None:
        region = over_region(program, inputs.box)
        yield region, region
        return
    first: tuple[Problem, Problem] | None = None
    for case, points in enumerate(_points(inputs)):
        pair = first if first is not None and known(case) else pair_at(program, source, points)
        first = first or pair
        yield pair


def _points(inputs: Inputs) -> list[dict[str, Array]]:
    """Of each case, (1, *shape) by input."""
    cases = range(inputs.facts.cases)
    return [{name: x[case : case + 1] if x.shape[0] > 1 else x for name, x in inputs.points.items()} for case in cases]


def _decision_outputs(graph: ModelGraph, program: Program, request: Request) -> list[str]:
    """Outputs read by argmax: rank 2 or 3 with two classes or more, or those that a budget names."""
    asked = {budget.output for budget in request.budgets if budget.kind == "argmax"}
    found = []
    for name in program.outputs:
        shape = graph.values[name].shape
        named = name in asked or None in asked
        few = not request.region or int(np.prod(shape)) <= READ
        if program.formats[name] is not None and shape and shape[-1] >= 2 and (named or (few and len(shape) in (2, 3))):
            found.append(name)
    return found


def _model_facts(graph: ModelGraph, request: Request) -> ModelFacts:
    return ModelFacts(request.model_path, graph.sha256, graph.opsets.get("", 0), graph.parameters, graph.source_nodes)


def _claim(subject: Target, profile: Profile, inputs: InputFacts, request: Request) -> Claim:
    program, file = subject.program, subject.written
    rewritten = () if file is None else (REWRITTEN.format(file.runtime, file.level),)
    return Claim(
        dtype=request.dtype or _own_dtype(program),
        accumulate=request.accumulate or _own_accumulator(program),
        profile=ProfileFacts(profile.name, (*rewritten, *profile.assumptions, *map(_defined, program.opened), HOST)),
        inputs=inputs,
        summation=str(request.summation),
        as_run=None if file is None else AsRunFacts(file.runtime, file.level, subject.graph.source_nodes),
    )


def _defined(operator: str) -> str:
    return f"{operator} is computed as the ONNX standard defines it by other operators, one after another, each result stored."


def _own_dtype(program: Program) -> str:
    names = {storage.name for name in program.outputs if (storage := program.formats[name]) is not None}
    return "+".join(sorted(names)) or "integer"


def _own_accumulator(program: Program) -> str:
    floats = [step.arithmetic.accumulator.name for step in program.steps if program.formats[step.output] is not None]
    return "+".join(sorted(set(floats))) or "none"
