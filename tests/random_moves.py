"""What a random graph grows by: each move adds one node, or a few, to a sketch; it raises where nothing fits."""

from __future__ import annotations

import numpy as np

from tests.random_graphs import DOUBLE, FLOAT, FLOAT16, NUMPY, Move, Sketch


def operand(s: Sketch, rank: int | None = None, least: int = 0, element: int | None = None) -> str:
    name = s.pick(rank=rank, least=least, element=element)
    if name is None:
        raise ValueError("no operand fits")
    return name


def pointwise(s: Sketch) -> None:
    op = s.one_of("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Softplus", "Erf", "Softsign", "Sin", "Cos", "HardSigmoid", "Elu", "Selu")
    s.add(op, [operand(s)])


def newer(s: Sketch) -> None:
    op, since = s.one_of(("Gelu", 20), ("HardSwish", 14), ("Mish", 18), ("Celu", 12))
    if s.opset < since:
        raise ValueError("not in this opset")
    if op == "Gelu":
        s.add(op, [operand(s)], approximate=s.one_of("none", "tanh"))
    else:
        s.add(op, [operand(s)])


def leaky(s: Sketch) -> None:
    x = operand(s)
    if s.chance(0.5):
        s.add("LeakyRelu", [x], alpha=float(s.one_of(0.01, 0.25, 0.0, 1.5, -0.5)))
    else:
        s.add("PRelu", [x, s.weights(s.one_of((1,), s.shape(x)[-1:]) if s.shape(x) else (), s.element(x), "normal")])


def positive(s: Sketch, x: str) -> str:
    """|x| + c or exp x or x^2 + c, mostly; sometimes x itself."""
    if s.chance(0.15):
        return x
    form = s.one_of("abs", "square", "exp")
    if form == "exp":
        return s.add("Exp", [s.add("Tanh", [x])])
    y = s.add("Abs", [x]) if form == "abs" else s.add("Mul", [x, x])
    c = s.one_of(2.0**-10, 0.5, 1.0, 3.0)
    return s.add("Add", [y, s.constant(np.array(c, dtype=NUMPY[s.element(x)]))])


def singular(s: Sketch) -> None:
    x = operand(s)
    op = s.one_of("Log", "Sqrt", "Reciprocal", "Pow", "Div", "Div")
    y = positive(s, x)
    if op == "Pow":
        s.add("Pow", [y, s.constant(np.array(s.one_of(2.0, 3.0, 0.5, -1.0, 1.5, -0.5, 0.0, 1.0, 4.0), dtype=NUMPY[s.element(x)]))])
    elif op == "Div":
        other = s.pick(element=s.element(x))
        top = other if other and s.chance(0.7) else s.weights((), s.element(x))
        s.add("Div", [top, y])
    else:
        s.add(op, [y])


def clip(s: Sketch) -> None:
    x = operand(s)
    lo, hi = sorted(float(v) for v in s.generator.choice([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0], size=2, replace=False))
    if s.opset < 11:
        s.add("Clip", [x], min=lo, max=hi)
    else:
        kind = NUMPY[s.element(x)]
        s.add("Clip", [x, s.constant(np.array(lo, dtype=kind)), s.constant(np.array(hi, dtype=kind))])


def binary(s: Sketch) -> None:
    a = operand(s)
    b = s.pick(element=s.element(a))
    op = s.one_of("Add", "Sub", "Mul", "Add", "Mul", "Max", "Min")
    if b is None or s.chance(0.4):
        shape = s.shape(a)
        shape = s.one_of((), (1,), shape, shape[-1:], tuple(1 if s.chance(0.4) else n for n in shape))
        b = s.weights(shape, s.element(a))
    s.add(op, [a, b] if s.chance(0.5) else [b, a])


def reuse(s: Sketch) -> None:
    x = operand(s)
    s.add(s.one_of("Mul", "Sub", "Add", "Max", "Div"), [x, x])


def residual(s: Sketch) -> None:
    x = operand(s)
    y = s.add(s.one_of("Relu", "Tanh", "Sigmoid", "Neg", "Abs"), [x])
    s.add(s.one_of("Add", "Sub", "Mul"), [x, y] if s.chance(0.5) else [y, x])


def cancel(s: Sketch) -> None:
    """(x + c) - c, (x c) / c or (x + c) - x."""
    x = operand(s)
    c = s.weights((), s.element(x))
    if s.chance(0.3):
        s.add("Div", [s.add("Mul", [x, c]), c])
    else:
        s.add("Sub", [s.add("Add", [x, c]), s.one_of(c, x)])


def several(s: Sketch) -> None:
    x = operand(s)
    names = [x, *[name for name, found in s.values.items() if found == s.values[x]][:3]]
    s.add(s.one_of("Sum", "Mean", "Max", "Min"), names)


def matmul(s: Sketch) -> None:
    x = operand(s, least=1)
    k = s.shape(x)[-1]
    other = s.pick(element=s.element(x), least=2)
    if other and s.chance(0.4):
        s.add("MatMul", [x, other])
    else:
        s.add("MatMul", [x, s.weights(s.one_of((k, 3), (k, 1), (k,)), s.element(x))])


