"""What is assumed, or was measured, of elementary functions: |computed - exact| <= ulps * ulp(exact) + absolute.

The generic assumption is a premise, not a theorem, and is printed as one. It is wide enough for onnxruntime's CPU
kernels in fp32 and fp64 (tests/profiles/test_elementary.py runs them): most kernels are within a few ulps; those that
are formed by cancelling or clamping (sigmoid, gelu, elu, sin in fp64, ...) have an absolute error of a few u besides,
so that their tails are not accurate relatively.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from certify.number.formats import Format

_ULPS = 8.0
_NARROW_ULPS = 2.0  # kernels that compute in a format narrower than fp32
_MORE_ULPS = {"tanh": 16.0}  # onnxruntime in fp64: 8.0 where the result nears 1
_EXACT = frozenset(("sqrt", "reciprocal"))  # correctly rounded, as IEEE 754 demands of sqrt and division
# Absolute errors in units of u, of results up to about 1; larger results are covered by the ulps.
_ABSOLUTE = {
    "sigmoid": 4.0,
    "gelu": 16.0,
    "swish": 64.0,  # x times an absolute error of sigmoid, up to where sigmoid's tail is lost: x = -17
    "quickgelu": 64.0,
    "hardswish": 8.0,
    "mish": 16.0,
    "elu": 8.0,
    "selu": 8.0,
    "celu": 8.0,
    "expm1": 8.0,
    "tanh of a cell": 8.0,  # onnxruntime: 2.9, a rational function in recurrent layers
    "sin": 8.0,
    "cos": 8.0,
}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """ulps are of the kernel's format; absolute is in the result's own units."""

    ulps: float
    absolute: float


@dataclass(frozen=True, slots=True)
class Accuracies:
    """A table of accuracies: `measured` (a file of profiles/measured, for one format) over the generic assumption.

    Kernels are named as in ONNX, in lower case; a kernel without a row has the generic 8 ulps.
    """

    measured: str | None = None

    def of(self, kernel: str, format: Format) -> Accuracy:
        row = None if self.measured is None else _table(self.measured).get(format.name, {}).get(kernel)
        if row is not None:
            return Accuracy(row["ulps"], row["absolute"] + _tiny(format))
        if kernel in _EXACT:
            return Accuracy(0.5, 0.0)
        absolute = _ABSOLUTE.get(kernel, 0.0) * format.unit_roundoff
        ulps = _MORE_ULPS.get(kernel, _ULPS) if format.precision >= 24 else _NARROW_ULPS
        return Accuracy(ulps, absolute + _tiny(format))

    @property
    def assumptions(self) -> tuple[str, ...]:
        generic = (
            f"Elementary functions are within {_ULPS:g} ulps of the kernel's format "
            f"({', '.join(f'{kernel} {ulps:g}' for kernel, ulps in _MORE_ULPS.items())}; {_NARROW_ULPS:g} in formats narrower than fp32; "
            "sqrt and reciprocal correctly rounded), "
            "and may flush results below the smallest normal number of fp32, bf16, tf32 or fp64; "
            "these have an absolute error besides, in units of u: "
            + ", ".join(f"{kernel} {units:g}" for kernel, units in _ABSOLUTE.items())
            + "; exp, even powers and powers of non-negative numbers are never negative."
        )
        if self.measured is None:
            return (generic,)
        return str(_document(self.measured)["assumption"]), "Kernels that were not measured: " + generic


def _tiny(format: Format) -> float:
    """Kernels of formats with fp32's exponents may flush subnormal results."""
    return format.smallest_normal if format.emin <= -126 else 0.0


@cache
def _document(name: str) -> dict[str, object]:
    content = resources.files("certify.profiles").joinpath("measured").joinpath(f"{name}.json").read_text(encoding="utf-8")
    document: dict[str, object] = json.loads(content)
    return document


@cache
def _table(name: str) -> dict[str, dict[str, dict[str, float]]]:
    table: dict[str, dict[str, dict[str, float]]] = _document(name)["formats"]  # type: ignore[assignment]
    return table
