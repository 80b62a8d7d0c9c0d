"""The rule kit: one call checks every promise that a rule makes in `certify.semantics.contract`.

mpmath is the oracle, and no comparison has a tolerance: float64 results are taken as the exact numbers they are, and
the oracle works with so many bits (256 beyond the spread of the data) that an algebraic remainder is computed exactly.
Where the contract itself allows push and pull their own rounding, that proven bound, gamma(terms + 2) |L| |d|, is used.

    check_rule(RULE, boxes=[((lo, hi), (lo, hi)), ...], hard_points=[(a, b), ...], oracle=elementwise(lambda a, b: a * b))

A box has one (lo, hi) per operand (None: absent), arrays of the operand's own shape *without* case axis; the kit adds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, get_args

import numpy as np
from mpmath import mp, mpf

from certify.number.enclosure import Enclosure
from certify.number.upward import Array
from certify.semantics.contract import Errors, Linearization
from tests.laws.machine import E4M3, E5M2, MIXED, Exact, Machine, elementwise, exact
from tests.laws.places import Box, Subject, as_box, enclosures, finite, part_of, point, precision, radii_of, samples
from tests.laws.slopes import broken_slopes

__all__ = ["LawBroken", "Subject", "check_rule", "elementwise", "exact", "point"]

Oracle: TypeAlias = Callable[..., Exact]
# kernel(machine, *x, **attributes): the delivered results for exact operands that are numbers of machine's format
Kernel: TypeAlias = Callable[..., Exact]

RADII = (0.0, 2.0**-40, 2.0**-10, 0.125, 1.5)
NOISE = 2.0**-44  # a remainder smaller than this may be all float64's own
SLACK = mpf(2) ** -40  # for promises of tightness alone (modulus is never much more than its parts), never for soundness


class LawBroken(AssertionError):
    """A rule broke the law named first in the message."""


def check_rule(
    rule: Any,
    boxes: Sequence[Box],
    hard_points: Sequence[Sequence[Any]] = (),
    *,
    oracle: Oracle,
    attributes: dict[str, Any] | None = None,
    radii: Sequence[float] = RADII,
    kinks: Sequence[float] = (),
    constant: Sequence[int] = (),
    smooth: Sequence[Sequence[Any]] = (),
    kernel: Kernel | None = None,
    machines: Sequence[Machine] = (E5M2, E4M3, MIXED),
    exact_push: bool = False,
    shapes: bool | None = None,
    seed: int = 0,
) -> None:
    """Raise LawBroken, naming the law, unless `rule` keeps every promise at the given places.

    hard_points: operand tuples, checked as thin boxes (put ±0, subnormals, huge values, ties and kinks there).
    oracle:      an implementation independent of the rule: object arrays of mpf without case axis -> the same; see `elementwise`.
    attributes:  ONNX attributes and static parameters.
    radii:       absolute radii of deviation; inf, per-element mixtures with zeros, and None are tried as well.
    kinks:       scalars at which x and x + d are placed whenever the box and radius allow.
    constant:    indexes of operands that never deviate (radius None).
    smooth:      points (operand tuples) at which the remainder must shrink with the square of the radius.
    kernel:      emulated kernel, kernel(machine, *x, **attributes) by `machine.fl`, `.fl_sum`, `.fl_dot`, `.fl_elementary`;
                 None skips rounding.
    exact_push:  push on a unit vector shows the very slope that the remainder is relative to (no inner products): no gamma.
    shapes:      also try scalars and empty arrays (default: for pointwise rules).
    """
    subject = Subject(rule, oracle, dict(attributes or {}), tuple(constant), tuple(kinks), exact_push, seed)
    everything = [as_box(box) for box in boxes] + [point(*x) for x in hard_points]
    with np.errstate(all="ignore"):
        for box in everything:
            with mp.workprec(precision(box, radii)):
                check_value(subject, box)
                check_enclose(subject, box)
                check_quantum(subject, box)
                check_errors(subject, box)
                for r in radii_of(subject, box, radii):
                    check_linearize(subject, box, r)
        for x in smooth:
            check_order(subject, point(*x))
        check_stacked(subject, everything)
        if kernel is not None:
            for machine in machines:
                with mp.workprec(1200):
                    check_rounding(subject, machine, kernel, everything)
        if rule.pointwise if shapes is None else shapes:
            check_shapes(subject, everything)


def require(law: str, holds: Any, box: Any, detail: object = "") -> None:
    if not np.all(holds):
        raise LawBroken(f"{law}: at {box!r} {detail!r}")


def check_value(s: Subject, box: Box) -> None:
    """value agrees with the oracle: exactly so on balls, and its float64 result lies in the enclosure of its point.

    A rule without operands has its float64 value alone.
    """
    for x, _ in samples(s, box, tuple(None if b is None else np.zeros_like(b[0]) for b in box), count=3):
        truth = s.f([None if a is None else exact(a) for a in x])
        X = tuple(None if a is None else Enclosure.point(a[None]) for a in x)
        value = s.rule.value(*[None if a is None else a[None] for a in x], **s.attributes)
        thin = s.rule.enclose(X, **s.attributes)
        require("value has the oracle's shape", value.shape[1:] == truth.shape and thin.shape == value.shape, box, value.shape)
        known = finite(truth)
        inside = ((thin.lo <= value) & (value <= thin.hi))[0]
        require("float64 value inside enclosure", inside | ~known | ~np.isfinite(value[0]), x, value)
        if not known.all() or not x:
            continue  # exact numbers may raise where there is no value
        found = objects(s.rule.value(*[None if a is None else exact(a)[None] for a in x], **s.attributes)[0])
        require("value on mpmath numbers", [_close(a, b) for a, b, k in zip(found.flat, truth.flat, known.flat, strict=True) if k], x)


def _close(a: Any, b: mpf) -> bool:
    """Equal but for the last 40 of the working bits: both are correct to the precision, neither is exact."""
    return bool(abs(mpf(a) - b) <= mp.ldexp(max(abs(b), mpf(2) ** -1000), 40 - mp.prec))


def check_enclose(s: Subject, box: Box) -> None:
    """Contains every f(x), lo <= hi, no NaN; a sub-box's enclosure lies inside."""
    X = enclosures(box)
    Y = s.rule.enclose(X, **s.attributes)
    require("enclose has lo <= hi, not NaN", Y.lo <= Y.hi, box)
    lo, hi = exact(Y.lo[0]), exact(Y.hi[0])
    for x, _ in samples(s, box, tuple(None if b is None else np.zeros_like(b[0]) for b in box)):
        truth = s.f([None if a is None else exact(a) for a in x])
        require("inclusion", ((lo <= truth) & (truth <= hi)) | ~finite(truth), x, (Y.lo, Y.hi))
    rng = s.rng()
    for _ in range(4):
        part = tuple(None if b is None else part_of(rng, *b) for b in box)
        inner = s.rule.enclose(enclosures(part), **s.attributes)
        require("isotonicity", (Y.lo <= inner.lo) & (inner.hi <= Y.hi), (box, part), (Y, inner))


