"""Activation functions: one row each, and composites of Max and Min.

Turns and bends given as decimals are roots of the first, second and third derivative, found with mpmath to 60 digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate, mul_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.critical import Curve, Function, Kink
from certify.semantics.families.index_map import copied
from certify.semantics.families.pointwise import Pointwise, keep, selection
from certify.semantics.ops.elementary import LOOSE

_sigmoid = scalar.sigmoid


def _hill(x: Any) -> Any:
    """Sigmoid's derivative."""
    return _sigmoid(x) * _sigmoid(-x)


def _slant(x: Any) -> Any:
    """Sigmoid's second derivative."""
    return _hill(x) * (_sigmoid(-x) - _sigmoid(x))


_SLANT = Curve(_slant, (-1.3169578969248166, 1.3169578969248166), absolute=LOOSE, limits=(-0.1, 0.1))
SIGMOID = Function(Curve(_sigmoid, limits=(0.0, 1.0)), Curve(_hill, (0.0,), absolute=LOOSE, limits=(0.0, 0.25)), _SLANT, "+-", (0.0,))


# --- smooth relatives of relu ---


def softplus(x: Any) -> Any:
    return scalar.log1p(scalar.exp(-abs(x))) + scalar.maximum(x, 0)


SOFTPLUS = Function(
    Curve(softplus, relative=24.0, limits=(0.0, np.inf)),
    Curve(_sigmoid, limits=(0.0, 1.0)),
    Curve(_hill, (0.0,), absolute=LOOSE, limits=(0.0, 0.25)),
    "+",
)


def gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return x * _sigmoid(_gate(x))
    return x * scalar.erfc(-x / scalar.sqrt(x * 0 + 2)) / 2 if scalar.is_object(x) else x * scalar.erfc(x * -(0.5**0.5)) * 0.5


def _gate(x: Any) -> Any:
    """2 sqrt(2/pi) (x + 0.044715 x^3): tanh(v/2) = 2 sigmoid(v) - 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        if scalar.is_object(x):
            return scalar.sqrt(x * 0 + 8 / scalar.pi(x)) * (x + x * x * x * 44715 / 1000000)
        return (8 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)


def _density(x: Array) -> Array:
    return np.asarray(np.exp(-0.5 * x * x) * (2 * np.pi) ** -0.5)


def _tail_margin(x: Array) -> Array:
    """erfc's argument is off by an ulp or two, which its tail magnifies by x^2."""
    return np.where(x < 0.0, 16.0 + 2.0 * np.minimum(x * x, 4096.0), 16.0)


GELU = Function(
    Curve(gelu, (-0.7517915246935645,), relative=_tail_margin, absolute=2.0**-1010, limits=(-0.17, np.inf)),
    Curve(lambda x: 0.5 * scalar.erfc(x * -(0.5**0.5)) + x * _density(x), (-(2**0.5), 2**0.5), absolute=LOOSE, limits=(-0.13, 1.13)),
    Curve(lambda x: _density(x) * (2 - x * x), (-2.0, 0.0, 2.0), absolute=LOOSE, limits=(-0.11, 0.8)),
    "-+-",
    (-(2**0.5), 2**0.5),
)


def _gelu_tanh_slope(x: Array) -> Array:
    v = _gate(x)
    return np.asarray(_sigmoid(v) + x * _hill(v) * _gate_slope(x))


def _gate_slope(x: Array) -> Array:
    return np.asarray((8 / np.pi) ** 0.5 * (1 + 3 * 0.044715 * x * x))


def _gelu_tanh_bend(x: Array) -> Array:
    v, w = _gate(x), _gate_slope(x)
    return np.asarray(2 * _hill(v) * w + x * (_slant(v) * w * w + _hill(v) * (8 / np.pi) ** 0.5 * 6 * 0.044715 * x))


_GELU_TANH_BENDS = (-1.4185040087908283, 1.4185040087908283)
GELU_TANH = Function(
    Curve(
        lambda x: x * _sigmoid(_gate(x)),
        (-0.7524614220710163,),
        relative=lambda x: 16.0 + 8.0 * np.minimum(np.abs(_gate(x)), 800.0) * (x < 0.0),
        absolute=2.0**-1005,
        limits=(-0.171, np.inf),
    ),
    Curve(_gelu_tanh_slope, _GELU_TANH_BENDS, absolute=LOOSE, limits=(-0.14, 1.14)),
    Curve(_gelu_tanh_bend, (-2.013480724624258, 0.0, 2.013480724624258), absolute=LOOSE, limits=(-0.2, 0.9)),
    "-+-",
    _GELU_TANH_BENDS,
)


