"""Bounds that others have published, or that Gappa gave here, by kernel: figures to compare with, each with its source.

Two readings: `real`: inputs (and decimal constants) are real numbers that are rounded first; `stored`: they are numbers of the format
already, which is what certify claims. A real figure is larger by those roundings: a ratio to it is not of like with like.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One tool's bounds. reading: "real" or "stored"."""

    name: str
    reading: str
    source: str
    bounds: dict[str, float]


FPTAYLOR = Peer(
    "FPTaylor",
    "real",
    "github:soarlab/FPTaylor, benchmarks/real2float/results.txt, the smaller of config-b and config-dev; experiments/results/trans.txt for "
    "sphere and azimuth. Elementary functions within 1.5 half ulps; floudas1 to floudas3 under their constraints",
    {
        "doppler1": 1.29e-13,
        "doppler2": 2.29e-13,
        "doppler3": 6.62e-14,
        "rigidBody1": 2.95e-13,
        "rigidBody2": 3.61e-11,
        "verhulst": 2.47e-16,
        "carbonGas": 8.09e-9,
        "predatorPrey": 1.59e-16,
        "kepler0": 7.44e-14,
        "kepler1": 2.70e-13,
        "kepler2": 1.57e-12,
        "sine": 4.43e-16,
        "sineOrder3": 5.94e-16,
        "sqroot": 5.02e-16,
        "floudas1": 4.71e-13,
        "floudas2": 8.88e-16,
        "floudas3": 1.32e-14,
        "logexp": 1.53e-15,
        "sphere": 8.08e-15,
        "azimuth": 8.78e-15,
        "hartman3": 1.13e-14,
        "hartman6": 3.78e-15,
    },
)
FPTAYLOR_STORED = Peer(
    "FPTaylor",
    "stored",
    "FPTaylor, its config-c, run by this project",
    {
        "doppler1": 8.02e-14,
        "rigidBody1": 2.13e-13,
        "sine": 4.38e-16,
        "sqroot": 4.86e-16,
        "kepler0": 5.85e-14,
        "dot8_matmul": 1.91e-6,
        "dot8_chain": 1.91e-6,
    },
)
PRECISA = Peer(
    "PRECiSA",
    "stored",
    "github:nasa/PRECiSA, tests/acceptance/*.test.json; decimal constants are rounded. Its rigidBody2 subtracts the second 3 x3 x3",
    {
        "azimuth": 1.32e-13,
        "carbonGas": 7.19e-9,
        "doppler1": 2.64e-13,
        "doppler2": 4.14e-13,
        "doppler3": 1.22e-13,
        "hartman3": 2.33e-14,
        "hartman6": 4.16e-13,
        "himmilbeau": 1.00e-12,
        "jetEngine_plus": 2.27e-11,
        "kepler0": 1.10e-13,
        "kepler1": 4.63e-13,
        "kepler2": 2.44e-12,
        "logexp": 6.77e-15,
        "predatorPrey": 1.84e-16,
        "rigidBody1": 2.95e-13,
        "rigidBody2": 3.61e-11,
        "sine": 1.13e-15,
        "sineOrder3": 1.27e-15,
        "sphere": 9.99e-15,
        "sqroot": 6.83e-16,
        "turbine1": 2.59e-14,
        "turbine2": 3.12e-14,
        "turbine3": 1.69e-14,
        "verhulst": 4.19e-16,
    },
)
VCFLOAT = Peer(
    "VCFloat2",
    "stored",
    "github:VeriNum/vcfloat, the bounds that FPBench/*.v check",
    {
        "carbonGas": 2.5e-8,
        "doppler1": 4.5e-13,
        "doppler2": 1.2e-12,
        "doppler3": 2.0e-13,
        "himmilbeau": 2.31e-12,
        "jetEngine": 2.13e3,
        "kepler0": 2.2005e-13,
        "kepler1": 1.644e-12,
        "kepler2": 6.2e-12,
        "delta4": 2.51e-13,
        "delta": 6.2e-12,
        "predatorPrey": 3.1e-16,
        "rigidBody1": 3.1e-13,
        "rigidBody2": 3.9e-11,
        "intro_example": 4.4e-16,
        "turbine1": 7.9e-14,
        "turbine2": 1.2e-13,
        "turbine3": 6.1e-14,
        "verhulst": 2.33e-16,
    },
)
