"""True certificates are proved again, from the command line, and what the checker does not cover is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import certify
from certify.checker.files import check
from certify.checker.kernel import Pass
from certify.checker.model import Model, units
from certify.checker.rounding import FORMATS, UNIT, Wide
from certify.cli.main import main
from tests.checker.conftest import Made, make


def _check(made: Made, *options: str) -> int:
    return main(["check", str(made.certificate), str(made.model), *options])


def test_a_perceptron_is_proved(mlp: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(mlp) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("case 0, logits: checked bound ")
    assert lines[-1] == "proved: 2 of 2 bounds"


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_in_other_formats_too(root: Path, tmp_path: Path, dtype: str) -> None:
    assert _check(make(root / "models" / "digits_mlp.onnx", tmp_path, dtype, 1)) == 0


def test_by_running_error_analysis_without_any_hint(root: Path, tmp_path: Path) -> None:
    assert _check(make(root / "models" / "digits_mlp.onnx", tmp_path, "fp32", 1, engine="running")) == 0


def test_convolutions_and_pooling_are_proved(root: Path, tmp_path: Path) -> None:
    made = make(root / "models" / "digits_cnn.onnx", tmp_path, "bf16", 4)
    findings = list(check(made.certificate, made.model, made.witness))
    assert [finding.holds for finding in findings] == [True] * 4
    # Not far below the claim either: the checker proves the claim, not something else.
    assert all(float(finding.proved) > 0.9 * finding.claimed for finding in findings)


def test_refined_at_depth(root: Path, tmp_path: Path) -> None:
    assert _check(make(root / "benchmarks" / "models" / "digits_mlp_6x128.onnx", tmp_path, "bf16", 1)) == 0


def test_a_real_model(real_models: Path, tmp_path: Path) -> None:
    model = real_models / "vnncomp_mnistfc" / "mnist-net_256x2.onnx"
    if not model.exists():
        pytest.skip("not among the real models")
    path = tmp_path / "mnist.json"
    certify.certify(model, dtype="bf16", ranges=(0.0, 1.0), samples=1, validate=False, outputs=[path, path.with_suffix(".witness")])
    assert _check(Made(path, model)) == 0


def test_json(mlp: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(mlp, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["proved"] is True
    assert [row["case"] for row in told["findings"]] == [0, 1]


def _written(nodes: list[onnx.NodeProto], shape: list[int], tensors: dict[str, np.ndarray], folder: Path) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    path = folder / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def _sown(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


NETWORKS = {
    "residual": (
        [
            helper.make_node("MatMul", ["x", "W"], ["a"]),
            helper.make_node("Add", ["a", "b"], ["c"]),
            helper.make_node("Relu", ["c"], ["d"]),
            helper.make_node("Mul", ["d", "s"], ["e"]),
            helper.make_node("Sub", ["e", "x"], ["y"]),
        ],
        [2, 6],
        {"W": _sown(6, 6), "b": _sown(6), "s": _sown(1, 6)},
    ),
    "grouped, strided, dilated": (
        [
            helper.make_node("Conv", ["x", "W", "b"], ["a"], group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 2, 0, 2]),
            helper.make_node("MaxPool", ["a"], ["c"], kernel_shape=[2, 3], pads=[0, 0, 1, 0]),
            helper.make_node("Relu", ["c"], ["d"]),
            helper.make_node("GlobalAveragePool", ["d"], ["e"]),
            helper.make_node("Transpose", ["e"], ["f"], perm=[0, 2, 3, 1]),
            helper.make_node("Squeeze", ["f", "axes"], ["y"]),
        ],
        [1, 4, 8, 4],
        {"W": _sown(6, 2, 3, 2), "b": _sown(6), "axes": np.array([1], dtype=np.int64)},
    ),
    "cut out and padded": (
        [
            helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["a"]),
            helper.make_node("Pad", ["a", "pads", "zero"], ["b"]),
            helper.make_node("Conv", ["b", "W"], ["c"]),
            helper.make_node("Slice", ["c", "starts", "ends"], ["d"]),
            helper.make_node("Relu", ["d"], ["y"]),
        ],
        [1, 2, 6, 7],
        {
            "starts": np.array([0, -2, 1, -9]),
            "ends": np.array([1, 2**62, 5, -1]),
            "axes": np.array([0, 1, 3, 2]),
            "steps": np.array([1, 1, 2, 1]),
            "pads": np.array([0, 0, 1, 2, 0, 0, 3, 4]),
            "zero": np.zeros((), dtype=np.float32),
            "W": _sown(2, 2, 2, 2),
        },
    ),
    "constant on the left": (
        [
            helper.make_node("Reshape", ["x", "shape"], ["a"]),
            helper.make_node("Transpose", ["V"], ["W"]),
            helper.make_node("MatMul", ["W", "a"], ["b"]),
            helper.make_node("Flatten", ["b"], ["y"], axis=2),
        ],
        [4, 6],
        {"V": _sown(3, 5), "shape": np.array([2, -1, 4], dtype=np.int64)},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_operator(tmp_path: Path, name: str) -> None:
    nodes, shape, tensors = NETWORKS[name]
    model, path = _written(nodes, shape, tensors, tmp_path), tmp_path / "small.json"
    for dtype in ("fp32", "fp16"):
        made = certify.certify(model, dtype=dtype, samples=2, validate=True, outputs=[path, path.with_suffix(".witness")])
        findings = list(check(path, model, path.with_suffix(".witness")))
        assert len(findings) == 2
        for finding in findings:
            assert finding.holds
            observed = made.outputs["y"].observed_error
            assert observed is not None
            assert float(observed[finding.case].max()) <= finding.proved


def test_a_dot_product_may_fall_into_the_binade_below_its_exact_result(tmp_path: Path) -> None:
    """The exact sum is just above 1, the computed one just below: adding c to it rounds, though the exact sum plus c would not."""
    x = np.array([[float.fromhex("0x1.31febp+0"), float.fromhex("0x1.51b684p-2")]], dtype=np.float32)
    w = np.array([[float.fromhex("0x1.27b724p+0")], [float.fromhex("-0x1.2788a4p+0")]], dtype=np.float32)
    c = np.array([[0.5 + 2.0**-23]], dtype=np.float32)
    products = (x[0] * w[:, 0]).astype(np.float32)
    sum_ = np.float32(products[0] + products[1])
    born = abs(float(np.float32(sum_ + c[0, 0])) - float(sum_) - float(c[0, 0]))
    assert born > 0.0
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "c"], ["y"])]
    model = Model(onnx.load(_written(nodes, [1, 2], {"w": w, "c": c}, tmp_path)), {"x": (1, 2)}, None)
    one = Pass(Wide(FORMATS["fp32"]))
    one.given("x", units(x, None))
    for step in model.steps:
        one.take(step)
    assert one.noise["y"][0] >= int(born * 2.0**60) << UNIT - 60


def test_values_are_those_of_another_runtime(tmp_path: Path) -> None:
    """The checker's own reading of the model, against the certificate's reference: within what the latter doubts."""
    for nodes, shape, tensors in NETWORKS.values():
        path = _written(nodes, shape, tensors, tmp_path)
        x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        output = certify.certify(path, data={"x": x[None]}, validate=False).outputs["y"]
        model = Model(onnx.load(path), {"x": tuple(shape)}, None)
        one = Pass(None)
        one.given("x", units(x, None))
        for step in model.steps:
            one.take(step)
        z = np.array([int(n) / 2.0**UNIT for n in one.z["y"]]).reshape(model.shapes["y"])
        assert model.shapes["y"] == output.shape
        assert (np.abs(z - output.reference[0]) <= output.reference_radius[0] + 2.0**-50 * np.abs(z)).all()


def test_what_is_not_covered_is_named(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(root / "models" / "residual_softmax.onnx", tmp_path, "fp32", 1)
    assert _check(made) == 3
    told = capsys.readouterr().err
    assert "ai.onnx::Tanh (node 'block0/tanh')" in told
    assert "ai.onnx::Softmax" in told


@pytest.mark.parametrize("options", [{"profile": "ieee"}, {"accumulate": "bf16"}])
def test_other_profiles_are_not_covered(root: Path, tmp_path: Path, options: dict[str, object]) -> None:
    assert _check(make(root / "models" / "digits_mlp.onnx", tmp_path, "bf16", 1, **options)) == 3


def test_it_needs_nothing_else_of_certify() -> None:
    program = "import sys, certify.checker.files; print(sorted(name for name in sys.modules if name.startswith('certify.')))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    own = ["certify.checker", *(f"certify.checker.{part}" for part in ("files", "kernel", "model", "rounding"))]
    assert told.strip() == str([*own, "certify.errors", "certify.version"])


def test_files_that_cannot_be_read(mlp: Made, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert main(["check", absent, str(mlp.model)]) == 2
    assert main(["check", str(mlp.certificate), absent]) == 2
    assert main(["check", str(mlp.certificate), str(mlp.model), "--witness", absent]) == 2
    assert main(["check", str(mlp.certificate), str(mlp.model), "--witness", str(mlp.model)]) == 2
    assert main(["check", str(mlp.model), str(mlp.model)]) == 2


def test_a_witness_must_be_asked_for_in_time(root: Path, tmp_path: Path) -> None:
    certificate = certify.certify(root / "models" / "digits_mlp.onnx", samples=1, validate=False)
    with pytest.raises(certify.UsageError, match="without a witness"):
        certificate.save(tmp_path / "late.witness")
    with pytest.raises(certify.UsageError, match="not of a region"):
        certify.certify(root / "models" / "digits_mlp.onnx", region=True, validate=False, outputs=[tmp_path / "region.witness"])
