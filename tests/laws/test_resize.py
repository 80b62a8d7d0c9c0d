"""Laws of Resize and Upsample, and onnxruntime's kernels against their bounds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import certify
from certify.number.enclosure import Enclosure
from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.families.resampling import Plan
from certify.semantics.ops import resize  # noqa: F401 - registers the rules
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import MIXED, Machine
from tests.laws.reference import runtime
from tests.laws.test_lies import Liar, pull_off, steeper

rng = np.random.default_rng(17)
SINGLE = Machine(precision=24, emin=-126, emax=127, ulps=2.0, absolute=2.0**-22)


class Exactly:
    """A machine that does not round."""

    @property
    def accumulator(self) -> Exactly:
        return self

    def fl(self, x: Any) -> Any:
        return x

    def fl_dot(self, products: Any) -> Any:
        return products.sum(axis=-1)


def coordinate(fl: Any, mode: str, i: int, n: int, m: int, scale: Any, start: Any, end: Any) -> Any:
    """The standard's formulas, every operation rounded by fl."""
    at = mpf(i)
    if mode == "asymmetric":
        return fl(at / scale)
    if mode == "align_corners":
        return fl(fl(at * (n - 1)) / (m - 1)) if m > 1 else mpf(0)
    if mode == "tf_crop_and_resize":
        if m == 1:
            return fl(fl(fl(start + end) / 2) * (n - 1))
        return fl(fl(start * (n - 1)) + fl(fl(fl(at * fl(end - start)) * (n - 1)) / (m - 1)))
    if mode == "pytorch_half_pixel" and m == 1:
        return mpf(0)
    x = fl(fl(at + mpf(0.5)) / scale)
    if mode == "tf_half_pixel_for_nn":
        return x
    if mode == "half_pixel_symmetric":
        x = fl(x + fl(mpf(n) / 2 * fl(1 - fl(m / fl(scale * n)))))
    return fl(x - mpf(0.5))


def nearest(x: Any, mode: str) -> int:
    ways = {
        "floor": mp.floor(x),
        "ceil": mp.ceil(x),
        "round_prefer_floor": mp.ceil(x - mpf(0.5)),
        "round_prefer_ceil": mp.floor(x + mpf(0.5)),
    }
    return int(ways[mode])


def keys(t: Any, a: Any, fl: Any) -> Any:
    t = abs(t)
    if t <= 1:
        return fl(fl(fl(fl(fl(fl((a + 2) * t) - (a + 3)) * t) * t)) + 1)
    if t >= 2:
        return mpf(0)
    return fl(fl(fl(fl(fl(fl(fl(a * t) - 5 * a) * t) + 8 * a) * t)) - 4 * a)


def weights(fl: Any, x: Any, n: int, scale: Any, mode: str, nearest_mode: str, a: float, exclude: int, antialias: int) -> dict[int, Any]:
    """Tap -> weight along one axis, from the coordinate."""
    if mode == "nearest":
        return {min(max(nearest(x, nearest_mode), 0), n - 1): mpf(1)}
    shrink = min(scale, mpf(1)) if antialias else mpf(1)
    reach = int(mp.ceil((1 if mode == "linear" else 2) / shrink)) + 1
    found: dict[int, Any] = {}
    total = mpf(0)
    for i in range(int(mp.floor(x)) - reach, int(mp.floor(x)) + reach + 2):
        t = fl(fl(i - x) * shrink)
        w = fl(max(1 - abs(t), mpf(0))) if mode == "linear" else keys(t, mpf(a), fl)
        if w and not (exclude and not 0 <= i < n):
            tap = min(max(i, 0), n - 1)
            found[tap] = fl(found.get(tap, mpf(0)) + w)
            total = fl(total + w)
    return {i: fl(w / total) for i, w in found.items()} if exclude or antialias else found


