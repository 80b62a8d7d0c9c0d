"""Independent pieces of work on all processors: numpy lets go of the interpreter's lock while it computes.

The pieces, and the order in which their results come, do not depend on how many processors there are, so that neither do bounds.
The matrix library is kept to one thread meanwhile: many small products are faster so, and they round alike everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def single_threaded_products() -> AbstractContextManager[object]:
    """While it lasts, BLAS runs on the thread that calls it."""
    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


_limit: int | None = None


def use(limit: int) -> None:
    """Use no more processors than that from now on."""
    global _limit
    _limit = limit


def processors() -> int:
    """How many this process may use."""
    return _available() if _limit is None else min(_limit, _available())


def _available() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(processors(), thread_name_prefix="certify")


def in_order(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """function(item) for each item, in their order. `function` may not call `in_order` itself."""
    if len(items) < 2 or processors() < 2:
        yield from map(function, items)
        return

    def quietly(item: Item) -> Result:
        with np.errstate(all="ignore"):  # numpy's settings are those of each thread
            return function(item)

    yield from _pool().map(quietly, items)
