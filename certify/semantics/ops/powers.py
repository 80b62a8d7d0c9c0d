"""Pow of floats: by constant exponents of every kind, and by exponents that depend on data for positive bases.

Source: https://onnx.ai/onnx/operators/onnx__Pow.html. Before opset 7 broadcasting was another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.semantics.contract import register
from certify.semantics.families.composite import Composite, Expansion, Primitive

Expanded = tuple[list[Primitive], dict[str, Any]]
_MOST = 16  # different exponents that are worth a power each


def raised(e: Expansion) -> Expanded:
    """x^y: `certify::Pow` for each of a few constant exponents that the runtime holds as they are, else exp(y log x), for x > 0 alone.

    The latter covers a kernel whose power is within the accuracy of exp: its parts' errors only add to that of the last.
    """
    x, y = e.operands[0], e.operands[1]
    output = e.outputs[0] or e.name("output")
    distinct = _exponents(e)
    if distinct is not None:
        return _chosen(e, output, distinct)
    log, product = e.name("log"), e.name("product")
    return [
        Primitive("Log", (x,), log),
        Primitive("Mul", (log, y), product),
        Primitive("Exp", (product,), output, inner=False),
    ], {}


def _exponents(e: Expansion) -> list[float] | None:
    """The different constant exponents, if there are few and the runtime holds each exactly."""
    exact = e.constants.get("Y")
    if exact is None or exact.size == 0 or not np.isfinite(exact).all():
        return None
    held = e.stored.get("Y", exact)
    distinct = [float(p) for p in np.unique(exact)]
    return distinct if np.array_equal(exact, held) and len(distinct) <= _MOST else None


def _chosen(e: Expansion, output: str, distinct: Sequence[float]) -> Expanded:
    """One power for each exponent, and for each element the one that it asks for; what is not asked for may have no value."""
    x, exponents = e.operands[0], e.constants["Y"]
    alone = len(distinct) == 1 and exponents.ndim <= len(e.shapes[0]) and np.broadcast_shapes(exponents.shape, e.shapes[0]) == e.shapes[0]
    steps, constants = [], {}
    current = ""
    for i, p in enumerate(distinct):
        power = output if alone else e.name(f"power {i}")
        steps.append(Primitive("Pow", (x,), power, {"exponent": p}, inner=False, domain="certify", opset=1))
        if i:
            mask, chosen = e.name(f"asked {i}"), output if i == len(distinct) - 1 else e.name(f"chosen {i}")
            constants[mask] = (exponents == p).astype(np.int64)
            steps.append(Primitive("Where", (mask, power, current), chosen, inner=False))
            power = chosen
        current = power
    if len(distinct) == 1 and not alone:
        shape = np.broadcast_shapes(exponents.shape, e.shapes[0])
        steps.append(Primitive("Expand", (current,), output, {"shape": np.asarray(shape, dtype=np.int64)}, inner=False))
    return steps, constants


register(Composite("Pow", 7, ("X", "Y"), raised))
