"""Where in the region the bound is large: a coarse grid over the inputs that were cut most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from certify.engines.region.boxes import Layout
from certify.engines.region.search import Known
from certify.number.upward import Array

FINE, COARSE = 64, 16  # cells of a map over one input, and of each axis of one over two


@dataclass(frozen=True, slots=True)
class Axis:
    """The input, its flat element, and the interval that is divided into equal cells."""

    input: str
    element: int
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class Map:
    """bound: the largest bound of a sub-box that meets the cell, (cells,) over one axis, (cells, cells) over two."""

    axes: tuple[Axis, ...]
    bound: Array


def map_of(layout: Layout, known: Known, upper: Array) -> Map | None:
    """The map of `upper`, (n,), a number of each box; None where nothing was cut."""
    low, high = (x[0] for x in layout.whole)
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = np.nan_to_num(np.log2((high - low) / (known.hi - known.lo)), nan=0.0, posinf=64.0).sum(axis=0)
    chosen = [int(column) for column in np.argsort(-cuts, kind="stable")[:2] if cuts[column] > 0.5]
    if not chosen:
        return None
    cells = FINE if len(chosen) == 1 else COARSE
    met = []
    for column in chosen:
        edges = np.linspace(low[column], high[column], cells + 1)
        met.append((known.lo[:, column] <= edges[1:, None]) & (known.hi[:, column] >= edges[:-1, None]))
    if len(met) == 1:
        bound = np.array([upper[mine].max(initial=0.0) for mine in met[0]])
    else:
        bound = np.array([[upper[row & column].max(initial=0.0) for column in met[1]] for row in met[0]])
    axes = tuple(Axis(*layout.columns[column], float(low[column]), float(high[column])) for column in chosen)
    return Map(axes, bound)
