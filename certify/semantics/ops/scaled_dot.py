"""Scaled dot-product attention: softmax(alpha Q K^T, capped, biased, masked) V, as a script of primitives.

What is covered, inner results in the kernel's format throughout:

- Unfused kernels, which store scores, capped and biased scores, probabilities and the result, each rounded into storage; fused
  ones, which keep any of them; the scale on the scores, on one factor or, as the standard's definition has it, its root rounded
  into storage on both (`prescaled`); the bias within the product's sum or after it (ops/rescaled).
- Softmax over all keys at once or in blocks of at least 16 keys (flash attention), in its rescaling form (families/masked_softmax);
  probabilities, or the weights before division, rounded into storage or not.
- Masked scores as -inf or as the lowest number. A query none of whose keys is allowed gives 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.masked_softmax import MaskedSoftmax
from certify.semantics.families.writer import Writer

Allowed = npt.NDArray[np.bool_]
_BOOL = 9


@dataclass(frozen=True, slots=True)
class Heads:
    """Extents: batch, query heads, key and value heads, queries, keys, size of a head of Q and K, of V."""

    batch: int
    queries: int
    keys: int
    rows: int
    columns: int
    size: int
    value_size: int

    @property
    def group(self) -> int:
        return self.queries // self.keys


def heads_of(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> Heads:
    """Of (batch, heads, length, size) shapes. Raises UnsupportedOperator where they do not fit each other."""
    if k[:3] != v[:3] or q[0] != k[0] or q[3] != k[3] or k[1] == 0 or q[1] % k[1]:
        raise UnsupportedOperator(f"Q, K and V of shapes {list(q)}, {list(k)}, {list(v)} do not fit")
    return Heads(q[0], q[1], k[1], q[2], k[2], q[3], v[3])


def split_heads(s: Writer, x: str, shape: tuple[int, ...], heads: int) -> tuple[str, tuple[int, ...]]:
    """(batch, length, heads x size) as (batch, heads, length, size), and its shape. Raises UnsupportedOperator."""
    if len(shape) == 4:
        return x, shape
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise UnsupportedOperator(f"an operand of shape {list(shape)} is not {heads} heads")
    split = s.reshape(x, (*shape[:2], heads, shape[2] // heads))
    return s.step("Transpose", split, perm=(0, 2, 1, 3)), (shape[0], heads, shape[1], shape[2] // heads)


def joined_heads(s: Writer, x: str, h: Heads, output: str | None = None) -> str:
    """(batch, heads, length, size) of values as (batch, length, heads x size)."""
    return s.reshape(s.step("Transpose", x, perm=(0, 2, 1, 3)), (h.batch, h.rows, h.queries * h.value_size), output)


@dataclass(slots=True)
class Bias:
    """What is added to scores (a name and its shape, four axes), and which are allowed: a fixed pattern, computed truth values."""

    added: str | None = None
    shape: tuple[int, ...] = ()
    fixed: Allowed | None = None
    computed: str | None = None

    def restrict(self, allowed: Allowed) -> None:
        self.fixed = allowed if self.fixed is None else self.fixed & allowed


def take_mask(s: Writer, bias: Bias, position: int, parameter: str, h: Heads, padded: bool) -> None:
    """Take a mask operand into the bias: truth values allow; numbers are added, and -inf among them forbids.

    padded: a last axis that is too short is filled up with what forbids. Raises UnsupportedOperator where shapes do not fit.
    """
    e = s.e
    name = e.operands[position] if position < len(e.operands) else None
    if name is None:
        return
    shape = (1,) * (4 - len(e.shapes[position])) + e.shapes[position]
    full = (h.batch, h.queries, h.rows, h.columns)
    short = h.columns - shape[-1] if padded else 0
    if padded and shape[-1] == 1 < h.columns:
        raise UnsupportedOperator("a mask for a single key, which may be meant for all of them or for the first")
    if len(shape) != 4 or short < 0 or any(a not in (1, b) for a, b in zip((*shape[:3], shape[3] + short), full, strict=True)):
        raise UnsupportedOperator(f"a mask of shape {list(e.shapes[position])} for scores of shape {list(full)}")
    if short:
        bias.restrict(np.arange(h.columns).reshape((1, 1, 1, -1)) < h.columns - short)
    exact = e.constants.get(parameter)
    if e.elements[position] == _BOOL and exact is not None:
        bias.restrict(_filled(exact.reshape(shape) != 0.0, short))
        return
    given = s.reshape(name, shape)
    wide = (*shape[:3], shape[3] + short)
    if e.elements[position] == _BOOL:
        bias.computed = _lengthened(s, given, short)
        return
    if exact is None or not np.isfinite(exact).all() or not np.isfinite(e.stored[parameter]).all():
        forbidden = s.step("IsInf", given, detect_positive=0)
        bias.computed = _lengthened(s, s.step("Not", forbidden), short)
        given = s.step("Where", forbidden, s.constant(0.0), given)
    bias.added, bias.shape = _lengthened(s, given, short), wide


def _filled(allowed: Allowed, short: int) -> Allowed:
    return np.pad(allowed, [(0, 0)] * 3 + [(0, short)], constant_values=False)


def _lengthened(s: Writer, x: str, short: int) -> str:
    """Zeros (not allowed, nothing added) up to the number of keys."""
    return s.step("Pad", x, pads=np.asarray([0, 0, 0, 0, 0, 0, 0, short])) if short else x


def causal(h: Heads, offset: Any) -> Allowed:
    """Query i may look at key j <= i + offset; one offset, or one a batch."""
    return window(h, offset, -1, 0)


def window(h: Heads, offset: Any, left: int, right: int) -> Allowed:
    """Keys from p - left to p + right, p = i + offset; -1 is no limit."""
    at = np.arange(h.rows).reshape((1, 1, -1, 1)) + np.asarray(offset).reshape((-1, 1, 1, 1))
    ahead = np.arange(h.columns).reshape((1, 1, 1, -1)) - at
    allowed = np.ones(ahead.shape, dtype=bool)
    if left >= 0:
        allowed &= ahead >= -left
    return allowed & (ahead <= right) if right >= 0 else allowed


@dataclass(frozen=True, slots=True)
class Scores:
    """Names of the scores at each stage, (batch, heads, queries, keys): products, capped, biased and masked, probabilities."""

    raw: str
    capped: str
    masked: str
    weights: str


def product_of(s: Writer, q: str, k: str, h: Heads, bias: Bias | None, **scale: Any) -> str:
    """alpha Q K^T (+ what is added), each key head against its group of query heads; held in whatever format."""
    turned = s.step("Transpose", k, perm=(0, 1, 3, 2))
    added = None if bias is None else bias.added
    if h.group == 1:
        return s.step("Held", s.step("RescaledMatMul", q, turned, added, domain="certify", **scale), inner=True, domain="certify")
    q = s.reshape(q, (h.batch, h.keys, h.group, h.rows, h.size))
    turned = s.reshape(turned, (h.batch, h.keys, 1, h.size, h.columns))
    if added is not None and bias is not None:
        heads = (1, 1) if bias.shape[1] == 1 else (h.keys, h.group)
        added = s.reshape(added, (bias.shape[0], *heads, *bias.shape[2:]))
    product = s.step("Held", s.step("RescaledMatMul", q, turned, added, domain="certify", **scale), inner=True, domain="certify")
    return s.reshape(product, (h.batch, h.queries, h.rows, h.columns), inner=True)


def capped(s: Writer, x: str, softcap: float) -> str:
    """softcap tanh(x / softcap), each step stored or not; also by the reciprocal of softcap, rounded."""
    cap = s.step("Store", s.constant(softcap), domain="certify")
    part = s.step("Again", s.step("Div", x, cap), inner=True, domain="certify")
    part = s.step("Held", s.step("Tanh", part), inner=True, domain="certify")
    return s.step("Held", s.step("Mul", part, cap), inner=True, domain="certify")


def scores_of(s: Writer, q: str, k: str, h: Heads, bias: Bias, softcap: float, apart: bool, **scale: Any) -> Scores:
    """All stages. apart: the bias is not added within the product, whose result is wanted as well."""
    within = not apart and softcap <= 0.0
    raw = product_of(s, q, k, h, bias if within else None, **scale)
    current = cap = capped(s, raw, softcap) if softcap > 0.0 else raw
    if bias.added is not None and not within:
        current = s.step("Held", s.step("Add", current, bias.added), inner=True, domain="certify")
    current = masked(s, current, bias)
    return Scores(raw, cap, current, s.step("MaskedSoftmax", current, domain="certify"))


def masked(s: Writer, x: str, bias: Bias) -> str:
    """-inf where the bias does not allow."""
    allowed = bias.computed
    if bias.fixed is not None and not bias.fixed.all():
        fixed = s.constant(bias.fixed)
        allowed = fixed if allowed is None else s.step("And", allowed, fixed)
    if allowed is None:
        return x
    return s.step("Masked", s.step("Mask", allowed, x, inner=True, domain="certify"), inner=True, domain="certify")


def weighted(s: Writer, weights: str, v: str, h: Heads, output: str | None = None) -> str:
    """Probabilities times V, (batch, heads, queries, size of a value)."""
    if h.group == 1:
        return s.step("RescaledMatMul", weights, v, domain="certify", output=output, unnormalized=True)
    weights = s.reshape(weights, (h.batch, h.keys, h.group, h.rows, h.columns))
    v = s.reshape(v, (h.batch, h.keys, 1, h.columns, h.value_size))
    product = s.step("RescaledMatMul", weights, v, domain="certify", unnormalized=True)
    return s.reshape(product, (h.batch, h.queries, h.rows, h.value_size), output)


register(MaskedSoftmax())
