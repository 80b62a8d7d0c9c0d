"""Public networks over whole boxes of inputs: bound, the attack's largest error, their ratio, seconds.

    python benchmarks/regions.py [PART ...] [--seconds 60] [--formats fp32,fp16,bf16]

ACAS Xu 1_1 to 1_9 over the boxes of properties 1 to 4, in fp32 and with fp16 and bf16 storage and fp32 sums (profile wide), and networks
of control, indexing and perception over theirs. Rows whose name contains a PART are run; without any, all. The models are looked for in
CERTIFY_MODELS, or beside the repository.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from kernels import Result, certified, figure, ratio
from onnx import TensorProto, helper

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


def bounds(path: Path) -> list[tuple[float, float]]:
    """The least box that holds what the file asserts of X_0, X_1, ..."""
    ends: dict[str, dict[int, list[float]]] = {"<=": {}, ">=": {}}
    for relation, index, number in re.findall(r"\((<=|>=) X_(\d+) ([-+0-9.eE]+)\)", path.read_text()):
        ends[relation].setdefault(int(index), []).append(float(number))
    return [(min(ends[">="][i]), max(ends["<="][i])) for i in sorted(ends["<="])]


def split(path: Path, count: int) -> onnx.ModelProto:
    """The model with `count` scalar inputs X_0, X_1, ... in place of its one tensor, so that each has a range of its own."""
    model = onnx.load(path)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    given = next(value for value in graph.input if value.name not in constants)
    shape = [dimension.dim_value or 1 for dimension in given.type.tensor_type.shape.dim]
    names = [f"X_{i}" for i in range(count)]
    graph.initializer.append(helper.make_tensor("X_shape", TensorProto.INT64, [len(shape)], shape))
    graph.node.insert(0, helper.make_node("Concat", names, ["X"], axis=0))
    graph.node.insert(1, helper.make_node("Reshape", ["X", "X_shape"], [given.name]))
    del graph.input[:]
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names)
    model.ir_version = max(model.ir_version, 4)  # from where constants need not be inputs
    return model


def run(row: Row, dtype: str, seconds: float) -> Result:
    if isinstance(row.box, tuple):
        return certified(row.model, dtype, row.box, seconds, profile=None)
    box = bounds(row.box)
    return certified(split(row.model, len(box)), dtype, {f"X_{i}": interval for i, interval in enumerate(box)}, seconds, profile=None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Public networks over boxes of inputs.")
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of each bound")
    parser.add_argument("--formats", default="fp32,fp16,bf16")
    options = parser.parse_args()
    print("| network | format | bound | observed | bound/observed | seconds |\n|---|---|---|---|---|---|")
    for row in rows():
        if options.parts and not any(part in row.name for part in options.parts):
            continue
        for dtype in options.formats.split(","):
            found = run(row, dtype, options.seconds) if row.model.exists() else Result(failure="absent")
            cells = [row.name, dtype, found.failure or figure(found.bound), figure(found.observed)]
            cells += [ratio(found.bound, found.observed), figure(found.seconds)]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
