"""Where a bound comes from: shares add up to it, lie with the right cause and node, and predict what mending gains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import certify
from certify.attribute import Attribution, attribution, layer_of
from certify.cli.main import main
from certify.engines.contract import Guarantee
from certify.errors import UsageError
from certify.request import Request
from tests.engines.networks import perceptron

X = np.random.default_rng(0).uniform(-1, 1, (3, 1, 6)).astype(np.float32)


def of(model: onnx.ModelProto, x: Any = X, output: str | None = None, **options: Any) -> Attribution:
    return attribution(Request(model, data={"x": np.asarray(x, np.float32)}, validate=False, **options), output)


def network(nodes: list[onnx.NodeProto], size: int, constants: dict[str, Any]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("x", "y")]
    held = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], held), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
def test_the_shares_of_rounding_add_up_to_the_bound(dtype: str, activation: str) -> None:
    model = perceptron([6, 16, 16, 3], activation, 1)
    found = of(model, dtype=dtype)
    rounding = found.total - found.causes["weights"] - found.causes["inputs"]
    assert rounding == pytest.approx(found.bound, rel=1e-6)
    certificate = certify.certify(model, dtype=dtype, data={"x": X}, validate=False).outputs["y"]
    assert found.bound == certificate.rounding.max()
    assert found.conversion == pytest.approx(certificate.conversion[found.case][found.index], rel=1e-9)
    assert found.conversion <= found.causes["weights"] + found.causes["inputs"] + found.causes["second order"] + 1e-3 * found.total
    assert sum(found.layers.values()) == pytest.approx(found.total)
    assert sum(row.amount for row in found.rows) == pytest.approx(found.total)


def test_each_cause_is_found_where_it_lies() -> None:
    wide = network([helper.make_node("MatMul", ["x", "w"], ["y"], "sum")], 64, {"w": np.ones((64, 64)) / 64.0})
    ones = np.ones((1, 1, 64))
    summed = of(wide, ones * 0.7, dtype="fp32")
    assert summed.causes["accumulation"] > 0.9 * summed.total
    assert summed.causes["weights"] == summed.causes["inputs"] == summed.causes["elementary"] == 0.0
    narrow = of(wide, ones, dtype="bf16")
    assert narrow.causes["storage"] > 0.9 * narrow.total
    held = of(wide, ones * 0.7, dtype="bf16")
    assert held.causes["inputs"] == pytest.approx(0.7 * 2.0**-9, rel=0.5)
    rough = network([helper.make_node("Mul", ["x", "w"], ["y"], "scale")], 4, {"w": np.full((1, 4), 1.3)})
    weights = of(rough, np.ones((1, 1, 4)), dtype="bf16")
    assert weights.rows[0].name == "w"
    assert weights.causes["weights"] == pytest.approx(weights.conversion, rel=1e-6)
    curved = network([helper.make_node("Exp", ["x"], ["y"], "exp")], 4, {})
    assert of(curved, np.ones((1, 1, 4)), dtype="fp32").causes["elementary"] > 0.9 * of(curved, np.ones((1, 1, 4)), dtype="fp32").total


def test_the_node_that_is_blamed_is_the_one_that_mends() -> None:
    """Large values that are subtracted again: the sums in their size have the error, not the small network before."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"], "block/small"),
        helper.make_node("Add", ["t", "big"], ["a"], "block/add"),
        helper.make_node("Sub", ["a", "big"], ["y"], "head/sub"),
    ]
    found = of(network(nodes, 4, {"big": np.full((1, 4), 1024.0)}), np.full((1, 1, 4), 0.3), dtype="fp16")
    assert found.rows[0].name == "block/add"
    assert max(found.rows[0].causes, key=lambda cause: found.rows[0].causes[cause]) == "storage"
    assert found.rows[0].amount > 0.9 * found.total
    assert next(iter(found.layers)) == "block"


def test_layers_are_the_scopes_of_names() -> None:
    assert layer_of("/blocks.0/attn/MatMul") == "blocks.0/attn"
    assert layer_of("blocks.0.weight") == "blocks.0"
    assert layer_of("node_3") == "node_3"


def test_by_the_sketch() -> None:
    found = of(perceptron([6, 24, 24, 24, 24, 3], "Tanh", 1), dtype="fp16", engine="sketch", eta=1e-7)
    assert found.guarantee == Guarantee.RANDOMIZED
    assert found.failure_probability == 1e-7
    assert found.causes["second order"] > 0.0


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = tmp_path / "net.onnx", tmp_path / "x.npz"
    onnx.save(perceptron([6, 16, 3], "Relu", 1), model)
    np.savez(data, x=X)
    words = ["attribute", str(model), "--dtype", "bf16", "--data", str(data)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "certify-attribution/1"
    assert found["guarantee"] == "proved"
    assert max(found["causes"], key=found["causes"].get) in ("storage", "weights")
    assert main([*words, "--of", "y", "--no-color"]) == 0
    shown = capsys.readouterr().out
    assert "rounding at most" in shown
    assert "storing weights" in shown
    assert "gemm0 (Gemm)" in shown
    assert main([*words, "--of", "z"]) == 2
    assert "--of z: the model has no such output; its outputs are y" in capsys.readouterr().err
    assert main([*words[:4], "--region"]) == 2
    assert main([*words, "--engine", "running"]) == 2
    assert "choose --engine adjoint or sketch" in capsys.readouterr().err


def test_an_infinite_bound_is_blamed_on_where_it_was_lost() -> None:
    nodes = [helper.make_node("Exp", ["x"], ["e"], "exp"), helper.make_node("Exp", ["e"], ["y"], "again")]
    found = of(network(nodes, 4, {}), np.full((1, 1, 4), 3.0), dtype="fp16")
    assert found.bound == np.inf
    assert found.rows[0].name == "again"


def test_what_is_infinite_exits_with_3_and_engines_without_shares_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = tmp_path / "net.onnx", tmp_path / "x.npz"
    onnx.save(network([helper.make_node("Exp", ["x"], ["y"], "exp")], 4, {}), model)
    np.savez(data, x=np.full((1, 1, 4), 30.0, np.float32))
    words = ["attribute", str(model), "--dtype", "fp16", "--data", str(data)]
    assert main(words) == 3
    assert "rounding at most ∞" in capsys.readouterr().out
    assert main([*words, "--engine", "sampled"]) == 2
    assert "no output has a bound with multipliers to take apart" in capsys.readouterr().err


def test_what_makes_no_sense() -> None:
    with pytest.raises(UsageError, match="attribute: answers at points"):
        attribution(Request(perceptron([6, 3], "Relu", 0), region=True))
