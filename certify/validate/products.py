"""Contractions as explicit factors and reductions as explicit terms, so that they can be added up in any order.

A contraction (MatMul, Gemm, Conv) becomes left (g, m, n) times right (g, n, p) with g independent blocks, and a way back to the operator's
own shape. Arrays carry a leading case axis, float64 or objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from certify.analysis.problem import Step
from certify.semantics.families.accumulation import Accumulation
from certify.semantics.families.bilinear import Bilinear
from certify.semantics.families.block import Block, Part
from certify.semantics.families.linear import Linear
from certify.semantics.families.rescaled import Rescaled


@dataclass(frozen=True, slots=True)
class Factors:
    """left: (g, m, n), right: (g, n, p); `shape` takes (g, m, p) to the operator's output.

    scale: factor of every sum; addend: what is added last, already scaled, of a shape that broadcasts to the output; None if absent.
    """

    left: Any
    right: Any
    shape: Callable[[Any], Any]
    scale: float = 1.0
    addend: Any = None

    @property
    def terms(self) -> int:
        return int(self.left.shape[2])

    @property
    def size(self) -> int:
        """How many products there are in all."""
        return int(self.left.shape[0] * self.left.shape[1] * self.left.shape[2] * self.right.shape[2])


def factors(step: Step, operands: Sequence[Any]) -> Factors | None:
    """The factors of a MatMul, Gemm or Conv step on these operands; None for every other operator."""
    build = _BUILDERS.get(step.rule.name) if step.rule.domain == "" else None
    if (step.rule.domain, step.rule.name) == ("certify", "Gemm"):
        build = _accumulation
    if isinstance(step.rule, Rescaled):
        build = _rescaled
    return None if build is None else build(list(operands), step.attributes)


def _matmul(operands: Sequence[Any], _: dict[str, Any]) -> Factors:
    A, B = operands[:2]
    row, column = A.ndim == 2, B.ndim == 2
    A = A[:, None, :] if row else A
    B = B[:, :, None] if column else B
    rank = max(A.ndim, B.ndim)
    A, B = _ranked(A, rank), _ranked(B, rank)
    batch = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    m = A.shape[-2]
    if all(n == 1 for n in B.shape[:-2]):  # one right factor for all: the rows of every left one make one matrix
        left = A.reshape(1, int(np.prod(batch)) * m, A.shape[-1])
        right = B.reshape(1, *B.shape[-2:])
    else:
        left = np.broadcast_to(A, batch + A.shape[-2:]).reshape(int(np.prod(batch)), *A.shape[-2:])
        right = np.broadcast_to(B, batch + B.shape[-2:]).reshape(int(np.prod(batch)), *B.shape[-2:])

    def shape(y: Any) -> Any:
        y = y.reshape(*batch, m, y.shape[-1])
        y = y[..., 0] if column else y
        return y if not row else y[..., 0] if column else y[..., 0, :]

    return Factors(left, right, shape)


def _rescaled(operands: Sequence[Any], attributes: dict[str, Any]) -> Factors:
    """The scale comes after the sum, the addend last."""
    plain = _matmul(operands[:2], {})
    alpha = attributes.get("alpha", 1.0)
    C = operands[2] if len(operands) > 2 else None
    addend = None if C is None else _ranked(C, max(x.ndim for x in operands[:2]))
    return Factors(plain.left, plain.right, plain.shape, float(attributes["root"] ** -0.5 if alpha is None else alpha), addend)


def _accumulation(operands: Sequence[Any], _: dict[str, Any]) -> Factors:
    """A product and its addends, which are added up beforehand."""
    plain, addends = _matmul(operands[:2], {}), [x for x in operands[2:] if x is not None]
    rank = max((x.ndim for x in operands if x is not None), default=0)
    total = sum((_ranked(x, rank) for x in addends[1:]), _ranked(addends[0], rank)) if addends else None
    return Factors(plain.left, plain.right, plain.shape, addend=total)


def _ranked(x: Any, rank: int) -> Any:
    return x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:])


def _gemm(operands: Sequence[Any], attributes: dict[str, Any]) -> Factors:
    A, B = operands[:2]
    C = operands[2] if len(operands) > 2 else None
    A = A.swapaxes(-1, -2) if attributes.get("transA", 0) else A
    B = B.swapaxes(-1, -2) if attributes.get("transB", 0) else B
    plain = _matmul([A, B], {})
    addend = None if C is None else _ranked(C, 3) * float(attributes.get("beta", 1.0))
    return Factors(plain.left, plain.right, plain.shape, float(attributes.get("alpha", 1.0)), addend)


def _conv(operands: Sequence[Any], attributes: dict[str, Any]) -> Factors:
    X, W = operands[:2]
    B = operands[2] if len(operands) > 2 else None
    kernel = W.shape[3:]
    rank, groups, maps = len(kernel), int(attributes.get("group", 1)), W.shape[1]
    strides = [int(s) for s in attributes.get("strides") or (1,) * rank]
    dilations = [int(d) for d in attributes.get("dilations") or (1,) * rank]
    cases = max(X.shape[0], W.shape[0])
    images = X.shape[1]
    columns, out = _columns(X, kernel, strides, dilations, _padding(X.shape[3:], kernel, strides, dilations, attributes), groups)
    left = W.reshape(W.shape[0], 1, groups, maps // groups, -1)
    left = np.broadcast_to(left, (cases, images, *left.shape[2:])).reshape(-1, *left.shape[3:])
    right = np.broadcast_to(columns, (cases, *columns.shape[1:])).reshape(-1, *columns.shape[3:])

    def shape(y: Any) -> Any:
        return y.reshape(cases, images, maps, *out)

    addend = None if B is None else B.reshape(B.shape[0], 1, -1, *(1,) * rank)
    return Factors(left, right, shape, addend=addend)


def _padding(
    extents: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], attributes: dict[str, Any]
) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis, as ONNX's Conv defines `pads` and `auto_pad`."""
    auto = attributes.get("auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    rank = len(kernel)
    if auto in ("NOTSET", "", None):
        pads = [int(p) for p in attributes.get("pads") or (0,) * (2 * rank)]
        return [(pads[i], pads[rank + i]) for i in range(rank)]
    if auto == "VALID":
        return [(0, 0)] * rank
    padding = []
    for extent, k, s, d in zip(extents, kernel, strides, dilations, strict=True):
        total = max((-(-extent // s) - 1) * s + (k - 1) * d + 1 - extent, 0)
        small = total // 2
        padding.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
    return padding


def _columns(
    X: Any, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], padding: list[tuple[int, int]], groups: int
) -> tuple[Any, tuple[int, ...]]:
    """Patches as columns, (cases, images, groups, channels * taps, positions), and the output's spatial shape."""
    rank = len(kernel)
    X = np.pad(X, [(0, 0)] * 3 + padding)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(X, reach, axis=tuple(range(3, 3 + rank)))
    windows = windows[(slice(None),) * 3 + tuple(slice(None, None, s) for s in strides) + tuple(slice(None, None, d) for d in dilations)]
    out = windows.shape[3 : 3 + rank]
    taps = np.moveaxis(windows, range(3 + rank, 3 + 2 * rank), range(3, 3 + rank))
    return taps.reshape(X.shape[0], X.shape[1], groups, (X.shape[2] // groups) * int(np.prod(kernel)), int(np.prod(out))), out


_BUILDERS: dict[str, Callable[[Sequence[Any], dict[str, Any]], Factors]] = {"MatMul": _matmul, "Gemm": _gemm, "Conv": _conv}


def _part(step: Step, part: Part) -> Step:
    """A part of a block as a step of its own."""
    return replace(step, rule=part.rule, attributes=part.attributes, arithmetic=part.arithmetic or step.arithmetic)


def by_parts(step: Step, operands: Sequence[Any], one: Callable[[Step, list[Any]], Any]) -> Any:
    """A block's result, each part computed by `one`."""
    values = list(operands)
    for part in step.attributes["chain"]:
        values.append(one(_part(step, part), list(part.of(values))))
    return values[-1]


def products_of(step: Step, shapes: Sequence[tuple[int, ...]]) -> int:
    """How many products a bilinear or linear operator on operands of these shapes adds up; 0 for every other one."""
    if isinstance(step.rule, Block):
        return sum(products_of(_part(step, part), part.of(shapes)) for part in step.attributes["chain"] if part.is_head)
    if isinstance(step.rule, Bilinear | Accumulation | Rescaled):
        extent = step.rule.form.extent(*shapes[:2], **step.attributes)
        return int(np.prod(extent.shape) * extent.terms)
    if isinstance(step.rule, Linear):
        shape, terms, _ = step.rule.extent([shape for shape in shapes if shape], **step.attributes)
        return int(np.prod(shape)) * terms
    return 0


def is_product(step: Step) -> bool:
    """True if `factors` knows the step, or the products in a block, as products of matrices."""
    return isinstance(step.rule, Block | Accumulation | Rescaled) or (step.rule.domain == "" and step.rule.name in _BUILDERS)


def addends(step: Step, operands: Sequence[Any]) -> tuple[Any, int] | None:
    """The terms (n, *output) of a sum or mean over axes and what their sum is divided by; None for every other operator."""
    if (step.rule.domain, step.rule.name) not in (("", "ReduceSum"), ("", "ReduceMean"), ("certify", "Mean")):
        return None
    x, attributes = operands[0], step.attributes
    listed = [] if attributes.get("axes") is None else np.ravel(attributes["axes"]).tolist()
    if not listed and attributes.get("noop_with_empty_axes", 0):
        return None
    rank = x.ndim - 1
    axes = sorted({int(axis) % rank + 1 for axis in listed}) if listed else list(range(1, rank + 1))
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    flat = x.transpose(*axes, *kept).reshape(-1, *(x.shape[axis] for axis in kept))
    shape = [1 if axis in axes else n for axis, n in enumerate(x.shape)] if attributes.get("keepdims", 1) else flat.shape[1:]
    return flat.reshape(flat.shape[0], *shape), 1 if step.rule.name == "ReduceSum" else flat.shape[0]
