"""Discrete Fourier transforms along one axis as real linear maps, and what their kernels may lose.

Numbers are laid out (..., axis, 1 or 2): real parts alone, or real and imaginary parts. With N the length and s = -1 (forward) or
1 (inverse),

    y_k = w sum_j x_j e^(2 pi i s j k / N),   w = 1, or 1/N for the inverse,

x cut off or continued by zeros to N elements. *Half*: the spectrum of a real signal holds k = 0 ... N/2 alone; the inverse then
counts the others twice and delivers real parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from certify.number.upward import Array
from certify.semantics.families import scalar
from certify.semantics.families.index_map import remembered

_BLOCK = 1 << 21  # coefficients held at a time


@dataclass(frozen=True, slots=True)
class Transform:
    """extent: elements along the axis of the operand. parts: 1 or 2, its real and imaginary parts."""

    length: int
    extent: int
    parts: int
    inverse: bool
    half: bool

    @property
    def used(self) -> int:
        """How many elements of the operand enter."""
        return min(self.extent, self.length // 2 + 1 if self.from_half else self.length)

    @property
    def from_half(self) -> bool:
        return self.inverse and self.half

    @property
    def results(self) -> int:
        return self.length // 2 + 1 if self.half and not self.inverse else self.length

    @property
    def parts_out(self) -> int:
        return 1 if self.from_half else 2

    def weights(self) -> Array:
        """Numerators of w: 2 where an element of half a spectrum stands for two."""
        k = np.arange(self.used)
        return np.where((k > 0) & (2 * k < self.length), 2.0, 1.0) if self.from_half else np.ones(self.used)

    def apply(self, x: Any, absolute: bool = False) -> Any:
        """(..., extent, parts) to (..., results, parts_out); `absolute` with all coefficients in absolute value."""
        z = x[..., : self.used, :]
        if self.from_half:
            z = z * self._own(self.weights(), x)[:, None]
        re, im = z[..., 0], z[..., 1] if self.parts == 2 else None
        sign = 1 if self.inverse else -1
        parts: list[Any] = []
        for rows in _blocks(self.results, self.used):
            cos, sin = self._coefficients(rows, x, absolute)
            turned = sin if absolute or sign > 0 else -sin
            real, imaginary = _product(re, cos.T), _product(re, turned.T)
            if im is not None:
                real = real + _product(im, turned.T) if absolute else real - _product(im, turned.T)
                imaginary = imaginary + _product(im, cos.T)
            parts.append(np.stack([real] if self.from_half else [real, imaginary], axis=-1))
        y = np.concatenate(parts, axis=-2) if parts else np.zeros((*x.shape[:-2], 0, self.parts_out))
        return y / self.length if self.inverse else y

    def transpose(self, a: Array) -> Array:
        """The transpose of `apply`: (..., results, parts_out) to (..., extent, parts)."""
        sign = 1.0 if self.inverse else -1.0
        out = np.zeros((*a.shape[:-2], self.extent, self.parts))
        for rows in _blocks(self.results, self.used):
            cos, sin = self._coefficients(rows, a, False)
            real = a[..., rows, 0]
            out[..., : self.used, 0] += real @ cos
            if self.parts == 2:
                out[..., : self.used, 1] -= sign * (real @ sin)
            if self.parts_out == 2:
                imaginary = a[..., rows, 1]
                out[..., : self.used, 0] += sign * (imaginary @ sin)
                if self.parts == 2:
                    out[..., : self.used, 1] += imaginary @ cos
        if self.from_half:
            out[..., : self.used, :] *= self.weights()[:, None]
        return out / self.length if self.inverse else out

    def _own(self, x: Array, like: Any) -> Any:
        return np.asarray(x.astype(int), dtype=object) if scalar.is_object(like) else x

    def _coefficients(self, rows: slice, x: Any, absolute: bool) -> tuple[Any, Any]:
        """cos and sin of 2 pi j k / N for k in rows, j < used, as numbers of the kind that x holds."""
        cos, sin = _turns(self.length, x) if scalar.is_object(x) else remembered(("turns", self.length), lambda: _turns(self.length, x))
        at = np.arange(rows.start, rows.stop)[:, None] * np.arange(self.used)[None, :] % max(self.length, 1)
        return (np.abs(cos[at]), np.abs(sin[at])) if absolute else (cos[at], sin[at])


def _blocks(rows: int, columns: int) -> list[slice]:
    step = max(1, _BLOCK // max(1, columns))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _product(x: Any, matrix: Any) -> Any:
    return x @ matrix if x.size or not scalar.is_object(x) else np.zeros((*x.shape[:-1], matrix.shape[-1]))


def _turns(length: int, x: Any) -> tuple[Any, Any]:
    """cos and sin of 2 pi m / N for m < N, within 24 unit roundoffs of each, zeros and ones exact.

    r = 4 m - q N is the rest in quarter turns q; sines and cosines are taken of angles up to pi / 4, where neither is small
    but by its argument: three roundings of the angle, and 8 ulps of the host's function.
    """
    m = np.arange(length)
    quarter, rest = 4 * m // length, 4 * m % length
    folded = 2 * rest > length
    angle = np.where(folded, length - rest, rest)
    t = np.asarray(angle.astype(int), dtype=object) * scalar.pi(x) / (2 * length) if scalar.is_object(x) else np.pi / 2 * (angle / length)
    near, far = scalar.cos(t), scalar.sin(t)
    c, s = np.where(folded, far, near), np.where(folded, near, far)
    c, s = np.where(rest == 0, 1, c), np.where(rest == 0, 0, s)
    cos = np.choose(quarter, [c, -s, -c, s])
    return cos, np.choose(quarter, [s, c, -s, -c])


def factors(n: int) -> list[int]:
    """Its prime factors, ascending, each as often as it divides n."""
    found, p = [], 2
    while p * p <= n:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    return [*found, n] if n > 1 else found


def _gamma(n: int, u: float) -> float:
    return n * u / (1.0 - n * u) if n * u < 0.5 else math.inf


def radix_two(stages: int, u: float, twiddle: float) -> float:
    """Normwise relative error of a radix-2 transform of 2^stages elements, twiddles good to `twiddle` (Higham, theorem 24.2)."""
    stage = twiddle + _gamma(4, u) * (math.sqrt(2.0) + twiddle)
    return math.expm1(stages * math.log1p(stage)) if stages * stage < 1.0 else math.inf


def mixed_radix(length: int, u: float, twiddle: float) -> float:
    """Normwise relative error of one stage a prime factor p, and two stages more for spectra packed by halves.

    A stage is sqrt(p) times a unitary matrix, p entries a row of magnitude 1: twiddles times p-point sums of products, so that it
    errs elementwise by at most e |A|, e = (1 + twiddle)^2 (1 + sqrt(2) gamma_(2 p + 4)) - 1, in norm by e p, relatively by
    sqrt(p) e; for p = 2 Higham's bound is sharper.
    """
    total = radix_two(2, u, twiddle)
    for p in factors(length):
        stage = (1.0 + twiddle) ** 2 * (1.0 + math.sqrt(2.0) * _gamma(2 * p + 4, u)) - 1.0
        one = radix_two(1, u, twiddle) if p == 2 else math.sqrt(p) * stage
        total = (1.0 + total) * (1.0 + one) - 1.0
    return total


def chirp(length: int, u: float, twiddle: float) -> float:
    """Elementwise error of Bluestein's algorithm by radix-2 transforms of M >= 2 N - 1, relative to the 2-norm of the signal.

    y_k = b*_k z_k, z the convolution of a_j = x_j b*_j with the chirp b, ||b|| <= sqrt(2N), by A = F a, B = F b, z = F^-1 (A B).
    With c the relative error of a product with a chirp, E that of a transform: A errs by g = (1 + E)(1 + c) - 1, B by
    h = (1 + E)(1 + twiddle) - 1, their products by sqrt(2) gamma_4; (1/M) sum |A B| <= ||a|| ||b|| (Cauchy-Schwarz), so z errs by
    G = (1 + g)(1 + h)(1 + sqrt(2) gamma_4) - 1 relatively to ||x|| sqrt(2N). The last transform errs by E times the norm of what
    it computes: ||z|| <= max |B| ||a|| and, by what A B err, sqrt(M) sqrt(2N) G ||a|| more. M <= 4 N.
    """
    stages = max(1, math.ceil(math.log2(max(2 * length - 1, 2))))
    product = math.sqrt(2.0) * _gamma(4, u)
    E, c = radix_two(stages, u, twiddle), (1.0 + twiddle) * (1.0 + product) - 1.0
    g, h = (1.0 + E) * (1.0 + c) - 1.0, (1.0 + E) * (1.0 + twiddle) - 1.0
    G = (1.0 + g) * (1.0 + h) * (1.0 + product) - 1.0
    norm = math.sqrt(2.0 * length)
    last = E * (_peak(length) + math.sqrt(2.0**stages) * norm * G)
    return (1.0 + c) * (norm * G + last) + c * math.sqrt(length)


def _peak(length: int) -> float:
    """Upper bound of |sum_|n| < N e^(i pi n^2 / N) e^(i n t)| over all t, about sqrt(N).

    A trigonometric polynomial of degree N - 1 is at most 1/cos(pi N / K) times its largest value on K equidistant points
    (Ehlich and Zeller, Math. Z. 86, 1964): K = 8 N. What float64 errs by is far below the last factor.
    """
    n = np.arange(-length + 1, length, dtype=np.int64)
    values = np.exp(1j * np.pi * (n * n % (2 * length)) / length)
    return float(np.abs(np.fft.fft(values, 8 * length)).max()) / math.cos(math.pi / 8.0) * (1.0 + 2.0**-20)
