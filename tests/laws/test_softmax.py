"""Softmax and LogSoftmax keep their promises; mpmath is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.families import softmax
from certify.semantics.ops import attention
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import Exact, Machine

assert attention is not None

SMALL = [((np.array([-1.0, 0.0, 0.5]), np.array([1.0, 0.25, 0.5])),), ((np.zeros(3), np.zeros(3)),)]
HARD = [
    (np.array([0.0, 0.0, 0.0]),),
    (np.array([1000.0, 0.0, -1000.0]),),
    (np.array([-3.4e38, 1.0, 1.5]),),
    (np.array([1e-300, 5e-324, -0.0]),),
    (np.array([2.0, 2.0, 1.0]),),
]


def groups(x: Exact, axis: int, flattened: bool) -> list[list[tuple[int, ...]]]:
    members: dict[Any, list[tuple[int, ...]]] = {}
    k = axis % x.ndim
    for index in np.ndindex(x.shape):
        key = index[:k] if flattened else index[:k] + index[k + 1 :]
        members.setdefault(key, []).append(index)
    return list(members.values())


def oracle_of(logarithm: bool, flattened: bool) -> Any:
    def oracle(x: Exact, axis: int = 1 if flattened else -1) -> Exact:
        out = np.empty(x.shape, dtype=object)
        for group in groups(x, axis, flattened):
            top = max(x[i] for i in group)
            terms = {i: mp.exp(x[i] - top) for i in group}
            total = mp.fsum(terms.values())
            for i in group:
                out[i] = x[i] - top - mp.log(total) if logarithm else terms[i] / total
        return out

    return oracle


def kernel_of(logarithm: bool, flattened: bool, reciprocal: bool) -> Any:
    def kernel(machine: Machine, x: Exact, axis: int = 1 if flattened else -1) -> Exact:
        inner = machine.accumulator_precision or machine.precision

        def fl(v: Any) -> Any:
            return machine.fl(v, inner)

        def rough(v: Any) -> Any:
            relative, absolute = machine.accuracy("")
            return v + int(machine.rng.integers(-1, 2)) * (abs(v) * mpf(relative) + mpf(absolute))

        out = np.empty(x.shape, dtype=object)
        for group in groups(x, axis, flattened):
            top = max(x[i] for i in group)
            e = {i: fl(rough(mp.exp(fl(x[i] - top)))) for i in group}
            parts = list(e.values())
            machine.rng.shuffle(parts)
            total = mpf(0)
            for part in parts:
                total = fl(total + part)
            for i in group:
                if logarithm:
                    out[i] = machine.fl(fl(fl(x[i] - top) - fl(rough(mp.log(total)))))
                else:
                    out[i] = machine.fl(fl(e[i] * fl(1 / total)) if reciprocal else fl(e[i] / total))
        return out

    return kernel


@pytest.mark.parametrize(("name", "reciprocal"), [("Softmax", False), ("Softmax", True), ("LogSoftmax", False)])
def test_one_axis(name: str, reciprocal: bool) -> None:
    logarithm = name == "LogSoftmax"
    check_rule(
        lookup("", name, 13),
        SMALL,
        HARD,
        oracle=oracle_of(logarithm, False),
        smooth=[(np.array([0.3, -0.2, 0.9]),)],
        kernel=kernel_of(logarithm, False, reciprocal),
    )


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("opset", "axis", "shape"), [(13, 0, (2, 3)), (13, -2, (2, 2, 2)), (11, 1, (2, 2, 2)), (11, -1, (2, 3)), (13, -1, (1,))]
)
def test_axes(name: str, opset: int, axis: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    lo = rng.normal(size=shape)
    logarithm = name == "LogSoftmax"
    check_rule(
        lookup("", name, opset),
        [((lo, lo + rng.uniform(0, 0.5, shape)),)],
        [(lo,)],
        oracle=oracle_of(logarithm, opset < 13),
        attributes={"axis": axis},
        radii=(0.0, 0.125),
    )


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_runtime_agrees_on_axes(name: str, opset: int) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    for axis in (None, 0, 1, 2, -1, -2):
        attributes = {} if axis is None else {"axis": axis}
        node = onnx.helper.make_node(name, ["x"], ["y"], **attributes)
        values = [onnx.helper.make_tensor_value_info(v, 1, [2, 3, 4]) for v in "xy"]
        graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
        ran = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        rule: Any = lookup("", name, opset)
        ours = rule.value(x[None].astype(np.float64), **attributes)[0]
        assert np.abs(ran - ours).max() < 1e-5, axis


LIES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "remainder halved": lambda patch: patch.setattr(softmax._Part, "_remainder", _half_remainder),
    "inward p": lambda patch: patch.setattr(softmax, "probabilities", _inward),
    "kernel forgets the sum": lambda patch: patch.setattr(softmax, "kernel_error", lambda wide, *_: np.zeros(wide.shape)),
}
_TRUE_REMAINDER, _TRUE_PROBABILITIES = softmax._Part._remainder, softmax.probabilities


def _half_remainder(self: Any, *operands: Any) -> Any:
    radius, shift = _TRUE_REMAINDER(self, *operands)
    return 0.45 * radius, shift


def _inward(X: Enclosure) -> Enclosure:
    p = _TRUE_PROBABILITIES(X)
    return Enclosure(p.mid, p.mid)


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_caught(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    LIES[lie](monkeypatch)
    with pytest.raises(LawBroken):
        check_rule(
            lookup("", "Softmax", 13),
            SMALL,
            [*HARD, (np.array([0.1, 0.7, -0.4]),), (np.array([0.0, 0.0]),)],
            oracle=oracle_of(False, False),
            kernel=kernel_of(False, False, False),
        )
