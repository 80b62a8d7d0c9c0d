"""Discrete operators end to end: small models, certified in several formats and attacked with runs of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest

import certify
from certify.errors import Unsupported

X = np.random.default_rng(11).normal(size=(3, 2, 6)).astype(np.float32)


def parsed(graph: str, opset: int = 18) -> Any:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {graph}')


def certified(graph: str, opset: int = 18, validate: bool = False, dtype: str | None = None, **data: Any) -> Any:
    arrays = {name: np.asarray(x) for name, x in data.items()}
    return certify.certify(parsed(graph, opset), data=arrays, dtype=dtype, validate=validate)


TOP = """g (float[N, 2, 6] x) => (float[N, 2, 3] y, int64[N, 2, 3] p) {
    e = Exp(x)
    k = Constant<value = int64[1] {3}>()
    y, p = TopK<axis = 2>(e, k)
}"""


@pytest.mark.parametrize("dtype", [None, "fp16", "bf16", "fp8e5m2"])
def test_top_k_in_any_format(dtype: str | None) -> None:
    found = certified(TOP, validate=True, dtype=dtype, x=X)
    assert found.validation.runs > 0
    assert found.gate.exit_code == 0, found.gate.reasons
    assert np.isfinite(found.outputs["y"].absolute_bound).all()
    assert set(np.rint(np.unique(found.outputs["p"].absolute_bound))) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    if dtype is None:
        assert not found.outputs["p"].absolute_bound.any()


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_one_hot_of_an_argmax(dtype: str | None) -> None:
    graph = """g (float[N, 2, 6] x) => (float[N, 2, 6] y) {
        t = Tanh(x)
        a = ArgMax<axis = 2, keepdims = 0>(t)
        six = Constant<value = int64[1] {6}>()
        ends = Constant<value = float[2] {-0.1, 1.3}>()
        y = OneHot(a, six, ends)
    }"""
    found = certified(graph, validate=True, dtype=dtype, x=X)
    assert found.gate.exit_code == 0, found.gate.reasons
    assert found.outputs["y"].absolute_bound.max() < (0.02 if dtype else 1e-7)


def test_hardmax_near_a_tie_has_no_certain_winner() -> None:
    x = np.array([[1.0, 1.0 + 2.0**-23, 0.0]], np.float32)
    found = certified("g (float[N, 3] x) => (float[N, 3] y) { e = Exp(x) y = Hardmax(e) }", x=x).outputs["y"]
    assert found.absolute_bound.reshape(-1) == pytest.approx([1.0, 1.0, 0.0], rel=1e-12)


CASTS = "g (float[N, 4] x) => (float[N, 4] y) {{ e = Exp(x) c = Cast<to = {to}, saturate = {saturate}>(e) y = Cast<to = 1>(c) }}"
TYPES = {17: 448.0, 18: 240.0, 19: 57344.0, 20: 57344.0}


@pytest.mark.parametrize("to", TYPES)
def test_casts_to_float8_saturate_where_told_so(to: int) -> None:
    most, x = TYPES[to], np.log(np.array([[1.3, TYPES[to], 1.5 * TYPES[to], 0.001]])).astype(np.float32)
    found = certified(CASTS.format(to=to, saturate=1), 19, validate=True, x=x)
    assert found.gate.exit_code == 0, found.gate.reasons
    bound = found.outputs["y"].absolute_bound.reshape(-1)
    assert np.isfinite(bound).all()
    assert 0.5 * most <= bound[2] <= 0.51 * most
    open_ = certified(CASTS.format(to=to, saturate=0), 19, x=x).outputs["y"].absolute_bound.reshape(-1)
    assert np.isfinite(open_).tolist() == [True, True, False, True]  # what rounds to the largest number stays one


def test_a_cast_to_float8_and_its_saturation_in_a_region() -> None:
    model = parsed("g (float[1, 1] x) => (float[1, 1] y) { c = Cast<to = 17>(x) y = Cast<to = 1>(c) }", 19)
    for reach, most in ((400.0, 16.0), (1000.0, 552.0)):
        found = certify.certify(model, ranges={"x": (-reach, reach)}, region=True, boxes=8, validate=False)
        assert found.outputs["y"].absolute_bound.max() == pytest.approx(most, rel=1e-5)


def test_casts_to_power_of_two() -> None:
    graph = "g (float[N, 4] x) => (float[N, 4] y) { c = Cast<to = 24>(x) y = Cast<to = 1>(c) }"
    found = certified(graph, 24, x=np.array([[1.0, 3.0, -1.0, 0.0]], np.float32)).outputs["y"]
    bound = found.absolute_bound.reshape(-1)
    assert bound[0] == 0.0
    assert 1.0 <= bound[1] <= 3.01
    assert bound[2] == np.inf
    assert 2.0**-127 <= bound[3] <= 1.01 * 2.0**-127


def test_nothing_is_known_of_a_fraction_cast_to_four_bits() -> None:
    graph = "g (float[N, 4] x) => (float[N, 4] y) { c = Cast<to = 22>(x) y = Cast<to = 1>(c) }"
    found = certified(graph, 21, x=np.array([[3.0, 1.7, -8.0, 8.0]], np.float32)).outputs["y"]
    assert np.isfinite(found.absolute_bound.reshape(-1)).tolist() == [True, False, True, False]


NONZERO = "g (float[3] x) => (int64[1, N] y) { y = NonZero(x) }"


def test_shapes_that_data_decide() -> None:
    x = np.array([0.0, -0.0, 1e-5], np.float32)
    assert certified(NONZERO, x=x).outputs["y"].reference.tolist() == [[[2.0]]]
    found = certified(NONZERO, x=np.stack([x, x]))
    assert found.outputs["y"].reference.shape[1:] == (1, 1)
    with pytest.raises(Unsupported, match="NonZero"):
        certified(NONZERO, x=np.stack([x, x + 1]))
    with pytest.raises(Unsupported, match="NonZero"):
        certified("g (float[3] x) => (int64[1, N] y) { e = Relu(x) y = NonZero(e) }", x=x)


def test_a_decision_that_storage_changes_is_refused() -> None:
    tiny = np.array([1.0, 1e-9, 2.0], np.float32)  # 0 in fp16
    assert certified(NONZERO, x=tiny, dtype="bf16").outputs["y"].reference.size == 3
    with pytest.raises(Unsupported, match="stored in their format"):
        certified(NONZERO, x=tiny, dtype="fp16")
    unique = "g (float[3] x) => (float[N] y, int64[M] i) { y, i = Unique(x) }"
    near = np.array([2.0, 1.0, 1.0 + 2.0**-20], np.float32)
    found = certified(unique, x=near)
    assert found.outputs["i"].reference.reshape(-1).tolist() == [1.0, 2.0, 0.0]
    assert not found.outputs["y"].absolute_bound.any()
    with pytest.raises(Unsupported, match="stored in their format"):
        certified(unique, x=near, dtype="fp16")


SUPPRESSED = """g (float[1, N, 4] boxes, float[1, 1, N] scores) => (int64[M, 3] y) {
    most = Constant<value = int64[1] {3}>()
    t = Constant<value = float[1] {0.5}>()
    y = NonMaxSuppression(boxes, scores, most, t)
}"""


def test_suppression_that_roundings_could_turn_is_refused() -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0.4, 1, 1.4], [0, 0.1, 1, 1.1]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.7]]], np.float32)
    found = certified(SUPPRESSED, boxes=boxes, scores=scores).outputs["y"]
    assert found.reference[0, :, 2].tolist() == [0.0, 1.0]  # 0.6 / 1.4 < 0.5 < 0.9 / 1.1
    edge = boxes.copy()
    edge[0, 1] = [0, 1 / 3, 1, 4 / 3]  # (2/3) / (4/3)
    with pytest.raises(Unsupported, match="roundings"):
        certified(SUPPRESSED, boxes=edge, scores=scores)
    with pytest.raises(Unsupported, match="equal score"):
        certified(SUPPRESSED, boxes=boxes, scores=0 * scores + 1)


GRAMS = """g (int64[N, 6] x) => (float[N, 3] y) {{
    y = TfIdfVectorizer<mode = "{mode}", min_gram_length = 1, max_gram_length = 2, max_skip_count = 1, ngram_counts = [0, 1],
        ngram_indexes = [0, 2, 1], pool_int64s = [2, 2, 3, 5, 4], weights = [0.1, 3.0, 1.5]>(x)
}}"""


@pytest.mark.parametrize(("mode", "expected"), [("TF", [3, 1, 2]), ("IDF", [0.1, 1.5, 3.0]), ("TFIDF", [0.3, 1.5, 6.0])])
def test_counts_of_n_grams(mode: str, expected: list[float]) -> None:
    # 2 three times; (2, 3) next to each other and with one between; (5, 4) with one between.
    found = certified(GRAMS.format(mode=mode), validate=True, x=np.array([[2, 2, 3, 5, 2, 4]]))
    assert found.gate.exit_code == 0, found.gate.reasons
    y = found.outputs["y"]
    assert y.reference.reshape(-1) == pytest.approx(expected, rel=1e-6)
    assert (y.absolute_bound <= 1e-6).all()


def test_counts_beyond_the_format_are_rounded() -> None:
    graph = """g (int64[N, 300] x) => (float[N, 1] y) {
        y = TfIdfVectorizer<mode = "TF", min_gram_length = 1, max_gram_length = 1, max_skip_count = 0, ngram_counts = [0],
            ngram_indexes = [0], pool_int64s = [2]>(x)
    }"""
    x = np.full((1, 300), 2)
    x[0, 0] = 3
    y = certified(graph, dtype="bf16", x=x).outputs["y"]
    assert (y.reference.item(), y.absolute_bound.item()) == (299.0, pytest.approx(1.0, rel=1e-4))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = RandomNormalLike(x)", "random"),
        ("y = Bernoulli(x)", "random"),
        ("r = RandomUniform<shape = [1, 3]>() y = Add(x, r)", "random"),
    ],
)
def test_random_operators_are_refused_by_name(body: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        certified(f"g (float[N, 3] x) => (float[N, 3] y) {{ {body} }}", x=X[0, :1, :3])
