"""Which executions conform to a claim and can be run here, and what they say about its bounds.

onnxruntime as it is conforms to a claim in the model's own fp32 or fp64, in any order of summation. Narrower formats run in
onnxruntime node by node, every result rounded once. tf32, tensor cores, narrow accumulators and stated orders of summation run
in the numpy simulator; where any order conforms, so do its adversarial orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from certify.analysis.bind import Program
from certify.analysis.problem import Problem
from certify.analysis.reference import stored_inputs
from certify.certificate.contract import Validation
from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.validate.compare import Comparison, Run, compare
from certify.validate.emulate import Emulator
from certify.validate.oracle import reference_arb, spot_check
from certify.validate.runtime import (
    Model,
    Provider,
    ValidationUnavailable,
    batch_dimension,
    open_runner,
    run_batched,
    run_cases,
    runtime_name,
)
from certify.validate.simulate import Simulator
from certify.validate.summation import order_named

if TYPE_CHECKING:
    from onnx import ModelProto

SIMULATED = 60_000_000  # products that the simulator may add up for all orders together
ADVERSARIAL = ("sequential", "positives-first", "descending")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is run: the model's file or proto, its program under the profile, and points (cases or 1, *shape).

    native: every tensor is stored in the fp32 or fp64 that the model declares, so that the file itself conforms.
    """

    model: Model
    program: Program
    profile: Profile
    summation: str
    points: Mapping[str, Array]
    cases: int
    native: bool
    provider: Provider = "cpu"


def validate(
    subject: Subject, first: Problem | None, reference: Mapping[str, Enclosure], bounds: Mapping[str, Array]
) -> tuple[Comparison, Validation]:
    """Run everything that conforms; reference and bounds are (cases or 1, *shape) per output.

    first: the first case's exact problem, whose float64 trajectory is cross-checked with ball arithmetic and mpmath.
    """
    done, missing = [], []
    for name, run in _conforming(subject):
        try:
            done.append(Run(name, run()))
        except ValidationUnavailable as reason:
            missing.append(f"{name}: {reason}")
    found = compare(done, reference, bounds)
    said = "; ".join([run.name for run in done] + [f"not run: {text}" for text in missing]) or "nothing could be run"
    return found, found.validation(said, "float64 trajectory, its own error enclosed" + _cross_check(first, reference))


def _cross_check(first: Problem | None, reference: Mapping[str, Enclosure]) -> str:
    """What independent arithmetic says about the first case's reference. Raises ArithmeticError where it disagrees."""
    if first is None:
        return ""
    checked, broken = spot_check(first)
    if broken:
        worst = broken[0]
        raise ArithmeticError(f"the reference of {worst.node} {worst.index} is off by {worst.distance:.3g}, more than {worst.defect:.3g}")
    text = f"; {checked} elements recomputed in mpmath"
    try:
        balls = reference_arb(first)
    except ValidationUnavailable as reason:
        return f"{text}; no balls end to end ({reason})"
    for name, Y in balls.items():
        claimed = reference[name][:1]
        if not ((Y.lo <= claimed.hi) & (claimed.lo <= Y.hi)).all():
            raise ArithmeticError(f"the reference of output {name} does not meet the ball that contains the exact result")
    radius = max((float(Y.rad.max(initial=0.0)) for Y in balls.values()), default=0.0)
    return f"{text}; ball arithmetic end to end agrees (radius {radius:.2g})"


def _conforming(subject: Subject) -> Iterator[tuple[str, Callable[[], dict[str, Array]]]]:
    program, profile = subject.program, subject.profile
    held, _ = stored_inputs(program, dict(subject.points))
    any_order = subject.summation == "any"
    plain = profile.name in ("wide", "ort-cpu") and any_order and not _converts(program)
    if plain and subject.native:
        name = runtime_name(subject.provider)
        yield name, lambda: run_cases(open_runner(subject.model, subject.provider), subject.points)
        if subject.cases > 1 and not isinstance(subject.model, str | bytes) and _batched(subject):
            yield f"{name}, one batch", lambda: run_batched(open_runner(subject.model, subject.provider), subject.points)
    elif plain:
        yield "onnxruntime node by node, rounded into storage", lambda: _emulated(subject, held)
    for order in ADVERSARIAL if any_order else (subject.summation.replace(":", "-"),):
        yield f"simulator, {order}", partial(_simulated, program, held, order)


def _simulated(program: Program, held: Mapping[str, Array], order: str) -> dict[str, Array]:
    return Simulator(program, SIMULATED).run(held, order_named(order))


def _emulated(subject: Subject, held: Mapping[str, Array]) -> dict[str, Array]:
    emulator = Emulator(_proto(subject.model), subject.profile.storage, subject.profile.operand_format)
    return run_cases(emulator, held)


def _proto(model: Model) -> ModelProto:
    import onnx

    if isinstance(model, onnx.ModelProto):
        return model
    return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))


def _batched(subject: Subject) -> bool:
    return batch_dimension(_proto(subject.model)) is not None


def _converts(program: Program) -> bool:
    """True if some kernel rounds its operands on entry."""
    return any(step.rule.name == "Convert" for step in program.steps) or any("@" in name for name in program.exact)
