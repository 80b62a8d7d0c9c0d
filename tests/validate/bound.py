"""Programs for the tests of validation, bound under the real profiles."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from certify.analysis.bind import bind
from certify.analysis.problem import Problem
from certify.analysis.program import Program
from certify.analysis.reference import at_points, stored_inputs
from certify.graph.load import load
from certify.number.formats import FORMATS
from certify.profiles import profile_named


def program_of(
    model: ModelProto,
    profile: str = "wide",
    dtype: str | None = None,
    accumulate: str | None = None,
    order: str = "any",
    **shapes: list[int],
) -> Program:
    formats = [None if name is None else FORMATS[name] for name in (dtype, accumulate)]
    return bind(load(model, shapes), profile_named(profile, formats[0], formats[1], order))


def problems(program: Program, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Problem, Problem]:
    """(inputs as held, the stored problem, the exact problem)."""
    held, radii = stored_inputs(program, inputs)
    return held, at_points(program, program.stored, held, radii), at_points(program, program.exact, inputs, {})
