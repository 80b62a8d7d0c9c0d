"""Fan-in and Lipschitz constants against Jacobians, gamma against rationals, the range of weights against counting."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from certify.graph.annotate import NodeFacts, annotate, gamma
from certify.graph.lipschitz import SLOPES
from certify.graph.load import load
from certify.graph.weights import absolute_sums, magnitudes
from certify.number.formats import FORMATS
from tests.graph.build import dense, model_of, parsed
from tests.graph.rebuild import to_model


def facts_of(model: Any, storage: str | None = None, accumulator: str | None = None) -> NodeFacts:
    """What is found of a model's last node."""
    graph = load(model)
    formats = [None if name is None else FORMATS[name] for name in (storage, accumulator)]
    found: NodeFacts = annotate(graph, *formats).facts[graph.nodes[-1].name]
    return found


def jacobian(model: Any) -> np.ndarray[Any, Any]:
    """Of a linear model in integers, exactly: its results on unit vectors, with what it gives for zero taken off."""
    graph = load(model)
    (name,) = graph.inputs
    shape = graph.values[name].shape
    session = onnxruntime.InferenceSession(to_model(graph).SerializeToString())
    size = int(np.prod(shape))

    def result(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(session.run(None, {name: x.reshape(shape).astype(np.float32)})[0], np.float64).reshape(-1)

    return np.stack([result(row) - result(np.zeros(size)) for row in np.eye(size)], axis=1)


def integers(*shape: int) -> np.ndarray[Any, Any]:
    found = np.random.default_rng(sum(shape)).integers(1, 9, shape) * np.random.default_rng(7).choice([-1, 1], shape)
    return found.astype(np.float32)


def layer(op_type: str, shape: list[int], constants: dict[str, Any], operands: list[str] | None = None, **attributes: Any) -> Any:
    node = helper.make_node(op_type, operands or ["x", *constants], ["y"], **attributes)
    return model_of([node], {"x": shape}, ["y"], constants)


LINEAR = {
    "matmul": layer("MatMul", [2, 5], {"W": integers(5, 4)}),
    "matmul on the left": layer("MatMul", [5, 2], {"W": integers(4, 5)}, ["W", "x"]),
    "matmul with a vector": layer("MatMul", [2, 5], {"W": integers(5)}),
    "stacked matmul": layer("MatMul", [2, 3, 5], {"W": integers(2, 5, 4)}),
    "gemm": layer("Gemm", [2, 5], {"W": integers(5, 4), "C": integers(4)}),
    "gemm transposed and scaled": layer("Gemm", [2, 5], {"W": integers(4, 5)}, transB=1, alpha=2.0),
    "gemm on the left": layer("Gemm", [5, 2], {"W": integers(5, 4)}, ["W", "x"], transA=1),
    "conv": layer("Conv", [1, 2, 6, 6], {"W": integers(3, 2, 3, 3), "b": integers(3)}, pads=[1, 1, 1, 1]),
    "grouped conv": layer("Conv", [1, 4, 7, 7], {"W": integers(6, 2, 3, 2)}, group=2, strides=[2, 1], dilations=[1, 2]),
    "conv transpose": layer("ConvTranspose", [1, 2, 6, 6], {"W": integers(2, 3, 3, 3)}),
    "strided conv transpose": layer("ConvTranspose", [1, 2, 6], {"W": integers(2, 3, 5)}, strides=[2]),
    "dilated conv transpose": layer("ConvTranspose", [1, 4, 6], {"W": integers(4, 3, 3)}, strides=[2], dilations=[3], group=2),
    "average pool": layer("AveragePool", [1, 2, 6, 6], {}, kernel_shape=[2, 4]),
    "global average pool": layer("GlobalAveragePool", [1, 2, 4, 4], {}),
    "reduce sum": layer("ReduceSum", [3, 4, 2], {"axes": np.array([0, 2])}),
    "reduce mean": layer("ReduceMean", [3, 4, 2], {"axes": np.array([1])}),
}


@pytest.mark.parametrize("case", LINEAR)
def test_linear_maps_against_their_jacobian(case: str) -> None:
    found, matrix = facts_of(LINEAR[case]), jacobian(LINEAR[case])
    exact = np.max(np.sum(np.abs(matrix), axis=1))
    assert found.fan_in == np.max(np.count_nonzero(matrix, axis=1))
    assert found.lipschitz is not None
    assert found.lipschitz >= exact
    assert found.lipschitz <= exact * (1 + 1e-6)
    if found.spectral is not None:
        norm = float(np.linalg.norm(matrix, 2))
        assert found.spectral >= norm * (1 - 1e-9)
        assert found.spectral_bound or found.spectral <= norm * (1 + 1e-9)
        assert found.spectral_bound == ("conv" in case)


def test_a_large_matrix_has_the_norm_that_a_full_decomposition_finds() -> None:
    weights = np.random.default_rng(0).standard_normal((150, 90)).astype(np.float32)
    found = facts_of(dense(weights))
    assert found.spectral == pytest.approx(np.linalg.norm(weights.astype(np.float64), 2), rel=1e-9)
    assert not found.spectral_bound


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = Add(x, x)", 2.0),
        ("y = Sub(x, three)", 1.0),
        ("y = Mul(x, three)", 3.0),
        ("y = Mul(x, x)", None),
        ("y = Div(x, quarter)", 4.0),
        ("y = Div(quarter, x)", None),
        ("y = Sum(x, x, three, x)", 3.0),
        ("y = LeakyRelu<alpha = 2.0>(x)", 2.0),
        ("y = Elu<alpha = 0.5>(x)", 1.0),
        ("y = Exp(x)", None),
        ("y = Sqrt(x)", None),
        ("y = Floor(x)", None),
        ("y = PRelu(x, three)", 3.0),
        ("y = Clip(x, quarter, three)", 1.0),
        ("y = HardSigmoid(x)", float(np.float32(0.2))),
        ("y = CumSum(x, axis)", 2.0),
    ],
)
def test_constants_of_other_operators(text: str, expected: float | None) -> None:
    constants = {"three": np.float32(3), "quarter": np.float32(0.25), "axis": np.int64(0)}
    found = facts_of(parsed(f"g (float[2] x) => (float[2] y) {{ {text} }}", **constants)).lipschitz
    assert found is None if expected is None else found is not None and expected <= found <= expected * (1 + 1e-12)


