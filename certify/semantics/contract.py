"""The two narrow doors: what an operator tells engines, and what a profile tells operators.

Conventions of every array that passes here:

- float64, with a **leading case axis** before the operator's own axes; what does not vary over cases has extent 1
  there, so arrays of extent 1 and C (or 1 and R rows) meet by broadcasting. Integers and booleans are float64 too.
- An operand that the operator has but the node does not give is None.
- `X` is a tuple of `Enclosure`: the exact values of each operand over the input set (thin at a point, thick over a box).
- `r` is a tuple of deviation radii, |computed - exact| <= r, of the operands' shapes (r >= 0, may be inf);
  None says "deviation exactly zero, never pull there" (constants and inputs).
- ONNX attributes and static parameters (shapes, axes, pads, ...) come by keyword, with ONNX's own names.

A rule speaks for one output; a node with several outputs is several steps, each told `output=i` if `outputs > 1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from certify.graph.model import Unsupported
from certify.number.enclosure import Enclosure
from certify.number.upward import Array

if TYPE_CHECKING:
    from certify.number.formats import Format

Operands: TypeAlias = tuple[Enclosure | None, ...]
Radii: TypeAlias = tuple[Array | None, ...]
Tangents: TypeAlias = Sequence[Array | None]
Cases: TypeAlias = npt.NDArray[np.intp]
Errors: TypeAlias = Literal["one", "own", "stored", "told"]
SlopePull: TypeAlias = Callable[[Enclosure], Sequence[Enclosure | None]]


@dataclass(frozen=True, slots=True)
class Linearization:
    """f(x + d) - f(x) = L d + (something within `radius` of `shift`) for all x in X, |d| <= r.

    push:      L d, for tangents shaped (rows or 1 or C, *operand shape); None tangents are zero.
    pull:      L^T a, one array per operand, None where `r` was None. <push d, a> = <d, pull a>.
    magnitude: push's own expression with every factor in absolute value, applied to non-negative r and rounded up: at
               least |L| r, and large enough that gamma(terms + 2) times it (or its transpose) pays for the float64
               rounding of push and pull (for softmax p (r + sum p r), not |diag(p) - p p^T| r). None is zero.
    shift, radius: the remainder's midpoint and radius; radius is rounded up and >= 0, and may be inf (shift then 0).
    terms:     the most products that any inner product inside push or pull adds up: their own float64 rounding is
               at most gamma(terms + 2) times the same expression in absolute values. 0: they only copy, nothing is rounded.
    products: how many products one output element of push adds up, which is what a pull costs; 0: as many as `terms`.
    variation: an upper bound of |f(x + d) - f(x)| like `modulus`, where it comes for nothing.
    pull_of:  pull of these cases alone, as often as each is named: row i of the multipliers meets case cases[i]. None: not offered.
    """

    push: Callable[[Tangents], Array]
    pull: Callable[[Array], Sequence[Array | None]]
    magnitude: Callable[[Tangents], Array]
    shift: Array
    radius: Array
    terms: int = 1
    products: int = 0
    pull_of: Callable[[Array, Cases], Sequence[Array | None]] | None = None
    variation: Array | None = None

    def alike(self) -> Linearization:
        """The same, where pull does not differ from case to case."""
        return replace(self, pull_of=lambda a, cases: self.pull(a))


def of_cases(x: Array, cases: Cases) -> Array:
    """The rows of these cases, for an array that may be the same in all of them."""
    return x if x.shape[0] == 1 else x[cases]


@dataclass(frozen=True, slots=True)
class Block:
    """`terms` consecutive products of each output element, in the words of `Arithmetic.dot`."""

    terms: int
    nonzero: Array
    magnitude: Array
    total: Array
    largest: Array


class PartialSums(Protocol):
    """What is known of sums of consecutive products, in index order; only profiles that state such an order ask for it."""

    def blocks(self, size: int) -> Iterator[Block] | None:
        """Blocks of `size` products, the last one shorter; bounds over all computed operands. None: too many products."""
        ...

    def pairwise(self, leaf: float, node: float, lost: float) -> Array | None:
        """Upper bound of the sum of all errors where neighbours are added, then their sums, an odd one out passing on, until one is left.

        An error is at most leaf 2^floor(log2 |t|) + lost for a product t, node 2^floor(log2 |s|) for an addition whose exact
        result is s. node = leaf (or leaf = 0: exact products) is the unit roundoff of the format, whose additions are exact
        where numbers of the format permit, and may be fused with a product instead. None: too many products.
        """
        ...


@runtime_checkable
class Arithmetic(Protocol):
    """A profile bound to one step: its storage, accumulator and inner formats, and its order of summation.

    An arithmetic may further have `independent() -> Roundings | None`, its roundings one by one; None, or no such word: nothing is known.
    Every verb returns an upper bound of the error of the **delivered** result, the final rounding into storage
    included, elementwise; inf where the result may overflow. Magnitudes are upper bounds over all computed operands.
    """

    @property
    def storage(self) -> Format:
        """The format of the delivered result (the kernel's own format for an inner result of a fused kernel)."""
        ...

    @property
    def accumulator(self) -> Format:
        """The format in which the kernel computes before it stores."""
        ...

    @property
    def unit_roundoff(self) -> float:
        """u of the format in which the kernel computes before it stores."""
        ...

    @property
    def underflow(self) -> float:
        """The largest error of one rounding in the kernel's format that is due to underflow."""
        ...

    def round(self, magnitude: Array, quantum: Array | float = 0.0) -> Array:
        """One basic operation (+ - * / sqrt, or a plain store) whose exact result is at most `magnitude`.

        `quantum` > 0 is a power of two that divides the exact result: the error is 0 where magnitude <= 2^p quantum, and
        has no underflow term where quantum is at least the smallest subnormal (so for sums and differences).
        """
        ...

    def addition(self, magnitude: Array, smaller: Array, quantum: Array | float = 0.0) -> Array:
        """As `round`, of the sum or difference of two computed operands of the step, the smaller of which is at most `smaller` in size."""
        ...

    def scaled(self, magnitude: Array) -> Array:
        """The product, at most `magnitude`, of an operand and a power of two: exact barring overflow and underflow."""
        ...

    def delivered(self, exact: Enclosure) -> Enclosure:
        """The range of what one basic operation delivers whose exact result lies in `exact`: rounding is monotone."""
        ...

    def sum(self, n: int, magnitude: Array, total: Array, largest: Array, nonzero: Array | None = None) -> Array:
        """Add n terms: `magnitude` >= sum |t_i|, `total` >= |sum t_i|, `largest` >= max |t_i|.

        `nonzero`: how many of them may be other than exactly zero in some run; None says all n.
        """
        ...

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
        """Add n products a_i b_i and one addend c, |c| <= addend; or several, the sum of their magnitudes at most `addend`.

        `magnitude` >= sum |a_i b_i| (without c), `total` >= |sum a_i b_i + c|, `largest` >= max |a_i b_i|.
        `nonzero`: how many products have two factors that may be other than exactly zero (a product that underflows counts);
        None says all n. `partial`: sums of consecutive products, where the operator can tell.
        """
        ...

    def elementary(self, kernel: str, magnitude: Array) -> Array:
        """The function named `kernel` (an ONNX operator name in lower case), whose exact result is at most `magnitude`."""
        ...

    def accuracy(self, kernel: str) -> tuple[float, float]:
        """(relative, absolute): the kernel's error before it stores is at most relative * |result| + absolute."""
        ...

    def convert(self, magnitude: Array) -> Array:
        """An operand converted on entry (tf32)."""
        ...


class Roundings(Arithmetic, Protocol):
    """The same arithmetic, which takes note of how far a sum's individual roundings carry it.

    unstored: the kernel, which leaves its result in its own format. deviation: of the last `sum` or `dot` asked for, sqrt(sum c^2) with c
    the largest size of each of its roundings, the store's included; None where some are no roundings of mean zero. usual: the deviation
    that they usually have together, the store apart, of which nothing is proved.
    """

    unstored: Arithmetic
    deviation: Array | None

    @property
    def usual(self) -> Array: ...

    def inner(self) -> Roundings:
        """Those of `unstored`."""
        ...

    def store(self, magnitude: Array) -> Array:
        """The error of storing a number of the kernel's own format that is at most `magnitude`."""
        ...


class Rule(Protocol):
    """One operator's semantics from opset `since` of `domain`. The promises below are what tests/laws checks."""

    name: str
    domain: str
    since: int
    parameters: tuple[str, ...]  # one name per ONNX input
    static: frozenset[str]  # those that must be known constants; they arrive by keyword
    outputs: int
    nonlinear: bool  # False promises that the remainder is exactly zero whatever r is
    # A rule may further have `infinities`: "always" (it copies, selects or compares a number that really is infinite) or "points"
    # (only where every operand is known exactly). Every other rule is kept from seeing one, and its result is unbounded. And
    # `copies`: an element that may be NaN or infinite spoils its copies alone. And `deliver(*x, **attributes)`: what a kernel makes of
    # computed operands, where that is not `value` rounded into a format; `quantum` then divides what is delivered.
    # And `settles`: on known operands that hold NaN `value` gives what every kernel gives (comparisons, IsNaN, copies).
    # And `moved(X, D, **attributes)`: encloses f(x, c + D) - f(x, c) over X, for operands c that are known and move by D (None: does not
    # move), in rules that are linear in each operand.
    # And `slopes(X, r, **attributes) -> SlopePull | None`, of intervals of slopes: for all x in X and |d| <= r, f being a real number all
    # the way from x to x + d, and every multiplier a there is a matrix S with a.(f(x + d) - f(x)) = a.(S d), and S^T a lies in pull(A)
    # for every A that holds a; A is (rows, *shape), row i of case i, and None stands where r is None. None: not for these operands.
    # And `basic`: its kernel is one basic operation, or a copy that is stored (`Arithmetic.delivered`).
    # And `errors(**attributes) -> Errors | None`, which roundings its kernel does: "one", a basic operation on each element of the result;
    # "own", those of the one `sum` or `dot` that `rounding` asks for, each of one element of the result; "stored", the kernel errs in any
    # way in its own format and then stores each element once; "told", as `fluctuation` says. None, or no such word: nothing is known.
    # And then `fluctuation(X, r, roundings, magnitude, usual=False, **attributes) -> (bias, sigma)`: the kernel's error is within bias of a
    # sum of roundings of mean zero, no two results sharing any, whose largest sizes have squares that add up to at most sigma^2; or, if
    # `usual`, with the deviation that it usually has, of which nothing is proved.
    # And `floor(arithmetic, least, same, Y, **attributes)`: with least[i] at most every element of operand i, exact or computed
    # (analysis/floors), a number at most every element of the result, exact or computed; `same`: all operands are one value; Y encloses
    # the exact result. A rule with `heeds_floor` may be given the keyword `floors`, such a number for each operand: what its verbs say
    # holds then for the deviations that stay above.
    pointwise: bool  # output element i depends on element i (after broadcasting) of each operand alone

    def value(self, *x: Any, **attributes: Any) -> Any:
        """f itself, on float64 arrays and on object arrays of exact numbers or balls alike."""
        ...

    def enclose(self, X: Operands, **attributes: Any) -> Enclosure:
        """Contains f(x) for every x in X, outward rounded; isotone; at a point as thin as float64 allows."""
        ...

    def is_linear(self, X: Operands, r: Radii) -> bool:
        """True promises that `linearize` has a remainder of exactly zero for these operands."""
        ...

    def linearize(self, X: Operands, r: Radii, **attributes: Any) -> Linearization:
        """A linear map and an enclosure of what it misses, over all x in X and |d| <= r."""
        ...

    def modulus(self, X: Operands, r: Radii, **attributes: Any) -> Array:
        """>= |f(x + d) - f(x)|, rounded up; never more than |L| r + |shift| + radius."""
        ...

    def rounding(
        self, X: Operands, r: Radii, arithmetic: Arithmetic, magnitude: Array, quantum: Sequence[Array | float], **attributes: Any
    ) -> Array:
        """>= |kernel(x^) - f(x^)| for every x^ within r of X.

        `magnitude` >= |f(x^)|; `quantum[i]` is a power of two that divides every computed value of operand i (0: unknown).
        """
        ...

    def quantum(self, quantum: Sequence[Array | float], **attributes: Any) -> Array | float:
        """A power of two that divides f(x^) whenever quantum[i] divides x^_i; 0 if none is known."""
        ...


def rounded_floor(arithmetic: Arithmetic, floor: float) -> float:
    """At most what becomes of every number above `floor` that is rounded and stored: rounding is monotone, and keeps signs."""
    if floor == 0.0 or not np.isfinite(floor):
        return floor if floor == 0.0 else -np.inf
    error = float(np.max(arithmetic.round(np.full(1, abs(floor)))))
    low = float(np.nextafter(floor - error, -np.inf)) if np.isfinite(error) else -np.inf
    return max(low, 0.0) if floor > 0.0 else low


class UnsupportedOperator(Unsupported):
    """A node that no rule covers; `reason` names the operator, the node and what is missing."""


_RULES: dict[tuple[str, str], dict[int, Any]] = {}


def register(*rules: Any) -> None:
    """Add rules (or composites) to the table. Raises ValueError on a second rule for the same (domain, name, since)."""
    for rule in rules:
        versions = _RULES.setdefault((rule.domain, rule.name), {})
        if rule.since in versions:
            raise ValueError(f"two rules for {rule.domain or 'ai.onnx'}::{rule.name} since {rule.since}")
        versions[rule.since] = rule


def lookup(domain: str, name: str, opset: int) -> Any | None:
    """The rule with the greatest `since` <= opset, or None."""
    versions = _RULES.get(("" if domain == "ai.onnx" else domain, name), {})
    usable = [since for since in versions if since <= opset]
    return versions[max(usable)] if usable else None


def rules() -> list[Any]:
    """Every registered rule, sorted by domain, name and version."""
    return [_RULES[key][since] for key in sorted(_RULES) for since in sorted(_RULES[key])]
