"""Normalizations by something other than learned scales: LpNormalization, MeanVarianceNormalization, ReduceLogSumExp.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.delivery import Delivery
from certify.semantics.ops.reduction import reduced_axes
from certify.semantics.ops.thresholds import BOOL, zeros

Expanded = tuple[list[Primitive], dict[str, Array]]


def lp_normalization(e: Expansion, *, axis: int = -1, p: int = 2) -> Expanded:
    """x / (sum |x|^p)^(1/p) along one axis, 0 where that norm is 0. Raises UnsupportedOperator for p other than 1 and 2.

    Covers kernels that divide by the norm. Its smallest values underflow as squares do.
    """
    if p not in (1, 2):
        raise UnsupportedOperator(f"p = {p}; the standard has 1 and 2")
    x, y = e.operands[0], e.outputs[0] or e.name("output")
    along = {"axes": np.asarray([axis]), "keepdims": 1}
    if p == 1:
        norm = [Primitive("Abs", (x,), e.name("sizes")), Primitive("ReduceSum", (e.name("sizes"),), e.name("norm"), along)]
    else:
        norm = [
            Primitive("Mul", (x, x), e.name("squares")),
            Primitive("ReduceSum", (e.name("squares"),), e.name("total"), along),
            Primitive("Sqrt", (e.name("total"),), e.name("norm")),
        ]
    return [
        *norm,
        Primitive("Equal", (e.name("norm"), e.name("zero")), e.name("empty"), inner=False, like=BOOL),
        Primitive("Where", (e.name("empty"), e.name("one"), e.name("norm")), e.name("divisor")),
        Primitive("Div", (x, e.name("divisor")), e.name("quotient"), inner=False),
        zeros(e, ()),
        Primitive("Where", (e.name("empty"), e.name("zeros"), e.name("quotient")), y, inner=False),
    ], {e.name("zero"): np.zeros(()), e.name("one"): np.ones(())}


_EPSILON = float(np.float32(1e-9))


def _perhaps_without(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Any, *, summand: float) -> Array:
    """A kernel may leave out `summand`, which the function has added: it errs by that, and is stored."""
    off = np.full(magnitude.shape, summand)
    return add_up(off, arithmetic.round(add_up(magnitude, off)))


def mean_variance_normalization(e: Expansion, *, axes: Any = (0, 2, 3)) -> Expanded:
    """(x - mean) / (sqrt(variance) + 1e-9) over `axes`, the standard's function; its text, and onnxruntime, add no 1e-9: both are covered.

    The variance by any way that the profile leaves open, as in LayerNormalization.
    """
    x, y = e.operands[0], e.outputs[0] or e.name("output")
    rank = len(e.shapes[0])
    chosen = tuple(sorted({int(a) % rank for a in np.ravel(axes) if -rank <= int(a) < rank}))
    if not chosen:
        raise UnsupportedOperator(f"none of the axes {list(np.ravel(axes))} is one of an operand of rank {rank}")
    return [
        Primitive("Mean", (x,), e.name("mean"), {"axes": np.asarray(chosen), "keepdims": 1}, domain="certify"),
        Primitive("Variance", (x,), e.name("variance"), {"axes": chosen, "style": e.style("MeanVarianceNormalization")}, domain="certify"),
        Primitive("Sqrt", (e.name("variance"),), e.name("deviation")),
        Primitive("Add", (e.name("deviation"), e.name("epsilon")), e.name("raised")),
        Primitive("PerhapsWithout", (e.name("raised"),), e.name("divisor"), {"summand": _EPSILON}, domain="certify"),
        Primitive("Sub", (x, e.name("mean")), e.name("centred")),
        Primitive("Div", (e.name("centred"), e.name("divisor")), y, inner=False),
    ], {e.name("epsilon"): np.asarray(_EPSILON)}


def log_sum_exp(e: Expansion, *, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Expanded:
    """log sum exp x, shifted by m = max x or not: onnxruntime has kernels of both kinds, which kernel runs depends on the shape.

    The shifted kernel is m + log sum exp(x - m), in which m cancels to first order, whatever it is; the plain one may overflow, and is
    lost where its sum underflows. Over the reals both are f, and f = shifted + (plain - shifted again): whatever a kernel of one kind errs
    by is a deviation of its own term while the others have none, so that the bound of that sum holds for either.
    """
    x, y = e.operands[0], e.outputs[0] or e.name("output")
    shape = e.shapes[0]
    chosen = [k - 1 for k in reduced_axes(len(shape), axes, noop_with_empty_axes)]
    kept = {"axes": np.asarray(chosen, dtype=np.int64), "keepdims": 1, "noop_with_empty_axes": 1}
    result = tuple(1 if k in chosen else n for k, n in enumerate(shape) if keepdims or k not in chosen)

    def shifted(part: str) -> list[Primitive]:
        largest, total = e.name(f"{part} max"), e.name(part)
        return [
            Primitive("ReduceMax", (x,), largest, kept, inner=False),
            Primitive("Sub", (x, largest), f"{total} shifted"),
            Primitive("Exp", (f"{total} shifted",), f"{total} exponentials"),
            Primitive("ReduceSum", (f"{total} exponentials",), f"{total} sum", kept),
            Primitive("Log", (f"{total} sum",), f"{total} log"),
            Primitive("Add", (f"{total} log", largest), total, inner=False),
        ]

    plain = [
        Primitive("Exp", (x,), e.name("powers")),
        Primitive("ReduceSum", (e.name("powers"),), e.name("sum"), kept),
        Primitive("Log", (e.name("sum"),), e.name("plain"), inner=False),
    ]
    return [
        *shifted("one"),
        *plain,
        *shifted("again"),
        Primitive("Sub", (e.name("plain"), e.name("again")), e.name("difference")),
        Primitive("Add", (e.name("one"), e.name("difference")), e.name("total"), inner=False),
        Primitive("Reshape", (e.name("total"),), y, {"shape": np.asarray(result, dtype=np.int64), "allowzero": 1}, inner=False),
    ], {}


register(
    Delivery("PerhapsWithout", _perhaps_without),
    *(Composite("LpNormalization", since, ("input",), lp_normalization) for since in (1, 22)),
    *(Composite("MeanVarianceNormalization", since, ("X",), mean_variance_normalization) for since in (9, 13)),
    *(
        Composite(
            "ReduceLogSumExp",
            since,
            ("data", "axes") if since >= 18 else ("data",),
            log_sum_exp,
            static=frozenset({"axes"}) if since >= 18 else frozenset(),
        )
        for since in (1, 11, 13, 18)
    ),
)
