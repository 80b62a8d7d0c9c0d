"""Error bounds of sums and dot products in one accumulator format, for an order of summation.

A kernel is a binary tree. Its m leaves are the n terms t_i (for a dot product t_i = a_i b_i) and possibly an addend c;
its m - 1 internal nodes are rounded additions. A leaf is either rounded to the format, fl(t_i), or fused into the
addition above it (FMA). Since only additions follow, the computed result is *exactly*

    sum t_i + c + (the rounding errors of leaves) + (the rounding errors of nodes),                                  (1)

each error with coefficient 1. Notation: u = 2^-p, v = u if leaves are rounded and 0 if they are exact, w = u (1 + v),
T = sum |t_i|, A = T + |c|, eta the format's largest underflow error, h(x) the error of an addition whose exact result is
at most x (`addition_error`: additions do not underflow).

**Underflow** enters by leaves only: at most eta each, whether at the rounded leaf or at the node that a fused leaf goes
into. Replace t_i by t_i + (that error): n eta is added to the bound, and T, A and all partial sums grow by at most n eta.
Hardware that flushes subnormals to zero loses up to eta at every node as well, which is the same as inserting one more
term (minus the lost value) whose own addition is exact: m eta more, and twice the leaves in theorem 2.

**Theorem 2** (Jeannerod & Rump 2013 for v = 0; no condition on m u). |error| <= (m - 1) w A + v T.
Proof by induction over the tree, for subtrees with m1, m2 leaves, absolute sums A1 >= A2 and errors e_k <= (m_k - 1) w A_k
+ v T_k. The new node's error d must satisfy d <= m2 w A1 + m1 w A2. If A2 > u A1: d <= u |s1^ + s2^| <= u (A1 + A2 + e1
+ e2) <= w (A1 + A2) + (m1 - 1) w A2 + (m2 - 1) w A1, using u A1 < A2 and u A2 <= A1. If A2 <= u A1 and s1^ is a number of
the format, rounding to nearest goes no farther than to s1^: d <= |s2^| <= A2 (1 + (m2 - 1) w + v) <= w A1 + (m2 - 1) w A2.
If s1^ is a fused leaf t, d <= |s2^| + |fl(t) - t|, and v T_1 pays for the second part, not spent at that leaf. QED.

**Partial sums.** A node's exact value is a subset sum, in [-N, P] with P + N = A, |P - N| = |sum|; computed with the
errors below it, by theorem 2, P_k - N_k + g (P_k + N_k) <= (1 + g) max(P, N), g = (m - 1) w + v, if g <= 1. So every
addition's exact result is at most `reach` = (1 + g) (A + total) / 2; for g > 1, (1 + g) A.

**Growth.** Let t^ >= every |leaf| have at most p - ceil(log2 m) bits: then j t^ is a number of the format for j <= m, and
since rounding is monotone a node with j leaves below has |exact result| <= j t^ and |computed| <= j t^ (induction). The
k-th smallest of the internal nodes, counted by leaves, has at most k + 1 of them: a smallest node with l leaves has
l - 2 strictly smaller ones inside it. Hence by (1) the nodes cost at most sum_{j=2..m} h(min(reach, j t^)).

**Zeros.** A leaf that is exactly zero (a product with a factor that is exactly zero, padding) is added exactly: its sibling
is a number of the format, with flushed subnormals too, and keeps its value; the sign of a zero is no error. A fused sibling t
becomes fl(t), a rounded leaf. So the kernel computes what the tree without its zero leaves computes, and m counts the
others. A product that underflows is no zero leaf. What holds for m leaves holds for fewer: each quantity grows with m.

**Known partial sums** (`PartialSums`) are what makes a stated order worth stating. Pairs: an addition errs by at most u ufp(s),
s its exact result, at most |partial sum| + (the errors below it): the operator adds these up along the tree. What is flushed
to zero at a node, eta, is charged to a leaf below it, each node to another one (the leftmost of its right part; the addend's
addition to the leftmost of all). The addend's addition comes last and errs by at most h(total + the errors before). Blocks:
each is a sum in any order; their results are exact leaves of a sum in any order, of absolute sum at most sum_k (|S_k| + e_k),
e_k the bound of block k. A block of a single leaf that is fused into a block sum errs at that node instead, which e_k pays.
All this presumes that nothing overflows, as the bound above shows, or A + errors at most the largest number.

Every bound is evaluated in float64 with non-negative terms only and inflated at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from certify.number.formats import Format
from certify.number.rounding import addition_error, half_ulp, ufp
from certify.number.upward import Array, add_up, inflate, lift
from certify.profiles.order import Order
from certify.semantics.contract import PartialSums

_CHUNK = 1 << 14  # elements at a time: the dozens of intermediate arrays stay in the cache


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of the leaves: n terms with sum |t| <= magnitude, |t| <= largest, an addend, |sum + addend| <= total.

    nonzero: how many of the n may be other than exactly zero, elementwise (integers in float64).
    addends: of how many numbers `addend` is the sum of magnitudes, each a leaf.
    entered: the addends were rounded before they came here.
    leaf: "exact" (numbers of the accumulator), "underflow" (exact unless they underflow there), "rounded".
    """

    n: int
    magnitude: Array
    total: Array
    largest: Array
    addend: Array | None
    leaf: str
    nonzero: Array
    addends: int = 1
    entered: bool = False

    @property
    def leaves(self) -> Array:
        return self.nonzero + float(self.added)

    @property
    def result(self) -> Array:
        """The size of the exact sum, at most."""
        return np.minimum(self.total, self.magnitude if self.addend is None else add_up(self.magnitude, self.addend))

    @property
    def added(self) -> int:
        return 0 if self.addend is None else self.addends


