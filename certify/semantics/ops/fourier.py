"""DFT and STFT.

Source: https://onnx.ai/onnx/operators/onnx__DFT.html, onnx__STFT.html. Covered kernels: sums of products with twiddles, in any
order; fast transforms of any factors; Bluestein's algorithm. Twiddles come from angles that are computed in fp32 or wider as
index times a rounded 2 pi / N, the index not reduced (onnxruntime, where N is no power of two), pi good to 2^-29.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from certify.number.upward import Array, add_up, inflate, mul_up, sum_up
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.broadcast import Shape
from certify.semantics.families.composite import Composite, Expansion, Primitive
from certify.semantics.families.fourier import Transform, chirp, factors, mixed_radix
from certify.semantics.families.linear import Linear, Sizes
from certify.semantics.families.movement import Movement
from certify.semantics.ops.window_functions import COORDINATE_ROUNDOFF, PI_ROUNDOFF

_COEFFICIENT = 32  # unit roundoffs by which a coefficient, its weight and 1/N together may be off: extra terms of an inner product


def _scalar(x: Any) -> int | None:
    return None if x is None or not np.size(x) else int(np.ravel(x)[0])


def _transform(shape: Shape, attributes: dict[str, Any]) -> tuple[Transform, int]:
    """The transform and the array axis that it runs along."""
    rank = len(shape) - 1
    axis = _scalar(attributes.get("axis"))
    k = (attributes["default_axis"] if axis is None else axis) % rank + 1
    inverse, half = bool(attributes.get("inverse", 0)), bool(attributes.get("onesided", 0))
    if rank < 2 or shape[-1] not in (1, 2) or k == rank:
        raise UnsupportedOperator(
            f"its last axis has {shape[-1]} elements, or is the one to transform: not numbers with real and imaginary parts"
        )
    if half and not inverse and shape[-1] == 2:
        raise UnsupportedOperator("half of the spectrum of a complex signal does not say what the other half is")
    length = _scalar(attributes.get("dft_length"))
    if length is None:
        length = 2 * (shape[k] - 1) if inverse and half else shape[k]
    if length <= 0:
        raise UnsupportedOperator(f"a transform of {length} elements")
    return Transform(length, shape[k], shape[-1], inverse, half), k


def _moved(x: Any, k: int) -> Any:
    return np.moveaxis(x, k, -2)


def _apply(x: Any, **attributes: Any) -> Any:
    transform, k = _transform(x.shape, attributes)
    return np.moveaxis(transform.apply(_moved(x, k)), -2, k)


def _absolute(x: Array, **attributes: Any) -> Array:
    transform, k = _transform(x.shape, attributes)
    return np.moveaxis(transform.apply(_moved(x, k), absolute=True), -2, k)


def _back(a: Array, shapes: Sequence[Shape], **attributes: Any) -> Sequence[Array]:
    transform, k = _transform(shapes[0], attributes)
    return [np.moveaxis(transform.transpose(_moved(a, k)), -2, k)]


def _extent(shapes: Sequence[Shape], **attributes: Any) -> tuple[Shape, int, int]:
    shape = shapes[0]
    transform, k = _transform(shape, attributes)
    out = (*shape[:k], transform.results, *shape[k + 1 : -1], transform.parts_out)
    return out, transform.used * transform.parts + _COEFFICIENT, transform.results * transform.parts_out + _COEFFICIENT


def _rounding(arithmetic: Arithmetic, sizes: Sizes, **attributes: Any) -> Array:
    """The larger of what sums of products and fast transforms may lose, then 1/N, then the store.

    An angle is off by t (4 u_c + pi's own error), u_c = 2^-24, t <= 2 pi j k / N, or 2 pi if N is a power of two (fast transforms
    of such N, the rule there, take j < N); a twiddle by that, by cos's accuracy, and by one rounding into the kernel's format.
    With U = sum (error of twiddle j) |x_j| a sum of products computes some sum of |.| <= sum |x_j| + U, off by U and by a dot
    product's error. Fast transforms: families/fourier. Underflow: each of the at most M log M operations loses at most eta,
    which at most M times M other numbers, M <= 4 N, carry into a result. Half a spectrum stands for at most twice its sum and norm.
    """
    x = sizes.operands[0]
    transform, k = _transform(x.shape, attributes)
    z = _moved(x, k)[..., : transform.used, :]
    N, u, twice = transform.length, arithmetic.unit_roundoff, 2.0 if transform.from_half else 1.0
    each = sum_up(z, axis=-1)
    total = mul_up(twice, sum_up(each, axis=-1, keepdims=True)[..., None])
    norm = mul_up(twice, np.asarray(inflate(np.sqrt(sum_up(mul_up(z, z), axis=(-2, -1), keepdims=True)), 2)))
    relative, absolute = arithmetic.accuracy("cos")
    angle = 2.0 * math.pi * (4.0 * COORDINATE_ROUNDOFF + PI_ROUNDOFF) * (1.0 + 2.0**-50)
    trigonometric = inflate(np.asarray(relative + absolute + u), 3).item()
    count = transform.used * transform.parts * int(twice)
    power = factors(N).count(2) == len(factors(N))
    if power:
        off = mul_up(angle + trigonometric, total)
    else:
        reach = np.arange(transform.used, dtype=np.float64) if not transform.from_half else np.full(transform.used, 2.0 * N)
        moment = sum_up(mul_up(reach, each), axis=-1, keepdims=True)[..., None]
        rows = np.arange(transform.results, dtype=np.float64)[:, None] / N
        off = add_up(mul_up(angle, inflate(rows, 1), moment), mul_up(trigonometric, total))
    y = _moved(sizes.magnitude, k)
    whole = mul_up(float(N), y) if transform.inverse else y
    largest = mul_up(1.0 + angle * N + trigonometric, z.max(axis=(-2, -1), keepdims=True, initial=0.0))
    summed = add_up(off, arithmetic.dot(max(count, 1), add_up(total, off), add_up(whole, off), largest))
    lost = np.maximum(summed, _fast(arithmetic, N, power, total, norm, angle + math.sqrt(2.0) * trigonometric))
    if transform.inverse:
        scaled = mul_up(1.0 / N * (1.0 + 2.0**-50), lost)
        lost = add_up(scaled, mul_up(3.0 * u, add_up(y, scaled)), 2.0 * arithmetic.underflow)
    return np.moveaxis(add_up(lost, arithmetic.round(add_up(y, lost))), -2, k)


def _fast(arithmetic: Arithmetic, N: int, power: bool, total: Array, norm: Array, twiddle: float) -> Array:
    """Elementwise error of fast transforms before they scale; inf where they may overflow. No element exceeds the 2-norm."""
    u = arithmetic.unit_roundoff
    factor = math.sqrt(N) * mixed_radix(N, u, twiddle)
    reach = 2.0
    if not power:
        factor, reach = max(factor, chirp(N, u, twiddle)), 8.0 * N
    if not factor < 1e300:
        return np.full(norm.shape, np.inf)
    under = 64.0 * (4.0 * N) ** 2 * (math.log2(4.0 * N) + 2.0) * arithmetic.underflow
    lost = add_up(mul_up(factor * (1.0 + 2.0**-40), norm), np.where(norm > 0.0, under, 0.0))
    return np.where(add_up(mul_up(reach, total), lost) <= arithmetic.accumulator.max, lost, np.inf)


def _frames(x: Any, *, step: int, length: int) -> Any:
    """(cases, batch, samples, parts) to (cases, batch, frames, length, parts)."""
    count = (x.shape[2] - length) // step + 1
    return x[:, :, np.arange(count)[:, None] * step + np.arange(length)[None, :]]


def _short_time(e: Expansion, *, frame_step: Any, frame_length: Any = None, onesided: int = 1) -> tuple[list[Primitive], dict[str, Array]]:
    """Frames, times the window in the kernel's format, then their transforms."""
    signal, window = e.operands[0], e.operands[1] if len(e.operands) > 1 else None
    samples, step = e.shapes[0][1], _scalar(frame_step)
    length = _scalar(frame_length)
    if window is not None and length not in (None, e.shapes[1][0]):
        raise UnsupportedOperator("a window shorter or longer than the frame, on which runtimes disagree")
    length = e.shapes[1][0] if window is not None else samples if length is None else length
    if step is None or step <= 0 or not 0 < length <= samples or len(e.shapes[0]) != 3:
        raise UnsupportedOperator(f"frames of {length} every {step} elements of a signal shaped {e.shapes[0]}")
    current = e.name("frames")
    steps = [Primitive("Frames", (signal,), current, {"step": step, "length": length}, domain="certify")]
    if window is not None:
        column = e.name("column")
        steps.append(Primitive("Reshape", (window,), column, {"shape": (length, 1)}))
        steps.append(Primitive("Mul", (current, column), e.name("weighted")))
        current = e.name("weighted")
    steps.append(Primitive("DFT", (current,), e.outputs[0] or "", {"axis": -2, "onesided": onesided}, inner=False))
    return steps, {}


def _dft(since: int, default_axis: int, parameters: tuple[str, ...]) -> Linear:
    def told(function: Any) -> Any:
        return lambda *x, **attributes: function(*x, **{"default_axis": default_axis, **attributes})

    return Linear(
        "DFT",
        since,
        parameters,
        told(_apply),
        told(_absolute),
        told(_back),
        told(_extent),
        told(_rounding),
        static=frozenset(parameters[1:]),
    )


register(
    _dft(17, 1, ("input", "dft_length")),
    _dft(20, -2, ("input", "dft_length", "axis")),
    Movement("Frames", 1, ("signal",), _frames, domain="certify"),
    Composite(
        "STFT",
        17,
        ("signal", "frame_step", "window", "frame_length"),
        _short_time,
        static=frozenset({"frame_step", "frame_length"}),
    ),
)
