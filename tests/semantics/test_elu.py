"""Elu with a large alpha: kernels multiply the error of their exponential with it."""

from __future__ import annotations

import numpy as np
import pytest

import certify
from tests.graph.build import parsed


@pytest.mark.parametrize("operator", ["Elu", "Celu"])
@pytest.mark.parametrize("alpha", [0.5, 30.0, 3000.0])
def test_the_error_grows_with_alpha(operator: str, alpha: float) -> None:
    x = -np.geomspace(1e-9, 80.0, 4000, dtype=np.float32)
    model = parsed(f"g (float[4000] x) => (float[4000] y) {{ y = {operator}<alpha = {alpha}>(x) }}")
    found = certify.certify(model, data={"x": x})
    assert found.validation is not None
    assert found.validation.runs > 0
    assert not found.validation.violations
    # exp less 1, then the product: off by up to 2 u of 1 and by what the exponential errs
    argument = x.astype(np.float64) / (alpha if operator == "Celu" else 1.0)
    naive = np.float32(alpha) * (np.exp(argument.astype(np.float32)) - np.float32(1.0))
    assert (np.abs(naive.astype(np.float64) - found.outputs["y"].reference[0]) <= found.outputs["y"].absolute_bound[0]).all()
