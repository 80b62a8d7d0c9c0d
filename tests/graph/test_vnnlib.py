"""VNN-LIB files: what they say, against an evaluator of their text that shares nothing with the reader; and every way to get them wrong."""

from __future__ import annotations

import gzip
import itertools
import operator
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from certify.errors import InvalidData, Unsupported
from certify.graph.vnnlib import property_of, read
from certify.graph.vnnlib.formula import enclose
from certify.graph.vnnlib.property import Case, Property

ONE = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)\n"
BOX = ONE + "(assert (<= X_0 1))(assert (>= X_0 -1))\n"


def said(text: str) -> Property:
    return property_of(text, "p")


def only(text: str) -> Case:
    (case,) = said(text).cases
    return case


# An evaluator of the text


def expressions(text: str) -> list[Any]:
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    return stack[0]


COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}


def value(e: Any, at: dict[str, Fraction]) -> Any:
    if isinstance(e, str):
        return at[e] if e in at else Fraction(Decimal(e))
    head, *rest = e
    items = [value(x, at) for x in rest]
    if head in COMPARE:
        return all(COMPARE[head](a, b) for a, b in itertools.pairwise(items))
    if head in ("and", "or"):
        return all(items) if head == "and" else any(items)
    if head == "*":
        return items[0] * items[1]
    return sum(items) if head == "+" else -items[0] if len(items) == 1 else items[0] - sum(items[1:])


def unsafe(text: str, x: list[float], y: list[float]) -> bool:
    at = {f"X_{i}": Fraction(v) for i, v in enumerate(x)} | {f"Y_{i}": Fraction(v) for i, v in enumerate(y)}
    return all(value(e[1], at) for e in expressions(text) if e[0] == "assert")


# Random properties

NUMBERS = ["0", "1", "-1", "0.1", "0.5", ".25", "1e-1", "2.", "-3.5E0", "-1e-06", "0.30000000000000004", "+3", "0.125"]
FACTORS = ["1", "-1", "0.1", "0.5", "-3", "1e-2", "2.5"]
PLACES = [0.0, 0.1, 0.5, -0.1, 1.0, -1.0, 0.25, 2.0, -3.5, 3.0, float(np.nextafter(0.1, 1)), float(np.nextafter(0.5, 0)), 4.0, 0.3, -2.5]

number, factor = st.sampled_from(NUMBERS), st.sampled_from(FACTORS)
comparison = st.sampled_from(list(COMPARE))


@st.composite
def bound(draw: st.DrawFn) -> str:
    x, n, m, c = f"X_{draw(st.integers(0, 1))}", draw(number), draw(number), draw(factor)
    term = draw(st.sampled_from([x, f"(* {c} {x})", f"(- {x})", f"(+ {m} {x})", f"(- {x} {m})", f"(- (* {x} {c}) (+ {m} 1))"]))
    sides = draw(st.sampled_from([(term, n), (n, term)]))
    return f"({draw(comparison)} {' '.join(sides)})"


@st.composite
def row(draw: st.DrawFn) -> str:
    y, z = (f"Y_{draw(st.integers(0, 1))}" for _ in "yz")
    n, m, c, d = draw(number), draw(number), draw(factor), draw(factor)
    terms = [y, n, f"(* {c} {y})", f"(- {z} {n})", f"(+ (* {c} {y}) (* {z} {d}) {m})", f"(- (+ {y} {z}) (- {y}) {n})"]
    left, right = draw(st.sampled_from(terms)), draw(st.sampled_from(terms))
    return f"({draw(comparison)} {left} {right})"


formula = st.recursive(
    bound() | row() | row(),
    lambda inner: st.builds(
        lambda head, items: f"({head} {' '.join(items)})", st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(formula, min_size=1, max_size=3), st.lists(st.tuples(*[st.sampled_from(PLACES)] * 4), min_size=1, max_size=12))
@settings(max_examples=300)
def test_the_normal_form_says_what_the_text_says(formulas: list[str], points: list[tuple[float, ...]]) -> None:
    head = "".join(f"(declare-const {v} Real)" for v in ("X_0", "Y_0", "X_1", "Y_1"))
    box = "".join(f"(assert (<= X_{i} 4))(assert (<= -4 X_{i}))" for i in (0, 1))
    text = head + box + "\n".join(f"(assert {f}) ; one" for f in formulas)
    try:
        found = said(text)
    except InvalidData as refused:
        assume("no input satisfies" not in str(refused))
        raise
    assert (found.inputs, found.outputs) == (2, 2)
    for x0, x1, y0, y1 in points:
        truth, x, y = unsafe(text, [x0, x1], [y0, y1]), np.array([x0, x1]), np.array([[y0, y1]])
        inside = [case for case in found.cases if np.all((case.least <= x) & (x <= case.greatest))]
        says = [case for case in inside if not case.unsafe] if "Y_" not in "".join(formulas) else [c for c in inside if c.violated(y).all()]
        may = [case for case in inside if not case.unsafe or (case.margins(y).lo <= 0.0).any()]
        assert truth or not says
        assert may or not truth
        for case in found.cases:
            assert np.all(case.lo <= case.least) or np.any(case.least > case.greatest)
            assert np.all((case.lo <= x) & (x <= case.hi)) or not np.all((case.least <= x) & (x <= case.greatest))


@given(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6, places=25)
    | st.floats(allow_nan=False, allow_infinity=False).map(Decimal)
)
def test_ends_are_the_neighbours_of_the_decimal(d: Decimal) -> None:
    for below, above in (enclose(d, float(d)), enclose(Fraction(d))):
        assert Fraction(below) <= Fraction(d) <= Fraction(above)
        assert below == above or np.nextafter(below, np.inf) == above