def check_linearize(s: Subject, box: Box, r: Sequence[Array | None]) -> None:
    """push, pull, magnitude, remainder and modulus at one box and one tuple of radii (no case axis)."""
    X, radii = enclosures(box), tuple(None if a is None else a[None] for a in r)
    L: Linearization = s.rule.linearize(X, radii, **s.attributes)
    modulus = s.rule.modulus(X, radii, **s.attributes)
    where = (box, r)
    require("shift is finite, radius and modulus >= 0, not NaN", np.isfinite(L.shift) & (L.radius >= 0), where, L)
    require("modulus >= 0, not NaN", modulus >= 0, where, modulus)
    if not s.rule.nonlinear:
        require("a linear rule has no remainder", (L.shift == 0) & (L.radius == 0), where)
    matrix = matrices(L, box, r)
    check_transpose(s, L, matrix, where)
    size = exact(np.broadcast_to(L.magnitude(radii), modulus.shape)[0])
    shift, radius = (exact(np.broadcast_to(a, modulus.shape)[0]) for a in (L.shift, L.radius))
    require("magnitude >= |L| r", size >= apply(matrix, r, absolute=True, shape=size.shape), where)
    for x, d in samples(s, box, r):
        check_deviation(s, L, matrix, (x, d), (shift, radius, exact(modulus[0])))
    most = (size + abs(shift) + radius) * (1 + SLACK) + mpf(2) ** -490
    require("modulus <= |L| r + |shift| + radius", exact(modulus[0]) <= most, where, (modulus, L))
    broken = broken_slopes(s, box, r)
    require("slope intervals", broken is None, where, broken)