def resized(machine: Any, places: Any, x: Any, axes: Any, how: dict[str, Any], fill: float, coordinates: str) -> Any:
    """Axis by axis; coordinates rounded by `places`, all else in the machine's accumulator, then stored."""
    outside = np.zeros((1,) * x.ndim, dtype=bool)
    inner = machine.accumulator
    for k, (m, scale, start, end) in axes.items():
        n = x.shape[k]
        front, out, flags = np.moveaxis(x, k, 0), [], []
        for i in range(m):
            at = coordinate(places, coordinates, i, n, m, mpf(scale), mpf(start), mpf(end))
            flags.append(coordinates == "tf_crop_and_resize" and not 0 <= at <= n - 1)
            taps = weights(inner.fl, at, n, mpf(scale), **how)
            out.append(inner.fl_dot(np.stack([front[t] * w for t, w in taps.items()], axis=-1)))
        x = np.moveaxis(np.stack(out), 0, k)
        shape = [1] * x.ndim
        shape[k] = -1
        outside = outside | np.array(flags).reshape(shape)
    return machine.fl(np.where(outside, mpf(fill), x))


CASES: list[tuple[dict[str, Any], dict[int, Any], dict[str, Any]]] = [
    ({"mode": "linear", "scales": [1.0, 1.7]}, {1: (5, float(np.float32(1.7)), 0, 1)}, {}),
    ({"mode": "linear", "sizes": [3, 2], "coordinate_transformation_mode": "align_corners"}, {0: (3, 1.5, 0, 1), 1: (2, 2 / 3, 0, 1)}, {}),
    ({"mode": "cubic", "scales": [1.0, 2.0], "exclude_outside": 1}, {1: (6, 2.0, 0, 1)}, {"exclude": 1}),
    ({"mode": "linear", "sizes": [2, 2], "antialias": 1}, {1: (2, 2 / 3, 0, 1)}, {"antialias": 1}),
    ({"mode": "nearest", "scales": [1.0, 1.6]}, {1: (4, float(np.float32(1.6)), 0, 1)}, {}),
    (
        {
            "mode": "linear",
            "sizes": [2, 4],
            "roi": [0.0, 0.25, 1.0, 1.25],
            "extrapolation_value": 0.3,
            "coordinate_transformation_mode": "tf_crop_and_resize",
        },
        {1: (4, 4 / 3, 0.25, 1.25)},
        {},
    ),
]


def parts(case: Any) -> tuple[dict[str, Any], Any, Any]:
    attributes, axes, more = case
    arrays = {
        k: np.array(v, dtype=np.float32 if k != "sizes" else np.int64) for k, v in attributes.items() if k in ("roi", "scales", "sizes")
    }
    attributes = attributes | arrays
    if "scales" not in attributes:
        sizes = attributes["sizes"]
        axes = {k: (m, mpf(m) / (2, 3)[k], s, e) for k, (m, _, s, e) in axes.items()}
        assert all(sizes[k] == m for k, (m, *_) in axes.items())
    how = {"mode": attributes["mode"], "nearest_mode": "round_prefer_floor", "a": -0.75, "exclude": 0, "antialias": 0} | more
    settings = axes, how, attributes.get("extrapolation_value", 0.0), attributes.get("coordinate_transformation_mode", "half_pixel")
    return (
        attributes,
        lambda x, **_: resized(Exactly(), lambda v: v, x, *settings),
        lambda machine, x, **_: resized(machine, SINGLE.fl, x, *settings),
    )


def check(rule: Any, case: Any, machines: Any = (MIXED,)) -> None:
    attributes, oracle, kernel = parts(case)
    lo = rng.normal(size=(2, 3))
    hard = np.array([[0.0, -0.0, 2.0**-1074], [2.0**300, 1.0, -(2.0**-600)]])
    boxes = [((lo, lo + 0.25 * rng.integers(0, 2, lo.shape)),)]
    check_rule(rule, boxes, [(hard,)], oracle=oracle, attributes=attributes, radii=(0.0, 2.0**-10, 1.5), kernel=kernel, machines=machines)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_resize(case: Any) -> None:
    with mp.workprec(4000):  # ratios are known to more bits than the kit asks for
        check(lookup("", "Resize", 19), case)


