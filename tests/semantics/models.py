"""Models of one node, and what becomes of claims about them: certified, attacked by hostile kernels, none of them refuted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from tests.random_claims import Claim, outcome

FORMATS = ((None, "wide"), ("bf16", "wide"), ("fp16", "ieee"), ("fp8e5m2", "wide"))


def one_node(
    kind: str,
    inputs: Mapping[str, Any],
    attributes: Mapping[str, Any],
    opset: int,
    constants: Mapping[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    order: tuple[str, ...] | None = None,
    integral: tuple[int, ...] = (),
) -> ModelProto:
    """float64 inputs are declared float32. order: operand names, "" for an absent one. integral: outputs that are int64."""
    constants = constants or {}
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, list(order or (*inputs, *constants)), names, domain=domain, **attributes)
    single = {n: np.asarray(x, dtype=np.float32) if np.asarray(x).dtype == np.float64 else np.asarray(x) for n, x in inputs.items()}
    declared = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in single.items()]
    fixed = [numpy_helper.from_array(np.asarray(x), n) for n, x in constants.items()]
    results = [helper.make_tensor_value_info(n, 7 if i in integral else 1, None) for i, n in enumerate(names)]
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(helper.make_graph([node], "g", declared, results, fixed), opset_imports=opsets, ir_version=10)


def attacked(model: ModelProto, points: Mapping[str, Any], formats: Any = FORMATS, region: bool = False) -> dict[str | None, str]:
    """What came of the claim in each format; raises AssertionError for a violation, a crash or a NaN."""
    found = {}
    held = {n: np.asarray(x, dtype=np.float32) if np.asarray(x).dtype == np.float64 else np.asarray(x) for n, x in points.items()}
    for dtype, profile in formats:
        came = outcome(model, {n: x[None] for n, x in held.items()}, Claim(dtype, None, profile, "any", "auto", region))
        assert not came.is_defect, (dtype, profile, came.text)
        found[dtype] = came.kind
    return found
