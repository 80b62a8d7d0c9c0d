"""Formats, and what rounding costs in them: the checker's own statements, in integers.

An integer n stands for n units, a unit being 2^-256. Sources: IEEE 754-2019; Kalamkar et al. 2019 (bf16);
Jeannerod & Rump 2013 (sums); Figueroa 1995 (double rounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

UNIT = 256


class Rejected(Exception):
    """The bound can't be proved, or the hints are no numbers of the right shape."""


class Unsupported(Exception):
    """Something that the checker has no rule for."""


Ints: TypeAlias = npt.NDArray[np.object_]
N = TypeVar("N", int, Ints)


def down(n: N, bits: int) -> N:
    """floor(n / 2^bits)."""
    shifted: N = n >> bits
    return shifted


def up(n: N, bits: int) -> N:
    """ceil(n / 2^bits)."""
    shifted: N = -((-n) >> bits)
    return shifted


@dataclass(frozen=True)
class Format:
    """Precision p (the hidden bit included), exponents of the smallest normal number and of the largest binade; magnitudes in units."""

    name: str
    p: int
    emin: int
    emax: int

    @property
    def max(self) -> int:
        return ((1 << self.p) - 1) << (self.emax - self.p + 1 + UNIT)

    @property
    def tiny(self) -> int:
        """The smallest positive number, rounded up to a unit."""
        return 1 << max(0, self.emin - self.p + 1 + UNIT)

    @property
    def eta(self) -> int:
        """Half of it: the largest error due to underflow, rounded up to a unit."""
        return 1 << max(0, self.emin - self.p + UNIT)

    @property
    def normal(self) -> int:
        """The smallest normal number, rounded down to units."""
        return 1 << (self.emin + UNIT) if self.emin + UNIT >= 0 else 0

    def nearest(self, n: int) -> int:
        """n units rounded into the format, ties to even. Raises Rejected on overflow."""
        place = max(abs(n).bit_length() - self.p, self.emin - self.p + 1 + UNIT)
        if place > 0:
            low, half = n & ((1 << place) - 1), 1 << (place - 1)
            n = (n >> place) + (low > half or (low == half and (n >> place) & 1 == 1)) << place
        if abs(n) > self.max:
            raise Rejected(f"a constant or input overflows {self.name}")
        return n

    def half_ulp(self, m: int, addition: bool = False) -> int:
        """The largest error of rounding any |v| <= m to nearest: max(u f/2, min(m - f, u f), eta), f = 2^floor(log2 m).

        Below f the spacing is at most 2u f/2; from f on 2u f, and f itself is a number of the format, no farther than m - f.
        A sum of two numbers of the format is a multiple of the smallest one: exact up to twice the smallest normal
        number, and without eta. Raises Rejected where m exceeds the largest number.
        """
        if m == 0 or (addition and m <= 2 * self.normal):
            return 0
        if m > self.max:
            raise Rejected(f"a result may overflow {self.name}")
        f = 1 << (m.bit_length() - 1)
        return max(up(f, self.p + 1), min(m - f, up(f, self.p)), 0 if addition else self.eta)


_KNOWN = (Format("fp64", 53, -1022, 1023), Format("fp32", 24, -126, 127), Format("bf16", 8, -126, 127), Format("fp16", 11, -14, 15))
FORMATS = {format.name: format for format in _KNOWN}


