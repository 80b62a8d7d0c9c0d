"""The JSON schema "certify/1": same claim, same bytes; non-finite numbers as strings; read back as written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from certify.certificate.build import document
from certify.certificate.read import read
from certify.certificate.schema import encode
from certify.errors import InvalidData, UsageError
from tests.report import samples


def plain(name: str) -> Any:
    return json.loads(encode(document(samples.ALL[name]())))


def test_the_fields_of_the_schema() -> None:
    found = plain("certified")
    assert set(found) == {
        "schema", "tool", "model", "claim", "guarantee", "failure_probability", "outputs", "nodes", "hazards", "lost", "validation",
        "gate", "timings", "region", "property", "decisions",
    }  # fmt: skip
    assert found["schema"] == "certify/1"
    assert set(found["tool"]) == {"name", "version"}
    assert set(found["model"]) == {"path", "sha256", "opset", "parameters", "nodes"}
    assert {"dtype", "accumulate", "profile", "inputs"} <= set(found["claim"])
    assert set(found["claim"]["profile"]) == {"name", "assumptions"}
    assert {"kind", "cases", "sha256"} <= set(found["claim"]["inputs"])
    assert set(found["outputs"][0]) == {
        "name", "shape", "bound", "conversion_max", "rounding_max", "per_case", "ladder", "observed_max", "tightness", "decision",
    }  # fmt: skip
    assert set(found["outputs"][0]["bound"]) == {"absolute_max", "relative_max"}
    assert {"stable", "cases"} <= set(found["outputs"][0]["decision"])
    assert set(found["nodes"][0]) == {
        "name", "op", "fan_in", "lipschitz", "condition", "gamma", "tube_max", "local_max", "contribution", "magnitude_max",
    }  # fmt: skip
    assert set(plain("exceeded")["hazards"][0]) == {"rule", "severity", "node", "message", "evidence"}
    assert {"runtime", "reference", "runs", "violations"} <= set(found["validation"])
    assert {"budgets", "verdict", "exit_code"} <= set(found["gate"])
    assert set(found["gate"]["budgets"][0]) == {"spec", "value", "verdict"}


def test_maxima_of_the_arrays() -> None:
    found = plain("certified")["outputs"][0]
    assert found["bound"]["absolute_max"] == 0.09375
    assert found["per_case"] == [0.09375, 0.001 + 0.05]
    assert (found["conversion_max"], found["rounding_max"]) == (0.03125, 0.0625)
    assert found["tightness"] == 8.0
    assert (found["decision"]["stable"], found["decision"]["cases"]) == (1, 2)


def test_non_finite_numbers_are_strings() -> None:
    found = plain("no_finite_bound")
    assert found["outputs"][0]["bound"] == {"absolute_max": "inf", "relative_max": "inf"}
    assert found["gate"]["budgets"][0]["value"] == "inf"
    nan = replace(samples.certified(), nodes=(replace(samples.nodes()[0], condition_max=float("nan")),))
    assert json.loads(encode(document(nan)))["nodes"][0]["condition"]["max"] == "nan"


def test_keys_are_sorted_and_bytes_are_the_same() -> None:
    first, again = (encode(document(samples.certified())) for _ in range(2))
    assert first == again

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert [key for key, _ in pairs] == sorted(key for key, _ in pairs)
        return dict(pairs)

    json.loads(first, object_pairs_hook=checked)
    assert first.startswith(b'{\n  "claim": {\n    "accumulate": "fp32",\n')
    assert first.endswith(b"}\n")
    later = encode(document(replace(samples.certified(), timings={"reading the model": 9.0}, peak_memory_bytes=1)))
    assert {k: v for k, v in json.loads(later).items() if k != "timings"} == {k: v for k, v in json.loads(first).items() if k != "timings"}


@pytest.mark.parametrize("name", samples.ALL)
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    samples.ALL[name]().save(path)
    expected = document(samples.ALL[name]())
    if name == "exceeded":
        assert read(path).hazards[0].evidence == {"interval": [-0.1, 0.1]}
    assert msgspec.to_builtins(read(path)) == msgspec.to_builtins(expected)


def test_numpy_numbers_are_plain_numbers() -> None:
    hazard = replace(samples.exceeded().hazards[0], evidence={"witness": np.array([1.5, np.inf]), "at": np.int64(3)})
    node = replace(samples.nodes()[0], tube_max=np.float64(0.5), fan_in=np.int64(7))
    found = json.loads(encode(document(replace(samples.certified(), hazards=(hazard,), nodes=(node,)))))
    assert found["hazards"][0]["evidence"] == {"witness": [1.5, "inf"], "at": 3}
    assert (found["nodes"][0]["tube_max"], found["nodes"][0]["fan_in"]) == (0.5, 7)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "not a JSON certificate"),
        ("[]", "names no schema"),
        ("{}", "names no schema"),
        ('{"schema": "certify/2"}', "'certify/2' is not known"),
        ('{"schema": "certify/1"}', "damaged certificate"),
    ],
)
def test_other_files_are_refused_by_name(content: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(InvalidData, match="c.json") as refusal:
        read(path)
    assert fault in str(refusal.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="absent.json: can't be read"):
        read(tmp_path / "absent.json")


def test_save_goes_by_suffix(tmp_path: Path) -> None:
    certificate = samples.certified()
    certificate.save(str(tmp_path / "a.JSON"))
    assert read(tmp_path / "a.JSON").model.path == "models/net.onnx"
    for name in ("a.html", "a.md", "a.sarif", "a.xml", "a.pdf", "a"):
        with pytest.raises(UsageError, match="a"):
            certificate.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.JSON"]


def test_arrays_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        samples.certified().save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    samples.unbounded().save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as arrays:
        assert "observed_error/logits" not in arrays
        assert np.isinf(arrays["absolute_bound/logits"]).all()
        assert {arrays[key].shape for key in arrays} == {(2, 1, 3)}
        assert {arrays[key].dtype for key in arrays} == {np.dtype(np.float64)}