def of_gelu(approximate: str = "none") -> Function:
    return GELU_TANH if approximate == "tanh" else GELU


def swish(x: Any, alpha: float = 1.0) -> Any:
    return x * _sigmoid(alpha * x)


@lru_cache(maxsize=16)
def of_swish(alpha: float = 1.0) -> Function:
    """x sigmoid(alpha x) = S(alpha x) / alpha. Raises UnsupportedOperator unless alpha > 0."""
    if not alpha > 0.0:
        raise UnsupportedOperator(f"Swish with alpha = {alpha}")
    bends = (-2.3993572805154675 / alpha, 2.3993572805154675 / alpha)
    steep = LOOSE * max(alpha, 1.0)
    return Function(
        Curve(
            lambda x: swish(x, alpha),
            (-1.2784645427610737 / alpha,),
            relative=lambda x: 16.0 + 4.0 * np.minimum(np.abs(alpha * x), 800.0) * (x < 0.0),
            absolute=2.0**-1005 * max(1.0, 1.0 / alpha),
            limits=(-0.279 / alpha, np.inf),
        ),
        Curve(lambda x: _sigmoid(alpha * x) + alpha * x * _hill(alpha * x), bends, absolute=LOOSE, limits=(-0.1, 1.1)),
        Curve(
            lambda x: alpha * (2 * _hill(alpha * x) + alpha * x * _slant(alpha * x)),
            (-3.435840993535111 / alpha, 0.0, 3.435840993535111 / alpha),
            absolute=steep,
            limits=(-0.1 * alpha, 0.51 * alpha),
        ),
        "-+-",
        bends,
    )


def born_swish(
    arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, alpha: float = 1.0
) -> Array:
    """The kernel's accuracy, which is said of alpha = 1: S_alpha(x) = S(alpha x) / alpha, and so its absolute error is 1/alpha of that.

    It is x times the error of a sigmoid whose tail is lost at alpha x = -17; the larger of both holds for alpha > 1 too.
    """
    plain = arithmetic.elementary(kernel, magnitude)
    return plain if alpha >= 1.0 else np.maximum(plain, inflate(arithmetic.elementary(kernel, mul_up(alpha, magnitude)) / alpha, 1))


def mish(x: Any) -> Any:
    if scalar.is_object(x):
        return x * scalar.tanh(scalar.log1p(scalar.exp(x)))
    return x * _mish_gate(x)[0]


def _mish_gate(x: Array) -> tuple[Array, Array]:
    """T = tanh(softplus(x)) and 1 - T^2 without cancellation: T = n / (n + 2), n = e^x (e^x + 2)."""
    w = np.exp(-np.abs(x))
    up = np.where(x > 0, 1 + 2 * w, w * w + 2 * w)
    below = np.where(x > 0, 1 + 2 * w + 2 * w * w, w * w + 2 * w + 2)
    rest = np.where(x > 0, 4 * w * w * (1 + w) ** 2, 4 * (1 + w) ** 2) / below**2
    return up / below, rest


def _mish_slope(x: Array) -> Array:
    gate, rest = _mish_gate(x)
    return np.asarray(gate + x * rest * _sigmoid(x))


def _mish_bend(x: Array) -> Array:
    gate, rest = _mish_gate(x)
    first = rest * _sigmoid(x)
    second = rest * _hill(x) - 2 * gate * first * _sigmoid(x)
    return np.asarray(2 * first + x * second)


_MISH_BENDS = (-2.256376396360793, 1.4905711794854284)
MISH = Function(
    Curve(mish, (-1.1924312145154952,), relative=40.0, absolute=2.0**-1005, limits=(-0.31, np.inf)),
    Curve(_mish_slope, _MISH_BENDS, absolute=LOOSE, limits=(-0.12, 1.1)),
    Curve(_mish_bend, (-3.2673378465204044, -0.08793443131491421, 2.114842563020877), absolute=LOOSE, limits=(-0.2, 0.7)),
    "-+-",
    _MISH_BENDS,
)


# --- kinked ---

RELU = Function(
    Curve(lambda x: np.maximum(x, 0.0), relative=0.0, absolute=0.0),
    Curve(lambda x: np.where(x > 0, 1.0, 0.0), relative=0.0, absolute=0.0),
    None,
    "00",
    (0.0,),
    (Kink(0.0, 0.0, 1.0),),
)


