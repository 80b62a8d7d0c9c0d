"""The rule table as a generator sees it: for every operator, or group of operators, how a random graph grows by one of them.

Adding an operator to the generator is one line of ROWS. A row raises ValueError where its operator does not fit the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto, helper

from tests import random_domains as domains
from tests import random_layers as layers
from tests import random_structure as structure
from tests.random_graphs import DOUBLE, FLOAT, INT64, NUMPY, Sketch, numbers
from tests.random_moves import operand

BOOL, INT32, INT8, UINT8 = int(TensorProto.BOOL), int(TensorProto.INT32), int(TensorProto.INT8), int(TensorProto.UINT8)
WHOLE = (INT64, INT32, INT8, UINT8)
Draw: TypeAlias = Callable[[Sketch, str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """Grows a sketch by the operator (and what it needs around it) from an opset on."""

    op: str
    since: int
    draw: Draw
    domain: str = ""

    def move(self, sketch: Sketch) -> None:
        self.draw(sketch, self.op)


def unary(s: Sketch, op: str, **attributes: Any) -> None:
    s.add(op, [operand(s)], **attributes)


def alike(s: Sketch, op: str) -> None:
    x = operand(s, rank=s.one_of(3, 4))
    s.add(op, [x], gives=[s.values[x]], axes=[0, *range(2, len(s.shape(x)))])


def within(lo: float, hi: float) -> Draw:
    """Mostly inside of the domain, often at its ends."""

    def draw(s: Sketch, op: str) -> None:
        x = operand(s)
        if s.chance(0.8):
            kind = NUMPY[s.element(x)]
            x = s.add("Min", [s.add("Max", [x, s.constant(np.array(lo, kind))]), s.constant(np.array(hi, kind))])
        s.add(op, [x])

    return draw


def either(s: Sketch, op: str) -> None:
    """With attributes of its own, at places where kinks meet."""
    alpha = float(s.one_of(0.0, 0.1, 1.0, 1.5, 3.0))
    match op:
        case "Celu":
            x = operand(s)
            if s.element(x) != FLOAT:
                raise ValueError("of floats of 32 bits only")
            s.add(op, [x], alpha=alpha or 0.25)
        case "Shrink":
            s.add(op, [operand(s)], lambd=alpha, bias=float(s.one_of(0.0, alpha, -0.5)))
        case "HardSigmoid":
            s.add(op, [operand(s)], alpha=float(s.one_of(0.2, 0.0, 1.0, -0.5)), beta=float(s.one_of(0.5, 0.0, 1.0)))
        case _:
            s.add(op, [operand(s)], alpha=s.one_of(alpha, 0.5) or 0.25)


def comparison(s: Sketch, op: str) -> None:
    x = operand(s)
    other = s.pick(element=s.element(x))
    y = other if other and s.chance(0.5) else s.weights((), s.element(x))
    s.add(op, [x, y] if s.chance(0.5) else [y, x])


def truth(s: Sketch) -> str:
    if s.chance(0.5):
        return s.of(BOOL)
    x = operand(s)
    return s.add("Greater", [x, s.weights((), s.element(x))])


def logic(s: Sketch, op: str) -> None:
    x = truth(s)
    s.add(op, [x] if op == "Not" else [x, s.of(BOOL)])


def questions(s: Sketch, op: str) -> None:
    x = operand(s)
    if s.element(x) not in (FLOAT, DOUBLE):
        raise ValueError("no kernel")
    s.add(op, [x])


def whole(s: Sketch, kinds: tuple[int, ...] = WHOLE) -> str:
    """A tensor of whole numbers: one that is there, or floats cut."""
    if s.chance(0.6):
        return s.of(*kinds)
    x = operand(s)
    kind = NUMPY[s.element(x)]
    y = s.add("Min", [s.add("Max", [x, s.constant(np.array(0, kind))]), s.constant(np.array(9, kind))])
    return s.add("Cast", [s.add("Round", [y]) if s.opset >= 11 and s.chance(0.5) else y], to=s.one_of(*kinds))


def integers(s: Sketch, op: str) -> None:
    """Between tensors of one integer type; back to floats at times, so that decisions are felt."""
    kinds = {"BitShift": (UINT8,), "Neg": WHOLE[:3], "Pow": WHOLE[:2]}.get(op, WHOLE)
    x = whole(s, kinds)
    kind, shape = s.others[x]
    assert shape is not None
    numbers = s.generator.integers(1, 5, s.one_of((), shape)).astype(helper.tensor_dtype_to_np_dtype(kind))
    attributes = {"direction": s.one_of("LEFT", "RIGHT")} if op == "BitShift" else {"fmod": s.one_of(0, 1)} if op == "Mod" else {}
    y = s.add(op, [x] if op in ("BitwiseNot", "Abs", "Neg", "Sign") else [x, s.constant(np.asarray(numbers))], **attributes)
    if s.chance(0.4):
        s.add("Cast", [y], to=s.one_of(FLOAT, FLOAT, DOUBLE))


def modulo(s: Sketch, op: str) -> None:
    if s.chance(0.3):
        integers(s, op)
        return
    x = operand(s)
    other = s.pick(element=s.element(x))
    y = other if other and s.chance(0.3) else s.constant(np.array(s.one_of(1.0, 0.5, 3.0, -2.0, 0.1, 1e-3), NUMPY[s.element(x)]))
    s.add(op, [x, y], fmod=1)


def along(s: Sketch, op: str) -> None:
    x = operand(s, least=1)
    shape = s.shape(x)
    axis = int(s.generator.integers(len(shape)))
    match op:
        case "CumSum" | "CumProd":
            place = s.constant(np.array(s.one_of(axis, axis - len(shape))))
            s.add(op, [x, place], exclusive=s.one_of(0, 1), reverse=s.one_of(0, 1))
        case "ArgMax" | "ArgMin":
            attributes = {"select_last_index": s.one_of(0, 1)} if s.opset >= 12 else {}
            s.add(op, [x], axis=axis, keepdims=s.one_of(0, 1), **attributes)
        case "TopK":
            k = int(s.generator.integers(1, shape[axis] + 1))
            more = {"largest": s.one_of(0, 1)} if s.opset >= 11 else {}
            s.add(op, [x, s.ints(k)] if s.opset >= 10 else [x], outputs=2, axis=axis, **more, **({} if s.opset >= 10 else {"k": k}))
        case "Unique":
            if s.chance(0.2):
                s.add(op, [x], gives=[(s.element(x), None)], sorted=1)
                return
            held = numbers(s.generator, (5,), "kinks", FLOAT)
            y = s.add(op, [s.constant(held)], gives=[(FLOAT, (len(np.unique(held)),))], sorted=s.one_of(0, 1))
            s.add("Mul", [y, s.constant(np.asarray(0.3, np.float32))])
        case "LpNormalization":
            s.add(op, [x], axis=axis, p=s.one_of(1, 2))
        case "Compress":
            keep = s.generator.random(shape[axis]) < 0.6
            keep[0] = True
            left = tuple(int(keep.sum()) if k == axis else n for k, n in enumerate(shape))
            s.add(op, [x, s.constant(keep)], gives=[(s.element(x), left)], axis=axis)
        case _:
            s.add(op, [x], axis=axis)


def reduce(s: Sketch, op: str) -> None:
    """Over some axes, all, or none."""
    x = operand(s)
    rank = len(s.shape(x))
    axes = sorted({int(k) for k in s.generator.integers(-rank, rank, size=s.one_of(1, 1, 2))} if rank else set())
    if len({a % max(rank, 1) for a in axes}) < len(axes):
        raise ValueError("an axis twice")
    keep = s.one_of(0, 1)
    if s.opset < (13 if op == "ReduceSum" else 18):
        s.add(op, [x], keepdims=keep, **({"axes": axes} if axes and s.chance(0.8) else {}))
    elif axes and s.chance(0.8):
        s.add(op, [x, s.ints(*axes)], keepdims=keep)
    else:
        s.add(op, [x], keepdims=keep, noop_with_empty_axes=s.one_of(0, 1))


def casts(s: Sketch, op: str) -> None:
    """Through a narrower float type, a whole number or a truth value, and back."""
    x = operand(s)
    home = s.element(x)
    narrow = (int(TensorProto.BFLOAT16), *((int(TensorProto.FLOAT8E4M3FN), int(TensorProto.FLOAT8E5M2)) if s.opset >= 19 else ()))
    away = s.one_of(*narrow, *narrow, INT32, INT64, BOOL, INT8) if s.opset >= 13 else s.one_of(INT32, INT64, BOOL)
    s.add(op, [s.add(op, [x], to=away)], to=home)


def quantized(s: Sketch, op: str) -> None:
    x = operand(s)
    if s.element(x) != FLOAT:
        raise ValueError("before opset 19 of floats of 32 bits only")
    if op == "DynamicQuantizeLinear":
        y = s.add(op, [x], outputs=3)
        s.add("DequantizeLinear", [y, f"{y}_1", f"{y}_2"])
        return
    kind = s.one_of(np.uint8, np.int8)
    ends = np.iinfo(kind)
    point = np.array(s.one_of(ends.min, ends.max, 0 if kind is np.int8 else 128), kind)
    scale = s.constant(np.asarray(s.one_of(0.5, 0.1, 0.017, 2.0**-6, 3.0, 1e-3, 0.25), np.float32))
    zero = s.constant(point)
    s.add("DequantizeLinear", [s.add("QuantizeLinear", [x, scale, zero]), scale, zero])


def losses(s: Sketch, op: str) -> None:
    x = operand(s, least=2)
    shape, kind = s.shape(x), s.element(x)
    target = s.constant(s.generator.integers(0, shape[1], size=(shape[0], *shape[2:])))
    weights = [s.weights((shape[1],), kind, "positive")] if s.chance(0.5) else []
    s.add(op, [x, target, *weights], reduction=s.one_of("none", "sum", "mean"), **({"ignore_index": 0} if s.chance(0.3) else {}))


def foreign(domain: str, draw: Draw, *ops: str) -> tuple[Row, ...]:
    return tuple(Row(op, 9, draw, domain) for op in ops)


def own(draw: Draw, **since: int) -> tuple[Row, ...]:
    return tuple(Row(op, version, draw) for op, version in since.items())


ROWS: tuple[Row, ...] = (
    *own(unary, Sinh=9, Cosh=9, Atan=7, Asinh=9, Tan=7, Mish=18, Floor=7, Ceil=7, Round=11, Sign=9, Identity=7, HardSwish=14),
    *own(unary, Sin=7, Cos=7, Softplus=7, Softsign=7, Erf=9, Selu=7, Reciprocal=7),
    *own(partial(unary, approximate="tanh"), Gelu=20),
    *own(partial(unary, alpha=1.0), Swish=24),
    *own(alike, MeanVarianceNormalization=13),
    *own(within(-1.0, 1.0), Acos=7, Asin=7, Atanh=9),
    *own(within(1.0, 100.0), Acosh=9, Log=7),
    *own(within(0.0, 8.0), Sqrt=7),
    *own(either, Shrink=9, HardSigmoid=7, ThresholdedRelu=10, Elu=7, LeakyRelu=7, Celu=12),
    *own(comparison, Equal=11, Greater=9, Less=9, GreaterOrEqual=12, LessOrEqual=12),
    *own(logic, And=7, Or=7, Xor=7, Not=7),
    *own(questions, IsNaN=9, IsInf=10),
    *own(integers, Abs=7, Neg=7, Add=14, Sub=14, Mul=14, Div=14, Pow=13),
    *own(integers, BitShift=11, BitwiseAnd=18, BitwiseOr=18, BitwiseXor=18, BitwiseNot=18),
    *own(modulo, Mod=13),
    *own(along, CumSum=11, CumProd=26, ArgMax=7, ArgMin=7, TopK=7, Unique=11, LpNormalization=7, Flatten=9, Hardmax=13, Compress=9),
    *own(reduce, ReduceSum=7, ReduceMean=7, ReduceMax=7, ReduceMin=7, ReduceProd=7, ReduceL1=7, ReduceL2=7, ReduceLogSum=7),
    *own(reduce, ReduceLogSumExp=7, ReduceSumSquare=7),
    *own(casts, Cast=9),
    *own(quantized, QuantizeLinear=10, DynamicQuantizeLinear=11),
    *own(losses, NegativeLogLikelihoodLoss=12, SoftmaxCrossEntropyLoss=12),
    *own(structure.indexing, GatherElements=11, GatherND=11, Gather=11, ScatterND=11, Scatter=9, ScatterElements=11, OneHot=9),
    *own(structure.indexing, ReverseSequence=10, TensorScatter=24),
    *own(structure.shapes, Shape=7, Size=7, ConstantOfShape=9, EyeLike=9, Range=11, NonZero=9, Squeeze=7, Dropout=12, Trilu=14),
    *own(structure.shapes, CenterCropPad=18),
    *own(structure.control, If=11, Loop=11, Scan=11),
    *own(layers.recurrent, RNN=7, LSTM=7, GRU=7),
    *own(layers.resized, Resize=11, Upsample=9),
    *own(layers.sampled, GridSample=16, AffineGrid=20, RoiAlign=16, MaxRoiPool=7, DeformConv=19),
    *own(layers.pooled, LpPool=11, GlobalLpPool=7, MaxPool=8, MaxUnpool=11, LRN=7, Col2Im=18, AveragePool=10),
    *own(layers.normalized, GroupNormalization=21, RMSNormalization=23, BatchNormalization=15, SimplifiedLayerNormalization=17),
    *own(layers.blocks, DepthToSpace=11, SpaceToDepth=7, Det=11, SwiGLU=28, Einsum=12, NonMaxSuppression=11, BitCast=26, TfIdfVectorizer=9),
    *own(layers.attended, Attention=23, RotaryEmbedding=23, LinearAttention=27, CausalConvWithState=27),
    *own(layers.spectral, DFT=20, STFT=17, HannWindow=17, HammingWindow=17, BlackmanWindow=17, MelWeightMatrix=17),
    *own(layers.integral, MatMulInteger=10, ConvInteger=10, QLinearMatMul=10, QLinearConv=10),
    *foreign("com.microsoft", domains.microsoft, *domains.MICROSOFT),
    *foreign("ai.onnx.ml", domains.learnt, *domains.LEARNT),
    *foreign("ai.onnx.preview.training", domains.optimizer, "Adagrad", "Adam", "Momentum"),
)
