"""Certificates with witnesses, made once: the tests copy and forge them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import certify


@dataclass(frozen=True)
class Made:
    """A certificate, its witness beside it, and its model."""

    certificate: Path
    model: Path

    @property
    def witness(self) -> Path:
        return self.certificate.with_suffix(".witness")


def make(model: Path, folder: Path, dtype: str, cases: int, **options: object) -> Made:
    x = np.load(model.with_suffix(".npz"))["x"][:cases]
    path = folder / f"{model.stem}-{dtype}.json"
    outputs = [path, path.with_suffix(".witness")]
    certify.certify(model, dtype=dtype, data={"x": x}, validate=False, outputs=outputs, **options)  # type: ignore[arg-type]
    return Made(path, model)


@pytest.fixture(scope="session")
def mlp(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(root / "models" / "digits_mlp.onnx", tmp_path_factory.mktemp("mlp"), "bf16", 2)


@pytest.fixture(scope="session")
def cnn(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(root / "models" / "digits_cnn.onnx", tmp_path_factory.mktemp("cnn"), "bf16", 1)