def terms_of(
    n: int,
    magnitude: npt.ArrayLike,
    total: npt.ArrayLike,
    largest: npt.ArrayLike,
    addend: npt.ArrayLike,
    leaf: str,
    nonzero: npt.ArrayLike | None = None,
    addends: int = 1,
) -> Terms:
    """Lifted copies (no bound underflows in float64 then); an addend that is zero everywhere is none."""
    c = np.asarray(addend, dtype=np.float64)
    m, s, t = (lift(np.asarray(x, dtype=np.float64)) for x in (magnitude, total, largest))
    count = np.minimum(float(n), np.asarray(n if nonzero is None else nonzero, dtype=np.float64))
    return Terms(n, m, s, np.minimum(t, m), lift(c) if np.any(c) else None, leaf, count, addends)


def summation_error(terms: Terms, format: Format, order: Order) -> Array:
    """Upper bound of |computed - exact| in the accumulator `format`; inf where a partial sum may overflow."""
    return in_pieces(terms, lambda part: _error(part, format, order))


def in_pieces(terms: Terms, of: Callable[[Terms], Array]) -> Array:
    """What `of` says of sums, a piece of them at a time; 0 where nothing is added or rounded."""
    given = (terms.magnitude, terms.total, terms.largest, terms.addend, terms.nonzero)
    shape = np.broadcast_shapes(*(x.shape for x in given if x is not None))
    if (terms.n == 0 and terms.added < 2) or (terms.n == 1 and terms.addend is None and terms.leaf == "exact"):
        return np.zeros(shape)
    if math.prod(shape) <= _CHUNK:
        return np.array(np.broadcast_to(of(terms), shape))
    magnitude, total, largest, nonzero = (
        np.broadcast_to(x, shape).reshape(-1) for x in (terms.magnitude, terms.total, terms.largest, terms.nonzero)
    )
    addend = None if terms.addend is None else np.broadcast_to(terms.addend, shape).reshape(-1)
    found = np.empty(magnitude.shape)
    for start in range(0, found.size, _CHUNK):
        at = slice(start, start + _CHUNK)
        part = Terms(
            terms.n, magnitude[at], total[at], largest[at], None if addend is None else addend[at], terms.leaf, nonzero[at], terms.addends
        )
        found[at] = of(part)
    return found.reshape(shape)


def ordered_error(terms: Terms, format: Format, order: Order, partial: PartialSums | None) -> Array:
    """`summation_error`, or less where the order and its partial sums are known."""
    plain = summation_error(terms, format, order)
    if partial is None or order.kind not in ("pairwise", "blocked"):
        return plain
    with np.errstate(over="ignore", invalid="ignore"):
        known = _known_pairs(terms, format, partial) if order.kind == "pairwise" else _known_blocks(terms, format, order.block, partial)
        if known is None:
            return plain
        reach = terms.magnitude + (0.0 if terms.addend is None else terms.addend) + known
        usable = (np.isfinite(plain) | (inflate(reach, 4) <= format.max)) & ~np.isnan(known)
    return np.where(usable, np.minimum(plain, known), plain)


def _known_pairs(terms: Terms, format: Format, partial: PartialSums) -> Array | None:
    u, lost = format.unit_roundoff, format.eta * ((terms.leaf != "exact") + (not format.subnormals))
    off = partial.pairwise(u if terms.leaf == "rounded" else 0.0, u, lost)
    if off is None:
        return None
    if terms.addend is not None:
        last = addition_error(np.minimum(inflate(terms.total + off, 200), format.max), format)
        off = off + np.where(terms.addend > 0.0, last, 0.0)
    return np.asarray(inflate(off, 400))


