"""--memory-limit: its forms, what it refuses, and that results do not depend on it."""

from __future__ import annotations

from pathlib import Path

import pytest

import certify
from certify import memory
from certify.errors import Unsupported, UsageError
from certify.request import parse_size
from tests.cli.conftest import Program, program
from tests.scale.models import deep
from tests.scale.test_streaming import certified

__all__ = ["program"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GB", 4_000_000_000),
        ("512MB", 512_000_000),
        ("1.5 GiB", 1_610_612_736),
        ("800000000", 800_000_000),
        ("2g", 2_000_000_000),
        ("1kib", 1024),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4XB", "1e9", "inf", "4 G B", "0x10", "9" * 20])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--memory-limit"):
        parse_size(text)


def test_the_option_reaches_the_request(program: Program, tmp_path: Path) -> None:
    assert program("m.onnx", "--memory-limit", "512MB")[0] == 0
    assert program.request is not None
    assert program.request.memory_limit == 512_000_000
    (tmp_path / "certify.toml").write_text('["m.onnx"]\nmemory-limit = "2GB"\n')
    assert program("m.onnx")[0] == 0
    assert program.request.memory_limit == 2_000_000_000
    code, _, error = program("m.onnx", "--memory-limit", "1KB")
    assert (code, "give 64MB or more" in error) == (2, True)


def test_a_layer_that_does_not_fit_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "held", lambda: 0)  # of this process, which other tests have filled
    path = deep(tmp_path / "m.onnx", 1, width=2048)
    with pytest.raises(Unsupported, match=r"--memory-limit.*'layer0' \(MatMul\) needs 101 MB") as refused:
        certify.certify(path, samples=1, validate=False, engine="running", memory_limit="64MB")
    assert "give" in str(refused.value)


def test_more_than_the_limit_is_refused_while_it_runs(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(memory, "held", lambda: 70_000_000)
    with pytest.raises(Unsupported, match="--memory-limit: reading the model holds 70 MB already, and the limit is 64 MB"):
        certify.certify(root / "models/digits_mlp.onnx", samples=1, validate=False, memory_limit="64MB")


def test_results_do_not_depend_on_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = deep(tmp_path / "m.onnx", 2)
    monkeypatch.setattr(memory, "held", lambda: 0)  # of this process, which other tests have filled
    few, many = (certified(path, engine="sketch", dtype="fp16", memory_limit=limit) for limit in ("64MB", "8GB"))
    assert few == many


def test_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_limit", None)
    memory.use(1_000_000_000)
    assert (memory.limit(), memory.for_constants(), memory.for_draws(1.5e9)) == (1_000_000_000, 250_000_000, 2.5e8)
    assert memory.for_draws(1e8) == 1e8
    memory.use(1_000_000_000, 4)
    assert (memory.limit(), memory.for_draws(1.5e9)) == (250_000_000, 2.5e8)  # processes change no result
    memory.use(None)
    assert memory.for_draws(1e15) == 1e15  # what the machine has does not change results
    assert 0 < memory.limit() <= memory.held() + memory.available()


def test_a_control_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("300000000\n")
    (tmp_path / "memory.current").write_text("100000000\n")
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    assert memory.available() == 200_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 0


def test_runs_that_would_hold_too_much_are_not_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    found = certify.certify(root / "models/digits_mlp.onnx", samples=1, dtype="bf16")
    assert found.validation is not None
    assert "node by node" in found.validation.runtime.split("not run")[0]
    monkeypatch.setattr("certify.validate.runs.EMULATED", 1e6)
    found = certify.certify(root / "models/digits_mlp.onnx", samples=1, dtype="bf16")
    assert found.validation is not None
    assert "GB of weights, more than --memory-limit leaves" in found.validation.runtime
