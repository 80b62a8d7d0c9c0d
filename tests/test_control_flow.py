"""Conditions that data decide: certain where they cannot change, the hull of both branches where they can, and attacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import certify
from certify.request import Request
from tests.graph.build import parsed
from tests.random_claims import refuted

BRANCHES = """g (float[3] x) => (float[3] y) {
    s = ReduceSum<keepdims = 0>(x)
    c = Greater(s, zero)
    y = If (c) <
        then_branch = t () => (float[3] p) { l = Log(s) e = Exp(x) p = Mul(e, l) },
        else_branch = e () => (float[3] p) { n = Neg(s) r = Sqrt(n) p = Mul(x, r) }
    >
}"""
MODEL = parsed(BRANCHES, zero=np.float32(0))
WHILE = parsed(
    """g (float[3] x) => (float[3] y, int64 count) {
        none = Constant<value = int64 {0}>()  one = Constant<value = int64 {1}>()  yes = Constant<value_int = 1>() go = Cast<to = 9>(yes)
        y, count = Loop (n, go, x, none) <body = b (int64 i, bool go, float[3] s, int64 k) => (bool on, float[3] t, int64 l) {
            t = Mul(s, rate) m = ReduceMax<keepdims = 0>(t) on = Less(m, limit) l = Add(k, one)
        }>
    }""",
    n=8,
    rate=np.float32(1.7),
    limit=np.float32(6.0),
)


def certified(model: Any, x: np.ndarray[Any, Any], **options: Any) -> certify.Certificate:
    """With every conforming run, hostile ones too."""
    found = certify.certify(model, data={"x": x}, **options)
    assert found.validation is not None
    assert not found.validation.violations
    request = Request(model, dtype=options.get("dtype"), profile=options.get("profile", "wide"), data={"x": x})
    bounds = {name: output.absolute_bound for name, output in found.outputs.items()}
    assert not refuted(model, request, {"x": x.astype(np.float64)}, bounds)
    return found


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("engine", ["adjoint", "running"])
def test_a_decided_condition_takes_its_branch_alone(dtype: str, engine: str) -> None:
    """Each case by itself; the branch that is not taken has the logarithm or the root of a negative number."""
    x = np.float32([[1, 2, 0.5], [-1, -2, -0.5], [3, -1, 0.25]])
    found = certified(MODEL, x, dtype=dtype, engine=engine).outputs["y"]
    total = x.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = np.where(total > 0, np.exp(x.astype(np.float64)) * np.log(np.abs(total)), x * np.sqrt(np.abs(total)))
    assert (np.abs(found.reference - expected) <= 1e-12).all()
    assert (found.absolute_bound < 0.3).all()


def test_a_condition_in_doubt_bounds_both_branches() -> None:
    """The sum may come out on either side of 0: the hull, here with a logarithm that has none."""
    x = np.float32([[1.0, 2.0**-12, -1.0]])
    assert np.isinf(certified(MODEL, x, dtype="fp16", profile="ieee").outputs["y"].absolute_bound).all()
    harmless = parsed(BRANCHES.replace("Log(s)", "Abs(s)").replace("Sqrt(n)", "Neg(one)"), zero=np.float32(0), one=np.float32(1))
    found = certified(harmless, x, dtype="fp16", profile="ieee").outputs["y"]
    assert np.isfinite(found.absolute_bound).all()
    assert (found.absolute_bound >= 0.99 * np.abs(x)).all()  # e^x |s| is next to nothing, -x is not


def test_a_region_holds_both_branches() -> None:
    harmless = parsed(BRANCHES.replace("Log(s)", "Abs(s)").replace("Sqrt(n)", "Abs(n)"), zero=np.float32(0))
    found = certify.certify(harmless, ranges=(-1.0, 1.0), region=True, boxes=8, samples=16)
    assert found.validation is not None
    assert not found.validation.violations
    assert np.isfinite(found.outputs["y"].absolute_bound).all()
    decided = certify.certify(MODEL, ranges=(0.5, 1.0), region=True, boxes=8)
    assert decided.outputs["y"].absolute_bound.max() < 1e-5


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_loop_stops_where_data_say(dtype: str) -> None:
    x = np.float32([[1, 0.5, 0.25], [5, 1, -1], [0.01, 0, -3], [100, 1, 1]])
    found = certified(WHILE, x, dtype=dtype)
    assert found.outputs["count"].reference[:, ...].tolist() == [4, 1, 8, 1]
    assert not found.outputs["count"].absolute_bound.any()
    assert found.outputs["y"].absolute_bound[0].max() < (1e-5 if dtype == "fp32" else 0.2)


def test_a_stop_in_doubt_bounds_every_course() -> None:
    x = np.float32([[6.0 / 1.7**3, 1, 1]])
    found = certified(WHILE, x, dtype="bf16")
    assert float(found.outputs["count"].absolute_bound.max()) >= 1
    assert (found.outputs["y"].absolute_bound[0] >= 0.7).all()
