"""Movement keeps its promises on every row; onnx's reference evaluator and onnxruntime say what moves where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.families import index_map
from certify.semantics.families.movement import Movement
from certify.semantics.ops import indexing, movement
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import Exact
from tests.laws.reference import reference

assert (indexing, movement) is not None
RADII = (0.0, 0.125)
X34, X234 = np.arange(12.0).reshape(3, 4) - 5.0, np.arange(24.0).reshape(2, 3, 4) / 8.0
DEEP, WIDE = np.arange(16.0).reshape(1, 8, 1, 2), np.arange(8.0).reshape(1, 1, 2, 4)

# name, opset, operands, static parameters and attributes in ONNX's own order of inputs
Case = tuple[str, int, list[Any], dict[str, Any]]
PLAIN: list[Case] = [
    ("Identity", 14, [X34], {}),
    ("Reshape", 13, [X34], {"shape": [2, -1]}),
    ("Reshape", 14, [X234], {"shape": [0, -1, 2]}),
    ("Reshape", 14, [np.zeros((0, 3))], {"shape": [3, 0], "allowzero": 1}),
    ("Reshape", 14, [np.ones(1)], {"shape": np.zeros(0)}),
    ("Flatten", 13, [X234], {}),
    ("Flatten", 13, [X234], {"axis": 0}),
    ("Flatten", 13, [X234], {"axis": -1}),
    ("Transpose", 13, [X234], {}),
    ("Transpose", 13, [X234], {"perm": [1, 2, 0]}),
    ("Squeeze", 11, [X34.reshape(1, 3, 1, 4)], {"axes": [0, -2]}),
    ("Squeeze", 13, [X34.reshape(1, 3, 1, 4)], {}),
    ("Squeeze", 13, [X34.reshape(1, 3, 1, 4)], {"axes": [2]}),
    ("Unsqueeze", 11, [X34], {"axes": [0, 3]}),
    ("Unsqueeze", 13, [X34], {"axes": [-1, 0]}),
    ("Slice", 9, [X34], {"starts": [0, 1], "ends": [2, 100]}),
    ("Slice", 9, [X34], {"starts": [-2], "ends": [100], "axes": [1]}),
    ("Slice", 13, [X34], {"starts": [-1, 0], "ends": [-(2**63), 2**63 - 1], "axes": [0, -1], "steps": [-2, 3]}),
    ("Slice", 13, [X34], {"starts": [3], "ends": [1], "axes": [1], "steps": [1]}),
    ("Slice", 13, [X34], {"starts": [10], "ends": [-10], "axes": [1], "steps": [-1]}),
    ("Concat", 13, [X34, X34[:, :1], X34[:, :0]], {"axis": 1}),
    ("Concat", 13, [X34, X34], {"axis": -2}),
    ("Expand", 13, [X34[:, :1]], {"shape": [2, 1, 5]}),
    ("Expand", 13, [np.ones(())], {"shape": [2]}),
    ("Tile", 13, [X34], {"repeats": [2, 3]}),
    ("Pad", 10, [X34], {"pads": [1, 0, 0, 2], "value": 1.5}),
    ("Pad", 13, [X34], {"pads": [1, 2, 1, 0], "mode": "reflect"}),
    ("Pad", 13, [X34], {"pads": [1, 2, 1, 0], "mode": "edge"}),
    ("Pad", 19, [X34], {"pads": [1, 2, 1, 0], "mode": "wrap"}),
    ("DepthToSpace", 13, [DEEP], {"blocksize": 2}),
    ("DepthToSpace", 13, [DEEP], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", 13, [WIDE], {"blocksize": 2}),
    ("Trilu", 14, [X34], {"k": 1}),
    ("Trilu", 14, [X234], {"upper": 0, "k": -1}),
    ("ReverseSequence", 10, [X34], {"sequence_lens": [1, 3, 2, 0], "time_axis": 0, "batch_axis": 1}),
    ("ReverseSequence", 10, [X34], {"sequence_lens": [4, 1, 2], "time_axis": 1, "batch_axis": 0}),
    ("Shape", 15, [X234], {}),
    ("Shape", 15, [X234], {"start": 1, "end": -1}),
    ("Size", 13, [X234], {}),
]
STEERED: list[Case] = [
    ("Gather", 13, [X234, np.array([[0, -1], [1, 1]])], {"axis": 1}),
    ("Gather", 13, [X234, np.array(1)], {"axis": -1}),
    ("Gather", 13, [X34, np.array([2, 0, 2])], {}),
    ("GatherElements", 13, [X34, np.array([[0, -1], [1, 1], [2, 0]])], {"axis": 1}),
    ("GatherND", 13, [X234, np.array([[0, 1], [1, -1]])], {}),
    ("GatherND", 13, [X234, np.array([[0], [2]])], {"batch_dims": 1}),
    ("ScatterElements", 13, [X34, np.array([[0, -1], [1, 2]]), np.array([[9.0, 8.0], [7.0, 6.0]])], {"axis": 1}),
    ("ScatterND", 13, [X34, np.array([[0], [2]]), X34[:2] * 10.0], {}),
    ("Where", 16, [np.array([[True], [False], [True]]), X34, np.array(0.5)], {}),
]
ORDER = {
    "Slice": ["starts", "ends", "axes", "steps"], "Pad": ["pads"], "Reshape": ["shape"], "Expand": ["shape"], "Tile": ["repeats"],
    "Squeeze": ["axes"], "Unsqueeze": ["axes"], "Trilu": ["k"], "ReverseSequence": ["sequence_lens"],
}  # fmt: skip


def found(name: str, opset: int) -> Any:
    return lookup("", name, opset)


def evaluate(name: str, opset: int, operands: list[Any], keywords: dict[str, Any]) -> Any:
    """By onnx's reference evaluator, static parameters given as inputs where the opset has them so."""
    rule = found(name, opset)
    inputs = [x if x.dtype in (bool, np.int64) else x.astype(np.float64) for x in operands]
    for parameter in ORDER.get(name, []):
        if parameter in rule.static:
            inputs.append(np.asarray(keywords[parameter], dtype=np.int64) if parameter in keywords else None)
    attributes = {k: v for k, v in keywords.items() if k not in rule.static}
    return reference(name, inputs, attributes, opset)


