"""Certify every benchmark model in every format and write the table: `python benchmarks/table.py [NAME ...]`.

Each row is one run of the command line in a process of its own: bound, observed, tightness (rounding part), guarantee, seconds
and peak memory, as the certificate states them. Public models are looked for in $CERTIFY_MODELS, or ../shared/models; absent
ones are listed as absent. The results go to benchmarks/results.md.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PUBLIC = Path(os.environ.get("CERTIFY_MODELS", ROOT.parent / "shared" / "models"))
OVAL = PUBLIC / "vnncomp_oval21"
FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8e4m3")
TIMEOUT = 600


@dataclass(frozen=True)
class Row:
    """A model to certify.

    data: .npz beside the bundled model, its first `cases` rows; images: so many MNIST images; box: the middle of a VNN-LIB
    file's box; ranges, samples: drawn inputs.
    """

    name: str
    path: Path
    data: Path | None = None
    images: int = 0
    box: Path | None = None
    ranges: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    samples: int = 4
    cases: int = 5


def rows() -> list[Row]:
    """The models that the table covers: bundled ones, then public ones."""
    names = ("digits_mlp", "digits_cnn", "digits_transformer", "residual_softmax")
    bundled = [Row(name, ROOT / f"models/{name}.onnx", ROOT / f"models/{name}.npz") for name in names]
    trained = [Row(name, HERE / f"models/{name}.onnx", HERE / f"models/{name}.npz") for name in ("digits_mlp_6x128", "digits_mlp_10x128")]
    public = [
        Row("acasxu_1_1", PUBLIC / "vnncomp_acasxu/ACASXU_run2a_1_1_batch_2000.onnx", ranges=("-0.5:0.5",)),
        Row("mnist-net_256x2", PUBLIC / "vnncomp_mnistfc/mnist-net_256x2.onnx", images=20),
        Row("ffnnSIGMOID_6x200", PUBLIC / "vnncomp_eran/ffnnSIGMOID__Point_6x200.onnx", images=4),
        Row("Convnet_avgpool", PUBLIC / "vnncomp_verivital/Convnet_avgpool.onnx", images=4),
        Row(
            "cifar_base_kw",
            OVAL / "cifar_base_kw.onnx",
            box=OVAL / "cifar_base_kw-img8194-eps0.018300653594771243.vnnlib",
        ),
        Row("resnet_2b", PUBLIC / "vnncomp_cifar10_resnet/resnet_2b.onnx", box=PUBLIC / "vnncomp_cifar10_resnet/prop_0_eps_0.004.vnnlib"),
        Row("pgd_2_3_16 (ViT)", PUBLIC / "vnncomp_vit/pgd_2_3_16.onnx", box=PUBLIC / "vnncomp_vit/pgd_2_3_16_4021.vnnlib"),
        Row("cartpole", PUBLIC / "vnncomp_rl/cartpole.onnx"),
        Row("dubinsrejoin", PUBLIC / "vnncomp_rl/dubinsrejoin.onnx"),
        Row("gpt2_tiny", PUBLIC / "gen_torch/gpt2_tiny__dynamo.onnx", samples=1),
        Row("llama_tiny", PUBLIC / "gen_torch/llama_tiny__dynamo.onnx", samples=1),
        Row("KJ_TinyTaxiNet", PUBLIC / "marabou_misc/KJ_TinyTaxiNet.onnx", ranges=("0:1",)),
        Row("go1_policy", PUBLIC / "mujoco_playground/go1_policy.onnx"),
    ]
    return bundled + trained + public


def mnist(count: int, shape: tuple[int, ...], name: str, folder: Path) -> Path:
    """The first `count` test images as pixels / 255, in float32, as an .npz for the input `name`."""
    with gzip.open(next((PUBLIC / "mnist_t10k").glob("*images*.gz"))) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)[: count * 784]
    path = folder / "mnist.npz"
    np.savez(path, **{name: (pixels.reshape(count, *shape[1:]) / np.float32(255.0)).astype(np.float32)})
    return path


def first_input(path: Path) -> tuple[str, tuple[int, ...]]:
    """Name and shape (open dimensions 1) of the model's first input."""
    import onnx

    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    first = next(value for value in graph.input if value.name not in constants)
    return first.name, tuple(d.dim_value or 1 for d in first.type.tensor_type.shape.dim)


