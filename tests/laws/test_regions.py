"""Laws of the parts of RoiAlign; RoiAlign and MaxRoiPool as a whole against hostile runs and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mpf

import certify
from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.ops import regions  # noqa: F401 - registers the rules
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import MIXED
from tests.laws.reference import runtime, single_node
from tests.laws.test_lies import Liar, steeper
from tests.laws.test_sampling import claimed

rng = np.random.default_rng(31)
HOW = {"pooled": (2, 1), "counts": ((1, 2), (2, 1))}


def places(fl: Any, start: Any, size: Any) -> Any:
    """Bin after bin, row after row of samples, for regions of two samples."""
    out = np.empty((2, 4, 2), dtype=object)
    for r, (rows, columns) in enumerate(HOW["counts"]):
        bins = [fl(size[r, 0] / 1), fl(size[r, 1] / 2)]
        for k in range(4):
            i, j = k // 2, k % 2
            for axis, (b, n, at) in enumerate(((0, columns, j % columns), (i, rows, j // columns))):
                within = fl(fl((at + mpf(0.5)) * bins[axis]) / n)
                out[r, k, axis] = fl(fl(start[r, axis] + fl(b * bins[axis])) + within)
    return out


def check_places(rule: Any) -> None:
    start, size = rng.normal(size=(2, 2)), rng.uniform(1, 5, size=(2, 2))
    check_rule(
        rule,
        [((start, start + 0.25), (size, size + 0.5))],
        [(np.array([[0.0, 2.0**-1074], [1.0, 2.0**300]]), size)],
        oracle=lambda a, b, **_: places(lambda v: v, a, b),
        kernel=lambda machine, a, b, **_: machine.fl(places(machine.accumulator.fl, a, b)),
        attributes=HOW,
        radii=(0.0, 1.5),
        machines=(MIXED,),
    )


def test_places() -> None:
    check_places(lookup("certify", "RoiPlaces", 1))


@pytest.mark.parametrize(("verb", "tell"), [("linearize", steeper), ("rounding", lambda b, *_: 0.0 * b)], ids=["steeper", "rounding"])
def test_lies_about_places_are_caught(verb: str, tell: Any) -> None:
    with pytest.raises(LawBroken):
        check_places(Liar(lookup("certify", "RoiPlaces", 1), verb, tell))


def test_means() -> None:
    counts, bins = (1, 3), 2

    def mean(x: Any, add: Any, divide: Any) -> Any:
        out = np.empty((2, 1, 2, 1), dtype=object)
        for r, p in np.ndindex(2, bins):
            out[r, 0, p, 0] = divide(add(list(x[r, 0, 3 * p : 3 * p + counts[r]])), counts[r])
        return out

    def kernel(machine: Any, x: Any, **_: Any) -> Any:
        inner = machine.accumulator
        return mean(x, lambda t: inner.fl_sum(np.array(t, dtype=object)[None])[0], lambda s, n: machine.fl(inner.fl(s / n)))

    x = rng.normal(size=(2, 1, 6))
    check_rule(
        lookup("certify", "RoiMean", 1),
        [((x, x + 0.25 * rng.integers(0, 2, x.shape)),)],
        [(np.resize([0.0, 2.0**-1074, 2.0**300, -1.0], x.shape),)],
        oracle=lambda x, **_: mean(x, sum, lambda s, n: s / n),
        kernel=kernel,
        attributes={"counts": counts, "pooled": (2, 1)},
        radii=(0.0, 1.5),
        machines=(MIXED,),
    )


ROIS = np.array([[0.3, 1.1, 5.2, 6.7], [-3.0, -2.5, 2.2, 12.3], [4.4, 4.1, 4.9, 4.3], [1.0, 2.0, 3.0, 9.0]], dtype=np.float32)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
def test_roi_align(coordinates: str, ratio: int) -> None:
    from onnx import numpy_helper

    x, batch = rng.normal(size=(2, 3, 8, 9)).astype(np.float32), np.array([0, 1, 1, 0])
    attributes = {"output_height": 3, "output_width": 2, "sampling_ratio": ratio, "spatial_scale": 0.75}
    for opset, more in ((16, {"coordinate_transformation_mode": coordinates}), (10, {})):
        model, feeds = single_node("RoiAlign", [x, ROIS, batch], attributes | more, opset)
        if ratio == 0:  # known regions decide how many samples there are
            model.graph.initializer.append(numpy_helper.from_array(ROIS, "x1"))
            del model.graph.input[1]
            feeds.pop("x1")
        output = claimed(model, feeds)
        off = np.abs(runtime("RoiAlign", [x, ROIS, batch], attributes | more, opset).astype(float) - output.reference[0])
        assert (off <= output.absolute_bound[0]).all()
        assert np.median(output.absolute_bound) < 1e-4
    claimed(model, feeds, "bf16")


def test_onnx_own_cases_in_onnxruntime() -> None:
    """Their expected outputs are typed with four digits; onnxruntime's lie within."""
    from tests.conformance.cases import _compare, _runtime, cases

    for case in cases():
        if case.name in ("test_roialign_aligned_false", "test_roialign_aligned_true"):
            certificate = certify.certify(case.model, data=case.inputs, validate=False)
            assert _compare(certificate, _runtime(case) or {}) == ""
            for name, y in case.expected.items():
                assert np.abs(y - certificate.outputs[name].reference[0]).max() < 1e-4


def test_max_roi_pool() -> None:
    x = rng.normal(size=(2, 3, 8, 9)).astype(np.float32)
    rois = np.array([[0, 0, 0, 5, 7], [1, 2, 1, 8, 6], [1, 6, 3, 16, 14]], dtype=np.float32)
    attributes = {"pooled_shape": [2, 2], "spatial_scale": 0.5}
    got = lookup("", "MaxRoiPool", 22).value(x[None].astype(float), rois=rois, **attributes)[0]
    np.testing.assert_array_equal(got, runtime("MaxRoiPool", [x, rois], attributes, 11))


def test_refusals() -> None:
    x, batch = np.ones((1, 1, 4, 4), dtype=np.float32), np.array([0])
    model, feeds = single_node("RoiAlign", [x, ROIS[:1], batch], {"mode": "max"}, 16)
    with pytest.raises(UnsupportedOperator, match="largest weighted element"):
        certify.certify(model, data=feeds)
    model, feeds = single_node("RoiAlign", [x, ROIS[:1], batch], {}, 16)
    with pytest.raises(UnsupportedOperator, match="sampling_ratio is 0"):
        certify.certify(model, data=feeds)
    with pytest.raises(UnsupportedOperator, match="border lies on an element|halfway"):
        lookup("", "MaxRoiPool", 22).value(np.ones((1, 1, 1, 50, 50)), rois=np.array([[0, 0, 0, 13, 13]]), pooled_shape=(13, 13))
