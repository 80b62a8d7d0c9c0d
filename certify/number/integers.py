"""The integer types of ONNX, as data: the least and the greatest number that each holds, as float64.

Source: onnx.TensorProto.DataType, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Integer:
    """The whole numbers of `bits` binary digits, two's complement if signed."""

    name: str
    bits: int
    signed: bool

    @property
    def least(self) -> float:
        return -(2.0 ** (self.bits - 1)) if self.signed else 0.0

    @property
    def greatest(self) -> float:
        """The greatest number of the type that float64 holds too."""
        edge = 2.0 ** (self.bits - self.signed)
        return edge - 1.0 if self.bits <= 53 else float(np.nextafter(edge, 0.0))


INTEGERS: dict[int, Integer] = {
    2: Integer("uint8", 8, False),
    3: Integer("int8", 8, True),
    4: Integer("uint16", 16, False),
    5: Integer("int16", 16, True),
    6: Integer("int32", 32, True),
    7: Integer("int64", 64, True),
    12: Integer("uint32", 32, False),
    13: Integer("uint64", 64, False),
    21: Integer("uint4", 4, False),
    22: Integer("int4", 4, True),
    25: Integer("uint2", 2, False),
    26: Integer("int2", 2, True),
}
