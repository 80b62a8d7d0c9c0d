"""Large constants are read when they are used: the same certificates, in memory that does not grow with the model."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto

import certify
from certify import memory
from certify.analysis import constants
from certify.analysis.bind import bind
from certify.analysis.reference import at_points, stored_inputs
from certify.certificate.build import document
from certify.engines import adjoint, running
from certify.engines.sketch import solve as sketch
from certify.errors import InvalidModel
from certify.graph.load import load
from certify.number.formats import format_named
from certify.number.streamed import LARGE, Shelf, Streamed, slabs
from certify.profiles import profile_named
from tests.scale.models import WIDTH, deep

CLAIMS: list[dict[str, Any]] = [
    {"engine": "running"},
    {"engine": "adjoint", "dtype": "bf16"},
    {"engine": "adjoint", "dtype": "tf32"},
    {"engine": "sketch", "dtype": "fp16"},
]


def certified(path: Path, **claim: Any) -> bytes:
    found = document(certify.certify(path, samples=2, validate=False, **claim))
    return msgspec.json.encode(msgspec.structs.replace(found, timings={}))


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_certificates_are_the_same_as_with_constants_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: dict[str, Any]) -> None:
    path = deep(tmp_path / "m.onnx", 2)
    monkeypatch.setattr(memory, "for_constants", lambda: 0)  # nothing is kept: every use reads again
    streamed = certified(path, **claim)
    monkeypatch.setattr(constants, "LARGE", 1 << 62)
    assert certified(path, **claim) == streamed


@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.FLOAT16])
def test_memory_does_not_grow_with_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elem_type: int) -> None:
    monkeypatch.setattr(memory, "for_constants", lambda: 0)
    peaks = [_peak(deep(tmp_path / f"{layers}.onnx", layers, elem_type=elem_type)) for layers in (2, 10)]
    layer = 8 * WIDTH * WIDTH
    assert peaks[1] - peaks[0] < layer, peaks  # eight layers more, and not one more held


def _peak(path: Path) -> int:
    """Bytes at most, of binding and of every engine's passes."""
    bind(load(path), profile_named("wide", format_named("bf16"), None, "any"))  # imports, and what rules remember
    tracemalloc.start()
    try:
        program = bind(load(path), profile_named("wide", format_named("bf16"), None, "any"))
        point = {"x": np.linspace(-1.0, 1.0, WIDTH).reshape(1, 1, WIDTH)}
        held, radii = stored_inputs(program, point)
        stored, exact = at_points(program, program.stored, held, radii), at_points(program, program.exact, point, {})
        running.solve(exact, False)
        adjoint.solve(stored, work_limit=1e7, output_limit=0.0)
        sketch.nominal_work(stored)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_map_of_a_sweep_holds_a_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "for_constants", lambda: 0)
    program = bind(load(deep(tmp_path / "m.onnx", 3)), profile_named("wide", None, None, "any"))
    problem = at_points(program, program.stored, {"x": np.ones((1, 1, WIDTH))}, {})
    _, sweep = adjoint.solve(problem)
    assert sorted(program.stored.streamed) == ["w0", "w1", "w2"]
    assert sweep.maps
    for constant in program.stored.streamed.values():
        assert constant._made is not None  # it was read,
        assert constant._made() is None  # and nobody has it


def test_both_ends_are_one_array_while_it_is_held() -> None:
    x = np.arange(8.0).reshape(1, 2, 4)
    constant = Streamed(x, x.copy, Shelf())
    assert constant.lo is constant.hi
    assert constant.is_point
    assert (constant.least, constant.largest, constant.shape) == (0.0, 7.0, (1, 2, 4))
    assert np.array_equal(constant.mid, x)
    assert np.array_equal(constant.mag, x)
    assert not constant.rad.any()


def test_the_shelf_lets_go_of_what_was_read_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "for_constants", lambda: 2 * 64)
    shelf = Shelf()
    a, b, c = (Streamed(np.full((1, 8), v), lambda v=v: np.full((1, 8), v), shelf) for v in (1.0, 2.0, 3.0))
    for constant in (a, b, a, c):
        assert constant.lo is constant.lo
    assert [constant._made() is not None for constant in (a, b, c)] == [True, False, True]


def test_infinities_and_small_constants_are_held() -> None:
    found = constants.Constants(Shelf())
    mask = np.zeros((1, LARGE))
    mask[0, 3] = -np.inf
    found.put("mask", mask, mask.copy)
    found.put("small", np.ones((1, 3)), lambda: np.ones((1, 3)))
    found.put("large", np.ones((1, LARGE)), lambda: np.ones((1, LARGE)))
    assert (sorted(found.held), list(found.streamed), len(found)) == (["mask", "small"], ["large"], 3)
    assert found.enclosure("mask").lo is mask


@pytest.mark.parametrize("shape", [(1,), (1, 0), (1, 5), (1, 3, LARGE), (1, 2 * LARGE + 1)])
def test_slabs_make_up_the_whole(shape: tuple[int, ...]) -> None:
    count = np.zeros(shape)
    for part in slabs(count):
        count[part] += 1.0
    assert (count == 1.0).all()


@pytest.mark.parametrize("change", ["written", "replaced", "removed"])
def test_external_data_that_changes_meanwhile_ends_the_run(tmp_path: Path, change: str) -> None:
    path = deep(tmp_path / "m.onnx", 1)
    data = path.with_name("m.onnx.data")
    content = data.read_bytes()

    def meddle(stage: str, fraction: float | None) -> None:
        if stage == "running error" and fraction == 1.0 and data.exists():
            if change != "written":
                data.unlink()
            if change != "removed":
                data.write_bytes(content[::-1])

    certify.certify(path, samples=1, validate=False, engine="running")
    with pytest.raises(InvalidModel, match=r"m\.onnx\.data\) changed while it was analysed"):
        certify.certify(path, samples=1, validate=False, engine="running", progress=meddle)
