"""What is known of a region's parts ─▶ its place in the document."""

from __future__ import annotations

from certify.certificate import schema
from certify.engines.region.answer import Region, SubBox
from certify.engines.region.map import Map
from certify.number.upward import Array

LISTED = 64  # elements of an input whose intervals are listed one by one


def region(found: Region) -> schema.Region:
    """The document's account of how a region was split."""
    outputs = [
        schema.RegionOutput(name, found.lower[name], [_sub_box(box) for box in found.worst[name]], _map(found.maps.get(name)))
        for name in found.lower
    ]
    return schema.Region(found.boxes, found.asked, found.ended, outputs)


def _sub_box(box: SubBox) -> schema.SubBox:
    return schema.SubBox(box.bound, {name: intervals(box.lo[name], box.hi[name]) for name in box.lo})


def intervals(lo: Array, hi: Array) -> list[list[float]]:
    if lo.size > LISTED:
        return [[float(lo.min()), float(hi.max())]]
    return [[float(a), float(b)] for a, b in zip(lo.reshape(-1), hi.reshape(-1), strict=True)]


def _map(found: Map | None) -> schema.Map | None:
    if found is None:
        return None
    return schema.Map([schema.MapAxis(axis.input, axis.element, axis.lo, axis.hi) for axis in found.axes], found.bound.tolist())
