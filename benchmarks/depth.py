"""Seconds and memory against depth: GPT-2 shapes of growing numbers of layers, with a straight line through them.

`python benchmarks/depth.py [--engine NAME] [--dtype FORMAT] [--cache DIR]` writes benchmarks/depth.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from kernels import figure
from large import certified, largest
from large_models import CACHE, DEPTHS, model

from models import cost

HERE = Path(__file__).resolve().parent
HEADER = """# Cost against depth

Made by `python benchmarks/depth.py --engine {engine} --dtype {dtype}`: GPT-2 shapes of width 768 as initialised, 32 tokens, one input,
on 2 cores. Seconds of the clock, those of bounding alone, and the processors'.

| layers | rounding | observed | seconds | bounding | processors | GB |
|---|---|---|---|---|---|---|
"""


def fit(layers: npt.ArrayLike, cost: npt.ArrayLike) -> tuple[float, float, float]:
    """The least squares line's start and slope, and the largest share of a point by which the line misses it."""
    x, y = np.asarray(layers, dtype=np.float64), np.asarray(cost, dtype=np.float64)
    slope, start = np.polyfit(x, y, 1)
    return float(start), float(slope), float(np.max(np.abs(start + slope * x - y) / y))


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost against depth.")
    parser.add_argument("--engine", default="probabilistic", help="default: %(default)s")
    parser.add_argument("--dtype", default="fp32", help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the built models; default: %(default)s")
    options = parser.parse_args()
    rows, costs = [], []
    for layers in DEPTHS:
        found = certified(model(f"gpt2_{layers}", options.cache), options.engine, options.dtype)
        if "failure" in found:
            raise SystemExit(f"gpt2_{layers}: {found['failure']}")
        seconds, memory = cost(found)
        bounding = float(found["timings"]["seconds"]["bounding the error"])
        costs.append((seconds, bounding, found["processor"], memory))
        sizes = figure(largest(found, "rounding_max")), figure(found["observed"])
        rows.append(
            "| "
            + " | ".join([str(layers), *sizes, f"{seconds:.1f}", f"{bounding:.1f}", f"{found['processor']:.1f}", f"{memory:.2f}"])
            + " |\n"
        )
        print(rows[-1], end="", flush=True)
    lines = []
    for name, values in zip(("seconds", "seconds of bounding", "seconds of processors", "GB"), zip(*costs, strict=True), strict=True):
        start, slope, missed = fit(DEPTHS, values)
        lines.append(f"- {name}: {start:.3g} + {slope:.3g} a layer, off by {100 * missed:.0f} % at most\n")
    print("".join(lines), end="")
    (HERE / "depth.md").write_text(HEADER.format(engine=options.engine, dtype=options.dtype) + "".join(rows) + "\n" + "".join(lines))


if __name__ == "__main__":
    main()
