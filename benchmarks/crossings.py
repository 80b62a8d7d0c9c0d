"""Where rounding may add a false crossing of p_0 and p_1 of the bundled fp network, x_0 in [-0.2, 0.2].

Writes crossings.md: `python benchmarks/crossings.py [SECONDS]`, SECONDS for the decisions of each format.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import certify
from certify import pipeline
from certify.engines.region.decided import RegionDecision
from certify.request import Budget, Request

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "models" / "residual_softmax.onnx"
BOX = (
    "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const X_2 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    "(assert (<= -0.2 X_0 0.2))(assert (= X_1 0))(assert (= X_2 0))"
)
FORMATS = ("fp32", "tf32", "bf16")
POINTS = 2000
HEADER = """# False crossings

The bundled network `residual_softmax.onnx` over x_0 in [-0.2, 0.2], x_1 = x_2 = 0: where may rounding change which of p_0 and p_1 is
larger? Outside the intervals every sub-box is stable: proved of every execution that conforms to profile wide. Shares are of the box:
in sub-boxes where rounding may flip, no true crossing lies; where the reals may not be constant one may. Made by
`python benchmarks/crossings.py {seconds:g}`, so many seconds a format for the decisions and as many for its bounds, on 2 cores.

p_0 - 1/2 = sin(45 pi t) exp(-300 t^2) / 2 crosses zero every 1/45 and hugs it in both tails: no bound, however good, separates rounding
from crossings where the network is smaller than that bound. *At points* is the share of {points} inputs, evenly spread, whose decision a
certificate of that input alone does not call stable: no splitting can do better, and where the width is near that share of 0.4, the parts
are isolated.

| format | intervals | total width | of the box | at points | rounding may flip | the reals may not be constant | sub-boxes | seconds |
|---|---|---|---|---|---|---|---|---|
"""


def isolated(dtype: str, seconds: float) -> RegionDecision:
    """The decision of the network over the box."""
    with tempfile.TemporaryDirectory() as folder:
        stated = Path(folder) / "crossings.vnnlib"
        stated.write_text(BOX)
        request = Request(MODEL, dtype=dtype, vnnlib=stated, budgets=(Budget("argmax", "argmax"),), time_limit=2 * seconds, validate=False)
        return next(iter(pipeline.run(request).decisions.values()))


def at_points(dtype: str) -> float:
    """The share of points whose decision is not stable by a certificate of the points themselves."""
    x = np.zeros((POINTS, 3), dtype=np.float32)
    x[:, 0] = np.linspace(-0.2, 0.2, POINTS)
    found = certify.certify(MODEL, dtype=dtype, data={"x": x}, validate=False)
    return float(np.mean([not decision.stable for decision in found.outputs["p"].decision]))


def main() -> None:
    """Write the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    rows = []
    for dtype in FORMATS:
        start = time.monotonic()
        found = isolated(dtype, seconds)
        spent = time.monotonic() - start
        assert found.intervals is not None
        assert found.width is not None
        shares = [f"{share:.2%}" for share in found.share.values()]
        least = f"{at_points(dtype):.2%}"
        cells = (dtype, len(found.intervals), f"{found.width:.4g}", f"{found.width / 0.4:.2%}", least, *shares[1:], found.boxes)
        rows.append("| " + " | ".join(map(str, cells)) + f" | {spent:.0f} |\n")
        print(rows[-1], end="", flush=True)
    (HERE / "crossings.md").write_text(HEADER.format(seconds=seconds, points=POINTS) + "".join(rows))


if __name__ == "__main__":
    main()
