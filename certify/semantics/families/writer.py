"""A pen for long expansions: primitives one after the other, each by the names of what came before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from certify.semantics.families.composite import Expansion, Primitive

Parts = tuple[list[Primitive], dict[str, Any]]

_REAL, _INT64 = 0, 7  # ONNX's numbers for no type and for that one


@dataclass
class Writer:
    """The primitives written so far; constants are entered once. `like`: as in Primitive, for all that `put` writes."""

    e: Expansion
    like: str | int | None = None
    primitives: list[Primitive] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    named: dict[tuple[tuple[int, ...], bytes], str] = field(default_factory=dict)

    def fresh(self) -> str:
        self.count += 1
        return self.e.name(str(self.count))

    def put(self, kind: str, *operands: str | None, domain: str = "", output: str | None = None, **attributes: Any) -> str:
        """One more primitive; the name of its result, which is inner unless `output` names it."""
        name = output or self.fresh()
        self.primitives.append(Primitive(kind, operands, name, attributes, inner=output is None, domain=domain, like=self.like))
        return name

    def step(
        self, kind: str, *operands: str | None, inner: bool = False, domain: str = "", output: str | None = None, **attributes: Any
    ) -> str:
        """One more primitive, rounded into storage unless it is inner, whatever its name."""
        name = output or self.fresh()
        self.primitives.append(Primitive(kind, operands, name, attributes, inner, domain, like=self.like))
        return name

    def reshape(self, x: str, shape: Sequence[int], output: str | None = None, inner: bool = False) -> str:
        return self.step("Reshape", x, output=output, inner=inner, shape=np.asarray(shape, dtype=np.int64), allowzero=1)

    def moved(self, kind: str, x: str, *more: str, **attributes: Any) -> str:
        """Copies of x in the format of x, so that what is cut from a constant is one."""
        name = self.fresh()
        self.primitives.append(Primitive(kind, (x, *more), name, attributes, inner=False, like=x))
        return name

    def constant(self, x: Any) -> str:
        """The name of a constant of the kernel's own, one for every value."""
        value = np.asarray(x, dtype=np.float64)
        key = (value.shape, value.tobytes())
        if key not in self.named:
            self.named[key] = self.e.name(f"constant {len(self.named)}")
            self.constants[self.named[key]] = value
        return self.named[key]

    def integers(self, x: Any) -> str:
        """The name of a constant of whole numbers."""
        name = self.e.name(f"integers {len(self.constants)}")
        self.constants[name] = np.asarray(x, dtype=np.int64)
        return name

    def whole(self, kind: str, *operands: str | None, domain: str = "", output: str | None = None, **attributes: Any) -> str:
        """A primitive that delivers whole numbers or truth values."""
        name = output or self.fresh()
        self.primitives.append(Primitive(kind, operands, name, attributes, inner=output is None, domain=domain, like=_INT64))
        return name

    def real(self, kind: str, *operands: str | None, **attributes: Any) -> str:
        """A primitive whose result is a real number that nothing holds or rounds."""
        name = self.fresh()
        self.primitives.append(Primitive(kind, operands, name, attributes, like=_REAL))
        return name

    def reshape_whole(self, x: str, shape: Sequence[int]) -> str:
        """x, whole numbers, in another shape."""
        return self.whole("Reshape", x, shape=np.asarray(shape, dtype=np.int64), allowzero=1)

    def fused(self, start: int) -> str:
        """Make the primitives from number `start` on one block, the products first; the last one is its result."""
        inside = self.primitives[start:]
        del self.primitives[start:]
        inside.sort(key=lambda primitive: primitive.domain != "certify" or primitive.name != "Gemm")
        made = {primitive.output for primitive in inside}
        read = tuple(dict.fromkeys(name for p in inside for name in p.operands if name is not None and name not in made))
        result = inside[-1].output
        self.primitives.append(Primitive("Block", read, result, {"parts": tuple(inside)}, domain="certify", like=self.like))
        return result

    def part(self, x: str, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> str:
        return self.moved("Slice", x, axes=np.asarray(axes), starts=np.asarray(starts), ends=np.asarray(ends))

    def pieces(self, x: str, axis: int, count: int) -> list[str]:
        """x cut into slices of extent 1 by halves: on the way back, gathering multipliers costs count log(count) elements, not count^2."""
        if count == 1:
            return [x]
        half = count // 2
        left, right = (self.part(x, [axis], [lo], [hi]) for lo, hi in ((0, half), (half, count)))
        return self.pieces(left, axis, half) + self.pieces(right, axis, count - half)

    def joined(self, parts: Sequence[str], axis: int, output: str | None = None) -> str:
        if len(parts) == 1 and output is None:
            return parts[0]
        return self.put("Concat", *parts, axis=axis, output=output)

    @property
    def parts(self) -> Parts:
        """What an expansion returns."""
        return self.primitives, self.constants
