"""What can go wrong, as one exception per exit code. Messages name the file, node or option at fault and what to do."""

from __future__ import annotations


class CertifyError(Exception):
    """Base of every error that a user can cause and mend; `exit_code` is what the command line returns for it."""

    exit_code = 2


class UsageError(CertifyError):
    """An option that makes no sense, alone or with the others."""


class InvalidModel(CertifyError):
    """A model file that can't be read, or that ONNX's own rules reject."""


class InvalidData(CertifyError):
    """Inputs that don't fit the model: names, shapes, element types, NaN or Inf; or a certificate file that can't be read."""


class Unsupported(CertifyError):
    """A model that is valid but that no proved rule covers: every operator at fault is listed at once."""

    exit_code = 3
