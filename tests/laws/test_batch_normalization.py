"""Laws of BatchNormalization at inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.ops import batch_normalization  # noqa: F401 - registers the rule
from tests.laws.kit import check_rule
from tests.laws.reference import runtime

rng = np.random.default_rng(2)
SCALE, BIAS, MEAN, VARIANCE = (
    np.array([1.5, -0.25, 0.0]),
    np.array([0.5, 0.0, 3.0]),
    np.array([0.25, -1.0, 2.0]),
    np.array([0.5, 2.0, 1e-3]),
)
PARAMETERS = tuple((v, v) for v in (SCALE, BIAS, MEAN, VARIANCE))
EPSILON = float(np.float32(1e-3))


def oracle(x: Any, scale: Any, b: Any, mean: Any, var: Any, epsilon: float) -> Any:
    y = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        c = index[1]
        y[index] = scale[c] * (x[index] - mean[c]) / mp.sqrt(var[c] + mpf(epsilon)) + b[c]
    return y


def kernel(machine: Any, x: Any, scale: Any, b: Any, mean: Any, var: Any, epsilon: float) -> Any:
    """Folded or direct, by the machine's own dice."""
    inner = machine.accumulator
    fl = inner.fl
    form = int(machine.rng.integers(3))
    y = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        c = index[1]
        root = fl(mp.sqrt(fl(var[c] + fl(mpf(epsilon)))))
        slope = fl(scale[c] * fl(1 / root)) if form else fl(scale[c] / root)
        if form == 2:
            y[index] = fl(fl(fl(fl(x[index] - mean[c]) * fl(1 / root)) * scale[c]) + b[c])
        elif form == 1:
            y[index] = fl(fl(fl(x[index] - mean[c]) * slope) + b[c])
        else:
            y[index] = fl(fl(x[index] * slope) + fl(b[c] - fl(mean[c] * slope)))
    return machine.fl(y)


def test_laws() -> None:
    lo = rng.normal(size=(1, 3, 2))
    hard = np.array([[[0.0, -0.0], [2.0**-1074, 2.0**900], [0.1, 2.0]]])
    check_rule(
        lookup("", "BatchNormalization", 6),
        [((lo, lo + 0.5 * rng.integers(0, 2, lo.shape)), *PARAMETERS)],
        [(hard, SCALE, BIAS, MEAN, VARIANCE), (np.array([[0.3, 0.1, 0.2], [1.0, -1.0, 2.0]]), SCALE, BIAS, MEAN, VARIANCE)],
        oracle=oracle,
        kernel=kernel,
        attributes={"epsilon": EPSILON},
        constant=(1, 2, 3, 4),
    )


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 3, 2, 2)], ids=str)
def test_values(shape: tuple[int, ...]) -> None:
    x = rng.normal(size=shape)
    got = lookup("", "BatchNormalization", 6).value(*(v[None] for v in (x, SCALE, BIAS, MEAN, VARIANCE)), epsilon=EPSILON)[0]
    expected = runtime("BatchNormalization", [x, SCALE, BIAS, MEAN, VARIANCE], {"epsilon": EPSILON}, 15)
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=1e-6)


def test_training_is_refused() -> None:
    rule = lookup("", "BatchNormalization", 6)
    with pytest.raises(UnsupportedOperator, match="training_mode"):
        rule.value(*(np.ones((1, 1, 1)), *(np.ones((1, 1)),) * 4), training_mode=1)
