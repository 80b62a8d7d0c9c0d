"""`Arithmetic` (semantics/contract.py) of processors that round to nearest in IEEE fashion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.formats import Format
from certify.number.rounding import half_ulp, round_to, rounding_error, ulp
from certify.number.upward import Array, add_up, inflate, lift
from certify.profiles.elementary import Accuracies
from certify.profiles.independent import Independent, unstored
from certify.profiles.order import Order
from certify.profiles.summation import Terms, ordered_error, summation_error, terms_of
from certify.semantics.contract import PartialSums


@dataclass(frozen=True, slots=True)
class NearestArithmetic:
    """One step's roundings, all to nearest.

    storage:     the format of the delivered result.
    compute:     the format in which elementwise operations and elementary functions are computed.
    accumulator: the format in which sums are kept.
    operands:    formats of the floating-point operands, as the kernel sees them.
    accuracies:  what is assumed of elementary functions.
    conversion:  format and mode of an operand converted on entry, or None.
    """

    storage: Format
    compute: Format
    accumulator: Format
    operands: tuple[Format, ...]
    order: Order
    accuracies: Accuracies
    conversion: tuple[Format, str] | None = None

    @property
    def unit_roundoff(self) -> float:
        return max(self.compute.unit_roundoff, self.accumulator.unit_roundoff)

    @property
    def underflow(self) -> float:
        return max(self.compute.eta, self.accumulator.eta)

    def round(self, magnitude: Array, quantum: Array | float = 0.0) -> Array:
        """One operation: rounded once, or once to `compute` and once more to `storage`.

        If compute has p' >= 2p + 2 bits, p those of storage and of all operands, both roundings of + - * / sqrt together
        are one (Figueroa 1995) where the result is a normal number of storage; below, they cost at most both etas.
        Otherwise (integers have no such p) the first rounding's error comes on top, and raises what the second one sees.
        A multiple of `quantum` up to 2^p quantum, quantum at least the smallest number of storage, is a number of both.
        """
        magnitude = np.asarray(magnitude, dtype=np.float64)
        bound = self._two_roundings(magnitude)
        q = np.asarray(quantum, dtype=np.float64)
        if not q.any():
            return bound
        with np.errstate(over="ignore", under="ignore"):
            small = magnitude <= np.minimum(q / self.storage.unit_roundoff, self.storage.max)
        exact = small & (q >= self.storage.smallest_positive)
        return np.where(exact, 0.0, bound)

    def addition(self, magnitude: Array, smaller: Array, quantum: Array | float = 0.0) -> Array:
        """Also at most `smaller`, where both operands are numbers of storage and a + b is rounded once.

        Proof. |a + b - b| = |a|, and b is a number of storage: the nearest number is no farther from a + b than it. Likewise a. Both
        roundings through a wide `compute` are one for normal results (`round`); other sums are multiples of the smallest subnormal, and
        numbers of both. Flushed, a sum below the smallest normal number loses all of itself, |a + b|: less than both sizes, the operands
        being normal numbers, or one of them 0 and the sum a number. Overflow stays what it is.
        """
        born = self.round(magnitude, quantum)
        bits = max((format.precision for format in (self.storage, *self.operands)), default=0)
        once = self.storage.contains(self.compute) or (self.compute.contains(self.storage) and self.compute.precision >= 2 * bits + 2)
        if not once or len(self.operands) != 2 or not all(self.storage.contains(format) for format in self.operands):
            return born
        return np.where(np.isfinite(born), np.minimum(born, smaller), born)

    def _two_roundings(self, magnitude: Array) -> Array:
        if self.storage.contains(self.compute):
            return half_ulp(magnitude, self.compute)
        bits = max(format.precision for format in (self.storage, *self.operands))
        if self.operands and self.compute.contains(self.storage) and self.compute.precision >= 2 * bits + 2:
            once = half_ulp(magnitude, self.storage)
            return np.where(magnitude == 0.0, 0.0, np.maximum(once, self.storage.eta + self.compute.eta))
        first = half_ulp(magnitude, self.compute)
        return add_up(first, half_ulp(add_up(magnitude, first), self.storage))

    def scaled(self, magnitude: Array) -> Array:
        """Numbers of the operands' formats, scaled, are numbers of compute and of storage if these have as many bits, or below the
        smallest normal number of one of them, where the scaled number is rounded like any other. An operand without a format (an
        integer, a real number inside an expansion) may have any number of bits.
        """
        bits = min(self.compute.precision, self.storage.precision)
        if len(self.operands) != 2 or any(format.precision > bits for format in self.operands):
            return self.round(magnitude)
        tiny = max(self.compute.smallest_normal, self.storage.smallest_normal)
        born = self.round(magnitude)
        return np.where(np.isfinite(born), np.minimum(born, self.round(np.minimum(magnitude, tiny))), born)

    def delivered(self, exact: Enclosure) -> Enclosure:
        """The hull of both ways to round, with and without `compute` in between; each is monotone, and so is an overflow to infinity."""
        once = [round_to(x, self.storage) for x in (exact.lo, exact.hi)]
        twice = [round_to(round_to(x, self.compute), self.storage) for x in (exact.lo, exact.hi)]
        lo, hi = np.minimum(once[0], twice[0]), np.maximum(once[1], twice[1])
        return Enclosure(np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi))

    def sum(self, n: int, magnitude: Array, total: Array, largest: Array, nonzero: Array | None = None) -> Array:
        """Terms that the accumulator does not hold are rounded on entry; integers (no format among the operands) may be such."""
        leaves = self.sum_terms(n, magnitude, total, largest, nonzero)
        if leaves is None:
            return np.zeros(np.broadcast_shapes(np.shape(magnitude), np.shape(total)))
        summed = summation_error(leaves, self.accumulator, self.order)
        return self._store(leaves.result, summed, self.accumulator)

    def sum_terms(self, n: int, magnitude: Array, total: Array, largest: Array, nonzero: Array | None = None) -> Terms | None:
        """What `sum` adds; None where it is one number, which is stored as it is."""
        held = bool(self.operands) and all(self.accumulator.contains(format) for format in self.operands)
        if n <= 1 and held and all(self.storage.contains(format) for format in self.operands):
            return None
        return terms_of(n, magnitude, total, largest, 0.0, "exact" if held else "rounded", nonzero)

    def dot(
        self,
        n: int,
        magnitude: Array,
        total: Array,
        largest: Array,
        addend: Array | float = 0.0,
        nonzero: Array | None = None,
        partial: PartialSums | None = None,
        addends: int = 1,
    ) -> Array:
        """Products are exact where the accumulator has room for all their bits, but for underflow.

        Addends that it does not hold are rounded on entry, and may then be larger by that.
        """
        leaves = self.dot_terms(n, magnitude, total, largest, addend, nonzero, partial, addends)
        summed = ordered_error(leaves, self.accumulator, self.order, partial if addends == 1 else None)
        return self._store(leaves.result, add_up(summed, self._entry(addend, addends)), self.accumulator)

    def dot_terms(
        self,
        n: int,
        magnitude: Array,
        total: Array,
        largest: Array,
        addend: Array | float = 0.0,
        nonzero: Array | None = None,
        partial: PartialSums | None = None,
        addends: int = 1,
    ) -> Terms:
        """What `dot` adds, of the same arguments."""
        entry = self._entry(addend, addends)
        leaves = terms_of(n, magnitude, add_up(total, entry), largest, add_up(addend, entry), self.product(), nonzero, addends)
        return replace(leaves, entered=bool(np.any(entry)))

    def _entry(self, addend: Array | float, addends: int) -> Array | float:
        """The error of so many addends, magnitudes adding up to `addend`, that are rounded into the accumulator; 0 if it holds them."""
        addend = np.asarray(addend, dtype=np.float64)
        if not addend.any() or all(self.accumulator.contains(format) for format in self.operands):
            return 0.0
        return addends * half_ulp(addend, self.accumulator)

    def independent(self) -> Independent | None:
        """Its roundings one by one; None where a format flushes subnormals, which does not round to nearest."""
        if not all(format.subnormals for format in (self.storage, self.compute, self.accumulator)):
            return None
        return Independent(self, unstored(self), self)

    def product(self) -> str:
        """Whether products of the first two operands are "exact", "underflow" or "rounded" in the accumulator."""
        factors = self.operands[:2] if len(self.operands) > 1 else self.operands * 2
        if len(factors) < 2 or sum(format.precision for format in factors) > self.accumulator.precision:
            return "rounded"
        smallest = factors[0].smallest_subnormal * factors[1].smallest_subnormal
        return "exact" if smallest >= self.accumulator.smallest_positive else "underflow"

    def elementary(self, kernel: str, magnitude: Array) -> Array:
        """ulps * ulp(magnitude) + absolute in `compute`, then the store, unless the kernel's own last rounding is the store."""
        magnitude = np.asarray(magnitude, dtype=np.float64)
        assumed = self.accuracies.of(kernel, self.compute)
        with np.errstate(over="ignore"):
            error = inflate(lift(assumed.ulps * ulp(magnitude, self.compute) + assumed.absolute), 4)
        error = np.where(add_up(magnitude, error) > self.compute.max, np.inf, error)
        return self._store(magnitude, error, self.compute)

    def accuracy(self, kernel: str) -> tuple[float, float]:
        """An ulp is at most 2u relative, and never less than the smallest subnormal."""
        assumed = self.accuracies.of(kernel, self.compute)
        absolute = (assumed.absolute + assumed.ulps * self.compute.smallest_subnormal) * (1.0 + 2.0**-50)
        return 2.0 * assumed.ulps * self.compute.unit_roundoff, max(absolute, 2.0**-1074)

    def convert(self, magnitude: Array) -> Array:
        """Rounded into the entry format; without one, into storage."""
        target, mode = self.conversion or (self.storage, "nearest")
        return rounding_error(magnitude, target, mode)

    def _store(self, total: Array, error: Array, held: Format) -> Array:
        """A result of at most `total`, off by `error` and a number of `held`, written to storage."""
        if self.storage.contains(held):
            return error
        return add_up(error, half_ulp(add_up(total, error), self.storage))
