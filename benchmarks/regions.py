"""Public networks over whole boxes of inputs: bound, the attack's largest error, their ratio, seconds.

    python benchmarks/regions.py [PART ...] [--seconds 60] [--formats fp32,fp16,bf16] [--jobs N]

ACAS Xu 1_1 to 1_9 over the boxes of properties 1 to 4, in fp32 and with fp16 and bf16 storage and fp32 sums (profile wide), and networks
of control, indexing and perception over theirs; and what becomes of the file's property, in half of the time. Rows whose name contains a
PART are run; without any, all. The models are looked for in CERTIFY_MODELS, or beside the repository.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernels import Result, certified, figure, ratio

PUBLIC = Path(os.environ.get("CERTIFY_MODELS", Path(__file__).resolve().parents[2] / "shared" / "models"))
ACAS = PUBLIC / "vnncomp_acasxu"


@dataclass(frozen=True)
class Row:
    """box: a VNN-LIB file, or one range for all inputs."""

    name: str
    model: Path
    box: Path | tuple[float, float]


def rows() -> Iterator[Row]:
    for network in range(1, 10):
        for number in range(1, 5):
            model = ACAS / f"ACASXU_run2a_1_{network}_batch_2000.onnx"
            yield Row(f"acasxu_1_{network} prop_{number}", model, ACAS / f"prop_{number}.vnnlib")
    for model, box in (
        ("vnncomp_rl/cartpole", "cartpole_case_unsafe_0"),
        ("vnncomp_rl/dubinsrejoin", "dubinsrejoin_case_safe_0"),
        ("vnncomp_reach_prob/vdp", "vdp_0"),
        ("vnncomp_reach_prob/robot", "robot_0"),
        ("vnncomp_nn4sys23/lindex", "lindex_1"),
        ("vnncomp_tllverify/tllBench_n=2_N=M=8_m=1_instance_0_0", "property_N=8_0"),
        ("vnncomp_lsnc/quadrotor2d_output", "quadrotor2d_output_0"),
    ):
        path = PUBLIC / f"{model}.onnx"
        yield Row(path.stem, path, path.with_name(f"{box}.vnnlib"))
    yield Row("KJ_TinyTaxiNet", PUBLIC / "marabou_misc" / "KJ_TinyTaxiNet.onnx", (0.0, 1.0))


def run(row: Row, dtype: str, seconds: float, jobs: int) -> Result:
    if isinstance(row.box, tuple):
        return certified(row.model, dtype, row.box, seconds, profile=None, jobs=jobs)
    return certified(row.model, dtype, None, seconds, profile=None, vnnlib=row.box, jobs=jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Public networks over boxes of inputs.")
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of each bound")
    parser.add_argument("--formats", default="fp32,fp16,bf16")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes of each")
    options = parser.parse_args()
    print("| network | format | bound | observed | bound/observed | seconds | property |\n|---|---|---|---|---|---|---|")
    for row in rows():
        if options.parts and not any(part in row.name for part in options.parts):
            continue
        for dtype in options.formats.split(","):
            found = run(row, dtype, options.seconds, options.jobs) if row.model.exists() else Result(failure="absent")
            cells = [row.name, dtype, found.failure or figure(found.bound), figure(found.observed)]
            cells += [ratio(found.bound, found.observed), figure(found.seconds), found.verdict]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
