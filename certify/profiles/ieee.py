"""`ieee`: every operation in the storage format, rounded to nearest, as if the processor knew no other."""

from __future__ import annotations

from certify.number.formats import Format
from certify.profiles.contract import Profile
from certify.profiles.elementary import Accuracies
from certify.profiles.nearest import NearestProfile
from certify.profiles.order import Order


def _ieee(dtype: Format | None, accumulate: Format | None, order: Order) -> Profile:
    premise = "Every operation is rounded to nearest in the storage format itself."
    return NearestProfile("ieee", dtype, accumulate, order, False, Accuracies(), (premise,))


PROFILES = {"ieee": _ieee}
