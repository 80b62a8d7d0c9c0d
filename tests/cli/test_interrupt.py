"""Ctrl-C: at once, exit 130, no half-written file, even while native code runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import hashlib, sys, types
from pathlib import Path
import certify
from certify import files
from certify.cli.main import entry

def run(request, progress, stop):
    # One call of native code that lasts for hours, with a report under way.
    def stuck(self, content):
        self.open("wb").write(content[:5])
        print("ready", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    Path.write_bytes = stuck
    files.write(Path("out.json"), b"0123456789")

certify.pipeline = sys.modules["certify.pipeline"] = types.SimpleNamespace(run=run)
sys.argv = ["certify", "m.onnx", "-o", "out.json"]
entry()
"""


def test_ctrl_c_ends_at_once(tmp_path: Path, root: Path) -> None:
    command, environment = [sys.executable, "-c", PROGRAM], os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert time.monotonic() - start < 5
    assert err.strip().endswith("interrupted")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_gives_the_bound_of_a_region_so_far(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "certify", str(root / "models/digits_mlp.onnx"), "--dtype", "bf16", "--region", "--range", "0:1"]
    command += ["--time-limit", "600", "--jobs", "1", "--no-validate", "-o", "region.json"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while "deciding" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "stopping with the bound so far" in err
    assert "ended by: interrupted" in out
    found = json.loads((tmp_path / "region.json").read_text())
    assert found["region"]["ended"] == "interrupted"
    assert 0.0 < found["outputs"][0]["bound"]["absolute_max"] < float("inf")
