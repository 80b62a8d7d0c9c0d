"""Laws of the parts of which LpPool, LRN and MeanVarianceNormalization are made, and lies about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.semantics import ops  # noqa: F401 - registers the rules
from certify.semantics.contract import Arithmetic, lookup
from certify.semantics.families.critical import Curve
from certify.semantics.ops import local_response, lp_pooling
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import E4M3, E5M2, MIXED, Exact, Machine

rng = np.random.default_rng(8)
SQUARES = rng.uniform(0.0, 4.0, (1, 5, 2))
SUMS = np.array([0.0, 2.0**-1074, 1e-30, 0.3, 1.0, 7.0, 1e12])


def root_oracle(order: int) -> Any:
    return elementwise(lambda v: mp.root(v, order) if v > 0 else mpf(0))


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_root(order: int) -> None:
    oracle = root_oracle(order)

    def kernel(machine: Machine, x: Exact) -> Exact:
        """A power with a stored exponent, of the sums that occur: none is negative."""
        exponent = machine.accumulator.fl(1 / mpf(order))
        return machine.fl_elementary(elementwise(lambda v: v**exponent if v > 0 else mpf(0))(x))

    check_rule(
        lookup("certify", "Root", 1),
        [((SUMS, SUMS * 1.5 + 0.1),), ((np.array([-1.0, 0.5]), np.array([1.0, 0.75])),)],
        [(SUMS,)],
        oracle=lambda x, order: oracle(x),
        attributes={"order": order},
        kinks=(0.0,),
        smooth=[(np.array([0.5, 1.0, 9.0]),)],
        kernel=lambda machine, x, order: kernel(machine, x),
        machines=(E5M2, E4M3, MIXED),
        exact_push=True,
    )


def windows_oracle(x: Exact, kernel_shape: Any, strides: Any, pads: Any) -> Exact:
    n, (k,), (s,) = x.shape[-1], kernel_shape, strides
    count = (n + sum(pads) - k) // s + 1
    out = np.empty((*x.shape[:-1], count), dtype=object)
    for index in np.ndindex(out.shape):
        out[index] = sum((x[(*index[:-1], q)] for q in range(index[-1] * s - pads[0], index[-1] * s - pads[0] + k) if 0 <= q < n), mpf(0))
    return out


def windows_kernel(machine: Machine, x: Exact, kernel_shape: Any, strides: Any, pads: Any) -> Exact:
    n, (k,), (s,) = x.shape[-1], kernel_shape, strides
    padded = np.full((*x.shape[:-1], n + sum(pads)), mpf(0), dtype=object)
    padded[..., pads[0] : pads[0] + n] = x
    count = (n + sum(pads) - k) // s + 1
    return np.stack([machine.fl_sum(padded[..., p * s : p * s + k]) for p in range(count)], axis=-1)


def test_window_sum() -> None:
    x = rng.normal(size=(1, 1, 5))
    check_rule(
        lookup("certify", "WindowSum", 1),
        [((x, x + 0.5),)],
        [(x,)],
        oracle=windows_oracle,
        kernel=windows_kernel,
        attributes={"kernel_shape": [3], "strides": [2], "pads": [1, 1]},
    )


def scale_oracle(squares: Exact, bias: Exact, alpha: float, size: int) -> Exact:
    out = np.empty(squares.shape, dtype=object)
    for index in np.ndindex(out.shape):
        low, high = index[1] - (size - 1) // 2, index[1] - (size - 1) // 2 + size
        total = sum((squares[(index[0], c, *index[2:])] for c in range(max(low, 0), min(high, squares.shape[1]))), mpf(0))
        out[index] = bias.item() + mpf(alpha) * total / size
    return out


def scale_kernel(machine: Machine, squares: Exact, bias: Exact, alpha: float, size: int) -> Exact:
    """Each window by itself, scaled before or after; or moved along the channels."""
    fl, channels, form = machine.accumulator.fl, squares.shape[1], int(machine.rng.integers(3))
    ratio, before = fl(fl(mpf(alpha)) / size), (size - 1) // 2
    out = np.empty(squares.shape, dtype=object)

    def at(n: int, c: int, k: int) -> Any:
        return squares[n, c, k] if 0 <= c < channels else mpf(0)

    for n, k in np.ndindex(squares.shape[0], squares.shape[2]):
        total = bias.item()
        for c in range(-before, size - before):
            total = fl(total + fl(ratio * at(n, c, k)))
        for c in range(channels):
            if c and form == 0:
                total = fl(total + fl(ratio * at(n, c - before + size - 1, k)))
                total = fl(total - fl(ratio * at(n, c - before - 1, k)))
            elif form == 1:
                total = fl(bias.item() + fl(ratio * _added(fl, [at(n, c - before + j, k) for j in range(size)])))
            elif form == 2:
                total = _added(fl, [bias.item(), *(fl(ratio * at(n, c - before + j, k)) for j in range(size))])
            out[n, c, k] = machine.fl(total)
    return out


def _added(fl: Any, terms: list[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = fl(total + term)
    return total


def check_scale(rule: Any) -> None:
    bias = np.asarray(1.0)
    hard = np.array([[[0.0, 2.0**-1074], [100.0, 3.0], [1e-5, 2.0], [50.0, 0.25], [0.0, 8.0]]])
    check_rule(
        rule,
        [((SQUARES, SQUARES + 0.25), (bias, bias))],
        [(hard, bias), (SQUARES, bias)],
        oracle=scale_oracle,
        kernel=scale_kernel,
        attributes={"alpha": 0.3125, "size": 3},
        constant=(1,),
        machines=(E4M3, MIXED),
    )


def inverse_kernel(machine: Machine, x: Exact, exponent: float) -> Exact:
    """s^-beta, or 1 / s^beta, with a stored exponent."""
    inner = machine.accumulator
    beta = inner.fl(mpf(-exponent))
    relative = mpf(machine.accuracy("pow")[0])
    out = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        off = 1 + relative * int(machine.rng.integers(-1, 2))
        power = x[index] ** beta if x[index] > 0 else mp.nan
        out[index] = machine.fl(off / power if int(machine.rng.integers(2)) else 1 / (power * off))
    return out


def check_inverse(rule: Any) -> None:
    s = np.array([0.25, 1.0, 1.5, 6.0])
    check_rule(
        rule,
        [((s, s * 1.25),)],
        [(s,), (np.array([1e-300, 1e300]),)],
        oracle=elementwise(lambda v, exponent: v ** mpf(exponent) if v > 0 else mp.nan),
        kernel=inverse_kernel,
        attributes={"exponent": -0.7},
        machines=(E4M3, MIXED),
        smooth=[(s,)],
        exact_push=True,
        shapes=False,
    )


def test_parts_of_lrn() -> None:
    check_scale(lookup("certify", "LocalScale", 1))
    check_inverse(lookup("certify", "InversePower", 1))


def test_a_summand_that_may_be_left_out() -> None:
    x = np.array([0.0, 1.0, 3.0])
    check_rule(
        lookup("certify", "PerhapsWithout", 1),
        [((x, x + 1.0),)],
        [(x,)],
        oracle=lambda v, summand: v,
        kernel=lambda machine, v, summand: machine.fl(v - int(machine.rng.integers(2)) * mpf(summand)),
        attributes={"summand": 0.125},
    )


def test_lies() -> None:
    def forgetful(arithmetic: Arithmetic, sizes: Any, **attributes: Any) -> Any:
        """A moved window taken for one that is added up by itself."""
        return arithmetic.round(sizes.magnitude)

    with pytest.raises(LawBroken, match="^rounding"):
        check_scale(replace(lookup("certify", "LocalScale", 1), kernel=forgetful))
    with pytest.raises(LawBroken, match="^rounding"):
        check_inverse(replace(lookup("certify", "InversePower", 1), born=lambda a, k, reach, m, q, exponent: a.elementary(k, m) * 0.5))
    steep = replace(lp_pooling.of_root(2), slope=Curve(lambda x: 0.501 / np.sqrt(np.maximum(x, 0.0)), relative=4.0))
    with pytest.raises(LawBroken, match="^remainder"):
        check_rule(
            replace(lookup("certify", "Root", 1), function=lambda: steep),
            [((np.array([1.0, 4.0]), np.array([1.0, 4.0])),)],
            oracle=root_oracle(2),
            radii=(0.0, 2.0**-10),
            exact_push=True,
        )


def test_every_window_is_the_whole_axis() -> None:
    assert local_response._sums(np.ones((1, 1, 3, 1)), 9).ravel().tolist() == [3.0, 3.0, 3.0]
