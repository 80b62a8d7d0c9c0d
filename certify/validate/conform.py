"""Whether an execution that can be made here conforms to the claim: only a run that does may refute it.

onnxruntime's CPU kernels compute and accumulate in fp32 (fp64 for tensors that fp32 does not hold), in an order of their
own, and deliver one rounding. Rewrites change the arithmetic, so that no claim about the model's own graph covers them:
every run is made with rewrites disabled.
"""

from __future__ import annotations

from certify.analysis.problem import Step
from certify.analysis.program import Program
from certify.graph.model import ModelGraph
from certify.number.formats import FORMATS, from_onnx
from certify.profiles.arithmetic import NearestArithmetic
from certify.profiles.contract import Profile
from certify.profiles.nearest import kernel_format
from certify.profiles.ort_cpu import narrower

STASHING = ("LayerNormalization", "RMSNormalization", "GroupNormalization")  # they compute in the format that their stash_type declares


def is_native(graph: ModelGraph, profile: Profile) -> bool:
    """True if every float tensor is stored as the model declares it, in fp32 or fp64: the file runs as it is.

    Not where a definition stands in an operator's place, of which the runtime may have a kernel; nor where a batch normalization
    trains: onnxruntime writes running statistics that are no outputs over the constants they start from, and its next run reads those.
    """
    if graph.opened or any(node.op_type == "BatchNormalization" and node.attributes.get("training_mode") for node in graph.nodes):
        return False
    elements = {value.elem_type for value in graph.values.values()}
    elements |= {node.attributes.get("stash_type", 1) for node in graph.nodes if node.op_type in STASHING}
    declared = {storage for element in elements if (storage := from_onnx(element)) is not None}
    return all(storage.name in ("fp32", "fp64") and profile.storage(storage) == storage for storage in declared)


def stored_formats(program: Program) -> list[str]:
    """The formats in which kernels deliver their results, by name."""
    delivered = [step for step in program.steps if not step.inner and (step.rule.domain, step.rule.name) != ("certify", "Convert")]
    return sorted({storage.name for step in delivered if (storage := program.formats[step.output]) is not None})


def converts(program: Program) -> bool:
    """True if some kernel rounds its operands on entry, which no kernel of the CPU provider does by itself."""
    return any(_conversion(step) is not None for step in program.steps)


def against_kernels(program: Program, profile: Profile, summation: str) -> str | None:
    """Why onnxruntime's CPU kernels, their operands converted and their results rounded for them, do not conform; None if they do."""
    if program.opened:
        return f"the claim is about the definition of {' and '.join(program.opened)}, of which it may have kernels"
    if summation != "any":
        return f"its kernels add up in orders of their own, the claim is about {summation}"
    for step in program.steps:
        if program.formats[step.output] is None:
            continue
        arithmetic = step.arithmetic
        if not isinstance(arithmetic, NearestArithmetic):
            return f"the claim is about {profile.name}, whose {step.kind} the CPU does not compute"
        own = kernel_format(arithmetic.storage)
        if narrow := narrower(step.kind, step.attributes, own):
            return narrow
        if arithmetic.accumulator != own:
            return f"its kernels accumulate in {own.name}, the claim is about {arithmetic.accumulator.name}"
        if arithmetic.compute != own:
            return f"its kernels compute in {own.name}, the claim is about {arithmetic.compute.name}"
        if arithmetic.conversion is not None and profile.operand_format(step.kind, arithmetic.storage) is None:
            return f"the claim converts operands inside {step.kind}, where only the kernel could"
    return None


def against_cuda(program: Program, profile: Profile, summation: str) -> str | None:
    """Why the CUDA provider with TF32 off does not conform to a claim in the model's own formats; None if it does.

    Its fp32 and fp64 kernels round as the CPU's do, in other orders; elementary functions measured on the CPU are not its own.
    """
    if profile.name == "ort-cpu":
        return "the claim is about elementary functions as measured in the CPU provider"
    if converts(program):
        return "whether its tf32 kernels accumulate as the claim says is unknown"
    return against_kernels(program, profile, summation)


def against_simulator(program: Program) -> str | None:
    """Why the simulator does not conform; None if it does: its products must be exact in float64 or rounded into fp64 anyway."""
    for step in program.steps:
        arithmetic = step.arithmetic
        if not isinstance(arithmetic, NearestArithmetic) or arithmetic.accumulator == FORMATS["fp64"]:
            continue
        if sum(operand.precision for operand in arithmetic.operands[:2]) > FORMATS["fp64"].precision:
            return f"products of fp64 numbers would be rounded twice into {arithmetic.accumulator.name}"
    return None


def _conversion(step: Step) -> object:
    return getattr(step.arithmetic, "conversion", None)
