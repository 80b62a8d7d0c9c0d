"""Second moments keep their promises, and normalizations compute what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.families.composite import Expansion
from certify.semantics.families.moment import Moment
from certify.semantics.families.moment_kernel import MomentKernel
from certify.semantics.ops import normalization
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import BFLOAT16, E4M3, MIXED, Exact, Machine, exact
from tests.laws.reference import reference, runtime

assert normalization is not None
RADII = (0.0, 2.0**-10, 0.125, 1.5)


def found(name: str, domain: str = "") -> Any:
    return lookup(domain, name, 28)


def moment_of(centred: bool) -> Callable[..., Exact]:
    def oracle(x: Exact, axes: tuple[int, ...], style: str = "any") -> Exact:
        n = int(np.prod([x.shape[k] for k in axes]))
        d = x - x.sum(axis=axes, keepdims=True) / mpf(n) if centred else x
        return np.asarray((d * d).sum(axis=axes, keepdims=True) / mpf(n), dtype=object)

    return oracle


def kernel_of(way: str) -> Callable[..., Exact]:
    """Variance of the last axis, as kernels compute it: every operation rounded, then stored."""

    def kernel(machine: Machine, x: Exact, axes: tuple[int, ...], style: str = "any") -> Exact:
        n = mpf(x.shape[-1])
        p = machine.accumulator_precision or machine.precision
        mean = machine.fl(machine.fl(machine.fl_sum(x) / n, p), p)[..., None]
        if way == "centred":
            d = machine.fl(x - mean)
            return np.asarray(machine.fl(machine.fl_dot(d * d) / n)[..., None], dtype=object)
        if way == "running":
            return np.asarray(machine.fl(running(machine.fl, p, x)[1] / n)[..., None], dtype=object)
        square = machine.fl(machine.fl_dot(x * x) / n)[..., None]
        return np.asarray(machine.fl(square if way == "square" else square - machine.fl(mean * mean)), dtype=object)

    return kernel


def running(fl: Callable[..., Any], p: int, x: Exact) -> tuple[Exact, Exact]:
    """Welford's mean and sum of squares along the last axis, every operation rounded to p bits."""
    mean, squares = 0 * x[..., 0], 0 * x[..., 0]
    for k in range(x.shape[-1]):
        d = fl(x[..., k] - mean, p)
        mean = fl(mean + fl(d * fl(mpf(1) / (k + 1), p), p), p)
        squares = fl(squares + fl(d * fl(x[..., k] - mean, p), p), p)
    return mean, squares


ROW = np.array([[1.0, -0.5, 0.25, 3.0]])
BOXES = [((ROW, ROW + 0.25),), ((-ROW, 2.0 * np.abs(ROW)),)]
HARD = [(ROW,), (np.zeros((1, 4)),), (np.array([[1e150, -1e150, 1.0, 5e-324]]),), (np.array([[100.0, 101.0, 99.0, 100.0]]),)]


@pytest.mark.parametrize(
    ("name", "way"), [("Variance", "centred"), ("Variance", "uncentred"), ("Variance", "running"), ("MeanSquare", "square")]
)
def test_moments(name: str, way: str) -> None:
    check_rule(
        found(name, "certify"),
        BOXES,
        HARD,
        oracle=moment_of(name == "Variance"),
        attributes={"axes": (1,)} if way == "square" else {"axes": (1,), "style": way},
        radii=RADII,
        smooth=[(ROW,)],
        kernel=kernel_of(way),
        machines=(E4M3, MIXED),
    )


def lanes(fl: Callable[..., Any], p: int, x: Exact, size: int) -> tuple[Exact, Exact]:
    """Lanes of `size` elements run by themselves, then merged two by two."""
    parts = [(min(size, x.shape[-1] - k), *running(fl, p, x[..., k : k + size])) for k in range(0, x.shape[-1], size)]
    while len(parts) > 1:
        merged = []
        for (na, ma, a), (nb, mb, b) in zip(parts[::2], parts[1::2], strict=False):
            n, d = na + nb, fl(mb - ma, p)
            mean = fl(ma + fl(d * fl(mpf(nb) / n, p), p), p)
            merged.append((n, mean, fl(fl(a + b, p) + fl(fl(d * d, p) * fl(mpf(na * nb) / n, p), p), p)))
        parts = merged + parts[len(parts) - len(parts) % 2 :]
    return parts[0][1:]


