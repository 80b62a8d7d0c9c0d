"""`ort-cpu`: onnxruntime's CPU provider in fp32 or fp64, with elementary functions as measured there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certify.number.formats import Format
from certify.profiles.contract import Profile
from certify.profiles.elementary import Accuracies
from certify.profiles.nearest import NearestProfile
from certify.profiles.order import Order

_PREMISES = (
    "The graph runs in onnxruntime's CPU provider as it is: rewrites are disabled (ORT_DISABLE_ALL), or the model is the optimized graph.",
    "Kernels compute in the storage format, rounding to nearest, and keep subnormals (session.set_denormal_as_zero is off).",
)


@dataclass(frozen=True, slots=True)
class _OrtCpu(NearestProfile):
    def storage(self, declared: Format) -> Format:
        """Raises UnsuitableProfile for narrow formats: that provider computes them in fp32 and may omit the roundings between."""
        from certify.profiles import UnsuitableProfile  # the package imports this module

        if declared.name not in ("fp32", "fp64"):
            raise UnsuitableProfile(
                f"--profile ort-cpu does not cover {declared.name} tensors (they run in fp32 there); use --profile wide"
            )
        return NearestProfile.storage(self, declared)

    def uncovered(self, kernel: str, attributes: Mapping[str, Any], output: Format) -> str | None:
        return narrower(kernel, attributes, output)

    def style(self, kernel: str) -> str:
        """Integer sums are scaled in floating point."""
        return "float" if kernel.startswith("QLinear") else NearestProfile.style(self, kernel)


def narrower(kernel: str, attributes: Mapping[str, Any], output: Format) -> str | None:
    """How onnxruntime's CPU kernel computes in less than the format of its result; None if it does not."""
    if output.name != "fp64":
        return None
    if kernel == "HardSwish" or (kernel == "Gelu" and attributes.get("approximate", "none") == "tanh"):
        return f"onnxruntime expands {kernel} in fp64 by the standard's definition, whose constants are of fp32"
    return "onnxruntime's kernel rounds fp64 operands into fp32" if kernel == "Shrink" else None


def _ort_cpu(dtype: Format | None, accumulate: Format | None, order: Order) -> Profile:
    if dtype is not None and dtype.name not in ("fp32", "fp64"):
        raise ValueError(f"--profile ort-cpu stores fp32 or fp64: its provider has no {dtype.name} kernels; use --profile wide")
    return _OrtCpu("ort-cpu", dtype, accumulate, order, False, Accuracies("ort_cpu"), _PREMISES)


PROFILES = {"ort-cpu": _ort_cpu}
