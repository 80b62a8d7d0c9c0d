"""Wrong bilinear and linear rules, each of which the kit must catch by the law that it breaks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, mul_up
from certify.semantics.contract import Linearization, lookup
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.linear import Linear
from certify.semantics.ops import arithmetic, batch_normalization, contraction, pooling, reduction  # noqa: F401
from certify.semantics.ops.contraction import MatrixProduct
from certify.semantics.ops.division import Quotient
from tests.laws.kit import LawBroken, check_rule, elementwise
from tests.laws.machine import Machine
from tests.laws.test_contraction import matmul_kernel, matmul_oracle

rng = np.random.default_rng(23)


def box(*shape: int) -> tuple[Any, Any]:
    lo = rng.normal(size=shape)
    return lo, lo + 0.5 * rng.uniform(size=shape)


@dataclass(frozen=True)
class Lie:
    """A rule with some verbs replaced."""

    rule: Any
    verbs: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.verbs[name] if name in self.verbs else getattr(self.rule, name)


MATMUL: Bilinear = lookup("", "MatMul", 13)  # type: ignore[assignment]
MATRICES = (box(2, 2), box(2, 2))


def caught(rule: Any, law: str, boxes: Any = (MATRICES,), points: Any = (), oracle: Any = matmul_oracle, **options: Any) -> None:
    with pytest.raises(LawBroken, match=law):
        check_rule(rule, list(boxes), list(points), oracle=oracle, **({"radii": (0.0, 0.125)} | options))


def test_the_true_rule_passes() -> None:
    check_rule(MATMUL, [MATRICES], oracle=matmul_oracle, kernel=matmul_kernel, radii=(0.0, 0.125))


def test_forgotten_gamma() -> None:
    def enclose(X: Any, **_: Any) -> Enclosure:
        return Enclosure.point(MATMUL.value(*(x.mid for x in X)))

    point = (np.array([[0.1, 0.2, 0.3]]), np.array([[0.7], [0.9], [-1.1]]))
    caught(Lie(MATMUL, {"enclose": enclose}), "inclusion", boxes=(), points=[point])


def test_forgotten_radius() -> None:
    def enclose(X: Any, **_: Any) -> Enclosure:
        return MATMUL.enclose((X[0], Enclosure.point(X[1].mid)))

    caught(Lie(MATMUL, {"enclose": enclose}), "inclusion")


class _Swapped(MatrixProduct):
    def right(self, a: Array, A: Array, shape: Any, **attributes: Any) -> Array:
        return super().right(a, A.swapaxes(-1, -2), shape)


class _Left(MatrixProduct):
    def left(self, a: Array, B: Array, shape: Any, **attributes: Any) -> Array:
        return super().left(a, B, shape) * 1.01


@pytest.mark.parametrize("form", [_Swapped(), _Left()], ids=["right not transposed", "left off by 1 %"])
def test_wrong_pull(form: Any) -> None:
    caught(replace(MATMUL, form=form), "pull")


def _with(change: Any) -> Any:
    def linearize(X: Any, r: Any, **attributes: Any) -> Linearization:
        return change(MATMUL.linearize(X, r, **attributes), X, r)

    return Lie(MATMUL, {"linearize": linearize, "modulus": _consistent(linearize)})


def _consistent(linearize: Any) -> Any:
    """The modulus that follows from a linearization, so that the lie contradicts nothing but the truth."""

    def modulus(X: Any, r: Any, **attributes: Any) -> Array:
        L = linearize(X, r, **attributes)
        return add_up(L.magnitude(r), L.radius)

    return modulus


def test_remainder_without_the_product_of_the_deviations() -> None:
    def change(L: Linearization, X: Any, r: Any) -> Linearization:
        if r[0] is None or r[1] is None:
            return L
        return replace(L, radius=add_up(np.matmul(r[0], X[1].rad), np.matmul(X[0].rad, r[1])))

    caught(_with(change), "remainder")


def test_remainder_without_the_width_of_the_box() -> None:
    def change(L: Linearization, X: Any, r: Any) -> Linearization:
        thin = [Enclosure.point(x.mid) for x in X]
        return replace(L, radius=MATMUL.linearize(thin, r).radius)  # type: ignore[arg-type]

    caught(_with(change), "remainder")


def test_slope_off_by_one_percent() -> None:
    def change(L: Linearization, X: Any, r: Any) -> Linearization:
        return replace(L, push=lambda d: 1.01 * L.push(d), pull=lambda a: [None if p is None else 1.01 * p for p in L.pull(a)])

    caught(_with(change), "magnitude|remainder")


@dataclass(frozen=True)
class Sharp(Machine):
    """The same machine with n u sum |a_i b_i| for a dot product (Jeannerod and Rump), nothing to spare."""

    def dot(self, n: int, magnitude: Array, total: Array, largest: Array, addend: Any = 0.0, *more: Any) -> Array:
        return mul_up(n * 2.0**-self.precision, magnitude)


SHARP = Sharp(precision=3, emin=-14, emax=15)
TWO_TERMS = (np.array([[1.25, 0.5]]), np.array([[1.75], [0.5]]))  # products 2.1875 and 0.25 become 2 and 0.25, their sum 2


@dataclass(frozen=True)
class Short:
    """An arithmetic that is told of one term too few, or of |sum| instead of the sum of magnitudes."""

    machine: Machine
    fewer: int = 0
    confused: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)

    def dot(self, n: int, magnitude: Array, total: Array, largest: Array, addend: Any = 0.0, *more: Any) -> Array:
        return self.machine.dot(n - self.fewer, total if self.confused else magnitude, total, largest, addend)


def _rounded_by(**options: Any) -> Any:
    def rounding(X: Any, r: Any, machine: Machine, *more: Any, **attributes: Any) -> Array:
        return MATMUL.rounding(X, r, Short(machine, **options), *more, **attributes)  # type: ignore[arg-type]

    return Lie(MATMUL, {"rounding": rounding})


def test_a_dot_product_with_a_term_too_few() -> None:
    check_rule(MATMUL, [], [TWO_TERMS], oracle=matmul_oracle, kernel=matmul_kernel, machines=(SHARP,), radii=(0.0, 2.0**-40))
    caught(_rounded_by(fewer=1), "rounding", (), [TWO_TERMS], kernel=matmul_kernel, machines=(SHARP,))


def test_cancellation_mistaken_for_accuracy() -> None:
    point = (np.array([[1.25, -1.25]]), np.array([[1.75], [1.5]]))
    caught(_rounded_by(confused=True), "rounding", (), [point], kernel=matmul_kernel, machines=(SHARP,))


def test_sub_pulling_a_sum() -> None:
    sub: Linear = lookup("", "Sub", 14)  # type: ignore[assignment]
    lie = replace(sub, transpose=lambda a, shapes: [arithmetic.collect(a, shape) for shape in shapes])
    caught(lie, "pull", [(box(2), box(2))], oracle=elementwise(lambda a, b: a - b))


def test_mean_that_forgets_to_divide_its_pull() -> None:
    mean: Linear = lookup("", "ReduceMean", 18)  # type: ignore[assignment]
    total: Linear = lookup("", "ReduceSum", 13)  # type: ignore[assignment]
    caught(replace(mean, transpose=total.transpose), "pull", [(box(3),)], oracle=lambda x: np.array([x.sum() / 3], dtype=object))


def test_mean_that_forgets_to_round_its_division() -> None:
    mean: Linear = lookup("", "ReduceMean", 18)  # type: ignore[assignment]

    def summed(machine: Any, sizes: Any, **_: Any) -> Array:
        return np.asarray(machine.sum(sizes.terms, sizes.magnitude, sizes.magnitude, sizes.magnitude))

    def kernel(machine: Any, x: Any) -> Any:
        return machine.fl(np.array([machine.fl_sum(x[None])[0] / 3], dtype=object))

    third = (np.array([1.0, 0.0, 0.0]),)
    check_rule(mean, [], [third], oracle=lambda x: np.array([x.sum() / 3], dtype=object), kernel=kernel, radii=(0.0, 2.0**-40))
    lie = replace(mean, kernel=lambda machine, sizes: 0.0 * summed(machine, sizes))
    caught(lie, "rounding", [], [third], oracle=lambda x: np.array([x.sum() / 3], dtype=object), kernel=kernel)


def test_quotient_without_the_deviation_of_the_divisor() -> None:
    div = Quotient(13)

    def linearize(X: Any, r: Any, **attributes: Any) -> Linearization:
        return replace(div.linearize(X, r), radius=div.linearize(X, (r[0], None)).radius)

    caught(
        Lie(div, {"linearize": linearize, "modulus": _consistent(linearize)}),
        "remainder",
        [(box(2), (np.array([1.0, 2.0]),) * 2)],
        oracle=elementwise(lambda a, b: a / b),
    )
