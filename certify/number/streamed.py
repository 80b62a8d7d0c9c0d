"""Large constants that stay where the model has them, in its own type, and are widened to float64 where they are read.

What was read is forgotten with its last reader, but for what a shelf has room for. Reading again gives the same numbers.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock

import numpy as np

from certify import memory
from certify.number.enclosure import Enclosure
from certify.number.upward import Array

LARGE = 1 << 16  # elements from which on a constant is streamed


class Shelf:
    """The arrays read last, as many as `memory.for_constants` has room for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Array] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def keep(self, key: int, x: Array) -> None:
        """Keep what was read now, and let go of what was read longest ago."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += x.nbytes - (0 if before is None else before.nbytes)
            self._kept[key] = x
            while self._bytes > memory.for_constants():
                _, old = self._kept.popitem(last=False)
                self._bytes -= old.nbytes


class Streamed(Enclosure):
    """The thin enclosure of a finite constant that is read, not held.

    read:    makes the array, (1, *shape) float64, anew: the same numbers each time.
    largest: of all magnitudes. least: of all elements.
    """

    __slots__ = ("__weakref__", "_lock", "_made", "_read", "_shape", "_shelf", "largest", "least")

    largest: float
    least: float
    _read: Callable[[], Array]
    _shelf: Shelf
    _shape: tuple[int, ...]
    _lock: Lock
    _made: weakref.ref[Array] | None

    def __init__(self, x: Array, read: Callable[[], Array], shelf: Shelf) -> None:
        """`x` is what `read` gives; it is not kept."""
        put = object.__setattr__
        put(self, "_read", read)
        put(self, "_shelf", shelf)
        put(self, "_shape", x.shape)
        put(self, "_lock", Lock())
        put(self, "_made", None)
        put(self, "largest", max(-float(x.min(initial=0.0)), float(x.max(initial=0.0))))
        put(self, "least", float(x.min(initial=np.inf)))

    @property
    def lo(self) -> Array:
        """The constant; one array, as long as anybody holds it."""
        with self._lock:
            x = None if self._made is None else self._made()
            if x is None:
                x = self._read()
                object.__setattr__(self, "_made", weakref.ref(x))
        self._shelf.keep(id(self), x)
        return x

    @property
    def hi(self) -> Array:
        """The same."""
        return self.lo

    @property
    def shape(self) -> tuple[int, ...]:
        """Known without reading."""
        return self._shape

    @property
    def is_point(self) -> bool:
        """Always."""
        return True

    @property
    def mid(self) -> Array:
        """The constant itself."""
        return self.lo

    @property
    def middle(self) -> Enclosure:
        """Itself, unread."""
        return self

    @property
    def mag(self) -> Array:
        """Of one end, which is both."""
        return np.abs(self.lo)

    @property
    def rad(self) -> Array:
        """Zeros."""
        return np.zeros(self.shape)


def slabs(x: Array) -> Iterator[tuple[slice, slice] | tuple[()]]:
    """Indices of parts of (1, n, ...) along n, of about `LARGE` elements each, that make up the whole."""
    if x.ndim < 2 or not x.size:
        yield ()
        return
    rows = max(1, LARGE * x.shape[1] // x.size)
    for start in range(0, x.shape[1], rows):
        yield slice(None), slice(start, start + rows)