@pytest.mark.parametrize("order", ["chain", 1, 2, 4])
@pytest.mark.parametrize("machine", [Machine(precision=11, emin=-14, emax=15), BFLOAT16, MIXED])
def test_running_means_and_squares(order: Any, machine: Any) -> None:
    """However elements are ordered: constant, rising, falling, cancelling, far from zero."""
    draw, p = np.random.default_rng(0), machine.accumulator_precision or machine.precision
    for n in (2, 3, 5, 8, 13):
        rows = np.stack([draw.normal(size=n), np.sort(draw.normal(size=n)), np.sort(draw.normal(size=n))[::-1], np.full(n, 3.0)])
        rows = np.concatenate([rows, 0.25 * rows + 9.0, np.where(np.arange(n) % 2, 1.0, -1.0)[None] * (4.0 + 2.0**-3 * rows)])
        x = machine.fl(np.vectorize(mpf, otypes=[object])(rows))
        given = Enclosure.point(x.astype(np.float64))
        mean, squares = running(machine.fl, p, x) if order == "chain" else lanes(machine.fl, p, x, order)
        for name, got in (("Mean", mean), ("Variance", squares / n)):
            rule, told = found(name, "certify"), {"axes": (-1,)} | ({} if name == "Mean" else {"style": "running"})
            truth = moment_of(True)(x, (1,))[:, 0] if name == "Variance" else x.sum(axis=-1) / mpf(n)
            got = machine.fl(machine.fl(got, p))
            bound = rule.rounding((given,), (None,), machine, np.abs(truth.astype(np.float64))[:, None] * (1 + 2**-50), [0.0], **told)
            assert (np.abs(got - truth) <= bound[:, 0]).all()
            assert n > 8 or np.isfinite(bound).all()


@pytest.mark.parametrize("axes", [(0,), (0, 2), (1, 2)])
def test_axes(axes: tuple[int, ...]) -> None:
    x = np.arange(12.0).reshape(2, 3, 2) ** 2
    box = ((x, x + 0.5),)
    check_rule(found("Variance", "certify"), [box], [(x,)], oracle=moment_of(True), attributes={"axes": axes}, radii=(0.0, 0.125))


def run(name: str, operands: list[Any], attributes: dict[str, Any]) -> Any:
    """The expansion in float64, step by step."""
    composite = found(name)
    names = tuple(None if x is None else f"x{i}" for i, x in enumerate(operands))
    shapes = tuple(() if x is None else x.shape for x in operands)
    e = Expansion("n", names, shapes, ("y",), {}, lambda kernel: "any")
    steps, constants = composite.expand(e, **attributes)
    values = {n: x[None] for n, x in zip(names, operands, strict=True) if n is not None} | {n: c[None] for n, c in constants.items()}
    for step in steps:
        rule: Any = lookup(step.domain, step.name, step.opset)
        values[step.output] = rule.value(*(None if n is None else values[n] for n in step.operands), **step.attributes)
    return values["y"][0]


def sample(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape)


@pytest.mark.parametrize("axis", [-1, 1, 2, -2])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_normalization_agrees_with_onnxruntime(axis: int, bias: bool) -> None:
    x = sample(2, 3, 4)
    shape = x.shape[axis % 3 :]
    operands = [x, sample(*shape), sample(*shape) + 1.0] if bias else [x, sample(*shape)]
    attributes = {"axis": axis, "epsilon": 0.125}
    ran = runtime("LayerNormalization", operands, attributes, 17)
    assert np.abs(run("LayerNormalization", operands, attributes) - ran).max() < 1e-5


