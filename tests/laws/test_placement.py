"""OneHot, EyeLike, CenterCropPad, MaxUnpool, TensorScatter, Compress keep the promises of copies; a loop over places is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.semantics import ops
from certify.semantics.contract import UnsupportedOperator, lookup
from tests.laws.kit import check_rule
from tests.laws.machine import E4M3, Exact, exact

assert ops.__path__

RADII = (0.0, 0.25, 1.5)


def rule(name: str, opset: int = 28, domain: str = "") -> Any:
    return lookup(domain, name, opset)


def one_hot(indices: Exact, values: Exact, depth: int, axis: int) -> Exact:
    out = np.empty((*indices.shape[:1], depth) if axis == 1 else (depth, *indices.shape), dtype=object)
    for i in range(indices.shape[0]):
        for j in range(depth):
            index = int(indices[i])  # toward zero, as a cast
            hot = (index + depth if index < 0 else index) == j
            out[(i, j) if axis == 1 else (j, i)] = values[1 if hot else 0]
    return out


@pytest.mark.parametrize("axis", [0, 1])
def test_one_hot(axis: int) -> None:
    values = (np.array([-0.25, 3.0]), np.array([0.25, 3.5]))
    places = np.array([0.0, -1.0, 2.0, 7.0])
    boxes = [((places, places), values), ((places, places + np.array([1.0, 0.0, 2.0, 0.0])), values)]
    told: dict[str, Any] = {"depth": 3, "axis": axis}
    check_rule(rule("OneHot"), boxes[:1], oracle=one_hot, attributes=told, radii=RADII, constant=(0,), exact_push=True)
    check_rule(rule("OneHot"), boxes, oracle=one_hot, attributes=told, radii=RADII)


def test_negative_indices_before_opset_11_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="negative"):
        rule("OneHot", 9).value(np.array([[-1.0]]), np.array([[0.0, 1.0]]), depth=3)


def test_eye_like() -> None:
    check_rule(
        rule("EyeLike"),
        [((np.zeros((2, 3)), np.ones((2, 3))),)],
        oracle=lambda x, k: exact(np.array([[float(j - i == k) for j in range(3)] for i in range(2)])),
        attributes={"k": 1},
        kernel=lambda machine, x, k: exact(np.eye(2, 3, k)),
    )


def centred(x: Exact, shape: Any, axes: Any) -> Exact:
    """Row by row: element i of the result is element i + shift of the operand, 0 outside."""
    out = x
    for n, axis in zip(shape, axes, strict=True):
        have = out.shape[axis]
        shift = (have - n) // 2 if have >= n else -((n - have) // 2)
        rows = [np.take(out, i + shift, axis) if 0 <= i + shift < have else 0 * np.take(out, 0, axis) for i in range(n)]
        out = np.stack(rows, axis)
    return out


@pytest.mark.parametrize("shape", [(5, 2), (2, 5), (4, 4), (3, 3)])
def test_center_crop_pad(shape: tuple[int, int]) -> None:
    x = np.arange(12.0).reshape(3, 4)
    told: dict[str, Any] = {"shape": np.array(shape), "axes": (0, -1)}
    check_rule(
        rule("CenterCropPad"),
        [((x - 1, x),)],
        oracle=centred,
        attributes=told,
        radii=RADII,
        kernel=lambda m, x, **a: centred(x, **a),
        exact_push=True,
    )


def unpooled(x: Exact, index: Exact, kernel_shape: Any, strides: Any) -> Exact:
    out = np.full(16, mpf(0), dtype=object)
    for value, place in zip(x.flat, index.flat, strict=True):
        out[int(place)] = value
    return out.reshape(1, 1, 4, 4)


def test_max_unpool() -> None:
    x, index = np.array([[[[1.0, -2.0], [3.0, 4.0]]]]), np.array([[[[5.0, 7.0], [13.0, 15.0]]]])
    told: dict[str, Any] = {"kernel_shape": (2, 2), "strides": (2, 2)}
    fixed = (index, index)
    check_rule(rule("MaxUnpool"), [((x, x + 0.5), fixed)], oracle=unpooled, attributes=told, radii=RADII, constant=(1,), exact_push=True)
    loose = rule("MaxUnpool").linearize((Enclosure.point(x[None]), Enclosure.point(index[None])), (None, np.ones_like(index)[None]), **told)
    assert (loose.radius >= 6.0).all()  # from -2 to 4
    for wrong, reason in ((0.0 * index, "one place"), (index + 9.0, "outside")):
        with pytest.raises(UnsupportedOperator, match=reason):
            rule("MaxUnpool").value(x[None], wrong[None], **told)
    with pytest.raises(UnsupportedOperator, match="disagree"):
        rule("MaxUnpool").value(x[None], index[None], output_shape=np.array([1, 1, 5, 5]), **told)


def scattered(cache: Exact, update: Exact, write: Exact, axis: int, mode: str) -> Exact:
    out = cache.copy()
    for batch in range(cache.shape[0]):
        for t in range(update.shape[axis]):
            place = int(write[batch]) + t
            place = place % cache.shape[axis] if mode == "circular" else place
            np.moveaxis(out, axis, 1)[batch, place] = np.moveaxis(update, axis, 1)[batch, t]
    return out


@pytest.mark.parametrize(("axis", "mode", "start"), [(1, "linear", [0, 2]), (1, "circular", [3, 1]), (2, "linear", [1, 0])])
def test_tensor_scatter(axis: int, mode: str, start: list[int]) -> None:
    cache = np.arange(24.0).reshape(2, 4, 3)
    update = -np.take(cache, range(2), axis)
    told: dict[str, Any] = {"axis": axis, "mode": mode}
    first = np.array(start, dtype=np.float64)
    box = ((cache, cache + 0.5), (update - 0.25, update), (first, first))
    check_rule(
        rule("TensorScatter"),
        [box],
        oracle=scattered,
        attributes=told,
        radii=(0.25, 1.5),
        constant=(2,),
        kernel=lambda m, *x, **a: scattered(*x, **a),
        machines=(E4M3,),
        exact_push=True,
    )


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress(axis: int | None) -> None:
    x = np.arange(6.0).reshape(2, 3)
    condition = np.array([False, True, True, False])

    def oracle(x: Exact, condition: Any, axis: int | None) -> Exact:
        return np.compress(condition[: x.size if axis is None else x.shape[axis]], x, axis)

    told = {"condition": condition[: 2 if axis == 0 else 3 if axis == -1 else 4], "axis": axis}
    check_rule(rule("Compress"), [((x, x + 1.0),)], oracle=oracle, attributes=told, radii=RADII, exact_push=True)
