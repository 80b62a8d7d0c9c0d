"""`value` of the arithmetic rules on balls of 256 bits (arb) lies within `enclose`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flint import arb, ctx

from certify.number.enclosure import Enclosure
from certify.semantics import ops  # noqa: F401 - registers the rules
from certify.semantics.contract import lookup

rng = np.random.default_rng(17)


def x(*shape: int) -> Any:
    return rng.normal(size=(1, *shape))


CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("MatMul", [x(2, 3, 4), x(4, 2)], {}),
    ("MatMul", [x(4), x(2, 4, 3)], {}),
    ("Gemm", [x(4, 3), x(2, 4), x(2)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 3.0}),
    ("Conv", [x(1, 4, 5, 5), x(4, 2, 3, 3), x(4)], {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("Conv", [x(1, 3, 5), x(3, 1, 3)], {"group": 3, "pads": [1, 1]}),
    ("ConvTranspose", [x(1, 4, 3, 3), x(4, 2, 2, 2), x(2)], {"strides": [2, 2]}),
    ("Einsum", [x(2, 3), x(3, 2)], {"equation": "ij,ji->i"}),
    ("Einsum", [x(3, 3)], {"equation": "ii->i"}),
    ("AveragePool", [x(1, 2, 5)], {"kernel_shape": [3], "pads": [1, 1]}),
    ("GlobalAveragePool", [x(1, 2, 5, 3)], {}),
    ("ReduceMean", [x(2, 3)], {"axes": [1]}),
    ("ReduceSum", [x(2, 3)], {"axes": [0]}),
    ("CumSum", [x(2, 3)], {"axis": 1, "exclusive": 1}),
    ("BatchNormalization", [x(2, 3, 4), x(3), x(3), x(3), np.abs(x(3))], {"epsilon": 1e-5}),
    ("Add", [x(2, 3), x(3)], {}),
    ("Sub", [x(3), x(2, 3)], {}),
    ("Mul", [x(2, 3), x(3)], {}),
    ("Div", [x(2, 3), x(3)], {}),
    ("Sum", [x(2, 3), x(3), x(1)], {}),
    ("Mean", [x(2, 3), x(3), x(1)], {}),
]


@pytest.mark.parametrize(("name", "operands", "attributes"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_balls(name: str, operands: list[Any], attributes: dict[str, Any]) -> None:
    rule: Any = lookup("", name, {"BatchNormalization": 6, "Einsum": 11}.get(name, 14))
    with ctx.workprec(256):
        balls = rule.value(*(np.vectorize(lambda v: arb(float(v)), otypes=[object])(a) for a in operands), **attributes)
        Y = rule.enclose(tuple(Enclosure.point(a) for a in operands), **attributes)
        assert balls.shape == Y.shape == rule.value(*operands, **attributes).shape
        for ball, lo, hi in zip(balls.flat, Y.lo.flat, Y.hi.flat, strict=True):
            assert arb(float(lo)) <= ball <= arb(float(hi))
