"""Laws of sampling at computed places, and GridSample and DeformConv as a whole against hostile runs and onnxruntime."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import certify
from certify.number.enclosure import Enclosure
from certify.semantics.contract import Linearization, UnsupportedOperator, lookup
from certify.semantics.ops import sampling  # noqa: F401 - registers the rules
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import E4M3, MIXED, Machine
from tests.laws.reference import runtime, single_node
from tests.laws.test_lies import Liar, pull_off, small_magnitude, steeper

rng = np.random.default_rng(29)
SINGLE = Machine(precision=24, emin=-126, emax=127, ulps=2.0, absolute=2.0**-22)
SAMPLE = lookup("certify", "Sample", 1)


def pixel(i: int, n: int, padding: str, align_corners: int) -> int | None:
    """The element at position i of the continued image."""
    if padding == "zeros":
        return i if 0 <= i < n else None
    if padding == "border":
        return min(max(i, 0), n - 1)
    around = [*range(n), *range(n - 2, 0, -1)] if align_corners else [*range(n), *range(n - 1, -1, -1)]  # one period, there and back
    return around[i % len(around)]


def kernel_weights(fl: Any, p: Any, mode: str) -> dict[int, Any]:
    if mode == "nearest":
        return {int(mp.nint(p)): mpf(1)}
    i = int(mp.floor(p))
    t = fl(p - i)
    if mode == "linear":
        return {i: fl(1 - t), i + 1: t}
    a = mpf("-0.75")

    def outer(s: Any) -> Any:
        return fl(fl(fl(fl(fl(fl(a * s) - 5 * a) * s) + 8 * a) * s) - 4 * a)

    def inner(s: Any) -> Any:
        return fl(fl(fl(fl(fl(fl((a + 2) * s) - (a + 3)) * s) * s)) + 1)

    back = fl(1 - t)
    return {i - 1: outer(fl(t + 1)), i: inner(t), i + 1: inner(back), i + 2: outer(fl(back + 1))}


def sampled(x: Any, places: Any, mode: str, padding: str, align_corners: int, crop: bool, fl: Any, add: Any) -> Any:
    """From the definition: one place at a time."""
    extents = x.shape[2:]
    out = np.empty((x.shape[0], x.shape[1], *places.shape[1:-1]), dtype=object)
    for n, at in itertools.product(range(x.shape[0]), np.ndindex(places.shape[1:-1])):
        p = places[(n, *at)][::-1]
        beyond = crop and not all(-1 <= v <= e for v, e in zip(p, extents, strict=True))
        axes = [] if beyond else [kernel_weights(fl, v, mode) for v in p]
        for c in range(x.shape[1]):
            terms = [mpf(0)]
            for taps in itertools.product(*(w.items() for w in axes)) if axes else ():
                place = [pixel(i, e, padding, align_corners) for (i, _), e in zip(taps, extents, strict=True)]
                w = mpf(1)
                for _, v in taps:
                    w = fl(w * v)
                terms.append(mpf(0) if None in place else fl(w * x[(n, c, *place)]))
            out[(n, c, *at)] = add(terms)
    return out


def oracle(x: Any, places: Any, *, mode: str, padding: str, align_corners: int = 0, crop: bool = False) -> Any:
    return sampled(x, places, mode, padding, align_corners, crop, lambda v: v, sum)


def kernel(machine: Any, x: Any, places: Any, *, mode: str, padding: str, align_corners: int = 0, crop: bool = False) -> Any:
    inner = machine.accumulator
    return sampled(
        x, places, mode, padding, align_corners, crop, inner.fl, lambda terms: machine.fl_sum(np.array(terms, dtype=object)[None])[0]
    )


SETTINGS = [
    {"mode": "linear", "padding": "zeros"},
    {"mode": "linear", "padding": "reflection", "align_corners": 1},
    {"mode": "linear", "padding": "border", "crop": True},
    {"mode": "nearest", "padding": "border"},
    {"mode": "nearest", "padding": "reflection"},
    {"mode": "cubic", "padding": "zeros"},
]


def check(rule: Any, settings: dict[str, Any], plane: bool = False, machines: Any = (MIXED,), boxed: bool = True) -> None:
    """Places inside, on borders, on elements, halfway, far out; images of a few elements, along a line or in a plane."""
    shape = (1, 1, 2, 3) if plane else (1, 2, 4)
    x = rng.normal(size=shape)
    where = np.array([-1.25, -0.5, 0.0, 0.75, 1.0, 2.5, 3.0, 3.9, 6.0])
    places = np.stack([where[[1, 3, 5]], where[[2, 3, 0]]], axis=-1)[None] if plane else where[None, :, None]
    thick = rng.choice([0.0, 0.25, 1.0], places.shape)
    boxes = [((x, x + 0.25 * rng.integers(0, 2, shape)), (places, places)), ((x, x), (places, places + thick))] if boxed else []
    # Values of both sides of a jump are told apart by 2^300; places stay moderate.
    hard = [(x, places), (np.resize([0.0, 2.0**-1074, 2.0**300, -1.0, 1.0], shape), places)]
    check_rule(
        rule,
        boxes,
        hard,
        oracle=oracle,
        attributes=settings,
        radii=(0.0, 2.0**-40, 0.125, 1.5),
        kinks=(0.0, 1.0, 0.5),
        kernel=kernel,
        machines=machines,
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_sampling(settings: dict[str, Any]) -> None:
    check(SAMPLE, settings)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_sampling_in_a_plane(mode: str) -> None:
    check(SAMPLE, {"mode": mode, "padding": "border"}, plane=True, machines=(MIXED,), boxed=mode == "linear")


def test_places() -> None:
    """The kernel's own association: ((n + 1) h - 1) / 2."""

    def places(machine: Any, grid: Any, shift: Any, halves: Any) -> Any:
        fl = machine.accumulator.fl
        return machine.fl(np.stack([fl(fl(fl(fl(grid[..., k] + 1) * h) - 1) / 2) for k, h in enumerate(halves)], axis=-1))

    grid, shift = rng.normal(size=(1, 3, 2)), np.array([2.0, 3.5])
    check_rule(
        lookup("certify", "Scaled", 1),
        [((grid, grid + 0.25), (shift, shift))],
        [(np.array([[[0.0, 2.0**-1074], [2.0**300, -1.0], [1.0, 3.0]]]), shift)],
        oracle=lambda g, s, halves: g * np.array([mpf(h) / 2 for h in halves], dtype=object) + s,
        attributes={"halves": (5, 8)},
        constant=(1,),
        kernel=places,
        radii=(0.0, 1.5),
        machines=(E4M3, MIXED),
    )