def check_deviation(s: Subject, L: Linearization, matrix: list[Exact | None], at: Any, bounds: tuple[Exact, Exact, Exact]) -> None:
    x, d = at
    shift, radius, modulus = bounds
    before = [None if a is None else exact(a) for a in x]
    after = [a if a is None or b is None else moved(a, b) for a, b in zip(before, d, strict=True)]
    change = objects(s.f(after) - s.f(before))
    known = finite(change)
    require("where f has no value the radius is inf", known | (radius == mp.inf), at)
    require("where f has no value the modulus is inf", known | (modulus == mp.inf), at)
    slack = mpf(0) if s.exact_push else gamma(L.terms + 2) * exact(L.magnitude([None if a is None else np.abs(a)[None] for a in d])[0])
    remainder = objects(change - apply(matrix, d, shape=change.shape))
    require("remainder", (abs(remainder - shift) <= radius + slack) | ~known, at, (remainder, shift, radius))
    require("modulus >= |f(x + d) - f(x)|", (abs(change) <= modulus) | ~known, at, (change, modulus))


def objects(x: Any) -> Exact:
    """An object array, also where numpy unwrapped a scalar."""
    return np.asarray(x, dtype=object)


def moved(x: Exact, d: Array) -> Exact:
    return objects(x + exact(d))


def gamma(n: int) -> mpf:
    return n * mpf(2) ** -53 / (1 - n * mpf(2) ** -53)


def matrices(L: Linearization, box: Box, r: Sequence[Array | None]) -> list[Exact | None]:
    """For each operand the matrix of push, shaped (operand elements, *result shape): push of the unit vectors."""
    out: list[Exact | None] = []
    for i, radius in enumerate(r):
        if radius is None:
            out.append(None)
            continue
        units = np.eye(radius.size).reshape(radius.size, *radius.shape)
        tangents: list[Array | None] = [None] * len(box)
        tangents[i] = units
        pushed = L.push(tangents)
        out.append(exact(np.broadcast_to(pushed, (radius.size, *pushed.shape[1:]))))
    return out


def apply(matrix: list[Exact | None], d: Sequence[Array | None], absolute: bool = False, shape: tuple[int, ...] = ()) -> Exact:
    """L d, or |L| |d|, exactly; 0 inf is 0."""
    total = exact(np.zeros(shape))
    for M, a in zip(matrix, d, strict=True):
        if M is None or a is None:
            continue
        for row, element in zip(M, a.ravel(), strict=True):
            if element != 0:
                total = total + (abs(row) if absolute else row) * np.where(row == 0, mpf(0), mpf(float(element)))
    return np.asarray(total, dtype=object)


