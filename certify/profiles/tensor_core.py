"""`tensor-core-*`: NVIDIA tensor cores for contractions; everything else as in `wide`.

Model (microsoft/MMA-Sim, arXiv 2511.10909; Khattak & Mikaitis, arXiv 2512.07004; Fasi et al., PeerJ CS 7:e330): a block
takes an accumulator c and n_b exact products; all n_b + 1 are aligned to the largest exponent E among them, truncated to
F fraction bits, i.e. to multiples of 2^(E - F), added exactly, and the sum is truncated to f bits after the leading one
(f = 23, fp32; 13, e8m13). The exponent of a product is the sum of its factors' exponents, at most log2 |a b|, but that of
a subnormal factor is taken as emin, whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.formats import FORMATS, Format
from certify.number.rounding import half_ulp
from certify.number.upward import Array, add_up, inflate, lift
from certify.profiles.arithmetic import NearestArithmetic
from certify.profiles.contract import Profile
from certify.profiles.elementary import Accuracies
from certify.profiles.independent import Independent, unstored
from certify.profiles.nearest import CONTRACTIONS, NearestProfile, stored_format
from certify.profiles.order import Order
from certify.semantics.contract import Arithmetic, PartialSums

_FP32 = FORMATS["fp32"]
_FP8 = ("fp8e4m3", "fp8e5m2")


@dataclass(frozen=True, slots=True)
class Block:
    """terms: products per block; fraction: F; kept: f, fraction bits of the truncated sum."""

    terms: int
    fraction: int
    kept: int = 23


# operand format -> block, by architecture (table in the sources above). bf16 goes as fp16 where it exists.
ARCHITECTURES: dict[str, dict[str, Block]] = {
    "v100": {"fp16": Block(4, 23)},
    "a100": {"fp16": Block(8, 24), "bf16": Block(8, 24), "tf32": Block(4, 24)},
    "ada": {"fp16": Block(8, 24), "bf16": Block(8, 24), "tf32": Block(4, 24)} | dict.fromkeys(_FP8, Block(16, 13, 13)),
    "h100": {"fp16": Block(16, 25), "bf16": Block(16, 25), "tf32": Block(8, 25)} | dict.fromkeys(_FP8, Block(32, 13, 13)),
    "b200": {"fp16": Block(16, 25), "bf16": Block(16, 25), "tf32": Block(8, 25)} | dict.fromkeys(_FP8, Block(32, 25)),
}


@dataclass(frozen=True, slots=True)
class TensorCoreArithmetic:
    """One contraction on a tensor core, then an epilogue in fp32 (addend) and the store, both to nearest.

    block: how a block adds; factors: the operands' format; nearest: everything that is not a dot product.
    """

    block: Block
    factors: Format
    nearest: NearestArithmetic

    @property
    def storage(self) -> Format:
        return self.nearest.storage

    @property
    def accumulator(self) -> Format:
        return _FP32

    @property
    def unit_roundoff(self) -> float:
        return 2.0 * _FP32.unit_roundoff

    @property
    def underflow(self) -> float:
        return _FP32.smallest_subnormal

    def round(self, magnitude: Array, quantum: Array | float = 0.0) -> Array:
        """A contraction of one product."""
        return self.dot(1, magnitude, magnitude, magnitude)

    def addition(self, magnitude: Array, smaller: Array, quantum: Array | float = 0.0) -> Array:
        return self.round(magnitude)

    def scaled(self, magnitude: Array) -> Array:
        return self.round(magnitude)

    def delivered(self, exact: Enclosure) -> Enclosure:
        """Nothing is claimed: what alignment truncates is not monotone in the exact result."""
        return Enclosure(np.full(exact.shape, -np.inf), np.full(exact.shape, np.inf))

    def sum(self, n: int, magnitude: Array, total: Array, largest: Array, nonzero: Array | None = None) -> Array:
        return self.nearest.sum(n, magnitude, total, largest, nonzero)

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
        """K = ceil(n / n_b) blocks chained in any order, or in several chains (split K) whose results fp32 additions join.

        One block errs by at most (n_b + 1) 2^-F max(|c|, |a_i b_i|) + floor + 2^-f |sum before truncation|: each of the
        n_b + 1 terms loses less than 2^(E - F), and 2^E <= max(|c|, |a_i b_i|) unless a subnormal factor set E, which the
        floor covers. With s the exact value (a subset sum: |s| <= S = max(P, N), mathematics of summation.py) and e the
        error so far, max(|c|, |a_i b_i|) <= S + e, and the sum is at most S + e + (what alignment lost). So a block's own
        error is at most rho (m + e) + floor (1 + 2^-f), rho = ((n_b + 1) 2^-F + 2^-f) / (1 - 2^-f), m >= |s| at that block;
        each of the at most K - 1 joins and the addend's epilogue err by u' (S + e), u' = 2^-24. All errors add up with
        coefficient 1, so that, taken in the order of computation, with K blocks and as many additions,
        e <= ((1 + rho)(1 + u'))^(K + 1) (rho sum_k m_k + K u' S + (K + 1) floor).
        Sorted by the number of blocks they depend on, the k-th block depends on at most k (all others inside it on fewer):
        m_k = min(S, k n_b max|t| + |addend|). Each further addend is one more epilogue.
        """
        c = lift(np.asarray(addend, dtype=np.float64))
        size = add_up(lift(np.asarray(magnitude, dtype=np.float64)), c)
        subset = np.minimum(size, inflate(0.5 * size + 0.5 * lift(np.asarray(total, dtype=np.float64)), 4))
        t = np.minimum(np.minimum(lift(np.asarray(largest, dtype=np.float64)), size), subset)
        K, b = -(-n // self.block.terms), self.block.terms
        J = K + addends - 1
        truncation = 2.0**-self.block.kept
        rho = ((b + 1) * 2.0**-self.block.fraction + truncation) / (1.0 - truncation)
        growth = float(np.exp((J + 1) * np.log1p(rho + 2.0**-24 * (1.0 + rho)))) * (1.0 + 2.0**-40)
        with np.errstate(over="ignore", invalid="ignore"):
            ramp = _ramp(K, subset, b * t, c)
            summed = inflate(growth * (rho * ramp + J * 2.0**-24 * subset + (J + 1) * self._floor(t)), 40)
            reach = inflate(subset * growth + summed, 8)
        summed = np.where(np.isfinite(size) & (reach <= _FP32.max), summed, np.inf)
        if self.storage.contains(_FP32):
            return summed
        delivered = np.minimum(np.asarray(total, dtype=np.float64), size)
        return add_up(summed, half_ulp(add_up(delivered, summed), self.storage))

    def _floor(self, largest: Array) -> Array:
        """What alignment to a subnormal factor's exponent may lose in a block, and truncation below fp32's normal numbers.

        With |a| < 2^emin and exponent emin, E <= emin + log2 |b|, |b| <= max, and |b| <= largest / smallest subnormal. For
        bf16 and tf32 the premise |b| <= 2^64 replaces the largest number.
        """
        factors, block = self.factors, self.block
        highest = 2.0 ** (factors.emin + (64 if factors.emin == -126 else factors.emax))
        exponent = np.minimum(highest, largest * 2.0 ** (factors.precision - 1))
        return np.asarray((block.terms + 1) * 2.0**-block.fraction * exponent + (block.terms + 2) * 2.0 ** (-126 - block.kept))

    def elementary(self, kernel: str, magnitude: Array) -> Array:
        return self.nearest.elementary(kernel, magnitude)

    def accuracy(self, kernel: str) -> tuple[float, float]:
        return self.nearest.accuracy(kernel)

    def convert(self, magnitude: Array) -> Array:
        return self.nearest.convert(magnitude)

    def independent(self) -> Independent | None:
        """Truncation is no rounding of mean zero; storing the fp32 result is."""
        return Independent(self, self if self.storage.contains(_FP32) else replace(self, nearest=unstored(self.nearest)))


def _ramp(blocks: int, cap: Array, step: Array, offset: Array) -> Array:
    """Upper bound of sum_{k=1..blocks} min(cap, k step + offset): linear up to the K0 where it reaches the cap."""
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.floor(np.where(step > 0.0, (cap - offset) / np.where(step > 0.0, step, 1.0), blocks))
    below = np.clip(np.nan_to_num(below, nan=0.0, posinf=blocks), 0.0, blocks)
    linear = below * (below + 1.0) * 0.5 * step + below * offset
    return np.asarray(np.minimum(blocks * cap, linear + (blocks - below) * cap))


@dataclass(frozen=True, slots=True)
class TensorCoreProfile:
    """Contractions of the formats in `blocks` on tensor cores; the rest by `nearest`, which is the profile `wide`."""

    name: str
    blocks: dict[str, Block]
    nearest: NearestProfile

    @property
    def assumptions(self) -> tuple[str, ...]:
        listed = ", ".join(f"{name}: {b.terms} products, F = {b.fraction}, {b.kept} bits kept" for name, b in self.blocks.items())
        return (
            f"Contractions run on tensor cores as modelled by MMA-Sim, blocks aligned, truncated and chained in any order ({listed}).",
            "Contractions of other formats, and all other kernels, follow the premises below.",
            "Convolutions are computed as inner products, not by Winograd's or Fourier transforms.",
            "The addend of a contraction and the joining of split sums are fp32 additions to nearest; accumulators are fp32, not fp16.",
            "Where a bf16 or tf32 factor is subnormal (below 1.2e-38) the other is at most 2^64.",
            *(("fp32 operands of contractions are truncated to tf32 on entry.",) if self._truncates else ()),
            *self.nearest.assumptions,
        )

    @property
    def _truncates(self) -> bool:
        """tf32 is what these runtimes use for fp32 contractions unless another --dtype was asked for."""
        return "tf32" in self.blocks and (self.nearest.dtype is None or self.nearest.dtype.name == "tf32")

    def storage(self, declared: Format) -> Format:
        return stored_format(declared, self.nearest.dtype)

    def operand_format(self, kernel: str, storage: Format) -> tuple[Format, str] | None:
        return (FORMATS["tf32"], "zero") if self._truncates and kernel in CONTRACTIONS and storage.name == "fp32" else None

    def inner_format(self, output: Format) -> Format:
        return self.nearest.inner_format(output)

    def arithmetic(self, kernel: str, operands: Sequence[Format | None], output: Format, inner: bool) -> Arithmetic:
        nearest = self.nearest.arithmetic(kernel, operands, output, inner)
        entry = self.operand_format(kernel, output)
        nearest = NearestArithmetic(
            nearest.storage, nearest.compute, nearest.accumulator, nearest.operands, nearest.order, nearest.accuracies, entry
        )
        factors = {format.name for format in nearest.operands[:2]}
        if kernel not in CONTRACTIONS or len(factors) != 1 or not factors <= self.blocks.keys():
            return nearest
        return TensorCoreArithmetic(self.blocks[factors.pop()], nearest.operands[0], nearest)

    def uncovered(self, kernel: str, attributes: Mapping[str, Any], output: Format) -> str | None:
        return None

    def style(self, kernel: str) -> str:
        return "any"


def _builder(architecture: str) -> Callable[[Format | None, Format | None, Order], Profile]:
    def build(dtype: Format | None, accumulate: Format | None, order: Order) -> Profile:
        """Raises ValueError for formats that the architecture's tensor cores do not multiply, and for other accumulators."""
        blocks, name = ARCHITECTURES[architecture], f"tensor-core-{architecture}"
        if dtype is not None and dtype.name not in blocks and dtype.name not in ("fp32", "fp64"):
            raise ValueError(f"--profile {name} has no {dtype.name}; it multiplies {', '.join(blocks)} (and fp32, fp64 elsewhere)")
        if accumulate is not None and accumulate.name != "fp32":
            raise ValueError(f"--profile {name} accumulates in fp32, not {accumulate.name}; use --profile wide")
        premise = "Other kernels compute in fp32 (fp64 for results stored in fp64), rounding to nearest."
        return TensorCoreProfile(name, blocks, NearestProfile("wide", dtype, accumulate, order, True, Accuracies(), (premise,)))

    return build


PROFILES = {f"tensor-core-{architecture}": _builder(architecture) for architecture in ARCHITECTURES}
