"""Laws of com.microsoft's rows, their values against onnxruntime, and certificates of small models of them, attacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from mpmath import erfc, exp, mpf, sqrt

import certify
from certify.errors import Unsupported
from certify.number.upward import Array
from certify.semantics.contract import lookup
from tests.graph.test_domains import one
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import E4M3, Machine
from tests.laws.test_convolution import ATTRIBUTES, box, conv_oracle, conv_terms
from tests.laws.test_lies import Liar

rng = np.random.default_rng(3)
SUMMED = lookup("certify", "Conv", 1)


def summed_oracle(x: Any, w: Any, b: Any = None, z: Any = None, **attributes: Any) -> Any:
    y = conv_oracle(x, w, b, **attributes)
    return y if z is None else y + z


def summed_kernel(machine: Any, x: Any, w: Any, b: Any, z: Any, **attributes: Any) -> Any:
    """Bias and Z are leaves of the sum like any product, in any order."""
    products = machine.accumulator.fl(conv_terms(x, w, **attributes))
    extra = [z[..., None]]
    if b is not None:
        extra.append(np.broadcast_to(b[:, None, None], (*products.shape[:-1], 1)))
    return machine.fl_sum(np.concatenate([products, *extra], axis=-1))


@pytest.mark.parametrize("bias", [False, True])
def test_convolution_with_an_addend_of_its_own_shape(bias: bool) -> None:
    for attributes in ATTRIBUTES[:2]:
        group = attributes.get("group", 1)
        shape = conv_oracle(np.zeros((1, 2, 4)), np.zeros((2, 2 // group, 2)), **attributes).shape
        X, W, B = box(1, 2, 4), box(2, 2 // group, 2), box(2) if bias else None
        large = np.full(shape, 40.0)
        hard = (X[0], W[0], None if B is None else B[0] - 32.0, large)
        check_rule(
            SUMMED,
            [(X, W, B, box(*shape))],
            [hard],
            oracle=summed_oracle,
            kernel=summed_kernel,
            attributes=attributes,
            radii=(0.0, 0.125),
        )


@dataclass(frozen=True)
class Sharp(Machine):
    """The same machine with (leaves - 1) u sum |leaf| for a dot product of exact products, nothing to spare."""

    def dot(
        self,
        n: int,
        magnitude: Array,
        total: Array,
        largest: Array,
        addend: Any = 0.0,
        nonzero: Any = None,
        partial: Any = None,
        addends: int = 1,
    ) -> Array:
        return (n + addends - 1) * 2.0**-self.precision * (magnitude + addend) * (1 + 2.0**-40)


def test_an_addend_forgotten_is_noticed() -> None:
    """Z left out of the rounding: where it is large, so are the partial sums."""
    x, w, z = np.ones((1, 1, 1)), np.ones((1, 1, 1)) * 1.25, np.full((1, 1, 1), 20.0)
    lie = Liar(SUMMED, "rounding", lambda honest, X, r, machine, *more: lookup("", "Conv", 22).rounding(X[:3], r[:3], machine, *more))
    machine = Sharp(precision=3, emin=-14, emax=15)
    attributes = {"strides": [1], "pads": [0, 0], "dilations": [1]}
    given: dict[str, Any] = {"oracle": summed_oracle, "kernel": summed_kernel, "machines": (machine,), "radii": (0.0, 2.0**-40)}
    check_rule(SUMMED, [], [(x, w, None, z)], attributes=attributes, **given)
    with pytest.raises(LawBroken, match="rounding"):
        check_rule(lie, [], [(x, w, None, z)], **given, attributes=attributes)


def test_scaled_product() -> None:
    def oracle(a: Any, b: Any, alpha: float = 1.0) -> Any:
        return np.asarray((a[..., :, :, None] * b[..., None, :, :]).sum(axis=-2), dtype=object) * mpf(alpha)

    def kernel(machine: Any, a: Any, b: Any, alpha: float) -> Any:
        return machine.fl(
            machine.accumulator.fl_sum(machine.accumulator.fl(a[..., :, None, :] * b.swapaxes(-1, -2)[..., None, :, :])) * mpf(alpha)
        )

    rule = lookup("certify", "MatMul", 1)
    check_rule(rule, [(box(2, 2, 3), box(2, 3, 2))], oracle=oracle, kernel=kernel, attributes={"alpha": -0.375}, radii=(0.0, 0.125))


def swish(x: Any, alpha: float) -> Any:
    return x / (1 + exp(-mpf(alpha) * x))


@pytest.mark.parametrize("alpha", [0.01, 1.0, float(np.float32(1.702))])
def test_quick_gelu(alpha: float) -> None:
    x = np.array([-20.0, -3.0, -0.75, 0.0, 0.5, 4.0])
    check_rule(
        lookup("com.microsoft", "QuickGelu", 1),
        [((x, x + np.array([1.0, 0.5, 0.25, 0.125, 0.0, 2.0])),)],
        [(np.array([-1e30, -800.0, -17.0, 5e-324, 1e30]),)],
        oracle=lambda v, **_: elementwise(lambda t: swish(t, alpha))(v),
        kernel=lambda machine, v, **_: machine.fl_elementary(elementwise(lambda t: swish(t, alpha))(v)),
        attributes={"alpha": alpha},
        smooth=[(x,)],
        exact_push=True,
    )


def test_quick_gelu_refuses_what_bends_otherwise() -> None:
    with pytest.raises(Unsupported, match="alpha"):
        certify.certify(one("QuickGelu", {"x": (3,)}, alpha=-1.0))


def test_flat_swish_loses_more_of_its_tail() -> None:
    """alpha = 0.01: onnxruntime's sigmoid is off by some 1e-8 there, which x = -1000 multiplies."""
    x = -np.geomspace(600.0, 1799.0, 64).astype(np.float32)
    certificate = certify.certify(one("QuickGelu", {"x": (64,)}, alpha=0.01), profile="ort-cpu", data={"x": x})
    assert certificate.validation is not None
    assert certificate.validation.violations == ()


