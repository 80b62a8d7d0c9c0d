"""ReduceProd and CumProd: products of two, level by level, and then the rounding of any order of multiplication.

Source of every definition: the ONNX operator schemas, https://onnx.ai/onnx/operators/. The products of two are real numbers that no
kernel need hold: they have no type, so that nothing is rounded before `AnyOrder`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from certify.number.integers import INTEGERS
from certify.number.upward import Array
from certify.semantics.contract import register
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.movement import Movement
from certify.semantics.families.product import AnyOrder
from certify.semantics.ops.reduction import reduced_axes

Expanded = tuple[list[Primitive], dict[str, Array]]
_REAL = 0  # of no ONNX type: a number that is not rounded


def arranged(*x: Any, source: Any, fill: float = 1.0) -> Any:
    """The elements of all operands side by side, arranged as `source` numbers them; -1 stands for `fill`."""
    cases = max((a.shape[0] for a in x if a.shape[0] != 1), default=1)
    flat = np.concatenate([np.broadcast_to(a.reshape(a.shape[0], -1), (cases, math.prod(a.shape[1:]))) for a in x], axis=1)
    none = source < 0
    taken = flat[:, np.where(none, 0, source)] if flat.shape[1] else np.full((cases, *source.shape), fill)
    return np.where(none, fill, taken) if none.any() else taken


def arrangement(operands: tuple[str | None, ...], output: str, source: Any, like: int | None = None) -> Primitive:
    """Elements of the operands as `source` numbers them, 1 where that is -1."""
    how = {"source": source, "fill": 1.0} if (source < 0).any() else {"source": source}
    return Primitive("Arranged", operands, output, how, inner=False, domain="certify", like=like)


def multiplied(e: Expansion, factors: str, shape: tuple[int, ...], each: bool) -> list[Primitive]:
    """Products along the last axis of `factors`, of this shape, into the first output: halves times halves."""
    n, y = shape[-1], e.outputs[0] or e.name("output")
    steps: list[Primitive] = []
    size = 1 << (n - 1).bit_length() if n else 1
    current = factors
    if size != n:
        numbers = np.arange(math.prod(shape), dtype=np.intp).reshape(shape)
        missing = np.full((*shape[:-1], size - n), -1, dtype=np.intp)
        current = e.name("padded")
        steps.append(arrangement((factors,), current, np.concatenate([numbers, missing], axis=-1), _REAL))
    while size > 1:
        size //= 2
        halves = []
        for start in (0, size):
            part = e.name(f"half {size} {start}")
            cut = {"starts": np.asarray([start]), "ends": np.asarray([start + size]), "axes": np.asarray([len(shape) - 1])}
            steps.append(Primitive("Slice", (current,), part, cut, inner=False, like=_REAL))
            halves.append(part)
        current = e.name(f"products {size}")
        steps.append(Primitive("Mul", tuple(halves), current, inner=False, like=_REAL))
    flat = e.name("product")
    steps.append(Primitive("Reshape", (current,), flat, _shape(shape[:-1]), inner=False, like=_REAL))
    kind = "StoredProducts" if each else "Products"
    return [*steps, *delivered(e, kind, flat, factors, {}, y)]


def delivered(e: Expansion, kind: str, product: str, factors: str, attributes: dict[str, Any], y: str) -> list[Primitive]:
    """The product as a kernel delivers it; a whole number, as long as its type holds it."""
    element = e.results[0] if e.results else 0
    if element not in INTEGERS:
        return [Primitive(kind, (product, factors), y, attributes, inner=False, domain="certify")]
    limits = {"least": INTEGERS[element].least, "greatest": INTEGERS[element].greatest}
    return [Primitive("Ranged", (product,), y, limits, inner=False, domain="certify")]


def _shape(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"shape": np.asarray(shape, dtype=np.int64), "allowzero": 1}


def reduce_prod(e: Expansion, *, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Expanded:
    """Covers kernels that multiply in any order in the accumulator, and store once."""
    shape = e.shapes[0]
    chosen = [k - 1 for k in reduced_axes(len(shape), axes, noop_with_empty_axes)]
    kept = [k for k in range(len(shape)) if k not in chosen]
    result = tuple(1 if k in chosen else n for k, n in enumerate(shape) if keepdims or k not in chosen)
    moved, factors = e.name("moved"), e.name("factors")
    grouped = (*result, math.prod(shape[k] for k in chosen))
    return [
        Primitive("Transpose", (e.operands[0],), moved, {"perm": [*kept, *chosen]}, inner=False),
        Primitive("Reshape", (moved,), factors, _shape(grouped), inner=False),
        *multiplied(e, factors, grouped, False),
    ], {}


def running(x: Array, *, axis: int, exclusive: int = 0, reverse: int = 0) -> Array:
    """Products of all elements up to (without, if exclusive) each one, from the other end if reverse; axis of the array."""
    turned = np.flip(x, axis) if reverse else x
    if exclusive:
        ones = np.ones_like(np.take(turned, [0], axis)) if turned.shape[axis] else turned
        turned = np.concatenate([ones, np.delete(turned, -1, axis)], axis) if turned.shape[axis] else turned
    total = np.multiply.accumulate(turned, axis=axis)
    return np.asarray(np.flip(total, axis) if reverse else total)


def cum_prod(e: Expansion, *, axis: Any, exclusive: int = 0, reverse: int = 0) -> Expanded:
    """Covers kernels that keep the running product in the accumulator, or store it and read it back, and trees of products.

    After the step of width w each place holds the product of its last 2 w factors: log2 n products of two (Hillis and Steele).
    """
    shape = e.shapes[0]
    k = int(np.ravel(np.asarray(axis, dtype=object))[0]) % max(len(shape), 1)
    n, y = shape[k], e.outputs[0] or e.name("output")
    numbers = np.arange(math.prod(shape), dtype=np.intp).reshape(shape)
    factors, turned = e.name("factors"), np.flip(numbers, k) if reverse else numbers
    steps = [
        Primitive("Arranged", (e.operands[0],), factors, {"source": _behind(turned, k, int(exclusive))}, inner=False, domain="certify")
    ]
    current, width = factors, 1
    while width < n:
        part, name = e.name(f"behind {width}"), e.name(f"products {width}")
        steps.append(arrangement((current,), part, _behind(numbers, k, width), _REAL))
        steps.append(Primitive("Mul", (current, part), name, inner=False, like=_REAL))
        current, width = name, 2 * width
    back = np.flip(numbers, k) if reverse else numbers
    steps.append(arrangement((current,), e.name("product"), back, _REAL))
    how = {"axis": k + 1, "exclusive": int(exclusive), "reverse": int(reverse)}
    return [*steps, *delivered(e, "RunningProducts", e.name("product"), e.operands[0] or "", how, y)], {}


def _behind(numbers: Any, axis: int, width: int) -> Any:
    """The element `width` places before each, -1 at the start."""
    if width == 0:
        return numbers
    moved = np.roll(numbers, width, axis)
    np.moveaxis(moved, axis, 0)[:width] = -1
    return moved


register(
    Movement("Arranged", 1, ("X",), arranged, domain="certify", fills=("fill",)),
    AnyOrder("Products", lambda x: np.multiply.reduce(x, axis=-1), each=False),
    AnyOrder("StoredProducts", lambda x: np.multiply.reduce(x, axis=-1), each=True),
    AnyOrder("RunningProducts", running, each=True),
    *(
        Composite(
            "ReduceProd",
            since,
            ("data", "axes") if since >= 18 else ("data",),
            reduce_prod,
            static=frozenset({"axes"}) if since >= 18 else frozenset(),
        )
        for since in (1, 11, 13, 18)
    ),
    Composite("CumProd", 26, ("x", "axis"), cum_prod, static=frozenset({"axis"})),
)