def test_ends_beyond_and_beneath_float64() -> None:
    largest = float(np.finfo(np.float64).max)
    assert enclose(Decimal("1e400"), float("1e400")) == enclose(Fraction(10) ** 400) == (largest, np.inf)
    assert enclose(Fraction(-10) ** 401) == (-np.inf, -largest)
    assert enclose(Decimal("-1e-400"), float("-1e-400")) == enclose(-Fraction(1, 10**400)) == (-5e-324, 0.0)


# What the boxes and rows are


def test_ends_of_boxes_and_strict_ones() -> None:
    case = only(ONE + "(assert (and (>= X_0 0.1) (< X_0 0.5)))")
    below, above = enclose(Fraction(1, 10))
    assert (case.lo[0], case.least[0]) == (below, above)
    assert (case.hi[0], case.greatest[0]) == (0.5, np.nextafter(0.5, 0))
    assert case.unsafe == ()
    twice = only(ONE + "(assert (>= X_0 0.1)) (assert (>= X_0 0.2)) (assert (<= X_0 3)) (assert (= X_0 0.25))")
    assert (twice.lo[0], twice.hi[0]) == (0.25, 0.25)


def test_equal_boxes_are_one_case_with_several_conjunctions() -> None:
    text = (
        ONE + "(assert (or (and (>= X_0 0) (<= X_0 1) (<= Y_0 0)) (and (<= X_0 1.0) (>= X_0 -0.0) (>= Y_0 1)) (and (>= X_0 2) (<= X_0 3))))"
    )
    first, second = said(text).cases
    assert [len(c) for c in first.unsafe] == [1, 1]
    assert second.unsafe == ((),)  # whatever the outputs are
    assert second.violated(np.zeros((1, 2))).all()


def test_a_disjunction_and_what_holds_besides() -> None:
    case = only(BOX + "(assert (or (<= Y_0 1) (and (>= Y_0 2) (<= Y_1 Y_0))))(assert (<= Y_1 0.5))(assert (<= Y_1 0.5))")
    (a, b), (c, d, e) = case.unsafe
    assert (a.outputs, a.coefficients, a.bound_lo, a.bound_hi) == ((0,), (1.0,), 1.0, 1.0)
    assert b == e == type(b)((1,), (1.0,), 0.5, 0.5)
    assert (c.coefficients, c.bound_lo) == ((-1.0,), -2.0)
    assert (d.outputs, d.coefficients, d.bound_hi) == ((0, 1), (-1.0, 1.0), 0.0)


def test_coefficients_become_floats_by_a_positive_factor() -> None:
    ((row,),) = only(BOX + "(assert (<= (+ (* 0.1 Y_0) (* 0.7 Y_1)) 0.3))").unsafe
    assert row.scale == 5
    assert row.coefficients == (0.5, 3.5)
    assert (row.bound_lo, row.bound_hi) == (1.5, 1.5)
    ((third,),) = only(BOX + "(assert (<= Y_0 0.1))").unsafe
    assert (third.bound_lo, third.bound_hi) == enclose(Fraction(1, 10))


def test_margins_are_exact_where_float64_is_and_outward_elsewhere() -> None:
    case = only(BOX + "(assert (or (<= Y_0 Y_1) (<= Y_0 0.1) (and (<= Y_0 0) (< Y_1 3))))")
    y = np.array([[0.1, 0.1], [0.0, 3.0], [np.nan, 1.0], [np.inf, np.inf]])
    margins = case.margins(y)
    assert margins.lo[0, 0] == margins.hi[0, 0] == 0.0
    assert margins.lo[0, 1] <= 0.0 < margins.hi[0, 1] <= 1e-16  # the float64 0.1 is above the decimal one
    assert margins.hi[1, 2] == 0.0
    assert margins.lo[2, 0] == -np.inf
    assert margins.hi[2, 0] == np.inf
    assert margins.hi[3, 0] == np.inf
    assert case.violated(y).tolist() == [True, True, False, False]
    assert not only(BOX + "(assert (< Y_1 3))").violated(y[1:2]).any()


