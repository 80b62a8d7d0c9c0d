"""The kernels: name, expression, box and format of each, as FPBench and the benchmarks of FPTaylor, Rosa and Daisy state them.

A box leaves out the constraints that floudas1 to floudas3 have besides: their bounds here are of more inputs than the published ones.
Inputs are numbers of the kernel's format, and so are constants: a decimal constant is the nearest number, and no error. What is
computed of constants alone is a constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from public_kernels.expression import atan, cos, exp, log, sin, sqrt

Range = tuple[float, float]


@dataclass(frozen=True)
class Kernel:
    """ranges: by input, in the order of the function's arguments. length: of its two inputs, for a kernel that is one MatMul of vectors."""

    name: str
    function: Callable[..., Any]
    ranges: Mapping[str, Range]
    format: str = "fp64"
    length: int = 0

    @property
    def variables(self) -> dict[str, Range]:
        """The scalars that the function takes, with their ranges."""
        if not self.length:
            return dict(self.ranges)
        return {f"{name}{i}": interval for name, interval in self.ranges.items() for i in range(self.length)}


def _box(names: str, lo: float, hi: float) -> dict[str, Range]:
    return dict.fromkeys(names.split(), (lo, hi))


def _doppler(u: Any, v: Any, T: Any) -> Any:
    t1 = 331.4 + 0.6 * T
    return (-t1 * v) / ((t1 + u) * (t1 + u))


def _jet_engine(x1: Any, x2: Any) -> Any:
    t = 3 * x1 * x1 + 2 * x2 - x1
    d = x1 * x1 + 1
    s = t / d
    inner = (2 * x1 * s * (s - 3) + x1 * x1 * (4 * s - 6)) * d + 3 * x1 * x1 * s + x1 * x1 * x1 + x1
    return x1 + (inner + 3 * ((3 * x1 * x1 - 2 * x2 - x1) / d))


def _jet_engine_plus(x1: Any, x2: Any) -> Any:
    """FPTaylor's: the last quotient is the first one again."""
    d = x1 * x1 + 1
    s = (3 * x1 * x1 + 2 * x2 - x1) / d
    inner = (2 * x1 * s * (s - 3) + x1 * x1 * (4 * s - 6)) * d + 3 * x1 * x1 * s + x1 * x1 * x1 + x1
    return x1 + (inner + 3 * s)


def _turbine1(v: Any, w: Any, r: Any) -> Any:
    return 3 + 2 / (r * r) - 0.125 * (3 - 2 * v) * (w * w * r * r) / (1 - v) - 4.5


def _turbine2(v: Any, w: Any, r: Any) -> Any:
    return 6 * v - 0.5 * v * (w * w * r * r) / (1 - v) - 2.5


def _turbine3(v: Any, w: Any, r: Any) -> Any:
    return 3 - 2 / (r * r) - 0.125 * (1 + 2 * v) * (w * w * r * r) / (1 - v) - 0.5


def _carbon_gas(v: Any, n: Any, t: Any) -> Any:
    """n and t are inputs of one value, so that n * b and k * n * t are operations that round."""
    return (3.5e7 + 0.401 * (n / v) * (n / v)) * (v - n * 42.7e-6) - 1.3806503e-23 * n * t


