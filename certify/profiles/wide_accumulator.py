"""`wide`, the default: kernels compute and accumulate in fp32 (fp64 for fp64 storage), results are rounded into storage."""

from __future__ import annotations

from certify.number.formats import Format
from certify.profiles.contract import Profile
from certify.profiles.elementary import Accuracies
from certify.profiles.nearest import NearestProfile
from certify.profiles.order import Order


def _wide(dtype: Format | None, accumulate: Format | None, order: Order) -> Profile:
    premise = "Kernels compute in fp32 (fp64 for results stored in fp64), rounding to nearest, and round each result into storage once."
    return NearestProfile("wide", dtype, accumulate, order, True, Accuracies(), (premise,))


PROFILES = {"wide": _wide}