def check_transpose(s: Subject, L: Linearization, matrix: list[Exact | None], where: Any) -> None:
    """pull of unit vectors gives the rows of push's matrix; both are linear; None operands get None."""
    shape = next((M.shape[1:] for M in matrix if M is not None), None)
    if shape is None:
        return
    count = int(np.prod(shape, dtype=int))
    pulled = L.pull(np.eye(count).reshape(count, *shape))
    alike = [(a is None) == (b is None) for a, b in zip(pulled, matrix, strict=True)]
    require("pull gives one array per operand, None where r is None", alike, where)
    rng = s.rng()
    a = rng.integers(-8, 9, (1, *shape)).astype(np.float64)
    again = L.pull(a)
    for i, (M, rows) in enumerate(zip(matrix, pulled, strict=True)):
        if M is None or rows is None or M.size == 0:
            continue
        n = M.shape[0]
        require("pull has the operand's shape", int(np.prod(rows.shape[1:], dtype=int)) == n, where, rows.shape)
        transposed = exact(np.broadcast_to(rows, (count, *rows.shape[1:]))).reshape(count, n).T
        columns = M.reshape(n, count)
        slack = mpf(0) * abs(columns) if s.exact_push else _unit_slack(L, i, n, where)
        require("<push d, a> = <d, pull a>", abs(columns - transposed) <= 2 * slack, where, (columns, transposed))
        sums = (transposed * exact(a).reshape(count)).sum(axis=1)
        spread = gamma(L.terms + 2) * (abs(transposed) * abs(exact(a)).reshape(count)).sum(axis=1) + 8 * slack.sum(axis=1)
        off = abs(exact(np.broadcast_to(again[i], (1, *rows.shape[1:]))).reshape(n) - sums)  # type: ignore[arg-type]
        require("pull is linear", off <= 2 * spread, where)


def _unit_slack(L: Linearization, operand: int, n: int, where: Any) -> Exact:
    """gamma(terms + 2) |L| e_j for every unit vector e_j of an operand, shaped (n, results)."""
    shape = where[1][operand].shape
    tangents: list[Array | None] = [None] * len(where[0])
    tangents[operand] = np.eye(n).reshape(n, *shape)
    size = L.magnitude(tangents)
    return gamma(L.terms + 2) * exact(np.broadcast_to(size, (n, *size.shape[1:]))).reshape(n, -1)


def check_order(s: Subject, box: Box) -> None:
    """At a smooth point the remainder falls by about 16^2 when the radius falls by 16."""
    X = enclosures(box)
    sizes = []
    for r in (2.0**-8, 2.0**-12):
        radii = tuple(None if x is None or i in s.constant else np.full(x.shape, r) for i, x in enumerate(X))
        L = s.rule.linearize(X, radii, **s.attributes)
        sizes.append(np.abs(L.shift) + L.radius)
    require("remainder shrinks as r^2", (sizes[1] <= sizes[0] / 100) | (sizes[0] < NOISE), box, sizes)


class Spy:
    """An arithmetic that writes down which verbs a rule asks for, and what it is told."""

    VERBS = frozenset({"round", "addition", "scaled", "sum", "dot", "elementary", "accuracy", "convert"})

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.asked: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._machine, name)
        if name not in self.VERBS:
            return known

        def told(*given: Any, **named: Any) -> Any:
            self.asked.append((name, known(*given, **named)))
            return self.asked[-1][1]

        return told


def check_errors(s: Subject, box: Box) -> None:
    """What a rule says of its kernel's roundings (`Rule.errors`) is what its `rounding` asks for."""
    said = getattr(s.rule, "errors", None)
    word = None if said is None else said(**s.attributes)
    require("errors says a known word", word in (None, *get_args(Errors)), box, word)
    if word not in ("one", "own"):
        require("what is told is told by fluctuation", word != "told" or callable(s.rule.fluctuation), box, word)
        return
    X, spy = enclosures(box), Spy(MIXED)
    born = s.rule.rounding(X, (None,) * len(X), spy, s.rule.enclose(X, **s.attributes).mag, [0.0] * len(X), **s.attributes)
    verbs = {verb for verb, _ in spy.asked}
    if word == "one":
        require("one rounding is one basic operation", verbs <= {"round", "addition", "scaled"}, box, verbs)
    else:
        require("own roundings are those of one sum", len(spy.asked) == 1 and verbs <= {"sum", "dot"}, box, verbs)
        require("and no others", born <= np.asarray(spy.asked[0][1]), box, born)