def _known_blocks(terms: Terms, format: Format, size: int, partial: PartialSums) -> Array | None:
    blocks = partial.blocks(size)
    if blocks is None or size >= terms.n:
        return None
    within, absolute, largest, count = (np.zeros(()) for _ in range(4))
    number, any_order = 0, Order("any")
    for block in blocks:
        leaves = terms_of(block.terms, block.magnitude, block.total, block.largest, 0.0, terms.leaf, block.nonzero)
        off = summation_error(leaves, format, any_order)
        reached = np.minimum(leaves.total, leaves.magnitude) + off
        within, absolute, largest = within + off, absolute + reached, np.maximum(largest, reached)
        count, number = count + (leaves.nonzero > 0.0), number + 1
    within, absolute = inflate(within, number), inflate(absolute, number + 1)
    outer = Terms(number, absolute, inflate(terms.total + within, 2), inflate(largest, 2), terms.addend, "exact", np.asarray(count))
    return inflate(within + summation_error(outer, format, any_order), 2)


def _error(terms: Terms, format: Format, order: Order) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        tree = Tree(terms, format)
        bound = by_order(terms, tree, order, _blocked, _levels)
    return np.where(np.isfinite(tree.absolute) & ~np.isnan(bound), inflate(bound, 400), np.inf)


