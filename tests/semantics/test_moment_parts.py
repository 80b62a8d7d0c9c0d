"""Means and moments in two parts: every rounding of every kernel, made one at a time, has its place in sigma or in bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS
from certify.number.rounding import half_ulp
from certify.number.upward import Array
from certify.profiles import profile_named
from certify.profiles.arithmetic import NearestArithmetic
from certify.semantics.contract import Roundings
from certify.semantics.families.moment_kernel import SHARED, MomentParts, running_parts_of_mean, stored_mean_parts

FP32 = FORMATS["fp32"]
SMALL = 2.0**-10  # of half an ulp: so little is linear


@dataclass
class Kernel:
    """Arithmetic in float64 that disturbs one operation by a small part of what rounding to fp32 may do. shared: constants' operations."""

    disturbed: int
    count: int = 0
    shared: list[int] = field(default_factory=list)

    def __call__(self, exact: Array, constant: bool = False) -> Array:
        if constant:
            self.shared.append(self.count)
        hit = self.count == self.disturbed
        self.count += 1
        return exact + SMALL * half_ulp(np.abs(exact), FP32) if hit else exact


Way = Callable[[Kernel, Array], Array]


def average(k: Kernel, total: Array, n: int) -> Array:
    return k(total * k(np.full_like(total, 1.0 / n), constant=True))


def added(k: Kernel, t: Array) -> Array:
    total = t[0]
    for x in t[1:]:
        total = k(total + x)
    return total


def mean(k: Kernel, x: Array) -> Array:
    return average(k, added(k, x), len(x))


def centred(k: Kernel, x: Array) -> Array:
    d = [k(a - m) for m in [mean(k, x)] for a in x]
    return average(k, added(k, np.stack([k(a * a) for a in d])), len(x))


def uncentred(k: Kernel, x: Array) -> Array:
    m = mean(k, x)
    return k(average(k, added(k, np.stack([k(a * a) for a in x])), len(x)) - k(m * m))


def welford(k: Kernel, x: Array) -> tuple[Array, Array]:
    m, total = x[0], np.zeros_like(x[0])
    for j, a in enumerate(x[1:], 2):
        d = k(a - m)
        m = k(m + k(d * k(np.full_like(d, 1.0 / j), constant=True)))
        total = k(total + k(d * k(a - m)))
    return m, total


def lanes(k: Kernel, x: Array) -> tuple[Array, Array]:
    """Four chains, merged in pairs."""
    parts = [(len(part), *welford(k, part)) for part in np.array_split(x, 4) if len(part)]
    while len(parts) > 1:
        merged = []
        for (na, ma, sa), (nb, mb, sb) in zip(parts[::2], parts[1::2], strict=False):
            n, d = na + nb, k(mb - ma)
            weight = k(np.full_like(d, na * nb / n), constant=True)
            merged.append((n, k(ma + k(d * k(np.full_like(d, nb / n), constant=True))), k(k(sa + sb) + k(k(d * d) * weight))))
        parts = merged + parts[len(parts) - len(parts) % 2 :]
    return parts[0][1:]


WAYS: dict[str, Way] = {
    "centred": centred,
    "uncentred": uncentred,
    "welford": lambda k, x: average(k, welford(k, x)[1], len(x)),
    "lanes": lambda k, x: average(k, lanes(k, x)[1], len(x)),
}
MEANS: dict[str, Way] = {"sum": mean, "welford": lambda k, x: welford(k, x)[0], "lanes": lambda k, x: lanes(k, x)[0]}


def effects(way: Way, x: Array) -> tuple[Array, Array]:
    """(root of the sum of squares over all roundings, sum over those of constants) of what each may do to the result."""
    nothing = Kernel(-1)
    exact = way(nothing, x)
    squares, constant = np.zeros_like(exact), np.zeros_like(exact)
    for j in range(nothing.count):
        effect = np.abs(way(Kernel(j), x) - exact) / SMALL
        if j in nothing.shared:
            constant += effect
        else:
            squares += effect**2
    return np.sqrt(squares), constant


def samples(n: int) -> Array:
    """(n, samples): around zero, far from it, with outliers, of one sign, in two clusters."""
    draw = np.random.default_rng(n)
    z = draw.standard_normal((n, 6))
    outlier = z + np.where(np.arange(n)[:, None] == n // 2, 30.0, 0.0)
    return np.concatenate([z, z + 5.0, z + 300.0, outlier, np.abs(z), np.sign(z) * 4.0 + 0.01 * z], axis=1)


def roundings() -> Roundings:
    arithmetic = profile_named("wide", FP32, None, "any").arithmetic("ReduceMean", [FP32], FP32, False)
    assert isinstance(arithmetic, NearestArithmetic)
    found: Any = arithmetic.independent()
    return cast(Roundings, found)


@pytest.mark.parametrize("n", [2, 3, 7, 16, 40])
@pytest.mark.parametrize("name", WAYS)
def test_roundings_of_a_variance_are_all_counted(name: str, n: int) -> None:
    x = samples(n)
    X = Enclosure.point(x.T[:, None, :])
    parts = MomentParts(X, roundings())
    most = np.var(x, axis=0)[:, None, None] * (1.0 + 1e-12)
    bias, sigma = {"centred": parts.centred_parts, "uncentred": parts.uncentred_parts}.get(name, parts.running_parts)(most)
    squares, constant = effects(WAYS[name], x)
    assert (SHARED * squares <= sigma.reshape(-1) * (1.0 + 2.0 * SMALL)).all()
    assert (constant <= bias.reshape(-1) * (1.0 + 2.0 * SMALL)).all()
    least = {"centred": 0.2, "uncentred": 0.05}.get(name, 0.004)
    assert (SHARED * squares > least * sigma.reshape(-1)).any()  # a bound of these numbers, and no other


@pytest.mark.parametrize("n", [2, 3, 7, 16, 40])
@pytest.mark.parametrize("name", MEANS)
def test_roundings_of_a_mean_are_all_counted(name: str, n: int) -> None:
    x = samples(n)
    size, largest, magnitude = np.abs(x).sum(0), np.abs(x).max(0), np.abs(x.mean(0))
    bias, sigma = (
        stored_mean_parts(roundings(), n, size, magnitude, largest, None, False)
        if name == "sum"
        else running_parts_of_mean(roundings(), n, size, np.minimum(np.sqrt(size / n * largest), largest), largest, magnitude)
    )
    squares, constant = effects(MEANS[name], x)
    assert (squares <= sigma * (1.0 + 2.0 * SMALL)).all()
    assert (constant <= bias * (1.0 + 2.0 * SMALL)).all()
    assert (squares > 0.05 * sigma).any()


def test_a_part_that_is_forgotten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the centred kernel, what the dot product does; of the uncentred one, the mean's own roundings."""
    x = samples(16)
    X = Enclosure.point(x.T[:, None, :])
    most = np.var(x, axis=0)[:, None, None]
    forgetful = MomentParts(X, roundings())
    monkeypatch.setattr(forgetful, "_noted", lambda: np.zeros(()))
    _, sigma = forgetful.centred_parts(most)
    assert (SHARED * effects(centred, x)[0] > sigma.reshape(-1)).any()
    forgetful = MomentParts(X, roundings())
    forgetful.mean_parts = (forgetful.mean_parts[0], 0.0 * forgetful.mean_parts[1])
    monkeypatch.setattr(forgetful, "_noted", lambda: np.zeros(()))
    _, sigma = forgetful.uncentred_parts(most)
    assert (SHARED * effects(uncentred, x)[0] > sigma.reshape(-1)).any()