def test_rms_normalization_is_its_formula() -> None:
    x, scale = sample(2, 3, 4), sample(4)
    expected = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 0.5) * scale
    assert np.abs(run("RMSNormalization", [x, scale], {"epsilon": 0.5}) - expected).max() < 1e-12


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 2)])
def test_instance_normalization_agrees_with_onnxruntime(shape: tuple[int, ...]) -> None:
    operands = [sample(*shape), sample(shape[1]), sample(shape[1]) + 1.0]
    ran = runtime("InstanceNormalization", operands, {"epsilon": 0.125}, 17)
    assert np.abs(run("InstanceNormalization", operands, {"epsilon": 0.125}) - ran).max() < 1e-5


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization_agrees_with_onnx(opset: int) -> None:
    length = 2 if opset == 18 else 6
    operands = [sample(2, 6, 3), sample(length), sample(length) + 1.0]
    attributes = {"num_groups": 2, "epsilon": 0.125}
    by_channel = operands if opset == 21 else [operands[0], *(np.repeat(v, 3) for v in operands[1:])]
    expected = reference("GroupNormalization", [v.astype(np.float32) for v in by_channel], attributes, 21)
    assert np.abs(run("GroupNormalization", operands, attributes) - expected).max() < 1e-5


@pytest.mark.parametrize("order", ["folded", "centred", "scaled first"])
def test_every_association_stays_within(order: str) -> None:
    """x, mean, s, scale, bias are numbers of the format; the kernel's result against the exact expression."""
    rule = found("Reassociated", "certify")
    rng = np.random.default_rng(2)
    for machine in (E4M3, MIXED):
        p = machine.accumulator_precision or machine.precision

        def fl(v: Any, machine: Machine = machine, p: int = p) -> Any:
            return machine.fl(v, p)

        for _ in range(40):
            x, mean, s, scale, bias = (machine.fl(exact(rng.normal(size=4) * 2.0 ** rng.integers(-2, 2, 4))) for _ in range(5))
            if order == "folded":
                slope = fl(s * scale)
                computed = fl(fl(x * slope) + fl(bias - fl(mean * slope)))
            else:
                centred = fl(x - mean)
                computed = fl((fl(fl(centred * s) * scale) if order == "centred" else fl(centred * fl(s * scale))) + bias)
            truth = (x - mean) * s * scale + bias
            operands = [np.array([[float(v) for v in a]]) for a in (truth, x, mean, s, scale, bias)]
            X = tuple(Enclosure.point(a) for a in operands)
            bound = rule.rounding(X, (None,) * 6, machine, np.nextafter(np.abs(operands[0]), np.inf), [0.0] * 6)
            assert all(abs(a - b) <= mpf(float(c)) for a, b, c in zip(machine.fl(computed), truth, bound[0], strict=True))


LIES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "remainder halved": lambda patch: patch.setattr(Moment, "_remainder", _half),
    "only the centred way": lambda patch: patch.setattr(MomentKernel, "uncentred", MomentKernel.centred),
    "mean known exactly": lambda patch: patch.setattr(MomentKernel, "uncentred", _no_mean_error),
}
_REMAINDER, _UNCENTRED = Moment._remainder, MomentKernel.uncentred


def _half(self: Any, *operands: Any) -> Any:
    radius, shift = _REMAINDER(self, *operands)
    return 0.49 * radius, shift


def _no_mean_error(self: Any, most: Any) -> Any:
    self.mean_off = 0.0 * self.mean_off
    return 0.5 * _UNCENTRED(self, most)


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_caught(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    LIES[lie](monkeypatch)
    points = [(np.array([[a, a + 1.0, a - 1.0, a]]),) for a in (7.0, 13.0, 90.0, 100.0)]
    with pytest.raises(LawBroken):
        check_rule(
            found("Variance", "certify"),
            BOXES,
            points,
            oracle=moment_of(True),
            attributes={"axes": (1,), "style": "uncentred"},
            radii=RADII,
            kernel=kernel_of("uncentred"),
            machines=(E4M3, MIXED),
        )
