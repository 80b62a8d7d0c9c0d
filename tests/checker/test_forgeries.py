"""Wrong proofs: whatever is changed in certificate, witness or model, nothing false is proved, and exit code 1 says so in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from certify.checker.files import check
from certify.cli.main import main
from tests.checker.conftest import Made, make

Arrays = dict[str, np.ndarray[Any, Any]]
Document = dict[str, Any]


def _forged(
    made: Made, folder: Path, document: Callable[[Document], None] | None = None, arrays: Callable[[Arrays], None] | None = None
) -> Made:
    forged = Made(folder / "forged.json", made.model)
    content = json.loads(made.certificate.read_text())
    if document is not None:
        document(content)
    forged.certificate.write_text(json.dumps(content))
    with np.load(made.witness) as archive:
        held = {key: archive[key] for key in archive.files}
    if arrays is not None:
        arrays(held)
    with forged.witness.open("wb") as file:
        np.savez(file, **held)
    return forged


def _exit(made: Made) -> int:
    return main(["check", str(made.certificate), str(made.model), "--quiet"])


def _claim(proved: list[float], content: Document) -> None:
    content["outputs"][0]["per_case"] = proved
    content["outputs"][0]["bound"]["absolute_max"] = max(proved)


@pytest.mark.parametrize("which", ["mlp", "cnn"])
def test_a_claim_below_what_can_be_proved(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made: Made = request.getfixturevalue(which)
    proved = [finding.proved for finding in check(made.certificate, made.model, made.witness)]
    enough = [float(np.nextafter(float(p), np.inf)) for p in proved]
    assert _exit(_forged(made, tmp_path, lambda content: _claim(enough, content))) == 0
    for i in range(len(proved)):
        shrunk = [float(np.nextafter(float(p), 0.0)) if j == i else float(p) * 2 for j, p in enumerate(proved)]
        assert _exit(_forged(made, tmp_path, lambda content, shrunk=shrunk: _claim(shrunk, content))) == 1


@pytest.mark.parametrize(
    "forge",
    [
        lambda content: content["outputs"][0]["bound"].update(absolute_max=1e-6),
        lambda content: content["outputs"][0].update(per_case=content["outputs"][0]["per_case"][:1]),
        lambda content: content["outputs"][0].update(per_case=["nan", "nan"]),
        lambda content: content["outputs"][0].update(name="other"),
        lambda content: content.update(outputs=[]),
        lambda content: content["claim"]["inputs"].update(cases=1),
        lambda content: content["claim"]["inputs"].update(sha256="0" * 64),
        lambda content: content["model"].update(sha256="0" * 64),
    ],
)
def test_a_certificate_that_contradicts_itself_or_its_files(
    mlp: Made, tmp_path: Path, forge: Callable[[Document], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit(_forged(mlp, tmp_path, forge)) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("error: rejected: ")


@pytest.mark.parametrize(
    "forge",
    [
        lambda content: content.pop("model"),
        lambda content: content.pop("claim"),
        lambda content: content.pop("outputs"),
        lambda content: content["claim"]["inputs"].update(cases=0),
        lambda content: content["claim"]["inputs"].update(cases="two"),
        lambda content: content["outputs"][0].update(per_case=[None, None]),
        lambda content: content["outputs"][0].update(per_case=1.0),
    ],
)
def test_a_damaged_certificate(mlp: Made, tmp_path: Path, forge: Callable[[Document], None]) -> None:
    assert _exit(_forged(mlp, tmp_path, forge)) == 2


def test_a_claim_for_a_coarser_format(root: Path, tmp_path: Path) -> None:
    made = make(root / "models" / "digits_mlp.onnx", tmp_path, "fp16", 1)
    assert _exit(made) == 0
    assert _exit(_forged(made, tmp_path, lambda content: content["claim"].update(dtype="bf16"))) == 1
    assert _exit(_forged(made, tmp_path, lambda content: content["claim"].update(dtype="fp64"))) == 3  # accumulates in fp64


def test_another_region_or_profile_is_not_covered(mlp: Made, tmp_path: Path) -> None:
    assert _exit(_forged(mlp, tmp_path, lambda content: content["claim"]["inputs"].update(kind="region"))) == 3
    assert _exit(_forged(mlp, tmp_path, lambda content: content["claim"]["profile"].update(name="tensor-core-h100"))) == 3


def _each(kind: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Callable[[Arrays], None]:
    def forge(arrays: Arrays) -> None:
        for key in [key for key in arrays if key.startswith(kind)]:
            arrays[key] = change(arrays[key])

    return forge


def _nan_at_first(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = x.copy()
    x.flat[0] = np.nan
    return x


FORGERIES = {
    "multipliers zero": _each("multipliers", np.zeros_like),
    "multipliers negated": _each("multipliers", np.negative),
    "multipliers tenth larger": _each("multipliers", lambda a: 1.1 * a),
    "multipliers of other rows": _each("multipliers", lambda a: np.roll(a, 1, axis=0)),
    "multipliers NaN": _each("multipliers", _nan_at_first),
    "multipliers huge": _each("multipliers", lambda a: np.full_like(a, 1e300)),
    "multipliers of another shape": _each("multipliers", lambda a: a[:, :-1]),
    "rows of another shape": _each("rows", lambda a: a[:, None]),
    "rows outside": _each("rows", lambda a: a + 10**6),
    "rows negative": _each("rows", lambda a: a - 10**6),
    "slopes NaN": _each("slopes", _nan_at_first),
    "slopes above 1": _each("slopes", lambda s: s + 2.0),
    "slopes negative": _each("slopes", lambda s: s - 1e-3),
    "slopes of another shape": _each("slopes", lambda s: s[:-1]),
    "inputs shifted": _each("input", lambda x: x + 1e-3),
    "inputs fewer": _each("input", lambda x: x[:0]),
    "inputs NaN": _each("input", _nan_at_first),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_witness_that_was_tampered_with(forgery: str, mlp: Made, tmp_path: Path) -> None:
    assert _exit(_forged(mlp, tmp_path, arrays=FORGERIES[forgery])) == 1


@pytest.mark.parametrize("forgery", ["multipliers zero", "multipliers tenth larger", "slopes negative", "inputs shifted"])
def test_a_convolutional_witness_that_was_tampered_with(forgery: str, cnn: Made, tmp_path: Path) -> None:
    assert _exit(_forged(cnn, tmp_path, arrays=FORGERIES[forgery])) == 1


def test_a_spoilt_hint_never_proves_more(root: Path, tmp_path: Path) -> None:
    """Beyond the last digits: the honest multipliers are not quite the best there are."""
    made = make(root / "models" / "digits_mlp.onnx", tmp_path, "bf16", 1)
    (honest,) = (finding.proved for finding in check(made.certificate, made.model, made.witness))
    with np.load(made.witness) as archive:
        keys = [key for key in archive.files if key.startswith(("multipliers", "slopes"))]
    worse = 0
    for key in keys:
        forged = _forged(made, tmp_path, arrays=lambda arrays, key=key: arrays.update({key: 0.98 * arrays[key]}))
        (proved,) = (finding.proved for finding in check(forged.certificate, forged.model, forged.witness))
        assert proved >= honest * (1 - Fraction(1, 1000))
        worse += proved > honest
    assert worse >= len(keys) // 2


def test_a_case_dropped_from_the_witness(mlp: Made, tmp_path: Path) -> None:
    assert _exit(_forged(mlp, tmp_path, arrays=lambda arrays: arrays.update({"input/x": arrays["input/x"][:1]}))) == 1
    without = _forged(mlp, tmp_path, arrays=lambda arrays: [arrays.pop(key) for key in list(arrays) if "/1/" in key])
    assert _exit(without) == 1


@pytest.mark.parametrize("key", ["unknown/x", "rows/x", "multipliers/0/logits", "slopes/zero/x"])
def test_a_witness_with_something_else_in_it(mlp: Made, tmp_path: Path, key: str) -> None:
    assert _exit(_forged(mlp, tmp_path, arrays=lambda arrays: arrays.update({key: np.zeros(1)}))) == 2


def test_a_constant_of_the_model_changed(mlp: Made, tmp_path: Path) -> None:
    """The claim about the changed model is another claim: it is proved or refused by its own merits."""
    proto = onnx.load(mlp.model)
    for tensor in proto.graph.initializer:
        if tensor.name == "2.weight":
            tensor.CopyFrom(numpy_helper.from_array((1.5 * numpy_helper.to_array(tensor)).astype(np.float32), tensor.name))
    model = tmp_path / "changed.onnx"
    onnx.save(proto, model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert _exit(Made(mlp.certificate, model)) == 1
    forged = _forged(mlp, tmp_path, lambda content: content["model"].update(sha256=digest))
    assert _exit(Made(forged.certificate, model)) == 1
