"""What is quantized by its own range, and what products of it round, against kernels emulated in exact numbers; and lies about both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.semantics import ops
from certify.semantics.contract import lookup
from tests.laws.kit import LawBroken, check_rule, elementwise, exact
from tests.laws.machine import BFLOAT16, E4M3, MIXED, Exact, Machine
from tests.laws.test_lies import Liar

assert ops is not None
BY_RANGE: Any = lookup("certify", "QuantizedByRange", 1)
DEQUANTIZED: Any = lookup("certify", "Dequantized", 1)
SUM: Any = lookup("certify", "Sum", 1)
SINGLE = Machine(precision=24, emin=-126, emax=127)
SMALL = Machine(precision=9, emin=-9, emax=12)  # 255 steps of a range of some ones underflow


def by_range(machine: Machine, x: Exact, *, groups: int = 1, ties: Callable[[mpf], mpf] = mp.nint) -> Exact:
    """Groups of elements, each with a scale of its own; one that underflows to zero makes all products zero."""
    flat, p = x.reshape(-1), machine.accumulator_precision or machine.precision
    found: list[mpf] = []
    for part in np.array_split(flat, groups):
        low, high = min([mpf(0), *part]), max([mpf(0), *part])
        span = machine.fl(high - low, p)
        scale = mpf(1) if span == 0 else machine.fl(span / 255, p)
        if scale == 0:
            found += [mpf(0)] * len(part)
            continue
        zero = min(max(ties(-machine.fl(low / scale, p)), mpf(0)), mpf(255))
        found += [(min(max(ties(machine.fl(v / scale, p)) + zero, mpf(0)), mpf(255)) - zero) * scale for v in part]
    out = np.empty(len(found), dtype=object)
    out[:] = found
    return out.reshape(x.shape)


def away(v: mpf) -> mpf:
    return mp.sign(v) * mp.floor(abs(v) + mpf(0.5))


_x = np.array([[-1.5, 0.25, 3.0], [0.0, -0.125, 2.0]])
BOXES = [((_x, _x),), ((_x, _x + 0.5),), ((0.0 * _x, 0.0 * _x),), ((np.abs(_x), np.abs(_x)),), ((-np.abs(_x), -np.abs(_x)),)]
HARD = [
    (np.array([255.0, 0.5, 1.5, 126.5, 254.5, -0.0]),),
    (np.array([-100.5, 154.5, 0.5, -0.5, 77.5]),),
    (np.array([-3.0]),),
    (np.array([5e-324, -5e-324, 0.0]),),
    (np.array([2.0**-133, -(2.0**-133), 2.0**-126, 2.0**-120]),),
    (np.array([1e38, -1e38, 1.0]),),
    (np.array([2.5e38, -2.5e38, 1.0]),),
]
same = elementwise(lambda x: x)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("ties", [mp.nint, away])
def test_by_range(groups: int, ties: Callable[[mpf], mpf]) -> None:
    def kernel(machine: Machine, x: Exact) -> Exact:
        return by_range(machine, x, groups=groups, ties=ties)

    check_rule(BY_RANGE, BOXES, HARD, oracle=same, kernel=kernel, machines=(SINGLE, BFLOAT16, MIXED, SMALL, E4M3), radii=(0.0, 0.125))


def attacked(rule: Any) -> float:
    """The largest share of `rule`'s bound that an error was: numbers whose scale is far from, near and below the smallest ones."""
    rng, most = np.random.default_rng(0), 0.0
    places = [(SINGLE, 40, 1.0, 30), (BFLOAT16, 12, 1.0, 60), (SMALL, 8, 1.0, 60), (SMALL, 8, 0.3, 60), (SMALL, 8, 0.03, 60)]
    with mp.workprec(300):
        for machine, size, scale, draws in places:
            for k in range(draws):
                x = machine.fl(exact(scale * np.abs(rng.normal(size=size)) ** (k % 2) * rng.normal(size=size)))
                held = np.asarray(x if k % 3 else abs(x), dtype=np.float64)[None]
                bound = rule.rounding((Enclosure.point(held),), (None,), machine, np.abs(held), [0.0])[0]
                off = np.asarray(abs(by_range(machine, exact(held[0])) - exact(held[0])), dtype=np.float64)
                with np.errstate(all="ignore"):
                    most = max(most, float(np.nan_to_num(off / bound, nan=0.0).max()))
    return most


def test_the_bound_is_nearly_reached() -> None:
    assert 0.999 < attacked(BY_RANGE) <= 1.0


def _half_a_scale(bound: Any, X: Any, *_: Any) -> Any:
    return 0.0 * bound + (max(X[0].hi.max(), 0.0) - min(X[0].lo.min(), 0.0)) / 510.0


def _without_zero(bound: Any, X: Any, *_: Any) -> Any:
    span = max(X[0].hi.max(), 0.0) - min(X[0].lo.min(), 0.0)
    return bound * (X[0].hi.max() - X[0].lo.min()) / span


