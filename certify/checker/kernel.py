"""The kernel of the checker: re-proves the bounds of a certificate, in integers, from the model, the inputs and hints.

It imports nothing of certify beyond its own package, and does no floating-point arithmetic: values are whole units of 2^-256,
coefficients (weights, multipliers, slopes) integers with an exponent of their own. Sums and products are exact; what is shifted
back to units is rounded down for values (where that loses anything, a unit of defect joins the noise) and up for bounds.

What is proved. Let z be the real values of the model with constants and inputs as stored, e = computed - z. At each step
e = L e_parents + shift + (within rho) + (within beta): L any linear map, beta what the kernel rounds, shift and rho the
centre and radius of what L misses while the parents stay within their tubes, |e| <= r. With d = L d_parents + shift,
|e - d| <= spread = r + |d|, noise = rho + beta and **any** multipliers a_k, summing both sides against them gives

    |c.e_t| <= |c.d_t| + sum_k |a_k|.noise_k + sum_k |c [k = t] + sum_children L^T a_child - a_k|.spread_k      (weak duality).

Hints are the multipliers, and the slopes L of maxima. None is trusted: every choice gives a true bound, a bad one a larger bound.
Tubes are no hints: each is computed here, the lesser of |L| r + |shift| + noise and of the bound above for its elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from flint import fmpz_mat

from certify.checker.rounding import Ints, Rejected, Wide, down, summation_error, up

SLOPE = 64  # slopes are multiples of 2^-64


Indices: TypeAlias = npt.NDArray[np.intp]


def zeros(*shape: int) -> Ints:
    return np.full(shape, 0, dtype=object)


def exact(x: npt.NDArray[np.float64]) -> tuple[Ints, int]:
    """(n, e), x = n 2^-e exactly, e >= 0 the least. Raises Rejected for NaN and infinities."""
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        raise Rejected("a number is NaN or infinite")
    significand, exponent = np.frexp(x)
    integer = np.ldexp(significand, 53).astype(np.int64)
    trailing = np.frexp((integer & -integer).astype(np.float64))[1] - 1
    integer, place = integer >> np.maximum(trailing, 0), exponent - 53 + trailing
    e = max(0, -int(np.min(place, where=integer != 0, initial=0)))
    return np.asarray(integer.astype(object) << np.where(integer == 0, 0, place + e).astype(object), dtype=object), e


def lowest(n: Any) -> Any:
    """The largest power of two that divides each integer; 2^1024 for 0, which anything divides."""
    return np.where(np.equal(n, 0), 1 << 1024, n & -n) if isinstance(n, np.ndarray) else (n & -n or 1 << 1024)


def product(A: Ints, B: Ints) -> Ints:
    """The matrix product of integers, exactly."""
    if not A.size or not B.size:
        return zeros(A.shape[0], B.shape[1])
    C = fmpz_mat(A.shape[0], A.shape[1], A.ravel().tolist()) * fmpz_mat(B.shape[0], B.shape[1], B.ravel().tolist())
    return np.array([int(n) for n in C.entries()], dtype=object).reshape(A.shape[0], B.shape[1])


def dot(A: Ints, x: Ints) -> Ints:
    return product(A, x.reshape(-1, 1)).reshape(-1)


# --- linear maps ---


def _floor(n: Ints, bits: int) -> tuple[Ints, Ints]:
    whole = down(n, bits)
    return whole, np.where((whole << bits) == n, 0, 1)


def _add_at(total: Ints, columns: Indices, part: Ints) -> None:
    """total[:, columns] += part, also where a column is named twice."""
    place: Any = (slice(None), columns)
    np.add.at(total, place, part)


@dataclass(frozen=True)
class Dense:
    """Blocks (W, into, out): y[out[o, p]] = sum_k W[o, k] 2^-e x[into[k, p]], where into = -1 reads 0."""

    blocks: Sequence[tuple[Ints, Indices, Indices]]
    size: int
    count: int
    e: int

    def push(self, x: Ints) -> tuple[Ints, Ints]:
        """L x rounded down to units, and by how many units at most."""
        return _floor(self._apply(x, [W for W, _, _ in self.blocks]), self.e)

    def reach(self, x: Ints) -> Ints:
        """|L| x, rounded up."""
        return up(self._apply(x, [np.abs(W) for W, _, _ in self.blocks]), self.e)

    def _apply(self, x: Ints, weights: Sequence[Ints]) -> Ints:
        y, x = zeros(self.count), np.append(x, 0)
        for W, (_, into, out) in zip(weights, self.blocks, strict=True):
            y[out] = product(W, x[into])
        return y

    def nonzero(self, x: Ints) -> Ints:
        """How many products of each element have two factors other than 0."""
        return self._apply(np.where(x == 0, 0, 1).astype(object), [np.where(W == 0, 0, 1).astype(object) for W, _, _ in self.blocks])

    def largest(self, x: Ints) -> Ints:
        """max_k |W[o, k]| x[into[k, p]], rounded up."""
        y, x = zeros(self.count), np.append(x, 0)
        for W, into, out in self.blocks:
            for k in range(W.shape[1]):
                y[out] = np.maximum(y[out], np.multiply.outer(np.abs(W[:, k]), x[into[k]]))
        return up(y, self.e)

    def pull(self, a: Ints) -> tuple[Ints, int]:
        """(n, e), L^T a = n 2^-e for rows a."""
        rows, result = a.shape[0], zeros(a.shape[0], self.size + 1)
        for W, into, out in self.blocks:
            columns = a[:, out].transpose(1, 0, 2).reshape(W.shape[0], -1)
            parts = product(W.T, columns).reshape(W.shape[1], rows, -1)
            for k in range(W.shape[1]):
                _add_at(result, into[k], parts[k])
        return result[:, :-1], self.e


@dataclass(frozen=True)
class Mix:
    """y[j] = sum_c n[j, c] 2^-e x[into[j, c]], where into = -1 reads 0."""

    n: Ints
    into: Indices
    size: int
    e: int

    @property
    def count(self) -> int:
        return len(self.into)

    def push(self, x: Ints) -> tuple[Ints, Ints]:
        return _floor((self.n * np.append(x, 0)[self.into]).sum(axis=1), self.e)

    def reach(self, x: Ints) -> Ints:
        return up((np.abs(self.n) * np.append(x, 0)[self.into]).sum(axis=1), self.e)

    def pull(self, a: Ints) -> tuple[Ints, int]:
        result = zeros(a.shape[0], self.size + 1)
        for c in range(self.n.shape[1]):
            _add_at(result, self.into[:, c], a * self.n[:, c])
        return result[:, :-1], self.e


Map: TypeAlias = Dense | Mix

# --- steps ---


@dataclass(frozen=True)
class Linear:
    """output = sum of maps of operands + addend. rounding: "dot" (one Dense map and the addend), "mean" (its terms added, then
    divided by a power of two), "once" (one addition or multiplication) or "none" (a movement)."""

    output: str
    maps: Sequence[tuple[str, Map]]
    addend: Ints | None
    rounding: str


@dataclass(frozen=True)
class Largest:
    """output[j] = the largest of operand[into[j, c]] over c (-1: no candidate) and, with `zero`, of 0: Relu, MaxPool."""

    output: str
    operand: str
    into: Indices
    zero: bool


Step: TypeAlias = Linear | Largest
Numbers: TypeAlias = npt.NDArray[np.float64]
Hints: TypeAlias = Mapping[str, tuple[Indices, Mapping[str, Numbers]]]


@dataclass
class Pass:
    """One run through the model's steps: per value z, tube r, centre d, noise, quantum, and the step's linear maps.

    wide: None bounds |exact - z| alone. slopes: by maximum, (elements, candidates). hints: (rows, multipliers) by target.
    """

    wide: Wide | None
    slopes: Mapping[str, Numbers] = field(default_factory=dict)
    hints: Hints = field(default_factory=dict)
    z: dict[str, Ints] = field(default_factory=dict)
    r: dict[str, Ints] = field(default_factory=dict)
    d: dict[str, Ints] = field(default_factory=dict)
    noise: dict[str, Ints] = field(default_factory=dict)
    quantum: dict[str, Ints] = field(default_factory=dict)
    maps: dict[str, Sequence[tuple[str, Map]]] = field(default_factory=dict)

    def given(self, name: str, z: Ints) -> None:
        """An input, known exactly."""
        self.z[name], self.r[name], self.d[name], self.quantum[name] = z, zeros(z.size), zeros(z.size), lowest(z)

    def take(self, step: Step) -> None:
        """One more step. Raises Rejected where a result may overflow, or a hint is malformed."""
        if isinstance(step, Largest):
            arriving, divisor = self._largest(step)
        else:
            arriving, divisor = self._linear(step)
        name = step.output
        self.r[name], self.quantum[name] = arriving, divisor
        if name in self.hints:
            self._refine(name, *self.hints[name])
        if self.wide is None:
            return
        if isinstance(step, Linear) and step.rounding != "none":
            beta = self._born(step, self.wide, np.abs(self.z[name]) + self.r[name], divisor)
            self.noise[name], self.r[name] = self.noise[name] + beta, self.r[name] + beta
        # A stored number that is at least |z| - r in size is a multiple of that binade's last place.
        storage, least = self.wide.storage, np.maximum(np.abs(self.z[name]) - self.r[name], 0)
        grid = np.array([max(storage.tiny, 1 << max(0, m.bit_length() - storage.p)) for m in least], dtype=object)
        self.quantum[name] = np.maximum(grid, divisor)

    def _push(self, output: str, x: Mapping[str, Ints], start: Ints) -> tuple[Ints, Ints]:
        """start + the sum of the step's maps, rounded down, and by how many units at most."""
        total, lost = start, zeros(start.size)
        for name, m in self.maps[output]:
            y, less = m.push(x[name])
            total, lost = total + y, lost + less
        return total, lost

    def _arriving(self, output: str, modulus: Ints, shift: Ints, noise: Ints) -> Ints:
        """Centre and noise, beta apart; |f(computed operands) - z| is at most the `modulus`, the defect of z included."""
        self.d[output], lost = self._push(output, self.d, shift)
        self.noise[output] = noise + lost
        return modulus

    def _linear(self, step: Linear) -> tuple[Ints, Ints]:
        """(arriving, a power of two that divides the result; 0: unknown)."""
        self.maps[step.output] = step.maps
        addend = zeros(step.maps[0][1].count) if step.addend is None else step.addend
        z, lost = self._push(step.output, self.z, addend)
        self.z[step.output] = z
        modulus = sum((m.reach(self.r[name]) for name, m in step.maps), lost)
        divisor = zeros(z.size)
        if step.rounding in ("once", "none"):
            parts = [] if step.addend is None else [lowest(step.addend)]
            for name, m in step.maps:
                assert isinstance(m, Mix)
                parts.append(down(np.append(self.quantum[name], lowest(0))[m.into[:, 0]] * lowest(m.n[:, 0]), m.e))
            divisor = np.minimum.reduce(parts)
        return self._arriving(step.output, modulus, zeros(z.size), lost), divisor

    def _born(self, step: Linear, wide: Wide, magnitude: Ints, divisor: Ints) -> Ints:
        """beta; `magnitude` bounds the exact result on every computed operand."""
        if step.rounding == "once":
            return np.array([wide.once(m, q) for m, q in zip(magnitude, divisor, strict=True)], dtype=object)
        name, m = step.maps[0]
        assert isinstance(m, Dense)
        reach = np.abs(self.z[name]) + self.r[name]
        addends = zeros(magnitude.size) if step.addend is None else np.abs(step.addend)
        each = zip(m.nonzero(reach), m.reach(reach), addends, magnitude, m.largest(reach), strict=True)
        if step.rounding == "dot":
            sums = [wide.store(total, summation_error(n, size, c, total, top, wide.acc, wide.leaf)) for n, size, c, total, top in each]
        else:
            sums = [wide.mean(m.e, n, size, total, top) for n, size, _, total, top in each]
        return np.array(sums, dtype=object)

    def _largest(self, step: Largest) -> tuple[Ints, Ints]:
        """max_c (z_c + d_c) - max z - sum_c s_c d_c over |d| <= r, for slopes s_c >= 0 with sum 1.

        At least sum s_c z_c - max z, since a maximum is at least every mean; at most max over c of z_c - max z + (1 - s_c) r_c
        + (the s r of the others). And the maximum moves by no more than the largest r of those that can win: which is the
        remainder where all slopes are 0.
        """
        operand, absent = step.operand, step.into < 0
        never = min(self.z[operand], default=0) - 2 * max(self.r[operand], default=0) - 1  # too low to win or to matter
        z, r, q = (
            np.where(absent, missing, np.append(x[operand], 0)[step.into])
            for x, missing in ((self.z, never), (self.r, 0), (self.quantum, lowest(0)))
        )
        if step.zero:
            z, r, q = (np.hstack([x, zeros(len(x), 1) + constant]) for x, constant in ((z, 0), (r, 0), (q, lowest(0))))
        rows, winner = np.arange(len(z)), np.argmax(z, axis=1)
        top = z[rows, winner]
        s = self._slopes(step, rows, winner, z.shape)
        low = down((s * np.where(s == 0, 0, z)).sum(axis=1), SLOPE) - top
        shared = s * r
        high = (z - top[:, None] + r + up(shared.sum(axis=1)[:, None] - 2 * shared, SLOPE)).max(axis=1)
        moved = np.where(z + r >= (z - r).max(axis=1)[:, None], r, 0).max(axis=1)
        cut = np.equal(s, 0).all(axis=1)
        low, high = np.where(cut, -moved, low), np.where(cut, moved, high)
        shift = down(low + high, 1)
        remainder = np.maximum(high - shift, shift - low)
        self.z[step.output] = top
        self.maps[step.output] = [(operand, Mix(s[:, : step.into.shape[1]], step.into, self.z[operand].size, SLOPE))]
        modulus = np.minimum(moved, up(shared.sum(axis=1), SLOPE) + np.abs(shift) + remainder)
        return self._arriving(step.output, modulus, shift, remainder), q.min(axis=1)

    def _slopes(self, step: Largest, rows: Indices, winner: Indices, shape: tuple[int, ...]) -> Ints:
        """The hinted slopes; 0 gets what those of the operand leave of 1, and so does then the winner at z, all of it without hints.

        Where every hint is 0 and 0 itself is no candidate, so are the slopes.
        """
        s, hint = zeros(*shape), self.slopes.get(step.output)
        if hint is not None:
            if hint.shape != step.into.shape:
                raise Rejected(f"the slopes of {step.output!r} have shape {hint.shape}, expected {step.into.shape}")
            n, e = exact(np.where(step.into < 0, 0.0, hint))
            s[:, : n.shape[1]] = down(n << SLOPE, e)
            if step.zero:
                s[:, -1] = (1 << SLOPE) - s[:, :-1].sum(axis=1)
        s[rows, winner] = 0
        s[rows, winner] = (1 << SLOPE) - s.sum(axis=1)
        if hint is not None and not step.zero:
            s[(hint == 0.0).all(axis=1)] = 0
        if (s < 0).any():
            raise Rejected(f"the slopes of {step.output!r} are no numbers from 0 to 1 with a sum of at most 1")
        return s

    def _refine(self, target: str, rows: Indices, multipliers: Mapping[str, Numbers]) -> None:
        """Lower what arrives at the elements `rows` of the target to what the multipliers prove."""
        size = self.z[target].size
        if rows.ndim != 1 or ((rows < 0) | (rows >= size)).any():
            raise Rejected(f"the rows of {target!r} are no elements of it")
        unit = zeros(rows.size, size)
        unit[np.arange(rows.size), rows] = 1
        total: Ints = np.abs(self.d[target][rows])
        reached: dict[str, tuple[Ints, int]] = {target: (unit, 0)}
        for name in reversed(self.maps):
            if name not in reached:
                continue
            inherited, e = reached.pop(name)
            a, ea = (inherited, e) if name == target else self._multiplier(target, name, inherited.shape, multipliers)
            common = max(e, ea)
            residual = np.abs((inherited << (common - e)) - (a << (common - ea)))
            total = total + up(dot(np.abs(a), self.noise[name]), ea) + up(dot(residual, self.r[name] + np.abs(self.d[name])), common)
            for operand, m in self.maps[name]:
                if a.any() and (self.r[operand].any() or self.d[operand].any()):
                    part, e = m.pull(a)
                    earlier, before = reached.get(operand, (zeros(*part.shape), 0))
                    common = max(before, ea + e)
                    reached[operand] = ((earlier << (common - before)) + (part << (common - ea - e)), common)
        r = self.r[target].copy()
        np.minimum.at(r, rows, total)
        self.r[target] = r

    def _multiplier(self, target: str, name: str, shape: tuple[int, ...], given: Mapping[str, Numbers]) -> tuple[Ints, int]:
        """What the hint says; 0, as good as any, if it says nothing."""
        if name not in given:
            return zeros(*shape), 0
        if given[name].shape != shape:
            raise Rejected(f"the multipliers of {name!r} for {target!r} have shape {given[name].shape}, expected {shape}")
        return exact(given[name])
