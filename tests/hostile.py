"""A simulator whose elementary functions err as far as the profile allows, and whose other operations round twice where they may."""

from __future__ import annotations

from typing import Any

import numpy as np

from certify.analysis.problem import Step
from certify.analysis.program import Program
from certify.number.rounding import round_to, ulp
from certify.profiles.arithmetic import NearestArithmetic
from certify.semantics.families.pointwise import Pointwise, elementary
from certify.semantics.ops.activations import born_swish
from certify.validate.simulate import Simulator
from certify.validate.summation import Order


class Hostile(Simulator):
    """Conforms as the simulator does: |computed - f(x)| <= ulps ulp(f(x)) + absolute in the kernel's format, then the store."""

    def __init__(self, program: Program, generator: np.random.Generator) -> None:
        super().__init__(program)
        self._formats, self._generator = program.formats, generator

    def _step(self, step: Step, operands: list[Any], order: Order) -> Any:
        storage, arithmetic, rule = self._formats[step.output], step.arithmetic, step.rule
        ordinary = (
            isinstance(arithmetic, NearestArithmetic)
            and rule.pointwise
            and (rule.domain == "" or rule.name == "Square")
            and arithmetic.compute.name != "fp64"
        )
        if storage is None or not ordinary:
            return super()._step(step, operands, order)
        assert isinstance(arithmetic, NearestArithmetic)
        exact = np.asarray(rule.value(*operands, **step.attributes), dtype=np.float64)
        if isinstance(rule, Pointwise) and rule.born in (elementary, born_swish):
            exact = self._erring(exact, rule.kernel or rule.name.lower(), arithmetic)
        return round_to(round_to(exact, arithmetic.compute), storage)

    def _erring(self, exact: Any, kernel: str, arithmetic: NearestArithmetic) -> Any:
        """Upwards, downwards or either, in the kernel's format; the nearest number where the attempt would leave what is allowed."""
        allowed, compute = arithmetic.accuracies.of(kernel, arithmetic.compute), arithmetic.compute
        most = allowed.ulps * ulp(np.abs(exact), compute) + allowed.absolute
        way = (1.0, -1.0, self._generator.uniform(-1.0, 1.0, size=exact.shape))[int(self._generator.integers(3))]
        with np.errstate(all="ignore"):
            attempt = round_to(exact + way * (most - 0.5 * ulp(np.abs(exact), compute)), compute)
            conforms = np.abs(attempt - exact) <= most * (1.0 - 2.0**-40)  # the float64 value is off by less than that
        if kernel == "exp":
            conforms &= attempt >= 0.0
        return np.where(conforms, attempt, round_to(exact, compute))
