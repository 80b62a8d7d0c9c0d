"""Laws of Conv and ConvTranspose, and their values against onnxruntime on all combinations of attributes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.families.windows import windows
from certify.semantics.ops import convolution, selection  # noqa: F401 - registers the rules
from tests.laws.kit import check_rule
from tests.laws.reference import runtime

rng = np.random.default_rng(11)


def box(*shape: int) -> tuple[Any, Any]:
    lo = rng.normal(size=shape)
    return lo, lo + 0.25 * rng.integers(0, 2, shape)


def conv_terms(x: Any, w: Any, strides: Any, pads: Any, dilations: Any, group: int = 1) -> Any:
    """The products that each output adds, along a last axis: from the definition, one window at a time (1-D)."""
    n, _, extent = x.shape
    outs, inner, taps = w.shape
    left, right = pads
    count = (extent + left + right - ((taps - 1) * dilations[0] + 1)) // strides[0] + 1
    out = np.full((n, outs, count, inner * taps), mpf(0), dtype=object)
    for i, o, p, c, t in itertools.product(range(n), range(outs), range(count), range(inner), range(taps)):
        at = p * strides[0] + t * dilations[0] - left
        if 0 <= at < extent:
            out[i, o, p, c * taps + t] = x[i, o // (outs // group) * inner + c, at] * w[o, c, t]
    return out


ATTRIBUTES = [
    {"strides": [1], "pads": [0, 0], "dilations": [1]},
    {"strides": [2], "pads": [1, 0], "dilations": [1], "group": 2},
    {"strides": [1], "pads": [2, 1], "dilations": [2]},
]


def conv_oracle(x: Any, w: Any, b: Any = None, **attributes: Any) -> Any:
    y = np.asarray(conv_terms(x, w, **attributes).sum(axis=-1), dtype=object)
    return y if b is None else y + b[:, None]


def conv_kernel(machine: Any, x: Any, w: Any, b: Any = None, **attributes: Any) -> Any:
    products = machine.accumulator.fl(conv_terms(x, w, **attributes))
    if b is not None:
        addend = np.broadcast_to(b[:, None], products.shape[1:3])
        products = np.concatenate([products, np.broadcast_to(addend[None, ..., None], (*products.shape[:3], 1))], axis=-1)
    return machine.fl_sum(products)


@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_conv(attributes: dict[str, Any], bias: bool) -> None:
    group = attributes.get("group", 1)
    X, W, B = box(1, 2, 4), box(2, 2 // group, 2), box(2) if bias else None
    hard = (np.array([[[0.0, 2.0**-1074, 1.0, 2.0**400], [0.0, -1.0, 2.0**-600, 3.0]]]), W[0], None if B is None else B[0])
    check_rule(
        lookup("", "Conv", 22), [(X, W, B)], [hard], oracle=conv_oracle, kernel=conv_kernel, attributes=attributes, radii=(0.0, 0.125)
    )


def test_conv_with_constant_weights() -> None:
    w = rng.normal(size=(2, 2, 2))
    check_rule(
        lookup("", "Conv", 22),
        [(box(2, 2, 4), (w, w), (w[0, 0], w[0, 0]))],
        oracle=conv_oracle,
        kernel=conv_kernel,
        attributes=ATTRIBUTES[0],
        constant=(1, 2),
        radii=(0.0, 0.125),
    )


def transposed_terms(x: Any, w: Any, strides: Any, pads: Any) -> Any:
    """The products that each output of a 1-D ConvTranspose adds, along a last axis."""
    n, channels, extent = x.shape
    _, outs, taps = w.shape
    count = strides[0] * (extent - 1) + taps - sum(pads)
    out = np.full((n, outs, count, channels * extent * taps), mpf(0), dtype=object)
    for i, o, c, q, t in itertools.product(range(n), range(outs), range(channels), range(extent), range(taps)):
        at = q * strides[0] + t - pads[0]
        if 0 <= at < count:
            out[i, o, at, (c * extent + q) * taps + t] = x[i, c, q] * w[c, o, t]
    return out


def test_conv_transpose() -> None:
    def kernel(machine: Any, x: Any, w: Any, b: Any, **attributes: Any) -> Any:
        products = machine.accumulator.fl(transposed_terms(x, w, **attributes))
        addend = np.broadcast_to(b[:, None, None], (*products.shape[1:3], 1))[None]
        return machine.fl_sum(np.concatenate([products, np.broadcast_to(addend, (*products.shape[:3], 1))], axis=-1))

    def oracle(x: Any, w: Any, b: Any, **attributes: Any) -> Any:
        return np.asarray(transposed_terms(x, w, **attributes).sum(axis=-1), dtype=object) + b[:, None]

    for strides in ([1], [2]):
        attributes = {"strides": strides, "pads": [1, 0]}
        check_rule(
            lookup("", "ConvTranspose", 22),
            [(box(1, 2, 3), box(2, 2, 2), box(2))],
            oracle=oracle,
            kernel=kernel,
            attributes=attributes,
            radii=(0.0, 0.125),
        )


def agrees(name: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    """Small integers: float32 computes them exactly, so the values must be equal."""
    expected = runtime(name, inputs, attributes, 11)
    got = lookup("", name, 11).value(*(x[None] for x in inputs), **attributes)[0]
    np.testing.assert_array_equal(got, expected)


def whole(*shape: int) -> Any:
    return rng.integers(-4, 5, shape).astype(float)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_values(rank: int) -> None:
    extent, kernel = (7, 6, 5)[:rank], (3, 2, 2)[:rank]
    pads: list[dict[str, Any]] = [{}, {"pads": [1] * rank + [0] * rank}, *({"auto_pad": m} for m in ("SAME_UPPER", "SAME_LOWER", "VALID"))]
    for pad, stride, dilation, group in itertools.product(pads, (1, 2), (1, 2), (1, 2, 4)):
        if dilation > 1 and str(pad.get("auto_pad", "")).startswith("SAME"):
            continue  # onnxruntime refuses
        attributes = pad | {"strides": [stride] * rank, "dilations": [dilation] * rank, "group": group}
        agrees("Conv", [whole(2, 4, *extent), whole(4, 4 // group, *kernel), whole(4)], attributes)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_transpose_values(rank: int) -> None:
    extent, kernel = (4, 3, 2)[:rank], (3, 2, 2)[:rank]
    pads: list[dict[str, Any]] = [
        {},
        {"pads": [1] * rank + [0] * rank},
        {"output_padding": [1] * rank},
        *({"auto_pad": m} for m in ("SAME_UPPER", "SAME_LOWER", "VALID")),
    ]
    for pad, stride, group in itertools.product(pads, (2, 3), (1, 2)):
        attributes = pad | {"strides": [stride] * rank, "group": group}
        if stride == 3 and str(pad.get("auto_pad", "")).startswith("SAME") and rank > 1:
            continue  # kernels of 2 do not reach: refused, see below
        agrees("ConvTranspose", [whole(2, 4, *extent), whole(4, 6 // group, *kernel), whole(6 // group * group)], attributes)
    narrow = [n * 2 - 1 for n in extent]
    agrees("ConvTranspose", [whole(1, 4, *extent), whole(4, 2, *kernel)], {"strides": [2] * rank, "output_shape": narrow})


def test_conv_transpose_refuses_shapes_that_the_kernel_does_not_reach() -> None:
    with pytest.raises(UnsupportedOperator, match="beyond what the kernel reaches"):
        lookup("", "ConvTranspose", 11).value(whole(1, 1, 4, 2)[None], whole(4, 1, 2)[None], strides=[3], auto_pad="SAME_UPPER")


@pytest.mark.parametrize("group", [1, 2, 4])
def test_pull_is_the_transpose_of_push_for_many_rows(group: int) -> None:
    rule = lookup("", "Conv", 11)
    x, w = whole(1, 2, 4, 6, 5), whole(1, 4, 4 // group, 3, 2)
    attributes = {"strides": [2, 1], "pads": [1, 0, 0, 1], "group": group}
    L = rule.linearize((Enclosure.point(x), Enclosure.point(w)), (np.ones_like(x), np.ones_like(w)), **attributes)
    d, e = whole(5, 2, 4, 6, 5), whole(5, 4, 4 // group, 3, 2)
    y = L.push((d, e))
    a = rng.integers(-4, 5, y.shape).astype(float)
    left, right = L.pull(a)
    for i in range(5):
        assert (y[i] * a[i]).sum() == (left[i] * d[i]).sum() + (right[i] * e[i]).sum()


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="reaches over 5 elements, its padded operand has 4"):
        windows((3,), (3,), strides=(2,), dilations=(2,), pads=(0, 1))
    with pytest.raises(UnsupportedOperator, match="reaches over 2 elements, its padded operand has 1"):
        lookup("", "MaxPool", 7).value(np.ones((1, 1, 1, 1)), kernel_shape=(2,), strides=(2,))
