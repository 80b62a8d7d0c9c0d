"""Relative bounds and tightness, against exact rational arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.report import samples

positive = st.floats(min_value=1e-3, max_value=1e3)


def one(reference: float, radius: float, bound: float) -> float:
    def array(x: float) -> np.ndarray:
        return np.full((1, 1), x)

    output = replace(
        samples.output(), reference=array(reference), reference_radius=array(radius), absolute_bound=array(bound), observed_error=None
    )
    return output.relative_max


@given(positive, st.floats(min_value=0.0, max_value=1e-4), positive)
def test_the_relative_bound_holds_for_every_exact_value_within_the_radius(reference: float, radius: float, bound: float) -> None:
    least = Fraction(reference) - Fraction(radius)
    assert Fraction(one(reference, radius, bound)) >= Fraction(bound) / least
    assert Fraction(one(-reference, radius, bound)) >= Fraction(bound) / least
    assert one(reference, radius, bound) <= float(Fraction(bound) / least) * (1 + 2**-50)


def test_relative_to_nothing() -> None:
    assert one(0.0, 0.0, 0.0) == 0.0
    assert one(0.0, 0.0, 1.0) == np.inf
    assert one(1.0, 2.0, 1.0) == np.inf
    assert one(1.0, 0.0, np.inf) == np.inf


def test_each_case_is_relative_to_its_own_largest_value() -> None:
    # Case 0: 0.09375 / 4; case 1: 0.051 / 0.3125, the larger.
    assert abs(samples.output().relative_max - 0.051 / 0.3125) < 1e-9


def test_tightness() -> None:
    output = samples.output()
    assert output.tightness == 8.0
    nothing = np.zeros_like(output.absolute_bound)
    assert replace(output, observed_error=None).tightness is None
    assert replace(output, observed_error=nothing).tightness == np.inf
    assert replace(output, observed_error=nothing, absolute_bound=nothing).tightness == 1.0


def test_tightness_of_infinities_and_of_cases_that_no_run_covered() -> None:
    output = samples.output()
    assert output.observed_error is not None
    infinite = np.full_like(output.absolute_bound, np.inf)
    assert replace(output, absolute_bound=infinite).tightness == np.inf
    assert replace(output, absolute_bound=infinite, observed_error=infinite).tightness is None
    assert replace(output, observed_error=infinite).tightness == 0.0
    first = np.concatenate([output.observed_error[:1], np.full((1, 1, 3), np.nan)])
    loose = np.concatenate([output.absolute_bound[:1], infinite[1:]])
    covered = replace(output, observed_error=first, absolute_bound=loose)
    assert (covered.tightness, covered.observed_max) == (8.0, output.observed_error[0].max())
