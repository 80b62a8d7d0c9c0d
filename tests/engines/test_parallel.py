"""Blocks of rows on several threads: the same bounds, in the same order, and errors that reach the caller."""

from __future__ import annotations

import time

import numpy as np
import pytest

from certify.engines import adjoint, functionals, parallel
from tests.engines.networks import perceptron, problems
from tests.engines.test_adjoint import points


def test_results_come_in_order() -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0.0)
        return i * i

    assert list(parallel.in_order(slow_first, range(20))) == [i * i for i in range(20)]


def test_an_error_is_the_callers() -> None:
    def fail(i: int) -> int:
        raise ArithmeticError(str(i))

    with pytest.raises(ArithmeticError, match="0"):
        list(parallel.in_order(fail, range(4)))


def test_warnings_stay_off_on_every_thread(recwarn: pytest.WarningsRecorder) -> None:
    with np.errstate(all="ignore"):
        found = list(parallel.in_order(lambda i: np.float64(i) / np.zeros(1), range(4)))
    assert np.isnan(found[0]).all()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_bounds_do_not_depend_on_the_number_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, _ = problems(perceptron([12, 40, 40, 10], "Tanh", 3), "bf16", points(1, 12, 3))
    monkeypatch.setattr(functionals, "ROW_ELEMENTS", 100)  # many blocks
    found = []
    for count in (1, 2, 5):
        monkeypatch.setattr(parallel, "processors", lambda count=count: count)
        parallel._pool.cache_clear()
        found.append(adjoint.solve(stored)[0].outputs["y"])
    parallel._pool.cache_clear()
    assert all(np.array_equal(one, found[0]) for one in found)