def check_quantum(s: Subject, box: Box) -> None:
    """quantum divides f(x), or what the rule delivers by itself, when the operands' quanta divide x.

    Tried on multiples of powers of two near the box.
    """
    for exponent in (-3, 0, 5):
        unit = 2.0**exponent
        x = [None if b is None else np.clip(np.rint(b[0] / unit), -(2.0**20), 2.0**20) * unit for b in box]
        quantum = s.rule.quantum([0.0 if a is None else unit for a in x], **s.attributes)
        delivers = getattr(s.rule, "deliver", None)
        truth = s.f([None if a is None else exact(a) for a in x]) if delivers is None else exact(delivers(*x, **s.attributes))
        q = np.broadcast_to(np.asarray(quantum, dtype=np.float64), (1, *truth.shape))[0]
        require("quantum is 0 or a power of two", (q == 0) | (np.frexp(q)[0] == 0.5), box, q)
        ratio = [mp.isint(t / mpf(float(c))) for t, c in zip(truth.flat, q.flat, strict=True) if c > 0 and mp.isfinite(t)]
        require("quantum divides f(x)", ratio, x, (q, truth))
    none = np.asarray(s.rule.quantum([0.0] * len(box), **s.attributes))
    require("no quantum from nothing", (none == 0) | (delivers is not None), box)


def check_rounding(s: Subject, machine: Machine, kernel: Kernel, boxes: Sequence[Box]) -> None:
    """The emulated kernel stays within rounding: near every box, and for unary pointwise rules on all numbers of an 8-bit format."""
    for box in boxes:
        if all(b is None or np.all((np.abs(b) < machine.max) | np.isneginf(b)) for b in box):
            for scale in (0.0, 2.0**-6, 1.0):
                r = [None if b is None else np.full(b[0].shape, 0.0 if i in s.constant else scale) for i, b in enumerate(box)]
                _check_kernel(s, machine, kernel, box, r)
    if s.rule.pointwise and sum(b is not None for b in boxes[0]) == 1 and machine.precision <= 4:
        every = machine.numbers()
        thin = tuple(None if b is None else (every, every) for b in boxes[0])
        _check_kernel(s, machine, kernel, thin, [None if b is None else 0.0 * every for b in boxes[0]])


def _check_kernel(s: Subject, machine: Machine, kernel: Kernel, box: Box, r: Sequence[Array | None]) -> None:
    box = tuple(None if b is None else tuple(machine.fl(exact(end)).astype(np.float64) for end in b) for b in box)
    X, radii = enclosures(box), tuple(None if a is None else a[None] for a in r)
    magnitude = s.rule.enclose(tuple(None if x is None else x.widen(a) for x, a in zip(X, radii, strict=True)), **s.attributes).mag
    for x, d in samples(s, box, tuple(r), count=4):
        places = zip(x, d, box, r, strict=True)
        computed = [None if a is None else _into(machine, b, a, e, q) for a, e, b, q in places]
        quanta = [0.0 if c is None else np.array([_lowest_bit(v) for v in c.flat]).reshape(1, *c.shape) for c in computed]
        truth, delivered = s.f(computed), kernel(machine, *computed, **s.attributes)
        off = [abs(y - t) if mp.isfinite(y) else mp.inf for y, t in zip(delivered.flat, truth.flat, strict=True)]
        for quantum in (quanta, [0.0] * len(quanta)):
            bound = s.rule.rounding(X, radii, machine, magnitude, quantum, **s.attributes)
            require("rounding >= 0, not NaN", bound >= 0, box, bound)
            bounds = exact(np.broadcast_to(bound, (1, *truth.shape))[0])
            holds = [not mp.isfinite(t) or e <= b for e, b, t in zip(off, bounds.flat, truth.flat, strict=True)]
            require("rounding", holds, (machine, computed), (off, bound))


def _into(machine: Machine, box: Any, x: Array, d: Array | None, r: Array | None) -> Exact:
    """Numbers of the format near x + d and within r of the box, whose ends are such numbers: rounding stays between them."""
    still = machine.fl(exact(x))
    if d is None or r is None:
        return still
    near = machine.fl(exact(x + d))
    return np.where((near >= exact(box[0]) - exact(r)) & (near <= exact(box[1]) + exact(r)), near, still)


def _lowest_bit(x: mpf) -> float:
    """The largest power of two dividing x; for 0 any will do."""
    if x == 0:
        return 1.0
    significand, exponent = int(x.man), int(x.exp)
    return float(mp.ldexp(significand & -significand, exponent))


