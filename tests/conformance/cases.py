"""ONNX's own test cases, one operator each, as claims: certify the case at its inputs, then look where the outputs lie.

`python -m tests.conformance.cases [TEXT]` prints what becomes of every case whose name contains TEXT.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import certify
from certify.errors import CertifyError

# Outputs that no kernel computes from the case's own inputs and attributes: what is wrong with them. onnxruntime's are still looked at.
MISSTATED = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad": "written down with four digits",
    "test_roialign_aligned_false": "written down with four digits",
    "test_roialign_aligned_true": "written down with four digits",
    "test_adam_multiple": "computed with 1 - 0.95 in double, while the attribute holds 0.95 as a float",
}


@dataclass(frozen=True)
class Case:
    """One case: its model, its inputs by name, and the outputs that its authors computed, by name; tensors of a sequence as name[i]."""

    name: str
    model: Any
    inputs: dict[str, Any]
    expected: dict[str, Any]

    @property
    def is_numeric(self) -> bool:
        """True if some output is a tensor of numbers or truth values with elements: something to certify."""
        return any(isinstance(y, np.ndarray) and y.dtype.kind not in "OUS" and y.size for y in self.expected.values())

    @property
    def open_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs whose first dimension is open: it is no batch here."""
        tensors = {i.name: i.type.tensor_type.shape.dim for i in self.model.graph.input}
        return {name: self.inputs[name].shape for name, dim in tensors.items() if len(dim) and dim[0].dim_param and name in self.inputs}


@cache
def cases() -> tuple[Case, ...]:
    """All of them, in the order of their names."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = [_case(case) for case in collect_testcases(None)]
    return tuple(sorted(found, key=lambda case: case.name))


def _case(case: Any) -> Case:
    inputs, outputs = case.data_sets[0]
    graph = case.model.graph
    given = zip([i.name for i in graph.input], map(_plain, inputs), strict=False)
    expected = zip([o.name for o in graph.output], map(_plain, outputs), strict=True)
    return Case(case.name, case.model, dict(given), _flat(expected))


def _plain(x: Any) -> Any:
    """Tensors and scalars as arrays; lists and None as they are."""
    from onnx import TensorProto, numpy_helper

    if isinstance(x, list) or x is None:
        return x
    return numpy_helper.to_array(x) if isinstance(x, TensorProto) else np.asarray(x)


def _flat(values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, x in values:
        found |= {f"{name}[{i}]": _plain(item) for i, item in enumerate(x)} if isinstance(x, list) else {name: x}
    return found


@dataclass(frozen=True)
class Outcome:
    """covered: certified, and every output lies in its enclosure. Otherwise `reason` says what happened.

    runs: "onnxruntime" where its outputs were looked at too; "unbounded" where a bound of a finite output is infinite.
    """

    covered: bool
    reason: str = ""
    runs: str = ""
    alarm: bool = False


def examine(case: Case) -> Outcome:
    """Certify in the case's own types, and compare with what its authors expect and with what onnxruntime gives."""
    try:
        certificate = certify.certify(case.model, data=case.inputs, shapes=case.open_shapes, validate=False)
    except CertifyError as refusal:
        return Outcome(False, f"{type(refusal).__name__}: {refusal}")
    except Exception as crash:  # noqa: BLE001
        return Outcome(False, f"crash: {type(crash).__name__}: {crash}", alarm=True)
    found = "" if case.name in MISSTATED else _compare(certificate, case.expected)
    if found:
        return Outcome(False, f"expected output {found}", alarm=True)
    computed = _runtime(case)
    loose = "unbounded" if _unbounded(certificate, case.expected) else ""
    if computed is None:
        return Outcome(True, runs=loose)
    found = _compare(certificate, computed)
    return Outcome(False, f"onnxruntime's output {found}", "onnxruntime", True) if found else Outcome(True, runs=f"onnxruntime {loose}")


def _unbounded(certificate: Any, outputs: dict[str, Any]) -> bool:
    """True if a bound is infinite where the expected output is a finite number."""
    numeric = {name: y for name, y in outputs.items() if isinstance(y, np.ndarray) and y.dtype.kind not in "OUS"}
    return any(
        (np.isinf(certificate.outputs[name].absolute_bound[0]) & np.isfinite(y.astype(np.float64))).any() for name, y in numeric.items()
    )


def _compare(certificate: Any, outputs: dict[str, Any]) -> str:
    """Where an output leaves reference +- bound, "" if nowhere."""
    for name, y in outputs.items():
        if not isinstance(y, np.ndarray) or y.dtype.kind in "OUS" or not y.size:
            continue
        out = certificate.outputs[name]
        reference, bound = out.reference[0], out.absolute_bound[0]
        y = y.astype(np.float64)
        if y.shape != reference.shape:
            return f"{name!r} has shape {y.shape}, the certificate's {reference.shape}"
        with np.errstate(all="ignore"):
            distance = np.abs(y - reference)
            nearest = np.where(distance > 0.0, np.nextafter(distance, 0.0), distance)  # the difference is rounded: never a false alarm
            inside = (nearest <= bound) | (y == reference) | np.isposinf(bound)
        if not inside.all():
            at = tuple(int(i) for i in np.argwhere(~inside)[0])
            return f"{name!r} at {list(at)} is {y[at]!r}, the certificate says {reference[at]!r} +- {bound[at]!r}"
    return ""


def _runtime(case: Case) -> dict[str, Any] | None:
    """onnxruntime's outputs with rewrites disabled; None where it does not run the case."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, case.inputs)
    except Exception:  # noqa: BLE001 - its exceptions share no base class
        return None
    outputs = _flat(zip([o.name for o in session.get_outputs()], map(_plain, found), strict=True))
    return {name: _typed(y, case.expected.get(name)) for name, y in outputs.items()}


def _typed(y: Any, expected: Any) -> Any:
    """The bits of an 8-bit float, which the runtime hands out as integers, as that float."""
    bits = (
        isinstance(y, np.ndarray) and isinstance(expected, np.ndarray) and y.dtype == np.uint8 and expected.dtype.name.startswith("float8")
    )
    return y.view(expected.dtype) if bits else y


def main(text: str) -> None:
    """Print every case whose name contains `text`, then the count of each kind."""
    count: Counter[str] = Counter()
    for case in cases():
        if text not in case.name or not case.is_numeric:
            continue
        outcome = examine(case)
        kind = "covered" if outcome.covered else "ALARM" if outcome.alarm else "refused"
        count[kind] += 1
        print(f"{kind:8} {case.name}  {outcome.reason[:240]} {outcome.runs}", flush=True)
    print(dict(count))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
