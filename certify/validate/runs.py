"""The executions that conform to a claim and can be made here.

The model's own fp32 or fp64 runs in onnxruntime as it is, with one thread and two, case by case and in one batch, on CUDA
if that is asked for. Narrower formats and converted operands run in onnxruntime node by node, every result rounded once.
Everything runs in the numpy simulator; where any order of summation conforms, in adversarial orders. A run that is dear
covers the leading cases that it has time for, counted in operations, so that the same claim is tried by the same runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from certify import memory
from certify.analysis.program import Program
from certify.analysis.reference import stored_inputs
from certify.number.upward import Array
from certify.profiles.contract import Profile
from certify.request import Level
from certify.validate import conform
from certify.validate.compare import Run
from certify.validate.emulate import Emulator
from certify.validate.runtime import (
    AnyArray,
    Model,
    Provider,
    Runner,
    ValidationUnavailable,
    batch_dimension,
    open_runner,
    provider_missing,
    run_batched,
    run_cases,
    runtime_name,
)
from certify.validate.simulate import Simulator
from certify.validate.summation import order_named

if TYPE_CHECKING:
    from onnx import ModelProto

SIMULATED = 5_000_000  # operations (reference.operations) of one simulated run over all its cases, about half a second
LARGEST = 20_000_000  # operations beyond which not even one case is simulated
REPEATED = 2_000_000_000  # operations of a run that repeats another one in a batch or with more threads
NATIVE, EMULATED = 4.0, 10.0  # bytes of each weight that onnxruntime holds, about: the model, and the graph that is run node by node
ADVERSARIAL = ("sequential", "positives-first", "descending")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is run: the model's file, bytes or proto, its program under the profile, and points (cases or 1, *shape).

    native:     the file itself runs in the claim's formats (conform.is_native).
    operations: how many of them one case takes.
    level:      the runtime's optimization level; what it makes of the model there is what conforms.
    written:    the graph of the program, where it is not the model's own.
    """

    model: Model
    program: Program
    profile: Profile
    summation: str
    points: Mapping[str, Array]
    cases: int
    native: bool
    operations: int
    provider: Provider = "cpu"
    level: Level = "disabled"
    written: Model | None = None


@dataclass
class Performed:
    """The runs that were made, their names saying which cases they cover, and what could not be run, with its reason."""

    cases: int
    runs: list[Run] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def attempt(self, name: str, run: Callable[[], Mapping[str, AnyArray]], covered: int) -> bool:
        """Make a run of the first `covered` cases; False if it cannot be made."""
        try:
            self.runs.append(Run(f"{name}{_leading_cases(covered, self.cases)}", run(), covered))
        except ValidationUnavailable as reason:
            self.refuse(name, str(reason))
            return False
        return True

    def refuse(self, name: str, reason: str) -> None:
        """Note a run that is not made; a reason from outside may not look like several entries."""
        self.missing.append(f"{name}: {' '.join(reason.split())[:240].replace('; ', ', ')}")

    @property
    def text(self) -> str:
        """One entry after another, joined by "; "."""
        ran = [run.name for run in self.runs] or ["nothing could be run"]
        return "; ".join([*ran, *(f"not run: {reason}" for reason in self.missing)])


def perform(subject: Subject) -> Performed:
    """Make every conforming run that can be made here."""
    done = Performed(subject.cases)
    held, _ = stored_inputs(subject.program, dict(subject.points))
    refused = conform.against_kernels(subject.program, subject.profile, subject.summation)
    if refused is not None:
        done.refuse("onnxruntime on the CPU", refused)
    elif not (subject.native and not conform.converts(subject.program) and _native(subject, done)):
        _emulated(subject, held, done)
    if subject.provider == "cuda":
        _cuda(subject, done)
    _simulated(subject, held, done)
    return done


