"""What is known of a region's parts ─▶ its place in the document."""

from __future__ import annotations

from certify.certificate import schema
from certify.engines.region.answer import Region
from certify.engines.region.boxes import Part
from certify.engines.region.decided import RegionDecision
from certify.engines.region.map import Map
from certify.number.upward import Array

LISTED = 64  # elements of an input whose intervals are listed one by one
MERGED = 256  # intervals of undecided inputs that are listed


def region(found: Region) -> schema.Region:
    """The document's account of how a region was split."""
    outputs = [
        schema.RegionOutput(
            name, found.lower[name], [schema.SubBox(x.bound, box(x.part)) for x in found.worst[name]], _map(found.maps.get(name))
        )
        for name in found.lower
    ]
    return schema.Region(found.boxes, found.asked, found.ended, outputs)


def decision(output: str, found: RegionDecision) -> schema.RegionDecision:
    """The document's account of the decisions over a region."""
    worst = [schema.UndecidedBox(x.kind, x.margin_reals, x.margin_executions, box(x.part)) for x in found.worst]
    merged = None if found.intervals is None else [(str(x.kind), x.lo, x.hi) for x in found.intervals[:MERGED]]
    return schema.RegionDecision(
        output,
        found.boxes,
        found.asked,
        found.ended,
        {str(kind): count for kind, count in found.count.items()},
        {str(kind): share for kind, share in found.share.items()},
        found.constant,
        found.constant_reals,
        worst,
        found.width,
        merged,
    )


def box(part: Part) -> dict[str, list[list[float]]]:
    """[lo, hi] of each element by input, in C order; of inputs with more than LISTED elements, the hull of all."""
    return {name: _intervals(part.lo[name], part.hi[name]) for name in part.lo}


def _intervals(lo: Array, hi: Array) -> list[list[float]]:
    if lo.size > LISTED:
        return [[float(lo.min()), float(hi.max())]]
    return [[float(a), float(b)] for a, b in zip(lo.reshape(-1), hi.reshape(-1), strict=True)]


def _map(found: Map | None) -> schema.Map | None:
    if found is None:
        return None
    return schema.Map([schema.MapAxis(axis.input, axis.element, axis.lo, axis.hi) for axis in found.axes], found.bound.tolist())
