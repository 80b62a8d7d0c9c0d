"""Operators of ONNX that are refused for what they are, and why."""

from __future__ import annotations

_RANDOM = "its result is random, so that no error of it can be bounded"
_TEXT = "it computes on strings, which have no rounding error"

REFUSED: dict[tuple[str, str], str] = {
    **{("", name): _RANDOM for name in ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")},
    **{("", name): _RANDOM for name in ("Bernoulli", "Multinomial")},
    **{("", name): _TEXT for name in ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit")},
    ("", "ImageDecoder"): "it decodes the bytes of an image file, and decoders differ",
}
"""By domain and operator: the reason."""
