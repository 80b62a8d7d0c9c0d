"""The expansions of the norms, evaluated primitive by primitive, agree with onnx's reference implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from certify.semantics import ops  # noqa: F401 - registers the rules
from certify.semantics.contract import lookup
from certify.semantics.families.composite import Expansion
from tests.laws.reference import reference


@pytest.mark.parametrize("name", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"])
@pytest.mark.parametrize(("axes", "keepdims"), [(None, 1), ([1], 0), ([0, -1], 1)])
def test_expansion(name: str, axes: Any, keepdims: int) -> None:
    x = np.random.default_rng(4).uniform(0.5, 2.0, (2, 3, 4)) * (1.0 if name == "ReduceLogSum" else -1.0)
    static = {} if axes is None else {"axes": np.array(axes, dtype=np.int64)}
    composite: Any = lookup("", name, 18)
    expansion = Expansion("p", ("x",), (x.shape,), ("y",), {}, lambda kernel: "")
    primitives, constants = composite.expand(expansion, keepdims=keepdims, **static)
    assert not constants
    assert [p.inner for p in primitives] == [True] * (len(primitives) - 1) + [False]
    values = {"x": x[None]}
    for p in primitives:
        rule: Any = lookup("", p.name, p.opset)
        values[p.output] = rule.value(*(values[operand] for operand in p.operands if operand), **p.attributes)
    expected = reference(name, [x, static.get("axes")], {"keepdims": keepdims}, 18)
    np.testing.assert_allclose(values["y"][0], expected, rtol=1e-14)
