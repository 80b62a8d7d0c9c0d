"""Laws of window functions and mel filters: constants that kernels approximate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from certify.semantics.contract import UnsupportedOperator, lookup
from certify.semantics.ops import window_functions  # noqa: F401 - registers the rules
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import BFLOAT16, Machine
from tests.laws.reference import runtime

FLOAT = 1
SINGLE = Machine(precision=24, emin=-126, emax=127, ulps=2.0, absolute=2.0**-24)
WINDOWS = {"HannWindow": ("0.5", "0.5", "0"), "HammingWindow": ("25/46", "21/46", "0"), "BlackmanWindow": ("0.42", "0.5", "0.08")}


def numbers(text: str) -> Any:
    top, _, bottom = text.partition("/")
    return mpf(top) / mpf(bottom or "1")


def oracle(name: str) -> Any:
    def window(size: int, periodic: int) -> Any:
        a = [numbers(t) for t in WINDOWS[name]]
        N = size if periodic else size - 1
        return np.array([a[0] - a[1] * mp.cos(2 * mp.pi * n / N) + a[2] * mp.cos(4 * mp.pi * n / N) for n in range(size)], dtype=object)

    return window


def kernel(name: str) -> Any:
    """Angles in fp32 with pi = 3.14159265, coefficients in fp32, every operation in the machine's format."""

    def window(machine: Machine, size: int, periodic: int) -> Any:
        a = [SINGLE.fl(numbers(t)) for t in WINDOWS[name]]
        N = size if periodic else size - 1
        out = np.empty(size, dtype=object)
        for n in range(size):
            angles = [SINGLE.fl(SINGLE.fl(SINGLE.fl(2 * mpf("3.14159265") / N) * n) * k) for k in (1, 2)]
            first, second = (machine.fl_elementary(np.array(mp.cos(t), dtype=object))[()] for t in angles)
            less = machine.fl(a[0] - machine.fl(machine.fl(a[1]) * first))
            out[n] = machine.fl(less + machine.fl(machine.fl(a[2]) * second))
        return out

    return window


def check(rule: Any, name: str, size: int, periodic: int) -> None:
    # Just off multiples of pi cos itself may hide an angle's error, elsewhere not: sizes with and without such angles.
    attributes = {"size": size, "periodic": periodic}
    check_rule(rule, [()], oracle=_exact(oracle(name)), attributes=attributes, kernel=kernel(name), machines=(SINGLE, BFLOAT16))


def _exact(window: Any) -> Any:
    def exact(**attributes: Any) -> Any:
        y = window(**attributes)
        return np.array([mpf(0) if abs(v) < mpf(2) ** -100 else v for v in y], dtype=object)

    return exact


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize(("size", "periodic"), [(1, 1), (7, 1), (8, 0), (13, 0)])
def test_windows(name: str, size: int, periodic: int) -> None:
    check(lookup("", name, 17), name, size, periodic)


def test_a_forgotten_rounding_is_caught() -> None:
    with pytest.raises(LawBroken, match="rounding"):
        check(replace(lookup("", "HannWindow", 17), born=lambda arithmetic, **_: 0.0), "HannWindow", 13, 0)


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_in_onnxruntime(name: str, periodic: int) -> None:
    rule, single = lookup("", name, 17), SINGLE
    for size in (2, 3, 16, 100, 401):
        Y = rule.enclose((), size=size, periodic=periodic)
        bound = rule.rounding((), (), single, Y.mag, (), size=size, periodic=periodic)
        got = runtime(name, [np.array(size, dtype=np.int64)], {"periodic": periodic}, 17, FLOAT)
        assert (np.abs(got.astype(float) - Y.mid[0]) <= bound[0]).all()


def test_a_window_of_one_element_that_divides_by_zero_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="divides by zero"):
        lookup("", "HannWindow", 17).value(size=1, periodic=0)


MEL = {"num_mel_bins": 8, "dft_length": 16, "sample_rate": 8192, "lower_edge_hertz": 0.0, "upper_edge_hertz": 8192 / 2}


def test_mel_weights() -> None:
    rule = lookup("", "MelWeightMatrix", 17)
    for sizes in (MEL, MEL | {"dft_length": 513, "num_mel_bins": 40, "sample_rate": 16000, "lower_edge_hertz": 61.0}):
        got = runtime("MelWeightMatrix", _inputs(sizes), {}, 17, FLOAT).astype(float)
        Y = rule.enclose((), **sizes)
        bound = rule.rounding((), (), SINGLE, Y.mag, (), **sizes)
        assert (np.abs(got - Y.mid[0]) <= bound[0]).all()


def _inputs(sizes: dict[str, Any]) -> list[Any]:
    whole = [np.array(sizes[k], dtype=np.int64) for k in ("num_mel_bins", "dft_length", "sample_rate")]
    return [*whole, *(np.array(sizes[k], dtype=np.float32) for k in ("lower_edge_hertz", "upper_edge_hertz"))]


def test_a_mel_edge_between_two_bins_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="border of two bins"):
        lookup("", "MelWeightMatrix", 17).value(**(MEL | {"dft_length": 15, "lower_edge_hertz": 512.0}))