def _kepler0(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> Any:
    return x2 * x5 + x3 * x6 - x2 * x3 - x5 * x6 + x1 * (-x1 + x2 + x3 - x4 + x5 + x6)


def _kepler1(x1: Any, x2: Any, x3: Any, x4: Any) -> Any:
    first = x1 * x4 * (-x1 + x2 + x3 - x4) + x2 * (x1 - x2 + x3 + x4) + x3 * (x1 + x2 - x3 + x4)
    return first - x2 * x3 * x4 - x1 * x3 - x1 * x2 - x4


def _kepler2(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> Any:
    first = x1 * x4 * (-x1 + x2 + x3 - x4 + x5 + x6) + x2 * x5 * (x1 - x2 + x3 + x4 - x5 + x6)
    return first + x3 * x6 * (x1 + x2 - x3 + x4 + x5 - x6) - x2 * x3 * x4 - x1 * x3 * x5 - x1 * x2 * x6 - x4 * x5 * x6


def _delta4(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> Any:
    return -x2 * x3 - x1 * x4 + x2 * x5 + x3 * x6 - x5 * x6 + x1 * (-x1 + x2 + x3 - x4 + x5 + x6)


def _delta(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> Any:
    first = x1 * x4 * (-x1 + x2 + x3 - x4 + x5 + x6) + x2 * x5 * (x1 - x2 + x3 + x4 - x5 + x6)
    return first + x3 * x6 * (x1 + x2 - x3 + x4 + x5 - x6) + -x2 * x3 * x4 + -x1 * x3 * x5 + -x1 * x2 * x6 + -x4 * x5 * x6


def _himmilbeau(x1: Any, x2: Any) -> Any:
    a, b = x1 * x1 + x2 - 11, x1 + x2 * x2 - 7
    return a * a + b * b


def _sum3(x0: Any, x1: Any, x2: Any) -> Any:
    return ((x0 + x1) - x2) + ((x1 + x2) - x0) + ((x2 + x0) - x1)


def _nonlin2(x: Any, y: Any) -> Any:
    t = x * y
    return (t - 1) / (t * t - 1)


def _dqmom9(m0: Any, m1: Any, m2: Any, w0: Any, w1: Any, w2: Any, a0: Any, a1: Any, a2: Any) -> Any:
    def term(m: Any, w: Any, a: Any) -> Any:
        return (w * (0 - m)) * (-3 * (1 * (a / w) * (a / w))) * 1

    return 0 + (term(m2, w2, a2) + (term(m1, w1, a1) + (term(m0, w0, a0) + 0)))


def _sphere(r: Any, x: Any, lat: Any, lon: Any) -> Any:
    return x + r * sin(lat) * cos(lon)


def _azimuth(lat1: Any, lat2: Any, lon1: Any, lon2: Any) -> Any:
    d = lon2 - lon1
    return atan(cos(lat2) * sin(d) / (cos(lat1) * sin(lat2) - sin(lat1) * cos(lat2) * cos(d)))


def _squares(weights: list[float], centres: list[float], x: tuple[Any, ...]) -> Any:
    """weights · (x - centres)²."""
    total = None
    for weight, centre, variable in zip(weights, centres, x, strict=True):
        term = weight * ((variable - centre) * (variable - centre))
        total = term if total is None else total + term
    return total


def _hartman(rows: list[tuple[list[float], list[float]]], x: tuple[Any, ...]) -> Any:
    e = [exp(-_squares(weights, centres, x)) for weights, centres in rows]
    return -(1.0 * e[0] + 1.2 * e[1] + 3.0 * e[2] + 3.2 * e[3])


def _hartman3(x1: Any, x2: Any, x3: Any) -> Any:
    rows = [
        ([3.0, 10.0, 30.0], [0.3689, 0.117, 0.2673]),
        ([0.1, 10.0, 35.0], [0.4699, 0.4387, 0.747]),
        ([3.0, 10.0, 30.0], [0.1091, 0.8732, 0.5547]),
        ([0.1, 10.0, 35.0], [0.03815, 0.5743, 0.8828]),
    ]
    return _hartman(rows, (x1, x2, x3))


def _hartman6(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> Any:
    rows = [
        ([10.0, 3.0, 17.0, 3.5, 1.7, 8.0], [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886]),
        ([0.05, 10.0, 17.0, 0.1, 8.0, 14.0], [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991]),
        ([3.0, 3.5, 1.7, 10.0, 17.0, 8.0], [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.665]),
        ([17.0, 8.0, 0.05, 10.0, 0.1, 14.0], [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381]),
    ]
    return _hartman(rows, (x1, x2, x3, x4, x5, x6))


def _floudas1(x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> Any:
    def square(x: Any, c: float) -> Any:
        return (x - c) * (x - c)

    return -25 * square(x1, 2) - square(x2, 2) - square(x3, 1) - square(x4, 4) - square(x5, 1) - square(x6, 4)


def _to_degrees(x: Any, y: Any) -> Any:
    return atan(y / x) * (180.0 / 3.14159265359)


def _current(t: Any, resistance: Any, frequency: Any, inductance: Any, voltage: Any) -> Any:
    reactance = 2 * 3.14159265359 * frequency * inductance
    denominator = resistance * resistance + reactance * reactance
    real, imaginary = voltage * resistance / denominator, -(voltage * reactance) / denominator
    largest = sqrt(real * real + imaginary * imaginary)
    return largest * cos(2 * 3.14159265359 * frequency * t + atan(imaginary / real))


def _determinant1(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any) -> Any:
    return (a * e * i + b * f * g + c * d * h) - (c * e * g + b * d * i + a * f * h)


def _determinant2(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any) -> Any:
    return (a * (e * i) + (g * (b * f) + c * (d * h))) - (e * (c * g) + (i * (b * d) + a * (f * h)))


def _triangle(a: Any, b: Any, c: Any) -> Any:
    s = (a + b + c) / 2
    return sqrt(s * (s - a) * (s - b) * (s - c))


def _chebyshev(degree: int) -> Callable[[Any], Any]:
    def polynomial(x: Any) -> Any:
        before, last = 1.0, x
        for _ in range(degree - 1):
            before, last = last, 2 * x * last - before
        return last

    return polynomial


def _legendre(degree: int) -> Callable[[Any], Any]:
    def polynomial(x: Any) -> Any:
        before, last = 1.0, x
        for n in range(2, degree + 1):
            older = before if n == 2 else (n - 1) * before
            before, last = last, ((2 * n - 1) * x * last - older) / n
        return last

    return polynomial


def _trid(*x: Any) -> Any:
    total = (x[0] - 1) * (x[0] - 1)
    for left, right in itertools.pairwise(x):
        total = total + right * left - (right - 1) * (right - 1)
    return total


def _dot(a0: Any, a1: Any, a2: Any, a3: Any, a4: Any, a5: Any, a6: Any, a7: Any,
         b0: Any, b1: Any, b2: Any, b3: Any, b4: Any, b5: Any, b6: Any, b7: Any) -> Any:  # fmt: skip
    return a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3 + a4 * b4 + a5 * b5 + a6 * b6 + a7 * b7


def _sine(x: Any) -> Any:
    return x - (x * x * x) / 6.0 + (x * x * x * x * x) / 120.0 - (x * x * x * x * x * x * x) / 5040.0


def _sqroot(y: Any) -> Any:
    return 1.0 + 0.5 * y - 0.125 * y * y + 0.0625 * y * y * y - 0.0390625 * y * y * y * y


HALF_PI, PI, SIDE = 1.57079632679, 3.14159265, 3969 / 625
TWO, THREE, SIX = "x1 x2", "x1 x2 x3", "x1 x2 x3 x4 x5 x6"
TURBINE = {"v": (-4.5, -0.3), "w": (0.4, 0.9), "r": (3.8, 7.8)}
EIGHT = " ".join(f"{name}{i}" for name in "ab" for i in range(8))
POLAR = {"radius": (1.0, 10.0), "theta": (0.0, 360.0)}
RADIAN = 3.14159265359 / 180.0

KERNELS = [
    Kernel("doppler1", _doppler, {"u": (-100.0, 100.0), "v": (20.0, 20000.0), "T": (-30.0, 50.0)}),
    Kernel("doppler2", _doppler, {"u": (-125.0, 125.0), "v": (15.0, 25000.0), "T": (-40.0, 60.0)}),
    Kernel("doppler3", _doppler, {"u": (-30.0, 120.0), "v": (320.0, 20300.0), "T": (-50.0, 30.0)}),
    Kernel("rigidBody1", lambda x1, x2, x3: -x1 * x2 - 2 * x2 * x3 - x1 - x3, _box(THREE, -15, 15)),
    Kernel(
        "rigidBody2",
        lambda x1, x2, x3: 2 * x1 * x2 * x3 + 3 * x3 * x3 - x2 * x1 * x2 * x3 + 3 * x3 * x3 - x2,
        _box(THREE, -15, 15),
    ),
    Kernel("sine", _sine, _box("x", -HALF_PI, HALF_PI)),
    Kernel("sine_fp32", _sine, _box("x", -HALF_PI, HALF_PI), "fp32"),
    Kernel("sineOrder3", lambda z: 0.954929658551372 * z - 0.12900613773279798 * (z * z * z), _box("z", -2, 2)),
    Kernel("sqroot", _sqroot, _box("y", 0, 1)),
    Kernel("sqroot_fp32", _sqroot, _box("y", 0, 1), "fp32"),
    Kernel("kepler0", _kepler0, _box(SIX, 4, 6.36)),
    Kernel("kepler1", _kepler1, _box("x1 x2 x3 x4", 4, 6.36)),
    Kernel("kepler2", _kepler2, _box(SIX, 4, 6.36)),
    Kernel("delta4", _delta4, _box(SIX, 4, SIDE)),
    Kernel("delta", _delta, _box(SIX, 4, SIDE)),
    Kernel("dot8_matmul", _dot, _box("a b", -1, 1), "fp32", length=8),
    Kernel("dot8_chain", _dot, _box(EIGHT, -1, 1), "fp32"),
    Kernel("verhulst", lambda x: 4.0 * x / (1 + x / 1.11), _box("x", 0.1, 0.3)),
    Kernel("predatorPrey", lambda x: 4.0 * x * x / (1 + (x / 1.11) * (x / 1.11)), _box("x", 0.1, 0.3)),
    Kernel("carbonGas", _carbon_gas, {"v": (0.1, 0.5), "n": (1000.0, 1000.0), "t": (300.0, 300.0)}),
    Kernel("turbine1", _turbine1, TURBINE),
    Kernel("turbine2", _turbine2, TURBINE),
    Kernel("turbine3", _turbine3, TURBINE),
    Kernel("jetEngine", _jet_engine, {"x1": (-5.0, 5.0), "x2": (-20.0, 5.0)}),
    Kernel("jetEngine_plus", _jet_engine_plus, {"x1": (-5.0, 5.0), "x2": (-20.0, 5.0)}),
    Kernel("himmilbeau", _himmilbeau, _box(TWO, -5, 5)),
    Kernel("bspline0", lambda u: (1 - u) * (1 - u) * (1 - u) / 6.0, _box("u", 0, 1)),
    Kernel("bspline1", lambda u: (3 * u * u * u - 6 * u * u + 4) / 6.0, _box("u", 0, 1)),
    Kernel("bspline2", lambda u: (-3 * u * u * u + 3 * u * u + 3 * u + 1) / 6.0, _box("u", 0, 1)),
    Kernel("bspline3", lambda u: -(u * u * u) / 6.0, _box("u", 0, 1)),
    Kernel("sum3", _sum3, _box("x0 x1 x2", 1, 2)),
    Kernel("test01_sum3", _sum3, _box("x0 x1 x2", 1, 2), "fp32"),
    Kernel(
        "test02_sum8",
        lambda x0, x1, x2, x3, x4, x5, x6, x7: x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7,
        _box("x0 x1 x2 x3 x4 x5 x6 x7", 1, 2),
    ),
    Kernel("test03_nonlin2", lambda x, y: (x + y) / (x - y), {"x": (0.0, 1.0), "y": (-1.0, -0.1)}),
    Kernel("test04_dqmom9", _dqmom9, {**_box("m0 m1 m2", -1, 1), **_box("w0 w1 w2 a0 a1 a2", 0.00001, 1)}),
    Kernel("test05_nonlin1_r4", lambda x: (x - 1) / (x * x - 1), _box("x", 1.00001, 2)),
    Kernel("test05_nonlin1_test2", lambda x: 1 / (x + 1), _box("x", 1.00001, 2)),
    Kernel(
        "test06_sums4_sum1",
        lambda x0, x1, x2, x3: ((x0 + x1) + x2) + x3,
        {"x0": (-1e-5, 1.00001), **_box("x1 x2 x3", 0, 1)},
        "fp32",
    ),
    Kernel(
        "test06_sums4_sum2",
        lambda x0, x1, x2, x3: (x0 + x1) + (x2 + x3),
        {"x0": (-1e-5, 1.00001), **_box("x1 x2 x3", 0, 1)},
        "fp32",
    ),
    Kernel("intro_example", lambda t: t / (t + 1), _box("t", 0, 999)),
    Kernel("sec4_example", _nonlin2, _box("x y", 1.001, 2)),
    Kernel("f1", lambda x: x / (x + 1), _box("x", 1, 999)),
    Kernel("x_by_xy", lambda x, y: x / (x + y), _box("x y", 1, 4), "fp32"),
    Kernel("add1", lambda x: x + 1, _box("x", 0.5, 1000)),
    Kernel("sqrt_add", lambda x: 1 / (sqrt(x + 1) + sqrt(x)), _box("x", 1, 1000)),
    Kernel("sqrt_sub", lambda x: sqrt(x + 1) - sqrt(x), _box("x", 1, 1000)),
    Kernel("hypot", lambda x1, x2: sqrt(x1 * x1 + x2 * x2), _box(TWO, 1, 100)),
    Kernel("hypot_fp32", lambda x1, x2: sqrt(x1 * x1 + x2 * x2), _box(TWO, 1, 100), "fp32"),
    Kernel("i4", lambda x, y: sqrt(x + y * y), {"x": (0.1, 10.0), "y": (-5.0, 5.0)}, "fp32"),
    Kernel("i6", lambda x, y: sin(x * y), {"x": (0.1, 10.0), "y": (-5.0, 5.0)}, "fp32"),
    Kernel("log_test", log, _box("x", 1.01, 2)),
    Kernel("exp1x", lambda x: (exp(x) - 1) / x, _box("x", 0.01, 0.5)),
    Kernel("exp1x_fp32", lambda x: (exp(x) - 1) / x, _box("x", 0.01, 0.5), "fp32"),
    Kernel("exp1x_log", lambda x: (exp(x) - 1) / log(exp(x)), _box("x", 0.01, 0.5)),
    Kernel("logexp", lambda x: log(1 + exp(x)), _box("x", -8, 8)),
    Kernel("sphere", _sphere, {"r": (0.0, 10.0), "x": (-10.0, 10.0), "lat": (-1.570796, 1.570796), "lon": (-PI, PI)}),
    Kernel("azimuth", _azimuth, {"lat1": (0.0, 0.4), "lat2": (0.5, 1.0), "lon1": (0.0, PI), "lon2": (-PI, -0.5)}),
    Kernel("hartman3", _hartman3, _box(THREE, 0, 1)),
    Kernel("hartman6", _hartman6, _box(SIX, 0, 1)),
    Kernel(
        "floudas1",
        _floudas1,
        {"x1": (0.0, 6.0), "x2": (0.0, 6.0), "x3": (1.0, 5.0), "x4": (0.0, 6.0), "x5": (1.0, 5.0), "x6": (0.0, 10.0)},
    ),
    Kernel("floudas2", lambda x1, x2: -x1 - x2, {"x1": (0.0, 3.0), "x2": (0.0, 4.0)}),
    Kernel("floudas3", lambda x1, x2: -12 * x1 - 7 * x2 + x2 * x2, {"x1": (0.0, 2.0), "x2": (0.0, 3.0)}),
    Kernel("carthesianToPolar_theta", _to_degrees, _box("x y", 1, 100)),
    Kernel("polarToCarthesian_x", lambda radius, theta: radius * cos(theta * RADIAN), POLAR),
    Kernel("polarToCarthesian_y", lambda radius, theta: radius * sin(theta * RADIAN), POLAR),
    Kernel(
        "instantaneousCurrent",
        _current,
        {"t": (0.0, 300.0), "resistance": (1.0, 50.0), "frequency": (1.0, 100.0), "inductance": (0.001, 0.004), "voltage": (1.0, 12.0)},
    ),
    Kernel("matrixDeterminant", _determinant1, _box("a b c d e f g h i", -10, 10)),
    Kernel("matrixDeterminant2", _determinant2, _box("a b c d e f g h i", -10, 10)),
    Kernel("triangle", _triangle, {"a": (9.0, 9.0), "b": (4.71, 4.89), "c": (4.71, 4.89)}),
    *(Kernel(f"cheb_{n}", _chebyshev(n), _box("x", -1, 1)) for n in range(2, 11)),
    *(Kernel(f"legendre_{n}", _legendre(n), _box("x", -1, 1)) for n in range(5, 11)),
    *(Kernel(f"trid_{n}", _trid, _box(" ".join(f"x{i}" for i in range(1, n + 1)), -100, 100)) for n in range(2, 11)),
]


def named(name: str) -> Kernel:
    return next(kernel for kernel in KERNELS if kernel.name == name)
