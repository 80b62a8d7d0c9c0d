"""What the bundled models are trained on, and what is held out of it.

Reads no weights and needs no training framework, so that the tests can ask for the same held-out rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEED = 20240817
TEST_ROWS = 360
T_MAX = 0.2


def digits_split() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Train pixels (1437, 64), train labels, held-out pixels (360, 64), held-out labels of scikit-learn's digits.

    Pixels are k/16 for k = 0..16, exact in every format with five significand bits or more.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    pixels, labels = (pixels / 16.0).astype(np.float32)[order], labels.astype(np.int64)[order]
    return pixels[TEST_ROWS:], labels[TEST_ROWS:], pixels[:TEST_ROWS], labels[:TEST_ROWS]


def damped_sine(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """p0(t) = 1/2 + 1/2 sin(45 pi t) exp(-300 t^2); p0 = p1 at every multiple of 1/45."""
    return np.asarray(0.5 + 0.5 * np.sin(45.0 * np.pi * t) * np.exp(-300.0 * t * t))


def points(t: NDArray[np.float64]) -> NDArray[np.float32]:
    """The rows (t, 0, 0) in float32, shape (len(t), 3)."""
    return np.stack([t, np.zeros_like(t), np.zeros_like(t)], axis=1).astype(np.float32)


def crossings(weights: dict[str, NDArray[np.float32]], blocks: int) -> NDArray[np.float64]:
    """Where the residual network's own p0 - p1 changes sign on [-T_MAX, T_MAX]: float64 bisection, not certified."""
    grid = np.linspace(-T_MAX, T_MAX, 20001)
    margin = residual_margin(weights, blocks, grid)
    at = np.flatnonzero(np.sign(margin[:-1]) * np.sign(margin[1:]) < 0)
    low, high = grid[at], grid[at + 1]
    rising = margin[at + 1] > 0
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = (residual_margin(weights, blocks, middle) > 0) == rising
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray(0.5 * (low + high))


def residual_margin(weights: dict[str, NDArray[np.float32]], blocks: int, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Difference of the residual network's two logits at (t, 0, 0), in float64, shape of t."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    h = np.stack([t, 0 * t, 0 * t], axis=1) @ w["stem.weight"].T + w["stem.bias"]
    for k in range(blocks):
        inner = np.tanh(h @ w[f"blocks.{k}.0.weight"].T + w[f"blocks.{k}.0.bias"])
        h = h + inner @ w[f"blocks.{k}.1.weight"].T + w[f"blocks.{k}.1.bias"]
    logits = h @ w["head.weight"].T + w["head.bias"]
    return np.asarray(logits[:, 0] - logits[:, 1])


def curve_points(crossing: NDArray[np.float64]) -> NDArray[np.float32]:
    """401 points of a grid and, about every crossing, points at distances 0 and 2^-30, 2^-27, ... 2^-12 on both sides."""
    distance = 2.0 ** -np.arange(30, 11, -3)
    near = crossing[:, None] + np.concatenate([-distance, [0.0], distance])
    t = np.concatenate([np.linspace(-T_MAX, T_MAX, 401), near.ravel()])
    t = np.unique(t.astype(np.float32))
    return points(t[np.abs(t) <= np.float32(T_MAX)].astype(np.float64))
