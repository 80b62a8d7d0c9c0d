"""Attention end to end: against the runtime, hostile runs, and a flash kernel in 16 bits; masks of every kind; regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import certify
from certify.errors import CertifyError
from certify.number.formats import format_named
from certify.number.rounding import round_to
from tests.semantics.models import attacked, one_node

LOWEST = float(np.finfo(np.float32).min)


def operands(heads: int = 2, keys: int = 2, rows: int = 3, columns: int = 5, size: int = 4, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {"q": (1, heads, rows, size), "k": (1, keys, columns, size), "v": (1, keys, columns, size)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def model_of(x: dict[str, Any], order: tuple[str, ...] = (), constants: Any = None, opset: int = 24, **attributes: Any) -> Any:
    return one_node("Attention", x, attributes, opset, constants, order=("q", "k", "v", *order))


@pytest.mark.parametrize(
    ("attributes", "keys"),
    [({}, 2), ({"is_causal": 1}, 1), ({"softcap": 2.0, "scale": 0.3}, 1), ({"scale": 1.0, "softmax_precision": 11}, 2)],
)
def test_attacked(attributes: dict[str, Any], keys: int) -> None:
    x = operands(keys=keys)
    found = attacked(model_of(x, **attributes), x)
    assert set(found.values()) == {"finite"}, found


@pytest.mark.parametrize("attributes", [{}, {"is_causal": 1}])
def test_regions(attributes: dict[str, Any]) -> None:
    x = {name: 0.05 * y for name, y in operands(rows=2, columns=3).items()}
    found = attacked(model_of(x, **attributes), x, formats=((None, "wide"), ("bf16", "wide")), region=True)
    assert set(found.values()) == {"finite"}, found


def runtime(model: Any, x: dict[str, Any]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {n: y.astype(np.float32) if y.dtype == np.float64 else y for n, y in x.items()})[0]


ALLOWED = np.array([[False] * 5, [True, True, False, False, False], [True] * 5])
MASKS = {
    "truth": ALLOWED,
    "infinite": np.where(ALLOWED, 0.25, -np.inf).astype(np.float32),
    "lowest": np.where(ALLOWED, 0.25, LOWEST).astype(np.float32),
    "short": np.where(ALLOWED, 0.5, -np.inf).astype(np.float32)[:, :3],
}


@pytest.mark.parametrize("kind", list(MASKS))
@pytest.mark.parametrize("constant", [False, True])
def test_masks(kind: str, constant: bool) -> None:
    """A query without keys gives 0; where all scores are lowest any mean of the values is covered, and little else."""
    x, mask = operands(), {"m": MASKS[kind]}
    fed = x if constant else x | mask
    model = model_of(fed, ("m",), mask if constant else None)
    held = {n: y[None].astype(np.float32) if y.dtype == np.float64 else y[None] for n, y in fed.items()}
    out = certify.certify(model, data=held, validate=False).outputs["y0"]
    reference, bound = out.reference[0], out.absolute_bound[0]
    if kind != "short":  # this runtime takes a mask of all keys only
        assert (np.abs(runtime(model, fed) - reference) <= bound).all()
    assert bound[:, :, 1:].max() < 1e-5
    most = bound[:, :, 0].max()
    assert most < 1e-40 if kind != "lowest" else 0.5 < most < 20.0, most


@pytest.mark.parametrize(
    ("mask", "dtype", "profile", "expected"),
    [
        ("lowest", "fp16", "wide", "finite"),
        ("lowest", "bf16", "ieee", "finite"),
        ("truth", "fp8e4m3", "wide", "finite"),
        ("truth", "fp8e4m3", "ieee", "infinite"),
        ("truth", None, "tensor-core-a100", "finite"),
    ],
)
def test_masks_in_other_formats(mask: str, dtype: str | None, profile: str, expected: str) -> None:
    """The lowest fp32 number is -inf in 16 bits; a kernel whose own format has no infinities cannot mask by one."""
    x = operands()
    found = attacked(model_of(x, ("m",), {"m": MASKS[mask]}), x, formats=((dtype, profile),))
    assert set(found.values()) == {expected}


def test_padded_keys_decide_structure() -> None:
    x = operands(columns=5) | {"n": np.array([2])}
    model = model_of(x, ("", "", "", "n"))
    held = {n: y[None].astype(np.float32) if y.dtype == np.float64 else y[None] for n, y in x.items()}
    out = certify.certify(model, data=held, validate=False).outputs["y0"]
    assert (np.abs(runtime(model, x) - out.reference[0]) <= out.absolute_bound[0]).all()
    assert out.absolute_bound.max() < 1e-5


@pytest.mark.parametrize("what", [{"softmax_precision": 10}, {"softmax_precision": 7}])
def test_refused(what: dict[str, Any]) -> None:
    x = operands()
    with pytest.raises(CertifyError, match="softmax_precision"):
        certify.certify(model_of(x, **what), data={n: y[None].astype(np.float32) for n, y in x.items()}, validate=False)


def flash(x: dict[str, Any], scale: float, block: int, storage: str, kept: bool) -> Any:
    """fp32 scores, weights relative to the running maximum by powers of two, rounded into storage; sums rescaled when it grows."""
    f, T = np.float32, format_named(storage)
    q, k, v = (y[0].astype(f) for y in x.values())
    c = f(scale * np.log2(np.e))
    out = np.empty((*q.shape[:2], v.shape[2]))
    for h in range(q.shape[0]):
        for i in range(q.shape[1]):
            top, total, sums = f(-np.inf), f(0), np.zeros(v.shape[2], f)
            for start in range(0, k.shape[1], block):
                s = (k[h, start : start + block] * q[h, i]).sum(axis=1, dtype=f)
                s = s if kept else round_to(s.astype(np.float64), T).astype(f)
                new = max(top, s.max())
                factor = np.exp2(f(top * c - new * c)) if np.isfinite(top) else f(0)
                w = np.exp2((s * c - f(new * c)).astype(f))
                total = f(total * factor + w.sum(dtype=f))
                stored = round_to(w.astype(np.float64), T).astype(f)
                sums = (sums * factor + (stored[:, None] * v[h, start : start + block]).sum(axis=0, dtype=f)).astype(f)
                top = new
            out[h, i] = round_to((sums / total).astype(np.float64), T)
    return out


@pytest.mark.parametrize("storage", ["fp16", "bf16"])
def test_flash_kernels(storage: str) -> None:
    for seed in range(4):
        x = operands(rows=4, columns=50, size=8, seed=seed)
        T = format_named(storage)
        held = {n: round_to(3.0 * y if n != "v" else y, T) for n, y in x.items()}
        certificate = certify.certify(
            model_of(x), dtype=storage, data={n: y[None].astype(np.float32) for n, y in held.items()}, validate=False
        )
        out = certificate.outputs["y0"]
        for block, kept in ((16, True), (64, True), (16, False)):
            y = flash(held, 8**-0.5, block, storage, kept)
            assert (np.abs(y - out.reference[0, 0]) <= out.absolute_bound[0, 0]).all()
        assert out.absolute_bound.max() < {"fp16": 0.2, "bf16": 3.0}[storage]


def flex(body: Any, which: str, opset: int = 26) -> Any:
    declared = [helper.make_tensor_value_info(n, 1, y.shape) for n, y in operands().items()]
    node = helper.make_node("FlexAttention", ["q", "k", "v"], ["y0"], domain="ai.onnx.preview", **{which: body})
    graph = helper.make_graph([node], "g", declared, [helper.make_tensor_value_info("y0", 1, None)])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.preview", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("which", ["score_mod", "prob_mod"])
def test_bodies_of_flex_attention(which: str) -> None:
    """A body that halves what it is given: half the scores, or half the result."""
    shape = (1, 2, 3, 5)
    body = helper.make_graph(
        [helper.make_node("Mul", ["a", "half"], ["b"])],
        "body",
        [helper.make_tensor_value_info("a", 1, shape)],
        [helper.make_tensor_value_info("b", 1, shape)],
        [helper.make_tensor("half", 1, [], [0.5])],
    )
    x = {n: y[None].astype(np.float32) for n, y in operands().items()}
    plain = certify.certify(model_of(operands(), **({"scale": 0.25} if which == "score_mod" else {})), data=x, validate=False).outputs["y0"]
    out = certify.certify(flex(body, which), data=x, validate=False).outputs["y0"]
    expected = plain.reference if which == "score_mod" else 0.5 * plain.reference
    assert np.abs(out.reference - expected).max() < 1e-14
    assert out.absolute_bound.max() < 1e-5
    assert set(attacked(flex(body, which), operands(), formats=((None, "wide"), ("bf16", "wide"))).values()) == {"finite"}


def test_a_body_must_keep_the_shape() -> None:
    body = helper.make_graph(
        [helper.make_node("ReduceSum", ["a"], ["b"])],
        "body",
        [helper.make_tensor_value_info("a", 1, (1, 2, 3, 5))],
        [helper.make_tensor_value_info("b", 1, (1, 1, 1, 1))],
    )
    with pytest.raises(CertifyError, match="score_mod gives"):
        certify.certify(flex(body, "score_mod"), data={n: y[None].astype(np.float32) for n, y in operands().items()}, validate=False)


@pytest.mark.parametrize("attributes", [{}, {"interleaved": 1, "rotary_embedding_dim": 4}])
def test_rotary_embedding(attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    width = attributes.get("rotary_embedding_dim", 6) // 2
    angles = rng.uniform(-3, 3, (7, width))
    x = {"x": rng.normal(size=(1, 2, 3, 6)), "cos": np.cos(angles), "sin": np.sin(angles)}
    positions = {"p": np.array([[4, 0, 6]], dtype=np.int64)}
    model = one_node("RotaryEmbedding", x, attributes, 23, positions)
    assert set(attacked(model, x).values()) == {"finite"}
