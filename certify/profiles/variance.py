"""How far the individual roundings of a sum may carry it together, if each has mean zero given those before it.

The computed sum is the exact one plus the errors of its leaves and of its nodes, each with coefficient 1 (profiles/summation, (1)). If
these are a martingale difference sequence with |d_j| <= c_j, their sum is sub-Gaussian with variance proxy sum c_j^2, given all before
(Azuma 1967; Hoeffding 1963, section 2; for rounding Higham & Mary 2019 and Connolly, Higham & Mary 2021). The c_j are those of the worst
case, so they hold whatever the errors before them are. Notation as in profiles/summation:

- A rounded leaf errs by at most max(u |t_j|, eta): sum c_j^2 <= min(u^2 largest magnitude, count half_ulp(largest)^2) + count eta^2, for
  sum t_j^2 <= max |t_j| sum |t_j|. A leaf that may only underflow: count eta^2. A fused leaf is rounded with its node, which counts anyway.
- Nodes, in any order: each at most `cap` = h(reach), and the k-th smallest at most h((k + 1) t^).
- Nodes of one depth of a balanced tree have disjoint leaves: their exact results have absolute sum at most
  S = (1 + v)(1 + u)^(levels below) A, so sum c_j^2 <= u S cap.
- Blocks of b leaves: K times the nodes of one block, and those of a sum of K terms.

Formats that flush to zero are refused: what is flushed is no rounding of mean zero.
"""

from __future__ import annotations

import math

import numpy as np

from certify.number.formats import Format
from certify.number.rounding import addition_error, half_ulp
from certify.number.upward import Array, inflate
from certify.profiles.order import Order
from certify.profiles.summation import Terms, Tree, bits_of, by_order, capped, chain, in_pieces

USUAL = 0.425  # sqrt(1/3) of u ufp(x) for an error that is uniform in half an ulp, and ufp(x)^2 / x^2 is 0.54 on average


def summation_deviation(terms: Terms, format: Format, order: Order) -> Array:
    """sqrt(sum c_j^2) of all roundings of the sum, an upper bound; inf where a partial sum may overflow.

    Raises ValueError for a format that flushes subnormals.
    """
    if not format.subnormals:
        raise ValueError(f"{format.name} flushes subnormals, which does not round to nearest")
    return in_pieces(terms, lambda part: _deviation(part, format, order))


def _deviation(terms: Terms, format: Format, order: Order) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        tree = Tree(terms, format)
        squares = by_order(terms, tree, order, _nodes, _levels)
        underflowed = np.where(tree.absolute > 0.0, 2.0**-1000, 0.0)  # more than all squares that underflow may lack
        total = inflate(np.sqrt(inflate(squares + _leaves(terms, tree) + underflowed, 400)), 4)
    return np.where(np.isnan(total) | (tree.leaf_errors == np.inf), np.inf, total)


def usual_deviation(terms: Terms, format: Format) -> Array:
    """The deviation of a sum's roundings, added one after another in random order: an estimate, no bound.

    After j of n terms the partial sum has mean square (j/n)^2 S^2 + (j/n)(1 - j/n) Q, S the sum, Q = sum t^2, taken for that of normal
    terms with the given sum of magnitudes: Q = (pi/2) A^2/n. Rounding x to nearest errs by USUAL u |x| (significands log-uniform).
    """
    n = np.maximum(terms.leaves, 1.0)
    addend = 0.0 if terms.addend is None else terms.addend
    squares = np.minimum(0.5 * math.pi * terms.magnitude**2 / n, terms.largest * terms.magnitude) + addend**2
    rounded = squares if terms.leaf == "rounded" else 0.0
    with np.errstate(over="ignore"):
        return np.asarray(
            USUAL * format.unit_roundoff * np.sqrt(np.maximum(n - 1.0, 0.0) * (terms.total**2 / 3.0 + squares / 6.0) + rounded)
        )


def _leaves(terms: Terms, tree: Tree) -> Array:
    """Of the products, rounded or only underflowing; see above."""
    count = terms.nonzero
    lost = count * tree.format.eta**2 if terms.leaf != "exact" else np.zeros(())
    if not tree.v:
        return np.asarray(lost)
    each = half_ulp(np.minimum(terms.largest, tree.format.max), tree.format)
    return np.asarray(np.minimum(tree.u**2 * terms.largest * terms.magnitude, count * each**2) + lost)


def _nodes(tree: Tree, inside: Array, blocks: int) -> Array:
    """Blocks of at most `inside` leaves in any order, then their sums in any order ("any": one block)."""
    gamma = tree.theorem(inside) + tree.v
    growth = gamma + (tree.theorem(float(blocks)) * (1.0 + gamma) if blocks > 1 else 0.0)
    reach = tree.reach(growth)
    unit = tree.unit(bits_of(inside) + bits_of(blocks))
    cap = capped(reach, tree.format)
    squares = np.minimum((tree.m - 1.0) * cap**2, blocks * chain(inside, unit, cap, tree.format, squares=True))
    if blocks > 1:
        squares = squares + chain(blocks, None if unit is None else inside * unit, cap, tree.format, squares=True)
    return np.where(tree.overflow(reach, unit, inside * blocks), np.inf, squares)


def _levels(tree: Tree, height: int) -> Array:
    """A balanced tree of this height, one depth after another."""
    growth = math.expm1((height + 1) * tree.u) * (1.0 + 2.0**-50)
    reach = tree.reach(growth)
    unit = tree.unit(height)
    cap = capped(reach, tree.format)
    squares = np.zeros(())
    for depth in range(height):
        absolute = tree.u * (1.0 + tree.v) * (1.0 + tree.u) ** (height - depth - 1) * tree.absolute
        leaves = 2.0 ** (height - depth)
        each = cap if unit is None else np.minimum(cap, addition_error(np.minimum(leaves * unit, tree.format.max), tree.format))
        squares = squares + np.minimum(absolute * each, np.minimum(2.0**depth, tree.m - 1.0) * each**2)
    return np.where(tree.overflow(reach, unit, 2**height), np.inf, squares)