def identifier(case: Case) -> str:
    return f"{case[0]}-{case[1]}-{'-'.join(f'{k}={v}' for k, v in case[3].items())}"


@pytest.mark.parametrize("case", PLAIN + STEERED, ids=identifier)
def test_value_agrees_with_onnx(case: Case) -> None:
    name, opset, operands, keywords = case
    ours = found(name, opset).value(*(x[None].astype(np.float64) for x in operands), **keywords)[0]
    expected = np.asarray(evaluate(name, opset, operands, keywords))
    assert ours.shape == expected.shape
    assert np.array_equal(ours, expected.astype(np.float64))


def oracle_of(case: Case) -> Any:
    """onnx's reference evaluator run on element numbers (from 1; 0 is filled in): an independent index map."""
    name, opset, operands, keywords = case
    rule = found(name, opset)
    maps: dict[Any, Any] = {}

    def numbered(x: tuple[Exact, ...]) -> Any:
        numbers, size = [], 1
        for i, (given, a) in enumerate(zip(operands, x, strict=True)):
            if i in rule.steering:
                numbers.append(np.array([int(v) for v in a.flat], dtype=given.dtype).reshape(a.shape))
            else:
                numbers.append(np.arange(size, size + a.size, dtype=np.float64).reshape(a.shape))
                size += a.size
        return np.asarray(evaluate(name, opset, numbers, {**keywords, "value": 0.0} if "value" in keywords else keywords))

    def oracle(*x: Exact, **_: Any) -> Exact:
        key = tuple((i, *(int(v) for v in x[i].flat)) for i in rule.steering)
        if key not in maps:
            maps[key] = numbered(x)
        pool = [mpf(keywords.get("value", 0.0)), *(v for i, a in enumerate(x) if i not in rule.steering for v in a.flat)]
        pool = [mpf(i) for i in range(100)] if name in ("Shape", "Size") else pool
        out = np.empty(maps[key].shape, dtype=object)
        for index in np.ndindex(out.shape):
            out[index] = pool[int(maps[key][index])]
        return out

    return oracle


