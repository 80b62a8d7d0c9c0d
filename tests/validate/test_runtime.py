from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from certify.validate.runtime import (
    ValidationUnavailable,
    batch_dimension,
    open_runner,
    provider_missing,
    run_batched,
    run_cases,
    run_onnxruntime,
    runtime_name,
)
from tests.validate.graphs import model, perceptron, unary


def test_runs_a_model_and_a_path_and_bytes_alike(tmp_path):
    network = perceptron()
    x = np.random.default_rng(1).standard_normal((1, 6)).astype(np.float32).astype(np.float64)
    path = tmp_path / "network.onnx"
    save(network, path)
    results = [run_onnxruntime(source, {"x": x})["y"] for source in (network, path, str(path), network.SerializeToString())]
    assert all(np.array_equal(results[0], other) for other in results[1:])
    assert results[0].dtype == np.float32
    assert results[0].shape == (1, 3)


@pytest.mark.parametrize("optimization", ["disabled", "basic", "all"])
def test_rewrites_keep_the_result_close(optimization):
    network = perceptron()
    x = np.float32([[0.5, -1, 2, 0.25, 1, -3]])
    plain = run_onnxruntime(network, {"x": x})["y"]
    assert np.allclose(run_onnxruntime(network, {"x": x}, optimization=optimization)["y"], plain, rtol=1e-5, atol=1e-6)


def test_cases_run_one_by_one_and_in_one_batch():
    network = perceptron()
    x = np.random.default_rng(2).standard_normal((5, 1, 6)).astype(np.float32)
    run = open_runner(network)
    single = run_cases(run, {"x": x})
    together = run_batched(run, {"x": x}, single)
    assert single["y"].shape == together["y"].shape == (5, 1, 3)
    assert np.allclose(single["y"], together["y"], atol=1e-5)
    assert batch_dimension(network) == "N"


def test_a_constant_input_meets_every_case():
    adding = model([helper.make_node("Add", ["x", "c"], ["y"])], {"x": [2], "c": [2]}, {"y": [2]})
    result = run_cases(open_runner(adding), {"x": np.array([[1.0, 2.0], [3.0, 4.0]]), "c": np.array([[10.0, 20.0]])})
    assert result["y"].tolist() == [[11.0, 22.0], [13.0, 24.0]]


def test_a_first_dimension_that_mixes_its_rows_is_no_batch():
    mixing = model([helper.make_node("Softmax", ["x"], ["y"], axis=0)], {"x": ["T", 3]}, {"y": ["T", 3]})
    x = np.random.default_rng(3).standard_normal((4, 2, 3)).astype(np.float32)
    assert batch_dimension(mixing) == "T"
    run = open_runner(mixing)
    with pytest.raises(ValidationUnavailable, match="no batch: output y"):
        run_batched(run, {"x": x}, run_cases(run, {"x": x}))


@pytest.mark.parametrize("widest", [0, 1, 2])
def test_one_case_that_decides_for_the_others_is_no_batch(widest):
    """The range that is quantized is that of the whole batch: the case that spans it does not change, the others do."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    mixing = model(nodes, {"x": ["N", 3]}, {"y": ["N", 3]})
    x = np.float32([[[0.5, 0.25, 1.0]], [[0.3, 0.7, 0.9]], [[0.1, 1.0, 0.6]]])
    x[widest] *= 4.0
    run = open_runner(mixing)
    with pytest.raises(ValidationUnavailable, match="no batch: output y"):
        run_batched(run, {"x": x}, run_cases(run, {"x": x}))


def test_no_common_symbolic_dimension_is_no_batch():
    assert batch_dimension(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]}, {"y": [1, 3]})) is None
    two = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 3], "w": [3, 2]}, {"y": ["N", 2]})
    assert batch_dimension(two) is None


def test_bfloat16_travels_by_its_bits():
    widening = model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], {"x": [3]}, {"y": [3]}, elements={"x": TensorProto.BFLOAT16}
    )
    x = np.array([1.0078125, -3.0e38, 0.0])
    x[1] = np.float64(np.uint32(0xFF610000).view(np.float32))
    assert np.array_equal(run_onnxruntime(widening, {"x": x})["y"], x)
    with pytest.raises(ValidationUnavailable, match="x holds values that"):
        run_onnxruntime(widening, {"x": np.array([1.001, 0, 0])})
    narrowing = model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)], {"x": [2]}, {"y": [2]}, elements={"y": TensorProto.BFLOAT16}
    )
    assert run_onnxruntime(narrowing, {"x": np.array([1.00390625, -2.5])})["y"].tolist() == [1.0, -2.5]


def test_values_outside_the_input_type_are_refused():
    with pytest.raises(ValidationUnavailable, match="x holds values that tensor\\(float\\) cannot hold"):
        run_onnxruntime(unary("Relu"), {"x": np.array([0.1])})
    with pytest.raises(ValidationUnavailable, match="tensor\\(int64\\)"):
        run_onnxruntime(unary("Abs", element=TensorProto.INT64), {"x": np.array([0.5])})
    assert np.isnan(run_onnxruntime(unary("Abs"), {"x": np.array([np.nan])})["y"]).all()


def test_failures_say_why():
    with pytest.raises(ValidationUnavailable, match="no value for input x"):
        run_onnxruntime(unary("Relu"), {})
    with pytest.raises(ValidationUnavailable, match=r"refuses the model: .*NOT_IMPLEMENTED"):
        run_onnxruntime(unary("Erf", element=TensorProto.DOUBLE), {"x": np.zeros(2)})
    multiplying = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [None, None], "w": [None, None]}, {"y": [None, None]})
    with pytest.raises(ValidationUnavailable, match=r"failed: .*MatMul"):
        run_onnxruntime(multiplying, {"x": np.zeros((2, 3)), "w": np.zeros((2, 3))})


def test_a_dimension_fed_in_two_ways_is_refused():
    adding = model([helper.make_node("Add", ["x", "z"], ["y"])], {"x": ["N"], "z": ["N"]}, {"y": ["N"]})
    with pytest.raises(ValidationUnavailable, match="dimension N is fed as 2 and as 3"):
        run_onnxruntime(adding, {"x": np.zeros(2), "z": np.zeros(3)})


def test_cuda_is_used_or_its_absence_said():
    reason = provider_missing("cuda")
    if reason is None:
        assert run_onnxruntime(unary("Relu"), {"x": np.array([-1.0, 2.0])}, provider="cuda")["y"].tolist() == [0.0, 2.0]
        return
    assert "has no CUDAExecutionProvider; it offers" in reason
    with pytest.raises(ValidationUnavailable, match="no CUDAExecutionProvider"):
        run_onnxruntime(unary("Relu"), {"x": np.array([-1.0])}, provider="cuda")
    assert provider_missing("cpu") is None


def test_the_runtime_names_itself():
    assert runtime_name("cpu", "all").endswith("CPUExecutionProvider, rewrites all, threads 1")


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.BFLOAT16])
def test_a_scalar_stays_a_scalar(element):
    graph = model([helper.make_node("Abs", ["x"], ["y"])], {"x": []}, {"y": []}, element=element)
    if element == TensorProto.BFLOAT16:
        graph = model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], {"x": []}, {"y": []}, elements={"x": element})
    assert run_cases(open_runner(graph), {"x": np.array([2.0, 3.0])})["y"].tolist() == [2.0, 3.0]