_LEAK = float(np.float32(0.01))  # ONNX attributes are float32


def leaky(x: Any, alpha: float = _LEAK) -> Any:
    return scalar.maximum(x, 0) + alpha * scalar.minimum(x, 0)


@lru_cache(maxsize=16)
def of_leaky(alpha: float = _LEAK) -> Function:
    return Function(
        Curve(lambda x: leaky(x, alpha), (0.0,), lambda x: np.where(x < 0, 2.0, 0.0), lambda x: np.where(x < 0, 2.0**-1074, 0.0)),
        Curve(lambda x: np.where(x > 0, 1.0, alpha), relative=0.0, absolute=0.0),
        None,
        "00",
        (0.0,),
        (Kink(0.0, alpha, 1.0),),
    )


def born_leaky(
    arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, alpha: float = _LEAK
) -> Array:
    """x > 0 is copied, perhaps into a narrower format.

    Otherwise fl(fl(alpha) x): alpha stored like the result, which is exact where it fits, then one product.
    """
    negative = np.maximum(-reach.lo, 0.0)
    wrong = mul_up(arithmetic.round(np.abs(np.float64(alpha)), _lowest_bit(alpha)), negative)
    product = add_up(mul_up(abs(alpha), negative), wrong)
    kept = np.where(reach.hi > 0.0, copied(arithmetic, magnitude, [quantum]), 0.0)
    return np.where(negative > 0.0, np.maximum(kept, add_up(wrong, arithmetic.round(product))), kept)


def _lowest_bit(x: float) -> float:
    """The largest power of two that divides x, 0 for 0."""
    numerator, denominator = float(x).as_integer_ratio()
    return float(numerator & -numerator) / denominator


HARD_SWISH = Function(
    Curve(lambda x: hard_swish(x), (-1.5,), relative=4.0, absolute=2.0**-1020, limits=(-0.375, np.inf)),
    Curve(lambda x: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5)), absolute=LOOSE, limits=(-0.5, 1.5)),
    Curve(lambda x: np.where(np.abs(x) < 3, 1 / 3, 0.0), limits=(0.0, 0.34)),
    "0+0",
    (-3.0, 3.0),
    (Kink(-3.0, 0.0, -0.5), Kink(3.0, 1.5, 1.0)),
)


def hard_swish(x: Any) -> Any:
    return x * scalar.minimum(scalar.maximum(x + 3, 0), 6) / 6


def _exponential_left(value: Any, alpha: float, rate: float, gain: float) -> Function:
    """gain * x for x > 0, gain * alpha (e^(rate x) - 1) below."""
    left = gain * alpha * rate

    def slope(x: Array) -> Array:
        return np.where(x > 0, gain, left * np.exp(rate * np.minimum(x, 0.0)))

    def bend(x: Array) -> Array:
        return np.where(x > 0, 0.0, left * rate * np.exp(rate * np.minimum(x, 0.0)))

    margin = 16.0
    return Function(
        Curve(value, (0.0,), relative=lambda x: 16.0 + 0.0 * x, absolute=2.0**-1005 * (1 + abs(gain * alpha))),
        Curve(slope, relative=lambda x: margin + 4 * np.minimum(rate * np.abs(x), 800.0)),
        Curve(bend, relative=lambda x: margin + 4 * np.minimum(rate * np.abs(x), 800.0)),
        ("+" if left > 0 else "-" if left < 0 else "0") + "0",
        (0.0,),
        (Kink(0.0, left, gain),),
    )


def born_elu(
    arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, alpha: float = 1.0, gamma: float = 1.0
) -> Array:
    """The profile's word is for results up to about 1; kernels multiply expm1, or exp less 1, by alpha and gamma, and its error with it."""
    scale = abs(alpha) * max(abs(gamma), 1.0)
    _, absolute = arithmetic.accuracy(kernel)
    return add_up(arithmetic.elementary(kernel, magnitude), mul_up(max(scale - 1.0, 0.0), absolute))


def elu(x: Any, alpha: float = 1.0) -> Any:
    return scalar.maximum(x, 0) + alpha * scalar.expm1(scalar.minimum(x, 0))


