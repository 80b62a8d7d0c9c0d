"""The parts of attention keep their promises, against kernels that scale, add and rescale in every way that is covered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.semantics.contract import lookup
from certify.semantics.ops import rescaled, scaled_dot
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import E4M3, MIXED, Exact, Machine, exact
from tests.laws.test_lies import Liar, inward_remainder, rounded_to_nearest, steeper

assert rescaled is not None
assert scaled_dot is not None

INF = np.inf
ROW = np.array([[-1.0, 0.5, -INF, 0.25], [-INF, -INF, -INF, -INF]])
LONG = np.linspace(-2.0, 2.0, 20)[::-1].copy()
LONG[3] = -INF
RISING = np.linspace(-30.0, 1.0, 36)


def softmax(x: Exact, **_: Any) -> Exact:
    out = np.full(x.shape, mpf(0), dtype=object)
    for index in np.ndindex(x.shape[:-1]):
        row = [v for v in x[index] if v != -mp.inf]
        if row:
            top = max(row)
            terms = [mp.exp(v - top) if v != -mp.inf else mpf(0) for v in x[index]]
            out[index] = [t / mp.fsum(terms) for t in terms]
    return out


def online(block: int, stored: bool, base: bool = False, lowest: bool = False) -> Any:
    """The kernel in blocks: weights relative to the maximum so far, rescaled when it grows; divided at the end.

    stored: weights rounded into storage; base: 2^(x c - m c); lowest: the lowest number for what is masked.
    """

    def kernel(machine: Machine, x: Exact) -> Exact:
        inner = machine.accumulator_precision or machine.precision

        def fl(v: Any) -> Any:
            return machine.fl(v, inner)

        def exponential(v: Any, m: Any) -> Any:
            argument = fl(fl(v * fl(1 / mp.ln2)) - fl(m * fl(1 / mp.ln2))) * mp.ln2 if base else fl(v - m)
            relative, absolute = machine.accuracy("")
            y = mp.exp(argument)
            return fl(y + int(machine.rng.integers(-1, 2)) * (abs(y) * mpf(relative) + mpf(absolute)))

        out = np.full(x.shape, mpf(0), dtype=object)
        for index in np.ndindex(x.shape[:-1]):
            row = [(-mpf(machine.max) if lowest else None) if v == -mp.inf else v for v in x[index]]
            if all(v == -mp.inf for v in x[index]):
                continue
            top, total, weights = None, mpf(0), [mpf(0)] * len(row)
            for start in range(0, len(row), block):
                part = [(k, v) for k, v in enumerate(row[start : start + block], start) if v is not None]
                if not part:
                    continue
                new = max([v for _, v in part] + ([] if top is None else [top]))
                if top is not None and new != top:
                    factor = exponential(top, new)
                    total = fl(total * factor)
                    weights = [fl(w * factor) for w in weights]
                top = new
                for k, v in part:
                    weights[k] = exponential(v, top)
                    total = fl(total + weights[k])
            out[index] = [fl((machine.fl(w) if stored else w) / total) for w in weights]
        return out if stored else machine.fl(out)

    return kernel


KERNELS = [online(64, False), online(16, True), online(16, False, base=True), online(64, True, base=True), online(64, False, lowest=True)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_softmax_of_masked_scores(kernel: Any) -> None:
    thick = KERNELS.index(kernel) == 0
    check_rule(
        lookup("certify", "MaskedSoftmax", 1),
        [((ROW, ROW + 0.25),), ((np.array([[-1.0, 0.0, -INF]]), np.array([[1.0, 0.25, -INF]])),)][: 1 + thick],
        [(ROW,), (np.array([[0.0, 0.0, -INF]]),), (np.array([[30.0, -INF, -30.0]]),), (np.array([[5.0]]),)],
        oracle=softmax,
        smooth=[(np.array([[0.3, -0.2, -INF, 0.9]]),)],
        kernel=kernel,
    )
    check_rule(
        lookup("certify", "MaskedSoftmax", 1),
        [((LONG[None],) * 2,), ((RISING[None],) * 2,)][: 2 - thick],
        oracle=softmax,
        kernel=kernel,
        radii=(0.0,),
    )


def test_groups_that_may_be_masked() -> None:
    """A mask that is not decided leaves every probability open, and no more than that."""
    rule = lookup("certify", "MaskedSoftmax", 1)
    X = Enclosure(np.array([[[-INF, -INF]]]), np.array([[[1.0, -INF]]]))
    Y = rule.enclose((X,))
    assert Y.lo.tolist() == [[[0.0, 0.0]]]
    assert Y.hi[0, 0, 0] == 1.0
    L = rule.linearize((X,), (np.full((1, 1, 2), 0.5),))
    assert L.radius.tolist() == [[[1.0, 1.0]]]
    strict = lookup("certify", "GivenSoftmax", 1)
    assert np.isinf(strict.enclose((Enclosure.point(np.array([[[-INF, -INF]]])),)).lo).all()


def test_unmasked_infinity_is_no_number() -> None:
    rule = lookup("certify", "MaskedSoftmax", 1)
    Y = rule.enclose((Enclosure.point(np.array([[INF, 0.0]])),))
    assert np.isneginf(Y.lo).all()
    assert np.isinf(rule.rounding((Enclosure.point(np.array([[INF, 0.0]])),), (None,), MIXED, np.ones((1, 2)), [0.0])).all()


A = np.array([[0.5, -1.5, 2.0], [1.25, 0.0, -0.75]])
B = np.array([[1.0, -0.5], [0.75, 2.0], [-1.5, 0.25]])
C = np.array([[0.5, -2.0]])


def scaled(alpha: float | None, root: int) -> mpf:
    return 1 / mp.sqrt(root) if alpha is None else mpf(alpha)


def product(a: Exact, b: Exact, c: Exact | None = None, *, alpha: float | None = 1.0, root: int = 1, **_: Any) -> Exact:
    y = scaled(alpha, root) * np.asarray(a @ b, dtype=object)
    return y if c is None else y + c


def kernel_of(way: str) -> Any:
    """Where the scale and the addend go; `root`: the standard's definition, everything stored."""

    def kernel(
        machine: Machine, a: Exact, b: Exact, c: Exact | None = None, *, alpha: float | None = 1.0, root: int = 1, **_: Any
    ) -> Exact:
        inner = machine.accumulator_precision or machine.precision
        s = scaled(alpha, root)

        def fl(v: Any, p: int = inner) -> Any:
            return machine.fl(v, p)

        if way == "root":
            k = fl(fl(mp.sqrt(fl(s))), machine.precision)
            a, b = fl(a * k, machine.precision), fl(b * k, machine.precision)
        elif way == "factor":
            a = fl(a * fl(s))
        terms = a[:, :, None] * b[None]
        if way == "folded":  # the sum's blocks scaled, one after the other, on top of the addend
            total = np.zeros(terms[:, 0].shape, dtype=object) + (0 if c is None else c)
            for k in range(terms.shape[1]):
                total = fl(total + fl(fl(s) * fl(terms[:, k])))
            return machine.fl(total)
        y = replace_inner(machine).fl_dot(np.moveaxis(terms, 1, -1))
        y = fl(y * fl(s)) if way == "sum" else y
        return machine.fl(y) if c is None else machine.fl(machine.fl(y) + c)

    return kernel


