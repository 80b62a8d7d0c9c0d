"""The checker's own formulas of rounding, attacked: every number, every tree, every fused addition of a tiny format; and planted lies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from certify.checker import rounding
from certify.checker.kernel import exact
from certify.checker.rounding import FORMATS, UNIT, Format, Wide, summation_error

TINY = Format("tiny", p=3, emin=-2, emax=3)
NUMBERS = sorted({n << UNIT - 4 for n in range(8)} | {n << UNIT - 4 + k for n in range(4, 8) for k in range(6)})
"""All non-negative numbers of TINY, in units: the smallest is 2^-4, the largest 7 * 2."""


def test_the_tiny_format_is_what_it_should_be() -> None:
    assert TINY.tiny == 1 << UNIT - 4
    assert TINY.max == max(NUMBERS) == 14 << UNIT
    assert TINY.normal == 1 << UNIT - 2


@pytest.mark.parametrize(("name", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16), ("fp32", np.float32)])
def test_rounding_agrees_with_the_processor(name: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000) * 2.0 ** rng.integers(-30, 15, 4000)
    halfway = np.asarray(x[:1000].astype(dtype), dtype=np.float64)
    x = np.concatenate([x.astype(np.float32), halfway * (1 + 2.0 ** -FORMATS[name].p)]).astype(np.float32).astype(np.float64)
    n, e = exact(x)
    rounded = [FORMATS[name].nearest(v) for v in n << (UNIT - e)]
    assert [v / 2.0**UNIT for v in rounded] == x.astype(dtype).astype(np.float64).tolist()
    with pytest.raises(rounding.Rejected, match="overflows"):
        FORMATS[name].nearest(2 * FORMATS[name].max)


def test_exact_reads_every_double() -> None:
    x = np.array([0.0, -0.0, 1.0, -1.5, 5e-324, 2.0**-1022, -1.7976931348623157e308, 0.1])
    n, e = exact(x)
    assert [Fraction(v, 1 << e) for v in n] == [Fraction(float(v)) for v in x]
    for wrong in (np.nan, np.inf):
        with pytest.raises(rounding.Rejected):
            exact(np.array([wrong]))


def _half_ulp_holds() -> bool:
    """On a grid four times as fine as the format's, for every m."""
    grid = range(0, TINY.max + 1, TINY.tiny >> 4)
    largest = 0
    for m in grid:
        largest = max(largest, abs(TINY.nearest(m) - m))
        if largest > TINY.half_ulp(m):
            return False
    return all(abs(TINY.nearest(a + b) - a - b) <= TINY.half_ulp(a + b, True) for a in NUMBERS for b in NUMBERS if a + b <= TINY.max)


def test_half_ulp_covers_every_rounding() -> None:
    assert _half_ulp_holds()


def _trees(leaves: tuple[int, ...], fused: bool) -> Iterator[int]:
    """The computed sums over every binary tree; `leaves` are exact, rounded before the addition, or with `fused` one is not."""
    if len(leaves) == 1:
        yield TINY.nearest(leaves[0])
        return
    first, rest = leaves[0], leaves[1:]
    for size in range(len(rest)):
        for chosen in itertools.combinations(range(len(rest)), size):
            left = (first, *(rest[i] for i in chosen))
            right = tuple(rest[i] for i in range(len(rest)) if i not in chosen)
            for a in set(_trees(left, fused)):
                for b in set(_trees(right, fused)):
                    yield TINY.nearest(a + b)
                    if fused and len(right) == 1:
                        yield TINY.nearest(a + right[0])
                    if fused and len(left) == 1:
                        yield TINY.nearest(left[0] + b)


def _sums_hold(leaf: str, cases: int = 400) -> bool:
    """Terms that are numbers of the format ("exact"), or products of such, of which one may be fused into its addition."""
    rng = np.random.default_rng(3)
    small = [n for n in NUMBERS if n <= 3 << UNIT]
    for case in range(cases):
        count = int(rng.integers(1, 5))
        signs = rng.choice([-1, 1], count + 1)
        terms = [int(s) * small[i] for s, i in zip(signs, rng.integers(0, len(small), count), strict=False)]
        if leaf == "rounded":
            terms = [t * small[i] >> UNIT for t, i in zip(terms, rng.integers(0, len(small), count), strict=True)]
        addend = int(signs[-1]) * small[int(rng.integers(len(small)))] if case % 2 else 0
        leaves = (*terms, addend) if addend else tuple(terms)
        total = sum(leaves)
        size, largest = sum(map(abs, terms)), max(map(abs, terms))
        try:
            bound = summation_error(sum(t != 0 for t in terms), size, abs(addend), abs(total), largest, TINY, leaf)
        except rounding.Rejected:
            continue
        if any(abs(s - total) > bound for s in set(_trees(leaves, leaf == "rounded"))):
            return False
    return True


