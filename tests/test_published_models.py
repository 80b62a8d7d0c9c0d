"""Models that packages of other people publish, on real input: found as files, never imported, skipped where they are absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import certify

Inputs = dict[str, NDArray[Any]]
RATE = 16000


def model_of(package: str, pattern: str) -> Path:
    """The package's model whose path ends so; skips the test where the package is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed; `.ci/run` installs it")
    (found,) = sorted(Path(spec.submodule_search_locations[0]).rglob(pattern))
    return found


def text_bytes() -> Inputs:
    """The first and the last 1024 bytes of this project's README, padded with 256, as magika reads files."""
    content = (Path(__file__).parents[1] / "README.md").read_bytes().strip()
    ends = [list(content[:1024]), list(content[-1024:])]
    return {"bytes": np.array([ends[0] + [256] * (1024 - len(ends[0])) + [256] * (1024 - len(ends[1])) + ends[1]], dtype=np.int32)}


def speech(samples: int) -> NDArray[np.float32]:
    """A vowel: a glottal pulse train at 120 Hz through three formants, with breath."""
    t = np.arange(samples) / RATE
    harmonics = np.arange(1, 40)
    gains = sum(np.exp(-(((120.0 * harmonics - f) / w) ** 2)) for f, w in ((700.0, 120.0), (1220.0, 140.0), (2600.0, 200.0)))
    voice = (gains[:, None] * np.sin(2 * np.pi * 120.0 * harmonics[:, None] * t)).sum(axis=0)
    breath = 0.01 * np.random.default_rng(0).standard_normal(samples)
    return np.asarray(0.3 * voice / np.abs(voice).max() + breath, dtype=np.float32)


def vad() -> Inputs:
    return {"input": speech(576)[None], "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(RATE)}


def half_vad() -> Inputs:
    return {name: x for name, x in vad().items() if name != "sr"}


LETTERS = {
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "Y": "10001 10001 01010 00100 00100 00100 00100",
}


def line_of_text(width: int) -> Inputs:
    """CERTIFY in black on white, four pixels a dot, as the recognizer wants it: 48 pixels high, in [-1, 1]."""
    glyphs = [np.array([[int(dot) for dot in row] for row in LETTERS[letter].split()]) for letter in "CERTIFY"]
    dots = np.concatenate([np.pad(glyph, ((2, 3), (0, 1))) for glyph in glyphs], axis=1)
    image = np.kron(1.0 - dots, np.ones((4, 4)))
    image = np.pad(image, ((0, 48 - image.shape[0]), (0, max(0, width - image.shape[1]))), constant_values=1.0)[:, :width]
    return {"x": np.broadcast_to(2.0 * image - 1.0, (1, 3, 48, width)).astype(np.float32)}


MODELS: dict[str, tuple[str, str, Callable[[], Inputs]]] = {
    "magika": ("magika", "models/*/model.onnx", text_bytes),
    "silero_vad": ("silero_vad", "data/silero_vad.onnx", vad),
    "silero_vad_half": ("silero_vad", "data/silero_vad_half.onnx", half_vad),
    "silero_vad_ifless": ("silero_vad", "data/silero_vad_op18_ifless.onnx", vad),
    "rapidocr_direction": ("rapidocr_onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", lambda: line_of_text(192)),
    "rapidocr_text": ("rapidocr_onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", lambda: line_of_text(192)),
}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_it_certifies_on_real_input(name: str, dtype: str) -> None:
    package, pattern, inputs = MODELS[name]
    found = certify.certify(model_of(package, pattern), dtype=dtype, data=inputs())
    assert found.validation is not None
    assert found.validation.runs > 0
    assert not found.validation.violations
    for output in found.outputs.values():
        assert output.observed_error is not None
        assert (output.observed_error <= output.absolute_bound).all()