def replace_inner(machine: Machine) -> Machine:
    """The same machine, delivering what its accumulator holds."""
    return Machine(machine.accumulator_precision or machine.precision, machine.emin, machine.emax, rng=machine.rng)


@pytest.mark.parametrize("way", ["root", "factor", "sum", "folded"])
@pytest.mark.parametrize(("alpha", "root"), [(None, 3), (3.0, 1)])
def test_scale_anywhere(way: str, alpha: float | None, root: int) -> None:
    for addend in ([], [(C, C + 0.25)]):
        check_rule(
            lookup("certify", "RescaledMatMul", 1),
            [((A, A + 0.125), (B - 0.25, B), *addend)],
            [(A, B, *(x[0] for x in addend)), (A * 2.0**-12, B, *(x[0] for x in addend))],
            oracle=product,
            attributes={"alpha": alpha, "root": root, "prescaled": True},
            kernel=kernel_of(way),
            machines=(E4M3, MIXED),
            radii=(0.0, 0.125),
        )


@pytest.mark.parametrize("way", ["root", "factor", "sum", "folded"])
def test_addend_near_the_largest_number(way: str) -> None:
    """The lowest number as a mask: nothing overflows, and the bound says so."""
    C = np.array([[-E4M3.max, 224.0]])
    rule, attributes = lookup("certify", "RescaledMatMul", 1), {"alpha": 0.5, "root": 1, "prescaled": True}
    kernel = kernel_of(way)
    check_rule(
        rule,
        [tuple((x, x) for x in (A / 32, B, C))],
        oracle=product,
        attributes=attributes,
        kernel=kernel,
        machines=(E4M3,),
        radii=(0.0, 0.0),
    )
    X = tuple(Enclosure.point(x[None]) for x in (A / 32, B, C))
    assert np.isfinite(rule.rounding(X, (None,) * 3, E4M3, rule.enclose(X, **attributes).mag, [0.0] * 3, **attributes)).all()


