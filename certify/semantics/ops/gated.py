"""SwiGLU: A sigmoid(alpha A) B. Source: https://onnx.ai/onnx/operators/onnx__SwiGLU.html."""

from __future__ import annotations

from certify.number.upward import Array
from certify.semantics.contract import register
from certify.semantics.families.composite import Composite, Expansion, Primitive


def swiglu(e: Expansion, *, alpha: float = 1.0) -> tuple[list[Primitive], dict[str, Array]]:
    """Covers kernels whose gate is as accurate as Swish by itself, stored or not before it meets B."""
    gate = e.name("gate")
    return [
        Primitive("Swish", (e.operands[0],), gate, {"alpha": float(alpha)}, inner=False),
        Primitive("Mul", (gate, e.operands[1]), e.outputs[0] or e.name("output"), inner=False),
    ], {}


register(Composite("SwiGLU", 28, ("A", "B"), swiglu))
