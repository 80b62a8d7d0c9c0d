"""VNN-LIB properties of tiny models of which every input can be enumerated, and of ACAS Xu."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import certify
import certify.pipeline
import certify.validate.attack
from certify.certificate.build import document
from certify.certificate.contract import Certificate, PropertyResult
from certify.certificate.schema import encode
from certify.request import Request
from tests.graph.build import parsed

BOX = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= {} X_0 {}))"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches try few points."""
    monkeypatch.setattr(certify.validate.attack, "MOST", 2000)


def asked(folder: Path, model: onnx.ModelProto, text: str, **options: object) -> Certificate:
    (folder / "p.vnnlib").write_text(text)
    given: dict[str, Any] = {"boxes": 200, "jobs": 1, "time_limit": 20.0, **options}
    return certify.pipeline.run(Request(model, vnnlib=folder / "p.vnnlib", **given))


def shifted() -> onnx.ModelProto:
    """(x + 1024) - 1024 in fp16: x rounded to a whole number there."""
    return parsed("g (float16[1, 1] x) => (float16[1, 1] y) { s = Add(x, c) y = Sub(s, c) }", c=np.array([[1024]], np.float16))


def square() -> onnx.ModelProto:
    """x * x - x."""
    return parsed("g (float16[1, 1] x) => (float16[1, 1] y) { s = Mul(x, x) y = Sub(s, x) }")


def exponential() -> onnx.ModelProto:
    return parsed("g (float[1, 1] x) => (float[1, 1] y) { y = Exp(x) }")


def test_each_verdict(tmp_path: Path) -> None:
    holds = asked(tmp_path, square(), BOX.format(1, 2) + "(assert (>= Y_0 3))")
    assert holds.stated is not None
    assert holds.gate is not None
    assert (holds.stated.verdict, holds.gate.verdict, holds.gate.exit_code) == ("holds", "certified", 0)
    assert holds.stated.proof.margin_executions > 0.0
    assert not holds.stated.proof.worst

    broken = asked(tmp_path, shifted(), BOX.format(0.6, 0.7) + "(assert (>= Y_0 0.9))")
    assert broken.stated is not None
    assert broken.gate is not None
    assert broken.stated.witness is not None
    assert (broken.stated.verdict, broken.gate.verdict, broken.gate.exit_code) == ("violated", "violated", 1)
    assert broken.stated.witness.unsafe is False
    assert float(broken.stated.witness.outputs["y"].item()) == 1.0
    assert 0.6 <= float(broken.stated.witness.inputs["x"].item()) <= 0.7
    assert "the exact result does not" in broken.gate.reasons[0]

    reals = asked(tmp_path, exponential(), BOX.format(0, 1) + "(assert (>= Y_0 2.7182822))")
    assert reals.stated is not None
    assert reals.gate is not None
    assert (reals.stated.verdict, reals.gate.verdict, reals.gate.exit_code) == ("holds over the reals", "not proved", 1)
    assert reals.stated.proof.margin_reals > 0.0 >= reals.stated.proof.margin_executions

    open_ = asked(tmp_path, exponential(), BOX.format(0, 1) + "(assert (>= Y_0 2.71828182845))")
    assert open_.stated is not None
    assert open_.gate is not None
    assert (open_.stated.verdict, open_.gate.verdict, open_.gate.exit_code) == ("may fail", "not proved", 1)


@pytest.mark.parametrize("threshold", [1.99, 1.998, 2.0, 2.001])
@pytest.mark.parametrize("sign", [">=", "<="])
def test_against_every_input(tmp_path: Path, threshold: float, sign: str) -> None:
    """x * x - x over the fp16 numbers of [0.25, 2], every one of them."""
    level = threshold if sign == ">=" else 0.25 - threshold / 4
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = x[(x >= 0.25) & (x <= 2.0)]
    computed, exact = (x * x - x).astype(np.float64), x.astype(np.float64) ** 2 - x.astype(np.float64)
    unsafe = [bool((y >= level).any() if sign == ">=" else (y <= level).any()) for y in (computed, exact)]
    found = asked(tmp_path, square(), BOX.format(0.25, 2) + f"(assert ({sign} Y_0 {level:.12f}))", samples=1).stated
    assert found is not None
    if found.verdict == "holds":
        assert not any(unsafe)
    if found.verdict == "holds over the reals":
        assert not unsafe[1]
    if found.verdict == "violated":
        assert unsafe[0]
    assert found.verdict != "may fail" or abs(level) in (2.0, 0.25)


