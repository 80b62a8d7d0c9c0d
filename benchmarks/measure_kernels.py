"""Measure onnxruntime's fp32 elementary kernels on the CPU and print the table of `certify/profiles/measured/ort_cpu.json`.

    python benchmarks/measure_kernels.py               every kernel, every 61st bit pattern (minutes)
    python benchmarks/measure_kernels.py --stride 1    all 2^32 of them (hours)

A row says |computed - exact| <= ulps ulp(exact) + absolute + 2^-126 for every pattern measured; kernels that lose their
tails by cancelling or clamping get half an ulp and the absolute error they need, all others ulps alone. The reference is
float64, whose own error, 2^-29 ulps of fp32, is far below the last digit printed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper
from scipy import special

Array = npt.NDArray[np.float64]
Native = npt.NDArray[np.float32]
CHUNK = 1 << 21


def softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


KERNELS: dict[str, Callable[[Array], Any]] = {
    "Exp": np.exp,
    "Log": np.log,
    "Tanh": np.tanh,
    "Sin": np.sin,
    "Cos": np.cos,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Erf": special.erf,
    "Softplus": softplus,
    "Sigmoid": special.expit,
    "Gelu": lambda x: x * special.ndtr(x),
}
ABSOLUTE = ("Sigmoid", "Gelu")
LARGEST = {"Gelu": 10.0}  # beyond, the identity or zero


def patterns(stride: int) -> Iterator[Native]:
    """Every `stride`-th finite fp32 number."""
    for start in range(0, 1 << 32, CHUNK * stride):
        bits = np.arange(start, min(start + CHUNK * stride, 1 << 32), stride, dtype=np.uint64)
        x = bits.astype(np.uint32).view(np.float32)
        yield x[np.isfinite(x)]


def session(name: str) -> Callable[[Native], Native]:
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [None]) for end in "xy"]
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"])], "one", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(run.run(None, {"x": x})[0], dtype=np.float32)


def measure(name: str, stride: int) -> dict[str, float]:
    """The row of one kernel, rounded up in its third digit."""
    kernel, ulps, absolute = session(name), 0.5, 0.0
    for x in patterns(stride):
        with np.errstate(all="ignore"):
            exact = np.asarray(KERNELS[name](x.astype(np.float64)))
        inside = np.isfinite(exact) & (np.abs(exact) <= LARGEST.get(name, float(np.finfo(np.float32).max)))
        exact = exact[inside]
        excess = np.abs(kernel(x)[inside].astype(np.float64) - exact) - 2.0**-126
        ulp = np.ldexp(1.0, np.maximum(np.frexp(exact)[1] - 24, -149))
        if name in ABSOLUTE:
            absolute = max(absolute, float(np.max(excess - 0.5 * ulp, initial=0.0)))
        else:
            ulps = max(ulps, float(np.max(excess / ulp, initial=0.0)))
    return {"ulps": max(0.5, rounded_up(ulps - 2.0**-28)), "absolute": rounded_up(absolute)}


def rounded_up(x: float) -> float:
    """`x` to two significant digits, not below it."""
    if x <= 0.0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return float(f"{math.ceil(x / unit) * unit:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=61, help="measure every STRIDE-th bit pattern")
    parser.add_argument("kernels", nargs="*", default=list(KERNELS), help="ONNX operator names")
    arguments = parser.parse_args()
    rows = {name.lower(): measure(name, arguments.stride) for name in arguments.kernels}
    assumption = (
        f"Elementary functions are as accurate as measured on onnxruntime {onnxruntime.__version__}'s CPU provider on one processor "
        f"(fp32, bit patterns measured: every {arguments.stride})."
    )
    print(json.dumps({"version": 1, "assumption": assumption, "formats": {"fp32": rows}}, indent=2))


if __name__ == "__main__":
    main()