def check_stacked(s: Subject, boxes: Sequence[Box]) -> None:
    """Boxes of equal shapes stacked on the case axis: each case keeps its own promises, and extent 1 meets C."""
    shapes = [[None if a is None else a[0].shape for a in b] for b in boxes]
    alike = [b for b, shape in zip(boxes, shapes, strict=True) if shape == shapes[0]][:5]
    fixed = {*s.constant, *(i for i, name in enumerate(s.rule.parameters) if name in s.rule.static)}
    alike = [tuple(boxes[0][i] if i in fixed else a for i, a in enumerate(b)) for b in alike]
    box = tuple(None if a is None else tuple(np.stack([b[i][k] for b in alike]) for k in (0, 1)) for i, a in enumerate(alike[0]))  # type: ignore[index]
    X = tuple(None if b is None else Enclosure(b[0], b[1]) for b in box)
    for extent in (1, len(alike)):
        r = [None if b is None or i in fixed else np.full((extent, *b[0].shape[1:]), 0.25) for i, b in enumerate(box)]
        _check_cases(s, box, X, r)


def _check_cases(s: Subject, box: Any, X: Any, r: Sequence[Array | None]) -> None:
    L, Y = s.rule.linearize(X, tuple(r), **s.attributes), s.rule.enclose(X, **s.attributes)
    d = [None if a is None else np.broadcast_to(a, b[0].shape) for a, b in zip(r, box, strict=True)]
    pulled = L.pull(np.ones(Y.shape))
    require("pull keeps the case axis", [p is None or p.shape == b[0].shape for p, b in zip(pulled, box, strict=True)], box)
    pushed, size = np.broadcast_to(L.push(d), Y.shape), np.broadcast_to(L.magnitude(d), Y.shape)
    shift, radius, modulus = (np.broadcast_to(a, Y.shape) for a in (L.shift, L.radius, s.rule.modulus(X, tuple(r), **s.attributes)))
    for c in range(Y.shape[0]):
        with mp.workprec(precision(box, (0.25,))):
            before = s.f([None if b is None else exact(b[0][c]) for b in box])
            change = objects(
                s.f(
                    [
                        None if b is None else exact(b[0][c]) if t is None else moved(exact(b[0][c]), t[c])
                        for b, t in zip(box, d, strict=True)
                    ]
                )
                - before
            )
            known = finite(change)
            remainder = abs(objects(change - exact(pushed[c]) - exact(shift[c])))
            require("stacked inclusion", ((exact(Y.lo[c]) <= before) & (before <= exact(Y.hi[c]))) | ~finite(before), (box, c))
            require("stacked remainder", (remainder <= exact(radius[c]) + gamma(L.terms + 2) * exact(size[c])) | ~known, (box, c))
            require("stacked modulus", (abs(change) <= exact(modulus[c])) | ~known, (box, c))


def check_shapes(s: Subject, boxes: Sequence[Box]) -> None:
    """Scalars and empty arrays go through every verb."""
    for box in boxes[:2]:
        if any(b is not None and b[0].size == 0 for b in box):
            continue
        scalar = tuple(None if b is None else (b[0].flat[0].reshape(()), b[1].flat[0].reshape(())) for b in box)
        empty = tuple(None if b is None else (b[0].ravel()[:0], b[1].ravel()[:0]) for b in box)
        for small, shape in ((scalar, (1,)), (empty, (1, 0))):
            r = tuple(None if b is None or i in s.constant else np.full(b[0].shape, 0.5) for i, b in enumerate(small))
            with mp.workprec(precision(small, (0.5,))):
                check_linearize(s, small, r)
            Y = s.rule.enclose(enclosures(small), **s.attributes)
            radii = tuple(None if a is None else a[None] for a in r)
            got = s.rule.rounding(enclosures(small), radii, E5M2, Y.mag, [0.0] * len(small), **s.attributes)
            require("shapes", Y.shape == shape and np.broadcast_shapes(np.shape(got), shape) == shape, small, (Y.shape, np.shape(got)))