def test_compressed_files_and_commands_that_change_nothing(tmp_path: Path) -> None:
    idle = '(set-logic QF_LRA)(set-info :source |a ; ( b|)(set-info :x "; ) ")'
    text = f"{idle}\n(declare-fun X_0 () Real)(assert (<= 0 X_0 1))(check-sat)(exit)"
    (tmp_path / "a.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.vnnlib").write_text(text)
    for name in ("a.vnnlib", "a.vnnlib.gz"):
        found = read(tmp_path / name)
        assert (found.inputs, found.outputs, found.cases[0].lo[0], found.cases[0].hi[0]) == (1, 0, 0.0, 1.0)


# What is wrong

INVALID = {
    "": "asserts nothing",
    "(assert (<= X_0 1))": "X_0 is not declared",
    "(declare-const Y_0 Real)(assert (<= Y_0 1))": "declares no input",
    "(declare-const X_0 Real)(declare-const X_0 Real)": "declared twice",
    "(declare-const X_1 Real)(assert (<= X_1 1))": "X_0 is not declared, but later ones are",
    "(declare-const X_00 Real)": "expected a declaration",
    "(declare-const Z_0 Real)": "expected a declaration",
    "(declare-const X_0)": "expected a declaration",
    "X_0": "a command such as",
    ")": "a command such as",
    "((assert))": "found a parenthesis",
    "(": "never closed",
    "(declare-const X_0 Real": "never closed",
    BOX + "(assert (<= Y_0 1": "line 3: a parenthesis that opens here",
    BOX + "(assert)": "too few or too many operands",
    BOX + "(assert (<= Y_0 1) (<= Y_1 1))": "too few or too many operands",
    BOX + "(assert (<= Y_0))": "too few or too many operands",
    BOX + "(assert (and))": "too few or too many operands",
    BOX + "(assert (or))": "too few or too many operands",
    BOX + "(assert (<= (+) Y_0))": "too few or too many operands",
    BOX + "(assert Y_0)": "holds a term",
    BOX + "(assert (and (<= Y_0 1) Y_0))": "holds a term",
    BOX + "(assert (<= (<= Y_0 1) 1))": "holds a condition",
    BOX + "(assert (<= Y_0 1,5))": "'1,5' is neither a number nor a variable",
    BOX + "(assert (<= Y_0 nan))": "neither a number",
    BOX + "(assert (<= Y_0 1e99999))": "neither a number",
    BOX + "(assert (<= Y_0 1_0))": "neither a number",
    BOX + "(assert (<= Y_0 ١))": "neither a number",
    BOX + f"(assert (<= Y_0 {'1' * 2000}))": "too long",
    BOX + "(assert (<= Y_2 1))": "line 3: Y_2 is not declared",
    BOX + "(assert ((<= Y_0 1)))": "where an operator",
    BOX + "(assert (Y_0 <= 1))": "where an operator",
    BOX + '(assert (<= Y_0 "1))': "neither a number",
    ONE + "(assert (<= X_0 1))": "X_0 has no lower bound",
    ONE + "(assert (>= X_0 1))": "X_0 has no upper bound",
    ONE + "(assert (<= -1 X_0 1e400))": "X_0 has no upper bound",
    ONE + "(assert (or (<= 0 X_0 1) (<= Y_0 1)))": "X_0 has no lower bound",
    BOX + "\n\n(assert (>= X_0 2))": "line 5: no input satisfies this: the bounds of X_0 contradict each other",
    BOX + "(assert (or (<= Y_0 1) (and (<= X_0 0) (>= X_0 0.5))))": "the bounds of X_0 contradict",
    BOX + "(assert (or (>= X_0 2) (<= X_0 -2)))": "the bounds of X_0 contradict",
    BOX + "(assert (<= 2 1))": "no input satisfies",
}  # fmt: skip

