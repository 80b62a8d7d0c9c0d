"""ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum: a pointwise function, a sum, and perhaps another function.

Source: the ONNX operator schemas, whose function bodies are these expansions. Inner results keep the kernel's own format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from certify.number.upward import Array
from certify.semantics.contract import register
from certify.semantics.families.composite import Composite, Expansion, Primitive

Expanded = tuple[Sequence[Primitive], dict[str, Array]]


def _sum_of(first: str | None, last: str | None) -> Callable[..., Expanded]:
    """Expands to last(ReduceSum(first(x))); "Mul" multiplies x by itself, None is left out."""

    def expand(expansion: Expansion, **attributes: Any) -> Expanded:
        x, result = expansion.operands[0], expansion.outputs[0]
        if result is None:
            return [], {}
        steps: list[Primitive] = []
        if first is not None:
            mapped = expansion.name("mapped")
            steps.append(Primitive(first, (x, x) if first == "Mul" else (x,), mapped))
            x = mapped
        total = result if last is None else expansion.name("total")
        steps.append(Primitive("ReduceSum", (x,), total, attributes, inner=last is not None))
        if last is not None:
            steps.append(Primitive(last, (total,), result, inner=False))
        return steps, {}

    return expand


_NORMS = {"ReduceL1": ("Abs", None), "ReduceL2": ("Mul", "Sqrt"), "ReduceSumSquare": ("Mul", None), "ReduceLogSum": (None, "Log")}

register(
    *(
        Composite(
            name,
            since,
            ("data", "axes") if since >= 18 else ("data",),
            _sum_of(first, last),
            static=frozenset({"axes"}) if since >= 18 else frozenset(),
        )
        for name, (first, last) in _NORMS.items()
        for since in (1, 11, 13, 18)
    )
)