@pytest.mark.parametrize("case", PLAIN + STEERED, ids=identifier)
def test_pull_is_the_transpose_of_push(case: Case) -> None:
    """Whole numbers, so that not a bit may differ; tangents in several rows."""
    name, opset, operands, keywords = case
    rule = found(name, opset)
    X = tuple(Enclosure.point(x[None].astype(np.float64)) for x in operands)
    r = tuple(None if i in rule.steering else np.ones(x.shape) for i, x in enumerate(X))
    linear = rule.linearize(X, r, **keywords)
    rng = np.random.default_rng(5)
    d = [None if a is None else rng.integers(-9, 9, (3, *a.shape[1:])).astype(np.float64) for a in r]
    out = linear.push(d)
    a = rng.integers(-9, 9, (3, *out.shape[1:])).astype(np.float64)
    pulled = linear.pull(a)
    assert [p is None for p in pulled] == [t is None for t in d]
    here = (a * out).reshape(3, -1).sum(axis=1)
    there = sum((p * t).reshape(3, -1).sum(axis=1) for p, t in zip(pulled, d, strict=True) if p is not None and t is not None)
    assert np.array_equal(here, there)
    assert np.array_equal(rule.modulus(X, r, **keywords), linear.magnitude(r))
    assert not linear.radius.any()


@pytest.mark.parametrize("case", {case[0]: case for case in PLAIN + STEERED}.values(), ids=identifier)
def test_laws(case: Case) -> None:
    name, opset, operands, keywords = case
    rule = found(name, opset)
    box = tuple((x, x) if i in rule.steering else (x, x + 0.25) for i, x in enumerate(operands))
    check_rule(
        rule,
        [box],
        [],
        oracle=oracle_of(case),
        attributes=keywords,
        radii=RADII,
        constant=rule.steering,
        exact_push=True,
        shapes=False,
    )


def test_negative_pads_remove() -> None:
    assert np.array_equal(found("Pad", 13).value(X34[None], pads=[1, 0, 0, -2])[0], np.pad(X34[:, :2], [(1, 0), (0, 0)]))


def test_pad_with_an_operand_as_constant() -> None:
    rule = found("Pad", 18)

    def oracle(x: Exact, c: Exact, **_: Any) -> Exact:
        out = np.full((x.shape[0] + 1, x.shape[1] + 2), c[()], dtype=object)
        out[1:, :-2] = x
        return out

    x, attributes = X34[:2, :2], {"pads": [0, 1, 2, 0], "axes": [1, 0]}
    box = ((x, x + 0.5), (np.array(-1.0), np.array(2.0)))
    check_rule(rule, [box], [(x, np.array(7.0))], oracle=oracle, attributes=attributes, radii=RADII, shapes=False)


@pytest.mark.parametrize("case", [STEERED[0], STEERED[3], STEERED[4], STEERED[6], STEERED[7]], ids=identifier)
def test_indices_that_may_change(case: Case) -> None:
    """Over an interval of indices, every whole index inside is an outcome."""
    name, opset, operands, keywords = case
    rule = found(name, opset)
    box = [(x, x + 0.25) for x in operands]
    loose = operands[1].astype(np.float64) % 2.0
    box[1] = (np.zeros_like(loose), loose)
    X, r = _enclosures(box), tuple(np.full((1, *lo.shape), 0.125) for lo, _ in box[:1])
    radii = (r[0], None, *(np.full((1, *lo.shape), 0.125) for lo, _ in box[2:]))
    linear = rule.linearize(X, radii, **keywords)
    Y, modulus = rule.enclose(X, **keywords), rule.modulus(X, radii, **keywords)
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = [lo + rng.integers(0, 2, lo.shape) * (hi - lo) for lo, hi in box]
        d = [rng.choice([-0.125, 0.0, 0.125], a.shape) for a in x]
        before = rule.value(*(a[None] for a in x), **keywords)
        after = rule.value(*((a if i == 1 else a + d[i])[None] for i, a in enumerate(x)), **keywords)
        moved = linear.push([None if i == 1 else e[None] for i, e in enumerate(d)])
        assert np.all((Y.lo <= before) & (before <= Y.hi))
        assert np.all(np.abs(after - before) <= modulus)
        assert np.all(np.abs(after - before - moved - linear.shift) <= linear.radius)


