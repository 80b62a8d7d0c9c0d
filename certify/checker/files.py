"""A certificate, its model and its witness ─▶ what the checker proves of the claim, case by case.

The certificate is JSON of schema "certify/1". The witness is an .npz archive beside it: `input/NAME`, (cases, *shape), and hints,
`slopes/CASE/NAME`, `rows/CASE/TARGET` and `multipliers/CASE/TARGET/NAME`, names percent-encoded.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from certify.checker.kernel import Indices, Pass
from certify.checker.model import Model, declared, units
from certify.checker.rounding import FORMATS, UNIT, Format, Ints, Rejected, Unsupported, Wide

Numbers = npt.NDArray[np.float64]


class Unreadable(Exception):
    """A file that is not there, or is not what it should be."""


@dataclass(frozen=True)
class Finding:
    """The largest error of one output in one case: what is proved, and what the certificate claims."""

    output: str
    case: int
    proved: Fraction
    claimed: float

    @property
    def holds(self) -> bool:
        return self.proved <= self.claimed


@dataclass
class Witness:
    inputs: dict[str, Numbers] = field(default_factory=dict)
    slopes: dict[int, dict[str, Numbers]] = field(default_factory=dict)
    rows: dict[int, dict[str, Indices]] = field(default_factory=dict)
    multipliers: dict[int, dict[str, dict[str, Numbers]]] = field(default_factory=dict)

    def hints(self, case: int) -> dict[str, tuple[Indices, dict[str, Numbers]]]:
        multipliers = self.multipliers.get(case, {})
        return {name: (rows, multipliers.get(name, {})) for name, rows in self.rows.get(case, {}).items()}


def check(certificate: Path, model: Path, witness: Path) -> Iterator[Finding]:
    """Prove what can be proved, one output and case at a time.

    Raises Unreadable, Rejected where the files contradict each other or a bound can't be proved at all, or Unsupported.
    """
    claim = _claim(certificate)
    content = _bytes(model)
    if hashlib.sha256(content).hexdigest() != _at(claim, "model", "sha256"):
        raise Rejected(f"{model} is not the model that {certificate} speaks of: its SHA-256 is another one")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise Unreadable(f"{model}: not an ONNX model") from error
    given = _witness(witness)
    shapes = _inputs(claim, proto, given, witness)
    storage = _storage(claim, declared(proto))
    yield from _cases(claim, proto, given, shapes, storage)


def _cases(claim: Any, proto: onnx.ModelProto, given: Witness, shapes: dict[str, tuple[int, ...]], storage: Format) -> Iterator[Finding]:
    narrower = storage.p < declared(proto).p
    exact_model = Model(proto, shapes, None)
    stored_model = Model(proto, shapes, storage) if narrower else exact_model
    claimed = _bounds(claim, [output.name for output in proto.graph.output])
    if constant := sorted(claimed.keys() - shapes.keys() - {step.output for step in exact_model.steps}):
        raise Unsupported(f"outputs that are constants: {', '.join(constant)}")
    for case in range(_count(claim)):
        points = {name: x[case if x.shape[0] > 1 else 0] for name, x in given.inputs.items()}
        try:
            real = _run(exact_model, points, Pass(None), None)
            wide = Pass(Wide(storage), given.slopes.get(case, {}), given.hints(case))
            computed = _run(stored_model, points, wide, storage)
        except Rejected as reason:
            if all(math.isinf(bounds[case]) for bounds in claimed.values()):
                continue
            raise Rejected(f"case {case}: {reason}") from None
        for name, bounds in claimed.items():
            error: Ints = np.abs(computed.z[name] - real.z[name]) + computed.r[name] + real.r[name]
            yield Finding(name, case, Fraction(int(error.max(initial=0)), 1 << UNIT), bounds[case])


def _run(model: Model, points: dict[str, Numbers], one: Pass, storage: Format | None) -> Pass:
    for name, x in points.items():
        one.given(name, units(x, storage))
    for step in model.steps:
        try:
            one.take(step)
        except Rejected as reason:
            raise Rejected(f"{step.output!r}: {reason}") from None
    return one


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path}: can't be read: {error.strerror}") from error


def _at(document: Any, *path: str) -> Any:
    """Raises Unreadable where the certificate lacks a field."""
    for key in path:
        if not isinstance(document, dict) or key not in document:
            raise Unreadable(f"the certificate has no field {'.'.join(path)}")
        document = document[key]
    return document


def _count(claim: Any) -> int:
    """The number of cases."""
    cases = _at(claim, "claim", "inputs", "cases")
    if not isinstance(cases, int) or cases < 1:
        raise Unreadable(f"the certificate speaks of {cases!r} cases")
    return cases


def _claim(path: Path) -> Any:
    try:
        document = json.loads(_bytes(path))
    except ValueError as error:
        raise Unreadable(f"{path}: not a JSON certificate") from error
    if _at(document, "schema") != "certify/1":
        raise Unreadable(f"{path}: no certificate of schema certify/1")
    return document


def _witness(path: Path) -> Witness:
    found = Witness()
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                kind, *names = key.split("/")
                names = [unquote(name) for name in names]
                if kind == "input" and len(names) == 1:
                    found.inputs[names[0]] = archive[key].astype(np.float64)
                elif kind == "slopes" and len(names) == 2:
                    found.slopes.setdefault(int(names[0]), {})[names[1]] = archive[key].astype(np.float64)
                elif kind == "rows" and len(names) == 2:
                    found.rows.setdefault(int(names[0]), {})[names[1]] = archive[key].astype(np.intp)
                elif kind == "multipliers" and len(names) == 3:
                    of_case = found.multipliers.setdefault(int(names[0]), {})
                    of_case.setdefault(names[1], {})[names[2]] = archive[key].astype(np.float64)
                else:
                    raise Unreadable(f"{path}: holds {key!r}, which no witness has")
    except OSError as error:
        raise Unreadable(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise Unreadable(f"{path}: not a witness ({error})") from error
    return found


def _inputs(claim: Any, proto: onnx.ModelProto, given: Witness, path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the model's inputs; the witness's points must be those of the claim."""
    if _at(claim, "claim", "inputs", "kind") != "points":
        raise Unsupported("a claim over a region; the checker re-proves claims at points")
    constants = {tensor.name for tensor in proto.graph.initializer}
    expected = {value.name: value for value in proto.graph.input if value.name not in constants}
    if given.inputs.keys() != expected.keys():
        raise Rejected(f"{path}: its inputs are not the model's, {sorted(expected)}")
    state = hashlib.sha256()
    for name, x in sorted(given.inputs.items()):
        state.update(f"{name}\0{','.join(map(str, x.shape))}\0".encode())
        state.update(np.ascontiguousarray(x, dtype="<f8").tobytes())
    if state.hexdigest() != _at(claim, "claim", "inputs", "sha256"):
        raise Rejected(f"{path}: its inputs are not the points of the claim: their SHA-256 is another one")
    cases = _count(claim)
    for name, x in given.inputs.items():
        dimensions = expected[name].type.tensor_type.shape.dim
        fits = x.ndim == len(dimensions) + 1 and x.shape[0] in (1, cases)
        if not fits or any(d.HasField("dim_value") and d.dim_value != n for d, n in zip(dimensions, x.shape[1:], strict=True)):
            raise Rejected(f"{path}: input {name!r} has shape {x.shape}, which the model does not take in {cases} cases")
    return {name: x.shape[1:] for name, x in given.inputs.items()}


