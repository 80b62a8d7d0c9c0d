"""Made-up certificates, one for each verdict, from which the reports' golden files are rendered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from certify.certificate.contract import (
    BudgetResult,
    Certificate,
    Claim,
    Decision,
    Gate,
    Hazard,
    InputFacts,
    LostBound,
    ModelFacts,
    NodeResult,
    OutputResult,
    ProfileFacts,
    Validation,
    Violation,
)
from certify.engines.contract import Guarantee

ASSUMPTIONS = (
    "kernels accumulate in fp32 and round once into storage, to nearest",
    "no kernel uses Winograd or FFT convolution",
)


def output() -> OutputResult:
    reference = np.array([[[4.0, 1.5, -2.0]], [[0.25, 0.3125, 0.0]]])
    conversion = np.array([[[0.03125, 0.01, 0.0]], [[0.001, 0.002, 0.003]]])
    rounding = np.array([[[0.0625, 0.02, 0.01]], [[0.05, 0.04, 0.03]]])
    return OutputResult(
        name="logits",
        shape=(1, 3),
        reference=reference,
        absolute_bound=conversion + rounding,
        conversion=conversion,
        rounding=rounding,
        reference_radius=np.full((2, 1, 3), 1e-15),
        observed_error=(conversion + rounding) / 8.0,
        decision=(Decision(0, 0, 1, 2.5, 0.125, True), Decision(1, 1, 0, 0.0625, 0.0931, False)),
        ladder={"proved": 0.09375},
    )


def nodes() -> tuple[NodeResult, ...]:
    dense = NodeResult("/net/fc1/Gemm", "Gemm", 64, 3.7, 4.1, 812.0, 3.81e-6, 0.0171, 0.0042, 0.3125, 9.5)
    few = [
        replace(dense, name=f"/net/block{i}/MatMul", op="MatMul", fan_in=128, contribution=0.34375 / 2**i, tube_max=0.01 * (i + 1))
        for i in range(11)
    ]
    return (dense, NodeResult("Relu_1", "Relu", 1, 1.0, contribution=0.0), *few)


def certified() -> Certificate:
    return Certificate(
        model=ModelFacts("models/net.onnx", "ab" * 32, 17, 12_345, 13),
        claim=Claim("bf16", "fp32", ProfileFacts("wide", ASSUMPTIONS), InputFacts("points", 2, "data", "cd" * 32)),
        guarantee=Guarantee.PROVED,
        outputs={"logits": output()},
        nodes=nodes(),
        validation=Validation("onnxruntime 1.31.1, emulated bf16", "float64 with proved radius", 2),
        gate=Gate((BudgetResult("1e-1", 0.09375, "within"),), "certified", 0),
        timings={"reading the model": 0.01, "bounding the error": 0.25},
        peak_memory_bytes=123 * 2**20,
    )


def exceeded() -> Certificate:
    """A budget and a hazard fail; the inputs come from the default domain."""
    base = certified()
    inputs = InputFacts("points", 2, "default", "cd" * 32, {"x": (-1.0, 1.0)}, 0)
    budgets = (BudgetResult("rel:1e-2", 0.1633, "exceeded"), BudgetResult("argmax", 1.0, "exceeded"))
    reasons = ("budget rel:1e-2: the bound is 1.633e-1", "budget argmax: 1 decision may flip")
    return replace(
        base,
        claim=replace(base.claim, inputs=inputs),
        hazards=(Hazard("cancellation", "warning", "Sub_3", "the operands agree in all 8 bits", {"interval": [-0.1, 0.1]}),),
        gate=Gate(budgets, "exceeded", 1, reasons),
    )


def unbounded() -> Certificate:
    """A region in which a division loses the bound, and nothing was run."""
    base = certified()
    one = output()
    infinite = np.full_like(one.absolute_bound, np.inf)
    lost = (LostBound("Div_7", "the denominator's enclosure [-0.1, 0.2] touches 0"),)
    budgets = (BudgetResult("1e-2", float("inf"), "no finite bound"),)
    return replace(
        base,
        claim=replace(base.claim, inputs=InputFacts("region", 1, "range", None, {"x": (0.0, 1.0), "y": (-0.5, 0.5)}), summation="pairwise"),
        outputs={"logits": replace(one, absolute_bound=infinite, rounding=infinite, observed_error=None, decision=())},
        nodes=(),
        lost=lost,
        validation=None,
        gate=Gate(budgets, "no finite bound", 3, ("budget 1e-2: no finite bound",)),
    )


def alarm() -> Certificate:
    """A run that refutes a randomized bound."""
    base = certified()
    violation = Violation("logits", 1, (0, 2), 0.0340001, 0.033)
    runs = Validation("onnxruntime 1.31.1, emulated bf16", "float64 with proved radius", 2, (violation,))
    reasons = ("output 'logits', case 1, index [0, 2]: observed 3.400010e-02 exceeds the bound 3.300000e-02",)
    return replace(base, guarantee=Guarantee.RANDOMIZED, failure_probability=1e-9, validation=runs, gate=Gate((), "alarm", 4, reasons))


ALL = {"certified": certified, "exceeded": exceeded, "no_finite_bound": unbounded, "alarm": alarm}
