"""The floating-point formats, as data: integers and flags from which everything else is derived exactly.

Sources: IEEE 754-2019 (fp16, fp32, fp64); Kalamkar et al. 2019 (bf16); NVIDIA, *A100 architecture* (tf32: 10 stored
bits, fp32's exponent); Micikevicius et al. 2022, *FP8 formats for deep learning* (e4m3fn, e5m2); Noune et al. 2022, *8-bit
numerical formats for deep neural networks* (fnuz: one NaN, no negative zero, no infinity); OCP Microscaling Formats 1.0 (e8m0, fp4, fp6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from certify.errors import Unsupported


class UnknownFormat(Unsupported, ValueError):
    """A format name or an ONNX element type that this program cannot describe."""


@dataclass(frozen=True, slots=True)
class Format:
    """A set of floating-point numbers {0} and s * 2^(e - precision + 1), |s| < 2^precision, emin <= e <= emax.

    precision:  bits of the significand, the hidden one included; 1 to 53, since values travel as float64.
    emin, emax: exponents of the smallest normal number and of the largest binade; within float64's.
    largest:    the largest finite number where it is not the top of the last binade (e4m3fn); None otherwise.
    subnormals: False if they are flushed to zero.
    overflow:   what a result beyond the largest number becomes: "inf", "nan" or "saturate" (the largest number).
    """

    name: str
    precision: int
    emin: int
    emax: int
    largest: float | None = None
    subnormals: bool = True
    overflow: str = "inf"

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= 53:
            raise ValueError(f"format {self.name}: precision must lie in 1..53, not {self.precision}")
        if not (-1022 <= self.emin <= 0 <= self.emax <= 1023):
            raise ValueError(f"format {self.name}: exponents {self.emin}..{self.emax} do not fit into float64")
        if self.overflow not in ("inf", "nan", "saturate"):
            raise ValueError(f"format {self.name}: overflow must be inf, nan or saturate, not {self.overflow!r}")

    @property
    def unit_roundoff(self) -> float:
        """2^-p: the relative error of one rounding to nearest."""
        return math.ldexp(1.0, -self.precision)

    def unit(self, mode: str) -> float:
        """The relative error of one rounding: 2^-p to "nearest", 2^(1-p) toward "zero"."""
        return self.unit_roundoff if mode == "nearest" else 2.0 * self.unit_roundoff

    @property
    def max(self) -> float:
        """The largest finite number."""
        return math.ldexp(2.0 - 2.0 * self.unit_roundoff, self.emax) if self.largest is None else self.largest

    @property
    def smallest_normal(self) -> float:
        return math.ldexp(1.0, self.emin)

    @property
    def smallest_subnormal(self) -> float:
        """The spacing of the numbers around zero, 2^(emin - p + 1), whether or not subnormals are flushed."""
        return math.ldexp(1.0, self.emin - self.precision + 1)

    @property
    def smallest_positive(self) -> float:
        """The smallest positive number that an operation can deliver."""
        return self.smallest_subnormal if self.subnormals else self.smallest_normal

    @property
    def eta(self) -> float:
        """The largest error due to underflow: half the smallest subnormal, or the smallest normal if flushed.

        Rounded up to 2^-1074 for fp64, whose 2^-1075 float64 cannot hold.
        """
        if not self.subnormals:
            return self.smallest_normal
        return max(math.ldexp(1.0, self.emin - self.precision), 2.0**-1074)

    @property
    def keeps_infinities(self) -> bool:
        """True if an infinity that is converted into the format stays one; into 8 bits ONNX's Cast makes it the largest number, or NaN."""
        return self.overflow == "inf" and self.precision >= 8

    def flushed(self) -> Format:
        """The same format on hardware that replaces subnormal results by zero."""
        return replace(self, name=f"{self.name}-flushed", subnormals=False)

    def saturating(self) -> Format:
        """The same format where results beyond the largest number become the largest number (ONNX Cast to fp8)."""
        return replace(self, name=f"{self.name}-saturating", overflow="saturate")

    def contains(self, other: Format) -> bool:
        """True if every number of `other` is a number of this format."""
        return (
            self.precision >= other.precision
            and self.smallest_positive <= other.smallest_positive
            and self.smallest_subnormal <= other.smallest_subnormal
            and self.max >= other.max
        )


FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("fp64", precision=53, emin=-1022, emax=1023),
        Format("fp32", precision=24, emin=-126, emax=127),
        Format("tf32", precision=11, emin=-126, emax=127),
        Format("bf16", precision=8, emin=-126, emax=127),
        Format("fp16", precision=11, emin=-14, emax=15),
        Format("fp8e4m3", precision=4, emin=-6, emax=8, largest=448.0, overflow="nan"),
        Format("fp8e5m2", precision=3, emin=-14, emax=15),
        Format("fp8e4m3fnuz", precision=4, emin=-7, emax=7, overflow="nan"),
        Format("fp8e5m2fnuz", precision=3, emin=-15, emax=15, overflow="nan"),
        # Positive powers of two: without the zero and the signs that every record has. Operators that deliver it round on their own.
        Format("fp8e8m0", precision=1, emin=-127, emax=127, subnormals=False, overflow="nan"),
        Format("fp4e2m1", precision=2, emin=0, emax=2, overflow="saturate"),
        Format("fp6e2m3", precision=4, emin=0, emax=2, overflow="saturate"),
        Format("fp6e3m2", precision=3, emin=-2, emax=4, overflow="saturate"),
    )
}

# onnx.TensorProto.DataType, spelled out so that a format needs no import of onnx.
_ONNX = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16", 17: "fp8e4m3", 18: "fp8e4m3fnuz", 19: "fp8e5m2", 20: "fp8e5m2fnuz"}
_ONNX |= {23: "fp4e2m1", 24: "fp8e8m0", 27: "fp6e2m3", 28: "fp6e3m2"}
_ONNX_NOT_FLOAT = frozenset((0, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 21, 22, 25, 26))  # undefined, integers, string, bool


def format_named(name: str) -> Format:
    """The format called `name`. Raises UnknownFormat, listing the names there are."""
    if name not in FORMATS:
        raise UnknownFormat(f"unknown format {name!r}; known formats: {', '.join(FORMATS)}")
    return FORMATS[name]


def from_onnx(elem_type: int) -> Format | None:
    """The format of an ONNX element type (a number of TensorProto.DataType); None for integers, booleans and strings.

    Raises UnknownFormat for element types without a format here (complex numbers).
    """
    if elem_type in _ONNX_NOT_FLOAT:
        return None
    if elem_type not in _ONNX:
        raise UnknownFormat(f"ONNX element type {elem_type} has no format; known formats: {', '.join(FORMATS)}")
    return FORMATS[_ONNX[elem_type]]


def synthetic_format(precision: int) -> Format:
    """A format of `precision` bits, with fp32's exponents up to 24 bits and fp64's beyond: 8 is bf16, 24 is fp32, 53 is fp64."""
    like = FORMATS["fp32"] if precision <= 24 else FORMATS["fp64"]
    return Format(f"p{precision}", precision=precision, emin=like.emin, emax=like.emax)
