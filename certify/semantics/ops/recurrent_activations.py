"""The activations that RNN, LSTM and GRU may name, in primitives, with the next of their alphas and betas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.pointwise import Pointwise
from certify.semantics.ops.activations import SOFTPLUS, softplus
from certify.semantics.ops.elementary import TANH

Put = Callable[..., str]
Constant = Callable[[float], str]

# How many of (alpha, beta) each takes, and their defaults. None: ONNX and onnxruntime have different ones, or ONNX has none.
_TAKEN: dict[str, tuple[float | None, ...]] = {
    "relu": (),
    "tanh": (),
    "sigmoid": (),
    "softsign": (),
    "softplus": (),
    "leakyrelu": (0.009999999776482582,),
    "thresholdedrelu": (None,),
    "elu": (1.0,),
    "affine": (None, None),
    "scaledtanh": (None, None),
    "hardsigmoid": (0.20000000298023224, 0.5),
}
_PLAIN = {"relu": "Relu", "sigmoid": "Sigmoid", "softsign": "Softsign"}
_OWN = {"softplus": "Softplus", "tanh": "Tanh"}  # kernels of recurrent layers that are less accurate than the operators of that name


@dataclass(frozen=True)
class Activation:
    """One of them, its parameters known."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def apply(self, put: Put, constant: Constant, x: str) -> str:
        """The name of its value at x."""
        if self.name in _PLAIN:
            return put(_PLAIN[self.name], x)
        if self.name in _OWN:
            return put(_OWN[self.name], x, domain="certify")
        return _WRITTEN[self.name](self, put, constant, x)


def _line(a: Activation, put: Put, constant: Constant, x: str) -> str:
    """alpha x + beta."""
    return put("Add", put("Mul", x, constant(a.alpha)), constant(a.beta))


def _hard_sigmoid(a: Activation, put: Put, constant: Constant, x: str) -> str:
    return put("Max", put("Min", _line(a, put, constant, x), constant(1.0)), constant(0.0))


def _scaled_tanh(a: Activation, put: Put, constant: Constant, x: str) -> str:
    """alpha tanh(beta x)."""
    return put("Mul", put("Tanh", put("Mul", x, constant(a.beta)), domain="certify"), constant(a.alpha))


def _leaky(a: Activation, put: Put, constant: Constant, x: str) -> str:
    return put("LeakyRelu", x, alpha=a.alpha)


def _thresholded(a: Activation, put: Put, constant: Constant, x: str) -> str:
    """x where x >= alpha, 0 elsewhere."""
    return put("Where", put("GreaterOrEqual", x, constant(a.alpha)), x, constant(0.0))


def _elu(a: Activation, put: Put, constant: Constant, x: str) -> str:
    """max(x, 0) + alpha min(elu(x), 0): kernels form alpha (exp(x) - 1), whose error grows with alpha."""
    if a.alpha == 1.0:
        return put("Elu", x)
    below = put("Mul", put("Min", put("Elu", x), constant(0.0)), constant(a.alpha))
    return put("Add", put("Max", x, constant(0.0)), below)


def born_softplus(arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float) -> Array:
    """max(x, 0) + log(1 + w), w = exp(-|x|) <= 1: rounding 1 + w leaves no digit of a small w, an error that is absolute.

    w is off by exp's error e, 1 + w rounds by at most u (2 + e), and log's slope is at most 1 from 1 on (the computed sum is at least
    1, since 1 is a number and w^ is not negative); then log's own error, the addition's, and the store. w <= log(1 + w) / log(2), so that w
    is at most 1.5 of the result.
    """
    u, (by_exp, least), (by_log, little) = arithmetic.unit_roundoff, arithmetic.accuracy("exp"), arithmetic.accuracy("log")
    off = add_up(mul_up(by_exp, np.minimum(mul_up(1.5, magnitude), 1.0)), least)
    off = add_up(off, mul_up(u, add_up(2.0, off)))
    off = add_up(off, mul_up(by_log, add_up(np.minimum(magnitude, 0.7), off)), little)
    off = add_up(off, mul_up(u, add_up(magnitude, off)))
    return add_up(off, arithmetic.round(add_up(magnitude, off)))


_WRITTEN: dict[str, Callable[[Activation, Put, Constant, str], str]] = {
    "affine": _line,
    "hardsigmoid": _hard_sigmoid,
    "scaledtanh": _scaled_tanh,
    "leakyrelu": _leaky,
    "thresholdedrelu": _thresholded,
    "elu": _elu,
}


def activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> tuple[Activation, ...]:
    """The activations of these names (their case does not matter), each taking the next alpha and the next beta if it has one.

    Raises UnsupportedOperator for an unknown name, for too many or too few parameters, and where a default is not agreed upon.
    """
    for name in names:
        if name.lower() not in _TAKEN:
            raise UnsupportedOperator(f"its activation {name!r}")
    given = tuple(map(float, alphas or ())), tuple(map(float, betas or ()))
    for k, values in enumerate(given):
        takers = sum(len(_TAKEN[name.lower()]) > k for name in names)
        if values and len(values) != takers:
            raise UnsupportedOperator(f"{len(values)} values of activation_{('alpha', 'beta')[k]} for {takers} activations that take one")
    left = [list(values) for values in given]
    found = []
    for name in names:
        taken = [left[k].pop(0) if left[k] else default for k, default in enumerate(_TAKEN[name.lower()])]
        if None in taken:
            raise UnsupportedOperator(f"activation {name!r} without its alpha or beta, for which there is no common default")
        found.append(Activation(name.lower(), *(v for v in taken if v is not None)))
    return tuple(found)


register(
    Pointwise("Softplus", 1, softplus, lambda: SOFTPLUS, born=born_softplus, domain="certify"),
    Pointwise("Tanh", 1, scalar.tanh, lambda: TANH, kernel="tanh of a cell", domain="certify"),
)