def test_plain_product_of_weights() -> None:
    check_rule(
        lookup("certify", "RescaledMatMul", 1),
        [((abs(A) / 4, abs(A) / 4), (B - 0.25, B))],
        [(abs(A) / 4, B)],
        oracle=product,
        attributes={"unnormalized": True},
        kernel=kernel_of("sum"),
        machines=(E4M3, MIXED),
        radii=(0.0, 0.125),
    )


@pytest.mark.parametrize(
    ("name", "verb", "tell", "law"),
    [
        ("RescaledMatMul", "linearize", steeper, "remainder"),
        ("RescaledMatMul", "linearize", inward_remainder, "remainder"),
        ("RescaledMatMul", "enclose", rounded_to_nearest, "inclusion"),
        ("RescaledMatMul", "rounding", lambda b, *_: 0.15 * b, "rounding"),
        ("MaskedSoftmax", "linearize", steeper, "remainder"),
        ("MaskedSoftmax", "modulus", lambda m, *_: 0.5 * m, "modulus >="),
        ("MaskedSoftmax", "rounding", lambda b, *_: 0.03 * b, "rounding"),
    ],
)
def test_lies_are_caught(name: str, verb: str, tell: Any, law: str) -> None:
    liar = Liar(lookup("certify", name, 1), verb, tell)
    with pytest.raises(LawBroken, match=f"^{law}"):
        examine(liar)


def examine(rule: Any) -> None:
    if rule.name == "MaskedSoftmax":
        check_rule(rule, [((ROW, ROW + 0.25),)], [(ROW,)], oracle=softmax, kernel=online(64, True, base=True))
    else:
        attributes = {"alpha": None, "root": 3, "prescaled": True}
        check_rule(rule, [((A, A + 0.125), (B - 0.25, B))], [(A, B)], oracle=product, attributes=attributes, kernel=kernel_of("root"))


def test_irrational_scale_is_enclosed() -> None:
    honest = lookup("certify", "RescaledMatMul", 1)
    x = (Enclosure.point(A[None]), Enclosure.point(B[None]))
    exactly = product(exact(A), exact(B), alpha=None, root=3)
    Y = honest.enclose(x, alpha=None, root=3)
    assert all(mpf(lo) <= y <= mpf(hi) for lo, y, hi in zip(Y.lo.flat, exactly.flat, Y.hi.flat, strict=True))
