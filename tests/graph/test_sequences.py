"""Sequences are followed while loading: what is left computes the same on tensors alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import certify
from certify.graph.load import load
from certify.graph.model import InvalidModel, Unsupported
from tests.graph.build import parsed
from tests.graph.test_bodies import same

X = np.arange(12, dtype=np.float32).reshape(4, 3)
ONE, MINUS_ONE = np.asarray(1), np.asarray(-1)


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        ("s = SplitToSequence(x) a = SequenceAt(s, one) y = Neg(a)", {}),
        ("s = SplitToSequence<keepdims = 0>(x) a = SequenceAt(s, minus) y = Neg(a)", {}),
        ("s = SplitToSequence<axis = 1>(x, size) y = SequenceAt(s, one)", {"size": np.asarray(2)}),
        ("s = SplitToSequence(x, size) y = SequenceAt(s, minus)", {"size": [1, 3]}),
        ("n = Neg(x) s = SequenceConstruct(x, n) y = ConcatFromSequence<axis = 1>(s)", {}),
        ("n = Neg(x) s = SequenceConstruct(x, n) y = ConcatFromSequence<axis = -1, new_axis = 1>(s)", {}),
        ("n = Neg(x) e = SequenceEmpty() s = SequenceInsert(e, x) t = SequenceInsert(s, n, zero) y = ConcatFromSequence<axis = 0>(t)", {}),
        ("n = Neg(x) s = SequenceConstruct(x, n) t = SequenceErase(s, zero) u = Identity(t) y = ConcatFromSequence<axis = 0>(u)", {}),
        ("s = SplitToSequence(x) l = SequenceLength(s) f = Cast<to = 1>(l) y = Mul(x, f)", {}),
    ],
)
def test_sequences_are_followed(text: str, constants: dict[str, Any]) -> None:
    known = {"one": ONE, "minus": MINUS_ONE, "zero": np.asarray(0), **constants}
    used = {name: value for name, value in known.items() if name in text}
    graph = same(parsed(f"g (float[4, 3] x) => (float y) {{ {text} }}", **used), x=X)
    assert not any("Sequence" in node.op_type for node in graph.nodes)


def test_a_sequence_that_a_loop_fills() -> None:
    text = """g (float[4, 3] x) => (float[N, M] y) {
        e = SequenceEmpty()
        s = Loop (n, , e) <body = b (int64 i, bool go, seq(float[4, 3]) p) => (bool on, seq(float[4, 3]) q) {
            f = Cast<to = 1>(i) t = Mul(x, f) q = SequenceInsert(p, t) on = Identity(go)
        }>
        y = ConcatFromSequence<axis = 0>(s)
    }"""
    graph = load(parsed(text, n=3))
    assert graph.values["y"].shape == (12, 3)
    assert [node.op_type for node in graph.nodes] == ["Mul", "Mul", "Mul", "Concat"]


def test_sequences_that_are_refused() -> None:
    with pytest.raises(InvalidModel, match="position 1 lies outside of a sequence of 1 tensors"):
        load(parsed("g (float[4, 3] x) => (float y) { s = SequenceConstruct(x) y = SequenceAt(s, one) }", one=ONE))
    with pytest.raises(Unsupported, match="data decides"):
        load(parsed("g (float[4, 3] x, int64 i) => (float y) { s = SplitToSequence(x) y = SequenceAt(s, i) }"))
    with pytest.raises(InvalidModel, match="do not split an axis of 4"):
        load(parsed("g (float[4, 3] x) => (float y) { s = SplitToSequence(x, k) y = SequenceAt(s, one) }", k=[1, 2], one=ONE))


def test_a_sequence_as_output_is_its_tensors() -> None:
    graph = load(parsed("g (float[4, 3] x) => (seq(float[4, 3]) s) { n = Neg(x) s = SequenceConstruct(x, n) }"))
    assert graph.outputs == ("s[0]", "s[1]")


MAP = """g (seq(float[n]) a, float[1] b) => (seq(float[n]) s) {
    s = SequenceMap (a, b) <body = body (float[n] p, float[1] q) => (float[n] r) { r = Add(p, q) }>
}"""


def test_a_sequence_as_input_is_its_tensors() -> None:
    items = [np.float32([1, 2]), np.float32([3])]
    found = certify.certify(parsed(MAP), data={"a": items, "b": np.float32([0.1])})
    assert [found.outputs[name].reference.shape for name in ("s[0]", "s[1]")] == [(1, 2), (1, 1)]
    assert 0 < found.outputs["s[1]"].absolute_bound.max() < 1e-6
    with pytest.raises(certify.Unsupported, match=r"'a' is a sequence; give its tensors with --data, called 'a\[0\]'"):
        certify.certify(parsed(MAP))
    with pytest.raises(certify.InvalidData, match=r"'b' is missing; the model's inputs are 'a\[0\]'"):
        certify.certify(parsed(MAP), data={"a": items})


OPTIONAL = """g (optional(float[2]) a, float[2] b) => (float[2] y, bool has) {
    has = OptionalHasElement(a)
    y = If (has) <
        then_branch = t () => (float[2] p) { e = OptionalGetElement(a) p = Add(e, b) },
        else_branch = e () => (float[2] p) { p = Neg(b) }
    >
}"""


def test_an_optional_input_is_there_if_data_feed_it() -> None:
    b = np.float32([1, 2])
    assert certify.certify(parsed(OPTIONAL), data={"a": None, "b": b}).outputs["y"].reference.tolist() == [[-1, -2]]
    assert certify.certify(parsed(OPTIONAL), data={"a": b, "b": b}).outputs["y"].reference.tolist() == [[2, 4]]
    with pytest.raises(certify.Unsupported, match="'a' is optional: only --data"):
        certify.certify(parsed(OPTIONAL))
