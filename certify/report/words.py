"""What every report says in the same words: numbers, the claim, the guarantee, where inputs came from."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from certify.certificate.schema import (
    AsRun,
    Attained,
    Claim,
    Counterexample,
    Document,
    Inputs,
    Model,
    Output,
    Property,
    Region,
    RegionDecision,
    SubBox,
)

SHOWN = 8  # numbers of an input that the report spells out
GUARANTEES = {
    "proved": "It holds always.",
    "randomized": "It holds unless this program's own seeded draws misled it, which has probability at most {eta}.",
    "probabilistic": "It holds with probability at least 1 - {eta}, if rounding errors are mean-independent with zero mean.",
    "first order": "Terms of second order are neglected: this is an estimate under a probabilistic model, not a proof.",
    "sampled": "With confidence 95 % it holds for 95 % of runs with simulated random roundings: no theorem stands behind it.",
}


def above(x: float, digits: int = 4) -> str:
    """Scientific notation that never shows less than `x`: for bounds."""
    return _scientific(x, digits, ROUND_CEILING)


def below(x: float, digits: int = 4) -> str:
    """Scientific notation that never shows more than `x`: for margins."""
    return _scientific(x, digits, ROUND_FLOOR)


def near(x: float, digits: int = 3) -> str:
    """Scientific notation rounded to nearest: for what is only described."""
    return _scientific(x, digits, ROUND_HALF_EVEN)


def _scientific(x: float, digits: int, rounding: str) -> str:
    if not math.isfinite(x):
        return {math.inf: "∞", -math.inf: "-∞"}.get(x, "NaN")
    if x == 0.0:
        return "0"
    rounded = Context(prec=digits, rounding=rounding).create_decimal(Decimal(x))
    return f"{rounded:.{digits - 1}e}"


def tightness(output: Output) -> str:
    """Bound / observed, such as 5.9x, or why there is no such number."""
    x = output.tightness
    if x is None:
        return "none: bound and observed error are infinite"
    if not math.isfinite(x):
        return "∞: no error was observed" if output.observed_max == 0.0 else "∞: the bound is infinite"
    return f"{f'{x:.1f}' if x < 1000 else near(x)}x   bound / observed"


def attained(found: Attained, tried: int) -> str:
    """Where a search found the largest error: exact numbers, if they are few."""
    count = f"{plural(tried, 'point')} tried"
    numbers = [] if found.inputs is None else [x for values in found.inputs.values() for x in _flat(values)]
    if found.inputs is None or len(numbers) > SHOWN:
        where = f"an input with sha256 {found.sha256[:12]}" + ("" if found.inputs is None else ", listed in the certificate")
    else:
        where = ", ".join(f"{name} = {_listed(_flat(values))}" for name, values in found.inputs.items()) or "the only input"
    return f"{near(found.error, 4)}, the largest error found by search ({count}), at {where}"


STATED = {
    "holds": "holds in every conforming execution of every input of its boxes",
    "holds over the reals": "holds for exact results; that no execution breaks it is not proved",
    "may fail": "may fail: not proved, and not refuted",
    "violated": "violated by a run",
}


def stated(found: Property) -> str:
    """What became of a property, in a sentence."""
    return STATED[found.verdict]


def decided(found: RegionDecision) -> str:
    """What becomes of the argmax of an output over a region, in a sentence."""
    if found.count["stable"] == found.boxes:
        one = "the same in the whole region" if found.constant else "known in every part of the region"
        return f"of {found.output}: {one}, in every conforming execution"
    over = ", one and the same over the reals," if found.constant_reals else ""
    return f"of {found.output}:{over} rounding may flip some"


def by_kind(found: RegionDecision) -> str:
    """How much of the region is stable, and what of the rest."""
    said = {"stable": "stable", "rounding": "where rounding may flip it", "reals": "where the reals may not be constant"}
    return ", ".join(f"{found.count[kind]:,} {text} ({found.share[kind]:.2%})" for kind, text in said.items() if found.count[kind])


def counterexample(found: Counterexample) -> str:
    """The run that breaks a property: exact numbers, if they are few."""
    also = {True: "unsafe as well", False: "safe", None: "not told by its enclosure"}[found.unsafe]
    where = f"an input with sha256 {found.sha256[:12]}"
    if found.inputs is not None and sum(len(_flat(x)) for x in found.inputs.values()) <= SHOWN:
        listed = [
            ", ".join(f"{name} = {_listed(_flat(x))}" for name, x in arrays.items()) for arrays in (found.inputs, found.outputs or {})
        ]
        where = " gives ".join(listed)
    return f"{where} in {found.run}, margin {near(found.margin, 4)}; the exact result is {also}"


def _flat(x: Any) -> list[float]:
    return [number for item in x for number in _flat(item)] if isinstance(x, list) else [x]


def _listed(numbers: list[float]) -> str:
    """Each spelled so that it reads back as the same number."""
    spelled = [f"{x:.0f}" if x == int(x) and abs(x) < 2.0**53 else repr(x) for x in numbers]
    return spelled[0] if len(spelled) == 1 else f"[{', '.join(spelled)}]"


def plural(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def formats(claim: Claim) -> str:
    """Storage, accumulator and order of summation."""
    order = {"any": "in any order of summation"}.get(claim.summation, f"summation {claim.summation}")
    return f"{claim.dtype} in storage, {claim.accumulate} in accumulators, {order}"


def claim(document: Document) -> str:
    """The certified statement, in a sentence."""
    inputs = document.claim.inputs
    which = (
        "every input in the box"
        if inputs.kind == "region"
        else "the one input"
        if inputs.cases == 1
        else f"each of the {inputs.cases:,} inputs"
    )
    return (
        f"For {which} and every run that conforms to profile {document.claim.profile.name} ({formats(document.claim)}): "
        "each element of each output differs from the model's exact result by at most its bound."
    )


def as_run(run: AsRun, model: Model) -> str:
    """Which graph the bound is of."""
    return f"as run by {run.runtime} at level {run.level}, {plural(run.nodes, 'node')} instead of {model.nodes:,}"


def conversion(claim: Claim) -> str:
    """Where the conversion error comes from."""
    folded = "" if claim.as_run is None else ", and what was folded into constants"
    return f"constants and inputs rounded into {claim.dtype}{folded}"


def guarantee(document: Document) -> str:
    """How strong the claim is, in a sentence."""
    return GUARANTEES[document.guarantee].format(eta=f"{document.failure_probability:g}")


def origin(inputs: Inputs) -> str:
    """How the inputs were obtained."""
    boxes = ", ".join(f"{name} in [{lo:g}, {hi:g}]" for name, (lo, hi) in (inputs.boxes or {}).items())
    drawn = f"{plural(inputs.cases, 'point')} drawn with seed {inputs.seed} from {boxes}"
    widened = f", {plural(inputs.widened, 'element')} with both neighbours of bounds that hold none" if inputs.widened else ""
    return {
        "data": f"{plural(inputs.cases, 'case')} from the data given (sha256 {(inputs.sha256 or '')[:12]})",
        "sampled": drawn,
        "range": f"every number of the box {boxes}",
        "vnnlib": f"every number of the VNN-LIB file's boxes (sha256 {(inputs.sha256 or '')[:12]}), which lie in {boxes}{widened}",
        "default": f"every number of the box {boxes}" if inputs.kind == "region" else drawn,
    }[inputs.source]


def invented(inputs: Inputs) -> str | None:
    """A warning where nobody chose the domain, or None."""
    if inputs.source != "default":
        return None
    return "This domain is a default that nobody chose: it says nothing about your data. Give --data, or --range."


def relative(output: Output) -> str:
    return f"{above(output.bound.relative_max)} relative to the largest |y|"


def split(region: Region) -> str:
    """Into how many sub-boxes, and why no more."""
    return f"{plural(region.boxes, 'sub-box', 'sub-boxes')}, {region.asked:,} bounded on the way; ended by: {region.ended}"


def sub_box(box: SubBox, shown: int = 6) -> str:
    """Its bound and where it is; the intervals of its first elements."""
    parts = []
    for name, intervals in box.box.items():
        several = len(intervals) > 1
        parts += [f"{name}{f'[{i}]' if several else ''} in [{lo:.6g}, {hi:.6g}]" for i, (lo, hi) in enumerate(intervals)]
    more = f" and {len(parts) - shown} more" if len(parts) > shown else ""
    return f"{above(box.bound)} at {', '.join(parts[:shown])}{more}"
