"""Laws of the averaging pools, and their values against onnxruntime on all combinations of attributes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS
from certify.profiles import profile_named
from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.ops import pooling  # noqa: F401 - registers the rules
from tests.laws.kit import check_rule
from tests.laws.reference import runtime

rng = np.random.default_rng(5)
LO = rng.normal(size=(1, 2, 5))
BOX = ((LO, LO + 0.25 * rng.integers(0, 2, LO.shape)),)
HARD = [
    (np.array([[[0.0, -0.0, 2.0**-1074, 2.0**-1022, 1.0], [2.0**53, 1.0, -(2.0**53), 0.1, 0.2]]]),),
    (np.array([[[2.0**1000, 2.0**1000, -(2.0**1000), 1.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0]]]),),
]


def groups(x: Any, kernel_shape: Any, strides: Any, pads: Any, dilations: Any, count_include_pad: int = 0, ceil_mode: int = 0) -> Any:
    """For each window of a 1-D pool its elements inside and its divisor, from the definition."""
    extent, (k,), (s,), (d,) = x.shape[-1], kernel_shape, strides, dilations
    free = extent + sum(pads) - ((k - 1) * d + 1)
    count = (-(-free // s) if ceil_mode else free // s) + 1
    if ceil_mode and (count - 1) * s >= extent + pads[0]:
        count -= 1
    for n, c, p in itertools.product(*(range(m) for m in x.shape[:2]), range(count)):
        places = [p * s + t * d - pads[0] for t in range(k)]
        inside = [x[n, c, q] for q in places if 0 <= q < extent]
        padded = [q for q in places if -pads[0] <= q < extent + pads[1]]
        yield (n, c, p), count, inside, len(padded) if count_include_pad else len(inside)


def oracle(x: Any, **attributes: Any) -> Any:
    return _pooled(x, attributes, lambda inside, divisor: sum(inside, start=mpf(0)) / max(divisor, 1))


def _pooled(x: Any, attributes: dict[str, Any], average: Any) -> Any:
    out = None
    for where, count, inside, divisor in groups(x, **attributes):
        out = np.empty((*x.shape[:2], count), dtype=object) if out is None else out
        out[where] = average(inside, divisor)
    return out


def kernel(machine: Any, x: Any, **attributes: Any) -> Any:
    def average(inside: Any, divisor: int) -> Any:
        total = machine.accumulator.fl_sum(np.array(inside, dtype=object)[None])[0]
        return machine.fl(machine.accumulator.fl(total / divisor))

    return _pooled(x, attributes, average)


ATTRIBUTES = [
    {"kernel_shape": [2], "strides": [2], "pads": [0, 0], "dilations": [1]},
    {"kernel_shape": [3], "strides": [1], "pads": [1, 1], "dilations": [1], "count_include_pad": 1},
    {"kernel_shape": [3], "strides": [2], "pads": [1, 0], "dilations": [1], "ceil_mode": 1},
    {"kernel_shape": [2], "strides": [1], "pads": [1, 1], "dilations": [2]},
]


@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=str)
def test_average_pool(attributes: dict[str, Any]) -> None:
    rule = lookup("", "AveragePool", 22)
    check_rule(rule, [BOX], HARD, oracle=oracle, kernel=kernel, attributes=attributes, radii=(0.0, 2.0**-10, 1.5))


def test_global_average_pool() -> None:
    attributes = {"kernel_shape": [5], "strides": [1], "pads": [0, 0], "dilations": [1]}
    check_rule(
        lookup("", "GlobalAveragePool", 22),
        [BOX],
        HARD,
        oracle=lambda x: oracle(x, **attributes),
        kernel=lambda machine, x: kernel(machine, x, **attributes),
        radii=(0.0, 2.0**-10, 1.5),
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_average_pool_values(rank: int) -> None:
    x = 720.0 * rng.integers(-4, 5, (2, 3, *(7, 6, 5)[:rank]))
    pads: list[dict[str, Any]] = [{}, {"pads": [1] * rank + [0] * rank}, *({"auto_pad": m} for m in ("SAME_UPPER", "SAME_LOWER", "VALID"))]
    for pad, stride, include, ceil, dilation in itertools.product(pads, (1, 2, 3), (0, 1), (0, 1), (1, 2)):
        if "auto_pad" in pad and (dilation > 1 or ceil):
            continue
        attributes = pad | {"kernel_shape": [3, 2, 2][:rank], "strides": [stride] * rank, "count_include_pad": include, "ceil_mode": ceil}
        attributes["dilations"] = [dilation] * rank
        got = lookup("", "AveragePool", 19).value(x[None], **attributes)[0]
        expected = runtime("AveragePool", [x], attributes, 19)
        assert got.shape == expected.shape, attributes
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=str(attributes))


def test_global_average_pool_values() -> None:
    x = rng.integers(-4, 5, (2, 3, 4, 2)).astype(float)
    np.testing.assert_array_equal(lookup("", "GlobalAveragePool", 1).value(x[None])[0], runtime("GlobalAveragePool", [x], {}, 11))


@pytest.mark.parametrize("taps", [4095, 4096])
def test_terms_below_the_smallest_normal_number(taps: int) -> None:
    """Their sum is above it and rounds, although the sum of what each contributes to the mean would not."""
    x = (np.random.default_rng(0).integers(2**22, 2**23, taps) * 2.0**-149).astype(np.float32)
    total = np.float32(0.0)
    for term in x:
        total += term
    computed = total / np.float32(taps)
    wide = profile_named("wide", None, None, "any").arithmetic("AveragePool", [FORMATS["fp32"]], FORMATS["fp32"], False)
    X = Enclosure.point(x.astype(np.float64).reshape(1, 1, 1, taps))
    exact = X.lo.sum() / taps  # the sum is exact in float64
    bound = lookup("", "GlobalAveragePool", 1).rounding((X,), (None,), wide, np.full((1, 1, 1, 1), exact), [0.0])
    assert abs(float(computed) - exact) * (1 - 2.0**-50) <= bound.item()


@pytest.mark.parametrize(("domain", "name"), [("", "AveragePool"), ("certify", "WindowSum"), ("", "MaxPool")])
def test_the_same_size_under_dilation_is_refused(domain: str, name: str) -> None:
    """The standard widens the padding by the dilation, onnxruntime does not."""
    with pytest.raises(UnsupportedOperator, match="disagree"):
        lookup(domain, name, 7).value(np.ones((1, 1, 1, 5)), kernel_shape=[2], dilations=[2], auto_pad="SAME_UPPER")


def test_a_partial_window_counts_its_padding() -> None:
    """ONNX's own case of this writes its results down with four digits; they are ninths of sums."""
    x = np.array([[[[0.8580, 0.0786], [0.2692, 0.1537]]]])
    attributes = {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1}
    for opset in (10, 11, 19, 22):
        got = lookup("", "AveragePool", opset).value(x[None], **attributes)[0]
        np.testing.assert_allclose(got, x.sum() / 9.0, rtol=1e-15)
        np.testing.assert_allclose(got, runtime("AveragePool", [x], attributes, opset), rtol=1e-6)
