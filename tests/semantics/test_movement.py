"""The scatter-add behind every movement and selection, against NumPy's slow and simple one."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import certify
from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import lookup
from certify.semantics.families.index_map import IndexMap, Indices
from certify.semantics.ops import movement

assert movement is not None


def simple_pull(source: Indices, size: int, a: Array) -> Array:
    cases = max(source.shape[0], a.shape[0])
    out = np.zeros((cases, size))
    for c in range(cases):
        row, b = source[min(c, source.shape[0] - 1)], a[min(c, a.shape[0] - 1)]
        kept = row >= 0
        np.add.at(out[c], row[kept], b[kept])
    return out


@given(st.integers(0, 6), st.integers(0, 9), st.integers(1, 3), st.sampled_from(["any", "distinct", "even"]), st.integers(0, 2**32 - 1))
def test_pull_is_scatter_add(size: int, length: int, cases: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    if kind == "distinct":
        source = np.array([rng.permutation(np.append(np.arange(size), -1))[:length] for _ in range(cases)], dtype=np.intp)
    elif kind == "even":
        source = np.array([rng.permutation(np.repeat(np.arange(size), 2)) for _ in range(cases)], dtype=np.intp)
    else:
        source = rng.integers(-1, size, (cases, length)) if size else np.full((cases, length), -1)
    a = rng.integers(-99, 99, (cases if cases > 1 else 3, source.shape[1])).astype(np.float64)
    index_map = IndexMap(source, size)
    assert np.array_equal(index_map.pull(a), simple_pull(source, size, a))
    counts = [np.bincount(row[row >= 0], minlength=1).max() for row in source]
    assert index_map.terms == max(1, *counts)


@pytest.mark.parametrize(
    ("source", "terms"), [(np.arange(5)[None], 1), (np.array([[1, 0]]), 1), (np.array([[-1, -1]]), 1), (np.array([[0, 0, 1, 0]]), 3)]
)
def test_terms_is_the_largest_multiplicity(source: Indices, terms: int) -> None:
    assert IndexMap(source, 5).terms == terms


def test_no_rows_are_no_trouble() -> None:
    for source in (np.arange(4)[None], np.array([[3, 1, 0, 2]]), np.array([[0, 0, 1, 1]]), np.array([[0, -1, 0, 1]])):
        assert IndexMap(source, 4).pull(np.zeros((0, 4))).shape == (0, 4)


def test_gather_by_case() -> None:
    """Each case follows its own indices, and a table shared by all cases is still one operand."""
    rule = lookup("", "Gather", 13)
    assert rule is not None
    table, indices = np.arange(12.0).reshape(1, 4, 3), np.array([[0.0, 3.0], [1.0, 1.0]])
    X = (Enclosure.point(table), Enclosure.point(indices))
    linear = rule.linearize(X, (np.ones(table.shape), None))
    assert np.array_equal(rule.value(table, indices), np.stack([table[0][[0, 3]], table[0][[1, 1]]]))
    pulled = linear.pull(np.ones((2, 2, 3)))
    assert pulled[1] is None
    assert np.array_equal(pulled[0][:, :, 0], [[1.0, 0.0, 0.0, 1.0], [0.0, 2.0, 0.0, 0.0]])
    assert linear.terms == 2


@pytest.mark.parametrize(("fill", "free"), [(0.1, False), (1.5, True), (0.0, True)])
def test_what_padding_fills_in_is_stored_too(fill: float, free: bool) -> None:
    """Pad's attribute is a number of the model's format; in bf16 the runtime fills in the nearest number of that."""
    pad = helper.make_node("Pad", ["x"], ["y"], pads=[0, 0, 0, 1], value=fill)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])]
    model = helper.make_model(helper.make_graph([pad], "pad", inputs, outputs), opset_imports=[helper.make_opsetid("", 10)])
    held = float(np.float32(fill).astype(ml_dtypes.bfloat16))
    for engine in ("adjoint", "running"):
        found = certify.certify(model, dtype="bf16", data={"x": np.ones((1, 1), np.float32)}, engine=engine, validate=False).outputs["y"]
        assert found.absolute_bound[0, 0, 0] == 0.0
        assert found.absolute_bound[0, 0, 1] >= abs(held - float(np.float32(fill)))
        assert (found.absolute_bound[0, 0, 1] == 0.0) == free
