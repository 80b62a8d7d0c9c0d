"""A profile says how a runtime rounds. It binds to a step as an `Arithmetic` (semantics/contract.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from certify.number.formats import Format
from certify.semantics.contract import Arithmetic


class Profile(Protocol):
    """How a runtime rounds: formats, order of summation, elementary functions, fused kernels.

    name:        as on the command line.
    assumptions: every premise that the certificate must print, one sentence each.
    """

    @property
    def name(self) -> str: ...

    @property
    def assumptions(self) -> tuple[str, ...]: ...

    def storage(self, declared: Format) -> Format:
        """The format in which a tensor that the model declares in `declared` is stored (--dtype applied)."""
        ...

    def operand_format(self, kernel: str, storage: Format) -> tuple[Format, str] | None:
        """(format, "nearest" | "zero") into which the kernel (ONNX operator name) converts its float operands on entry (tf32), or None."""
        ...

    def arithmetic(self, kernel: str, operands: Sequence[Format | None], output: Format, inner: bool) -> Arithmetic:
        """The arithmetic of one step: operand formats as seen by the kernel (None: integer), the output's storage.

        `inner`: the result is not stored but stays in the kernel's own format inside a fused kernel.
        """
        ...

    def inner_format(self, output: Format) -> Format:
        """The format in which a fused kernel that stores `output` keeps its inner results."""
        ...

    def uncovered(self, kernel: str, attributes: Mapping[str, Any], output: Format) -> str | None:
        """Why nothing is claimed of the kernel of a node that stores `output`; None if something is."""
        ...

    def style(self, kernel: str) -> str:
        """How a composite kernel computes (e.g. LayerNormalization: "centred" or "uncentred")."""
        ...
