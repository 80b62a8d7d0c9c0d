"""Operators of ai.onnx.ml that prepare features, and those that are refused because they speak of strings or maps.

Source: https://onnx.ai/onnx/operators/index_ai_onnx_ml.html.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from certify.number.enclosure import Enclosure
from certify.number.upward import Array, add_up, inflate
from certify.semantics.contract import Arithmetic, UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.delivery import Delivery
from certify.semantics.families.discrete import Discrete
from certify.semantics.families.writer import Parts, Writer

FLOAT = 1  # ONNX's number for the type


def _floats(w: Writer) -> str:
    """The operand in the kernel's format: others than fp32 are converted first."""
    x = w.e.operands[0]
    assert x is not None
    return x if w.e.elements[0] == FLOAT else w.put("Store", x, domain="certify")


def scaler(e: Expansion, *, offset: Sequence[float] = (), scale: Sequence[float] = ()) -> Parts:
    """(x - offset) scale, along the last axis; either may be a single number."""
    w = Writer(e, like=FLOAT)
    width = e.shapes[0][-1] if e.shapes[0] else 1
    if not {len(offset), len(scale)} <= {1, width}:
        raise UnsupportedOperator(f"{len(offset)} offsets and {len(scale)} scales for {width} features")
    shifted = w.put("Sub", _floats(w), w.constant(_scalar(offset)))
    w.put("Mul", shifted, w.constant(_scalar(scale)), output=e.outputs[0] or e.name("output"))
    return w.parts


def _scalar(values: Sequence[float]) -> Any:
    return np.asarray(values[0] if len(values) == 1 else values, dtype=np.float64)


def born_square(arithmetic: Arithmetic, reach: Enclosure, magnitude: Array, quantum: Sequence[Array | float]) -> Array:
    """x as its square holds it: sqrt of fl(x^2), whose relative error u (underflow eta) becomes at most u |x|, or sqrt(eta); then stored.

    The same holds of y = sqrt(fl(q)) for a quotient q = y^2, and of the root's own rounding u (1 + u) |y|: 3 u covers both with
    the second order. inf where the square overflows.
    """
    u, eta = arithmetic.unit_roundoff, arithmetic.underflow
    with np.errstate(over="ignore"):
        off = inflate(3.0 * u * magnitude + np.where(magnitude > 0.0, np.sqrt(eta) * (1.0 + 2.0**-50), 0.0), 3)
        square = inflate(magnitude * magnitude, 1)
    off = add_up(off, arithmetic.round(add_up(magnitude, off)))
    return np.where(add_up(square) > arithmetic.accumulator.max, np.inf, off)


def normalizer(e: Expansion, *, norm: str = "MAX") -> Parts:
    """x over the largest x (MAX), the sum of |x| (L1), the root of the sum of x^2 (L2) of its row, as onnxruntime has it.

    ONNX's text and its reference differ on negative numbers (MAX of |x|, L1 of x, L2 without sign). L2 is covered as
    x / sqrt(sum) and as sqrt(x^2 / sum) with the sign of x.
    """
    w = Writer(e, like=FLOAT)
    x = _floats(w)
    last: dict[str, Any] = {"axes": np.asarray([-1]), "keepdims": 1}
    if norm == "MAX":
        by = w.put("ReduceMax", x, **last)
    elif norm == "L1":
        by = w.put("ReduceSum", w.put("Abs", x), **last)
    elif norm == "L2":
        x = w.put("RootOfSquare", x, domain="certify")
        by = w.put("Sqrt", w.put("ReduceSum", w.put("Mul", x, x), **last))
    else:
        raise UnsupportedOperator(f"its norm is {norm!r}")
    y = w.put("Div", x, by)
    if norm == "L2":
        y = w.put("RootOfSquare", y, domain="certify")
    w.put("Store", y, domain="certify", output=e.outputs[0] or e.name("output"))
    return w.parts


