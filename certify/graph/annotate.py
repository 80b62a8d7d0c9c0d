"""What can be said of each node before any data is known: fan-in, gamma, Lipschitz constants, the range of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, nextafter

from certify.graph import fan_in as terms
from certify.graph import lipschitz
from certify.graph.model import ModelGraph, Node, Value
from certify.graph.tensors import FLOATING, NARROW_INTEGERS, type_name
from certify.graph.weights import Magnitudes, magnitudes
from certify.number.formats import FORMATS, Format, UnknownFormat, from_onnx


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. None: not defined for its operator, or not known.

    dtype:       element type of its first output, as ONNX names it.
    shape:       of its first output.
    fan_in:      n, the terms that one element of the result adds up.
    gamma:       gamma_n = n u / (1 - n u) in the accumulator's format, rounded up; inf if n u >= 1, where it means nothing.
    lipschitz:   l-infinity, rounded up.
    spectral:    l2 norm of a dense or convolutional layer; `spectral_bound` says that it is a proved bound, else it is an estimate.
    parameters:  elements of the float and narrow integer constants that it reads.
    largest_weight, smallest_weight: extreme |w| over its non-zero float constants.
    overflowing, underflowing: how many of them are too large for the storage format, or not zero and below its smallest normal.
    weights:     how many float constants' elements those counts are of.
    condition:   median and largest condition number of its inner products, once data is known.
    """

    dtype: str
    shape: tuple[int, ...]
    fan_in: int | None = None
    gamma: float | None = None
    lipschitz: float | None = None
    spectral: float | None = None
    spectral_bound: bool = False
    parameters: int = 0
    largest_weight: float | None = None
    smallest_weight: float | None = None
    overflowing: int = 0
    underflowing: int = 0
    weights: int = 0
    condition: tuple[float, float] | None = None

    @property
    def out_of_range(self) -> float | None:
        """Share of the weights that the storage format does not hold as normal numbers."""
        return (self.overflowing + self.underflowing) / self.weights if self.weights else None


def gamma(n: int, u: float) -> float:
    """gamma_n = n u / (1 - n u), rounded up; inf if n u >= 1 (Higham, *Accuracy and Stability*, Lemma 3.1).

    Exact but for the division: u is a power of two and n < 2^53, so n u is a float64; 2^-53 <= u makes 1 - n u one too.
    """
    product = n * u
    return inf if product >= 1.0 else nextafter(product / (1.0 - product), inf)


def annotate(graph: ModelGraph, storage: Format | None = None, accumulator: Format | None = None, norms: bool = True) -> ModelGraph:
    """`graph` with a `NodeFacts` for every node, which are its networkx nodes' attribute `facts` too.

    storage:     format of weights and results; None: the type that each has in the file.
    accumulator: format of sums; None: fp32, or fp64 where the storage is fp64.
    norms:       False leaves the spectral norms out, which take a singular value decomposition each.
    """
    return replace(graph, facts={node.name: _facts(node, graph.values, storage, accumulator, norms) for node in graph.nodes})


def format_of(value: Value, storage: Format | None) -> Format | None:
    """The format in which a value is held; None if it is not of floats, or of some that have no format here."""
    try:
        own = from_onnx(value.elem_type)
    except UnknownFormat:
        return None
    return own if own is None or storage is None else storage


def _facts(node: Node, values: Mapping[str, Value], storage: Format | None, accumulator: Format | None, norms: bool) -> NodeFacts:
    result = next(values[name] for name in node.outputs if name is not None)
    held = format_of(result, storage)
    n = terms.fan_in(node, values)
    summed_in = accumulator or (None if held is None else FORMATS["fp64" if held.name == "fp64" else "fp32"])
    spectral = lipschitz.spectral(node, values) if norms else None
    read = [values[name] for name in dict.fromkeys(node.inputs) if name is not None and values[name].constant is not None]
    measured = [found for found in (_magnitudes(v, storage) for v in read) if found is not None]
    return NodeFacts(
        dtype=type_name(result.elem_type),
        shape=result.shape,
        fan_in=n,
        gamma=None if n is None or held is None or summed_in is None else gamma(n, summed_in.unit_roundoff),
        lipschitz=lipschitz.l_infinity(node, values),
        spectral=None if spectral is None else spectral[0],
        spectral_bound=spectral is not None and spectral[1] == "bound",
        parameters=sum(v.size for v in read if v.elem_type in FLOATING | NARROW_INTEGERS),
        largest_weight=max((m.largest for m in measured if m.largest is not None), default=None),
        smallest_weight=min((m.smallest for m in measured if m.smallest is not None), default=None),
        overflowing=sum(m.overflowing for m in measured),
        underflowing=sum(m.underflowing for m in measured),
        weights=sum(m.size for m in measured),
    )


def _magnitudes(value: Value, storage: Format | None) -> Magnitudes | None:
    held = format_of(value, storage)
    return None if held is None or value.constant is None else magnitudes(value.constant, held)
