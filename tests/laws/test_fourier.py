"""Laws of DFT, values against onnxruntime and numpy, and STFT as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import certify
from certify.number.enclosure import Enclosure
from certify.semantics.contract import Linearization, UnsupportedOperator, lookup
from certify.semantics.ops import fourier  # noqa: F401 - registers the rules
from tests.laws.kit import LawBroken, check_rule
from tests.laws.machine import MIXED, Machine
from tests.laws.reference import runtime, single_node
from tests.laws.test_lies import Liar, pull_off, steeper

rng = np.random.default_rng(3)
SINGLE = Machine(precision=24, emin=-126, emax=127, ulps=2.0, absolute=2.0**-22)


def turn(j: int, k: int, N: int, sign: int) -> Any:
    """e^(2 pi i sign j k / N), quarter turns exactly."""
    m = j * k * sign % N
    return mp.mpc(*[(1, 0), (0, 1), (-1, 0), (0, -1)][4 * m // N]) if 4 * m % N == 0 else mp.expjpi(2 * mpf(m) / N)


def spectrum(x: Any, dft_length: int | None, inverse: int, onesided: int, product: Any) -> Any:
    """The transform along axis -2 from the definition; `product` adds up products of numbers with twiddles."""
    n = x.shape[-2]
    N = dft_length or (2 * (n - 1) if inverse and onesided else n)
    z = np.array([[mp.mpc(*row) for row in series] for series in x.reshape(-1, n, x.shape[-1])], dtype=object)
    if inverse and onesided:
        z = np.array([[s[k] if 2 * k <= N else mp.conj(s[N - k]) for k in range(N)] for s in z[:, : N // 2 + 1]], dtype=object)
        z[:, 0] = [mp.mpc(v.real) for v in z[:, 0]]
        if N % 2 == 0:
            z[:, N // 2] = [mp.mpc(v.real) for v in z[:, N // 2]]
    rows = N // 2 + 1 if onesided and not inverse else N
    sign = 1 if inverse else -1
    out = np.empty((z.shape[0], rows, 1 if inverse and onesided else 2), dtype=object)
    for i in range(z.shape[0]):
        for k in range(rows):
            y = product([(z[i, j], turn(j, k, N, sign)) for j in range(min(z.shape[1], N))])
            y = y / N if inverse else y
            out[i, k] = [y.real] if inverse and onesided else [y.real, y.imag]
    return out.reshape(*x.shape[:-2], *out.shape[1:])


def oracle(x: Any, dft_length: int | None = None, inverse: int = 0, onesided: int = 0, **_: Any) -> Any:
    return spectrum(x, dft_length, inverse, onesided, lambda terms: sum((a * b for a, b in terms), start=mp.mpc(0)))


def kernel(machine: Machine, x: Any, dft_length: int | None = None, inverse: int = 0, onesided: int = 0, **_: Any) -> Any:
    """Twiddles as wrong as an elementary function may be, products rounded, added in a random order, divided and stored."""
    inner = machine.accumulator

    def product(terms: Any) -> Any:
        parts = []
        for a, b in terms:
            c, s = inner.fl_elementary(np.array([b.real, b.imag], dtype=object))
            parts.append([(a.real * c, -a.imag * s), (a.real * s, a.imag * c)])
        return mp.mpc(*(inner.fl_dot(np.array([v for p in parts for v in p[i]], dtype=object)[None])[0] for i in (0, 1)))

    return machine.fl(inner.fl(spectrum(x, dft_length, inverse, onesided, product)))


CASES = [
    (1, {}),
    (2, {"inverse": 1}),
    (1, {"onesided": 1, "dft_length": 6}),
    (2, {"inverse": 1, "onesided": 1}),
    (2, {"inverse": 1, "onesided": 1, "dft_length": 7}),
]


def check(rule: Any, parts: int, attributes: dict[str, Any], machines: Any = (MIXED,)) -> None:
    lo = rng.normal(size=(1, 5, parts))
    hard = np.resize([0.0, -0.0, 2.0**-1074, 2.0**300, 1.0, -(2.0**-600), 3.0, -7.0, 0.1, 5.0], lo.shape)
    boxes = [((lo, lo + 0.25 * rng.integers(0, 2, lo.shape)),)]
    check_rule(rule, boxes, [(hard,)], oracle=oracle, attributes=attributes, radii=(0.0, 2.0**-10, 1.5), kernel=kernel, machines=machines)


@pytest.mark.parametrize(("parts", "attributes"), CASES, ids=str)
def test_transforms(parts: int, attributes: dict[str, Any]) -> None:
    check(lookup("", "DFT", 20), parts, attributes)


@pytest.mark.parametrize(
    ("verb", "tell"),
    [("linearize", steeper), ("linearize", pull_off), ("rounding", lambda b, *_: 0.0 * b)],
    ids=["steeper", "pull", "rounding"],
)
def test_lies_are_caught(verb: str, tell: Any) -> None:
    with pytest.raises(LawBroken):
        check(Liar(lookup("", "DFT", 20), verb, tell), 1, {}, (MIXED,))


def test_a_conjugate_transform_is_caught() -> None:
    def conjugate(L: Linearization, *_: Any) -> Linearization:
        return replace(L, push=lambda d: L.push(d) * np.array([1.0, -1.0]))

    with pytest.raises(LawBroken):
        check(Liar(lookup("", "DFT", 20), "linearize", conjugate), 1, {}, ())


@pytest.mark.parametrize("length", [1, 2, 9, 64, 100, 257, 480, 1000])
@pytest.mark.parametrize("way", [(1, {"onesided": 1}), (2, {}), (2, {"inverse": 1})], ids=str)
def test_onnxruntime_stays_within(length: int, way: tuple[int, dict[str, int]]) -> None:
    """Also signals that excite the kernel's angles, which it does not reduce."""
    parts, attributes = way
    rule = lookup("", "DFT", 20)
    k = np.arange(length)
    for signal in (rng.normal(size=(2, length, parts)), np.cos(2.0 * np.pi * k * (length // 2) / length)[None, :, None] * np.ones(parts)):
        x = signal.astype(np.float32).astype(np.float64)
        X = Enclosure.point(x[None])
        Y = rule.enclose((X,), **attributes)
        bound = rule.rounding((X,), (None,), SINGLE, Y.mag, [0.0], **attributes)[0]
        got = runtime("DFT", [x, None, np.array(1, dtype=np.int64)], attributes, 20).astype(float)
        assert (np.abs(got - Y.mid[0]) <= bound).all()
        z = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0.0)
        exact = np.fft.ifft(z) if "inverse" in attributes else np.fft.rfft(z) if "onesided" in attributes else np.fft.fft(z)
        single = z.astype(np.complex64) if parts == 2 else z.astype(np.float32)
        fast = np.fft.ifft(single) if "inverse" in attributes else np.fft.rfft(single) if "onesided" in attributes else np.fft.fft(single)
        assert fast.dtype == np.complex64
        for part, y in enumerate((exact.real, exact.imag)):
            assert np.abs(Y.mid[0, ..., part] - y).max() <= 1e-10 * length
            assert (np.abs((fast.real, fast.imag)[part] - Y.mid[0, ..., part]) <= bound[..., part]).all()


def test_axis_of_old_and_new_definitions() -> None:
    x = rng.normal(size=(1, 2, 3, 4, 1))
    for since, given, axis in ((17, {}, 2), (17, {"axis": 2}, 3), (20, {}, 3), (20, {"axis": np.array(-3)}, 2)):
        got = lookup("", "DFT", since).value(x, **given)
        y = np.fft.fft(x[..., 0], axis=axis)
        np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], y, atol=1e-12)


def test_half_of_a_complex_spectrum_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="half of the spectrum"):
        lookup("", "DFT", 20).value(np.ones((1, 2, 4, 2)), onesided=1)


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_short_time_transforms(dtype: str | None) -> None:
    signal, window = rng.normal(size=(1, 40, 1)).astype(np.float32), np.hanning(8).astype(np.float32)
    model, feeds = single_node("STFT", [signal, np.array(3), window, np.array(8)], {"onesided": 1}, 17)
    certificate = certify.certify(model, data=feeds, dtype=dtype)
    output = certificate.outputs["y"]
    frames = np.stack([signal[0, i : i + 8, 0].astype(float) * window for i in range(0, 33, 3)])
    expected = np.fft.rfft(frames)
    np.testing.assert_allclose(output.reference[0, 0, ..., 0], expected.real, atol=1e-12)
    np.testing.assert_allclose(output.reference[0, 0, ..., 1], expected.imag, atol=1e-12)
    assert np.isfinite(output.absolute_bound).all()
    assert certificate.gate is not None
    assert certificate.gate.exit_code == 0
