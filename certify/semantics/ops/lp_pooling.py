"""Norms over windows: LpPool, GlobalLpPool, and the p-th root of a sum of p-th powers.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families import scalar
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.critical import Curve, Function, Kink
from certify.semantics.families.pointwise import Pointwise

Expanded = tuple[list[Primitive], dict[str, Array]]


def _root_of(v: Any, order: int) -> Any:
    if order & (order - 1) == 0:
        for _ in range(order.bit_length() - 1):
            v = scalar._of_element("sqrt", v)
        return v
    return v if v == 0 else v ** (1 / (v * 0 + order))


def root(x: Any, order: int = 2) -> Any:
    """max(x, 0)^(1/order): a sum of powers is never negative, exact or computed, though its tube may be."""
    if scalar.is_object(x):
        return scalar.each(lambda v: _root_of(v, order), scalar.maximum(x, x * 0))
    with np.errstate(all="ignore"):
        return np.power(np.maximum(x, 0.0), 1.0 / order)


@lru_cache(maxsize=16)
def of_root(order: int = 2) -> Function:
    """The exponent's own rounding, 2^-53 relative, moves the value by at most |ln x| 2^-53 / order of itself."""
    e = 1.0 / order

    def margin(x: Array) -> Array:
        return 8.0 + np.abs(np.log(np.where(x > 0.0, x, 1.0))) / order

    return Function(
        Curve(lambda x: root(x, order), (0.0,), relative=margin, absolute=0.0, limits=(0.0, np.inf)),
        Curve(lambda x: np.where(x < 0.0, 0.0, e * np.power(np.maximum(x, 0.0), e - 1.0)), relative=lambda x: margin(x) * order),
        Curve(
            lambda x: np.where(x < 0.0, 0.0, e * (e - 1.0) * np.power(np.maximum(x, 0.0), e - 2.0)),
            relative=lambda x: 2.0 * margin(x) * order,
        ),
        kinks=(Kink(0.0, 0.0, np.inf),),
    )


def born_root(arithmetic: Arithmetic, kernel: str, reach: Enclosure, magnitude: Array, quantum: Array | float, order: int = 2) -> Array:
    """A power whose exponent 1/order (1 + t), |t| <= u, is stored first, or a square root.

    s^(e (1 + t)) - s^e = s^e (exp(e t ln s) - 1) is at most exp(750 e u) e u s^e |ln s| for s within float64's range, and with
    v = s^e: s^e |ln s| = order v |ln v| is at most order / e for v < 1 and order v ln v above.
    """
    if order & (order - 1) == 0:
        return arithmetic.elementary(kernel, magnitude)
    u = arithmetic.unit_roundoff
    with np.errstate(over="ignore", invalid="ignore"):
        growth = np.exp(750.0 * u / order)
        most = np.where(magnitude > 1.0, magnitude * np.log(np.maximum(magnitude, 1.0)), 0.0)
        off = inflate(growth * u * np.maximum(most, 0.36788), 16)
    off = np.where(np.isnan(off), np.inf, off)
    return add_up(off, arithmetic.elementary(kernel, add_up(magnitude, off)))


def _normed(e: Expansion, p: int, total: tuple[str, dict[str, Any], str]) -> Expanded:
    """(sum |x|^p)^(1/p), the sum by the primitive `total`. Covers kernels that take powers by a library function or by products."""
    if int(p) != p or p < 1:
        raise UnsupportedOperator(f"p = {p:g}")
    x, y = e.operands[0], e.outputs[0] or e.name("output")
    kind, attributes, domain = total
    steps = [Primitive("Abs", (x,), e.name("sizes"))]
    if p == 1:
        return [*steps, Primitive(kind, (e.name("sizes"),), y, attributes, inner=False, domain=domain)], {}
    return [
        *steps,
        Primitive("Pow", (e.name("sizes"),), e.name("powers"), {"exponent": float(p)}, domain="certify", opset=1),
        Primitive(kind, (e.name("powers"),), e.name("sums"), attributes, domain=domain),
        Primitive("Root", (e.name("sums"),), y, {"order": int(p)}, inner=False, domain="certify"),
    ], {}


def lp_pool(e: Expansion, *, p: int = 2, **attributes: Any) -> Expanded:
    """Padding counts as 0."""
    return _normed(e, p, ("WindowSum", attributes, "certify"))


def global_lp_pool(e: Expansion, *, p: int = 2) -> Expanded:
    """The norm of all places of each channel."""
    axes = np.arange(2, len(e.shapes[0]), dtype=np.int64)
    return _normed(e, p, ("ReduceSum", {"axes": axes, "keepdims": 1, "noop_with_empty_axes": 1}, ""))


register(
    Pointwise("Root", 1, root, of_root, kernel="pow", born=born_root, domain="certify"),
    *(Composite("LpPool", since, ("X",), lp_pool) for since in (2, 11, 18, 22)),
    *(Composite("GlobalLpPool", since, ("X",), global_lp_pool) for since in (2, 22)),
)
