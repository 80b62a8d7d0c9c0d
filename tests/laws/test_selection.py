"""Max, Min, ReduceMax, ReduceMin and maximum pooling keep their promises; mpmath is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.semantics.contract import lookup
from certify.semantics.families import selection
from certify.semantics.ops import selection as rows
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import Exact
from tests.laws.reference import runtime
from tests.semantics.models import attacked, one_node

assert rows is not None

PAIR = [((np.array([-1.0, 0.0, 0.5]), np.array([1.0, 0.25, 0.5])), (np.array([0.0, 0.0, -2.0]), np.array([0.5, 0.25, 3.0])))]
TIES = [
    (np.array([0.0, -0.0, 1.0]), np.array([0.0, 0.0, 1.0 + 2.0**-52])),
    (np.array([1e308, 5e-324, -1e300]), np.array([-1e308, -5e-324, 1e300])),
    (np.array([1.0, 2.0, 3.0]), np.array([1.0625, 2.0, 2.0])),
]


@pytest.mark.parametrize(("name", "best"), [("Max", max), ("Min", min)])
def test_pairs(name: str, best: Any) -> None:
    check_rule(lookup("", name, 13), PAIR, TIES, oracle=elementwise(best))
    check_rule(lookup("", name, 13), PAIR, TIES[:1], oracle=elementwise(best), constant=(1,), radii=(0.0, 0.125, 1.5))


def test_three_of_different_ranks() -> None:
    lo = np.array([[0.0, 0.5], [1.0, -1.0]])
    boxes = [((lo, lo + 0.25), (np.array(0.25), np.array(0.5)), (lo[:, :1], lo[:, :1]))]
    points = [(lo, np.array(0.5), np.array([[0.5], [1.0]])), (lo, np.array(1.0), lo[:1])]
    check_rule(lookup("", "Max", 13), boxes, points, oracle=elementwise(max), shapes=False, radii=(0.0, 0.125, 0.5))


def reduced(best: Callable[..., Any]) -> Callable[..., Exact]:
    def oracle(x: Exact, axes: Any = None, keepdims: int = 1) -> Exact:
        chosen = tuple(range(x.ndim)) if axes is None else tuple(int(k) % x.ndim for k in np.ravel(axes))
        kept = [k for k in range(x.ndim) if k not in chosen]
        out = np.empty([x.shape[k] for k in kept], dtype=object)
        for index in np.ndindex(out.shape):
            key: list[Any] = [slice(None)] * x.ndim
            for k, i in zip(kept, index, strict=True):
                key[k] = i
            out[index] = best(x[tuple(key)].ravel())
        return out.reshape([1 if k in chosen else n for k, n in enumerate(x.shape)]) if keepdims else out

    return oracle


@pytest.mark.parametrize(("name", "best"), [("ReduceMax", max), ("ReduceMin", min)])
@pytest.mark.parametrize("attributes", [{}, {"axes": [-1]}, {"axes": np.array([0]), "keepdims": 0}, {"axes": [1, -3], "keepdims": 0}])
def test_reductions(name: str, best: Any, attributes: dict[str, Any]) -> None:
    lo = np.array([[[0.0, 0.5], [1.0, 1.0]], [[-1.0, 0.0], [0.25, 3.0]]])
    boxes = [((lo, lo + 0.25),), ((lo, lo + np.array([0.0, 2.0])),)]
    check_rule(lookup("", name, 18), boxes, [(lo,)], oracle=reduced(best), attributes=attributes, radii=(0.0, 0.125, 1.5))


def pooled(x: Exact, kernel_shape: Any, strides: Any = (1, 1), pads: Any = (0, 0, 0, 0), dilations: Any = (1, 1)) -> Exact:
    (k0, k1), (s0, s1), (d0, d1) = kernel_shape, strides, dilations
    reach = [1 + (kernel_shape[a] - 1) * dilations[a] for a in (0, 1)]
    extents = [(x.shape[2 + a] + pads[a] + pads[a + 2] - reach[a]) // strides[a] + 1 for a in (0, 1)]
    out = np.full((*x.shape[:2], *extents), mpf("-inf"), dtype=object)
    for n, c, i, j in np.ndindex(out.shape):
        for a in range(k0):
            for b in range(k1):
                y, z = i * s0 + a * d0 - pads[0], j * s1 + b * d1 - pads[1]
                if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                    out[n, c, i, j] = max(out[n, c, i, j], x[n, c, y, z])
    return out


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [2, 1], "strides": [2, 1], "pads": [1, 0, 0, 0]},
        {"kernel_shape": [2, 2], "dilations": [1, 2]},
    ],
)
def test_pooling(attributes: dict[str, Any]) -> None:
    lo = np.array([[[[0.0, 0.5, 0.5], [1.0, -1.0, 0.0], [0.25, 3.0, 3.0]]]])
    boxes = [((lo, lo + 0.25),)]
    check_rule(lookup("", "MaxPool", 7), boxes, [(lo,)], oracle=pooled, attributes=attributes, radii=(0.0, 0.125, 1.5))


def _forget_a_candidate(self: Any, sources: Any, others: Any, *rest: Any) -> None:
    first = np.argmax(others, axis=-1)[..., None]
    _COMPETE(self, sources, others & (np.arange(others.shape[-1]) != first), *rest)


def _halved(self: Any, *rest: Any) -> None:
    _DUEL(self, *rest)
    self.radius = 0.49 * self.radius


_COMPETE, _DUEL = selection._Race._compete, selection._Race._duel


@pytest.mark.parametrize(("method", "lie"), [("_compete", _forget_a_candidate), ("_duel", _halved)])
def test_lies_are_caught(method: str, lie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection._Race, method, lie)
    with pytest.raises(LawBroken, match=r"remainder|modulus"):
        check_rule(lookup("", "Max", 13), PAIR, TIES, oracle=elementwise(max))


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3], "strides": [2], "ceil_mode": 1},
        {"kernel_shape": [2], "strides": [3], "pads": [1, 1], "ceil_mode": 1},
        {"kernel_shape": [3], "strides": [2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2], "auto_pad": "SAME_LOWER"},
        {"kernel_shape": [3], "auto_pad": "VALID", "strides": [2]},
        {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 0, 0, 2], "dilations": [2, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 2, 2], "strides": [1, 2, 1], "auto_pad": "SAME_UPPER"},
    ],
)
def test_pooling_agrees_with_onnxruntime(attributes: dict[str, Any]) -> None:
    extents = (7, 6, 5)[: len(attributes["kernel_shape"])]
    x = np.random.default_rng(0).integers(-99, 99, (2, 3, *extents)).astype(np.float64)
    rule: Any = lookup("", "MaxPool", 7)
    assert np.array_equal(rule.value(x[None], **attributes)[0], runtime("MaxPool", [x], attributes, 12))
    whole: Any = lookup("", "GlobalMaxPool", 12)
    assert np.array_equal(whole.value(x[None])[0], runtime("GlobalMaxPool", [x], {}, 12))


def places(x: Any, storage_order: int = 0, **attributes: Any) -> Any:
    """The index of the first largest element of each 2-D window, from the definition."""
    (kh, kw), (sh, sw), (top, left, _, _) = attributes["kernel_shape"], attributes["strides"], attributes["pads"]
    n, c, h, w = x.shape
    out = np.empty((n, c, (h + 2 * top - kh) // sh + 1, (w + 2 * left - kw) // sw + 1), dtype=object)
    for index in np.ndindex(out.shape):
        rows = [index[2] * sh - top + i for i in range(kh)]
        columns = [index[3] * sw - left + j for j in range(kw)]
        inside = [(i, j) for i in rows for j in columns if 0 <= i < h and 0 <= j < w]
        i, j = max(inside, key=lambda p: (x[(*index[:2], *p)], -p[0], -p[1]))
        out[index] = mpf((index[0] * c + index[1]) * h * w + (j * h + i if storage_order else i * w + j))
    return out


@pytest.mark.parametrize("storage_order", [0, 1])
def test_places_of_the_largest(storage_order: int) -> None:
    rng = np.random.default_rng(6)
    attributes = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [1, 1, 1, 1], "storage_order": storage_order}
    lo = rng.integers(-3, 4, (1, 2, 3, 4)).astype(float)
    rule = lookup("certify", "PlaceOfLargest", 1)
    boxes = [((lo, lo + rng.integers(0, 2, lo.shape)),), ((lo, lo),)]
    check_rule(rule, boxes, [(lo * 0.0,)], oracle=places, attributes=attributes, radii=(0.0, 0.125, 1.5))
    model = one_node("MaxPool", {"x": lo}, attributes, 12, outputs=2, integral=(1,))
    attacked(model, {"x": lo})
