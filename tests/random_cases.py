"""ONNX's own cases at nasty numbers: each operator's models, in narrow formats, at inputs that their authors did not choose.

Floats become draws of many magnitudes, ties, zeros of both signs, whole and half numbers, saturating and subnormal ones; whatever decides
the structure of a model, integers and truth values stay as the case has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import certify
from certify.errors import CertifyError
from tests.conformance.cases import Case, cases

FORMATS = ("fp32", "bf16", "fp16", "fp8e5m2")
WHOLE = ("scale", "sizes", "roi", "threshold", "sequence", "ratio", "zero_point", "alpha", "k", "axes", "shape", "delta", "limit", "start")


@dataclass
class Tally:
    """What became of the claims."""

    claims: int = 0
    finite: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.claims} claims, {self.finite} of them finite, {self.refused} refused, {len(self.wrong)} wrong"


def nasty(draw: np.random.Generator, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers of the array's own type and shape."""
    ways = [
        draw.uniform(-1, 1, like.shape),
        draw.normal(size=like.shape) * 10.0 ** draw.integers(-6, 5),
        np.ldexp(draw.uniform(-1, 1, like.shape), draw.integers(-30, 14, like.shape)),
        draw.integers(-4, 5, like.shape) / 2.0,
        draw.choice([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 6.0, -3.0, 1e-7, -88.0], like.shape),
        np.full(like.shape, draw.uniform(-3, 3)),
    ]
    with np.errstate(all="ignore"):
        return np.asarray(ways[draw.integers(len(ways))]).astype(like.dtype)


def inputs_for(case: Case, draw: np.random.Generator) -> dict[str, Any]:
    """The case's inputs, its float tensors drawn anew but for those that are parameters by their names."""
    found = dict(case.inputs)
    for name, x in case.inputs.items():
        parameter = any(word in name.lower() for word in WHOLE)
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.dtype.itemsize <= 8 and x.size > 1 and not parameter:
            found[name] = nasty(draw, x)
    return found


def claim(case: Case, seed: int, dtype: str, tally: Tally) -> None:
    """Certify and attack one case; crashes, NaN bounds and violations are wrong."""
    data = inputs_for(case, np.random.default_rng([seed, len(case.name), sum(case.name.encode())]))
    tally.claims += 1
    try:
        found = certify.certify(case.model, dtype=dtype, data=data, shapes=case.open_shapes)
    except CertifyError:
        tally.refused += 1
        return
    except Exception as crash:  # noqa: BLE001 - a finding, whatever it is
        tally.wrong.append(f"{case.name} {dtype} seed {seed}: {type(crash).__name__}: {crash}")
        return
    bounds = [output.absolute_bound for output in found.outputs.values()]
    if any(np.isnan(bound).any() for bound in bounds):
        tally.wrong.append(f"{case.name} {dtype} seed {seed}: NaN in a bound")
    if found.validation is not None and found.validation.violations:
        tally.wrong.append(f"{case.name} {dtype} seed {seed}: {found.validation.violations[0]}")
    tally.finite += all(np.isfinite(bound).all() for bound in bounds)


def run(first: int, count: int, tally: Tally) -> Tally:
    """`count` claims from number `first` on: cases in an order of their own, formats in turn."""
    numeric = [case for case in cases() if case.is_numeric]
    order = np.random.default_rng(0).permutation(len(numeric))
    for number in range(first, first + count):
        case = numeric[order[number % len(numeric)]]
        claim(case, number // len(numeric), FORMATS[(number + number // len(numeric)) % len(FORMATS)], tally)
    return tally
