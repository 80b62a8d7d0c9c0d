"""Points of a kernel's box."""

from __future__ import annotations

import numpy as np

from public_kernels.rows import Kernel


def draw(kernel: Kernel, count: int, seed: int) -> list[dict[str, float]]:
    """Uniform points, by variable, then the box's two opposite corners; numbers of the format within half an ulp of the box."""
    generator = np.random.default_rng(seed)
    dtype = np.float32 if kernel.format == "fp32" else np.float64
    ends = np.array(list(kernel.variables.values()))
    fractions = np.concatenate([generator.random((count, len(ends))), np.zeros((1, len(ends))), np.ones((1, len(ends)))])
    points = (ends[:, 0] * (1.0 - fractions) + ends[:, 1] * fractions).astype(dtype)
    return [dict(zip(kernel.variables, map(float, point), strict=True)) for point in points]