def selu(x: Any, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Any:
    return gamma * elu(x, alpha)


def celu(x: Any, alpha: float = 1.0) -> Any:
    return scalar.maximum(x, 0) + alpha * scalar.expm1(scalar.minimum(x, 0) / alpha)


@lru_cache(maxsize=16)
def of_elu(alpha: float = 1.0) -> Function:
    return _exponential_left(lambda x: elu(x, alpha), alpha, 1.0, 1.0)


@lru_cache(maxsize=16)
def of_selu(alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Function:
    return _exponential_left(lambda x: selu(x, alpha, gamma), alpha, 1.0, gamma)


@lru_cache(maxsize=16)
def of_celu(alpha: float = 1.0) -> Function:
    """Raises UnsupportedOperator unless alpha > 0."""
    if not alpha > 0.0:
        raise UnsupportedOperator(f"Celu with alpha = {alpha}")
    return _exponential_left(lambda x: celu(x, alpha), alpha, 1.0 / alpha, 1.0)


SOFTSIGN = Function(
    Curve(lambda x: x / (1 + np.abs(x)), relative=4.0, limits=(-1.0, 1.0)),
    Curve(lambda x: (1 + np.abs(x)) ** -2.0, (0.0,), absolute=LOOSE, limits=(0.0, 1.0)),
    Curve(lambda x: -2 * np.sign(x) * (1 + np.abs(x)) ** -3.0, absolute=LOOSE, limits=(-2.0, 2.0)),
    "+-",
    (0.0,),
    (Kink(0.0, 1.0, 1.0),),
)


# --- composites of Max and Min ---

Parts = tuple[Sequence[Primitive], dict[str, Array]]


def hard_sigmoid(e: Expansion, alpha: float = float(np.float32(0.2)), beta: float = 0.5) -> Parts:
    """max(0, min(1, alpha x + beta))."""
    constants = {e.name(k): np.asarray(v, dtype=np.float64) for k, v in (("a", alpha), ("b", beta), ("zero", 0.0), ("one", 1.0))}
    y = e.outputs[0]
    assert y is not None
    return [
        Primitive("Mul", (e.operands[0], e.name("a")), e.name("scaled")),
        Primitive("Add", (e.name("scaled"), e.name("b")), e.name("line")),
        Primitive("Min", (e.name("line"), e.name("one")), e.name("low")),
        Primitive("Max", (e.name("low"), e.name("zero")), y, inner=False),
    ], constants


def prelu(e: Expansion) -> Parts:
    """max(x, 0) + slope min(x, 0). Raises UnsupportedOperator for a slope of more axes or elements than x."""
    x, slope, y = e.operands[0], e.operands[1], e.outputs[0]
    assert y is not None
    try:
        fits = np.broadcast_shapes(e.shapes[0], e.shapes[1]) == e.shapes[0]
    except ValueError:
        fits = False
    if not fits:
        raise UnsupportedOperator(f"a slope shaped {e.shapes[1]} for an operand shaped {e.shapes[0]}")
    return [
        Primitive("Max", (x, e.name("zero")), e.name("positive")),
        Primitive("Min", (x, e.name("zero")), e.name("negative")),
        Primitive("Mul", (slope, e.name("negative")), e.name("scaled")),
        Primitive("Add", (e.name("positive"), e.name("scaled")), y, inner=False),
    ], {e.name("zero"): np.zeros(())}


register(
    Pointwise("Relu", 6, lambda x: scalar.maximum(x, 0), lambda: RELU, born=selection, divisor=keep, least=lambda low: max(low, 0.0)),
    Pointwise("LeakyRelu", 6, leaky, of_leaky, born=born_leaky),
    Composite("PRelu", 7, ("X", "slope"), prelu),
    Composite("HardSigmoid", 6, ("X",), hard_sigmoid),
    Pointwise("HardSwish", 14, hard_swish, lambda: HARD_SWISH),
    Pointwise("Sigmoid", 6, _sigmoid, lambda: SIGMOID),
    Pointwise("Softplus", 1, softplus, lambda: SOFTPLUS),
    Pointwise("Gelu", 20, gelu, of_gelu),
    Pointwise("Swish", 24, swish, of_swish, born=born_swish),
    Pointwise("Mish", 18, mish, lambda: MISH),
    Pointwise("Elu", 6, elu, of_elu, born=born_elu),
    Pointwise("Selu", 6, selu, of_selu, born=born_elu),
    Pointwise("Celu", 12, celu, of_celu, born=born_elu),
    Pointwise("Softsign", 1, lambda x: x / (1 + abs(x)), lambda: SOFTSIGN),
)
