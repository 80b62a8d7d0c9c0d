"""The parts of ai.onnx.preview::FlexAttention (graph/passes/flex_attention), with what kernels ops/scaled_dot covers.

Source: https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html. What a query gets none of whose keys are allowed is
not defined there, and unbounded here.
"""

from __future__ import annotations

from typing import Any

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.masked_softmax import MaskedSoftmax
from certify.semantics.families.writer import Writer
from certify.semantics.ops.scaled_dot import Heads, heads_of, product_of, weighted


def _named(e: Expansion) -> list[str]:
    return [name for name in e.operands if name is not None]


def flex_scores(e: Expansion, *, scale: float | None = None) -> Any:
    """alpha Q K^T, each key head against its group of query heads."""
    s = Writer(e)
    q, k = _named(e)
    h = heads_of(e.shapes[0], e.shapes[1], e.shapes[1])
    product = product_of(s, q, k, h, None, alpha=scale, root=h.size, prescaled=True)
    s.step("Held", product, inner=True, domain="certify", output=e.outputs[0])
    return s.parts


def _heads(scores: tuple[int, ...], v: tuple[int, ...]) -> Heads:
    if v[1] == 0 or scores[1] % v[1] or scores[3] != v[2] or scores[0] != v[0]:
        raise UnsupportedOperator(f"probabilities of shape {list(scores)} and V of shape {list(v)} do not fit")
    return Heads(scores[0], scores[1], v[1], scores[2], scores[3], 1, v[3])


def flex_weights(e: Expansion) -> Any:
    s = Writer(e)
    s.step("GivenSoftmax", _named(e)[0], domain="certify", output=e.outputs[0])
    return s.parts


def flex_weighted(e: Expansion) -> Any:
    """Weights, stored in V's format or not, times V."""
    s = Writer(e)
    weights, v = _named(e)
    weighted(s, s.step("Store", weights, domain="certify"), v, _heads(e.shapes[0], e.shapes[1]), e.outputs[0])
    return s.parts


def flex_output(e: Expansion) -> Any:
    s = Writer(e)
    scores, v = _named(e)
    weighted(s, s.step("GivenSoftmax", scores, domain="certify"), v, _heads(e.shapes[0], e.shapes[1]), e.outputs[0])
    return s.parts


register(
    MaskedSoftmax("GivenSoftmax", empty=False),
    Composite("FlexScores", 1, ("Q", "K"), flex_scores, domain="certify"),
    Composite("FlexWeights", 1, ("scores",), flex_weights, domain="certify"),
    Composite("FlexWeighted", 1, ("weights", "V"), flex_weighted, domain="certify"),
    Composite("FlexOutput", 1, ("scores", "V"), flex_output, domain="certify"),
)
