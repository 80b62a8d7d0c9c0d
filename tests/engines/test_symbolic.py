"""The first-order formulas, and their coefficients against proved bounds."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from certify.analysis.problem import Problem
from certify.engines import adjoint
from certify.engines.sweep import sweep
from certify.engines.symbolic import Coefficients, coefficients, formula, perturbed
from certify.number.formats import FORMATS, synthetic_format
from certify.number.upward import Array
from tests.engines.networks import perceptron, problems
from tests.graph.build import parsed

KAPPA, U_STORE, U_ACC = sympy.Symbol("kappa", positive=True), *sympy.symbols("u_store u_acc", positive=True)
POINT = np.linspace(0.3, 0.9, 6).reshape(1, 1, 6)


def texts(graph: str, x: Array, dtype: str = "bf16", profile: str = "wide", **constants: Array) -> dict[str, sympy.Expr]:
    """The formula of each step by its output."""
    _, exact = problems(parsed(graph, **constants), dtype, x, profile)
    return {step.output: formula(exact, step) for step in exact.steps}


def first_order(problem: Problem) -> Coefficients:
    stored = frozenset(problem.values) - problem.produced
    return coefficients(sweep(perturbed(problem, stored)), problem.outputs[0], stored)


@pytest.mark.parametrize("width", [1, 6, 50])
def test_a_dot_product_of_n_terms(width: int) -> None:
    graph = f"g (float[1, {width}] x) => (float[1, 2] y) {{ y = Gemm(x, W, b) }}"
    x = np.linspace(0.3, 0.9, width).reshape(1, 1, width)
    found = texts(graph, x, W=np.full((width, 2), 0.7, np.float32), b=np.float32([0.5, 0.25]))
    assert sympy.expand(found["y"] - (width * KAPPA * U_ACC + U_STORE)) == 0


def test_a_sum_of_n_terms() -> None:
    found = texts("g (float[1, 6] x) => (float[1, 1] y) { y = ReduceSum <keepdims = 1> (x, a) }", POINT, a=np.array([1]))
    assert sympy.expand(found["y"] - (5 * KAPPA * U_ACC + U_STORE)) == 0


@pytest.mark.parametrize("operator", ["Exp", "Tanh", "Sigmoid"])
def test_an_elementary_function(operator: str) -> None:
    """ulps u_acc + u_store, with as many roundoffs as the profile says that the kernel may miss by."""
    graph = parsed(f"g (float[1, 6] x) => (float[1, 6] y) {{ y = {operator}(x) }}")
    _, exact = problems(graph, "bf16", POINT)
    (step,) = exact.steps
    relative, _ = step.arithmetic.accuracy(operator.lower())
    units = sympy.nsimplify(round(relative / step.arithmetic.unit_roundoff, 6))
    assert units >= 1
    assert sympy.expand(formula(exact, step) - (units * U_ACC + U_STORE)) == 0


def test_one_operation_is_one_rounding_and_a_copy_none() -> None:
    found = texts("g (float[1, 6] x) => (float[6] y) { a = Mul(x, x) b = Relu(a) y = Reshape(b, s) }", POINT, s=np.array([6]))
    assert found == {"a": U_STORE, "b": 0, "y": 0}


def test_steps_inside_a_fused_kernel_stay_in_the_accumulator() -> None:
    graph = "g (float[1, 6] x) => (float[1, 6] y) { y = LayerNormalization(x, s, b) }"
    found = texts(graph, POINT, s=np.ones(6, np.float32), b=np.zeros(6, np.float32))
    *inner, last = found.values()
    assert not any(text.has(U_STORE) for text in inner)
    assert last.coeff(U_STORE) == 1


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("profile", ["wide", "ieee"])
@pytest.mark.parametrize("seed", range(3))
def test_on_a_linear_network_first_order_is_the_rounding_bound(dtype: str, profile: str, seed: int) -> None:
    """One walk over the same maps: what differs is gamma against n u, second order, and products that are exact in fp32."""
    network = perceptron([6, 8, 5, 3], "Identity", seed)
    stored, _ = problems(network, dtype, np.random.default_rng(seed).uniform(-1, 1, (1, 1, 6)), profile)
    proved, _ = adjoint.solve(stored)
    storage = FORMATS[dtype]
    found = first_order(stored)
    rounding = found.store * storage.unit_roundoff + found.accumulate * (FORMATS["fp32"] if profile == "wide" else storage).unit_roundoff
    ratio = proved.outputs["y"] / rounding
    assert (ratio < 1.0 + 40 * storage.unit_roundoff).all()
    assert (ratio > 0.5).all()


def test_coefficients_of_one_layer_by_hand() -> None:
    """y = x W + b: store |y|, accumulate n (|x| |W| + |b|), convert 2 |x| |W| + |b|."""
    w, b = np.float32([[1.5, -2.0], [0.5, 3.0], [-1.25, 0.75]]), np.float32([0.5, -0.125])
    x = np.array([[[0.5, -1.0, 2.0]]])
    _, exact = problems(parsed("g (float[1, 3] x) => (float[1, 2] y) { y = Gemm(x, W, b) }", W=w, b=b), "bf16", x)
    found = first_order(exact)
    sizes = np.abs(x) @ np.abs(w)
    np.testing.assert_allclose(found.store, np.abs(x @ w + b), rtol=1e-9)
    np.testing.assert_allclose(found.accumulate, 3 * (sizes + np.abs(b)), rtol=1e-9)
    np.testing.assert_allclose(found.convert, 2 * sizes + np.abs(b), rtol=1e-9)


def test_an_input_counts_though_only_copied_before_it_is_used() -> None:
    w = np.float32([[1.5, -2.0], [0.5, 3.0], [-1.25, 0.75]])
    x = np.array([[[0.5, -1.0, 2.0]]])
    graph = "g (float[1, 3] x) => (float[1, 2] y) { a = Reshape(x, s) y = MatMul(a, W) }"
    found = first_order(problems(parsed(graph, W=w, s=np.array([1, 3])), "bf16", x)[1])
    np.testing.assert_allclose(found.convert, 2 * np.abs(x) @ np.abs(w), rtol=1e-9)


def test_the_bound_scales_with_the_roundoff() -> None:
    _, exact = problems(perceptron([6, 8, 3], "Tanh", 0), "fp32", np.random.default_rng(0).uniform(-1, 1, (1, 1, 6)))
    found = first_order(exact)
    one, other = (found.bound(synthetic_format(p), synthetic_format(p)) for p in (12, 15))
    np.testing.assert_array_equal(one, 8.0 * other)


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid"])
def test_first_order_predicts_the_proved_bound_of_every_format(activation: str) -> None:
    """Up to the roundings of constants, whose worst case it takes, and second order: within 8x above, 2x below."""
    network = perceptron([6, 8, 8, 3], activation, 2)
    x = np.random.default_rng(2).uniform(-1, 1, (1, 1, 6))
    found = first_order(problems(network, "fp32", x)[1])
    for name in ("fp32", "tf32", "fp16", "bf16"):
        stored, exact = problems(network, name, x)
        proved = adjoint.solve(stored)[0].outputs["y"] + np.abs(stored.values["y"].lo - exact.values["y"].lo)
        ratio = found.bound(FORMATS[name], FORMATS["fp32"]).max() / proved.max()
        assert 0.5 < ratio < 8.0, (name, ratio)