def test_boxes_and_conjunctions(tmp_path: Path) -> None:
    """Each box has its own unsafe set; a conjunction holds only where all its constraints do."""
    model = parsed("g (float[1, 1] x) => (float[1, 2] y) { y = Mul(x, c) }", c=np.array([[1, -1]], np.float32))
    declared = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    never = "(and (>= Y_0 0.5) (>= Y_1 0.5))"
    text = f"(assert (or (and (>= X_0 0) (<= X_0 1) {never}) (and (>= X_0 2) (<= X_0 3) (<= (+ Y_0 Y_1) -0.5))))"
    found = asked(tmp_path, model, declared + text)
    assert found.stated is not None
    assert found.stated.verdict == "holds"
    text = f"(assert (or (and (>= X_0 0) (<= X_0 1) {never}) (and (>= X_0 2) (<= X_0 3) (>= Y_0 2.5))))"
    found = asked(tmp_path, model, declared + text)
    assert found.stated is not None
    assert found.stated.witness is not None
    assert found.stated.witness.case == 1
    assert found.stated.witness.unsafe is True


def test_without_runs_and_in_the_document(tmp_path: Path) -> None:
    found = asked(tmp_path, shifted(), BOX.format(0.6, 0.7) + "(assert (>= Y_0 0.9))", validate=False)
    assert found.stated is not None
    assert found.stated.verdict == "holds over the reals"
    written = json.loads(encode(document(found)))["property"]
    assert written["verdict"] == "holds over the reals"
    assert "no-validate" in written["untried"]
    assert written["margin_reals"] > 0.0 >= written["margin_executions"]
    assert written["unproved"] >= len(written["worst"]) == 8
    nothing = asked(tmp_path, shifted(), BOX.format(0.6, 0.7), validate=False)
    assert nothing.stated is None
    assert "property" in json.loads(encode(document(nothing)))


def test_on_the_command_line(tmp_path: Path) -> None:
    onnx.save(shifted(), tmp_path / "m.onnx")
    (tmp_path / "p.vnnlib").write_text(BOX.format(0.6, 0.7) + "(assert (>= Y_0 0.9))")
    command = [sys.executable, "-m", "certify", "m.onnx", "--vnnlib", "p.vnnlib", "--boxes", "50", "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "PROPERTY VIOLATED" in done.stdout
    assert "the exact result is safe" in " ".join(done.stdout.split())


def acas(folder: Path, network: str, name: str, **given: Any) -> PropertyResult:
    """Of the property, in at most 150 sub-boxes."""
    model = folder / "vnncomp_acasxu" / f"ACASXU_run2a_{network}_batch_2000.onnx"
    request = Request(model, vnnlib=folder / "vnncomp_acasxu" / f"{name}.vnnlib", boxes=150, jobs=1, time_limit=300.0, **given)
    found = certify.pipeline.run(request).stated
    assert found is not None
    return found


def test_acas_is_proved_in_fp32_and_in_fp16(real_models: Path) -> None:
    """prop_3 is known to hold of network 1_6: of an intruder straight ahead that comes closer, clear of conflict is not the least score."""
    for dtype in ("fp32", "fp16"):
        found = acas(real_models, "1_6", "prop_3", dtype=dtype, validate=False)
        assert found.verdict == "holds"
        assert found.proof.unproved == 0
        assert 0.0 < found.proof.margin_executions <= found.proof.margin_reals


def test_acas_is_refuted_where_it_is_known_to_fail(real_models: Path) -> None:
    """prop_4 does not hold of networks 1_7 to 1_9, by construction."""
    found = acas(real_models, "1_7", "prop_4", samples=1)
    assert found.verdict == "violated"
    assert found.witness is not None
    assert found.witness.unsafe


def test_acas_says_what_is_missing(real_models: Path) -> None:
    """prop_3 holds of network 1_1, and 150 sub-boxes do not suffice to prove it."""
    found = acas(real_models, "1_1", "prop_3", validate=False)
    assert found.verdict == "may fail"
    assert -1e4 < found.proof.margin_executions <= found.proof.margin_reals < 0.0
