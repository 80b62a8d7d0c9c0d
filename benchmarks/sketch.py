"""The sketch beside the adjoint engine: bound, bound / observed, seconds, memory.

`python benchmarks/sketch.py` writes benchmarks/sketch.md. The models are looked for in CERTIFY_MODELS, or beside the repository.
"""

from __future__ import annotations

from pathlib import Path

from kernels import figure, ratio

from models import PUBLIC, bound_and_observed, cost, measured

HERE = Path(__file__).resolve().parent
ROWS = (
    ("gen_torch/gpt2_tiny__dynamo", "fp32"),
    ("gen_torch/gpt2_tiny__dynamo", "fp16"),
    ("gen_torch/llama_tiny__dynamo", "fp32"),
    ("gen_torch/llama_tiny__dynamo", "fp16"),
    ("vnncomp_cifar10_resnet/resnet_2b", "fp16"),
    ("vnncomp_vit/pgd_2_3_16", "fp16"),
)
HEADER = """# The sketch beside the adjoint engine

Made by `python benchmarks/sketch.py`: one drawn input, profile wide, any order of summation, `--engine adjoint` (proved, with tubes refined
row by row as far as its work goes) and `--engine sketch` (randomized, failing with probability at most 1e-9). Seconds of the whole
command on 2 cores.

| model | format | adjoint | / observed | seconds | sketch | / observed | sketch / adjoint | seconds | GB |
|---|---|---|---|---|---|---|---|---|---|
"""


def cells(name: str, dtype: str, engine: str) -> tuple[float, float, float, float]:
    """bound, observed, seconds, GB; NaN where there is no certificate."""
    found = measured(PUBLIC / f"{name}.onnx", dtype, "--engine", engine)
    if "failure" in found:
        return (float("nan"),) * 4
    return (*bound_and_observed(found), *cost(found))


def main() -> None:
    rows = []
    for name, dtype in ROWS:
        (proved, seen, spent, _), (drawn, _, time, memory) = (cells(name, dtype, engine) for engine in ("adjoint", "sketch"))
        row = [name, dtype, figure(proved), ratio(proved, seen), f"{spent:.1f}", figure(drawn), ratio(drawn, seen), ratio(drawn, proved)]
        rows.append("| " + " | ".join([*row, f"{time:.1f}", f"{memory:.2f}"]) + " |\n")
        print(rows[-1], end="", flush=True)
    (HERE / "sketch.md").write_text(HEADER + "".join(rows))


if __name__ == "__main__":
    main()