UNSUPPORTED = {
    "(vnnlib-version <2.0>)": "VNN-LIB 2 is not read",
    "(define-fun f () Real 1)": "the command 'define-fun'",
    "(declare-const X_0 Int)": "sort 'Int'",
    BOX + "(assert (not (<= Y_0 1)))": "negation",
    BOX + "(assert (<= (/ Y_0 2) 1))": "division",
    BOX + "(assert (=> (<= Y_0 1) (<= Y_0 1)))": "the operator '=>'",
    BOX + "(assert (<= (* Y_0 Y_1) 1))": "not linear",
    BOX + "(assert (<= (* X_0 X_0) 1))": "not linear",
    BOX + "(assert (<= X_0 Y_0))": "inputs with outputs",
    "(declare-const X_1 Real)" + BOX + "(assert (<= (+ X_0 X_1) 1))": "relation between inputs",
    BOX + "(assert (<= (+ (* 0.1234567890123456789 Y_0) Y_1) 1))": "so many digits",
    BOX + "(assert (or (<= Y_0 1) (<= Y_1 1)))" * 40: "too many disjuncts",
    BOX + f"(assert (<= {'(* 2 ' * 40000}Y_0{')' * 40000} 1))": "too large or too small",
}


@pytest.mark.parametrize("text", INVALID, ids=[f"invalid-{i}" for i in range(len(INVALID))])
def test_invalid(text: str) -> None:
    with pytest.raises(InvalidData, match="^p[,:]") as refusal:
        said(text)
    assert INVALID[text] in str(refusal.value)


@pytest.mark.parametrize("text", UNSUPPORTED, ids=[f"unsupported-{i}" for i in range(len(UNSUPPORTED))])
def test_unsupported(text: str) -> None:
    with pytest.raises(Unsupported, match="^p[,:]") as refusal:
        said(text)
    assert UNSUPPORTED[text] in str(refusal.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(b"(assert)" * 99)[:-9])
    (tmp_path / "latin").write_bytes(b"\n\xe9")
    for name, fault in (("none", "no such file"), ("damaged.gz", "damaged gzip"), ("latin", "line 2: not UTF-8"), ("", "can't be read")):
        with pytest.raises(InvalidData, match=fault):
            read(tmp_path / name)


@pytest.mark.parametrize("opening", ["(and ", "(or ", "(and (<= Y_0 2) ", "(or (<= Y_0 2) ", "(and (or "])
def test_deep_nesting(opening: str) -> None:
    depth = 100_000 // len(opening)
    case = only(
        BOX + f"(assert {opening * depth}(<= Y_0 1){')' * (depth * opening.count('('))})"
        if "2" not in opening
        else BOX + f"(assert {opening * depth}(<= Y_0 1){')' * depth})"
    )
    assert case.violated(np.array([[1.0, 0.0], [3.0, 0.0]])).tolist() == [True, False]


def test_deep_terms_and_parentheses() -> None:
    depth = 20_000
    ((row,),) = only(BOX + f"(assert (<= {'(- ' * depth}Y_0{')' * depth} 1))").unsafe
    assert row.coefficients == (1.0,)
    with pytest.raises(InvalidData, match="found a parenthesis"):
        said("(" * 100_000)
    with pytest.raises(InvalidData, match="never closed"):
        said(BOX + "(assert " + "(and " * depth)


# Real files


def test_real_files(real_models: Path) -> None:
    files = sorted(real_models.rglob("*.vnnlib"))
    assert files
    for path in files:
        text = path.read_text()
        found = read(path)
        assert found.inputs == len(re.findall(r"declare-const X_", text))
        assert found.outputs == len(re.findall(r"declare-const Y_", text))
        case = found.cases[0]
        assert np.all((case.lo <= case.hi) & np.isfinite(case.lo) & np.isfinite(case.hi))
        middle, outputs = 0.5 * case.least + 0.5 * case.greatest, np.random.default_rng(0).normal(size=(3, found.outputs))
        if found.inputs < 500 and np.all((case.least <= middle) & (middle <= case.greatest)):
            for y, wrong in zip(outputs, case.violated(outputs), strict=True):
                assert wrong == unsafe(text, middle.tolist(), y.tolist())


@pytest.mark.parametrize(
    ("name", "cases", "conjunctions", "rows"),
    [
        ("vnncomp_acasxu/prop_1", 1, 1, 1),
        ("vnncomp_acasxu/prop_2", 1, 1, 4),
        ("vnncomp_acasxu/prop_6", 2, 4, 1),
        ("vnncomp_nn4sys23/lindex_1", 1, 2, 1),
        ("vnncomp_lsnc/quadrotor2d_output_0", 1, 17, 2),
        ("vnncomp_collins_rul/robustness_2perturbations_delta5_epsilon10_w20", 1, 1, 2),
        ("vnncomp_vit/pgd_2_3_16_4021", 1, 9, 1),
    ],
)
def test_counts_of_real_files(real_models: Path, name: str, cases: int, conjunctions: int, rows: int) -> None:
    found = read(real_models / f"{name}.vnnlib")
    assert len(found.cases) == cases
    assert all([len(c) for c in case.unsafe] == [rows] * conjunctions for case in found.cases)