def _storage(claim: Any, own: Format) -> Format:
    """The claim's storage format. Raises Unsupported for what is not the profile `wide` in a known format."""
    profile, accumulate, dtype = (_at(claim, "claim", *path) for path in (("profile", "name"), ("accumulate",), ("dtype",)))
    if dtype not in FORMATS or (own.name in ("fp16", "bf16") and dtype != own.name):
        raise Unsupported(f"a claim for {dtype} of a model in {own.name}; known: {', '.join(FORMATS)}")
    storage = FORMATS[dtype]
    if profile != "wide" or accumulate != Wide(storage).acc.name:
        raise Unsupported(f"profile {profile!r} accumulating in {accumulate}; only `wide`, in {Wide(storage).acc.name}")
    return storage


def _bounds(claim: Any, outputs: list[str]) -> dict[str, list[float]]:
    """The claimed bound of each output and case. Raises Rejected where the certificate contradicts the model or itself."""
    cases, found = _count(claim), {}
    for output in _at(claim, "outputs"):
        try:
            per_case = [float(bound) for bound in _at(output, "per_case")]
            largest = float(_at(output, "bound", "absolute_max"))
        except (TypeError, ValueError) as error:
            raise Unreadable(f"the certificate's bounds are no numbers ({error})") from error
        if len(per_case) != cases or any(math.isnan(bound) for bound in per_case):
            raise Rejected(f"the certificate does not give output {_at(output, 'name')!r} one bound for each of {cases} cases")
        if not max(per_case, default=0.0) <= largest:
            raise Rejected(f"the certificate's largest bound of {output['name']!r} is below that of a case")
        found[output["name"]] = per_case
    if found.keys() != set(outputs):
        raise Rejected(f"the certificate's outputs are not the model's, {sorted(outputs)}")
    return found