def _native(subject: Subject, done: Performed) -> bool:
    """The file at the level that is claimed, rewrites disabled unless one is; False if onnxruntime does not run it."""
    repeated, name, level = _repeated(subject), runtime_name("cpu", subject.level, 1), subject.level
    if not _has_room(name, NATIVE, subject, done) or not done.attempt(
        name, lambda: run_cases(open_runner(subject.model, "cpu", level), subject.points), subject.cases
    ):
        return False
    leading = _first(subject.points, repeated)
    done.attempt(runtime_name("cpu", level, 2), lambda: run_cases(open_runner(subject.model, "cpu", level, threads=2), leading), repeated)
    _batched(subject, f"{name}, one batch", lambda: open_runner(subject.model, "cpu", level), subject.points, done)
    return True


def _emulated(subject: Subject, held: Mapping[str, Array], done: Performed) -> None:
    name = f"{runtime_name().split(',')[0]}, node by node, rounded into {' and '.join(conform.stored_formats(subject.program))}"
    name += ", factors converted" if conform.converts(subject.program) else ""
    if not _has_room(name, EMULATED, subject, done):
        return
    try:
        emulator = Emulator(proto_of(subject.written or subject.model), subject.profile.storage, subject.profile.operand_format)
    except ValidationUnavailable as reason:
        done.refuse(name, str(reason))
        return
    if done.attempt(name, lambda: run_cases(emulator, held), subject.cases):
        _batched(subject, f"{name}, one batch", lambda: emulator, held, done)


def _has_room(name: str, each: float, subject: Subject, done: Performed) -> bool:
    needed = each * subject.program.stored.elements
    room = memory.held() + needed <= memory.limit()
    if not room:
        done.refuse(name, f"it would hold about {memory.size(needed)} of weights, more than --memory-limit leaves")
    return room


def _cuda(subject: Subject, done: Performed) -> None:
    refused = provider_missing("cuda")
    if refused is None and not subject.native:
        refused = "the claim is not in the formats that the model declares"
    refused = refused or conform.against_cuda(subject.program, subject.profile, subject.summation)
    if refused is not None:
        done.refuse("CUDA", refused)
        return
    name = runtime_name("cuda")
    if done.attempt(name, lambda: run_cases(open_runner(subject.model, "cuda"), subject.points), subject.cases):
        _batched(subject, f"{name}, one batch", lambda: open_runner(subject.model, "cuda"), subject.points, done)


def _simulated(subject: Subject, held: Mapping[str, Array], done: Performed) -> None:
    any_order = subject.summation == "any"
    refused = conform.against_simulator(subject.program)
    if refused is None and subject.operations > LARGEST:
        refused = f"one case takes {subject.operations:,} operations, more than {LARGEST:,}"
    if refused is not None:
        done.refuse("simulator", refused)
        return
    covered = min(subject.cases, max(1, SIMULATED // max(1, subject.operations)))
    simulator, leading = Simulator(subject.program, max(SIMULATED, LARGEST)), _first(held, covered)
    for name in ADVERSARIAL if any_order else (subject.summation.replace(":", "-"),):
        order = order_named(name)
        done.attempt(f"simulator, {name}", lambda order=order: simulator.run(leading, order), covered)  # type: ignore[misc]


def _batched(subject: Subject, name: str, start: Callable[[], Runner], inputs: Mapping[str, Array], done: Performed) -> None:
    """All cases at once, where there are several and the model leaves its batch open."""
    repeated = _repeated(subject)
    if repeated > 1 and batch_dimension(proto_of(subject.model, weights=False)) is not None:
        done.attempt(name, lambda: run_batched(start(), _first(inputs, repeated), done.runs[0].outputs), repeated)


def _repeated(subject: Subject) -> int:
    return min(subject.cases, max(2, REPEATED // max(1, subject.operations)))


def _first(inputs: Mapping[str, Array], cases: int) -> dict[str, Array]:
    return {name: x[:cases] if x.shape[0] > 1 else x for name, x in inputs.items()}


def _leading_cases(covered: int, cases: int) -> str:
    if covered == cases:
        return ""
    return " (case 0)" if covered == 1 else f" (cases 0-{covered - 1})"


def proto_of(model: Model, weights: bool = True) -> ModelProto:
    """The model itself; without its external weights where only its graph is asked for."""
    import onnx

    if isinstance(model, onnx.ModelProto):
        return model
    return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(str(model), load_external_data=weights)
