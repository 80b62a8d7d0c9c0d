"""Laws of the linear reductions, and their values against onnx's own reference implementation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.ops import reduction  # noqa: F401 - registers the rules
from tests.laws.kit import check_rule
from tests.laws.reference import reference

rng = np.random.default_rng(3)
LO = rng.normal(size=(2, 3))
BOX = ((LO, LO + 0.5 * rng.integers(0, 2, (2, 3))),)
POINTS = [
    (np.array([[1.0, 2.0**53, -(2.0**53)], [0.1, 0.2, -0.3]]),),
    (np.array([[2.0**-1074, -0.0, 0.0], [2.0**-1022, 2.0**-1074, -(2.0**-1022)]]),),
    (np.array([[2.0**1000, 2.0**1000, -(2.0**1000)], [5.0, 3.0, 1.0]]),),
]
AXES = [{}, {"axes": [0]}, {"axes": [-1], "keepdims": 0}, {"axes": [0, 1], "keepdims": 0}, {"axes": [], "noop_with_empty_axes": 1}]


def _groups(x: Any, axes: Any, keepdims: int, noop: int) -> tuple[Any, tuple[int, ...]]:
    """The elements that each result adds up, along the last axis, and the result's shape."""
    listed = [int(a) % x.ndim for a in (axes if axes is not None else [])] or ([] if noop else list(range(x.ndim)))
    rest = [a for a in range(x.ndim) if a not in listed]
    count = int(np.prod([x.shape[a] for a in listed], dtype=int))
    shape = tuple(1 if a in listed else n for a, n in enumerate(x.shape) if keepdims or a not in listed)
    return x.transpose(*rest, *listed).reshape(*(x.shape[a] for a in rest), count), shape


def sum_oracle(x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
    groups, shape = _groups(x, axes, keepdims, noop_with_empty_axes)
    out = np.empty(groups.shape[:-1], dtype=object)
    for index in np.ndindex(out.shape):
        out[index] = sum(groups[index], start=mpf(0))
    return out.reshape(shape)


def mean_oracle(x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
    groups, _ = _groups(x, axes, keepdims, noop_with_empty_axes)
    total = sum_oracle(x, axes, keepdims, noop_with_empty_axes)
    return np.asarray(total / max(1, groups.shape[-1]), dtype=object).reshape(total.shape)


def sum_kernel(machine: Any, x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
    groups, shape = _groups(x, axes, keepdims, noop_with_empty_axes)
    return machine.fl_sum(groups).reshape(shape)


def mean_kernel(machine: Any, x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
    groups, shape = _groups(x, axes, keepdims, noop_with_empty_axes)
    inner = machine.accumulator
    total = np.asarray(inner.fl_sum(groups), dtype=object)
    factor = inner.fl(1 / mpf(groups.shape[-1]))
    mean = total / groups.shape[-1] if int(machine.rng.integers(2)) else total * factor
    return machine.fl(inner.fl(np.asarray(mean, dtype=object))).reshape(shape)


@pytest.mark.parametrize("attributes", AXES, ids=str)
@pytest.mark.parametrize(("name", "oracle", "kernel"), [("ReduceSum", sum_oracle, sum_kernel), ("ReduceMean", mean_oracle, mean_kernel)])
def test_reduction(name: str, oracle: Any, kernel: Any, attributes: dict[str, Any]) -> None:
    check_rule(lookup("", name, 18), [BOX], POINTS, oracle=oracle, kernel=kernel, attributes=attributes, radii=(0.0, 2.0**-10, 1.5))


def _cumsum_terms(x: Any, axis: int, exclusive: int, reverse: int) -> Any:
    """Along a new last axis, the elements that each running sum adds, zero elsewhere."""
    n = x.shape[axis]
    i, j = np.indices((n, n))
    chosen = (j < i if exclusive else j <= i) if not reverse else (j > i if exclusive else j >= i)
    moved = np.moveaxis(x, axis, -1)
    return np.where(chosen, moved[..., None, :], mpf(0))


def cumsum_oracle(x: Any, axis: Any, exclusive: int = 0, reverse: int = 0) -> Any:
    terms = _cumsum_terms(x, int(axis), exclusive, reverse)
    return np.moveaxis(np.asarray(terms.sum(axis=-1), dtype=object), -1, int(axis))


def cumsum_kernel(machine: Any, x: Any, axis: Any, exclusive: int = 0, reverse: int = 0) -> Any:
    terms = _cumsum_terms(x, int(axis), exclusive, reverse)
    return np.moveaxis(machine.fl_sum(terms), -1, int(axis))


@pytest.mark.parametrize(("axis", "exclusive", "reverse"), itertools.product([0, -1], [0, 1], [0, 1]))
def test_cumsum(axis: int, exclusive: int, reverse: int) -> None:
    attributes = {"axis": np.array(axis), "exclusive": exclusive, "reverse": reverse}
    rule = lookup("", "CumSum", 14)
    check_rule(rule, [BOX], POINTS[:1], oracle=cumsum_oracle, kernel=cumsum_kernel, attributes=attributes, radii=(0.0, 0.125))
    x = rng.integers(-9, 9, (3, 4)).astype(float)
    y = reference("CumSum", [x, np.array(axis)], {"exclusive": exclusive, "reverse": reverse}, 14)
    np.testing.assert_array_equal(rule.value(x[None], **attributes)[0], y)


@pytest.mark.parametrize("attributes", AXES, ids=str)
def test_values_agree_with_onnx(attributes: dict[str, Any]) -> None:
    x = rng.integers(-9, 9, (4, 8)).astype(float)
    given = dict(attributes)
    axes = np.array(given.pop("axes"), dtype=np.int64) if "axes" in given else None
    for name in ("ReduceSum", "ReduceMean"):
        y = reference(name, [x, axes], given, 18)
        np.testing.assert_array_equal(lookup("", name, 18).value(x[None], **attributes)[0], y)


def test_integers_add_up_exactly() -> None:
    X = Enclosure.point(np.arange(1000.0)[None])
    Y = lookup("", "ReduceSum", 13).enclose((X,))
    assert Y.lo is Y.hi
    assert Y.lo.item() == 499500.0