def test_gelu() -> None:
    x = np.array([-9.0, -1.0, 0.0, 0.25, 3.0])
    check_rule(
        lookup("com.microsoft", "Gelu", 1),
        [((x, x + 0.5),)],
        oracle=elementwise(lambda v: v * erfc(-v / sqrt(mpf(2))) / 2),
        kernel=lambda machine, v: machine.fl_elementary(elementwise(lambda t: t * erfc(-t / sqrt(mpf(2))) / 2)(v)),
        machines=(E4M3,),
        exact_push=True,
    )


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: rng.integers(-8, 9, (3, *shape)).astype(np.float32) / 4 for name, shape in shapes.items()}


CONV = {"x": (2, 4, 5, 6), "w": (6, 2, 3, 2), "b": (6,), "z": (2, 6, 3, 3)}
WINDOW = {"group": 2, "strides": [2, 2], "pads": [1, 0, 1, 1], "dilations": [1, 1]}
MODELS = {
    "conv": one("FusedConv", CONV, **WINDOW, activation="Relu"),
    "conv without activation": one("FusedConv", CONV, **WINDOW),
    "conv, tanh": one("FusedConv", {k: CONV[k] for k in "xw"}, **WINDOW, activation="Tanh"),
    "conv, sigmoid": one("FusedConv", {k: CONV[k] for k in "xwb"}, **WINDOW, activation="Sigmoid"),
    "conv, leaky": one("FusedConv", {k: CONV[k] for k in "xwb"}, **WINDOW, activation="LeakyRelu", activation_params=[0.1]),
    "conv, clip": one("FusedConv", {k: CONV[k] for k in "xwb"}, **WINDOW, activation="Clip", activation_params=[-0.7, 3.3]),
    "conv, hard": one("FusedConv", {k: CONV[k] for k in "xwb"}, **WINDOW, activation="HardSigmoid", activation_params=[0.2, 0.4]),
    "conv, hard swish": one("FusedConv", {k: CONV[k] for k in "xwb"}, **WINDOW, activation="HardSwish"),
    "matmul": one("FusedMatMul", {"a": (4, 3), "b": (5, 4)}, transA=1, transB=1, alpha=0.7),
    "matmul of stacks": one("FusedMatMul", {"a": (2, 4, 3), "b": (2, 5, 4)}, transA=1, transB=1, alpha=0.125),
    "matmul, batch first": one("FusedMatMul", {"a": (3, 2, 4), "b": (2, 4, 5)}, transBatchA=1, alpha=0.3),
    "matmul, both turned": one("FusedMatMul", {"a": (4, 2, 5), "b": (4, 2, 6)}, transBatchA=1, transBatchB=1, transA=1),
    "matmul of a vector": one("FusedMatMul", {"a": (4,), "b": (4, 5)}, transA=1, alpha=0.3),
    "transposed matmul": one("TransposeMatMul", {"a": (2, 3, 4), "b": (2, 5, 4)}, transB=1),
    "bias gelu": one("BiasGelu", {"a": (2, 6), "b": (6,)}),
    "fast gelu": one("FastGelu", {"x": (2, 6), "b": (6,)}),
    "fast gelu without bias": one("FastGelu", {"x": (2, 6)}),
    "gelu": one("Gelu", {"x": (2, 6)}),
    "quick gelu": one("QuickGelu", {"x": (2, 6)}),
    "quick gelu of an alpha": one("QuickGelu", {"x": (2, 6)}, alpha=0.5),
    **{
        f"gemm, {name}": one(
            "FusedGemm",
            {"a": (4, 3), "b": (4, 5), "c": (5,)},
            transA=1,
            alpha=0.7,
            beta=0.3,
            activation=name,
            **{f"activation_{key}": value for key, value in given.items()},
        )
        for name, given in {
            "Relu": {},
            "Tanh": {},
            "Sigmoid": {},
            "Softplus": {},
            "Softsign": {},
            "LeakyRelu": {"alpha": 0.1},
            "Elu": {"alpha": 0.7},
            "HardSigmoid": {"alpha": 0.25, "beta": 0.4},
            "Selu": {"alpha": 1.6, "gamma": 1.1},
        }.items()
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_certificates_hold(name: str) -> None:
    """onnxruntime's own kernel, and node by node in bf16 and fp8; the reference is what it computes but for rounding."""
    model = MODELS[name]
    fed = drawn({i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in model.graph.input})
    for options in ({"profile": "ort-cpu"}, {"dtype": "bf16"}, {"dtype": "fp8e5m2"}, {"dtype": "fp16", "accumulate": "fp16"}):
        certificate = certify.certify(model, data=fed, **options)  # type: ignore[arg-type]
        assert certificate.validation is not None
        assert certificate.validation.violations == ()
        assert certificate.validation.runs > 0
        if options == {"profile": "ort-cpu"}:
            assert "CPUExecutionProvider" in certificate.validation.runtime
            assert float(certificate.outputs["y"].absolute_bound.max()) < 1e-4


def test_regions_hold() -> None:
    for name in ("conv", "matmul, batch first", "bias gelu", "gemm, HardSigmoid"):
        certificate = certify.certify(MODELS[name], region=True, boxes=8, ranges=(-1.0, 1.0), samples=4)
        assert certificate.validation is not None
        assert certificate.validation.violations == ()


@pytest.mark.parametrize(
    "model",
    [
        one("FusedConv", {k: CONV[k] for k in "xw"}, **WINDOW, activation="Mish"),
        one("FusedConv", {k: CONV[k] for k in "xw"}, **WINDOW, activation="HardSwish", activation_params=[0.25, 0.375]),
        one("FusedConv", {k: CONV[k] for k in "xw"}, **WINDOW, activation="LeakyRelu"),
        one("FusedGemm", {"a": (4, 3), "b": (3, 5)}, activation="ScaledTanh", activation_alpha=1.0, activation_beta=1.0),
        one("FusedGemm", {"a": (4, 3), "b": (3, 5)}, activation="Elu"),
    ],
    ids=["Mish", "HardSwish", "LeakyRelu", "ScaledTanh", "Elu"],
)
def test_other_activations_are_refused_by_name(model: Any) -> None:
    with pytest.raises(Unsupported, match="activation"):
        certify.certify(model)
