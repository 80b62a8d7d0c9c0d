"""Inputs: every way to give them, every way to get them wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.data import DEFAULT_RANGE, Inputs, digest, inputs_for, read, table_size
from certify.errors import InvalidData, UsageError
from certify.graph.model import ModelGraph, Node, Value
from certify.number.formats import from_onnx
from certify.number.rounding import round_to
from certify.request import Request

FLOAT, INT64, FLOAT16, BFLOAT16, BOOL, UINT8, DOUBLE = 1, 7, 10, 16, 9, 2, 11
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def graph(*inputs: tuple[str, int, tuple[int, ...]], nodes: tuple[Node, ...] = (), **constants: Any) -> ModelGraph:
    values = {name: Value(name, shape, kind) for name, kind, shape in inputs}
    values |= {name: Value(name, x.shape, FLOAT, x) for name, x in constants.items()}
    return ModelGraph(nodes, values, tuple(name for name, _, _ in inputs), ())


ONE = graph(("x", FLOAT, (1, 3)))


def given_data(model: ModelGraph, data: Any) -> Inputs:
    return inputs_for(model, Request(Path("m.onnx"), data=data))


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def embedding(rows: int) -> ModelGraph:
    cast = Node("cast", "Cast", "", 17, ("ids",), ("wide",))
    gather = Node("gather", "Gather", "", 17, ("table", "wide"), ("y",))
    return graph(("ids", INT64, (1, 4)), nodes=(cast, gather), table=np.zeros((rows, 2), np.float32))


# What is accepted


def test_rows_of_a_batch_are_cases(tmp_path: Path) -> None:
    found = given_data(ONE, saved(tmp_path, x=ROWS))
    assert found.points["x"].shape == (4, 1, 3)
    assert found.points["x"].dtype == np.float64
    assert np.array_equal(found.points["x"][:, 0], ROWS)
    assert (found.facts.kind, found.facts.cases, found.facts.source, found.box) == ("points", 4, "data", None)
    assert found.facts.sha256 == digest(found.points)


@pytest.mark.parametrize(
    ("shape", "given_shape", "cases"),
    [
        ((1, 3), (1, 3), 1),
        ((1, 3), (5, 1, 3), 5),
        ((4, 3), (4, 3), 1),
        ((4, 3), (2, 4, 3), 2),
        ((), (), 1),
        ((), (6,), 6),
        ((1,), (7,), 7),
    ],
)
def test_an_extra_leading_axis_is_cases_too(shape: tuple[int, ...], given_shape: tuple[int, ...], cases: int) -> None:
    found = given_data(graph(("x", FLOAT, shape)), {"x": np.zeros(given_shape, np.float32)})
    assert found.points["x"].shape == (cases, *shape)


def test_one_case_of_an_input_serves_all(tmp_path: Path) -> None:
    model = graph(("x", FLOAT, (1, 3)), ("scale", FLOAT, ()))
    found = given_data(model, {"x": ROWS, "scale": np.float32(2.0)})
    assert (found.points["scale"].shape, found.facts.cases) == ((1,), 4)


def test_a_folder_of_tensors(tmp_path: Path) -> None:
    model = graph(("x", FLOAT, (1, 3)), ("y", FLOAT, (1, 3)))
    named = onnx.numpy_helper.from_array(ROWS, "y")
    nameless = onnx.numpy_helper.from_array(ROWS + 1)
    (tmp_path / "input_0.pb").write_bytes(nameless.SerializeToString())
    (tmp_path / "input_1.pb").write_bytes(named.SerializeToString())
    points = given_data(model, tmp_path).points
    assert np.array_equal(points["x"][:, 0], ROWS + 1)
    assert np.array_equal(points["y"][:, 0], ROWS)


def test_formats_that_numpy_has_not() -> None:
    model = graph(("x", BFLOAT16, (1, 3)))
    numbers = np.array([[1.0, 0.5, -3.0]])
    narrow = numbers.astype(ml_dtypes.bfloat16)
    for x in (narrow, narrow.view("V2"), numbers, numbers.astype(np.float32)):
        assert np.array_equal(given_data(model, {"x": x}).points["x"], numbers[np.newaxis])
    with pytest.raises(InvalidData, match="not bfloat16 numbers"):
        given_data(model, {"x": np.full((1, 3), 0.1)})


def test_the_digest_depends_on_values_names_and_shapes_alone() -> None:
    x = np.arange(6.0).reshape(1, 2, 3)
    assert digest({"x": x, "y": x}) == digest({"y": x.copy(order="F"), "x": x})
    assert len({digest({"x": x}), digest({"y": x}), digest({"x": x.reshape(2, 1, 3)}), digest({"x": x + 1})}) == 4


# What is refused


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"z": ROWS}, "'z' is no input of the model; its inputs are 'x' float[1, 3]"),
        ({}, "'x' is missing"),
        ({"x": ROWS, "b": ROWS, "a": ROWS}, "'b', 'a' are no input"),
        ({"x": ROWS.T}, "has shape [3, 4], expected [1, 3] or [rows, 3] or [cases, 1, 3]"),
        ({"x": np.zeros((2, 2, 3), np.float32)}, "has shape [2, 2, 3]"),
        ({"x": np.zeros((0, 3), np.float32)}, "has no rows"),
        ({"x": np.float32(1)}, "has shape []"),
        ({"x": ROWS.astype(np.float64)}, "has element type float64, expected float"),
        ({"x": ROWS.astype(np.int64)}, "has element type int64"),
        ({"x": ROWS.astype(np.complex64)}, "has element type complex64"),
        ({"x": ROWS.astype("U4")}, "has element type <U4"),
        ({"x": np.where(ROWS == 7, np.nan, ROWS)}, "holds nan in case 2 at index [0, 1]"),
        ({"x": np.where(ROWS == 7, -np.inf, ROWS)}, "holds -inf in case 2 at index [0, 1]"),
    ],
)
def test_bad_arrays_are_refused_naming_file_and_input(arrays: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = saved(tmp_path, **arrays)
    with pytest.raises(InvalidData) as refusal:
        given_data(ONE, path)
    assert str(refusal.value).startswith(f"--data {path}: ")
    assert fault in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_inputs_that_disagree_on_cases() -> None:
    model = graph(("x", FLOAT, (1, 3)), ("y", FLOAT, (1, 3)))
    with pytest.raises(InvalidData, match="disagree on the number of cases: 'x' 4, 'y' 2"):
        given_data(model, {"x": ROWS, "y": ROWS[:2]})


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("absent.npz", None, "no such file"),
        ("text.npz", b"hello", "not a readable .npz"),
        ("empty.npz", b"", "not a readable .npz"),
        ("cut.npz", b"PK\x03\x04 and then nothing", "not a readable .npz"),
    ],
)
def test_bad_files_are_refused_by_name(name: str, content: bytes | None, fault: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidData, match=name) as refusal:
        read(tmp_path / name)
    assert fault in str(refusal.value)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="array 'x' can't be read"):
        read(saved(tmp_path, x=np.array([{}], dtype=object)))


def test_a_damaged_array_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, x=np.zeros((100, 3), np.float32))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InvalidData, match="array 'x' can't be read"):
        read(path)


def test_a_nameless_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    with pytest.raises(InvalidData, match="one array without a name"):
        read(tmp_path / "x.npy")


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"no input_\*\.pb"):
        read(tmp_path)
    (tmp_path / "input_0.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(InvalidData, match="input_0.pb: not an ONNX tensor"):
        read(tmp_path)
    for i in range(2):
        (tmp_path / f"input_{i}.pb").write_bytes(onnx.numpy_helper.from_array(ROWS, "x").SerializeToString())
    with pytest.raises(InvalidData, match="second tensor for input 'x'"):
        read(tmp_path)


def test_integers_beyond_float64_are_refused() -> None:
    model = graph(("n", INT64, (1,)))
    assert given_data(model, {"n": np.array([2**53])}).points["n"][0, 0] == 2.0**53
    with pytest.raises(InvalidData, match="beyond 2\\^53"):
        given_data(model, {"n": np.array([2**53 + 1])})
    with pytest.raises(InvalidData, match="beyond 2\\^53"):
        given_data(model, {"n": np.array([2**63 - 1])})
    assert given_data(model, {"n": np.array([2**53 + 2])}).points["n"][0, 0] == 2.0**53 + 2


def test_indices_outside_their_table_are_refused() -> None:
    assert given_data(embedding(5), {"ids": np.array([[0, 4, -5, -1]])}).facts.cases == 1
    with pytest.raises(InvalidData, match="holds 5 in case 0 at index .0, 3., outside the table of 5 rows"):
        given_data(embedding(5), {"ids": np.array([[0, 4, -5, 5]])})


# What is drawn


def drawn(model: ModelGraph, **options: Any) -> Inputs:
    return inputs_for(model, Request(Path("m.onnx"), **options))


def test_samples_of_the_default_domain_say_so() -> None:
    found = drawn(ONE)
    assert found.points["x"].shape == (8, 1, 3)
    assert np.all(np.abs(found.points["x"]) <= 1.0)
    assert (found.facts.source, found.facts.boxes, found.facts.seed) == ("default", {"x": DEFAULT_RANGE}, 0)


def test_samples_are_seeded_and_numbers_of_the_format() -> None:
    model = graph(("x", FLOAT16, (1, 50)))
    first, again, other = (drawn(model, seed=seed, ranges={"": (0.0, 5.0)}).points["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first.astype(np.float16), first)
    assert drawn(model, ranges={"": (0.0, 5.0)}).facts.source == "sampled"


def test_integers_come_from_the_table_that_they_index() -> None:
    assert table_size(embedding(5), "ids") == 5
    found = drawn(embedding(5), samples=100)
    assert set(np.unique(found.points["ids"])) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert found.facts.boxes == {"ids": (0.0, 4.0)}
    assert drawn(embedding(5), ranges={"": (1.0, 2.0)}).facts.boxes == {"ids": (1.0, 2.0)}
    with pytest.raises(UsageError, match="--range ids=0:9: outside the table of 5 rows"):
        drawn(embedding(5), ranges={"ids": (0.0, 9.0)})


@pytest.mark.parametrize(
    ("kind", "interval", "values"), [(INT64, (0.0, 1.0), {0.0, 1.0}), (BOOL, (-1.0, 1.0), {0.0, 1.0}), (UINT8, (-1.0, 1.4), {0.0, 1.0})]
)
def test_integers_are_integers(kind: int, interval: tuple[float, float], values: set[float]) -> None:
    found = drawn(graph(("mask", kind, (1, 64))), ranges={"mask": interval})
    assert set(np.unique(found.points["mask"])) == values


@given(st.sampled_from([FLOAT, FLOAT16, BFLOAT16, DOUBLE]), st.floats(-1e5, 1e5), st.floats(0, 10), st.integers(0, 9))
def test_draws_stay_in_the_range_and_in_the_format(kind: int, lo: float, width: float, seed: int) -> None:
    storage = from_onnx(kind)
    assert storage is not None
    try:
        found = drawn(graph(("x", kind, (1, 20))), ranges={"x": (lo, lo + width)}, seed=seed)
    except UsageError:  # no number of the format lies in it, so not the nearest one either
        assert not lo <= float(round_to(lo, storage)) <= lo + width
        return
    x = found.points["x"]
    assert np.all((lo <= x) & (x <= lo + width))
    assert np.array_equal(round_to(x, storage), x)
    (least, greatest) = found.facts.boxes["x"]
    assert round_to(least, storage) == least >= lo
    assert round_to(greatest, storage) == greatest <= lo + width


def test_huge_ranges_do_not_overflow() -> None:
    assert np.isfinite(drawn(graph(("x", DOUBLE, (1, 9))), ranges={"x": (-1.7e308, 1.7e308)}).points["x"]).all()
    assert drawn(graph(("x", FLOAT16, (1, 9))), ranges={"x": (-1e9, 1e9)}).facts.boxes["x"] == (-65504.0, 65504.0)


@pytest.mark.parametrize(
    ("ranges", "kind", "fault"),
    [
        ({"z": (0.0, 1.0)}, FLOAT, "'z' is no input"),
        ({"x": (0.2, 0.8)}, INT64, "no int64 number lies in it"),
        ({"x": (1e39, 2e39)}, FLOAT, "no float number lies in it"),
        ({"x": (1.00000001, 1.00000002)}, FLOAT, "no float number lies in it"),
    ],
)
def test_ranges_without_a_number(ranges: dict[str, Any], kind: int, fault: str) -> None:
    with pytest.raises(UsageError, match="--range") as refusal:
        drawn(graph(("x", kind, (1, 3))), ranges=ranges)
    assert fault in str(refusal.value)


def test_a_region_is_the_box_of_the_numbers_in_the_range() -> None:
    found = drawn(ONE, region=True, ranges={"": (-0.1, 0.5)})
    assert found.points == {}
    assert found.box is not None
    assert found.box["x"].shape == (1, 1, 3)
    assert np.all(found.box["x"].lo == np.nextafter(np.float32(-0.1), np.float32(0)).astype(np.float64))
    assert np.all(found.box["x"].hi == 0.5)
    assert (found.facts.kind, found.facts.source, found.facts.sha256, found.facts.seed) == ("region", "range", None, None)
    assert drawn(ONE, region=True).facts.source == "default"
