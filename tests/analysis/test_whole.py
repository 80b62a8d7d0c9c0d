"""Integers that leave their type have no bound; those that stay in it are exact, decisions on them too."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

import certify
from certify.errors import Unsupported

INF = float("inf")


def run(text: str, **data: Any) -> Any:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    arrays = {name: np.asarray(x) for name, x in data.items()}
    return certify.certify(model, data=arrays, validate=False).outputs["y"]


BYTES = np.array([[100, -100, 50, -128]], np.int8)


@pytest.mark.parametrize(
    ("body", "reference", "bound"),
    [
        ("y = Add(x, x)", [200, -200, 100, -256], [INF, INF, 0, INF]),
        ("y = Neg(x)", [-100, 100, -50, 128], [0, 0, 0, INF]),
        ("y = Abs(x)", [100, 100, 50, 128], [0, 0, 0, INF]),
        ("y = Mul(x, x)", [10000, 10000, 2500, 16384], [INF] * 4),
        ("two = Constant<value = int8[1] {2}>() y = Div(x, two)", [50, -50, 25, -64], [0] * 4),
        ("minus = Constant<value = int8[1] {-1}>() y = Div(x, minus)", [-100, 100, -50, 128], [0, 0, 0, INF]),
        ("three = Constant<value = int8[1] {3}>() y = Mod(x, three)", [1, 2, 2, 1], [0] * 4),
        ("d = Sub(x, x) y = Max(d, x)", [100, 0, 50, 0], [0] * 4),
        # The sum leaves the type, so that nothing is known of what is compared with it.
        ("s = Add(x, x) y = Max(s, x)", [200, -100, 100, -128], [INF, INF, 0, INF]),
    ],
)
def test_bytes(body: str, reference: list[float], bound: list[float]) -> None:
    found = run(f"g (int8[N, 4] x) => (int8[N, 4] y) {{ {body} }}", x=BYTES)
    assert found.reference.reshape(-1).tolist() == reference
    assert found.absolute_bound.reshape(-1).tolist() == bound


def test_unsigned_differences_below_zero() -> None:
    found = run(
        "g (uint8[N, 3] x, uint8[N, 3] z) => (uint8[N, 3] y) { y = Sub(x, z) }",
        x=np.array([[5, 3, 0]], np.uint8),
        z=np.array([[3, 5, 0]], np.uint8),
    )
    assert found.absolute_bound.reshape(-1).tolist() == [0.0, INF, 0.0]


def test_inner_sums_of_a_mean_must_fit() -> None:
    x = np.array([[2**30, 2**30, 2**30], [-7, 0, 0]], np.int32)[None]
    found = run("g (int32[N, 2, 3] x) => (int32[N, 2, 1] y) { a = Constant<value = int64[1] {2}>() y = ReduceMean(x, a) }", x=x)
    assert found.reference.reshape(-1).tolist() == [2**30, -2]
    assert found.absolute_bound.reshape(-1).tolist() == [INF, 0.0]


def test_sums_of_products_wrap_harmlessly_inside() -> None:
    x, w = np.array([[2**20, -(2**20), 3]], np.int32), "int32[3, 1] {4096, 4095, 5}"
    found = run(f"g (int32[N, 3] x) => (int32[N, 1] y) {{ w = Constant<value = {w}>() y = MatMul(x, w) }}", x=x)
    assert (found.reference.item(), found.absolute_bound.item()) == (2**20 + 15, 0.0)


def test_a_region_that_reaches_the_end_of_the_type() -> None:
    text = '<ir_version: 10, opset_import: ["" : 18]> g (int8[1, 1] x) => (int8[1, 1] y) { y = Add(x, x) }'
    for reach, finite in ((63.0, True), (64.0, False)):
        found = certify.certify(onnx.parser.parse_model(text), ranges={"x": (-reach, reach)}, region=True, boxes=8, validate=False)
        assert bool(np.isfinite(found.outputs["y"].absolute_bound).all()) == finite


@pytest.mark.parametrize("body", ["y = ReduceL2(x)", "h = Constant<value = int32[1, 1] {1}>() y = Gemm<alpha = 0.5>(x, x)"])
def test_truncated_results_are_refused(body: str) -> None:
    with pytest.raises(Unsupported, match="truncated"):
        run(f"g (int32[1, 1] x) => (int32[1, 1] y) {{ {body} }}", x=np.array([[3]], np.int32))


def test_constants_that_float64_does_not_hold_are_refused() -> None:
    text = "g (int64[N, 1] x) => (int64[N, 1] y) {{ c = Constant<value = int64[1] {{{}}}>() y = Min(x, c) }}"
    assert run(text.format(-(2**63)), x=np.array([[5]])).absolute_bound.item() == 0.0
    with pytest.raises(Unsupported, match="2\\^53"):
        run(text.format(2**63 - 1), x=np.array([[5]]))


def test_powers_of_integers_must_fit_too() -> None:
    text = "g (int32[N, 3] x, {} e) => (int32[N, 3] y) {{ y = Pow(x, e) }}"
    x = np.array([[3, 50000, -2]], np.int32)
    for kind, exponent in (("int32[N, 3]", np.array([[2, 2, 3]], np.int32)), ("float[N, 3]", np.array([[2, 2, 3]], np.float32))):
        found = run(text.format(kind), x=x, e=exponent)
        assert found.reference.reshape(-1).tolist() == [9, 2.5e9, -8]
        assert found.absolute_bound.reshape(-1).tolist() == [0.0, INF, 0.0]
