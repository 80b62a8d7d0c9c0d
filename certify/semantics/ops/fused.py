"""com.microsoft: what onnxruntime's rewrites make of products, convolutions and activations, each a composite of ONNX's own rows.

A fused kernel adds up in the accumulator, then applies its activation to what it holds there (the kernel's own format), and stores
once: inner results are not stored. Convolutions are inner products, not Winograd's or Strassen's, in any order of summation; an
addend Z may enter the sum anywhere.
Source: onnxruntime's ContribOperators.md and contrib_ops/cpu (fused_conv, fused_gemm, fused_matmul, bert/bias_gelu, bert/fast_gelu).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.pointwise import Pointwise
from certify.semantics.ops.activations import born_swish, gelu, of_gelu, of_swish, swish
from certify.semantics.ops.contraction import MatrixProduct
from certify.semantics.ops.convolution import Convolution

Parts = tuple[list[Primitive], dict[str, Array]]
_QUICK = float(np.float32(1.702))
_MS = "com.microsoft"

# The attributes that each activation takes its parameters from: in FusedConv by position, in FusedGemm by name.
_CONV = {
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid", "HardSwish"), ()),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}
_GEMM = {
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign"), ()),
    **dict.fromkeys(("LeakyRelu", "Elu", "Celu", "ThresholdedRelu"), ("alpha",)),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
}


def _wanted(e: Expansion) -> str:
    y = e.outputs[0]
    assert y is not None
    return y


def activated(e: Expansion, x: str, y: str, name: str | None, given: Sequence[float]) -> Parts:
    """Primitives that deliver the activation of x in y, as FusedConv means it. Raises UnsupportedOperator.

    HardSwish with parameters is refused: onnxruntime's kernel ignores them.
    """
    if name == "Clip" and len(given) == 2:
        constants = {e.name(part): np.asarray(v, dtype=np.float64) for part, v in zip(("least", "most"), given, strict=True)}
        low, high = (
            Primitive("Max", (x, e.name("least")), e.name("raised")),
            Primitive("Min", (e.name("raised"), e.name("most")), y, inner=False),
        )
        return [low, high], constants
    parameters = _CONV.get(name or "")
    if parameters is None or len(given) != len(parameters):
        raise UnsupportedOperator(f"its activation {name!r} with parameters {list(given)}")
    named = {p: float(v) for p, v in zip(parameters, given, strict=True)}
    return [Primitive(str(name), (x,), y, named, inner=False)], {}


def convolved(e: Expansion, x: str | None, w: str | None, y: str, attributes: dict[str, Any]) -> Parts:
    """conv(x, w) + B + Z and its activation, delivered in y."""
    name, given = attributes.pop("activation", None), attributes.pop("activation_params", ())
    operands = (x, w, *e.operands[2:])
    summed = len(operands) > 3 and operands[3] is not None
    domain = "certify" if summed else ""
    if not name:
        return [Primitive("Conv", operands if summed else operands[:3], y, attributes, inner=False, domain=domain)], {}
    rest, constants = activated(e, e.name("sum"), y, name, given)
    return [Primitive("Conv", operands if summed else operands[:3], e.name("sum"), attributes, domain=domain), *rest], constants


def fused_conv(e: Expansion, **attributes: Any) -> Parts:
    """act(conv(X, W) + B + Z)."""
    return convolved(e, e.operands[0], e.operands[1], _wanted(e), attributes)


def fused_gemm(e: Expansion, *, activation: str = "", **attributes: Any) -> Parts:
    """act(alpha A' B' + beta C)."""
    given = {key.removeprefix("activation_"): float(attributes.pop(key)) for key in list(attributes) if key.startswith("activation_")}
    parameters = _GEMM.get(activation)
    if parameters is None or any(p not in given for p in parameters):
        raise UnsupportedOperator(f"its activation {activation!r} with parameters {given}")
    named = {p: given[p] for p in parameters}
    return [
        Primitive("Gemm", e.operands, e.name("sum"), attributes),
        Primitive(activation, (e.name("sum"),), _wanted(e), named, inner=False),
    ], {}


def _turn(e: Expansion, position: int, batch: int, last: int) -> tuple[list[Primitive], str | None]:
    """A factor with its axes in place: the first before the last one, then the last two swapped."""
    rank = len(e.shapes[position])
    axes = list(range(rank))
    if batch:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if last and rank > 1:
        axes[-2:] = axes[:-3:-1]
    if axes == list(range(rank)):
        return [], e.operands[position]
    turned = e.name(f"turned{position}")
    return [Primitive("Transpose", (e.operands[position],), turned, {"perm": tuple(axes)}, inner=False)], turned


def fused_matmul(
    e: Expansion, *, alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0, transBatchB: int = 0
) -> Parts:
    """alpha A' B', either factor with its first axis before the last one (transBatch) and its last two swapped (trans)."""
    if all(len(shape) == 2 for shape in e.shapes) and not (transBatchA or transBatchB):
        attributes = {"alpha": alpha, "transA": transA, "transB": transB}
        return [Primitive("Gemm", e.operands, _wanted(e), attributes, inner=False)], {}
    left, a = _turn(e, 0, transBatchA, transA)
    right, b = _turn(e, 1, transBatchB, transB)
    scaled: dict[str, Any] = {} if alpha == 1.0 else {"alpha": alpha}
    return [*left, *right, Primitive("MatMul", (a, b), _wanted(e), scaled, inner=False, domain="certify" if scaled else "")], {}


def bias_gelu(e: Expansion, *, approximate: str = "none") -> Parts:
    """gelu(A + B), the sum in the kernel's format."""
    added = len(e.operands) > 1 and e.operands[1] is not None
    attributes = {"approximate": approximate}
    if not added:
        return [Primitive("Gelu", e.operands[:1], _wanted(e), attributes, inner=False)], {}
    return [
        Primitive("Add", e.operands[:2], e.name("sum")),
        Primitive("Gelu", (e.name("sum"),), _wanted(e), attributes, inner=False),
    ], {}


def fast_gelu(e: Expansion) -> Parts:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) at x = X + bias."""
    return bias_gelu(e, approximate="tanh")


register(
    Bilinear("Conv", 1, ("X", "W", "B", "Z"), Convolution(), domain="certify"),
    Bilinear(
        "MatMul", 1, ("A", "B"), MatrixProduct(), scale=lambda attributes: (float(attributes.get("alpha", 1.0)), 1.0), domain="certify"
    ),
    Composite("FusedConv", 1, ("X", "W", "B", "Z"), fused_conv, domain=_MS),
    Composite("FusedGemm", 1, ("A", "B", "C"), fused_gemm, domain=_MS),
    Composite("FusedMatMul", 1, ("A", "B"), fused_matmul, domain=_MS),
    Composite("TransposeMatMul", 1, ("A", "B"), fused_matmul, domain=_MS),
    Composite("BiasGelu", 1, ("A", "B"), bias_gelu, domain=_MS),
    Composite("FastGelu", 1, ("X", "bias"), fast_gelu, domain=_MS),
    Pointwise("Gelu", 1, gelu, of_gelu, domain=_MS),
    Pointwise("QuickGelu", 1, lambda x, alpha=_QUICK: swish(x, alpha), lambda alpha=_QUICK: of_swish(alpha), born=born_swish, domain=_MS),
)
