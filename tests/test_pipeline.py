"""From a request to a certificate: what a budget makes of splitting a region."""

from __future__ import annotations

import functools

import onnx

from certify import pipeline
from certify.certificate.contract import Certificate
from certify.request import Request, parse_budget

WAVE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1] x) => (float[1] y) { a = Mul(x, x) s = Sin(a) y = Mul(s, x) }"""


@functools.cache
def of(*budgets: str, validate: bool = True) -> Certificate:
    """Over [0, 16], where splitting pays."""
    model = onnx.parser.parse_model(WAVE)
    return pipeline.run(
        Request(
            model,
            dtype="fp16",
            region=True,
            ranges={"": (0.0, 16.0)},
            boxes=400,
            jobs=1,
            samples=8,
            validate=validate,
            budgets=tuple(map(parse_budget, budgets)),
        )
    )


def split(certificate: Certificate) -> int:
    assert certificate.region is not None
    return certificate.region.boxes


def bound(certificate: Certificate) -> float:
    return float(certificate.outputs["y"].absolute_bound.max())


def seen(certificate: Certificate) -> float:
    found = certificate.outputs["y"].observed_max
    assert found is not None
    return found


def test_without_a_budget_everything_is_worth_splitting() -> None:
    assert split(of()) >= 400
    assert 0.0 < seen(of()) < bound(of())
    assert bound(of()) < 0.9 * bound(of("1e9"))


def test_a_budget_that_is_met_ends_the_splitting() -> None:
    middle = 0.5 * (bound(of()) + bound(of("1e9")))
    met = of(f"{middle!r}")
    assert met.gate is not None
    assert met.gate.verdict == "certified"
    assert split(of("1e9")) == 1
    assert split(met) < 400
    assert bound(met) <= middle


def test_a_budget_that_a_run_breaks_ends_the_splitting() -> None:
    low = 0.5 * seen(of())
    broken = of(f"{low!r}")
    assert broken.gate is not None
    assert broken.gate.verdict == "exceeded"
    assert "and a run errs by" in broken.gate.reasons[0]
    assert split(broken) == 1
    assert split(of(f"{low!r}", validate=False)) >= 400, "unless nothing was run"


def test_the_other_budgets_are_decided_all_the_same() -> None:
    low, middle = 0.5 * seen(of()), 0.5 * (bound(of()) + bound(of("1e9")))
    both = of(f"{low!r}", f"{middle!r}")
    assert both.gate is not None
    assert [result.verdict for result in both.gate.budgets] == ["exceeded", "within"]
    assert 1 < split(both) < 400
