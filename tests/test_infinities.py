"""Infinities and NaN in constants and inputs: exact where the standard says what becomes of them, no bound elsewhere, never NaN in one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import certify
from certify.analysis.guarded import Guarded
from certify.semantics.contract import lookup
from tests.graph.build import parsed

X = np.float32([[1.0, np.nan, -np.inf, 2.0], [np.nan, np.inf, 0.0, -1.0]])
INF = np.float32(np.inf)


def certified(text: str, data: dict[str, Any], dtype: str | None = None, engine: str = "auto", **constants: Any) -> certify.Certificate:
    found = certify.certify(parsed(text, **constants), data=data, dtype=dtype, engine=engine)
    assert found.validation is not None
    assert not found.validation.violations
    for output in found.outputs.values():
        assert not any(np.isnan(part).any() for part in (output.reference, output.absolute_bound, output.conversion, output.rounding))
    return found


@pytest.mark.parametrize("dtype", [None, "fp16", "fp8e4m3"])
@pytest.mark.parametrize("engine", ["adjoint", "running"])
def test_questions_about_known_operands_are_answered_exactly(dtype: str | None, engine: str) -> None:
    text = """g (float[4] x) => (bool[4] nan, bool[4] inf, bool[4] less, float[4] y) {
        nan = IsNaN(x)  inf = IsInf(x)  less = Less(x, two)
        clean = Where(nan, two, x)  capped = Clip(clean, one, two)  y = Exp(capped)
    }"""
    found = certified(text, {"x": X}, dtype, engine, one=np.float32(1), two=np.float32(2)).outputs
    if dtype != "fp8e4m3":  # which has no infinities: what they become is NaN
        assert np.array_equal(found["nan"].reference, np.isnan(X))
        assert np.array_equal(found["inf"].reference, np.isinf(X))
        assert np.isfinite(found["y"].absolute_bound).all()
    assert np.array_equal(found["less"].reference, [[1, 0, 1, 0], [0, 0, 1, 1]])
    assert found["y"].reference[0, 0] == np.exp(1.0)


def test_what_is_computed_from_nan_has_no_bound_and_its_copies_neither() -> None:
    found = certify.certify(parsed("g (float[4] x) => (float[4] y) { t = Transpose(x) y = Identity(t) }"), data={"x": X}, validate=False)
    assert np.array_equal(np.isinf(found.outputs["y"].absolute_bound), np.isnan(X))
    text = "g (float[4] x, bool[4] c) => (float[4] y) { w = Where(c, x, zero) y = Exp(w) }"
    data = {"x": X[:1], "c": np.array([[True, False, False, True], [True, True, False, True]])}
    bound = certified(text, data, zero=np.float32(0)).outputs["y"].absolute_bound
    assert np.array_equal(np.isinf(bound), [[False] * 4, [False, True, False, False]])


@pytest.mark.parametrize("engine", ["adjoint", "running"])
def test_a_constant_that_is_not_chosen_does_no_harm(engine: str) -> None:
    text = "g (float[3] x) => (float[3] y) { c = Greater(x, zero) w = Where(c, x, F) e = Exp(w) y = Where(c, e, x) }"
    for value in (np.nan, np.inf, -np.inf):
        found = certified(text, {"x": np.float32([[1, -2, 3]])}, engine=engine, zero=np.float32(0), F=np.float32(value))
        assert (found.outputs["y"].absolute_bound < 2e-5).all()
    decided = certify.certify(parsed(text, zero=np.float32(0), F=np.float32(np.nan)), ranges=(1.0, 2.0), region=True, boxes=8)
    assert (decided.outputs["y"].absolute_bound < 1e-5).all()
    open_ = certify.certify(parsed(text, zero=np.float32(0), F=np.float32(np.nan)), ranges=(-1.0, 2.0), region=True, boxes=8)
    assert np.isinf(open_.outputs["y"].absolute_bound).all()


@pytest.mark.parametrize("dtype", [None, "fp16", "bf16"])
def test_an_infinite_mask_is_exact(dtype: str | None) -> None:
    text = "g (float[3] x, float[3] m) => (float[3] y, float[3] z) { a = Add(x, M) y = Softmax(a) b = Add(x, m) z = Softmax(b) }"
    mask = np.float32([0, -np.inf, 0])
    found = certified(text, {"x": np.float32([[1, 5, -1]]), "m": mask}, dtype, M=mask).outputs
    for output in found.values():
        assert output.reference[0, 1] < 1e-200
        assert output.absolute_bound[0, 1] < 1e-7
        assert (output.absolute_bound < 0.02).all()


def test_a_cast_keeps_an_infinity_where_its_format_does() -> None:
    text = "g (float[2] x) => (float[2] y) { h = Cast<to = TYPE>(M) a = Cast<to = 1>(h) s = Add(a, x) y = Max(s, x) }"
    mask, x = np.float32([-np.inf, 0]), np.float32([[1, 2]])
    for code in (10, 16):
        assert certified(text.replace("TYPE", str(code)), {"x": x}, M=mask).outputs["y"].absolute_bound.max() == 0
    assert np.isinf(
        certify.certify(parsed(text.replace("TYPE", "17"), opset=19, M=mask), data={"x": x}, validate=False)
        .outputs["y"]
        .absolute_bound[0, 0]
    )


def test_an_operator_without_a_word_on_infinities_gets_no_bound_by_name() -> None:
    found = certified("g (float[2] x) => (float[2] y) { a = Add(x, F) y = Mul(a, x) }", {"x": np.float32([[1, 0]])}, F=INF)
    assert np.isinf(found.outputs["y"].absolute_bound).all()
    assert found.lost[0].node == "y"


@pytest.mark.parametrize("dtype", [None, "fp16", "fp8e4m3"])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_remainder_of_an_infinity_has_no_bound(dtype: str | None, value: float) -> None:
    """It is no number; the elements beside it are bounded as ever."""
    text = "g (float[3] x) => (float[3] y) { a = Add(x, F) y = Mod<fmod = 1>(a, x) }"
    found = certified(text, {"x": np.float32([[1, 2, -3]])}, dtype, F=np.float32([1, value, 0.5]))
    assert np.isinf(found.outputs["y"].absolute_bound).tolist() == [[False, True, False]]


@pytest.mark.parametrize("operator", ["MatMul(x, x)", "Relu(x)", "Exp(x)"])
def test_inputs_that_no_operator_asks_about_are_finite(operator: str) -> None:
    model = parsed(f"g (float[1, 1] x) => (float[1, 1] y) {{ y = {operator} }}")
    with pytest.raises(certify.InvalidData, match="holds nan"):
        certify.certify(model, data={"x": np.float32([[np.nan]])})
    if "Relu" not in operator:
        with pytest.raises(certify.InvalidData, match="holds inf"):
            certify.certify(model, data={"x": np.float32([[np.inf]])})


@pytest.mark.parametrize("operator", ["Mul(a, x)", "MatMul(a, x)"])
def test_a_guard_that_forgets_an_element_is_caught(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lie: what an infinity reaches is as bounded as the rest."""
    model, data = parsed(f"g (float[2] x) => (float[N] y) {{ a = Add(x, F) y = {operator} }}", F=INF), {"x": np.float32([[1, 2]])}
    assert not certify.certify(model, data=data).validation.violations  # type: ignore[union-attr]
    monkeypatch.setattr(Guarded, "_lost", lambda self, X, shape: np.zeros(shape, dtype=bool))
    assert certify.certify(model, data=data).validation.violations  # type: ignore[union-attr]


def test_a_rule_that_settles_what_kernels_compute_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lie: an answer about NaN that no kernel gives."""
    model, data = parsed("g (float[4] x) => (bool[4] y) { y = IsNaN(x) }"), {"x": X}
    rule = lookup("", "IsNaN", 20)
    assert rule is not None
    wrong = replace(rule, value=lambda x: np.asarray(x == x, dtype=np.float64))
    monkeypatch.setattr(
        "certify.analysis.bind.lookup", lambda domain, name, opset: wrong if name == "IsNaN" else lookup(domain, name, opset)
    )
    assert certify.certify(model, data=data).validation.violations  # type: ignore[union-attr]
