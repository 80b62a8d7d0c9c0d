"""Boxes of VNN-LIB files in the numbers of a model's inputs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import certify
from certify.boxes import flat_outputs, inward
from certify.data import Inputs, inputs_for
from certify.errors import InvalidData
from certify.graph.model import ModelGraph, Node, Value
from certify.number.formats import FORMATS
from certify.request import Request
from certify.validate.attack import drawn_from
from certify.validate.domain import Domain
from tests.test_data import BFLOAT16, DOUBLE, FLOAT, FLOAT16, INT64, UINT8, embedding, graph

MODEL = Path(__file__).resolve().parents[1] / "models" / "residual_softmax.onnx"


def bounds(*pairs: tuple[str, str]) -> str:
    return "".join(f"(declare-const X_{i} Real)\n(assert (<= {lo} X_{i} {hi}))\n" for i, (lo, hi) in enumerate(pairs))


def stated(folder: Path, model: ModelGraph, text: str) -> Inputs:
    (folder / "p.vnnlib").write_text(text)
    return inputs_for(model, Request(Path("m.onnx"), vnnlib=folder / "p.vnnlib"))


@pytest.mark.parametrize("kind", [FLOAT, FLOAT16, BFLOAT16, DOUBLE])
@given(x=st.floats(-1e3, 1e3), width=st.floats(0, 1))
def test_inward_ends_are_the_outermost_numbers_inside(kind: int, x: float, width: float) -> None:
    lo, hi = (float(e) for e in inward(kind, np.array(x), np.array(x + width)))
    assert x <= lo
    assert hi <= x + width
    below, above = (
        (float(e) for e in inward(kind, np.array(-np.inf), np.array(np.nextafter(lo, -np.inf)))),
        inward(kind, np.array(hi), np.array(hi)),
    )
    assert list(below)[1] < x  # the number before the least lies outside
    assert above[0] == hi  # and an end is a number of the format


def test_elements_in_order_over_all_inputs(tmp_path: Path) -> None:
    model = graph(("a", FLOAT, (1, 2, 2)), ("b", INT64, (1,)), ("c", FLOAT16, (1, 1)))
    found = stated(tmp_path, model, bounds(*((str(i), f"{i}.5") for i in range(6))))
    assert found.box is not None
    assert found.box["a"].shape == (1, 1, 2, 2)
    assert found.box["a"].lo.ravel().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found.box["a"].hi.ravel().tolist() == [0.5, 1.5, 2.5, 3.5]
    assert (found.box["b"].lo.item(), found.box["b"].hi.item()) == (4.0, 4.0)
    assert (found.box["c"].lo.item(), found.box["c"].hi.item()) == (5.0, 5.5)
    assert (found.facts.kind, found.facts.source, found.facts.cases, found.facts.widened) == ("region", "vnnlib", 1, 0)
    assert found.facts.boxes == {"a": (0.0, 3.5), "b": (4.0, 4.0), "c": (5.0, 5.5)}


def test_several_boxes_lie_in_their_hull_and_have_a_digest(tmp_path: Path) -> None:
    text = "(declare-const X_0 Real)(assert (or (<= 0 X_0 1) (<= 3 X_0 {})))"
    model = graph(("x", FLOAT, (1,)))
    found, other = (stated(tmp_path, model, text.format(end)) for end in ("4", "5"))
    assert [(box["x"].lo.item(), box["x"].hi.item()) for box in found.boxes] == [(0.0, 1.0), (3.0, 4.0)]
    assert found.box is not None
    assert (found.box["x"].lo.item(), found.box["x"].hi.item()) == (0.0, 4.0)
    assert found.said is not None
    assert len(found.said.cases) == 2
    assert found.facts.sha256 != other.facts.sha256


def test_a_decimal_that_no_number_is_stands_for_its_neighbours(tmp_path: Path) -> None:
    found = stated(tmp_path, graph(("x", FLOAT, (1, 2))), bounds(("0.1", "0.1"), ("0.1", "0.2")))
    assert found.facts.widened == 1
    assert found.box is not None
    lo, hi = found.box["x"].lo[0, 0], found.box["x"].hi[0, 0]
    assert Fraction(lo[0]) < Fraction(1, 10) < Fraction(hi[0])
    assert np.nextafter(np.float32(lo[0]), np.float32(1)) == np.float32(hi[0])
    assert lo[1] == hi[0]  # the least number of a box that holds some


@pytest.mark.parametrize(
    ("model", "pairs", "fault"),
    [
        (graph(("x", FLOAT, (1, 3))), [("0", "1")] * 2, "declares 2 inputs X_i, but the model's 'x' [1, 3] hold 3 elements"),
        (graph(("x", FLOAT16, (1,))), [("7e4", "8e4")], "no float16 number, the type of input 'x', obeys the bounds of X_0"),
        (graph(("a", FLOAT, (1,)), ("x", UINT8, (2,))), [("0", "1"), ("0", "1"), ("0.2", "0.8")], "obeys the bounds of X_2"),
        (graph(("x", INT64, (1,))), [("0", "1e17")], "2^53"),
        (embedding(10), [("0", "10")] * 4, "outside the table of 10 rows"),
    ],
)
def test_what_does_not_fit_the_model(tmp_path: Path, model: ModelGraph, pairs: list[tuple[str, str]], fault: str) -> None:
    with pytest.raises(InvalidData, match=r"p\.vnnlib") as refusal:
        stated(tmp_path, model, bounds(*pairs))
    assert fault in str(refusal.value)


def test_outputs_are_counted_and_flat(tmp_path: Path) -> None:
    values = {"x": Value("x", (1,), FLOAT), "y": Value("y", (1, 2), FLOAT)}
    model = ModelGraph((Node("n", "Expand", "", 17, ("x",), ("y",)),), values, ("x",), ("y", "x"))
    text = bounds(("0", "1")) + "".join(f"(declare-const Y_{i} Real)" for i in range(2))
    with pytest.raises(InvalidData, match=r"declares 2 outputs Y_i, but the model's 'y' \[1, 2\], 'x' \[1\] hold 3 elements"):
        stated(tmp_path, model, text)
    stated(tmp_path, model, text + "(declare-const Y_2 Real)")
    assert flat_outputs(model, {"x": np.array([[3.0]]), "y": np.array([[[1.0, 2.0]]])}).tolist() == [[1.0, 2.0, 3.0]]


def test_a_file_is_certified_as_a_region(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    outputs = "(declare-const Y_0 Real)(declare-const Y_1 Real)(assert (<= Y_0 Y_1))"
    path.write_text(bounds(("0.05", "0.0500001"), ("0", "0"), ("0", "0")) + outputs)
    found = certify.certify(MODEL, dtype="fp32", vnnlib=path)
    assert (found.claim.inputs.kind, found.claim.inputs.source) == ("region", "vnnlib")
    assert np.isfinite(found.outputs["p"].absolute_bound).all()


def test_draws_lie_in_the_boxes(tmp_path: Path) -> None:
    model = graph(("x", BFLOAT16, (1, 3)), ("n", INT64, (1,)))
    text = "".join(f"(declare-const X_{i} Real)" for i in range(4))
    branch = "(and (<= 0.1 X_0 0.3) (<= {0} X_1 {0}) (<= -1 X_2 1) (<= {0} X_3 2))"
    found = stated(tmp_path, model, f"{text}(assert (or {branch.format(0.5)} {branch.format(2)}))")
    formats = {"x": FORMATS["bf16"], "n": None}
    domains = [Domain.of(box, formats, formats) for box in found.boxes]
    points = domains[0].inputs(drawn_from(domains, 6, 0))
    assert [x.shape for x in points.values()] == [(6, 1, 3), (6, 1)]
    for k in range(6):
        assert any(all(np.all((box[name].lo <= x[k]) & (x[k] <= box[name].hi)) for name, x in points.items()) for box in found.boxes)
    assert set(points["x"][:, 0, 1]) == {0.5, 2.0}
