"""Small dense networks over a whole box: bound, observed, seconds, and Gappa's bound of the same network where it answers.

    python benchmarks/mlps.py [--gappa SECONDS]

Seeded random weights (He), fp32, every input in [-1, 1]. Gappa adds each inner product from left to right; the certificate is for any
order. Gappa has no exp, so no sigmoid and no tanh; it reads relu as (x + |x|) / 2.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from kernels import certified, figure, ratio
from onnx import TensorProto, helper, numpy_helper
from public_kernels import gappa
from public_kernels.expression import record, relu

LAYERS = ((2, 4, 1), (4, 8, 1), (16, 32, 1))
ACTIVATIONS = ("Relu", "Sigmoid", "Tanh")
BOX = (-1.0, 1.0)
LIMIT = 1.5

Weights = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


def weights(sizes: tuple[int, ...]) -> Weights:
    generator = np.random.default_rng(sizes)
    found = []
    for before, after in itertools.pairwise(sizes):
        matrix = generator.standard_normal((before, after)) * np.sqrt(2.0 / before)
        found.append((matrix.astype(np.float32), (0.1 * generator.standard_normal(after)).astype(np.float32)))
    return found


def model_of(sizes: tuple[int, ...], activation: str) -> onnx.ModelProto:
    """Gemm, activation, ..., Gemm."""
    nodes, constants, last = [], [], "x"
    for i, (matrix, bias) in enumerate(weights(sizes)):
        constants += [numpy_helper.from_array(matrix, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"sum{i}"]))
        last = f"sum{i}"
        if i < len(sizes) - 2:
            nodes.append(helper.make_node(activation, [last], [f"layer{i}"]))
            last = f"layer{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", sizes[0]), (last, sizes[-1]))]
    graph = helper.make_graph(nodes, f"{activation.lower()}_{'_'.join(map(str, sizes))}", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def network(sizes: tuple[int, ...], *x: Any) -> Any:
    """The ReLU network's one output, inner products from left to right, the bias last."""
    values, layers = list(x), weights(sizes)
    for i, (matrix, bias) in enumerate(layers):
        sums = []
        for column, offset in zip(matrix.T, bias, strict=True):
            total = float(column[0]) * values[0]
            for weight, value in zip(column[1:], values[1:], strict=True):
                total = total + float(weight) * value
            sums.append(total + float(offset))
        values = sums if i == len(layers) - 1 else [relu(value) for value in sums]
    return values[0]


def by_gappa(sizes: tuple[int, ...], limit: float) -> float | None:
    """Gappa's bound of the ReLU network, uncut and with each input bisected, whichever is smaller."""
    names = [f"x{i}" for i in range(sizes[0])]
    tape, result = record(lambda *x: network(sizes, *x), names)
    cuts: list[list[str]] = [[], [f"$ {{{name}}};" for name in names]]
    answers = [gappa.bound(gappa.script(tape, result, dict.fromkeys(names, BOX), "fp32", cut), limit) for cut in cuts]
    return min((answer for answer in answers if answer is not None), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Small dense networks over [-1, 1].")
    parser.add_argument("--gappa", type=float, metavar="SECONDS", help="ask Gappa too, at most so long for each script")
    options = parser.parse_args()
    print("| network | activation | bound | observed | bound/observed | seconds | Gappa |\n|---|---|---|---|---|---|---|")
    for sizes in LAYERS:
        for activation in ACTIVATIONS:
            found = certified(model_of(sizes, activation), "fp32", BOX, LIMIT)
            answer = by_gappa(sizes, options.gappa) if options.gappa and activation == "Relu" else None
            cells = ["-".join(map(str, sizes)), activation, found.failure or figure(found.bound), figure(found.observed)]
            cells += [ratio(found.bound, found.observed), figure(found.seconds)]
            cells.append("" if activation != "Relu" or not options.gappa else figure(answer) or "no answer")
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