MPMATH = {
    "Erf": lambda mp, x: mp.erf(x),
    "Sigmoid": lambda mp, x: 1 / (1 + mp.exp(-x)),
    "HardSwish": lambda mp, x: x * min(1, max(0, x / 6 + mp.mpf(1) / 2)),
    "Gelu": lambda mp, x: x * (1 + mp.erf(x / mp.sqrt(2))) / 2,
    "Gelu of tanh": lambda mp, x: x * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))) / 2,
    "Swish": lambda mp, x: x / (1 + mp.exp(-x)),
    "Mish": lambda mp, x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "Asinh": lambda mp, x: mp.asinh(x),
    "Softsign": lambda mp, x: x / (1 + abs(x)),
    "Softplus": lambda mp, x: mp.log1p(mp.exp(x)),
}


@pytest.mark.parametrize("operator", MPMATH)
def test_slopes_bound_every_difference_quotient(operator: str) -> None:
    import mpmath

    with mpmath.workdps(40):
        grid = [mpmath.mpf(i) / 64 for i in range(-64 * 6, 64 * 6 + 1)]
        values = [MPMATH[operator](mpmath, x) for x in grid]
        steepest = max(abs(b - a) * 64 for a, b in pairwise(values))
    slope = SLOPES[operator.split()[0]]
    assert steepest <= slope
    assert slope <= steepest * mpmath.mpf("1.02")


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=5), st.data())
def test_softmax_is_bound_by_a_half(x: list[float], data: st.DataObject) -> None:
    import mpmath

    z = data.draw(st.lists(st.floats(-30, 30, width=32), min_size=len(x), max_size=len(x)))
    with mpmath.workdps(60):
        moved = max(abs(mpmath.mpf(a) - mpmath.mpf(b)) for a, b in zip(x, z, strict=True))
        rows = [[mpmath.exp(mpmath.mpf(v)) for v in row] for row in (x, z)]
        p, q = ([e / sum(row) for e in row] for row in rows)
        assert max(abs(a - b) for a, b in zip(p, q, strict=True)) <= SLOPES["Softmax"] * moved
        log = max(abs(mpmath.log(a) - mpmath.log(b)) for a, b in zip(p, q, strict=True))
        assert log <= SLOPES["LogSoftmax"] * moved + mpmath.mpf(10) ** -50