def flatter(L: Linearization, *_: Any) -> Linearization:
    """As if images had no curvature and no edges: no remainder."""
    return replace(L, radius=np.where(np.isfinite(L.radius), 0.0, L.radius))


LIES: list[tuple[str, Any, dict[str, Any]]] = [
    ("linearize", steeper, SETTINGS[0]),
    ("linearize", pull_off, SETTINGS[0]),
    ("linearize", small_magnitude, SETTINGS[0]),
    ("linearize", flatter, SETTINGS[0]),
    ("linearize", flatter, SETTINGS[2]),
    ("linearize", flatter, SETTINGS[3]),
    ("linearize", flatter, SETTINGS[5]),
    ("enclose", lambda Y, *_: Enclosure.point(Y.mid), SETTINGS[3]),
    ("rounding", lambda b, *_: 0.0 * b, SETTINGS[0]),
]


@pytest.mark.parametrize(("verb", "tell", "settings"), LIES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_lies_are_caught(verb: str, tell: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(LawBroken):
        check(Liar(SAMPLE, verb, tell), settings, machines=(MIXED,) if verb == "rounding" else ())


def claimed(model: Any, feeds: dict[str, Any], dtype: str | None = None) -> Any:
    """Certify with validation on: no run leaves the bound."""
    certificate = certify.certify(model, data=feeds, dtype=dtype)
    assert certificate.gate is not None
    assert certificate.gate.exit_code == 0, certificate.gate.reasons
    return certificate.outputs["y"]


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str) -> None:
    x = rng.normal(size=(2, 3, 5, 6)).astype(np.float32)
    grid = rng.uniform(-1.5, 1.5, size=(2, 7, 4, 2)).astype(np.float32)
    for align_corners in (0, 1):
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": align_corners}
        model, feeds = single_node("GridSample", [x, grid], attributes, 20)
        output = claimed(model, feeds)
        off = np.abs(runtime("GridSample", [x, grid], attributes, 20).astype(float) - output.reference[0])
        assert (off <= output.absolute_bound[0]).all()
        assert np.median(output.absolute_bound) < 1e-3
    claimed(model, feeds, "bf16")


def warped(mode: str) -> Any:
    """A grid that is computed from theta, then sampled."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("AffineGrid", ["theta", "size"], ["grid"]),
        helper.make_node("GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode="border"),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, 2, 6, 6)), ("theta", (1, 2, 3)))]
    size = numpy_helper.from_array(np.array([1, 2, 5, 5]), "size")
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 5, 5))], [size])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("dtype", [None, "bf16", "fp8e5m2"])
def test_computed_grids(mode: str, dtype: str | None) -> None:
    theta = np.array([[[0.7, -0.4, 0.1], [0.3, 0.9, -0.2]]], dtype=np.float32)
    claimed(warped(mode), {"x": rng.normal(size=(1, 2, 6, 6)).astype(np.float32), "theta": theta}, dtype)


def test_a_region_of_grids() -> None:
    certificate = certify.certify(warped("linear"), ranges={"x": (-1.0, 1.0), "theta": (0.5, 0.5625)}, region=True, boxes=8, samples=4)
    assert certificate.gate is not None
    assert certificate.gate.exit_code == 0


@pytest.mark.parametrize("dtype", [None, "fp16"])
def test_deform_conv(dtype: str | None) -> None:
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((1, 4, 6, 5), (6, 2, 3, 3)))
    offset, mask = (rng.normal(size=(1, n, 3, 5)).astype(np.float32) for n in (2 * 2 * 9, 2 * 9))
    attributes = {"group": 2, "offset_group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1], "kernel_shape": [3, 3]}
    inputs = [x, w, offset, rng.normal(size=6).astype(np.float32), mask]
    model, feeds = single_node("DeformConv", inputs, attributes, 19)
    output = claimed(model, feeds, dtype)
    if dtype is None:
        off = np.abs(runtime("DeformConv", inputs, attributes, 19).astype(float) - output.reference[0])
        assert (off <= output.absolute_bound[0]).all()
        assert output.absolute_bound.max() < 1e-3


def test_cubic_volumes_are_refused() -> None:
    x, grid = np.ones((1, 1, 2, 2, 2), dtype=np.float32), np.ones((1, 1, 1, 1, 3), dtype=np.float32)
    model, feeds = single_node("GridSample", [x, grid], {"mode": "cubic"}, 20)
    with pytest.raises(UnsupportedOperator, match="3 axes"):
        certify.certify(model, data=feeds)