def _without_underflow(bound: Any, X: Any, r: Any, machine: Machine, *_: Any) -> Any:
    span = max(X[0].hi.max(), 0.0) - min(X[0].lo.min(), 0.0)
    return 0.0 * bound + span * (0.5 * (1.0 + machine.unit_roundoff) ** 2 / 255.0 + 3.1 * machine.unit_roundoff)


LIES: dict[str, Callable[..., Any]] = {
    "a little less": lambda bound, *_: 0.99 * bound,
    "half a scale alone": _half_a_scale,
    "a range without zero": _without_zero,
    "underflow forgotten": _without_underflow,
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_the_range_are_caught(lie: str) -> None:
    assert attacked(Liar(BY_RANGE, "rounding", LIES[lie])) > 1.0


def test_zeros_cost_nothing_and_what_may_overflow_has_no_bound() -> None:
    def bound(lo: Any, hi: Any, machine: Machine) -> Any:
        X = Enclosure(np.array([lo]), np.array([hi]))
        return BY_RANGE.rounding((X,), (None,), machine, X.mag, [0.0])[0].tolist()

    assert bound([0.0, -0.0], [0.0, -0.0], SINGLE) == [0.0, 0.0]
    assert 0.0 < bound([0.0, 0.0], [0.0, 1e-40], SINGLE)[0] < 1e-40
    assert bound([-3e38, 0.0], [3e38, 0.0], SINGLE) == [np.inf, np.inf]
    assert bound([0.0], [1.0], E4M3) == [np.inf]  # which holds no 255


def rescaled(machine: Machine, s: mpf, t: mpf, n: int) -> mpf:
    p = machine.accumulator_precision or machine.precision
    return machine.fl(machine.fl(machine.fl(s * t, p) * machine.fl(mpf(n), p)))


def shares(rule: Any, times: float) -> list[float]:
    """Of the bound, for scales of operands and of weights from the smallest numbers to ordinary ones."""
    rng, found = np.random.default_rng(1), []
    for machine in (SINGLE, BFLOAT16, MIXED, SMALL):
        for _ in range(150):
            # exponents that are as low as the machine's own, their products far below
            e = rng.integers(machine.emin // 2 - 4, 3, 2)
            s, t = (machine.fl(mpf(float(rng.uniform(1.0, 2.0))) * mpf(2) ** int(k)) for k in e)
            n = int(rng.integers(-times, times + 1))
            with mp.workprec(300):
                y = s * t * n
                sizes = [np.array([[float(v)]]) for v in (y, 255 * s, t)]
                X = tuple(Enclosure.point(v) for v in sizes)
                bound = float(rule.rounding(X, (None,) * 3, machine, np.nextafter(np.abs(sizes[0]), np.inf), [0.0] * 3, times=times)[0, 0])
                off = abs(rescaled(machine, s, t, n) - y)
                assert y != 0 or bound == 0.0
                found.append(float(off / mpf(bound)) if bound else 0.0 if off == 0 else np.inf)
    return found


def test_dequantized() -> None:
    assert max(shares(DEQUANTIZED, 3000.0)) <= 1.0
    below: Any = Liar(DEQUANTIZED, "rounding", lambda bound, X, r, machine, magnitude, *_: machine.round(magnitude))
    assert max(shares(below, 3000.0)) > 1.0
    without: Any = Liar(DEQUANTIZED, "rounding", lambda bound, X, r, machine, magnitude, *_: 3.1 * machine.unit_roundoff * magnitude)
    assert max(shares(without, 3000.0)) > 1.0


@pytest.mark.parametrize(("times", "operand", "scale"), [(2.0**31, 1.0, 1.0), (100.0, 1e38, 1e38), (100.0, 0.0, 3.4e38)])
def test_sums_and_scales_out_of_range_have_no_bound(times: float, operand: float, scale: float) -> None:
    sizes = [np.array([[v]]) for v in (1.0, operand, scale)]
    bound = DEQUANTIZED.rounding(tuple(map(Enclosure.point, sizes)), (None,) * 3, SINGLE, sizes[0], [0.0] * 3, times=times)
    assert np.isinf(bound).all() == (operand > 0.0)


def test_sums_in_any_association() -> None:
    operands = [np.array([1.0, -0.5]), np.array([-1.0, 2.0**-9]), np.array([0.125, 3.0]), np.array([2.0**-12, -3.0])]

    def kernel(machine: Machine, *x: Exact) -> Exact:
        return machine.fl_sum(np.stack(x), 0)

    def check(rule: Any) -> None:
        check_rule(
            rule,
            [tuple((v, v + 0.25) for v in operands), tuple((v, v) for v in operands)],
            [tuple(1e-30 * v for v in operands)],
            oracle=lambda *x: sum(x[1:], x[0]),
            kernel=kernel,
            machines=(E4M3, MIXED, BFLOAT16),
            radii=(0.0, 0.125),
        )

    check(SUM)
    with pytest.raises(LawBroken, match="rounding"):
        check(Liar(SUM, "rounding", lambda bound, *_: 0.1 * bound))
