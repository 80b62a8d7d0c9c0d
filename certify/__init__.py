"""Static analysis and proved floating-point error bounds for ONNX models.

    import certify
    certificate = certify.certify("model.onnx", dtype="bf16", data={"x": x}, budgets=["argmax"])

Names are loaded when first used, so that the command line starts quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certify.errors import CertifyError, InvalidData, InvalidModel, Unsupported, UsageError
from certify.version import __version__

if TYPE_CHECKING:
    from certify.api import certify
    from certify.certificate.contract import Certificate

__all__ = ["Certificate", "CertifyError", "InvalidData", "InvalidModel", "Unsupported", "UsageError", "__version__", "certify"]


def __getattr__(name: str) -> Any:
    """Load `certify.certify` and `certify.Certificate` on first use."""
    if name == "certify":
        from certify.api import certify

        return certify
    if name == "Certificate":
        from certify.certificate.contract import Certificate

        return Certificate
    raise AttributeError(f"module 'certify' has no attribute {name!r}")
