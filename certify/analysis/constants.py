"""The constants of a program: small ones held as float64, large ones read when they are asked for (number/streamed)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.streamed import LARGE, Shelf, Streamed
from certify.number.upward import Array


class Constants(MutableMapping[str, Array]):
    """By name, (1, *shape) float64.

    held: may hold infinities and NaN. streamed: all finite; `constants[name]` reads one, which lasts as long as its reader keeps it.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.held: dict[str, Array] = {}
        self.streamed: dict[str, Streamed] = {}
        self._shelf = shelf

    def __getitem__(self, name: str) -> Array:
        return self.streamed[name].lo if name in self.streamed else self.held[name]

    def __setitem__(self, name: str, x: Array) -> None:
        self.held[name] = x

    def __delitem__(self, name: str) -> None:
        del (self.streamed if name in self.streamed else self.held)[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.held
        yield from self.streamed

    def __len__(self) -> int:
        return len(self.held) + len(self.streamed)

    def __contains__(self, name: object) -> bool:
        return name in self.held or name in self.streamed

    @property
    def elements(self) -> int:
        """Of all constants together."""
        return sum(x.size for x in self.held.values()) + sum(math.prod(X.shape) for X in self.streamed.values())

    def put(self, name: str, x: Array, read: Callable[[], Array]) -> None:
        """Add `x`, which `read` gives again: streamed if it is large and finite."""
        if x.size >= LARGE and np.isfinite(x).all():
            self.streamed[name] = Streamed(x, read, self._shelf)
        else:
            self.held[name] = x

    def share(self, name: str, other: Constants, source: str) -> None:
        """Let `name` be the constant `source` of `other`, the same object."""
        if source in other.streamed:
            self.streamed[name] = other.streamed[source]
        else:
            self.held[name] = other.held[source]

    def is_same(self, name: str, other: Constants) -> bool:
        """True if both have one object by this name."""
        if name in self.streamed or name in other.streamed:
            return self.streamed.get(name) is other.streamed.get(name)
        return self.held[name] is other.held[name]

    def enclosure(self, name: str) -> Enclosure:
        """The constant's thin enclosure, unread."""
        return self.streamed[name] if name in self.streamed else Enclosure.point(self.held[name])
