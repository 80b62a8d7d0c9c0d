"""How runtimes round. Each module here with a dict PROFILES (name -> builder) adds profiles; nothing is registered by hand."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from certify.errors import UsageError

if TYPE_CHECKING:
    from certify.number.formats import Format
    from certify.profiles.contract import Profile
    from certify.profiles.order import Order

    Builder = Callable[[Format | None, Format | None, Order], Profile]


class UnknownProfile(UsageError, ValueError):
    """A profile name that no module here defines."""


class UnsuitableProfile(UsageError, ValueError):
    """A profile that does not cover the formats or the order of summation asked for."""


@cache
def profiles() -> dict[str, Builder]:
    """Every profile's builder (dtype, accumulate, order) -> Profile, by name. Raises ValueError if a name is given twice."""
    found: dict[str, Builder] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        for name, build in getattr(importlib.import_module(f"{__name__}.{module}"), "PROFILES", {}).items():
            if name in found:
                raise ValueError(f"two profiles are called {name!r}")
            found[name] = build
    return found


def profile_named(name: str, dtype: Format | None, accumulate: Format | None, summation: str) -> Profile:
    """The profile `name` for --dtype, --accumulate (None: not given) and --summation.

    Raises UnknownProfile listing the names, or UnsuitableProfile where the profile does not cover the formats or the order.
    """
    from certify.profiles.order import order_named

    known = profiles()
    if name not in known:
        raise UnknownProfile(f"--profile: unknown profile {name!r}; known profiles: {', '.join(sorted(known))}")
    order = order_named(summation)
    try:
        return known[name](dtype, accumulate, order)
    except ValueError as refusal:
        raise UnsuitableProfile(str(refusal)) from refusal
