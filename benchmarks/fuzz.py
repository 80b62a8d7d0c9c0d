"""Attack the certifier with random graphs: `python benchmarks/fuzz.py FIRST COUNT [ENGINE]` tries the claims of that many seeds; with an
engine's name, by that engine, at points.

Prints every defect (a violated bound, a crash, a NaN) with its seed; `python benchmarks/fuzz.py SEED` shows one seed's graph.
Exits with 1 if any was found. What was run so far is recorded in benchmarks/fuzz.md.
"""

from __future__ import annotations

import collections
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main(arguments: list[str]) -> int:
    import onnx

    from tests.random_claims import attack
    from tests.random_graphs import random_graph

    first, count = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 1
    engine = arguments[2] if len(arguments) > 2 else None
    kinds: collections.Counter[str] = collections.Counter()
    if count == 1:
        model, points = random_graph(first)
        print(onnx.printer.to_text(model), points, sep="\n")
    start = time.monotonic()
    for seed in range(first, first + count):
        claim, found = attack(seed, engine)
        kinds[found.kind] += 1
        if found.is_defect or count == 1:
            print(f"seed {seed}: {claim}\n{found.kind}: {found.text}", flush=True)
    print(f"seeds {first} to {first + count - 1}: {dict(kinds)}, {time.monotonic() - start:.0f} s")
    return 1 if kinds["violation"] + kinds["nan"] + kinds["crash"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
