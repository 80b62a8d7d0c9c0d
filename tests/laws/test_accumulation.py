"""Products with several addends keep their promises, whichever way a kernel adds them up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.semantics import ops
from certify.semantics.contract import Linearization, lookup
from certify.semantics.families.accumulation import Accumulation
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import E4M3, E5M2, MIXED, Exact, Machine, elementwise
from tests.laws.test_lies import Liar

assert ops is not None
RULE: Any = lookup("certify", "Gemm", 1)
A, B = np.array([[[1.0, -0.5, 2.0]]]), np.array([[[1.0, 0.25], [-3.0, 2.0], [0.5, 1.5]]])
C, D = np.array([[0.125, -4.0]]), np.array([[[3.0, 0.0]]])
BOXES = [((A, A + 0.25), (B, B), (C, C), (D - 0.5, D)), ((A, A), (B - 0.125, B + 0.5), (C, C + 1.0), (D, D))]
HARD = [(A, B, C, D), (0.0 * A, B, C, -0.0 * D), (1e150 * A, 1e-150 * B, 5e-324 + 0.0 * C, D)]


def oracle(a: Exact, b: Exact, *addends: Exact, split: int = 0) -> Exact:
    total = sum((c.reshape(1, 1, -1) for c in addends), a @ b)
    return np.asarray(total, dtype=object)


def kernel_of(way: str) -> Callable[..., Exact]:
    def kernel(machine: Machine, a: Exact, b: Exact, *addends: Exact, split: int = 0) -> Exact:
        p = machine.accumulator_precision or machine.precision
        products = a[0, 0, :, None] * b[0]
        rest = [c.reshape(1, -1) for c in addends]
        if way == "one run":
            return machine.fl_sum(np.concatenate([machine.fl(products, p), *rest]), 0)[None, None]
        inner = machine if machine.accumulator_precision is None else replace(machine, precision=p)
        first, second = (inner.fl_dot(part, 0)[None] for part in (products[:split], products[split:]))
        if way == "apart":
            return machine.fl_sum(np.concatenate([first, second, *rest]), 0)[None, None]
        begun = inner.fl(first + inner.fl(rest[0] + rest[1]))
        return machine.fl_sum(np.concatenate([machine.fl(products[split:], p), begun]), 0)[None, None]

    return kernel


@pytest.mark.parametrize("way", ["one run", "apart", "on top"])
def test_promises(way: str) -> None:
    kernel = kernel_of(way)
    machine, radii = (E4M3, (0.0, 0.125, 1.5)) if way == "one run" else (MIXED, (0.0, 0.125))
    check_rule(RULE, BOXES, HARD, oracle=oracle, attributes={"split": 1}, kernel=kernel, machines=(machine,), radii=radii)


def test_without_addends_and_with_one() -> None:
    for addends in ((), (C,)):
        check_rule(RULE, [((A, A), (B, B), *((c, c + 1.0) for c in addends))], oracle=oracle, radii=(0.0, 0.125))


def forgotten_addend(L: Linearization, *_: Any) -> Linearization:
    return replace(L, push=lambda d: L.push([*d[:3], None]))


LIES: list[tuple[str, str, Callable[..., Any], str]] = [
    ("an addend does not move the sum", "linearize", forgotten_addend, "<push d, a>"),
    ("remainder forgotten", "linearize", lambda L, *_: replace(L, radius=0.0 * L.radius), "remainder"),
    ("rounding forgotten", "rounding", lambda b, *_: 0.05 * b, "rounding"),
    ("modulus short", "modulus", lambda m, *_: 0.99 * m, "modulus >="),
]


@pytest.mark.parametrize(("what", "verb", "tell", "law"), LIES, ids=[lie[0] for lie in LIES])
def test_lies_are_caught(what: str, verb: str, tell: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=f"^{law}"):
        check_rule(
            Liar(RULE, verb, tell),
            BOXES,
            HARD,
            oracle=oracle,
            attributes={"split": 1},
            kernel=kernel_of("one run"),
            machines=(E4M3,),
            radii=(0.0, 0.125),
        )


def test_the_second_bound_holds_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """`apart` covers its own kernels where nothing is known of the whole."""
    apart = Accumulation._apart

    def alone(self: Any, X: Any, r: Any, machine: Machine, *_: Any, split: int) -> Any:
        a, b, *addends = (np.nextafter(x.mag + q, np.inf) for x, q in zip(X, r, strict=True))
        parts = (a[..., :split], b[..., :split, :]), (a[..., split:], b[..., split:, :])
        return apart(self, machine, *parts, [c.reshape(1, 1, 1, -1) for c in addends])

    monkeypatch.setattr(Accumulation, "rounding", alone)
    check_rule(RULE, BOXES, oracle=oracle, attributes={"split": 1}, kernel=kernel_of("on top"), machines=(MIXED,), radii=(0.0, 0.0))


def test_softplus_of_a_cell() -> None:
    x = np.array([-30.0, -2.0, 0.0, 0.5, 9.0])

    def kernel(machine: Machine, v: Exact) -> Exact:
        tail = machine.fl(1 + machine.fl_elementary(elementwise(lambda t: mp.exp(-abs(t)))(v)))
        return np.asarray(machine.fl(elementwise(lambda t: max(t, mpf(0)))(v) + machine.fl_elementary(elementwise(mp.log)(tail))))

    check_rule(
        lookup("certify", "Softplus", 1),
        [((x, x + 0.25),)],
        [(x,), (np.array([5e-324, -0.0, -700.0]),)],
        oracle=elementwise(lambda t: mp.log1p(mp.exp(t))),
        smooth=[(np.array([-2.0, 0.5, 3.0]),)],
        kernel=kernel,
        machines=(E5M2, E4M3),
        exact_push=True,
    )
