"""Builds every bundled model and its data, from one seed: `python models/build.py`.

Needs torch, onnx, numpy, scikit-learn and onnxruntime (versions in README.md); nothing here is needed at run time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import graphs
import numpy as np
import onnx
import samples
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
ROWS = 50
DEPTHS = {"digits_mlp_6x128": 6, "digits_mlp_10x128": 10}
RESIDUAL_BLOCKS = 4


def build_digits_mlp(folder: Path) -> str:
    return _digits_mlp(folder, "digits_mlp", width=32, depth=2, epochs=40)


def build_benchmark_mlps(folder: Path) -> str:
    return "\n".join(_digits_mlp(folder, name, width=128, depth=depth, epochs=15) for name, depth in DEPTHS.items())


def build_digits_cnn(folder: Path) -> str:
    import training

    training.seed()
    pixels, labels, *_ = samples.digits_split()
    weights = training.train_digits(training.cnn(), pixels.reshape(-1, 1, 8, 8), labels, epochs=80, decay=1e-2)
    return _save_digits(folder, graphs.cnn("digits_cnn", weights), (1, 8, 8))


def build_digits_transformer(folder: Path) -> str:
    import training

    training.seed()
    pixels, labels, *_ = samples.digits_split()
    network = training.Transformer(width=32, layers=2, heads=2)
    weights = training.train_digits(network, pixels.reshape(-1, 8, 8), labels, epochs=60, decay=1e-2)
    return _save_digits(folder, graphs.transformer("digits_transformer", weights, layers=2, heads=2), (8, 8))


def build_residual_softmax(folder: Path) -> str:
    import training

    training.seed()
    weights = training.fit_residual(training.Residual(width=64, blocks=RESIDUAL_BLOCKS), steps=6000)
    model = graphs.residual("residual_softmax", weights, RESIDUAL_BLOCKS)
    _save_model(folder, model)
    crossing = samples.crossings(weights, RESIDUAL_BLOCKS)
    x = samples.curve_points(crossing)
    p0 = samples.damped_sine(x[:, 0].astype(np.float64))
    np.savez(folder / "residual_softmax.npz", x=x)
    np.savez(folder / "residual_softmax.labels.npz", p=np.stack([p0, 1.0 - p0], axis=1), crossings=crossing)
    misfit = float(np.max(np.abs(_run(model, x)[:, 0] - p0)))
    return f"residual_softmax: largest |p0 - target| {misfit:.2e}, {len(crossing)} crossings, {len(x)} points"


def _digits_mlp(folder: Path, name: str, width: int, depth: int, epochs: int) -> str:
    import training

    training.seed()
    pixels, labels, *_ = samples.digits_split()
    weights = training.train_digits(training.mlp(width, depth), pixels, labels, epochs=epochs, decay=1e-2)
    return _save_digits(folder, graphs.mlp(name, weights, depth), (64,))


def _save_digits(folder: Path, model: onnx.ModelProto, shape: tuple[int, ...]) -> str:
    """Model, the first held-out rows as data, their labels beside them; returns a line on accuracy and margin of all held-out rows."""
    _save_model(folder, model)
    name = model.graph.name
    _, _, pixels, labels = samples.digits_split()
    pixels = pixels.reshape(-1, *shape)
    np.savez(folder / f"{name}.npz", x=pixels[:ROWS])
    np.savez(folder / f"{name}.labels.npz", labels=labels[:ROWS])
    logits = _run(model, pixels)
    ranked = np.sort(logits, axis=1)
    accuracy = float(np.mean(np.argmax(logits, axis=1) == labels))
    return f"{name}: held-out accuracy {accuracy:.4f} of {len(labels)}, median margin {np.median(ranked[:, -1] - ranked[:, -2]):.1f}"


def _save_model(folder: Path, model: onnx.ModelProto) -> None:
    (folder / f"{model.graph.name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def _run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the bundled models and their data.")
    parser.add_argument("--into", type=Path, default=ROOT, help="where models/ and benchmarks/models/ go; default: the repository")
    into = parser.parse_args().into
    bundled, benchmark = into / "models", into / "benchmarks" / "models"
    bundled.mkdir(parents=True, exist_ok=True)
    benchmark.mkdir(parents=True, exist_ok=True)
    for build in (build_digits_mlp, build_digits_cnn, build_digits_transformer, build_residual_softmax):
        print(build(bundled), flush=True)  # noqa: T201
    print(build_benchmark_mlps(benchmark), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