def middle(path: Path, shape: tuple[int, ...], name: str, folder: Path) -> Path:
    """The centre of the box that a VNN-LIB file asserts for X_0, X_1, ..., in float32, as an .npz."""
    ends: dict[str, dict[int, float]] = {"<=": {}, ">=": {}}
    for relation, index, number in re.findall(r"\(assert \((<=|>=) X_(\d+) ([-+0-9.eE]+)\)\)", path.read_text()):
        ends[relation][int(index)] = float(number)
    centre = [(ends["<="][i] + ends[">="][i]) / 2 for i in range(int(np.prod(shape)))]
    np.savez(folder / "middle.npz", **{name: np.array(centre, dtype=np.float32).reshape(1, *shape)})
    return folder / "middle.npz"


def command(row: Row, dtype: str, folder: Path) -> list[str]:
    """The command line of one cell."""
    words = [sys.executable, "-m", "certify", str(row.path), "--dtype", dtype, "--json", *row.options]
    if row.images or row.box is not None:
        name, shape = first_input(row.path)
        path = mnist(row.images, shape, name, folder) if row.box is None else middle(row.box, shape, name, folder)
        return [*words, "--data", str(path)]
    if row.data is not None:
        path = folder / "data.npz"
        with np.load(row.data) as arrays:
            np.savez(path, **{name: arrays[name][: row.cases] for name in arrays.files})
        return [*words, "--data", str(path)]
    for text in row.ranges:
        words += ["--range", text]
    return [*words, "--samples", str(row.samples)]


def cell(row: Row, dtype: str) -> dict[str, object]:
    """Run one cell and read its certificate."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(command(row, dtype, Path(folder)), capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return {"failure": f"over {TIMEOUT} s"}
    if not done.stdout.strip():
        return {"failure": (done.stderr.strip().splitlines() or ["no output"])[-1][:120]}
    found: dict[str, object] = json.loads(done.stdout)
    found["exit_code"] = done.returncode
    return found


def line(row: Row, dtype: str, found: dict[str, object]) -> str:
    """One Markdown row."""
    if "failure" in found:
        return f"| {row.name} | {dtype} | {found['failure']} | | | | | | |"
    outputs = [o for o in found["outputs"] if o["bound"]["absolute_max"] != 0.0] or found["outputs"]  # type: ignore[attr-defined,index]
    output = max(outputs, key=lambda o: float(o["bound"]["absolute_max"]))
    seconds = sum(float(s) for s in found["timings"]["seconds"].values())  # type: ignore[index]
    memory = float(found["timings"]["peak_memory_bytes"]) / 2**30  # type: ignore[index]
    bound, rounding = float(output["bound"]["absolute_max"]), float(output["rounding_max"])
    lost = next((entry["node"] for entry in found.get("lost", [])), "")  # type: ignore[attr-defined]
    decision = output.get("decision")
    decided = "" if not decision else f"{decision['stable']}/{decision['cases']}"
    observed, tightness = output.get("observed_max"), output.get("tightness")
    shown = [f"{bound:.3g}" + (f" (lost at `{lost}`)" if lost else ""), f"{rounding:.3g}"]
    shown += ["" if observed is None else f"{float(observed):.3g}", "" if tightness is None else f"{float(tightness):.3g}"]
    return f"| {row.name} | {dtype} | {' | '.join(shown)} | {found['guarantee']} | {decided} | {seconds:.1f} s, {memory:.2f} GB |"


def main(names: list[str]) -> None:
    """Print and write the table."""
    lines = [
        "# Bound against observed, by model and format",
        "",
        "Made by `python benchmarks/table.py`. Default profile (`wide`), any order of summation; largest over elements and cases.",
        "",
        "| model | format | bound | rounding part | observed | bound/observed | guarantee | argmax stable | cost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows():
        if names and row.name not in names:
            continue
        for dtype in FORMATS:
            text = line(row, dtype, cell(row, dtype)) if row.path.exists() else f"| {row.name} | {dtype} | absent | | | | | | |"
            lines.append(text)
            print(text, flush=True)
    if not names:
        (HERE / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
