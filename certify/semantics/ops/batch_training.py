"""BatchNormalization of every kind: constant parameters, computed ones, and training_mode, which normalizes by the batch itself.

Source: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html.
"""

from __future__ import annotations

import numpy as np

from certify.number.upward import Array
from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion, Primitive

Expanded = tuple[list[Primitive], dict[str, Array]]
_EPSILON, _MOMENTUM = float(np.float32(1e-5)), float(np.float32(0.9))
_PARAMETERS = ("X", "scale", "B", "input_mean", "input_var")


def batch_normalization(
    e: Expansion, *, epsilon: float = _EPSILON, momentum: float = _MOMENTUM, training_mode: int = 0, spatial: int = 1
) -> Expanded:
    """Raises UnsupportedOperator for spatial=0, and for outputs beyond the running statistics, whose content no version defines.

    Before opset 14 a node trains if it has more than one output.
    """
    y, *statistics = e.outputs
    if not spatial:
        raise UnsupportedOperator("spatial=0 is not supported")
    if any(name is not None for name in statistics[2:]):
        raise UnsupportedOperator("saved statistics are whatever its gradient needs")
    if training_mode or any(name is not None for name in statistics):
        return _trained(e, epsilon, momentum)
    if y is None:
        return [], {}
    if all(name in e.constants for name in _PARAMETERS[1:]):
        return [Primitive("BatchNormalization", e.operands, y, {"epsilon": epsilon}, inner=False, opset=6)], {}
    columns = [_column(e, i, part) for i, part in ((3, "mean"), (4, "variance"))]
    steps, constants = _normalized(e, epsilon)
    return [*columns, *steps], constants


def _column(e: Expansion, operand: int, part: str) -> Primitive:
    """A parameter of each channel, to meet x."""
    shape = np.asarray((1, -1, *(1,) * (len(e.shapes[0]) - 2)), dtype=np.int64)
    return Primitive("Reshape", (e.operands[operand],), e.name(part), {"shape": shape, "allowzero": 0}, inner=False)


def _normalized(e: Expansion, epsilon: float) -> Expanded:
    """(x - mean) / sqrt(variance + epsilon) * scale + B from the columns `mean` and `variance`, in any association."""
    y = e.outputs[0] or e.name("output")
    parts = ("affine", "x", "mean", "reciprocal", "scale", "bias")
    return [
        Primitive("Identity", (e.operands[0],), e.name("x"), inner=False),
        _column(e, 1, "scale"),
        _column(e, 2, "bias"),
        Primitive("Add", (e.name("variance"), e.name("epsilon")), e.name("shifted")),
        Primitive("Sqrt", (e.name("shifted"),), e.name("root")),
        Primitive("Reciprocal", (e.name("root"),), e.name("reciprocal")),
        Primitive("Sub", (e.name("x"), e.name("mean")), e.name("centred")),
        Primitive("Mul", (e.name("centred"), e.name("reciprocal")), e.name("normal")),
        Primitive("Mul", (e.name("normal"), e.name("scale")), e.name("scaled")),
        Primitive("Add", (e.name("scaled"), e.name("bias")), e.name("affine")),
        Primitive("Reassociated", tuple(e.name(part) for part in parts), y, inner=False, domain="certify"),
    ], {e.name("epsilon"): np.asarray(epsilon, dtype=np.float64)}


def _trained(e: Expansion, epsilon: float, momentum: float) -> Expanded:
    """Mean and population variance over all axes but the channels'; each running statistic is old * momentum + new * (1 - momentum)."""
    axes = tuple(k for k in range(len(e.shapes[0])) if k != 1)
    steps, constants = _normalized(e, epsilon)
    channels = {"shape": np.asarray((e.shapes[0][1],), dtype=np.int64), "allowzero": 1}
    moments = [
        Primitive("Mean", (e.operands[0],), e.name("mean"), {"axes": np.asarray(axes, dtype=np.int64), "keepdims": 1}, domain="certify"),
        Primitive(
            "Variance",
            (e.operands[0],),
            e.name("variance"),
            {"axes": axes, "style": e.style("BatchNormalization")},
            domain="certify",
        ),
    ]
    constants |= {e.name("momentum"): np.asarray(momentum, dtype=np.float64), e.name("one"): np.ones(())}
    running = [Primitive("Sub", (e.name("one"), e.name("momentum")), e.name("rest"))]
    for output, (operand, part) in enumerate(((3, "mean"), (4, "variance")), start=1):
        name = e.outputs[output] if output < len(e.outputs) else None
        if name is not None:
            flat, old, new = (e.name(f"{kind} {part}") for kind in ("flat", "old", "new"))
            running += [
                Primitive("Reshape", (e.name(part),), flat, channels),
                Primitive("Mul", (e.operands[operand], e.name("momentum")), old),
                Primitive("Mul", (flat, e.name("rest")), new),
                Primitive("Add", (old, new), name, inner=False, like=e.results[output] or None),
            ]
    return [*moments, *steps, *running], constants


register(
    *(Composite("BatchNormalization", since, _PARAMETERS, batch_normalization, outputs=5) for since in (7, 9, 14, 15)),
)
