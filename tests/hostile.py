"""A simulator whose elementary functions err as far as the profile allows, and whose other operations round twice where they may."""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.analysis.bind import Program
from certify.analysis.problem import Step
from certify.number.rounding import round_to, ulp
from certify.profiles.arithmetic import NearestArithmetic
from certify.semantics.families.pointwise import Pointwise, elementary
from certify.validate.simulate import Simulator
from certify.validate.summation import Order


class Hostile(Simulator):
    """Conforms as the simulator does: |computed - f(x)| <= ulps ulp(f(x)) + absolute in the kernel's format, then the store."""

    def __init__(self, program: Program, generator: np.random.Generator) -> None:
        super().__init__(program)
        self._formats, self._generator = program.formats, generator

    def _step(self, step: Step, operands: list[Any], order: Order) -> Any:
        storage, arithmetic, rule = self._formats[step.output], step.arithmetic, step.rule
        ordinary = isinstance(arithmetic, NearestArithmetic) and rule.pointwise and rule.domain == "" and arithmetic.compute.name != "fp64"
        if storage is None or not ordinary:
            return super()._step(step, operands, order)
        assert isinstance(arithmetic, NearestArithmetic)
        exact = np.asarray(rule.value(*operands, **step.attributes), dtype=np.float64)
        if isinstance(rule, Pointwise) and rule.born is elementary:
            exact = self._erring(exact, rule.kernel or rule.name.lower(), arithmetic)
        return round_to(round_to(exact, arithmetic.compute), storage)

    def _erring(self, exact: Any, kernel: str, arithmetic: NearestArithmetic) -> Any:
        """Off by all but one ulp of what the kernel may be off by, upwards, downwards or either; rounding takes half of that ulp."""
        allowed = arithmetic.accuracies.of(kernel, arithmetic.compute)
        most = max(allowed.ulps - 1.0, 0.0) * ulp(np.abs(exact), arithmetic.compute) + 0.99 * allowed.absolute
        most = np.where(np.isfinite(exact), most, 0.0)
        if kernel in ("exp", "sigmoid", "softplus"):
            most = np.minimum(most, 0.5 * np.abs(exact))
        match int(self._generator.integers(3)):
            case 0:
                return exact + most
            case 1:
                return exact - most
            case _:
                return exact + most * self._generator.uniform(-1.0, 1.0, size=exact.shape)
