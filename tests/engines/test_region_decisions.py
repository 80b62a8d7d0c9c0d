"""Decisions over regions: against every number of a box, simulated executions, and a rule that forgets roundings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import certify
import certify.pipeline
from certify.analysis.bind import bind
from certify.certificate.build import document
from certify.certificate.contract import Certificate
from certify.certificate.schema import encode
from certify.engines.region.boxes import Layout
from certify.engines.region.decided import RegionDecision
from certify.engines.region.deciding import Deciding
from certify.engines.region.many import BoxSweep
from certify.engines.region.search import Asked
from certify.errors import UsageError
from certify.graph.load import load
from certify.number.enclosure import Enclosure
from certify.number.formats import format_named
from certify.profiles import profile_named
from certify.request import Budget, Request
from tests.graph.build import parsed

ARGMAX = Budget("argmax", "argmax")


def crossing(offset: float) -> Any:
    """y_0 = (x + 64) - 64, a multiple of 1/16, and y_1 = offset, in fp16: they cross at x = offset over the reals."""
    graph = "s = Add(x, big) p = Sub(s, big) z = Mul(x, zero) w = Add(z, c) y = Concat<axis = 1>(p, w)"
    constants = {"big": 64.0, "zero": 0.0, "c": offset}
    return parsed(
        f"g (float16[1, 1] x) => (float16[1, 2] y) {{ {graph} }}",
        **{name: np.array([[value]], np.float16) for name, value in constants.items()},
    )


def asked(model: Any, lo: float, hi: float, **options: Any) -> Certificate:
    given: dict[str, Any] = {"boxes": 300, "jobs": 1, "validate": False, "budgets": (ARGMAX,), **options}
    return certify.pipeline.run(Request(model, region=True, ranges={"": (lo, hi)}, **given))


def faults(found: RegionDecision, offset: float, lo: float, hi: float) -> list[float]:
    """Numbers outside the intervals at which an fp16 execution decides otherwise than the reals."""
    assert found.intervals is not None
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = np.unique(x[(x >= lo) & (x <= hi)])
    computed, exact = (x + np.float16(64)) - np.float16(64) >= np.float16(offset), x >= np.float16(offset)
    assert (computed != exact).any()
    covered = np.zeros(x.shape, dtype=bool)
    for interval in found.intervals:
        covered |= (x >= interval.lo) & (x <= interval.hi)
    return [float(v) for v in x[(computed != exact) & ~covered]]


@pytest.mark.parametrize("offset", [1.01, 1.47, 1.92])
def test_every_number_where_rounding_flips_is_isolated(offset: float) -> None:
    found = asked(crossing(offset), 0.5, 2.0).decisions["y"]
    assert not faults(found, offset, 0.5, 2.0)
    assert found.width is not None
    assert found.width <= 0.07
    assert sum(found.count.values()) == found.boxes
    assert found.count["stable"] > 0
    assert not found.constant


def test_constant_decisions_and_the_budget() -> None:
    stable = asked(crossing(-1.0), 0.5, 2.0)
    assert stable.gate is not None
    assert (stable.gate.verdict, stable.gate.exit_code) == ("certified", 0)
    assert stable.decisions["y"].constant
    assert stable.decisions["y"].constant_reals
    assert stable.decisions["y"].intervals == []
    flips = asked(crossing(1.01), 0.5, 2.0)
    assert flips.gate is not None
    assert (flips.gate.verdict, flips.gate.exit_code) == ("exceeded", 1)
    assert "not stable" in flips.gate.reasons[0]
    written = json.loads(encode(document(flips)))["decisions"][0]
    assert written["output"] == "y"
    assert written["width"] > 0.0
    assert written["intervals"][0][1] <= written["intervals"][0][2]
    with pytest.raises(UsageError):
        asked(parsed("g (float[1, 1] x) => (float[1, 1] y) { y = Exp(x) }"), 0.0, 1.0)


def test_forgotten_roundings_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    true = BoxSweep.pairs

    def forgetful(sweep: BoxSweep, *given: Any) -> Any:
        found = true(sweep, *given)
        return found.map(lambda x: 0.0 * x) if sweep.state.rounding else found

    monkeypatch.setattr(BoxSweep, "pairs", forgetful)
    assert any(faults(asked(crossing(offset), 0.5, 2.0, boxes=3000).decisions["y"], offset, 0.5, 2.0) for offset in (1.01, 1.47))


def test_what_no_cut_makes_stable_waits() -> None:
    """Of two boxes of one size, the one whose winner leads by less than executions lose is cut after the other, and is still cut alone."""
    program = bind(load(crossing(1.01)), profile_named("wide", format_named("fp16"), None, "any"))
    layout = Layout.of(program, [{"x": Enclosure(np.array([[[0.5]]]), np.array([[[2.0]]]))}])
    question = Deciding(program, layout, ("y",))
    lo, hi = np.array([[0.5], [1.012]]), np.array([[0.9], [1.02]])
    found = question.ask(Asked(lo, hi, np.zeros(2, dtype=np.intp), question.told))
    assert list(question.winners(found, "y")[:, 0]) == [1.0, 0.0]
    assert list(found.notes[:, 1]) == [1.0, 0.0]
    found.values[:, 1] = 1.0
    found.hi[:] = found.lo + 0.25
    assert question.urgency(found)[0] > question.urgency(found)[1] == 0.0
    assert question.urgency(found.take(np.array([1])))[0] > 0.0


def test_several_inputs_and_processes_agree(root: Path) -> None:
    """Nothing depends on how many processes there are; without a budget there is a short look all the same."""
    options: dict[str, Any] = {"boxes": 64, "budgets": ()}
    one, two = (asked(root / "models" / "digits_mlp.onnx", 0.4, 0.4001, jobs=jobs, **options).decisions for jobs in (1, 2))
    (name,) = one
    assert one[name].count == two[name].count
    assert one[name].intervals is None