def test_batch_normalization_scales_by_the_stored_epsilon() -> None:
    constants = {name: np.float32([value]) for name, value in {"s": -3, "b": 1, "m": 2, "v": 0.25}.items()}
    found = facts_of(layer("BatchNormalization", [1, 1, 2], constants)).lipschitz
    assert found is not None
    square = Fraction(9) / (Fraction(1, 4) + Fraction(float(np.float32(1e-5))))
    assert Fraction(found) ** 2 >= square
    assert Fraction(found) ** 2 <= square * (1 + Fraction(1, 10**12))


@given(st.integers(1, 2**40), st.sampled_from(sorted(FORMATS)))
def test_gamma_is_at_least_the_rational_one(n: int, name: str) -> None:
    product = n * Fraction(FORMATS[name].unit_roundoff)
    found = gamma(n, FORMATS[name].unit_roundoff)
    if product >= 1:
        assert found == inf
    else:
        assert Fraction(found) >= product / (1 - product)


@pytest.mark.parametrize(
    ("storage", "accumulator", "expected"),
    [(None, None, "fp32"), ("bf16", None, "fp32"), ("fp64", None, "fp64"), ("fp16", "fp16", "fp16"), (None, "bf16", "bf16")],
)
def test_gamma_is_of_the_accumulator(storage: str | None, accumulator: str | None, expected: str) -> None:
    assert facts_of(dense(np.ones((100, 2))), storage, accumulator).gamma == gamma(100, FORMATS[expected].unit_roundoff)


def test_gamma_says_where_it_means_nothing() -> None:
    assert facts_of(dense(np.ones((256, 2))), "bf16", "bf16").gamma == inf
    assert facts_of(dense(np.ones((255, 2))), "bf16", "bf16").gamma == np.nextafter(255.0, inf)


def test_the_range_of_weights() -> None:
    found = facts_of(dense(np.float32([[0.0, 1.0], [-70000.0, 2.0**-15], [2.0**-24, 65504.0]])), "fp16")
    assert (found.parameters, found.weights, found.overflowing, found.underflowing) == (6, 6, 1, 2)
    assert (found.largest_weight, found.smallest_weight) == (70000.0, 2.0**-24)
    assert found.out_of_range == 0.5
    assert facts_of(dense(np.zeros((2, 2)))).largest_weight is None


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 5), st.integers(1, 30))
def test_slabs_see_every_weight(rows: int, columns: int, depth: int, slab: int) -> None:
    weights = np.random.default_rng(rows).integers(-9, 10, (rows, columns, depth)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("certify.graph.weights.SLAB", slab)
        for axes in ((0,), (1, 2), (0, 2), (-1,)):
            exact = np.sum(np.abs(weights.astype(np.float64)), axis=axes)
            found = absolute_sums(weights, axes)
            assert found.shape == exact.shape
            assert np.all((exact <= found) & (found <= exact * (1 + 1e-12)))
        found_magnitudes = magnitudes(weights, FORMATS["fp16"])
    repeated = np.broadcast_to(np.float32(0.1), (rows, columns))
    exact_sum = rows * Fraction(float(np.float32(0.1)))
    assert all(exact_sum <= Fraction(float(x)) <= exact_sum * (1 + Fraction(1, 10**12)) for x in absolute_sums(repeated, (0,)))
    sizes = np.abs(weights[weights != 0])
    assert found_magnitudes.largest == (float(sizes.max()) if sizes.size else None)
    assert found_magnitudes.smallest == (float(sizes.min()) if sizes.size else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = Softmax(x)", 4),
        ("y = LogSoftmax<axis = 1>(x)", 3),
        ('y = Einsum<equation = "abc,cd->abd">(x, W)', 4),
        ('y = Einsum<equation = "...c,cd->...">(x, W)', 20),
        ("y = LayerNormalization<axis = 1>(x, S)", 12),
        ("y = Relu(x)", None),
        ("y = Sum(x, x, x)", 3),
    ],
)
def test_fan_in_of_other_operators(text: str, expected: int | None) -> None:
    constants = {"W": np.ones((4, 5), np.float32), "S": np.ones((3, 4), np.float32)}
    assert facts_of(parsed(f"g (float[2, 3, 4] x) => (float[a, b, c] y) {{ {text} }}", **constants)).fan_in == expected


def test_facts_are_attributes_of_the_networkx_nodes() -> None:
    graph = annotate(load(dense(np.ones((3, 2)))))
    assert graph.graph.nodes["y"]["facts"] is graph.facts["y"]
    assert annotate(graph, norms=False).facts["y"].spectral is None