def summation_error(n: int, size: int, addend: int, total: int, largest: int, acc: Format, leaf: str) -> int:
    """The error of adding n terms t_i and (if not 0) one addend c in the format `acc`, in any order, with or without FMA.

    size >= sum |t_i|, addend >= |c|, total >= |sum t_i + c|, largest >= max |t_i|; terms that are exactly 0 need not be counted,
    adding them is exact. leaf: the terms are "exact" in acc, or "rounded" into it (products), or exact unless they "underflow".
    With m leaves, A = size + addend, v = u for rounded leaves and else 0, w = u (1 + v), every computed sum of leaves with
    absolute sum B is off by at most (m - 1) w B + v B (Jeannerod & Rump 2013, by induction; no condition on m u), so the whole
    by `theorem`. Or, error by error: each of the m - 1 additions costs half an ulp of its exact result, which is at most
    - reach: subset sums lie in [-N, P], max(P, N) = (A + |sum|) / 2, plus the errors below;
    - j t^ at the j-th smallest node, which has at most j leaves, for t^ >= max |t_i| with few enough bits that all j t^,
      j <= m, are numbers of acc: rounding is monotone.
    Underflow is at most eta at each leaf that is not exact; additions have none.
    """
    m = n + (addend > 0)
    if n == 0 or size == 0 or (m == 1 and leaf == "exact"):
        return 0
    rounded = leaf == "rounded"
    lost = 0 if leaf == "exact" else n * acc.eta
    A, top, largest = size + addend + lost, min(largest, size), max(min(largest, size), addend)
    subset = min(A, up(size + addend + total, 1) + lost)

    def below(B: int) -> int:
        v = up(B, acc.p) if rounded else 0
        return up((m - 1) * (B + v), acc.p) + v

    theorem = up((m - 1) * (A + (up(A, acc.p) if rounded else 0)), acc.p) + (up(size + lost, acc.p) if rounded else 0) + lost
    leaves = (min(up(size, acc.p), n * acc.half_ulp(top)) if rounded else 0) + lost
    one = 1 << (2 * acc.p)
    reach = subset + below(subset) if below(one) <= one else A + below(A)
    kept = acc.p - (m - 1).bit_length()
    step = max(1 << max(0, largest.bit_length() - kept), acc.tiny)
    t = -(-largest // step) * step if kept >= 1 else None
    if max(largest, min(reach, reach if t is None else m * t)) > acc.max:
        raise Rejected(f"a partial sum may overflow {acc.name}")
    cap = acc.half_ulp(min(reach, acc.max), addition=True)
    return min(theorem, leaves + min((m - 1) * cap, (m - 1) * cap if t is None else _grown(m, t, cap, acc)))


def _grown(m: int, t: int, cap: int, acc: Format) -> int:
    """sum over j = 2..m of min(cap, half an ulp of j t), the j of one binade [f, 2f) at a time: u f each, u f/2 at j t = f."""
    cost, j = 0, 2
    while j <= m:
        f = 1 << ((j * t).bit_length() - 1)
        end = min(m, (2 * f - 1) // t)
        each = 0 if f < 2 * acc.normal else up(f, acc.p)
        first = min(cap, up(each, 1) if j * t == f else each)
        cost, j = cost + first + (end - j) * min(cap, each), end + 1
    return cost


@dataclass(frozen=True)
class Wide:
    """The profile `wide`: kernels compute in fp32 (fp64 for fp64), to nearest, sum in any order, and round once into storage."""

    storage: Format

    @property
    def acc(self) -> Format:
        return FORMATS["fp64" if self.storage.name == "fp64" else "fp32"]

    @property
    def leaf(self) -> str:
        """A product of two stored numbers in acc."""
        if 2 * self.storage.p > self.acc.p:
            return "rounded"
        return "exact" if 2 * (self.storage.emin - self.storage.p) >= self.acc.emin - self.acc.p - 1 else "underflow"

    def store(self, magnitude: int, error: int) -> int:
        """A result that is at most `magnitude`, off by `error` in acc, written to storage."""
        return error if self.storage == self.acc else error + self.storage.half_ulp(magnitude + error)

    def once(self, magnitude: int, quantum: int) -> int:
        """One addition or multiplication of stored numbers; `quantum` divides its result (0: unknown).

        Rounding to p' >= 2p + 2 bits and then to p is one rounding (Figueroa 1995), but below the normal numbers both etas may
        be lost. A multiple of the quantum up to 2^p quanta is a number of storage, provided the smallest number divides it.
        """
        if quantum >= self.storage.tiny and magnitude <= min(quantum << self.storage.p, self.storage.max):
            return 0
        if self.storage == self.acc or magnitude == 0:
            return self.storage.half_ulp(magnitude)
        return max(self.storage.half_ulp(magnitude), self.storage.eta + self.acc.eta)

    def mean(self, k: int, n: int, size: int, total: int, largest: int) -> int:
        """The mean of 2^k stored numbers t_i, n of them not 0: `size` >= 2^-k sum |t_i|, `total` >= |mean|, `largest` >= 2^-k max |t_i|.

        The sum, then a division that is exact but for underflow, then the store.
        """
        if n == 0:
            return 0
        added = summation_error(n, size << k, 0, total << k, largest << k, self.acc, "exact")
        return self.store(total, up(added, k) + self.acc.eta)