@pytest.mark.parametrize(
    ("verb", "tell"),
    [("linearize", steeper), ("linearize", pull_off), ("rounding", lambda b, *_: 0.0 * b)],
    ids=["steeper", "pull", "rounding"],
)
def test_lies_are_caught(verb: str, tell: Any) -> None:
    with pytest.raises(LawBroken):
        check(Liar(lookup("", "Resize", 19), verb, tell), CASES[0], (MIXED,))


def test_coordinates_taken_for_exact_are_caught() -> None:
    """In fp32, where coordinates cost more than weights and sums."""
    honest = lookup("", "Resize", 19)

    def careless(shape: Any, **attributes: Any) -> Plan:
        plan = honest.plan(shape, **attributes)
        return replace(plan, axes=tuple((k, replace(taps, moved=0.0 * taps.moved)) for k, taps in plan.axes))

    attributes = {"mode": "linear", "sizes": np.array([1, 4000])}
    x = rng.normal(size=(1, 1, 2999)).astype(np.float32).astype(float)
    Y, got = honest.enclose((Enclosure.point(x),), **attributes), attack_one(x[0], attributes)
    bounds = [
        rule.rounding((Enclosure.point(x),), (None,), SINGLE, Y.mag, [0.0], **attributes)[0]
        for rule in (honest, replace(honest, name="x", plan=careless))
    ]
    off = np.abs(got - Y.mid[0])
    assert (off <= bounds[0]).all()
    assert not (off <= bounds[1]).all()


def attack_one(x: Any, attributes: dict[str, Any], opset: int = 19) -> Any:
    given = {k: v for k, v in attributes.items() if k not in ("roi", "scales", "sizes")}
    inputs = [x, attributes.get("roi"), attributes.get("scales"), attributes.get("sizes")]
    return runtime("Resize", inputs, given, opset).astype(float)


COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_onnxruntime_stays_within(mode: str, coordinates: str) -> None:
    rule = lookup("", "Resize", 19)
    shapes = [((5, 7), (11, 4)), ((33, 9), (100, 9)), ((100, 31), (37, 62)), ((3, 50), (7, 49))]
    ways: list[dict[str, Any]] = [{}]
    if mode == "nearest":
        ways = [{"nearest_mode": m} for m in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")]
    elif mode == "cubic":
        ways = [{}, {"exclude_outside": 1, "cubic_coeff_a": -0.5}]
    if mode != "nearest":
        ways += [{"antialias": 1}, {"antialias": 1, "exclude_outside": 1}]
    for (before, after), way in itertools.product(shapes, ways):
        x = rng.normal(size=before).astype(np.float32).astype(float)
        attributes: dict[str, Any] = way | {"mode": mode, "coordinate_transformation_mode": coordinates, "sizes": np.array(after)}
        if coordinates == "tf_crop_and_resize":
            attributes |= {"roi": np.array([0.125, 0.0, 1.0625, 1.0], dtype=np.float32), "extrapolation_value": 0.5}
        inside(rule, x, attributes)


def inside(rule: Any, x: Any, attributes: dict[str, Any]) -> None:
    X = Enclosure.point(x[None])
    Y = rule.enclose((X,), **attributes)
    got = attack_one(x, attributes)
    bound = rule.rounding((X,), (None,), SINGLE, Y.mag, [0.0], **attributes)[0]
    off = np.abs(got - Y.mid[0])
    assert np.isfinite(bound).all(), attributes
    assert (off <= bound + (Y.hi - Y.lo)[0]).all(), (attributes, off.max(), bound.max())


def test_scales_in_onnxruntime() -> None:
    rule = lookup("", "Resize", 19)
    for scale, mode, coordinates in itertools.product((0.3, 0.6, 1.7, 2.0, 3.0), ("nearest", "linear", "cubic"), COORDINATES[:3]):
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "scales": np.array([scale, 2.0], dtype=np.float32)}
        try:
            inside(rule, rng.normal(size=(10, 6)).astype(np.float32).astype(float), attributes)
        except UnsupportedOperator as refusal:
            assert "no whole number" in str(refusal)  # noqa: PT017


