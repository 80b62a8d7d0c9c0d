"""Profiles of processors that round to nearest: one record for `ieee`, `wide` and `ort-cpu`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certify.number.formats import FORMATS, Format
from certify.profiles.arithmetic import NearestArithmetic
from certify.profiles.elementary import Accuracies
from certify.profiles.order import Order

CONTRACTIONS = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "RescaledMatMul"))


def stored_format(declared: Format, dtype: Format | None) -> Format:
    """`dtype` for tensors that the model declares fp32 or fp64, their own for narrower ones; tf32 is stored as fp32."""
    if dtype is None or declared.name not in ("fp32", "fp64"):
        return declared
    return FORMATS["fp32"] if dtype.name == "tf32" else dtype


@dataclass(frozen=True, slots=True)
class NearestProfile:
    """Kernels compute in `kernel_format(storage)`, sum in `accumulate` (or that), round to nearest and store.

    dtype, accumulate: --dtype and --accumulate; None is the model's own, and the kernel's format.
    widened:  kernels compute in fp32 (fp64 for fp64) instead of the storage format.
    premises: what this profile assumes beyond the order of summation and the elementary functions.
    """

    name: str
    dtype: Format | None
    accumulate: Format | None
    order: Order
    widened: bool
    accuracies: Accuracies
    premises: tuple[str, ...]

    @property
    def assumptions(self) -> tuple[str, ...]:
        narrow = (
            ""
            if self.accumulate is None
            else f"Sums and dot products are accumulated in {self.accumulate.name}; wider terms and products are rounded into it once."
        )
        tf32 = "" if not self._tf32 else "Contractions round their fp32 operands to tf32, to nearest, on entry."
        return tuple(text for text in (*self.premises, narrow, tf32, self.order.sentence, *self.accuracies.assumptions) if text)

    @property
    def _tf32(self) -> bool:
        return self.dtype is not None and self.dtype.name == "tf32"

    def storage(self, declared: Format) -> Format:
        return stored_format(declared, self.dtype)

    def operand_format(self, kernel: str, storage: Format) -> tuple[Format, str] | None:
        return (FORMATS["tf32"], "nearest") if self._tf32 and kernel in CONTRACTIONS and storage.name == "fp32" else None

    def inner_format(self, output: Format) -> Format:
        return kernel_format(output) if self.widened else output

    def arithmetic(self, kernel: str, operands: Sequence[Format | None], output: Format, inner: bool) -> NearestArithmetic:
        compute = self.inner_format(output)
        seen = tuple(format for format in operands if format is not None)
        storage = compute if inner else output
        accumulator, entry = self.accumulate or compute, self.operand_format(kernel, output)
        return NearestArithmetic(storage, compute, accumulator, seen, self.order, self.accuracies, entry)

    def uncovered(self, kernel: str, attributes: Mapping[str, Any], output: Format) -> str | None:
        return None

    def style(self, kernel: str) -> str:
        return "any"


def kernel_format(output: Format) -> Format:
    """fp32 for results stored in fp32's numbers or fewer, fp64 for the rest."""
    return FORMATS["fp32"] if FORMATS["fp32"].contains(output) else FORMATS["fp64"] if FORMATS["fp64"].contains(output) else output
