"""--as-run: the graph that onnxruntime makes of a model, certified against the model's own exact function, and run at that level."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import certify
from certify.certificate.build import document
from certify.certificate.schema import encode
from certify.cli.main import main
from certify.errors import InvalidModel, Unsupported, UsageError
from certify.graph import as_run
from certify.request import LEVELS
from tests.cli.conftest import Program


def net(nodes: list[Any], constants: dict[str, Any], n: int = 4) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, 1, [1, n]) for name in "xy")
    stored = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# onnxruntime folds sqrt(2) in fp32: what it runs is not the model's own function.
FOLDED = net([helper.make_node("Sqrt", ["c"], ["r"], name="root"), helper.make_node("Mul", ["x", "r"], ["y"], name="scale")], {"c": 2.0})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_bundled_models(root: Path, name: str, level: str) -> None:
    certificate = certify.certify(root / f"models/{name}.onnx", as_run=f"ort-cpu:{level}", samples=3)
    assert certificate.claim.profile.name == "ort-cpu"
    run, validation = certificate.claim.as_run, certificate.validation
    assert run is not None
    assert (run.level, run.nodes <= certificate.model.nodes) == (level, True)
    assert validation is not None
    assert validation.violations == ()
    assert f"rewrites {level}, threads 1" in validation.runtime
    for output in certificate.outputs.values():
        assert output.observed_error is not None
        assert np.all(output.observed_error <= output.absolute_bound)


def test_folding_is_part_of_the_conversion_error() -> None:
    x = np.array([[1.0, -3.0, 1024.0, 0.0]], np.float32)
    certificate = certify.certify(FOLDED, as_run="ort-cpu", data={"x": x})
    out = certificate.outputs["y"]
    assert certificate.model.nodes == 2
    assert certificate.claim.as_run is not None
    assert certificate.claim.as_run.nodes == 1
    root = Fraction(float(np.sqrt(np.float32(2.0))))
    for i, v in enumerate(x[0]):
        moved = abs(float(root * Fraction(float(v)) - Fraction(float(v)) * Fraction(2.0**0.5)))
        assert out.conversion[0, 0, i] == pytest.approx(moved, rel=1e-6)
    assert [node.name for node in certificate.nodes] == ["scale"]
    own = certify.certify(FOLDED, profile="ort-cpu", data={"x": x}).outputs["y"]
    assert np.array_equal(own.reference, out.reference)
    assert not own.conversion.any()


def test_the_bound_is_about_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that folded wrongly is found out: by the conversion error, and nothing is hidden."""
    honest = as_run.LEVELS

    def forged(model: Any, level: Any) -> Any:
        wrong = net([helper.make_node("Mul", ["x", "r"], ["y"])], {"r": 1.5})
        return genuine(wrong, level)

    from certify.analysis import target

    genuine = target.written
    monkeypatch.setattr(target, "written", forged)
    certificate = certify.certify(FOLDED, as_run="ort-cpu", data={"x": np.full((1, 4), 8.0, np.float32)}, validate=False)
    assert certificate.outputs["y"].conversion.min() > 0.6
    assert as_run.LEVELS is honest


def test_decisions_hold_against_the_source(root: Path) -> None:
    certificate = certify.certify(
        root / "models/digits_cnn.onnx", as_run="ort-cpu", data=root / "models/digits_cnn.npz", budgets=["argmax"]
    )
    assert certificate.gate is not None
    assert certificate.gate.verdict == "certified"


def test_external_weights(tmp_path: Path) -> None:
    """They are found beside the source, and the written graph takes large ones along."""
    rng = np.random.default_rng(0)
    model = net([helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])],
                {"w": rng.normal(size=(600, 600)), "v": rng.normal(size=(600, 600))}, 600)  # fmt: skip
    plain = certify.certify(model, as_run="ort-cpu", samples=1)
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    certificate = certify.certify(tmp_path / "m.onnx", as_run="ort-cpu", samples=1)
    assert certificate.validation is not None
    assert certificate.validation.violations == ()
    assert "rewrites all, threads 1" in certificate.validation.runtime
    assert np.array_equal(plain.outputs["y"].reference, certificate.outputs["y"].reference)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[Any] = []

    class Watched(as_run.Written):
        def __init__(self, *facts: Any) -> None:
            super().__init__(*facts)
            seen.append((self.path.exists(), self.path.parent.stat().st_mode & 0o077))

    monkeypatch.setattr(as_run, "Written", Watched)
    certify.certify(FOLDED, as_run="ort-cpu", samples=1)
    with pytest.raises(UsageError):
        certify.certify(FOLDED, as_run="ort-cpu", samples=1, budgets=["nosuch=1"])
    assert seen == [(True, 0), (True, 0)]
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_judged_before_onnxruntime_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.zeros(4)})
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../secret", 0, 16)
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/m.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InvalidModel, match="outside"):
        certify.certify(tmp_path / "in/m.onnx", as_run="ort-cpu")


def test_what_onnxruntime_refuses_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel\nmore")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    with pytest.raises(Unsupported, match="onnxruntime refuses the model: no kernel$"):
        certify.certify(FOLDED, as_run="ort-cpu")


def test_an_operator_of_the_written_graph_alone_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.graph import domains

    monkeypatch.setattr("certify.graph.passes.specialize.operators", dict)
    assert domains.operators()
    with pytest.raises(Unsupported, match="--as-run: the graph that onnxruntime runs: .*com.microsoft::FusedGemm") as refusal:
        certify.certify(root / "models/digits_mlp.onnx", as_run="ort-cpu", samples=1)
    assert "graph.onnx" not in str(refusal.value)


@pytest.mark.parametrize(
    "given",
    [
        {"region": True},
        {"dtype": "bf16"},
        {"accumulate": "fp32"},
        {"profile": "wide"},
        {"summation": "pairwise"},
        {"outputs": ["x.witness"]},
    ],
    ids=str,
)
def test_what_does_not_go_with_it(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="as-run"):
        certify.certify(FOLDED, as_run="ort-cpu", **given)


@pytest.mark.parametrize("text", ["", "ort", "ort-cpu:", "ort-cpu:most", "wide", "ort-cpu:all:all"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--as-run"):
        certify.certify(FOLDED, as_run=text)


def test_the_profile_may_be_named_as_well() -> None:
    assert certify.certify(FOLDED, as_run="ort-cpu:basic", profile="ort-cpu", samples=1).claim.profile.name == "ort-cpu"


def test_reports_name_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(root / "models/digits_mlp.onnx")
    assert main([model, "--as-run", "ort-cpu:extended", "--samples", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "as run by onnxruntime" in shown
    assert "at level extended, 3 nodes instead of 5" in shown
    assert main([model, "--as-run", "ort-cpu:extended", "--samples", "1", "--json"]) == 0
    claim = json.loads(capsys.readouterr().out)["claim"]
    assert claim["as_run"]["level"] == "extended"
    assert claim["as_run"]["nodes"] == 3
    assert any("level extended" in text for text in claim["profile"]["assumptions"])
    assert "as_run" not in json.loads(encode(document(certify.certify(model, samples=1))))["claim"]


def test_it_may_stand_in_the_settings(program: Program, tmp_path: Path) -> None:
    (tmp_path / "certify.toml").write_text('["m.onnx"]\nas-run = "ort-cpu:basic"\n')
    assert program("m.onnx")[0] == 0
    assert program.request is not None
    assert (program.request.as_run, program.request.profile_name) == ("basic", "ort-cpu")