@pytest.mark.parametrize("leaf", ["exact", "rounded"])
def test_sums_in_every_order(leaf: str) -> None:
    assert _sums_hold(leaf)


def _figueroa_holds() -> bool:
    """One addition or product of stored numbers, computed in fp32 and then stored, stays within `once`."""
    rng = np.random.default_rng(5)
    for name in ("fp16", "bf16"):
        wide, storage = Wide(FORMATS[name]), FORMATS[name]
        for _ in range(1500):
            a, b = (storage.nearest(int(rng.integers(1, 1 << 16)) << UNIT - int(rng.integers(8, 40))) for _ in range(2))
            for value in (a + b, a - b, a * b >> UNIT):
                computed = storage.nearest(FORMATS["fp32"].nearest(value))
                quantum = min(a & -a, b & -b) if value != a * b >> UNIT else 0
                if abs(computed - value) > wide.once(abs(value), quantum):
                    return False
    return True


def test_single_operations() -> None:
    assert _figueroa_holds()


def _means_hold() -> bool:
    """Means of 2^k fp16 numbers in fp32, added in any order, down to subnormals."""
    rng = np.random.default_rng(7)
    wide, storage, acc = Wide(FORMATS["fp16"]), FORMATS["fp16"], FORMATS["fp32"]
    for _ in range(400):
        k, scale = int(rng.integers(1, 4)), int(rng.integers(10, 40))
        terms = [storage.nearest(int(v) << UNIT - scale) for v in rng.integers(-(1 << 14), 1 << 14, 1 << k)]
        computed = terms[:]
        while len(computed) > 1:
            i, j = rng.choice(len(computed), 2, replace=False)
            joined = acc.nearest(computed[i] + computed[j])
            computed = [c for at, c in enumerate(computed) if at not in (i, j)] + [joined]
        mean = storage.nearest(acc.nearest(computed[0] >> k))
        size, total = -(-sum(map(abs, terms)) >> k), -(-abs(sum(terms)) >> k)
        bound = wide.mean(k, sum(t != 0 for t in terms), size, total, -(-max(map(abs, terms)) >> k))
        if abs((mean << k) - sum(terms)) > bound << k:
            return False
    return True


def test_means() -> None:
    assert _means_hold()


HONEST = {"half_ulp": Format.half_ulp, "summation": summation_error, "grown": rounding._grown, "once": Wide.once, "store": Wide.store}


def _halved(name: str) -> Callable[..., int]:
    return lambda *a, **k: HONEST[name](*a, **k) // 2  # type: ignore[operator,no-any-return]


LIES: dict[str, tuple[object, str, Callable[..., object], Callable[[], bool]]] = {
    "half of half an ulp": (Format, "half_ulp", _halved("half_ulp"), _half_ulp_holds),
    "no underflow": (Format, "eta", property(lambda self: 0), _half_ulp_holds),  # type: ignore[dict-item]
    "a larger smallest normal number": (Format, "normal", property(lambda self: 4 << UNIT), _half_ulp_holds),  # type: ignore[dict-item]
    "half a sum's error": (rounding, "summation_error", _halved("summation"), lambda: _sums_hold("rounded")),
    "one addition forgotten": (rounding, "_grown", lambda m, t, cap, acc: HONEST["grown"](m - 1, t, cap, acc), lambda: _sums_hold("exact")),
    "half of every addition": (rounding, "_grown", _halved("grown"), lambda: _sums_hold("exact")),
    "half of one operation": (Wide, "once", _halved("once"), _figueroa_holds),
    "half of the last rounding": (Wide, "store", _halved("store"), _means_hold),
    "multiples of the quantum always exact": (Wide, "once", lambda self, m, q: 0 if q else HONEST["once"](self, m, q), _figueroa_holds),
}


@pytest.mark.parametrize("lie", LIES)
def test_planted_lies_are_caught(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, lying, holds = LIES[lie]
    monkeypatch.setattr(owner, name, lying)
    if name == "summation_error":
        monkeypatch.setitem(globals(), name, lying)
    assert not holds()