def binarizer(e: Expansion, *, threshold: float = 0.0) -> Parts:
    """1 where x > threshold, else 0: a decision."""
    w = Writer(e)
    held = e.elements[0]
    limit = w.integers(threshold) if held not in (FLOAT, 11) and float(threshold).is_integer() else w.constant(threshold)
    w.put("Greater", e.operands[0], limit, output=e.outputs[0] or e.name("output"))
    return w.parts


def imputer(
    e: Expansion,
    *,
    imputed_value_floats: Sequence[float] = (),
    imputed_value_int64s: Sequence[int] = (),
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Parts:
    """Every x that equals the replaced value becomes the imputed one; no number equals NaN."""
    w = Writer(e)
    floats = len(imputed_value_floats) > 0
    values = imputed_value_floats if floats else imputed_value_int64s
    replaced = replaced_value_float if floats else replaced_value_int64
    width = e.shapes[0][-1] if e.shapes[0] else 1
    if len(values) not in (1, width):
        raise UnsupportedOperator(f"{len(values)} imputed values for {width} features")
    output = e.outputs[0] or e.name("output")
    if np.isnan(replaced):
        w.put("Identity", e.operands[0], output=output)
        return w.parts
    enter = w.constant if floats else w.integers
    equal = w.whole("Equal", e.operands[0], enter(replaced))
    w.put("Where", equal, enter(_scalar(values) if floats else np.asarray(values)), e.operands[0], output=output)
    return w.parts


def array_feature_extractor(e: Expansion) -> Parts:
    """Columns of the last axis; a vector is one row."""
    w = Writer(e)
    x, index = e.operands[:2]
    shape = e.shapes[0]
    if len(shape) == 1:
        x = w.moved("Reshape", x or "", shape=np.asarray((1, shape[0])))
    flat = w.whole("Reshape", index, shape=np.asarray([-1]))
    w.put("Gather", x, flat, axis=max(len(shape) - 1, 1), output=e.outputs[0] or e.name("output"))
    return w.parts


def feature_vectorizer(e: Expansion, *, inputdimensions: Sequence[int] = ()) -> Parts:
    """All operands' features side by side in fp32, each cut or filled up with zeros to its dimension."""
    w = Writer(e, like=FLOAT)
    parts = []
    for k, (x, shape) in enumerate(zip(e.operands, e.shapes, strict=True)):
        rows_, width = (1, shape[0]) if len(shape) == 1 else (shape[0], int(np.prod(shape[1:])))
        name = w.put("Reshape", x if e.elements[k] == FLOAT else w.put("Store", x, domain="certify"), shape=np.asarray((rows_, width)))
        wanted = int(inputdimensions[k]) if k < len(inputdimensions) else width
        if wanted < width:
            name = w.put("Slice", name, axes=np.asarray([1]), starts=np.asarray([0]), ends=np.asarray([wanted]))
        elif wanted > width:
            name = w.put("Concat", name, w.constant(np.zeros((rows_, wanted - width))), axis=1)
        parts.append(name)
    w.put("Concat", *parts, axis=1, output=e.outputs[0] or e.name("output"))
    return w.parts


def one_hot_encoder(e: Expansion, *, cats_int64s: Sequence[int] = (), cats_strings: Sequence[Any] = (), zeros: int = 1) -> Parts:
    """1 at the category that x equals, cut to a whole number first, 0 at the others; without `zeros` no other value may arrive."""
    if len(cats_strings):
        raise UnsupportedOperator("its categories are strings")
    w = Writer(e, like=FLOAT)
    x = e.operands[0]
    if e.elements[0] in (FLOAT, 11):
        x = w.whole("Cast", x, to=7)
    wide = w.whole("Unsqueeze", x, axes=np.asarray([-1]))
    w.put("Equal", wide, w.integers(cats_int64s), output=e.outputs[0] or e.name("output"))
    return w.parts


def position(x: Any, *, keys: Any) -> Any:
    """The number of the key that x equals, one more than the last if none."""
    found = np.full(x.shape, float(len(keys)))
    for k in reversed(range(len(keys))):
        found = np.where(np.asarray(x == keys[k], dtype=bool), float(k), found)
    return found


def positions(x: Enclosure, *, keys: Any) -> Enclosure:
    """The hull of the numbers of all keys in the interval, and of no key unless the interval is a key."""
    lo = hi = np.full(x.shape, float(len(keys)))
    for k in reversed(range(len(keys))):
        inside, exactly = (x.lo <= keys[k]) & (keys[k] <= x.hi), (x.lo == keys[k]) & (x.hi == keys[k])
        lo = np.where(inside, float(k), lo)
        hi = np.where(exactly, float(k), hi)
    return Enclosure(lo, hi)


def label_encoder(e: Expansion, **attributes: Any) -> Parts:
    """The value of the key that x equals, else the default: a decision."""
    keys, values, default = _dictionary(attributes, e)
    w = Writer(e)
    at = w.whole("KeyPosition", e.operands[0], domain="certify", keys=keys)
    table = np.append(values, default)
    names = w.integers(table.astype(np.int64)) if e.results[0] == 7 else w.constant(table)
    w.put("Gather", names, at, axis=0, output=e.outputs[0] or e.name("output"))
    return w.parts


def _dictionary(attributes: dict[str, Any], e: Expansion) -> tuple[Any, Any, float]:
    """Keys, values and default as float64. Raises UnsupportedOperator for strings, and for a key with two values."""
    if any(name.endswith("_strings") and len(v) for name, v in attributes.items()):
        raise UnsupportedOperator("its keys, values or classes are strings")
    keys, values = (_first(attributes, kind) for kind in ("keys", "values"))
    if keys is None or values is None or len(keys) != len(values):
        raise UnsupportedOperator("it has no numeric keys and values, or not equally many")
    kept = ~np.isnan(keys)  # no number equals NaN
    keys, values = keys[kept], values[kept]
    if len(set(keys.tolist())) != len(keys):
        raise UnsupportedOperator("one of its keys has several values")
    default = attributes.get("default_tensor")
    if default is None:
        default = attributes.get("default_int64", -1) if e.results[0] == 7 else attributes.get("default_float", -0.0)
    return keys, values, float(np.ravel(default)[0])


def _first(attributes: dict[str, Any], kind: str) -> Any:
    for form in ("tensor", "int64s", "floats"):
        found = np.ravel(np.asarray(attributes.get(f"{kind}_{form}", ())))
        if found.size:
            if found.dtype.kind not in "fiub":
                raise UnsupportedOperator("its keys, values or classes are strings")
            return found.astype(np.float64)
    return None


def refused(reason: str) -> Callable[..., Parts]:
    """The expansion of an operator that has no real-valued meaning."""

    def expand(e: Expansion, **attributes: Any) -> Parts:
        raise UnsupportedOperator(reason)

    return expand


_ML, _X = "ai.onnx.ml", ("X",)

register(
    Delivery("RootOfSquare", born_square),
    Discrete("KeyPosition", 1, _X, position, positions, domain="certify"),
    Composite("Scaler", 1, _X, scaler, domain=_ML),
    Composite("Normalizer", 1, _X, normalizer, domain=_ML),
    Composite("Binarizer", 1, _X, binarizer, domain=_ML),
    Composite("Imputer", 1, _X, imputer, domain=_ML),
    Composite("ArrayFeatureExtractor", 1, ("X", "Y"), array_feature_extractor, domain=_ML),
    Composite("FeatureVectorizer", 1, _X, feature_vectorizer, domain=_ML),
    Composite("OneHotEncoder", 1, _X, one_hot_encoder, domain=_ML),
    Composite("LabelEncoder", 1, _X, label_encoder, domain=_ML),
    Composite("ZipMap", 1, _X, refused("it makes maps of numbers; drop it and take the scores"), domain=_ML),
    Composite("CastMap", 1, _X, refused("its operand is a map"), domain=_ML),
    Composite("DictVectorizer", 1, _X, refused("its operand is a map"), domain=_ML),
    Composite("CategoryMapper", 1, _X, refused("it translates strings"), domain=_ML),
)
