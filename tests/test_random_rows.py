"""The generator against the rule table: which operators it draws, and why not the others."""

from __future__ import annotations

import numpy as np

from certify.semantics import ops
from certify.semantics.contract import rules
from tests.random_graphs import LATER, LAYERED, TABLED, attempted, random_graph, sketch_for
from tests.random_rows import ROWS, Row

assert ops is not None  # its rules are registered

BLOCKED = "stands only in graphs that onnxruntime writes: --as-run claims about convolutions reach it"
REFUSED = "always refused"
UNDRAWN = {
    ("ai.onnx.ml", "CastMap"): "of a map, which is no tensor",
    ("ai.onnx.ml", "CategoryMapper"): "of strings",
    ("ai.onnx.ml", "DictVectorizer"): "of a map, which is no tensor",
    ("ai.onnx.ml", "TreeEnsemble"): "the same steps as TreeEnsembleRegressor, which is drawn",
    ("ai.onnx.ml", "ZipMap"): "into a map, which is no tensor",
    ("ai.onnx.preview.training", "Gradient"): REFUSED,
    ("com.microsoft", "QAttention"): REFUSED,
    ("com.microsoft", "QLinearSoftmax"): REFUSED,
    **{("com.microsoft.nchwc", op): BLOCKED for op in ("AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")},
    **{("com.microsoft.nchwc", op): BLOCKED for op in ("ReorderInput", "ReorderOutput", "Upsample")},
}


def drawn(row: Row) -> bool:
    """Whether a few dozen sketches of opsets that have it grow by it."""
    opsets = [opset for opset in LATER if opset >= row.since and (opset < 11 or row.op not in ("Scatter", "Upsample"))]
    for seed in range(60):
        generator = np.random.default_rng(seed)
        sketch, _ = sketch_for(generator, int(generator.choice(opsets)))
        if attempted(sketch, row.move) and any((node.domain, node.op_type) == (row.domain, row.op) for node in sketch.nodes):
            return True
    return False


def test_every_row_draws_its_operator() -> None:
    assert [row.op for row in ROWS if not drawn(row)] == []


def test_what_the_generator_never_draws_is_listed_with_its_reason() -> None:
    found = {(row.domain, row.op) for row in ROWS}
    for seed in (*range(300), *range(LAYERED, LAYERED + 200), *range(TABLED, TABLED + 50)):
        found |= {(node.domain, node.op_type) for node in random_graph(seed)[0].graph.node}
    table = {(rule.domain, rule.name) for rule in rules() if rule.domain != "certify"}
    assert sorted(table - found) == sorted(UNDRAWN)