def by_order(
    terms: Terms, tree: Tree, order: Order, blocked: Callable[[Tree, Array, int], Array], levels: Callable[[Tree, int], Array]
) -> Array:
    """The least bound that an order permits: blocked(tree, leaves of a block, blocks), levels(tree, height); any order is one block."""
    bound, extra = blocked(tree, tree.m, 1), terms.added
    if order.kind == "blocked" and order.block < terms.n:
        blocks = min(-(-terms.n // order.block) + extra, int(np.max(tree.m, initial=1.0)))
        bound = np.minimum(bound, blocked(tree, np.minimum(tree.m, order.block + extra), max(blocks, 1)))
    if order.kind == "pairwise":
        bound = np.minimum(bound, levels(tree, bits_of(terms.n) + extra))
    return bound


class Tree:
    """The quantities of the module's docstring that do not depend on the order."""

    def __init__(self, terms: Terms, format: Format) -> None:
        self.format, self.m, self.u = format, np.maximum(terms.leaves, 1.0), format.unit_roundoff
        self.v = self.u if terms.leaf == "rounded" else 0.0
        self.w = self.u * (1.0 + self.v)
        self.flushed = not format.subnormals
        self.lost = format.eta * ((terms.nonzero if terms.leaf != "exact" else 0.0) + (self.m if self.flushed else 0.0))
        addend = 0.0 if terms.addend is None else terms.addend
        total = np.asarray(terms.magnitude + addend)
        self.absolute = total + self.lost
        self.subset = np.minimum(total, 0.5 * total + 0.5 * terms.total) + self.lost
        self.products = terms.magnitude + self.lost
        largest = np.maximum(terms.largest, addend)
        self.largest = np.minimum(largest, format.max)
        rounded = np.minimum(self.u * terms.magnitude, terms.nonzero * half_ulp(terms.largest, format)) if self.v else 0.0
        self.leaf_errors = np.where(largest > format.max, np.inf, rounded) + self.lost

    def theorem(self, leaves: Array | float) -> Array:
        """(m - 1) w of theorem 2, with the terms that flushing inserts."""
        return np.asarray(((2.0 * leaves if self.flushed else leaves) - 1.0) * self.w)

    def reach(self, growth: Array | float) -> Array:
        """Upper bound of |exact result| of every addition; `growth` times the absolute sum bounds every partial error."""
        return inflate((1.0 + growth) * np.where(np.asarray(growth) <= 1.0, self.subset, self.absolute), 16)

    def unit(self, bits: int) -> Array | None:
        """t^: `largest` rounded up to p - bits bits, so that j t^ is a number of the format for j <= 2^bits."""
        kept = self.format.precision - bits
        if kept < 1:
            return None
        spacing = np.maximum(ufp(self.largest) * 2.0 ** (1 - kept), self.format.smallest_subnormal)
        return np.asarray(np.ceil(self.largest / spacing) * spacing)

    def overflow(self, reach: Array, unit: Array | None, leaves: Array | float) -> Array:
        """Where an addition's exact result may exceed the largest number."""
        limit = reach if unit is None else np.minimum(reach, leaves * unit)
        return np.asarray(limit > self.format.max)


def bits_of(n: Array | int) -> int:
    """ceil(log2 n) for the largest n."""
    return (int(np.max(n, initial=1)) - 1).bit_length()


def capped(reach: Array, format: Format) -> Array:
    """h(reach); a reach beyond the largest number is refused elsewhere, by its smaller companion j t^."""
    return addition_error(np.minimum(reach, format.max), format)


def chain(count: Array | int, unit: Array | None, cap: Array, format: Format, squares: bool = False) -> Array:
    """Upper bound of sum_{j=2..count} min(cap, h(j unit)), or of the sum of squares, one binade of j unit at a time; count >= 1.

    With unit = s 2^e, 1 <= s < 2, the j with 2^i <= j s < 2^(i+1) end at ceil(2^(i+1)/s) - 1; float64 division cannot
    carry the quotient past an integer, so that the computed end is never too large, and a j put into the next binade
    only costs more. h <= u 2^(e+i) there, half of that where j unit is the power of two itself, and 0 up to the double
    of the smallest normal number.
    """
    count = np.asarray(count, dtype=np.float64)
    additions = count - 1.0
    most = int(np.max(count, initial=1.0))
    if most == 1:
        return np.zeros_like(cap)
    power_of = 2 if squares else 1
    if unit is None:
        return np.asarray(additions * cap**power_of)
    first = ufp(unit)
    s = np.where(unit > 0.0, unit / np.where(first > 0.0, first, 1.0), 1.0)
    covered = np.ones_like(s)
    cost: Array = np.zeros(np.broadcast_shapes(cap.shape, s.shape, count.shape))
    aligned = s == 1.0
    for i in range(most.bit_length() + 1):
        end = np.minimum(np.ceil(2.0 ** (i + 1) / s) - 1.0, count)
        number = end - covered  # ends never decrease with i, and the first is at least 1
        power = first * 2.0**i
        each = np.where(power > format.smallest_normal, format.unit_roundoff * power, 0.0)
        whole = np.minimum(cap, each) ** power_of
        at_power = np.where(aligned & (number >= 1.0), whole - np.minimum(cap, 0.5 * each) ** power_of, 0.0)
        cost = cost + (number * whole - at_power)
        covered = end
    return cost


def _blocked(tree: Tree, inside: Array, blocks: int) -> Array:
    """Blocks of at most `inside` leaves in any order, then the block sums in any order ("any": one block).

    Inside: theorem 2 per block, summed over blocks, or (1) with growth. Outside: K block sums are numbers of the format
    with absolute sum at most (1 + gamma) A, gamma the block's factor of theorem 2; a sum of r of them has r `inside` leaves.
    """
    gamma = tree.theorem(inside) + tree.v
    growth = gamma + (tree.theorem(float(blocks)) * (1.0 + gamma) if blocks > 1 else 0.0)
    reach = tree.reach(growth)
    unit = tree.unit(bits_of(inside) + bits_of(blocks))
    cap = capped(reach, tree.format)
    theorem = tree.theorem(inside) * tree.absolute + (tree.v * tree.products if tree.v else 0.0) + tree.lost
    nodes = np.minimum((tree.m - 1) * cap, blocks * chain(inside, unit, cap, tree.format))
    bound = np.minimum(theorem, tree.leaf_errors + nodes)
    if blocks > 1:
        sums = tree.theorem(float(blocks)) * (1.0 + gamma) * tree.absolute
        bound = bound + np.minimum(sums, chain(blocks, None if unit is None else inside * unit, cap, tree.format))
    return np.where(tree.overflow(reach, unit, inside * blocks) | (tree.leaf_errors == np.inf), np.inf, bound)


def _levels(tree: Tree, height: int) -> Array:
    """A tree of the given height: depth d has at most 2^d nodes of at most 2^(height - d) leaves each.

    The nodes of one depth have disjoint leaves: their exact results have absolute sum at most (1 + v)(1 + u)^(height - d - 1) A,
    of which u is lost; or each costs h(min(reach, 2^(height - d) t^)).
    """
    growth = math.expm1((height + 1) * tree.u) * (1.0 + 2.0**-50)
    reach = tree.reach(growth)
    unit = tree.unit(height)
    cap = capped(reach, tree.format)
    bound = tree.leaf_errors
    for depth in range(height):
        together = tree.u * (1.0 + tree.v) * (1.0 + tree.u) ** (height - depth - 1) * tree.absolute
        leaves = 2.0 ** (height - depth)
        each = cap if unit is None else np.minimum(cap, addition_error(np.minimum(leaves * unit, tree.format.max), tree.format))
        bound = bound + np.minimum(together, np.minimum(2.0**depth, tree.m - 1.0) * each)
    return np.where(tree.overflow(reach, unit, 2**height) | (tree.leaf_errors == np.inf), np.inf, bound)
