"""How much memory the analysis may hold: one limit, in bytes, and the shares of it that go to what grows with a model."""

from __future__ import annotations

import os
from pathlib import Path

from certify.errors import Unsupported

SHARE = 0.75  # of what is available at the start, where no limit is given
_CONTROL_GROUP = Path("/sys/fs/cgroup")

_limit: int | None = None
_given: int | None = None


def use(limit: int | None, processes: int = 1) -> None:
    """Hold no more than that from now on; None: three quarters of what is available now, beside what is held already.

    processes: how many share it, this one among them.
    """
    global _limit, _given
    _given = limit
    _limit = held() + int(SHARE * available()) // processes if limit is None else limit // processes


def limit() -> int:
    """Bytes that may be held."""
    if _limit is None:
        use(None)
    assert _limit is not None
    return _limit


def for_constants() -> int:
    """Bytes of large constants, widened to float64, that are kept beside the one in use."""
    return limit() // 4


def for_draws(most: float) -> float:
    """Bytes of a sketch's draws, which decide results: `most`, and a quarter of a limit that is given, however many processes share it."""
    return most if _given is None else min(most, _given / 4)


def check(stage: str) -> None:
    """Raises Unsupported if more than the limit is held."""
    used = held()
    if used > limit():
        raise Unsupported(f"--memory-limit: {stage.split(':')[0]} holds {size(used)} already, and the limit is {size(limit())}; raise it")


def size(count: float) -> str:
    """Bytes for people."""
    unit, name = next((unit, name) for unit, name in ((10**9, "GB"), (10**6, "MB"), (1, "bytes")) if count >= unit or unit == 1)
    return f"{count / unit:.3g} {name}" if unit > 1 else f"{count:.0f} {name}"


def held() -> int:
    """Bytes of memory that this process has for itself, mapped files apart; 0 where the system does not say."""
    try:
        resident, shared = Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """Bytes that the machine, or the control group of this process, can still give."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        most, used = (int((_CONTROL_GROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or "max"
        return found
    return max(0, min(found, most - used))
