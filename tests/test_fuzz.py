"""Random claims about random graphs (random_graphs, random_claims): no bound is broken, nothing crashes, nothing claimed is NaN.

benchmarks/fuzz.py runs thousands. The named seeds are those that once found a defect; what was wrong has a test of its own.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, helper

from certify.number.formats import Format
from certify.validate import attack as search
from tests.random_claims import Claim, Outcome, attack, outcome
from tests.random_graphs import LAYERED, TABLED
from tests.validate.graphs import model

FOUND = {
    1162: "the shifted variance of InstanceNormalization took the name of the shifted result",
    1424: "a sum of one term in an accumulator narrower than storage",
    184: "a bounded function of a number that has no square root",
    2198: "Tanh of a logarithm of a negative number",
    1288: "scalars fed to onnxruntime as vectors",
    3761: "a pole met by mpmath",
    3819: "a kernel that reaches beyond its padded operand",
    11266: "Gelu in fp64, which onnxruntime expands with constants of fp32",
    12308: "an infinite radius around an infinite value",
    20666: "a multiplier of zero and an infinite slope",
    20844: "beta = 0 times a constant that storage swamps",
}


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_stays_mended(seed: int) -> None:
    claim, found = attack(seed)
    assert not found.is_defect, (claim, found)


def test_nothing_refutes_random_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WORK", 0.3)  # benchmarks/fuzz.py searches regions for longer
    kinds: Counter[str] = Counter()
    for seed in (*range(25), *range(LAYERED, LAYERED + 15), *range(TABLED, TABLED + 60)):
        claim, found = attack(seed)
        assert not found.is_defect, (seed, claim, found)
        kinds[found.kind] += 1
    assert kinds["finite"] >= 60


def test_nothing_refutes_random_claims_of_the_sketch() -> None:
    for seed in (*range(100, 110), *range(LAYERED + 100, LAYERED + 120), *range(TABLED + 100, TABLED + 110)):
        claim, found = attack(seed, "sketch")
        assert not found.is_defect, (seed, claim, found)


def test_an_attack_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that says of every operation that it is exact is refuted, by either engine."""
    from certify.profiles.arithmetic import NearestArithmetic

    graph = model([helper.make_node("Mul", ["x", "x"], ["y"])], {"x": [4]}, {"y": [4]}, element=TensorProto.FLOAT)
    points = {"x": np.float32([[1.1, 1.3, 1.7, 1.9]])}
    claims = [Claim("bf16", None, "ieee", "any", engine, region) for engine in ("auto", "running") for region in (False, True)]
    assert [outcome(graph, points, claim).kind for claim in claims] == ["finite"] * 4
    monkeypatch.setattr(NearestArithmetic, "round", lambda self, magnitude, quantum=0.0: np.zeros_like(magnitude))
    assert [outcome(graph, points, claim).kind for claim in claims if not claim.region] == ["violation"] * 2
    assert Outcome("violation").is_defect


def test_an_attack_errs_as_far_as_elementary_functions_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds made for 4 ulps do not survive kernels that are off by 7."""
    from certify.profiles.elementary import Accuracies, Accuracy

    graph = model([helper.make_node("Atan", ["x"], ["y"])], {"x": [4]}, {"y": [4]}, element=TensorProto.FLOAT)
    points = {"x": np.float32([[1.1, 1.3, 1.7, 1.9]])}
    claim = Claim("fp32", None, "ieee", "sequential", "auto", False)
    assert outcome(graph, points, claim).kind == "finite"
    honest, asked = Accuracies.of, []

    def shrunk(self: Accuracies, kernel: str, format: Format) -> Accuracy:
        asked.append(kernel)
        return Accuracy(4.0, 0.0) if len(asked) == 1 else honest(self, kernel, format)

    monkeypatch.setattr(Accuracies, "of", shrunk)
    found = outcome(graph, points, claim)
    assert found.kind == "violation"
    assert "hostile" in found.text
