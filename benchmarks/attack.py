"""Attack the certifier with models of others: `python benchmarks/attack.py FOLDER [COUNT]` tries the .onnx files there, or the first COUNT.

Each is certified at three random points, in each of FORMATS, and every conforming run that can be made here is held against its bounds
(tests/random_claims.py). Prints every defect with its file, and how many models were refused for what; exits with 1 if there was a defect.
"""

from __future__ import annotations

import collections
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
FORMATS = (None, "fp32", "bf16", "fp16")


def main(arguments: list[str]) -> int:
    import onnx

    from tests.random_claims import Claim, outcome
    from tests.random_graphs import points_for

    kinds: dict[str | None, collections.Counter[str]] = {dtype: collections.Counter() for dtype in FORMATS}
    files = sorted(Path(arguments[0]).glob("**/*.onnx"))[: int(arguments[1]) if len(arguments) > 1 else None]
    refusals: collections.Counter[str] = collections.Counter()
    start = time.monotonic()
    for number, file in enumerate(files):
        model = onnx.load(file)
        for dtype in FORMATS:
            found = outcome(model, points_for(model, number), Claim(dtype, None, "wide", "any", "auto", False))
            kinds[dtype][found.kind] += 1
            if found.is_defect:
                print(f"{file} in {dtype}\n{found.kind}: {found.text}", flush=True)
            if found.kind == "refused" and dtype is None:
                refusals[found.text] += 1
    print(f"{len(files)} models, {time.monotonic() - start:.0f} s")
    for dtype, counts in kinds.items():
        print(f"{dtype or 'as declared'}: {dict(counts)}")
    for text, count in refusals.most_common(20):
        print(f"{count} refused: {text}")
    return 1 if any(counts[kind] for counts in kinds.values() for kind in ("violation", "nan", "crash")) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
