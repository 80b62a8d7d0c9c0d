"""The public kernels of floating-point analysis as ONNX models, certified over their boxes beside what other tools say.

    python benchmarks/kernels.py [NAME ...]       the table; whose names are given, or all
    python benchmarks/kernels.py --write DIR      the models, and DIR/ranges with the options that certify needs for each
    python benchmarks/kernels.py --gappa SECONDS  Gappa's own bounds, every attempt SECONDS long, as rows of gappa.json

Models are of the `ieee` profile: every operation rounded to nearest in the kernel's format. See public_kernels/ for the rows, the figures
of other tools and where they come from.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from public_kernels import gappa
from public_kernels.figures import FPTAYLOR, FPTAYLOR_STORED, PRECISA, VCFLOAT
from public_kernels.onnx_model import model_of
from public_kernels.rows import KERNELS, Kernel

import certify
from certify.errors import CertifyError

GAPPA = Path(__file__).parent / "public_kernels" / "gappa.json"
PEERS = (FPTAYLOR_STORED, PRECISA, VCFLOAT, FPTAYLOR)
SAMPLES = 200


@dataclass(frozen=True)
class Result:
    """A certificate in a line, or why there is none. seconds: of the bound; the attack beside it not counted where it is a stage.

    verdict: of the property that was asked for, if one was.
    """

    bound: float = math.nan
    observed: float = math.nan
    seconds: float = math.nan
    failure: str = ""
    verdict: str = ""


def certified(model: Any, dtype: str, ranges: Any, seconds: float = 60.0, **options: Any) -> Result:
    """The region certificate of `model`, under ieee unless `options` say otherwise; `seconds` limits the splitting."""
    chosen = {"profile": "ieee", "time_limit": seconds, **options}
    start = time.perf_counter()
    try:
        found = certify.certify(model, dtype=dtype, region=True, ranges=ranges, samples=SAMPLES, **chosen)
    except CertifyError as error:
        return Result(failure=str(error).splitlines()[0][:100])
    spent = time.perf_counter() - start
    bound = max(float(output.absolute_bound.max()) for output in found.outputs.values())
    observed = max((float(o.observed_error.max()) for o in found.outputs.values() if o.observed_error is not None), default=math.nan)
    alarm = "" if found.validation is None or not found.validation.violations else "ALARM: observed above the bound"
    verdict = "" if found.stated is None else found.stated.verdict
    return Result(bound, observed, found.timings.get("bounding the error", spent), alarm, verdict)


def figure(x: float | None) -> str:
    return "" if x is None or math.isnan(x) else f"{x:.3g}"


def ratio(x: float, y: float | None) -> str:
    return "" if y is None or math.isnan(x) or math.isnan(y) else f"{x / y:.3g}" if y else "inf" if x else "1"


def row(kernel: Kernel, found: Result, gappa_bound: float | None) -> str:
    """One Markdown row."""
    cells = [kernel.name, kernel.format, found.failure or figure(found.bound), figure(found.observed)]
    cells += [ratio(found.bound, found.observed), figure(found.seconds)]
    for bound in (gappa_bound, *(peer.bounds.get(kernel.name) for peer in PEERS)):
        cells.append("" if bound is None else f"{figure(bound)} ({ratio(found.bound, bound)})")
    return "| " + " | ".join(cells) + " |"


def table(names: list[str], seconds: float) -> None:
    """Print the table as it grows, then how the bounds compare."""
    known: dict[str, float | None] = json.loads(GAPPA.read_text())["bounds"] if GAPPA.exists() else {}
    peers = [f"{peer.name}, {peer.reading}" for peer in PEERS]
    titles = ["kernel", "format", "bound", "observed", "bound/observed", "seconds", "Gappa, stored", *peers]
    print("Behind each figure of another tool: this bound divided by it.\n")
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    ratios: dict[str, list[float]] = {}
    for kernel in KERNELS:
        if names and kernel.name not in names:
            continue
        found = certified(model_of(kernel), kernel.format, kernel.ranges, seconds)
        print(row(kernel, found, known.get(kernel.name)), flush=True)
        others = {"Gappa, stored": known.get(kernel.name)} | {t: p.bounds.get(kernel.name) for t, p in zip(peers, PEERS, strict=True)}
        for title, bound in others.items():
            if bound and found.bound < math.inf:
                ratios.setdefault(title, []).append(found.bound / bound)
    print()
    for title, values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values))
        above = sum(value > 1.005 for value in values)
        print(f"{title}: geometric mean of the ratios {mean:.2f}, largest {max(values):.2f}, above 1 {above} of {len(values)}")
    print()
    for peer in PEERS:
        print(f"{peer.name}, {peer.reading}: {peer.source}.")


def write(folder: Path) -> None:
    """The models, and beside them one line of options for each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for kernel in KERNELS:
        (folder / f"{kernel.name}.onnx").write_bytes(model_of(kernel).SerializeToString(deterministic=True))
        ranges = " ".join(f"--range {name}={lo!r}:{hi!r}" for name, (lo, hi) in kernel.ranges.items())
        lines.append(f"{kernel.name}.onnx --dtype {kernel.format} --profile ieee --region {ranges}\n")
    (folder / "ranges").write_text("".join(lines))


def ask_gappa(names: list[str], limit: float) -> None:
    """Gappa's best bounds, added to gappa.json."""
    known = json.loads(GAPPA.read_text()) if GAPPA.exists() else {"bounds": {}}
    known["what"] = (
        f"Gappa {gappa.version()}, the smallest bound of scripts that cut the box differently, each at most {limit:g} s; null: none"
    )
    for kernel in KERNELS:
        if not names or kernel.name in names:
            known["bounds"][kernel.name] = gappa.best(kernel, limit)
            print(kernel.name, known["bounds"][kernel.name], flush=True)
            GAPPA.write_text(json.dumps(dict(sorted(known.items(), reverse=True)), indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Public kernels: models, bounds, the bounds of others.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--write", type=Path, metavar="DIR")
    parser.add_argument("--gappa", type=float, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of each bound")
    options = parser.parse_args()
    if options.write:
        write(options.write)
    elif options.gappa:
        ask_gappa(options.names, options.gappa)
    else:
        table(options.names, options.seconds)


if __name__ == "__main__":
    main()