def test_axes_and_policies_in_onnxruntime() -> None:
    rule, x = lookup("", "Resize", 19), rng.normal(size=(1, 2, 9, 7)).astype(np.float32).astype(float)
    for policy, sizes in itertools.product(("stretch", "not_larger", "not_smaller"), ((5, 12), (20, 20))):
        inside(rule, x, {"mode": "linear", "axes": [3, 2], "keep_aspect_ratio_policy": policy, "sizes": np.array(sizes)})


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_old_definitions_in_onnxruntime(mode: str) -> None:
    x = rng.normal(size=(1, 1, 5, 6)).astype(np.float32).astype(float)
    for name, opset, scales in (("Upsample", 9, (2.0, 3.0)), ("Resize", 10, (1.7, 0.6)), ("Resize", 10, (0.5, 0.4))):
        whole = np.array([1.0, 1.0, *scales], dtype=np.float32)
        rule, X = lookup("", name, opset), Enclosure.point(x[None])
        Y = rule.enclose((X,), mode=mode, scales=whole)
        bound = rule.rounding((X,), (None,), SINGLE, Y.mag, [0.0], mode=mode, scales=whole)[0]
        got = runtime(name, [x, whole], {"mode": mode}, opset).astype(float)
        assert (np.abs(got - Y.mid[0]) <= bound + (Y.hi - Y.lo)[0]).all()


def test_doubling_moves_nothing() -> None:
    """Coordinates and weights are exact: what is left is four roundings, whatever the format of the coordinates."""
    rule, x = lookup("", "Resize", 13), 1.0 + rng.random(size=(1, 1, 1, 64, 64))
    attributes = {"mode": "linear", "scales": np.array([1, 1, 2, 2], dtype=np.float32)}
    X = Enclosure.point(x)
    bound = rule.rounding((X,), (None,), SINGLE, rule.enclose((X,), **attributes).mag, [0.0], **attributes)
    assert bound.max() <= 8 * 2.0**-24 * 2.0
    nearest_ = {"scales": attributes["scales"], "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for factor in (2, 3):
        nearest_["scales"] = np.array([1, 1, factor, 1], dtype=np.float32)
        assert not rule.rounding((X,), (None,), SINGLE, rule.enclose((X,), **nearest_).mag, [0.0], **nearest_).any()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"scales": [1.0, 0.6], "coordinate_transformation_mode": "align_corners"}, "no whole number"),
        ({"scales": [1.0, 1.1]}, "keeps its extent"),
        ({"scales": [1.0, 2.0], "antialias": 1}, "antialias"),
        ({"scales": [2.0]}, "one for each axis"),
        ({"sizes": [1, 2], "coordinate_transformation_mode": "tf_crop_and_resize"}, "needs a roi"),
    ],
)
def test_refusals(attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedOperator, match=reason):
        lookup("", "Resize", 19).value(np.ones((1, 2, 4)), **{k: np.array(v) if isinstance(v, list) else v for k, v in attributes.items()})


@pytest.mark.parametrize("dtype", [None, "fp16", "bf16", "fp8e4m3"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_whole_claims(mode: str, dtype: str | None) -> None:
    """Resized twice with a Tanh between, ratios that round; conforming runs stay within, at points and in a region."""
    from onnx import TensorProto, helper, numpy_helper

    sizes = [numpy_helper.from_array(np.array([1, 2, *s]), name) for name, s in (("s1", (7, 9)), ("s2", (4, 5)))]
    nodes = [
        helper.make_node("Resize", ["x", "", "", "s1"], ["a"], mode=mode),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Resize", ["b", "", "", "s2"], ["y"], mode=mode, coordinate_transformation_mode="align_corners"),
    ]
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, 2, 5, 6)), ("y", (1, 2, 4, 5)))]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], sizes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    for claim in (
        {"data": {"x": rng.normal(size=(1, 2, 5, 6)).astype(np.float32)}},
        {"ranges": {"x": (0.0, 0.125)}, "region": True, "samples": 4, "boxes": 4, "jobs": 1, "time_limit": 2.0},
    ):
        certificate = certify.certify(model, dtype=dtype, **claim)
        assert certificate.gate is not None
        assert certificate.gate.exit_code == 0, certificate.gate.reasons
        assert np.isfinite(certificate.outputs["y"].absolute_bound).all()