def gram(s: Sketch) -> None:
    x = operand(s, rank=2)
    y = s.add("Transpose", [x], perm=[1, 0])
    s.add("MatMul", [x, y] if s.chance(0.5) else [y, x])


def gemm(s: Sketch) -> None:
    x = operand(s, rank=2)
    m, k = s.shape(x)
    trans_a, trans_b = s.one_of(0, 1), s.one_of(0, 1)
    if trans_a:
        m, k = k, m
    inputs = [x, s.weights((3, k) if trans_b else (k, 3), s.element(x))]
    if s.opset < 11 or s.chance(0.7):
        inputs.append(s.weights(s.one_of((3,), (1, 3), (m, 3), (m, 1), ()), s.element(x)))
    s.add(
        "Gemm",
        inputs,
        transA=trans_a,
        transB=trans_b,
        alpha=float(s.one_of(1.0, 0.5, 0.3, -2.0)),
        beta=float(s.one_of(1.0, 0.1, 0.0, -1.0)),
    )


def conv(s: Sketch) -> None:
    x = operand(s, rank=s.one_of(3, 4))
    channels, *extent = s.shape(x)[1:]
    groups = s.one_of(1, 1, channels)
    kernel = [int(s.one_of(1, 2, 3)) for _ in extent]
    outputs = groups * s.one_of(1, 2)
    pads = [int(s.one_of(0, 1, 2)) for _ in range(2 * len(extent))]
    inputs = [x, s.weights((outputs, channels // groups, *kernel), s.element(x))]
    if s.chance(0.5):
        inputs.append(s.weights((outputs,), s.element(x)))
    strides = [int(s.one_of(1, 1, 2)) for _ in extent]
    dilations = [int(s.one_of(1, 1, 2)) for _ in extent]
    s.add("Conv", inputs, group=groups, pads=pads, strides=strides, dilations=dilations)


def transposed(s: Sketch) -> None:
    x = operand(s, rank=s.one_of(3, 4))
    channels, *extent = s.shape(x)[1:]
    groups = s.one_of(1, channels)
    w = s.weights((channels, s.one_of(1, 2), *(int(s.one_of(1, 2, 3)) for _ in extent)), s.element(x))
    s.add("ConvTranspose", [x, w], group=groups, strides=[int(s.one_of(1, 2)) for _ in extent])


def pool(s: Sketch) -> None:
    x = operand(s, rank=s.one_of(3, 4))
    extent = s.shape(x)[2:]
    op = s.one_of("MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    if op.startswith("Global"):
        s.add(op, [x])
        return
    attributes = {"kernel_shape": [2 for _ in extent], "strides": [int(s.one_of(1, 2)) for _ in extent]}
    attributes["pads"] = [int(s.one_of(0, 1)) for _ in range(2 * len(extent))]
    if op == "AveragePool":
        s.add(op, [x], count_include_pad=s.one_of(0, 1), **attributes)
    else:
        s.add(op, [x], **attributes)


def einsum(s: Sketch) -> None:
    if s.opset < 12:
        raise ValueError("not in this opset")
    x = operand(s, rank=s.one_of(1, 2, 3))
    shape, kind = s.shape(x), s.element(x)
    match len(shape):
        case 1:
            equation, other = s.one_of(("i,i->", shape), ("i,j->ij", (2,)), ("i,ij->j", (*shape, 2)))
        case 2:
            equation, other = s.one_of(("ij,jk->ik", (shape[1], 2)), ("ij,ij->i", shape), ("ij,kj->ki", (2, shape[1])), ("ij,ij->", shape))
        case _:
            equation, other = s.one_of(("bij,bjk->bik", (shape[0], shape[2], 2)), ("bij,j->ib", shape[2:]), ("bij,bij->bj", shape))
    s.add("Einsum", [x, x if other == shape and s.chance(0.4) else s.weights(other, kind)], equation=equation)


def softmax(s: Sketch) -> None:
    x = operand(s, least=1)
    axis = int(s.generator.integers(len(s.shape(x)))) if s.opset >= 13 else 1
    s.add(s.one_of("Softmax", "Softmax", "LogSoftmax"), [x], axis=axis)


def normalization(s: Sketch) -> None:
    if s.chance(0.5):
        if s.opset < 17:
            raise ValueError("not in this opset")
        x = operand(s, least=1)
        inputs = [x, s.weights(s.shape(x)[-1:], s.element(x))]
        if s.chance(0.6):
            inputs.append(s.weights(s.shape(x)[-1:], s.element(x)))
        s.add("LayerNormalization", inputs, axis=-1, epsilon=float(s.one_of(1e-5, 1e-2)))
        return
    x = operand(s, least=2)
    c, kind = s.shape(x)[1:2], s.element(x)
    if s.chance(0.5) and len(s.shape(x)) >= 3:
        s.add("InstanceNormalization", [x, s.weights(c, kind, "normal"), s.weights(c, kind, "normal")], epsilon=1e-3)
    else:
        parameters = [s.weights(c, kind), s.weights(c, kind), s.weights(c, kind), s.weights(c, kind, "positive")]
        s.add("BatchNormalization", [x, *parameters], epsilon=float(s.one_of(1e-5, 1e-3)))


def reduce(s: Sketch) -> None:
    x = operand(s, least=1)
    op = s.one_of("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "LogSum", "Prod")
    if op in ("LogSumExp", "Prod") and s.chance(0.8):
        op = "Sum"
    rank = len(s.shape(x))
    axes = sorted({int(s.generator.integers(rank)) for _ in range(s.one_of(1, 2))})
    keep = s.one_of(0, 1)
    if s.opset >= 18 or (op == "Sum" and s.opset >= 13):
        s.add(f"Reduce{op}", [x, s.ints(*axes)], keepdims=keep)
    else:
        s.add(f"Reduce{op}", [x], axes=axes, keepdims=keep)


def where(s: Sketch) -> None:
    x = operand(s)
    names = [name for name, found in s.values.items() if found == s.values[x]]
    y = s.one_of(*names) if s.chance(0.6) else s.weights(s.shape(x), s.element(x))
    if s.chance(0.5):
        condition = s.constant(s.generator.random(s.shape(x)) < 0.5)
    else:
        condition = s.add(s.one_of("Greater", "Less"), [x, s.weights((), s.element(x), "normal")])
    s.add("Where", [condition, x, y])


def movement(s: Sketch) -> None:
    x = operand(s, least=1)
    shape, kind = s.shape(x), s.element(x)
    axis = int(s.generator.integers(len(shape)))
    match s.one_of("Concat", "Slice", "Gather", "Pad", "Transpose", "Expand", "Reshape", "Split", "Tile", "Unsqueeze"):
        case "Concat":
            s.add("Concat", [x, s.one_of(x, s.weights(shape, kind))], axis=axis)
        case "Slice":
            n = shape[axis]
            start, stop, step = s.one_of((0, n - 1, 1), (1, n, 1), (0, n, 2), (n, -n - 1, -1))
            s.add("Slice", [x, s.ints(start), s.ints(stop), s.ints(axis), s.ints(step)])
        case "Gather":
            s.add("Gather", [x, s.constant(s.generator.integers(0, shape[axis], size=s.one_of((), (2,), (3,))))], axis=axis)
        case "Pad":
            pads = [int(s.one_of(0, 1)) for _ in range(2 * len(shape))]
            if s.opset < 11:
                s.add("Pad", [x], pads=pads, value=0.5)
            else:
                s.add("Pad", [x, s.ints(*pads), s.weights((), kind, "normal")], mode="constant")
        case "Transpose":
            s.add("Transpose", [x], perm=[int(k) for k in s.generator.permutation(len(shape))])
        case "Expand":
            s.add("Expand", [x, s.ints(2, *shape)])
        case "Reshape":
            s.add("Reshape", [x, s.ints(*s.one_of((-1,), (1, -1), shape[::-1]))])
        case "Split":
            if s.opset >= 18:
                s.add("Split", [x], outputs=2, axis=axis, num_outputs=2)
            else:
                s.add("Split", [x], outputs=2, axis=axis)
        case "Tile":
            s.add("Tile", [x, s.ints(*(int(s.one_of(1, 2)) for _ in shape))])
        case _:
            if s.opset >= 13:
                s.add("Unsqueeze", [x, s.ints(0)])
            else:
                s.add("Unsqueeze", [x], axes=[0])


def island(s: Sketch) -> None:
    """Into another float type, some operator there, mostly back."""
    x = operand(s)
    home = s.element(x)
    away = s.one_of(*(kind for kind in (FLOAT, FLOAT16, DOUBLE) if kind != home))
    y = s.add("Cast", [x], to=away)
    if s.chance(0.7):
        y = s.add(s.one_of("Add", "Mul", "Sub"), [y, s.one_of(y, s.weights((), away))])
    if s.chance(0.8):
        s.add("Cast", [y], to=home)


def discrete(s: Sketch) -> None:
    s.add(s.one_of("Floor", "Ceil", "Sign"), [operand(s)])


MOVES: tuple[Move, ...] = (
    *(pointwise, pointwise, newer, leaky, singular, singular, clip, binary, binary, binary, reuse, residual, cancel, several),
    *(matmul, matmul, gram, gemm, conv, conv, transposed, pool, einsum, softmax, softmax, normalization, normalization),
    *(reduce, reduce, where, movement, movement, island, discrete),
)

LAYERS: tuple[Move, ...] = (
    *(matmul, matmul, gemm, gram, conv, conv, conv, conv, transposed, pool, pool, einsum, einsum),
    *(pointwise, newer, leaky, clip, binary, residual, residual, residual, reuse, cancel, several),
    *(softmax, softmax, normalization, normalization, reduce, reduce, where, movement, island),
)