def _enclosures(box: list[Any]) -> Any:
    return tuple(Enclosure(np.asarray(lo, dtype=np.float64)[None], np.asarray(hi, dtype=np.float64)[None]) for lo, hi in box)


def test_undecided_where_is_the_hull_of_both() -> None:
    rule = found("Where", 16)
    X = _enclosures([(np.zeros(3), np.array([0.0, 1.0, 0.0])), (X34[0, :3], X34[0, :3]), (X34[1, :3], X34[1, :3])])
    Y = rule.enclose(X)
    assert np.array_equal(Y.hi - Y.lo, [[0.0, 4.0, 0.0]])
    loose = (np.array([[0.0, 0.0, 1.0]]), np.zeros((1, 3)), None)
    assert np.array_equal(rule.linearize(X, loose).radius > 0.0, [[False, True, True]])
    assert not rule.is_linear(X, loose)
    assert rule.is_linear((X[1], X[1], X[2]), (None, loose[1], None))


def test_split_is_told_its_number_of_outputs() -> None:
    from certify.semantics.families.composite import Expansion

    for opset, keywords in ((11, {"axis": 1}), (13, {"axis": 1, "split": [1, 3]}), (11, {"split": [1, 2]})):
        steps, _ = found("Split", opset).expand(Expansion("s", ("x",), ((3, 4),), ("a", None, "b"), {}, str), **keywords)
        assert [s.output for s in steps] == ["a", "b"]
        assert [s.attributes["output"] for s in steps] == [0, 2]
    rule = found("Split", 18)
    parts = [rule.value(X34[None], axis=1, num_outputs=3, output=i) for i in range(3)]
    assert [p.shape for p in parts] == [(1, 3, 2), (1, 3, 2), (1, 3, 0)]
    assert np.array_equal(rule.value(X34[None], split=[1, 2], output=1)[0], X34[1:])


def _overwrite(self: Any, a: Any) -> Any:
    """A scatter that overwrites instead of adding."""
    result = np.zeros((a.shape[0], self.size))
    result[:, self.raw[0]] = a
    return result


class _Overwriting(index_map.IndexMap):
    def __init__(self, source: Any, size: int) -> None:
        super().__init__(source, size)
        self.raw = source

    pull = _overwrite


def test_lies_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.semantics.families import movement as family

    repeat = Movement("Lie", 1, ("x",), lambda x: np.concatenate([x, x], axis=1))

    def oracle(x: Exact) -> Exact:
        return np.concatenate([x, x], axis=0)

    check_rule(repeat, [((X34, X34),)], oracle=oracle, radii=RADII, shapes=False)
    index_map._built.cache_clear()
    monkeypatch.setattr(family, "IndexMap", _Overwriting)
    with pytest.raises(LawBroken, match="push d, a"):
        check_rule(repeat, [((X34, X34),)], oracle=oracle, radii=RADII, shapes=False)
    index_map._built.cache_clear()
    monkeypatch.undo()
    shuffled = Movement("Lie", 2, ("x",), lambda x: x[:, ::-1])
    with pytest.raises(LawBroken):
        check_rule(shuffled, [((X34, X34),)], oracle=lambda x: x, radii=RADII, shapes=False)
