"""Large networks, each with the engines and formats that should bound them: bound / observed, seconds, memory.

`python benchmarks/large.py [--cache DIR] [PART ...]` writes benchmarks/large.md, or with parts of rows prints these rows alone. Models
are built by large_models.py, or looked for as models.py does.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kernels import figure, ratio
from large_models import BUILDERS, CACHE, model

from models import PUBLIC, cost, measured

HERE = Path(__file__).resolve().parent
TIMEOUT = 3600
HEADER = """# Large networks at one input

Made by `python benchmarks/large.py`: one input, on 2 cores; seconds and GB are of the whole command. `rounding` is the bound
of the rounding error, `observed` what a run, emulated or real, had of it at least (the largest difference of its error's size and that of
the conversion error), `ratio` the one by the other. Where nothing can be run in the order claimed, a run in the runtime's own is observed.
`guarantee` is that of the bound; the ladder has the largest whole bound by guarantee.

| model | format | profile | summation | engine | guarantee | rounding | observed | ratio | conversion | ladder | lost at | seconds | GB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """model: a name of large_models, or a file below the public models without its suffix."""

    model: str
    engine: str
    dtype: str
    summation: str = "any"
    profile: str = "wide"

    def __str__(self) -> str:
        return f"{self.model} {self.dtype} {self.summation} {self.engine} {self.profile}"

    def path(self, cache: Path) -> Path:
        return model(self.model, cache) if self.model in BUILDERS else PUBLIC / f"{self.model}.onnx"


SQUEEZENET = "gen_torch/squeezenet1_1__dynamo"
ROWS = (
    *(Row(f"gen_torch/{name}_tiny__dynamo", "sketch", dtype) for name in ("gpt2", "llama") for dtype in ("fp32", "fp16")),
    Row("minilm", "sketch", "fp32", "pairwise"),
    *(Row("minilm", "probabilistic", dtype) for dtype in ("fp32", "fp16", "bf16")),
    Row("minilm", "probabilistic", "fp32", "any", "ort-cpu"),
    Row("minilm", "sampled", "bf16"),
    *(Row(name, *claim) for name in (SQUEEZENET, "resnet50", "gpt2_12") for claim in (("probabilistic", "fp32"), ("sampled", "bf16"))),
    *(Row(name, "sketch", "fp16") for name in ("vnncomp_cifar10_resnet/resnet_2b", "vnncomp_vit/pgd_2_3_16")),
)


def largest(found: dict[str, Any], key: str) -> float:
    """Over all outputs; NaN where no output has it."""
    return max((float(output[key]) for output in found["outputs"] if output.get(key) is not None), default=math.nan)


def ladder(found: dict[str, Any]) -> str:
    rungs: dict[str, float] = {}
    for output in found["outputs"]:
        for guarantee, bound in output["ladder"].items():
            rungs[guarantee] = max(rungs.get(guarantee, 0.0), float(bound))
    return ", ".join(f"{guarantee} {figure(bound)}" for guarantee, bound in rungs.items())


def line(row: Row, found: dict[str, Any]) -> str:
    """One Markdown row."""
    claim = [row.model, row.dtype, row.profile, row.summation, row.engine]
    if "failure" in found:
        return "| " + " | ".join([*claim, found["failure"], *[""] * 8]) + " |"
    rounding, observed = largest(found, "rounding_max"), found["observed"]
    seconds, memory = cost(found)
    lost = next((f"`{entry['node']}`" for entry in found["lost"]), "")
    shown = figure(observed) + (", any order" if found.get("borrowed") else "")
    cells = [found["guarantee"], figure(rounding), shown, ratio(rounding, observed), figure(largest(found, "conversion_max"))]
    return "| " + " | ".join([*claim, *cells, ladder(found), lost, f"{seconds:.1f}", f"{memory:.2f}"]) + " |"


def certified(path: Path, engine: str, dtype: str, summation: str = "any", profile: str = "wide") -> dict[str, Any]:
    """As models.measured says, at the inputs that come with the model, if any do. `observed`: the rounding error seen, at least.

    Where no run conforms to the summation, `observed` is of a run that adds up in an order of its own, and `borrowed` says so.
    """
    data = path.with_name("data.npz")
    given = ("--data", str(data)) if data.exists() else ()
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "arrays.npz"
        claim = ("--engine", engine, "--summation", summation, "--profile", profile, "-o", str(arrays))
        found = measured(path, dtype, *claim, *given, timeout=TIMEOUT)
        if "failure" in found:
            return found
        found["observed"] = seen(arrays)
    if math.isnan(found["observed"]) and summation != "any":
        found |= {"observed": certified(path, "running", dtype).get("observed", math.nan), "borrowed": True}
    return found


def seen(path: Path) -> float:
    """The rounding error observed, at least: ||c + r| - |c|| <= |r| for the conversion error c and the rounding error r of an element."""
    largest = math.nan
    with np.load(path) as arrays:
        for name in arrays.files:
            if name.startswith("observed_error/"):
                difference = np.abs(arrays[name] - arrays[name.replace("observed_error/", "conversion/", 1)])
                largest = float(np.fmax(largest, np.fmax.reduce(difference, axis=None, initial=np.nan)))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description="Bounds of large networks.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="of rows, as 'minilm' or 'sampled'; default: all, and write the table")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the built models; default: %(default)s")
    options = parser.parse_args()
    lines = []
    for row in ROWS:
        if options.parts and not any(part in str(row) for part in options.parts):
            continue
        path = row.path(options.cache)
        found = certified(path, row.engine, row.dtype, row.summation, row.profile) if path.exists() else {"failure": "absent"}
        lines.append(line(row, found))
        print(lines[-1], flush=True)
    if not options.parts:
        (HERE / "large.md").write_text(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
